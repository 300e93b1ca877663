/**
 * A whole cluster in a simulated world: a manager over a store in memory, nodes with a disk each, which register and send
 * heartbeats, and clients, which are nodes without devices. Members are asked over simulated connections; the manager is asked by
 * calls, as long as it is there.
 */

import { SESSION_SIZES, SessionService } from '#strake/client/members/session-service.js';
import type { VolumeEngine } from '#strake/client/volume-engine.js';
import { DEFAULT_TIMES } from '#strake/core/cluster-times.js';
import { StrakeError } from '#strake/core/errors.js';
import { Watch } from '#strake/core/watch.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import { foundCluster } from '#strake/manager/found.js';
import { Manager } from '#strake/manager/manager.js';
import { ConnectionResources } from '#strake/net/connection-resources.js';
import { DeviceHost, deviceHostBytes } from '#strake/node/device-host.js';
import { SEGMENT_SIZES, SegmentService } from '#strake/node/segment-service.js';
import type { ManagerCalls } from '#strake/ports/manager.js';
import { SimDevice } from '#strake/sim/disk/device.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { SimNetwork } from '#strake/sim/net/network.js';
import { SimTransport } from '#strake/sim/net/transport.js';
import type { SimHost } from '#strake/sim/world/host.js';
import type { SimProcess } from '#strake/sim/world/process.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { SimKey } from '#strake/sim/world/sim-key.js';
import { SimTimers } from '#strake/sim/world/timers.js';
import { SimWorld } from '#strake/sim/world/world.js';
import { formatDevice } from '#strake/store/opening/format-device.js';
import type { ServedVolume } from '#strake/volumes/hosted-volume.js';
import type { StorageEvent } from '#strake/volumes/storage-events.js';
import { nodeMemoryBytes, StorageNode } from '#strake/volumes/storage-node.js';
import { SessionServer } from '#strake/wire/session-server.js';
import { MemoryMetaStore } from './manager-world.js';
import { BLOCK, CLUSTER_ID, SLOT } from './sim-store.js';

/** Far fewer and smaller than in production: trials make many of these. */
const SMALL_SEGMENTS = {
  ...SEGMENT_SIZES,
  connections: 12,
  classes: [
    { bytes: 4 << 10, count: 16 },
    { bytes: 16 << 10, count: 4 },
    { bytes: 36 << 10, count: 4 },
    { bytes: 128 << 10, count: 4 },
    { bytes: 1 << 20, count: 2 },
  ],
};
export const SMALL_SESSIONS = {
  ...SESSION_SIZES,
  connections: 8,
  classes: [
    { bytes: 4 << 10, count: 32 },
    { bytes: 16 << 10, count: 8 },
  ],
};

const SEGMENTS_START = deviceHostBytes(1);
const NODE_BYTES = SEGMENTS_START + ConnectionResources.regionBytes(SMALL_SEGMENTS);
const SESSIONS_START = nodeMemoryBytes(1);
const AREA_START = SESSIONS_START + SessionService.regionBytes(SMALL_SESSIONS);
const CLIENT_BYTES = AREA_START + 16 * SLOT;
export const KEY_SEED = 7;

const HEARTBEAT_US = 500_000;
const SECTOR = 512;

/** Arenas are used by one world after another. */
const arenas = new Map<string, Uint8Array>();
function arenaOf(name: string, bytes: number): Uint8Array {
  const arena = arenas.get(name) ?? new Uint8Array(new SharedArrayBuffer(bytes));
  arenas.set(name, arena);
  return arena;
}

const idOf = (digit: string, number: number) => (number + 1).toString(16).padStart(32, digit);

/** A node with one disk, whose process can die and be started again. */
export class ClusterNode {
  readonly name: string;
  readonly nodeId: string;
  readonly deviceId: string;
  readonly machine: SimHost;
  disk: SimDisk;
  process!: SimProcess;
  host!: DeviceHost;
  private readonly world: ClusterWorld;
  private readonly number: number;
  private lives = 0;

  constructor(world: ClusterWorld, number: number) {
    this.world = world;
    this.number = number;
    this.name = `node${number}`;
    this.nodeId = idOf('d', number);
    this.deviceId = idOf('a', number);
    this.machine = world.world.addHost(this.name);
    this.disk = new SimDisk({ sizeBytes: 2 * world.slots * SLOT + (4 << 20) });
    this.machine.disks.add(this.disk);
  }

  get address(): string {
    return `/${this.name}`;
  }

  async format(): Promise<void> {
    const { world, machine, disk, deviceId } = this;
    const process = machine.start({ seed: world.nextSeed(), arena: arenaOf(this.name, NODE_BYTES) });
    const device = new SimDevice(process, disk);
    const ports = { completions: process, memory: process, device, memoryStart: 0 };
    await world.settle(formatDevice(ports, { deviceId, clusterId: CLUSTER_ID, slotBytes: SLOT, nowMs: 1 }));
    device.close();
    process.kill();
  }

  /** Opens the disk, serves it, and tells the manager of it. */
  async start(): Promise<void> {
    const { world, number } = this;
    const process = this.machine.start({ seed: world.nextSeed(), arena: arenaOf(this.name, NODE_BYTES) });
    this.process = process;
    this.lives += 1;
    const transport = new SimTransport(process, {}, world.network);
    const ports = { completions: process, memory: process, transport, clock: process };
    this.host = new DeviceHost(
      { completions: process, memory: process, clock: process, memoryStart: 0, storesMax: 1 },
      { onEvent: () => {}, mayForget: () => false, onMap: () => {} },
    );
    const service = new SegmentService({
      ...{ ports, watch: new Watch(process, process), memoryStart: SEGMENTS_START, sizes: SMALL_SEGMENTS },
      key: new SimKey(KEY_SEED, process.random.fork('key')),
      identity: { nodeId: this.nodeId, clusterId: CLUSTER_ID },
      ...{ addresses: [this.address], devices: this.host.stores, onDeleted: () => {} },
    });
    await world.settle(
      this.host.open(new SimDevice(process, this.disk), { path: `disk${number}`, leaseMs: DEFAULT_TIMES.leaseMs }),
    );
    new SessionServer(service.desk, ports, transport.listen(this.address));
    await world.settle(this.register());
    void this.beat(this.lives);
  }

  private reports() {
    const replicas = [...this.host.stores.values()].flatMap((store) =>
      store.replicas.flatMap((map) => {
        if (map === undefined) return [];
        const { volume, group, mapVersion } = map;
        const { answered } = store.store.volumeTable.ownOf(store.pageOf(volume.id, group));
        const about = { volumeId: volume.id, group, deviceId: store.deviceId, mapVersion, answered };
        return [{ ...about, managed: map.authentication !== undefined }];
      }),
    );
    const devices = [...this.host.stores.values()].map((store) => ({
      ...{ deviceId: store.deviceId, incarnation: store.incarnation, segmentBytes: store.slotBytes },
      ...{ sizeBytes: 2 * this.world.slots * SLOT, freeBytes: store.freeSlots * store.slotBytes, replicasFree: 100 },
      health: 'healthy' as const,
    }));
    return { devices, replicas, sequenceSeen: 0 };
  }

  private async register(): Promise<void> {
    const { nodeId, name, world } = this;
    const about = { clusterId: CLUSTER_ID, nodeId, name, addresses: [this.address], labels: [] };
    await world.calls.register({ ...about, ...this.reports() });
  }

  private async beat(life: number): Promise<void> {
    const { world, nodeId } = this;
    for (;;) {
      await world.pauseOnly(HEARTBEAT_US);
      if (life !== this.lives || !this.process.alive) return;
      if (world.isCut(this.machine)) continue;
      try {
        const { registered, maps, times } = await world.calls.heartbeat({ nodeId, ...this.reports() });
        if (!registered) await this.register();
        for (const store of this.host.stores.values()) void store.grantFor(times.leaseMs);
        for (const map of maps) this.bring(map);
      } catch (error) {
        if (!(error instanceof StrakeError)) throw error;
      }
    }
  }

  private bring(map: ReplicaMap): void {
    for (const store of this.host.stores.values()) {
      if (map.members.some(({ deviceId }) => deviceId === store.deviceId)) void store.bring(map);
    }
  }

  /** The process dies, and what it had not flushed stays, as its host lives on. */
  kill(): void {
    this.process.kill();
    this.disk.kill(new SimRandom(this.world.nextSeed()));
  }

  /** The host loses its power: what was not flushed may be lost. */
  powerOff(): void {
    this.machine.powerOff(new SimRandom(this.world.nextSeed()));
  }

  /** The host has power again, and the node is started. */
  async powerOn(): Promise<void> {
    this.machine.powerOn();
    await this.start();
  }
}

/** A client of volumes, in a process of its own. */
export class ClusterClient {
  readonly machine: SimHost;
  readonly clientId: string;
  readonly process: SimProcess;
  readonly node: StorageNode;
  readonly sessions: SessionService;
  readonly events: StorageEvent[] = [];
  private readonly arena: Uint8Array;
  private readonly base: number;
  private readonly waiting: ((result: number) => void)[] = [];

  constructor(world: ClusterWorld, machine: SimHost, number: number) {
    this.machine = machine;
    this.arena = arenaOf(`client${number}`, CLIENT_BYTES);
    this.process = machine.start({ seed: world.nextSeed(), arena: this.arena });
    const { process } = this;
    this.clientId = world.nextSeed().toString(16).padStart(32, 'e');
    const transport = new SimTransport(process, {}, world.network);
    const ports = { completions: process, memory: process, transport, clock: process };
    const watch = new Watch(process, process);
    const common = { completions: process, memory: process, clock: process, watch };
    this.node = new StorageNode(
      { ...common, clientId: this.clientId, memoryStart: 0, storesMax: 1 },
      { onEvent: (event) => this.events.push(event), onResolved: () => {} },
    );
    this.sessions = new SessionService({
      ...{ ports, memoryStart: SESSIONS_START, sizes: SMALL_SESSIONS },
      key: new SimKey(KEY_SEED, process.random.fork('key')),
      ...{ clusterId: CLUSTER_ID, clientId: this.clientId, principal: 'test', times: this.node.times },
    });
    this.node.join({ manager: world.callsOf(machine), nodeId: idOf('f', number) }, this.sessions);
    this.base = process.register({ complete: (tag, result) => this.waiting[tag](result) });
  }

  /** The engine of the volume. Throws while it is not served. */
  get engine(): VolumeEngine {
    return this.node.engine('v') as VolumeEngine;
  }

  /** What serves the volume, to be read at least. */
  get served(): ServedVolume {
    return this.node.volume('v').served ?? this.engine;
  }

  states(): string[] {
    return this.engine.status().groups[0].map(({ state }) => state);
  }

  private begin(operation: (token: number) => void): Promise<number> {
    return new Promise((resolve) => operation(this.base + this.waiting.push(resolve) - 1));
  }

  /** Begins to write a block, from an area that belongs to it until it has ended. */
  write(stripe: number, block: number, value: number, area = 0): Promise<number> {
    const at = AREA_START + area * BLOCK;
    new Uint32Array(this.arena.buffer, this.arena.byteOffset + at, BLOCK / 4).fill(value);
    const { engine } = this;
    return this.begin((token) => engine.write(at, BLOCK, stripe * SLOT + block * BLOCK, 0, token));
  }

  /** Begins to write a sector, the first of a block. */
  writeSector(stripe: number, block: number, value: number, area = 0): Promise<number> {
    const at = AREA_START + area * BLOCK;
    new Uint32Array(this.arena.buffer, this.arena.byteOffset + at, SECTOR / 4).fill(value);
    const { engine } = this;
    return this.begin((token) => engine.write(at, SECTOR, stripe * SLOT + block * BLOCK, 0, token));
  }

  /** Begins to make a block zero. */
  zero(stripe: number, block: number): Promise<number> {
    const { engine } = this;
    return this.begin((token) => engine.zero(stripe * SLOT + block * BLOCK, BLOCK, 0, token));
  }

  flush(): Promise<number> {
    const { engine } = this;
    return this.begin((token) => engine.flush(token));
  }

  /** The first word of a block, or a negative errno. */
  async read(stripe: number, block: number, area = 0): Promise<number> {
    const at = AREA_START + area * BLOCK;
    const { served } = this;
    const result = await this.begin((token) => served.read(at, BLOCK, stripe * SLOT + block * BLOCK, token));
    return result < 0 ? result : new Uint32Array(this.arena.buffer, this.arena.byteOffset + at, 1)[0];
  }

  kill(): void {
    this.process.kill();
  }
}

export class ClusterWorld {
  readonly world: SimWorld;
  readonly network: SimNetwork;
  readonly nodes: ClusterNode[];
  store = new MemoryMetaStore();
  manager!: Manager;
  /** Whether the manager answers. */
  managed = true;
  /** Of the volume, as it was decided last. */
  generation = 0;
  lease = 'released';
  /** Chunks of the volume. */
  readonly slots: number;
  private readonly seed: number;
  private seeds = 0;
  private readonly managerHost: SimHost;
  private readonly clientHosts: SimHost[] = [];
  private readonly cut = new Set<SimHost>();
  private started = 0;

  constructor(seed: number, nodes = 2, slots = 32) {
    this.seed = seed;
    this.slots = slots;
    this.world = new SimWorld({ seed });
    this.network = new SimNetwork(this.world.time, {});
    this.managerHost = this.world.addHost('manager');
    this.nodes = Array.from({ length: nodes }, (_, number) => new ClusterNode(this, number));
  }

  /** A cluster whose nodes are up, with a volume `v` on them that nobody has attached. */
  static async begin(seed: number, nodes = 2, copies = nodes, slots = 32): Promise<ClusterWorld> {
    const world = new ClusterWorld(seed, nodes, slots);
    await foundCluster(world.store, { clusterId: CLUSTER_ID });
    await world.startManager();
    for (const node of world.nodes) {
      await node.format();
      await node.start();
    }
    const about = { volumeId: 'b'.repeat(32), name: 'v', sizeBytes: slots * SLOT, layout: 'mirror' as const };
    await world.settle(world.calls.create({ ...about, copies, on: [] }));
    return world;
  }

  nextSeed(): number {
    this.seeds += 1;
    return this.seed * 1000 + this.seeds;
  }

  settle<T>(promise: Promise<T>): Promise<T> {
    return this.world.settle(promise);
  }

  /** Starts a manager on what is durable; one that ran before is heard no more. */
  async startManager(): Promise<void> {
    this.store = this.store.copy();
    const { store } = this;
    this.started += 1;
    const process = this.managerHost.start({ seed: this.nextSeed(), arena: arenaOf('manager', 1 << 16) });
    this.manager = await this.settle(
      Manager.open({
        ...{ store, clock: process, completions: process },
        key: new SimKey(KEY_SEED, process.random.fork('key')),
        wallNowMs: () => 1,
        onStepDown: (error) => {
          throw error;
        },
      }),
    );
    this.manager.onDecided((maps) => {
      for (const { generation, lease } of maps) Object.assign(this, { generation, lease });
    });
  }

  isCut(machine: SimHost): boolean {
    return this.cut.has(machine);
  }

  /** Whether a host reaches the manager. */
  reachesManager(machine: SimHost, does: boolean): void {
    if (does) this.cut.delete(machine);
    else this.cut.add(machine);
  }

  /** The manager, as it is asked from anywhere. */
  get calls(): ManagerCalls<ReplicaMap> {
    return this.callsOf(null);
  }

  /** The manager, as it is asked from a host. */
  callsOf(machine: SimHost | null): ManagerCalls<ReplicaMap> {
    const world = this;
    return new Proxy({} as ManagerCalls<ReplicaMap>, {
      get(_target, name: keyof ManagerCalls<ReplicaMap>) {
        return (...asked: unknown[]) => {
          const away = !world.managed || (machine !== null && world.isCut(machine));
          if (away) return Promise.reject(new StrakeError('NO_MANAGER', 'the manager does not answer'));
          return (world.manager[name] as (...all: unknown[]) => Promise<unknown>)(...asked);
        };
      },
    });
  }

  /** A new client, on a host of its own or, in the place of one that has died, on that of the number. */
  client(number = 0): ClusterClient {
    this.clientHosts[number] ??= this.world.addHost(`client${number}`);
    return new ClusterClient(this, this.clientHosts[number], number);
  }

  /** Cuts, or mends, both ways between two hosts. */
  link(one: SimHost, other: SimHost, works: boolean): void {
    for (const [from, to] of [
      [one, other],
      [other, one],
    ]) {
      if (works) this.network.mend(from, to);
      else this.network.cut(from, to);
    }
  }

  until(condition: () => boolean): Promise<void> {
    return this.settle(this.world.until(condition));
  }

  /** Lets the world go on for so long. */
  pause(us: number): Promise<void> {
    return this.settle(this.pauseOnly(us));
  }

  /** Waits for so long, while others let the world go on. */
  pauseOnly(us: number): Promise<void> {
    return new Promise((resolve) => new SimTimers(this.world.time, null).after(us, resolve));
  }

  random(): SimRandom {
    return new SimRandom(this.seed).fork('test');
  }
}
