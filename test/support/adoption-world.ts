/**
 * A machine with two devices on which a node stands alone, joins a cluster, hands its volume over and takes it back, in a
 * simulated world with the product's manager. Every life of a process can be cut off after any step.
 */

import { SessionService } from '#strake/client/members/session-service.js';
import { Watch } from '#strake/core/watch.js';
import { foundCluster } from '#strake/manager/found.js';
import { SimDevice } from '#strake/sim/disk/device.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { SimTransport } from '#strake/sim/net/transport.js';
import type { SimHost } from '#strake/sim/world/host.js';
import type { SimProcess } from '#strake/sim/world/process.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { SimKey } from '#strake/sim/world/sim-key.js';
import { formatDevice } from '#strake/store/opening/format-device.js';
import { type Adopted, adoptVolumes, takeBackVolumes } from '#strake/volumes/adoption.js';
import { Registration } from '#strake/volumes/registration.js';
import { nodeMemoryBytes, StorageNode } from '#strake/volumes/storage-node.js';
import { ClusterWorld, KEY_SEED, SMALL_SESSIONS } from './cluster-world.js';
import { BLOCK, CLUSTER_ID, SLOT } from './sim-store.js';

const STORES = 2;
const SESSIONS_START = nodeMemoryBytes(STORES);
const AREA_START = SESSIONS_START + SessionService.regionBytes(SMALL_SESSIONS);
const arena = new Uint8Array(new SharedArrayBuffer(AREA_START + BLOCK));
const NODE_ID = 'd'.repeat(32);
const PAUSE_US = 250_000;

/** What dies: the process of the node, the power of its machine, the manager, or the one process that is both. */
export const DEATHS = ['node', 'power', 'manager', 'both'] as const;
export type Death = (typeof DEATHS)[number];

/** A process of the machine. */
export class HomeLife {
  readonly process: SimProcess;
  readonly node: StorageNode;
  private readonly clientId: string;
  private readonly home: AdoptionWorld;
  private readonly base: number;
  private readonly waiting: ((result: number) => void)[] = [];
  private registration: Registration | null = null;

  constructor(home: AdoptionWorld, machine: SimHost) {
    this.home = home;
    this.process = machine.start({ seed: home.world.nextSeed(), arena });
    const { process } = this;
    const common = { completions: process, memory: process, clock: process, watch: new Watch(process, process) };
    this.clientId = home.world.nextSeed().toString(16).padStart(32, 'e');
    this.node = new StorageNode(
      { ...common, clientId: this.clientId, memoryStart: 0, storesMax: STORES },
      { onEvent: () => {}, onResolved: () => {} },
    );
    this.base = process.register({ complete: (tag, result) => this.waiting[tag](result) });
  }

  async open(): Promise<void> {
    for (const [number, disk] of this.home.present.entries()) {
      await this.node.open(new SimDevice(this.process, disk), { path: `disk${number}` });
    }
  }

  /** Becomes a node of the cluster, as `strake cluster init --node` and `cluster leave` do. */
  async join(): Promise<void> {
    const { process, node, home } = this;
    const transport = new SimTransport(process, {}, home.world.network);
    const { clientId } = this;
    const sessions = new SessionService({
      ports: { completions: process, memory: process, transport, clock: process },
      ...{ memoryStart: SESSIONS_START, sizes: SMALL_SESSIONS, clusterId: CLUSTER_ID, clientId, principal: 'node' },
      ...{ key: new SimKey(KEY_SEED, process.random.fork('key')), times: node.times },
    });
    const manager = home.world.calls;
    node.leaveVolumes(() => null);
    node.join({ manager, nodeId: NODE_ID }, sessions);
    this.registration = new Registration({
      ...{ completions: process, clock: process, manager, devices: node.driven },
      self: { clusterId: CLUSTER_ID, nodeId: NODE_ID, name: 'home', labels: [], addresses: ['/home'] },
      hooks: {
        bring: (device, map) => device.bring(map),
        release: (device, volumeId) => device.release(process, volumeId, () => false),
        ...{ onTimes: () => {}, onTrouble: () => {}, onKnown: () => {}, onNeglected: () => {} },
      },
    });
    await this.registration.begin();
  }

  hand(how: 'adopt' | 'leave'): Promise<Adopted> {
    const { world } = this.home;
    const parts = { manager: world.calls, devices: this.node.driven, pause: () => world.pauseOnly(PAUSE_US) };
    return how === 'adopt' ? adoptVolumes(parts) : takeBackVolumes(parts);
  }

  /** Whether it would be told that managers decide about its volume, as `strake up` is. */
  get managed(): boolean {
    return [...this.node.driven.values()].some(({ replicas }) =>
      replicas.some((map) => map?.authentication !== undefined),
    );
  }

  private begin(operation: (token: number) => void): Promise<number> {
    return new Promise((resolve) => operation(this.base + this.waiting.push(resolve) - 1));
  }

  async write(stripe: number, value: number): Promise<number> {
    new Uint32Array(arena.buffer, AREA_START, BLOCK / 4).fill(value);
    return this.begin((token) => this.node.engine('v').write(AREA_START, BLOCK, stripe * SLOT, 0, token));
  }

  /** The first word of a chunk, or a negative errno. */
  async read(stripe: number): Promise<number> {
    const result = await this.begin((token) => this.node.engine('v').read(AREA_START, BLOCK, stripe * SLOT, token));
    return result < 0 ? result : new Uint32Array(arena.buffer, AREA_START, 1)[0];
  }

  async close(): Promise<void> {
    this.registration?.end();
    await this.node.close();
    this.process.kill();
  }
}

export class AdoptionWorld {
  readonly world: ClusterWorld;
  readonly disks: readonly SimDisk[];
  /** Those of the disks that are there. */
  present: SimDisk[];
  private readonly machine: SimHost;

  private constructor(seed: number) {
    this.world = new ClusterWorld(seed, 0);
    this.machine = this.world.world.addHost('home');
    this.disks = [0, 1].map(() => new SimDisk({ sizeBytes: 64 * SLOT + (4 << 20) }));
    this.present = [...this.disks];
    for (const disk of this.disks) this.machine.disks.add(disk);
  }

  /** Two devices with a mirror `v` on them, whose first word of each chunk is told by `contentOf`. */
  static async make(seed: number, chunks: number, contentOf: (chunk: number) => number): Promise<AdoptionWorld> {
    const home = new AdoptionWorld(seed);
    const { world } = home;
    await foundCluster(world.store, { clusterId: CLUSTER_ID });
    await world.startManager();
    const process = home.machine.start({ seed: world.nextSeed(), arena });
    for (const [number, disk] of home.disks.entries()) {
      const device = new SimDevice(process, disk);
      const ports = { completions: process, memory: process, device, memoryStart: 0 };
      const deviceId = String(number + 1).repeat(32);
      await world.settle(formatDevice(ports, { deviceId, clusterId: CLUSTER_ID, slotBytes: SLOT, nowMs: 1 }));
      device.close();
    }
    process.kill();
    const life = await home.alone();
    const about = { id: 'b'.repeat(32), name: 'v', sizeBytes: chunks * SLOT, createdMs: 1 };
    await world.settle(life.node.create({ ...about, layout: 'mirror', copies: 2 }));
    for (let chunk = 0; chunk < chunks; chunk += 1) await world.settle(life.write(chunk, contentOf(chunk)));
    await world.settle(life.close());
    return home;
  }

  /** A life of the node by itself, which decides about its volume unless managers do. */
  async alone(): Promise<HomeLife> {
    const life = new HomeLife(this, this.machine);
    await this.world.settle(life.open());
    if (!life.managed) await this.world.settle(life.node.assemble(new Map()));
    return life;
  }

  /**
   * A life in which the volume is handed over, or taken back. After so many steps it dies, unless it has ended before. Returns what
   * has become of it; null if it died.
   */
  async handing(how: 'adopt' | 'leave', death: Death = 'node', steps = Number.POSITIVE_INFINITY) {
    const { world } = this;
    const life = new HomeLife(this, this.machine);
    const work = (async () => {
      await life.open();
      await life.join();
      return life.hand(how);
    })();
    const last = world.world.steps + steps;
    const died = world.world.until(() => world.world.steps >= last).then(() => null);
    const ended = await world.settle(Promise.race([work, died]));
    if (ended !== null) {
      await world.settle(life.close());
      return ended;
    }
    work.catch(() => {});
    if (death === 'manager' || death === 'both') await world.startManager();
    if (death === 'manager') {
      // The node goes on with the next one, and is the better for it.
      const rest = await world.settle(work.catch(() => null));
      await world.settle(life.close());
      return rest;
    }
    if (death === 'power') {
      this.machine.powerOff(new SimRandom(world.nextSeed()));
      this.machine.powerOn();
    } else {
      life.process.kill();
      for (const disk of this.disks) disk.kill(new SimRandom(world.nextSeed()));
    }
    return null;
  }
}
