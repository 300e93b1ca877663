/**
 * A manager and a client in a simulated world, joined by the product's own ends of the wire; what the manager answers is written
 * by the test.
 */

import { CALLING_BYTES, type CallSessionParts, type SessionState } from '#strake/client/manager/call-session.js';
import { ManagerSession } from '#strake/client/manager/manager-session.js';
import { StrakeError } from '#strake/core/errors.js';
import { Watch } from '#strake/core/watch.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import { ManagerService, managerSizes } from '#strake/manager/manager-service.js';
import { ConnectionResources } from '#strake/net/connection-resources.js';
import { SimNetwork } from '#strake/sim/net/network.js';
import { SimTransport } from '#strake/sim/net/transport.js';
import type { SimHost } from '#strake/sim/world/host.js';
import type { SimProcess } from '#strake/sim/world/process.js';
import { SimKey } from '#strake/sim/world/sim-key.js';
import { SimTimers } from '#strake/sim/world/timers.js';
import { SimWorld } from '#strake/sim/world/world.js';
import type { CallName, Calls } from '#strake/wire/manager-calls.js';
import { CALL_NAMES } from '#strake/wire/messages.js';
import { SessionServer } from '#strake/wire/session-server.js';
import { CLUSTER_ID } from './sim-store.js';

export const MANAGER_ADDRESS = { path: 'manager' };
export const KEY_SEED = 7;
const CONNECTIONS = 4;
const ARENA_BYTES = ConnectionResources.regionBytes(managerSizes(CONNECTIONS));

/** What a test answers to a call: its arguments are those of the call. */
export type Script = (name: CallName, ...given: never[]) => Promise<unknown>;

/** Calls that a test answers. */
export function scriptedCalls(script: Script): Calls {
  const call =
    (name: CallName) =>
    (...given: never[]) =>
      script(name, ...given);
  return Object.fromEntries(CALL_NAMES.map((name) => [name, call(name)])) as unknown as Calls;
}

/** A script that answers some calls, and notes all of them; without whether anybody waits for the answer. */
export function answering(answers: Partial<Record<CallName, (...given: never[]) => unknown>>): {
  readonly calls: Calls;
  readonly asked: unknown[][];
} {
  const asked: unknown[][] = [];
  const calls = scriptedCalls(async (name, ...given) => {
    asked.push([name, ...given.filter((one) => typeof one !== 'function')]);
    const answer = answers[name];
    if (answer === undefined) throw new StrakeError('NOT_SUPPORTED', `nobody answers ${name}`);
    return answer(...given);
  });
  return { calls, asked };
}

/** The process of a manager. */
export class ServingManager {
  readonly process: SimProcess;
  readonly service: ManagerService;
  private readonly transport: SimTransport;
  private readonly address: string;

  constructor(world: CallWorld, calls: Calls, address: string, keySeed: number) {
    this.process = world.managerHost.start({ seed: world.nextSeed(), arena: new Uint8Array(ARENA_BYTES) });
    const { process } = this;
    const transport = new SimTransport(process, {}, world.network);
    this.transport = transport;
    this.address = address;
    const ports = { completions: process, memory: process, transport, clock: process };
    this.service = new ManagerService({
      ...{ ports, calls, watch: new Watch(process, process), memoryStart: 0, sizes: managerSizes(CONNECTIONS) },
      key: new SimKey(keySeed, process.random.fork('key')),
      identity: { nodeId: 'd'.repeat(32), clusterId: CLUSTER_ID },
      addresses: [address],
    });
  }

  /** Begins to accept connections. */
  listen(): SessionServer {
    const { process, transport } = this;
    const ports = { completions: process, memory: process, transport, clock: process };
    return new SessionServer(this.service.desk, ports, transport.listen(this.address));
  }
}

export class CallWorld {
  readonly world: SimWorld;
  readonly network: SimNetwork;
  readonly managerHost: SimHost;
  readonly clientHost: SimHost;
  /** What sessions were told. */
  readonly states: SessionState[] = [];
  readonly maps: ReplicaMap[] = [];
  private readonly seed: number;
  private seeds = 0;

  constructor(seed: number, loss = 0) {
    this.seed = seed;
    this.world = new SimWorld({ seed });
    this.network = new SimNetwork(this.world.time, { loss });
    this.managerHost = this.world.addHost('manager');
    this.clientHost = this.world.addHost('client');
  }

  nextSeed(): number {
    this.seeds += 1;
    return this.seed * 1000 + this.seeds;
  }

  settle<T>(promise: Promise<T>): Promise<T> {
    return this.world.settle(promise);
  }

  /** A manager that does not accept connections yet. */
  prepare(calls: Calls, address = MANAGER_ADDRESS.path, keySeed = KEY_SEED): ServingManager {
    return new ServingManager(this, calls, address, keySeed);
  }

  serve(calls: Calls, address?: string): ServingManager {
    const serving = this.prepare(calls, address);
    serving.listen();
    return serving;
  }

  /** A process of a client, and its transport. */
  startClient(arenaBytes = CALLING_BYTES): { readonly process: SimProcess; readonly transport: SimTransport } {
    const process = this.clientHost.start({ seed: this.nextSeed(), arena: new Uint8Array(arenaBytes) });
    return { process, transport: new SimTransport(process, {}, this.network) };
  }

  connect(changes: Partial<CallSessionParts> = {}): ManagerSession {
    const { process, transport } = this.startClient();
    return new ManagerSession({
      ...{ ports: { completions: process, memory: process, transport, clock: process }, memoryStart: 0 },
      key: new SimKey(KEY_SEED, process.random.fork('key')),
      ...{ clusterId: CLUSTER_ID, clientId: 'e'.repeat(32), principal: 'test', addresses: [MANAGER_ADDRESS] },
      hooks: { onMaps: (maps) => this.maps.push(...maps), onState: (state) => this.states.push(state) },
      ...changes,
    });
  }

  /** Lets the world go on for so long, in microseconds. */
  pause(us: number): Promise<void> {
    return this.settle(this.pauseOnly(us));
  }

  /** Waits for so long, while others let the world go on. */
  pauseOnly(us: number): Promise<void> {
    return new SimTimers(this.world.time, null).pause(us);
  }
}
