/**
 * The manager of a cluster: it decides which maps count. One process has it at a time; what keeps a second one from deciding is
 * the comparison that each commit of its store begins with.
 *
 * ```text
 *   call ─► may it decide? ─► compared with memory, decided ─┬─► journal ─► store: durable ─► answer
 *                             (one turn of the loop)         └─► what else is decided meanwhile shares the next batch
 * ```
 *
 * A manager that starts decides nothing until every node that it knows has registered, or `startMs` have passed: so members tell
 * what they have answered, and nodes that have seen more than its store has. Then its store is an older copy, and it refuses to
 * lead. Without a manager open volumes go on as long as no member fails.
 *
 * Invariants: what was answered is durable. A manager that could not commit decides nothing more and answers nothing more.
 */

import { Calls } from '../core/calls.js';
import { changedTimes } from '../core/cluster-times.js';
import { StrakeError } from '../core/errors.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { Clock } from '../ports/clock.js';
import type { ClusterKey } from '../ports/cluster-key.js';
import type { CompletionPort } from '../ports/completion.js';
import type {
  AttachCall,
  ChangeAnswer,
  ChangeRequest,
  ClusterEvent,
  ClusterStatus,
  ClusterTimes,
  CreateRequest,
  Decided,
  DetachAnswer,
  DetachRequest,
  DeviceListed,
  HeartbeatAnswer,
  HeartbeatRequest,
  ManagerCalls,
  NodeListed,
  RegisterAnswer,
  RegisterRequest,
  RenewAnswer,
  RenewRequest,
  StoredAnswer,
  StoredRequest,
  VolumeListed,
  WithoutAnswer,
} from '../ports/manager.js';
import type { MetaStore } from '../ports/meta-store.js';
import { ClusterState } from './cluster-state.js';
import { HolderCalls } from './holder-calls.js';
import { Janitors } from './janitors.js';
import { Journal } from './journal.js';
import { TICK_MS } from './limits.js';
import { NodeCalls } from './node-calls.js';
import { type Records, readRecords } from './records.js';
import { VolumeCalls } from './volume-calls.js';

export interface ManagerParts {
  readonly store: MetaStore;
  readonly clock: Clock;
  readonly completions: CompletionPort;
  readonly key: ClusterKey;
  /** Milliseconds since 1970, for what people read. */
  readonly wallNowMs: () => number;
  /** The manager decides nothing more, and answers nothing that it has not made durable: its process ends. */
  readonly onStepDown: (error: StrakeError) => void;
}

type Listener = (maps: readonly ReplicaMap[]) => void;

export class Manager implements ManagerCalls<ReplicaMap> {
  private readonly parts: ManagerParts;
  private readonly calls: Calls;
  private readonly journal: Journal;
  private readonly state: ClusterState;
  private readonly janitors: Janitors;
  private readonly holders: HolderCalls;
  private readonly nodeCalls: NodeCalls;
  private readonly volumeCalls: VolumeCalls;
  private readonly listeners: Listener[] = [];
  private readonly startedMs: number;
  private deciding = false;
  private readonly ticking: Promise<void>;

  private constructor(parts: ManagerParts, sequence: number, records: Records) {
    const { store, clock, completions, key, wallNowMs } = parts;
    this.parts = parts;
    this.calls = new Calls(completions);
    this.journal = new Journal(store, sequence, (error) => this.stepDown(error));
    const onDecided: Listener = (maps) => {
      for (const listener of this.listeners) listener(maps);
    };
    this.state = new ClusterState({ journal: this.journal, records, clock, key, wallNowMs, onDecided });
    this.janitors = new Janitors(this.state);
    this.holders = new HolderCalls(this.state, this.janitors);
    this.nodeCalls = new NodeCalls(this.state, this.janitors);
    this.volumeCalls = new VolumeCalls(this.state);
    this.startedMs = clock.nowMs();
    this.state.events.add('manager-started', `the manager has started with batch ${sequence} of its store`);
    this.beginIfComplete();
    this.ticking = this.tick();
  }

  /**
   * Reads the store and begins. Rejects with a `StrakeError` if it has no cluster (`ERR_STRAKE_NOT_FOUND`) or is not whole
   * (`ERR_STRAKE_DAMAGED`).
   */
  static async open(parts: ManagerParts): Promise<Manager> {
    const { sequence, records } = await parts.store.load();
    return new Manager(parts, sequence, readRecords(records));
  }

  get clusterId(): string {
    return this.state.cluster.clusterId;
  }

  /** Calls `listener` with maps that have been decided and are durable. */
  onDecided(listener: Listener): void {
    this.listeners.push(listener);
  }

  /** Ends; what is being decided is made durable before. */
  async close(): Promise<void> {
    this.state.ended ??= new StrakeError('NO_MANAGER', 'the manager is being stopped');
    this.state.ticks.tell();
    await this.journal.end();
    await this.ticking;
    this.calls.close();
  }

  // ---------------------------------------------------------------- time

  private async tick(): Promise<void> {
    while (this.state.ended === null) {
      const result = await this.calls.call((token) => this.parts.clock.after(TICK_MS, token));
      // The engine is closing.
      if (result < 0) return;
      const { nowMs, times } = this.state;
      this.state.nodes.look(nowMs, times.nodeDownMs);
      this.state.crowds.look(nowMs, times.nodeDownMs);
      this.beginIfComplete();
      if (this.deciding) this.janitors.look();
      this.state.ticks.tell();
    }
  }

  private beginIfComplete(): void {
    if (this.deciding || this.state.ended !== null) return;
    const waitedMs = this.state.nowMs - this.startedMs;
    if (this.state.nodes.awaited().length > 0 && waitedMs < this.state.times.startMs) return;
    this.deciding = true;
    this.journal.release();
  }

  private stepDown(error: StrakeError): void {
    if (this.state.ended !== null) return;
    this.state.ended = new StrakeError('NO_MANAGER', `the manager decides nothing any more: ${error.message}`, {
      cause: error,
    });
    this.state.ticks.tell();
    this.parts.onStepDown(error);
  }

  // ---------------------------------------------------------------- how a call is answered

  private checkGoing(): void {
    if (this.state.ended !== null) throw this.state.ended;
  }

  /** A node has heard of more than the store has: somebody decided after it was copied. */
  private checkSeen(sequenceSeen: number, nodeId: string): void {
    const { sequence } = this.journal;
    if (sequenceSeen <= sequence) return;
    const what = `node ${nodeId} has seen batch ${sequenceSeen}, and the store of this manager has ${sequence}: it is an older copy`;
    const error = new StrakeError('STALE_METADATA', what);
    this.stepDown(error);
    throw error;
  }

  /** Waits until the manager may decide, decides, and answers when that is durable. */
  private async decide<T>(decision: () => T | Promise<T>): Promise<T> {
    this.checkGoing();
    while (!this.deciding) {
      await this.state.ticks.next();
      this.checkGoing();
    }
    const answer = await decision();
    await this.journal.settled();
    return answer;
  }

  /** Answers from memory, when all that is in the answer is durable. */
  private async answer<T>(read: () => T): Promise<T> {
    this.checkGoing();
    const answer = read();
    // Before it decides nothing is to be waited for but who has registered.
    if (this.deciding) await this.journal.settled();
    return answer;
  }

  // ---------------------------------------------------------------- the cluster

  status(): Promise<ClusterStatus> {
    return this.answer(() => {
      const { clusterId, epoch, times } = this.state.cluster;
      const awaited = this.deciding ? [] : this.state.nodes.awaited();
      return { clusterId, epoch, sequence: this.journal.sequence, times, deciding: this.deciding, awaited };
    });
  }

  setTimes(times: Partial<ClusterTimes>): Promise<ClusterTimes> {
    return this.decide(() => {
      const next = changedTimes(this.state.times, times);
      this.state.changeCluster({ times: next });
      this.state.events.add('times-set', `times are changed: ${JSON.stringify(times)}`);
      return next;
    });
  }

  events(after: number): Promise<readonly ClusterEvent[]> {
    return this.answer(() => this.state.events.after(after));
  }

  // ---------------------------------------------------------------- nodes

  register(request: RegisterRequest): Promise<RegisterAnswer> {
    return this.answer(() => {
      this.checkSeen(request.sequenceSeen, request.nodeId);
      const answer = this.nodeCalls.register(request);
      this.beginIfComplete();
      return answer;
    });
  }

  heartbeat(request: HeartbeatRequest): Promise<HeartbeatAnswer<ReplicaMap>> {
    return this.answer(() => {
      this.checkSeen(request.sequenceSeen, request.nodeId);
      return this.nodeCalls.heartbeat(request);
    });
  }

  nodes(): Promise<readonly NodeListed[]> {
    return this.answer(() => this.state.nodes.listNodes(this.state.nowMs));
  }

  devices(): Promise<readonly DeviceListed[]> {
    return this.answer(() => {
      const counts = this.state.volumes.replicaCounts();
      return this.state.nodes.listDevices((deviceId) => counts.get(deviceId) ?? 0);
    });
  }

  // ---------------------------------------------------------------- who holds volumes

  attach(call: AttachCall): Promise<Decided<ReplicaMap>> {
    return this.decide(() => this.holders.attach(call));
  }

  change(request: ChangeRequest<ReplicaMap>, wanted?: () => boolean): Promise<ChangeAnswer<ReplicaMap>> {
    return this.decide(() => this.holders.change(request, wanted));
  }

  stored(request: StoredRequest): Promise<StoredAnswer> {
    return this.decide(() => this.holders.stored(request));
  }

  detach(request: DetachRequest<ReplicaMap>): Promise<DetachAnswer<ReplicaMap>> {
    return this.decide(() => this.holders.detach(request));
  }

  renew(request: RenewRequest): Promise<RenewAnswer> {
    return this.answer(() => this.holders.renew(request));
  }

  fetch(volume: string): Promise<Decided<ReplicaMap>> {
    return this.decide(() => this.state.decidedOf(this.state.servable(volume)));
  }

  // ---------------------------------------------------------------- volumes

  create(request: CreateRequest): Promise<Decided<ReplicaMap>> {
    return this.decide(() => this.volumeCalls.create(request));
  }

  delete(volume: string): Promise<void> {
    return this.decide(() => this.volumeCalls.delete(volume));
  }

  rename(volume: string, name: string): Promise<Decided<ReplicaMap>> {
    return this.decide(() => this.volumeCalls.rename(volume, name));
  }

  grow(volume: string, sizeBytes: number): Promise<Decided<ReplicaMap>> {
    return this.decide(() => this.volumeCalls.grow(volume, sizeBytes));
  }

  startWithout(volume: string, deviceIds: readonly string[]): Promise<WithoutAnswer<ReplicaMap>> {
    return this.decide(() => this.volumeCalls.startWithout(volume, deviceIds));
  }

  adopt(maps: readonly ReplicaMap[]): Promise<readonly ReplicaMap[]> {
    return this.decide(() => this.volumeCalls.adopt(maps));
  }

  giveBack(volume: string): Promise<readonly ReplicaMap[]> {
    return this.decide(() => this.volumeCalls.giveBack(volume));
  }

  volumes(): Promise<readonly VolumeListed[]> {
    return this.answer(() => this.volumeCalls.list());
  }
}
