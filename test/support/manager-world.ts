/** A manager in a simulated process, over a store in memory, and nodes that say what the test lets them say. */

import { StrakeError } from '#strake/core/errors.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import { foundCluster } from '#strake/manager/found.js';
import { Manager } from '#strake/manager/manager.js';
import type { Decided, DeviceReport, RegisterAnswer, ReplicaReport } from '#strake/ports/manager.js';
import type { MetaBatch, MetaContents, MetaRecord, MetaStore } from '#strake/ports/meta-store.js';
import { SimLoop } from '#strake/sim/world/loop.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { SimKey } from '#strake/sim/world/sim-key.js';

export const CLUSTER = 'c'.repeat(32);
export const KEY = new SimKey(1, new SimRandom(1));
export const EPOCH = 2 ** 32;

/** 32 digits out of a word. */
export const idOf = (word: string) => Buffer.from(word).toString('hex').padEnd(32, '0').slice(0, 32);

/** A store that keeps everything in memory, and of which a test can take a copy. */
export class MemoryMetaStore implements MetaStore {
  sequence: number;
  readonly records: Map<string, string>;
  commits = 0;
  /** What the next commit ends with, without being done. */
  failure: StrakeError | null = null;
  /** While it is set, commits wait for it. */
  gate: Promise<void> | null = null;

  constructor(contents: MetaContents = { sequence: 0, records: [] }) {
    this.sequence = contents.sequence;
    this.records = new Map(contents.records.map(({ key, value }) => [key, value]));
  }

  contents(): MetaContents {
    const records: MetaRecord[] = [...this.records].map(([key, value]) => ({ key, value }));
    return { sequence: this.sequence, records: records.sort((one, other) => (one.key < other.key ? -1 : 1)) };
  }

  copy(): MemoryMetaStore {
    return new MemoryMetaStore(this.contents());
  }

  load(): Promise<MetaContents> {
    return Promise.resolve(this.contents());
  }

  async commit({ expected, next, changes }: MetaBatch): Promise<void> {
    await this.gate;
    if (this.failure !== null) throw this.failure;
    if (expected !== this.sequence) throw new StrakeError('STALE_METADATA', `it has ${this.sequence}, not ${expected}`);
    for (const { key, value } of changes) {
      if (value === null) this.records.delete(key);
      else this.records.set(key, value);
    }
    this.sequence = next;
    this.commits += 1;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A node with devices that store what they are given. */
export class FakeMember {
  readonly deviceId: string;
  incarnation = 1;
  readonly maps = new Map<string, ReplicaMap>();

  constructor(name: string) {
    this.deviceId = idOf(name);
  }

  report(): DeviceReport {
    const { deviceId, incarnation } = this;
    const about = { segmentBytes: 1 << 20, sizeBytes: 1 << 30, freeBytes: 1 << 29 };
    return { deviceId, incarnation, ...about, replicasFree: 200, health: 'healthy' };
  }

  /** Stores a map that is newer, and answers it. */
  store(map: ReplicaMap): void {
    const key = `${map.volume.id}/${map.group}`;
    const known = this.maps.get(key);
    if (known === undefined || known.mapVersion < map.mapVersion) this.maps.set(key, map);
  }

  replicas(answered = true): ReplicaReport[] {
    return [...this.maps.values()].map((map) => ({
      ...{ volumeId: map.volume.id, group: map.group, deviceId: this.deviceId, mapVersion: map.mapVersion, answered },
      managed: map.authentication !== undefined,
    }));
  }
}

/** Members that keep nothing to themselves: those of one node. */
export class FakeStorageNode {
  readonly name: string;
  readonly nodeId: string;
  readonly members: readonly FakeMember[];
  sequenceSeen = 0;

  constructor(name: string, devices: number) {
    this.name = name;
    this.nodeId = idOf(`node ${name}`);
    this.members = Array.from({ length: devices }, (_, at) => new FakeMember(`${name}${at}`));
  }

  async register(manager: Manager, clusterId = CLUSTER): Promise<RegisterAnswer> {
    const { nodeId, name, members, sequenceSeen } = this;
    const replicas = members.flatMap((member) => member.replicas());
    const devices = members.map((member) => member.report());
    const about = { addresses: [`127.0.0.1:${name.length}`], labels: [] };
    const answer = await manager.register({ clusterId, nodeId, name, ...about, sequenceSeen, devices, replicas });
    this.sequenceSeen = Math.max(this.sequenceSeen, answer.sequence);
    return answer;
  }

  /** A heartbeat that tells of all replicas; the maps of the answer are stored, unless `keep` says otherwise. */
  async beat(manager: Manager, keep = true): Promise<readonly ReplicaMap[]> {
    const { nodeId, members, sequenceSeen } = this;
    const devices = members.map((member) => member.report());
    const replicas = members.flatMap((member) => member.replicas());
    const answer = await manager.heartbeat({ nodeId, sequenceSeen, devices, replicas });
    this.sequenceSeen = Math.max(this.sequenceSeen, answer.sequence);
    if (keep) for (const map of answer.maps) for (const member of members) if (names(map, member)) member.store(map);
    return answer.maps;
  }
}

function names(map: ReplicaMap, { deviceId }: FakeMember): boolean {
  return map.members.some((member) => member.deviceId === deviceId);
}

export class ManagerWorld {
  readonly loop: SimLoop;
  store = new MemoryMetaStore();
  readonly nodes: FakeStorageNode[];
  readonly steppedDown: StrakeError[] = [];
  private open: Manager | null = null;

  /** @param devices of each node; the nodes are called a, b, c … */
  constructor(devices: readonly number[] = [1, 1, 1], seed = 1) {
    this.loop = new SimLoop({ seed, arenaBytes: 1 << 12 });
    this.nodes = devices.map((count, at) => new FakeStorageNode(String.fromCharCode(97 + at), count));
  }

  /** The manager of now. */
  get manager(): Manager {
    if (this.open === null) throw new Error('the manager has not been started');
    return this.open;
  }

  get members(): readonly FakeMember[] {
    return this.nodes.flatMap(({ members }) => members);
  }

  /** A new cluster, in which all nodes have registered. */
  static async begin(devices?: readonly number[]): Promise<ManagerWorld> {
    const world = new ManagerWorld(devices);
    await foundCluster(world.store, { clusterId: CLUSTER });
    await world.start();
    await world.registerAll();
    return world;
  }

  /** Starts a manager on the store; one that ran before is left as it is, as if it had been stopped in its tracks. */
  async start(): Promise<Manager> {
    const { loop, store } = this;
    this.open = await Manager.open({
      ...{ store, clock: loop, completions: loop, key: KEY },
      wallNowMs: () => loop.machine.clock.realtimeMs(),
      onStepDown: (error) => this.steppedDown.push(error),
    });
    return this.open;
  }

  /** Starts another in place of the one that ran, with what is durable. */
  async restart(): Promise<Manager> {
    this.store = this.store.copy();
    return this.start();
  }

  async registerAll(): Promise<void> {
    for (const node of this.nodes) await this.settle(node.register(this.manager));
  }

  /** Everybody is heard, and stores what the manager hands out. */
  async beatAll(): Promise<void> {
    for (const node of this.nodes) await this.settle(node.beat(this.manager));
  }

  settle<T>(promise: Promise<T>): Promise<T> {
    return this.loop.settle(promise);
  }

  /** Time passes. */
  async pass(ms: number): Promise<void> {
    const end = this.loop.nowMs() + ms;
    const token = this.loop.register({ complete: () => {} });
    this.loop.after(ms, token);
    await this.loop.run(() => this.loop.nowMs() >= end);
    this.loop.unregister(token);
  }

  /** Time passes in which nodes are heard. */
  async passWithBeats(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 500) {
      await this.pass(500);
      await this.beatAll();
    }
  }

  create(name: string, copies = 2, on: readonly string[] = []): Promise<Decided<ReplicaMap>> {
    const layout = copies === 1 ? 'single' : 'mirror';
    return this.settle(this.manager.create({ volumeId: idOf(name), name, sizeBytes: 1 << 24, layout, copies, on }));
  }

  attach(volume: string, client: string, takeOver = false): Promise<Decided<ReplicaMap>> {
    return this.settle(this.manager.attach({ volume, clientId: idOf(client), takeOver }));
  }

  /** Members store maps and answer them; the manager hears of it from the client. */
  async bring(maps: readonly ReplicaMap[], deaf: readonly FakeMember[] = []): Promise<void> {
    for (const map of maps) {
      const answers = this.members.filter((member) => !deaf.includes(member) && names(map, member));
      for (const member of answers) member.store(map);
      const told = answers.map(({ deviceId, incarnation }) => ({ deviceId, incarnation }));
      const { mapVersion, group, volume } = map;
      await this.settle(this.manager.stored({ volumeId: volume.id, group, mapVersion, answers: told }));
    }
  }
}
