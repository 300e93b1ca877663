/** What runs in the process of a manager, in a simulation: the product's manager and what serves its calls. */

import { Watch } from '../../core/watch.js';
import { Manager } from '../../manager/manager.js';
import { ManagerService, managerSizes } from '../../manager/manager-service.js';
import { ConnectionResources } from '../../net/connection-resources.js';
import type { MetaStore } from '../../ports/meta-store.js';
import { SessionServer } from '../../wire/session-server.js';
import type { SimNetwork } from '../net/network.js';
import { SimTransport } from '../net/transport.js';
import type { SimProcess } from '../world/process.js';
import { SimKey } from '../world/sim-key.js';
import { CLUSTER_KEY_SEED } from './cluster-world.js';

/** Connections: as many as there are nodes and clients in the largest plan, and some that have not ended yet. */
const PEERS = 16;
const MANAGER_ID = 'b'.repeat(32);

/** Memory of its process, which takes so many connections. */
export function managerProgramBytes(peers = PEERS): number {
  return ConnectionResources.regionBytes(managerSizes(peers));
}

export interface ManagerProgramSettings {
  readonly network: SimNetwork;
  readonly address: string;
  readonly clusterId: string;
  /** Connections that it takes; default: what the largest plan needs. */
  readonly peers?: number;
  readonly store: MetaStore;
  /** It has stepped down, and answers nothing any more: its process is to end. */
  readonly onStepDown: (why: string) => void;
}

export class ManagerProgram {
  manager!: Manager;
  private readonly process: SimProcess;
  private readonly settings: ManagerProgramSettings;

  constructor(process: SimProcess, settings: ManagerProgramSettings) {
    this.process = process;
    this.settings = settings;
  }

  /** Reads the store, and begins to serve. Rejects as `Manager.open` does. */
  async open(): Promise<void> {
    const { process, settings } = this;
    const { network, address, clusterId, peers = PEERS, store, onStepDown } = settings;
    const key = new SimKey(CLUSTER_KEY_SEED, process.random.fork('key'));
    this.manager = await Manager.open({
      ...{ store, clock: process, completions: process, key },
      wallNowMs: () => Math.floor(process.machine.clock.realtimeMs()),
      onStepDown: ({ message }) => onStepDown(message),
    });
    const transport = new SimTransport(process, {}, network);
    const ports = { completions: process, memory: process, transport, clock: process };
    const service = new ManagerService({
      ...{ ports, watch: new Watch(process, process), memoryStart: 0, sizes: managerSizes(peers), key },
      identity: { nodeId: MANAGER_ID, clusterId },
      addresses: [address],
      calls: this.manager,
    });
    this.manager.onDecided((maps) => service.tell(maps));
    new SessionServer(service.desk, ports, transport.listen(address));
  }
}
