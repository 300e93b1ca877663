/**
 * A whole cluster in the simulator on which a test plays one sequence of events: the processes, the network and the oracles of
 * `strake sim --cluster`, without chance in what happens. It says who writes what, which message waits, who dies, and when.
 *
 * Whatever clients are answered is held against the history of the volume, maps against what they must be, and at the end
 * everything is read, copies are compared, and disks are checked.
 */

import * as assert from 'uvu/assert';
import { inTrial } from '#strake/embed/trials.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import { CMD_FLAG_FUA, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE } from '#strake/nbd/protocol.js';
import { Cluster } from '#strake/sim/cluster/cluster.js';
import type { ClusterClient } from '#strake/sim/cluster/cluster-client.js';
import { endCluster } from '#strake/sim/cluster/cluster-end.js';
import { CLUSTER_MEMORY_BYTES } from '#strake/sim/cluster/cluster-memory.js';
import type { ClusterNode } from '#strake/sim/cluster/cluster-node.js';
import { type ClusterPlan, clusterPlanOf } from '#strake/sim/cluster/cluster-plan.js';
import type { ClusterReader } from '#strake/sim/cluster/cluster-reader.js';
import type { Party } from '#strake/sim/cluster/party.js';
import { MessageGate, type MessageHold, type SimMessage } from '#strake/sim/net/message-gate.js';
import { NbdSession, type SessionRequest } from '#strake/sim/net/nbd-session.js';
import { Payload, SECTOR_BYTES } from '#strake/sim/oracle/payload.js';
import type { SimHost } from '#strake/sim/world/host.js';
import { SimRandom } from '#strake/sim/world/random.js';

const BLOCK = 4096;
const BLOCK_SECTORS = 8;
const PAYLOAD = new Payload();
/** Of a request to which no answer came. */
export const UNANSWERED = -1;

/** A write that has been begun. */
export interface StagedWrite {
  readonly block: number;
  /** By which the oracle tells it from others. */
  readonly value: number;
  /** Its answer: 0, an errno, or `UNANSWERED`; undefined while it has none. */
  result?: number;
  readonly ended: Promise<number>;
}

export interface StageSettings
  extends Partial<
    Pick<ClusterPlan, 'seed' | 'copies' | 'nodes' | 'clients' | 'readers' | 'segments' | 'devices' | 'peers'>
  > {
  readonly networkLatencyUs?: readonly [number, number];
  /** Memory for all processes; default: as much as the largest plan needs. */
  readonly memoryBytes?: number;
  /** Whether nothing is looked at in the end: something is lost, and is meant to be. */
  readonly broken?: boolean;
}

function planOf({ memoryBytes: _, broken: __, ...settings }: StageSettings): ClusterPlan {
  const { seed = 1 } = settings;
  const plan = { ...clusterPlanOf(seed, []), copies: 2, nodes: 2, clients: 2, devices: 1, segments: 4 } as const;
  const line = { networkLatencyUs: [20, 60], deviceLatencyUs: [20, 100] } as const;
  return { ...plan, connections: 0, clockRates: [], ragged: 0, ...line, ...settings };
}

export class Stage {
  readonly cluster: Cluster;
  readonly gate = new MessageGate();
  /** All that was logged. */
  readonly told: string[];
  /** Where requests of the test come from. */
  readonly host: SimHost;
  private readonly sessions = new Map<ClusterClient, StageSession>();
  private readonly random: SimRandom;
  private readonly healed: (() => void)[] = [];

  private constructor(cluster: Cluster, told: string[]) {
    this.cluster = cluster;
    this.told = told;
    cluster.world.inner.gate = this.gate;
    this.host = cluster.world.world.addHost('stage');
    this.random = new SimRandom(cluster.world.plan.seed).fork('stage');
  }

  /**
   * Plays a course on a cluster whose volume is served by the first client, and ends it. Returns what was logged. With
   * `STRAKE_TEST_LOG=1` that is printed where it fails.
   */
  static async play(settings: StageSettings, course: (stage: Stage) => Promise<void>): Promise<string[]> {
    const told: string[] = [];
    const log = (timeUs: number, text: string) => told.push(`${(timeUs / 1000).toFixed(3)} ms ${text}`);
    const { memoryBytes = CLUSTER_MEMORY_BYTES, broken = false } = settings;
    try {
      await inTrial(
        memoryBytes,
        async (options) => {
          const stage = new Stage(new Cluster(planOf(settings), options), told);
          const { world, failed } = stage.cluster;
          await world.run(Promise.race([stage.live(course, broken), failed]));
        },
        log,
      );
    } catch (error) {
      if (process.env.STRAKE_TEST_LOG === '1') console.error(told.join('\n'));
      throw error;
    }
    return told;
  }

  private async live(course: (stage: Stage) => Promise<void>, broken: boolean): Promise<void> {
    const { cluster } = this;
    await cluster.manager.begin();
    for (const node of cluster.nodes) await node.begin();
    await cluster.create();
    for (const client of cluster.clients) await client.boot();
    assert.ok(await cluster.holder.serve(false));
    await course(this);
    if (!broken) await this.end();
  }

  private async end(): Promise<void> {
    const { cluster } = this;
    this.gate.open();
    for (const heal of this.healed.splice(0)) heal();
    for (const party of cluster.parties) if (!party.up) await party.boot();
    await cluster.world.until(() => cluster.parties.every(({ process }) => !process.stalled));
    await endCluster(cluster);
  }

  get world() {
    return this.cluster.world;
  }

  get nodes(): readonly ClusterNode[] {
    return this.cluster.nodes;
  }

  get clients(): readonly ClusterClient[] {
    return this.cluster.clients;
  }

  /** A client that only reads, which is started, and has attached the volume. */
  async reader(number = 0): Promise<ClusterReader> {
    const reader = this.cluster.readers[number];
    await reader.boot();
    await this.until(() => reader.serves);
    return reader;
  }

  log(text: string): void {
    this.world.log(text);
  }

  /** Lets everything go on for so long. */
  pause(ms: number): Promise<void> {
    return this.world.pause(1000 * ms);
  }

  until(holds: () => boolean): Promise<void> {
    return this.world.until(holds);
  }

  // ---- maps

  /** The newest map of a group that has been decided. */
  map(group = 0): ReplicaMap {
    return this.cluster.maps.newest()[group];
  }

  /** What the newest map says of the device of a node. */
  stateOf(node: ClusterNode): string {
    const { deviceId } = node.disks[0];
    return this.map().members.find((member) => member.deviceId === deviceId)?.state ?? 'none';
  }

  /** The version of the map that the device of a node has, and whether it has answered it. */
  storedAt(node: ClusterNode, group = 0): { readonly version: number; readonly answered: boolean } {
    const found = node.up ? [...node.program.replicas(this.cluster.volume.id)] : [];
    const [, map, answered] = found.find(([, { group: number }]) => number === group) ?? [];
    return { version: map?.mapVersion ?? 0, answered: answered ?? false };
  }

  /** Waits until the newest map says this of the device of a node, and nothing is pending, as far as the manager knows. */
  async becomes(node: ClusterNode, state: string): Promise<void> {
    await this.until(() => this.stateOf(node) === state);
    await this.settled();
  }

  /** Waits until the manager knows that the newest maps are effective. */
  async settled(): Promise<void> {
    const { world, manager } = this.cluster;
    for (;;) {
      const [{ groups }] = await world.settle(manager.program.manager.volumes());
      if (groups.every(({ mapVersion, base }) => mapVersion === base)) return;
      await this.pause(5);
    }
  }

  /** Whether all members in-sync have answered the newest map. */
  isEffective(): boolean {
    const { mapVersion, members } = this.map();
    const inSync = members.filter((member) => member.state === 'in-sync').map(({ deviceId }) => deviceId);
    return this.nodes
      .filter((node) => inSync.includes(node.disks[0].deviceId))
      .every((node) => this.storedAt(node).version >= mapVersion && this.storedAt(node).answered);
  }

  // ---- what clients ask for

  private async session(client: ClusterClient): Promise<StageSession | null> {
    const known = this.sessions.get(client);
    if (known?.serving === true) return known;
    const session = new StageSession(this, client);
    this.sessions.set(client, session);
    return (await session.opened) ? session : null;
  }

  /** Begins to write a block. */
  write(client: ClusterClient, block: number, { fua = false } = {}): StagedWrite {
    const { history } = this.cluster.volume;
    history.writer = client.writer;
    const slot = history.beginWrite(block * BLOCK_SECTORS, BLOCK_SECTORS, fua, this.world.nowUs);
    return this.change(client, { type: CMD_WRITE, block, blocks: 1, slot, flags: fua ? CMD_FLAG_FUA : 0 });
  }

  /** Begins to discard blocks. */
  trim(client: ClusterClient, block: number, blocks: number): StagedWrite {
    const { history } = this.cluster.volume;
    history.writer = client.writer;
    const slot = history.beginTrim(block * BLOCK_SECTORS, blocks * BLOCK_SECTORS, false, this.world.nowUs);
    return this.change(client, { type: CMD_TRIM, block, blocks, slot, flags: 0 });
  }

  private change(client: ClusterClient, asking: Asking): StagedWrite {
    const { history } = this.cluster.volume;
    const { block, slot } = asking;
    const ended = this.ask(client, asking).then(({ error }) => {
      // Where its process has died the history knows that it is over.
      if (error !== UNANSWERED || client.up) history.end(slot, error === 0, this.world.nowUs);
      write.result = error;
      return error;
    });
    const write: StagedWrite = { block, value: history.valueOf(slot), ended };
    return write;
  }

  /** Writes a block. Throws if that fails. */
  async wrote(client: ClusterClient, block: number): Promise<StagedWrite> {
    const write = this.write(client, block);
    assert.is(await this.world.settle(write.ended), 0, 'a write fails');
    return write;
  }

  /** Flushes. Resolves to 0 or an errno. */
  async flush(client: ClusterClient): Promise<number> {
    const { history } = this.cluster.volume;
    history.writer = client.writer;
    const slot = history.beginFlush(this.world.nowUs);
    const { error } = await this.ask(client, { type: CMD_FLUSH, block: 0, blocks: 0, slot, flags: 0 });
    if (error !== UNANSWERED || client.up) history.end(slot, error === 0, this.world.nowUs);
    return error;
  }

  /** Begins to read a block. Resolves to the value of the write that it sees, 0 for zeroes; or a negative errno. */
  async read(client: ClusterClient, block: number): Promise<number> {
    const { history } = this.cluster.volume;
    history.writer = client.writer;
    const slot = history.beginRead(block * BLOCK_SECTORS, BLOCK_SECTORS, this.world.nowUs);
    let value = 0;
    const { error } = await this.ask(client, { type: CMD_READ, block, blocks: 1, slot, flags: 0 }, ({ bytes, at }) => {
      const read = bytes ?? new Uint8Array(0);
      value = PAYLOAD.identify(read.slice(at, at + SECTOR_BYTES), 0, block * BLOCK_SECTORS);
      history.endRead(slot, read, at, this.world.nowUs);
    });
    if (error === 0) return value;
    history.failRead(slot, this.world.nowUs);
    return -Math.abs(error);
  }

  /** Asks a client that serves the volume. `read` sees what was read, before the answer is forgotten. */
  private async ask(
    client: ClusterClient,
    asking: Asking,
    read: (request: SessionRequest) => void = () => {},
  ): Promise<{ readonly error: number }> {
    const session = await this.session(client);
    return session === null ? { error: UNANSWERED } : session.ask(asking, read);
  }

  // ---- messages, processes, network

  /** Holds back messages from one party to another, or all. */
  hold(from: Party | null, to: Party | null, which: (message: SimMessage) => boolean, most?: number): MessageHold {
    const is = (party: Party | null, machine: SimMessage['to']) => party === null || party.host === machine;
    return this.gate.hold((message) => is(from, message.from) && is(to, message.to) && which(message), most);
  }

  /** Waits until a message has been caught. */
  async caught(hold: MessageHold, count = 1): Promise<void> {
    await this.until(() => hold.caught.length >= count);
  }

  kill(party: Party): void {
    this.cluster.look();
    this.log(`${party.name} dies`);
    party.die(this.random);
  }

  losePower(node: ClusterNode): void {
    this.cluster.losePower(node, this.random);
  }

  async boot(party: Party): Promise<void> {
    this.log(`${party.name} starts`);
    await party.boot();
  }

  /** Nothing goes from one party to another. Returns what ends that. */
  cut(from: Party, to: Party): () => void {
    this.log(`nothing goes from ${from.name} to ${to.name}`);
    const { inner } = this.world;
    inner.cut(from.host, to.host);
    let cut = true;
    const mend = () => {
      if (cut) inner.mend(from.host, to.host);
      cut = false;
    };
    this.healed.push(mend);
    return mend;
  }

  /** Nothing goes between two parties. Returns what ends that. */
  part(one: Party, other: Party): () => void {
    const [there, back] = [this.cut(one, other), this.cut(other, one)];
    return () => {
      there();
      back();
    };
  }

  /** Each connection that one party makes to another breaks when it has come about. Returns what ends that. */
  refuse(from: Party, to: Party): () => void {
    this.log(`${to.name} ends connections of ${from.name}`);
    this.reset(from, to);
    const hold = this.hold(to, from, () => {
      this.world.timers.after(0, () => this.reset(from, to));
      return true;
    });
    return () => hold.release();
  }

  /** Breaks all connections between two parties. */
  reset(one: Party, other: Party): void {
    this.log(`connections between ${one.name} and ${other.name} break`);
    this.world.inner.reset(one.host, other.host);
  }
}

/** What is asked for. */
interface Asking {
  readonly type: number;
  readonly block: number;
  readonly blocks: number;
  /** By which the history knows it. */
  readonly slot: number;
  readonly flags: number;
}

/** A connection to a client. */
class StageSession {
  /** Whether the volume is offered. */
  readonly opened: Promise<boolean>;
  private readonly stage: Stage;
  private readonly session: NbdSession;
  /** What ends requests to which no answer comes. */
  private readonly lost = new Set<() => void>();

  constructor(stage: Stage, client: ClusterClient) {
    this.stage = stage;
    const { cluster, host } = stage;
    const peer = cluster.world.network.connect(host, client.address);
    let session: NbdSession | undefined;
    this.opened = new Promise((resolve) => {
      session = new NbdSession(peer, cluster.volume.name, true, (serving) => {
        resolve(serving);
        if (!serving) for (const give of this.lost) give();
      });
    });
    this.session = session as unknown as NbdSession;
  }

  get serving(): boolean {
    return this.session.serving;
  }

  ask(
    { type, block, blocks, slot, flags }: Asking,
    read: (request: SessionRequest) => void,
  ): Promise<{ readonly error: number }> {
    const { history } = this.stage.cluster.volume;
    return new Promise((resolve) => {
      const give = () => resolve({ error: UNANSWERED });
      this.lost.add(give);
      const ended = (request: SessionRequest) => {
        this.lost.delete(give);
        if (request.error === 0) read(request);
        resolve({ error: request.error });
      };
      const request = { type, offset: block * BLOCK, length: blocks * BLOCK, bytes: null, at: 0, error: 0, ended };
      this.session.send(request, flags, (message, at) => history.fill(slot, message, at));
    });
  }
}
