/**
 * Two processes in a simulated world: one serves the segments of its disk, the other one hosts volumes over its own disk and that
 * one, by a session over a simulated connection.
 */

import { SESSION_SIZES, SessionService } from '#strake/client/members/session-service.js';
import type { VolumeEngine } from '#strake/client/volume-engine.js';
import { Watch } from '#strake/core/watch.js';
import { ConnectionResources, type NetSizes } from '#strake/net/connection-resources.js';
import { DeviceHost, deviceHostBytes } from '#strake/node/device-host.js';
import { SEGMENT_SIZES, SegmentService } from '#strake/node/segment-service.js';
import { SimDevice } from '#strake/sim/disk/device.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import type { SimLineSettings } from '#strake/sim/net/connection.js';
import { SimNetwork } from '#strake/sim/net/network.js';
import { SimTransport } from '#strake/sim/net/transport.js';
import type { SimHost } from '#strake/sim/world/host.js';
import type { SimProcess } from '#strake/sim/world/process.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { SimKey } from '#strake/sim/world/sim-key.js';
import { SimTimers } from '#strake/sim/world/timers.js';
import { SimWorld } from '#strake/sim/world/world.js';
import { formatDevice } from '#strake/store/opening/format-device.js';
import type { StorageEvent } from '#strake/volumes/storage-events.js';
import { nodeMemoryBytes, StorageNode } from '#strake/volumes/storage-node.js';
import { SessionServer } from '#strake/wire/session-server.js';
import { BLOCK, CLUSTER_ID, SLOT } from './sim-store.js';

/** Far fewer and smaller than in production: trials make many of these. */
export const SMALL_SEGMENTS = {
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
  connections: 4,
  classes: [
    { bytes: 4 << 10, count: 16 },
    { bytes: 16 << 10, count: 4 },
  ],
};

const SEGMENTS_START = deviceHostBytes(1);
const SESSIONS_START = nodeMemoryBytes(1);
const AREA_START = SESSIONS_START + SessionService.regionBytes(SMALL_SESSIONS);
const engineArena = new Uint8Array(new SharedArrayBuffer(AREA_START + 16 * SLOT));
const storeArena = new Uint8Array(
  new SharedArrayBuffer(SEGMENTS_START + ConnectionResources.regionBytes(SMALL_SEGMENTS)),
);

export const ADDRESS = { path: 'segments' };
export const KEY_SEED = 7;

export function deviceIdOf(number: number): string {
  return String(number + 1).repeat(32);
}

/** The process that serves segments. */
export class ServingNode {
  readonly process: SimProcess;
  readonly host: DeviceHost;
  readonly service: SegmentService;
  readonly server: SessionServer;
  device: SimDevice;

  constructor(world: TwoNodes, keySeed = KEY_SEED, sizes: NetSizes = SMALL_SEGMENTS) {
    const large = SEGMENTS_START + ConnectionResources.regionBytes(sizes);
    const arena = sizes === SMALL_SEGMENTS ? storeArena : new Uint8Array(new SharedArrayBuffer(large));
    this.process = world.servingHost.start({ seed: world.nextSeed(), arena });
    const { process } = this;
    const transport = new SimTransport(process, {}, world.network);
    const ports = { completions: process, memory: process, transport, clock: process };
    this.host = new DeviceHost(
      { completions: process, memory: process, clock: process, memoryStart: 0, storesMax: 1 },
      { onEvent: () => {}, mayForget: () => false, onMap: () => {} },
    );
    this.service = new SegmentService({
      ports,
      watch: new Watch(process, process),
      memoryStart: SEGMENTS_START,
      sizes,
      key: new SimKey(keySeed, process.random.fork('key')),
      identity: { nodeId: 'd'.repeat(32), clusterId: CLUSTER_ID },
      addresses: ['segments'],
      devices: this.host.stores,
      onDeleted: () => {},
    });
    this.device = new SimDevice(process, world.disks[1]);
    this.server = new SessionServer(this.service.desk, ports, transport.listen(ADDRESS.path));
  }
}

export class TwoNodes {
  readonly world: SimWorld;
  readonly network: SimNetwork;
  readonly engineHost: SimHost;
  readonly servingHost: SimHost;
  readonly disks: SimDisk[];
  readonly events: StorageEvent[] = [];
  serving!: ServingNode;
  process!: SimProcess;
  node!: StorageNode;
  sessions!: SessionService;
  private readonly seed: number;
  private seeds = 0;
  private base = 0;
  private readonly waiting: ((result: number) => void)[] = [];

  constructor(seed: number, loss = 0, line: SimLineSettings = {}) {
    this.seed = seed;
    this.world = new SimWorld({ seed });
    this.network = new SimNetwork(this.world.time, { loss, ...line });
    this.engineHost = this.world.addHost('engine');
    this.servingHost = this.world.addHost('serving');
    this.disks = [0, 1].map(() => new SimDisk({ sizeBytes: 64 * SLOT + (4 << 20) }));
    this.servingHost.disks.add(this.disks[1]);
    this.engineHost.disks.add(this.disks[0]);
  }

  nextSeed(): number {
    this.seeds += 1;
    return this.seed * 1000 + this.seeds;
  }

  settle<T>(promise: Promise<T>): Promise<T> {
    return this.world.settle(promise);
  }

  /** Formats both disks, each in a process of its own that ends. */
  async format(): Promise<void> {
    for (const [number, disk] of this.disks.entries()) {
      const process = this.engineHost.start({ seed: this.nextSeed(), arena: engineArena });
      const device = new SimDevice(process, disk);
      const ports = { completions: process, memory: process, device, memoryStart: 0 };
      const options = { deviceId: deviceIdOf(number), clusterId: CLUSTER_ID, slotBytes: SLOT, nowMs: 1 };
      await this.settle(formatDevice(ports, options));
      device.close();
      process.kill();
    }
  }

  /** Starts the process that serves segments. */
  async startServing(keySeed = KEY_SEED, sizes: NetSizes = SMALL_SEGMENTS, leaseMs = 0): Promise<void> {
    this.serving = new ServingNode(this, keySeed, sizes);
    await this.settle(this.serving.host.open(this.serving.device, { path: 'far', leaseMs }));
  }

  /** The device that is served is closed, in order or not, and opened again by the same process. */
  async reopenServed(inOrder: boolean): Promise<void> {
    const { serving } = this;
    const [entry] = serving.host.stores.values();
    serving.host.letGo(entry.deviceId);
    if (!inOrder) serving.device.close();
    await this.settle(serving.host.close(entry).catch(() => {}));
    if (inOrder) serving.device.close();
    serving.device = new SimDevice(serving.process, this.disks[1]);
    await this.settle(serving.host.open(serving.device, { path: 'far' }));
  }

  /** Another disk is where one of them was. */
  replaceDisk(number: number, disk: SimDisk): void {
    this.disks[number] = disk;
  }

  /** The process that serves segments dies. */
  killServing(): void {
    this.serving.process.kill();
    this.disks[1].kill(new SimRandom(this.nextSeed()));
  }

  /** The process that hosts volumes dies. */
  killEngine(): void {
    this.process.kill();
    this.disks[0].kill(new SimRandom(this.nextSeed()));
  }

  /** Starts the process that hosts volumes, without its devices. */
  startSessions(): void {
    this.process = this.engineHost.start({ seed: this.nextSeed(), arena: engineArena });
    const { process } = this;
    const transport = new SimTransport(process, {}, this.network);
    const ports = { completions: process, memory: process, transport, clock: process };
    const watch = new Watch(process, process);
    const clientId = this.nextSeed().toString(16).padStart(32, 'a');
    const common = { completions: process, memory: process, clock: process, watch };
    this.node = new StorageNode(
      { ...common, clientId, memoryStart: 0, storesMax: 1 },
      { onEvent: (event) => this.events.push(event), onResolved: () => {} },
    );
    this.sessions = new SessionService({
      ports,
      memoryStart: SESSIONS_START,
      sizes: SMALL_SESSIONS,
      key: new SimKey(KEY_SEED, process.random.fork('key')),
      clusterId: CLUSTER_ID,
      clientId,
      principal: 'test',
    });
  }

  /** Starts the process that hosts volumes; `late`: its own device answers when the others are there. */
  async startEngine(late = false): Promise<void> {
    this.startSessions();
    const { process } = this;
    this.base = process.register({ complete: (tag, result) => this.waiting[tag](result) });
    const open = () => this.settle(this.node.open(new SimDevice(process, this.disks[0]), { path: 'near' }));
    if (!late) await open();
    await this.settle(this.node.addPeer(this.sessions, ADDRESS));
    await this.settle(this.node.assemble(new Map()));
    if (late) await this.settle(this.node.takeBack(await open()));
  }

  create(stripes = 32): Promise<unknown> {
    const spec = { id: 'a'.repeat(32), name: 'v', layout: 'mirror', copies: 2, createdMs: 1 } as const;
    return this.settle(this.node.create({ ...spec, sizeBytes: stripes * SLOT }));
  }

  get engine() {
    return this.node.engine('v') as VolumeEngine;
  }

  states(): string[] {
    return this.engine.status().groups[0].map(({ state }) => state);
  }

  begin(operation: (token: number) => void): Promise<number> {
    return new Promise((resolve) => operation(this.base + this.waiting.push(resolve) - 1));
  }

  /** Begins to write a block, from an area that belongs to it until it has ended. */
  write(stripe: number, block: number, value: number, area = 0): Promise<number> {
    const at = AREA_START + area * BLOCK;
    new Uint32Array(engineArena.buffer, engineArena.byteOffset + at, BLOCK / 4).fill(value);
    return this.begin((token) => this.engine.write(at, BLOCK, stripe * SLOT + block * BLOCK, 0, token));
  }

  flush(): Promise<number> {
    return this.begin((token) => this.engine.flush(token));
  }

  /** The first word of a block, or a negative errno. */
  async read(stripe: number, block: number, area = 0): Promise<number> {
    const at = AREA_START + area * BLOCK;
    const result = await this.begin((token) => this.engine.read(at, BLOCK, stripe * SLOT + block * BLOCK, token));
    return result < 0 ? result : new Uint32Array(engineArena.buffer, engineArena.byteOffset + at, 1)[0];
  }

  /** Lets jobs come to their ends. */
  jobsEnded(): Promise<void> {
    return this.settle(this.world.until(() => this.engine.status().jobs.every(({ state }) => state !== 'running')));
  }

  /** Lets the world go on for so long. */
  pause(us: number): Promise<void> {
    return this.settle(this.pauseOnly(us));
  }

  /** Waits for so long, while others let the world go on. */
  pauseOnly(us: number): Promise<void> {
    return new Promise((resolve) => new SimTimers(this.world.time, null).after(us, resolve));
  }

  /** What sessions have in use. */
  usage(): { readonly asked: number } {
    const { connections, buffers } = this.sessions.usage();
    return { asked: connections + buffers };
  }

  random(): SimRandom {
    return new SimRandom(this.seed).fork('test');
  }
}
