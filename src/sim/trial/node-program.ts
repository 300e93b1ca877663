/**
 * What runs in the process of a storage node in a simulation, from its start to its death: the product's node and NBD server on
 * simulated ports, put together as a shard does it.
 */

import { BLOCK_BYTES, DRAIN_MS, IO_TIMEOUT_MS } from '../../core/limits.js';
import { alignUp } from '../../core/units.js';
import { Watch, type Watched } from '../../core/watch.js';
import { NbdServer } from '../../nbd/server.js';
import { NbdService } from '../../nbd/service.js';
import { ConnectionResources } from '../../net/connection-resources.js';
import type { NodeStore } from '../../node/node-store.js';
import { type NodeCallName, type NodeCalls, NodeService } from '../../serve/node-service.js';
import type { StorageEvent } from '../../volumes/storage-events.js';
import { nodeMemoryBytes, type StorageNode } from '../../volumes/storage-node.js';
import { SimDevice, type SimDeviceSettings } from '../disk/device.js';
import type { SimDisk } from '../disk/disk.js';
import type { SimNetwork } from '../net/network.js';
import { RING_MEMORY_BYTES, SimRings } from '../net/ring-session.js';
import { SimTransport } from '../net/transport.js';
import { SimMailbox } from '../world/mailbox.js';
import type { SimProcess } from '../world/process.js';
import { SimTimers } from '../world/timers.js';

const RINGS_START = alignUp(ConnectionResources.regionBytes(), BLOCK_BYTES);
const NODE_START = RINGS_START + RING_MEMORY_BYTES;

/** One process at a time uses the disks of a node, so all have the same name as the holders of their volumes. */
const CLIENT_ID = '5'.repeat(32);

/** Memory of a process that drives at most so many devices. */
export function programMemoryBytes(storesMax: number): number {
  return NODE_START + nodeMemoryBytes(storesMax);
}

export interface NodeProgramSettings {
  readonly storesMax: number;
  /** The network and the address at which it can be reached; without, only `transport.peer` reaches it. */
  readonly network?: SimNetwork;
  readonly address?: string;
  readonly device?: SimDeviceSettings;
  /** The volumes that programs in the process use, which know them by their numbers here. */
  readonly programVolumes?: readonly string[];
  readonly onEvent?: (event: StorageEvent) => void;
}

interface Call {
  readonly name: NodeCallName;
  readonly request: NodeCalls[NodeCallName]['request'];
}

export class NodeProgram implements Watched {
  readonly process: SimProcess;
  readonly transport: SimTransport;
  readonly service: NbdService;
  readonly listener: number;
  /** Null if the settings name no volumes for programs. */
  private readonly rings: SimRings | null;
  private readonly settings: NodeProgramSettings;
  private readonly watch: Watch;
  private readonly serving: NodeService;
  private readonly server: NbdServer;
  private readonly mailbox: SimMailbox<Call, unknown>;
  private readonly devices = new Set<SimDevice>();

  constructor(process: SimProcess, settings: NodeProgramSettings) {
    this.process = process;
    this.settings = settings;
    this.transport = new SimTransport(process, {}, settings.network);
    this.watch = new Watch(process, process);
    const ports = { completions: process, memory: process, transport: this.transport, clock: process };
    this.service = new NbdService(ports, this.watch, 0);
    const { storesMax } = settings;
    const common = { completions: process, memory: process, clock: process, watch: this.watch };
    const nodePorts = { ...common, clientId: CLIENT_ID, memoryStart: NODE_START, storesMax };
    this.serving = new NodeService(nodePorts, settings.onEvent ?? (() => {}));
    this.mailbox = new SimMailbox(process, ({ name, request }) => this.serving.call(name, request));
    this.listener = this.transport.listen(settings.address);
    this.server = new NbdServer(this.service, ports, this.listener, []);
    this.serving.attach(this.server);
    const names = settings.programVolumes ?? [];
    const volume = (number: number) => this.node.volumes.named(names[number] ?? '').at(0)?.engine ?? undefined;
    this.rings = names.length === 0 ? null : new SimRings(process, this.watch, RINGS_START, volume);
    this.watch.add(this);
  }

  /** Opens a disk as a device of the node. The device is closed again if that fails. */
  async open(disk: SimDisk, path: string): Promise<NodeStore> {
    const device = new SimDevice(this.process, disk, this.settings.device);
    // A device that does not answer is to be given up while it is opened, too.
    this.devices.add(device);
    this.watch.start();
    try {
      return await this.node.open(device, { path });
    } catch (error) {
      this.devices.delete(device);
      device.close();
      throw error;
    }
  }

  /** Rings to a volume, for programs in the process; null while it is not served. */
  ringsOf(volume: string): SimRings | null {
    if (this.rings === null) throw new Error('the process has no rings');
    return this.node.volumes.named(volume).at(0)?.engine?.serving ? this.rings : null;
  }

  get node(): StorageNode {
    return this.serving.node;
  }

  /** A control call, as it comes from another thread. */
  call<Name extends NodeCallName>(
    name: Name,
    request: NodeCalls[Name]['request'],
  ): Promise<NodeCalls[Name]['response']> {
    return this.mailbox.call({ name, request }) as Promise<NodeCalls[Name]['response']>;
  }

  /** Ends in order: connections, for which there is a time limit, then volumes and devices. */
  async close(): Promise<void> {
    this.node.endWork();
    await new Promise<void>((resolve) => {
      new SimTimers(this.process.time, this.process).after(1000 * DRAIN_MS, () => this.server.abort());
      this.server.drain(resolve);
    });
    await this.node.close();
  }

  get busy(): boolean {
    return this.service.busy || this.devices.size > 0;
  }

  tick(): void {
    for (const device of this.devices) device.giveUpOverdue(IO_TIMEOUT_MS);
  }
}
