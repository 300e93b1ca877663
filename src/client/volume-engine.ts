/**
 * A volume over the segment stores of its members: one engine for each volume, whoever the requests come from.
 *
 * ```text
 *   Volume ─▶ VolumeEngine ─┬─ one segment, whole blocks ────────▶ Pieces ─▶ Mirror ─▶ members
 *                           └─ anything else ─▶ SplitRequests ──▶ Pieces
 *             VolumeFlush, Reconcile (start), CopyJobs (resync, scrub, reclaim) ──▶ members, Membership ─▶ commit
 * ```
 *
 * Invariants: operations on one block are carried out one by one (`BlockOrder`); a write is acknowledged when every member
 * that the durable map calls in-sync has it; a read returns what was acknowledged last, or what is being written, or an
 * error.
 *
 * Fault model: members fail, vanish, lose power or rot, one or all; the process dies at any point. What cannot be done
 * without guessing is refused: the request fails, or, if the map cannot be changed, the volume stops.
 */

import { Calls } from '../core/calls.js';
import { check, unlessInternal } from '../core/check.js';
import { DEFAULT_TIMES } from '../core/cluster-times.js';
import { ESTALE } from '../core/errno.js';
import { StrakeError } from '../core/errors.js';
import { Fence } from '../core/fence.js';
import { BLOCK_BYTES } from '../core/limits.js';
import { grow, rename } from '../layout/map-changes.js';
import { checkMap, type VolumeMap } from '../layout/volume-map.js';
import type { CompletionPort } from '../ports/completion.js';
import type { ChunkIndex, Generation, GroupIndex, MemberPosition } from '../ports/ids.js';
import type { Memory } from '../ports/memory.js';
import type { SegmentMember } from '../ports/segment-member.js';
import type { Volume } from '../ports/volume.js';
import type { VolumeEngineOptions } from './engine-options.js';
import type { Job, JobOptions } from './jobs/job.js';
import { VolumeJobs } from './jobs/volume-jobs.js';
import { MemberWork } from './members/member-work.js';
import { Allocation } from './mirror/allocation.js';
import { CopyJobs, checkMembers } from './mirror/copy-jobs.js';
import { Membership } from './mirror/membership.js';
import { Mirror } from './mirror/mirror.js';
import { ReadRepair } from './mirror/read-repair.js';
import { Holding } from './requests/holding.js';
import { OwnFlush } from './requests/own-flush.js';
import { PATCH_SCRATCH_BYTES } from './requests/patches.js';
import { Pieces } from './requests/pieces.js';
import { SplitRequests } from './requests/split-requests.js';
import { VolumeFlush } from './requests/volume-flush.js';
import { VolumeRequests } from './requests/volume-requests.js';
import { WriteStamps } from './requests/write-stamps.js';
import { isUsed, settleAtEnd, workEnded } from './volume-end.js';
import { VolumeCounters, type VolumeStatus } from './volume-events.js';
import type { VolumeParts } from './volume-parts.js';
import { startVolume } from './volume-start.js';
import { type VolumePhase, volumeStatus } from './volume-status.js';

export type { VolumeEngineOptions } from './engine-options.js';

/** Memory that an engine needs for itself, starting at a page. */
export const VOLUME_ENGINE_SCRATCH_BYTES = PATCH_SCRATCH_BYTES;

export class VolumeEngine implements Volume {
  readonly preferredBlockBytes = BLOCK_BYTES;
  readonly readOnly: boolean;
  readonly discard = true;
  readonly fastZero = true;
  private readonly options: VolumeEngineOptions;
  private readonly memory: Memory;
  private readonly completions: CompletionPort;
  private readonly membership: Membership;
  private readonly calls: Calls;
  private readonly work: MemberWork;
  private readonly allocation: Allocation;
  private readonly pieces: Pieces;
  private readonly split: SplitRequests;
  private readonly flushes: VolumeFlush;
  private readonly ownFlush: OwnFlush;
  private readonly stamps: WriteStamps;
  private readonly repair: ReadRepair;
  private readonly parts: VolumeParts;
  private copies: CopyJobs;
  private readonly requests: VolumeRequests;
  private readonly holding: Holding | null;
  private readonly counters = new VolumeCounters();
  private readonly jobs: VolumeJobs;
  private readonly fence = new Fence();
  private phase: VolumePhase = 'starting';
  private ending = false;
  /** It has served, and may have been written to. */
  private served = false;
  /** Something was acknowledged that no flush covered when it was suspended. */
  private unflushed = false;
  private isDeposed = false;

  /** Throws `ERR_STRAKE_INVALID_ARGUMENT` if the map contradicts itself or the members. */
  constructor(options: VolumeEngineOptions) {
    const { completions, memory, record, members, scratch, commit, renew, onEvent } = options;
    checkMap(record);
    this.options = options;
    this.readOnly = options.readOnly;
    this.memory = memory;
    this.completions = completions;
    const { holdMs } = options;
    this.holding = holdMs === undefined ? null : new Holding(options.clock, options.watch, holdMs);
    this.membership = new Membership(record, members, {
      commit,
      awaits: holdMs !== undefined,
      renew: renew ?? (() => Promise.resolve(this.record)),
      onEvent,
      missedSince: () => this.flushes.missedSince(),
      onChange: () => this.resumeHeld(),
    });
    const { counters, membership } = this;
    checkMembers(membership);
    this.stamps = new WriteStamps(record.generation);
    // What a member has not done because of a newer map is asked again when that has taken effect.
    this.calls = new Calls(completions, {
      isRetried: (result) => result === -ESTALE,
      mark: () => membership.effects,
      next: (effects) => membership.nextEffect(effects),
    });
    this.work = new MemberWork(this.calls, () => this.stamps);
    this.allocation = new Allocation(membership, this.work, (group) => this.makeRoom(group));
    this.pieces = this.newPieces(scratch);
    const { pieces, holding, calls, work } = this;
    const flush = (token: number) => this.flushes.flush(token);
    this.split = new SplitRequests({ completions, membership, pieces, holding, flush });
    this.flushes = new VolumeFlush(completions, membership, this.pieces, this.stamps, {
      onBegin: () => this.ownFlush.begun(),
      onDone: () => this.copies.releaseSettled(),
      onHeld: () => this.holding?.begun() ?? 0,
      oldestDiscard: (otherwise) => this.copies.oldestDiscard(otherwise),
    });
    holding?.add(this.flushes);
    this.requests = new VolumeRequests({
      ...{ completions, memory, membership, counters, pieces: this.pieces, split: this.split, flushes: this.flushes },
      readOnly: options.readOnly,
      serving: () => this.serving,
    });
    const { buffers, clock, watch, ownFlushMs = () => DEFAULT_TIMES.ownFlushMs } = options;
    this.ownFlush = new OwnFlush(clock, watch, ownFlushMs, () => calls.call((token) => this.flushes.flushOwn(token)));
    const onModified = (stripe: ChunkIndex) => this.ownFlush.note(stripe);
    this.parts = { membership, memory, pieces, calls, work, buffers, counters, onModified, onEvent };
    this.repair = new ReadRepair(this.parts);
    this.jobs = new VolumeJobs({ clock, calls: this.calls, busy: () => this.requests.inFlight > 0 }, options);
    this.copies = this.newCopies();
  }

  /** What was discarded under an earlier generation is given back when the copies are made equal. */
  private newCopies(): CopyJobs {
    const { parts, allocation, flushes, repair, jobs, membership, options } = this;
    return new CopyJobs({
      ...{ parts, allocation, flushes, repair, jobs },
      options: options.resync ?? {},
      checkServing: () => this.checkServing(),
      mayReclaim: () => this.serving && !this.ending && membership.stopped === null && !membership.suspended,
    });
  }

  private newPieces(scratch: number): Pieces {
    const { completions, memory, membership, allocation, stamps, counters, holding } = this;
    const mirror = { completions, memory, membership, allocation, stamps, holding };
    return new Pieces({
      ...{ completions, memory, membership, counters, holding, scratch },
      io: (source) => new Mirror({ ...mirror, ...source }),
      repairRead: (piece) => void this.repair.run(piece),
      onPartFree: () => this.split.feedStarved(),
      onModified: (stripe) => this.ownFlush.note(stripe),
      onDiscarded: (group, stripe, flushNumber) => this.copies.noteDiscarded(group, stripe, flushNumber),
    });
  }

  private resumeHeld(): void {
    this.pieces.resumeHeld();
    this.flushes.resumeHeld();
  }

  // Control.

  /**
   * Makes the members agree; from then on requests are served. Members that are present and not current begin to be brought
   * up to date. Rejects with `ERR_STRAKE_UNAVAILABLE` if a group has no current member.
   */
  async start(): Promise<void> {
    check(this.phase === 'starting' && this.membership.stopped === null, 'an engine is started twice');
    await this.makeReady();
    this.phase = 'serving';
    this.served = !this.readOnly;
    if (this.readOnly || this.ending) return;
    this.copies.begin();
  }

  private makeReady(): Promise<void> {
    const { parts, allocation, stamps, flushes, readOnly } = this;
    return startVolume({ parts, allocation, stamps, flushes, readOnly, ending: () => this.ending });
  }

  // Another generation.

  /** Whether requests are held until it is known who goes on. */
  get suspended(): boolean {
    return this.membership.suspended;
  }

  /** Under which held requests were sent, unless somebody has served a later one since. */
  get heldGeneration(): Generation {
    return this.stamps.generation;
  }

  /**
   * Another client has attached the volume, or all copies of a group were opened anew: nothing is sent any more. Requests that
   * are under way and those that come are held, until the volume is begun again or deposed. Returns whether that is so.
   */
  suspend(reason: string): boolean {
    if (this.phase !== 'serving' || this.ending || this.holding === null) return false;
    this.unflushed ||= this.hasUnflushed;
    this.membership.suspend(reason);
    this.jobs.cancel('the volume is suspended');
    return this.membership.suspended;
  }

  /** Resolves when nothing is under way at the members of a volume that is suspended. */
  async quiet(): Promise<void> {
    const { pieces, flushes, calls, copies, membership, jobs } = this;
    check(membership.suspended, 'what goes on is waited for as if it were suspended');
    await jobs.unwound();
    await pieces.quiet();
    await workEnded(flushes, calls, copies);
    await membership.idle();
  }

  /**
   * Begins a volume that is suspended and quiet again, under the map of a later generation, in between of which nobody has served
   * it. What is held begins anew. Rejects with a `StrakeError`; then it is suspended still, or has stopped.
   */
  async restart(record: VolumeMap, members: readonly (readonly (SegmentMember | null)[])[]): Promise<void> {
    const { membership, stamps, flushes } = this;
    checkMap(record);
    if (this.unflushed && membership.hasLost(record, members)) flushes.failNext();
    membership.restart(record, members);
    checkMembers(membership);
    stamps.restart(record.generation);
    this.copies = this.newCopies();
    await this.makeReady();
    // To make the copies equal has ended with a flush of all that they have.
    this.ownFlush.begun();
    this.unflushed = false;
    for (const part of [membership, this.pieces, flushes]) part.goOn();
    if (!this.ending) this.copies.begin();
  }

  /**
   * A member that was offline is back: begins to bring it up to date. Throws `ERR_STRAKE_INVALID_ARGUMENT` if it is
   * another device, `ERR_STRAKE_BUSY` if the place is not offline.
   */
  attach(group: GroupIndex, position: MemberPosition, member: SegmentMember): Job {
    this.checkServing();
    return this.copies.attach(group, position, member);
  }

  /** Another device takes the place of a member that is offline. Rejects with a `StrakeError`. */
  async replace(group: GroupIndex, position: MemberPosition, deviceId: string, member: SegmentMember): Promise<Job> {
    this.checkServing();
    return this.copies.replace(group, position, deviceId, member);
  }

  /**
   * Begins to bring a member up to date again that is there and offline, as after its job was cancelled. Returns whether
   * nothing else has to be done for the place: false if it needs a member of this incarnation. A job that is being given up
   * is waited for.
   */
  resume(group: GroupIndex, position: MemberPosition, incarnation: number): Promise<boolean> {
    return this.copies.resume(group, position, incarnation);
  }

  private checkServing(): void {
    if (this.phase !== 'serving') throw new StrakeError('CLOSED', `the volume is ${this.phase}`);
    if (this.ending) throw new StrakeError('CLOSED', 'the volume is being stopped');
    if (this.membership.stopped !== null) throw new StrakeError('UNAVAILABLE', this.membership.stopped);
    if (this.suspended) throw new StrakeError('UNAVAILABLE', 'the volume is being attached anew');
    if (this.readOnly) throw new StrakeError('READ_ONLY', 'the volume is open read-only');
  }

  /** Reads everything on every member and mends what is bad. Throws `ERR_STRAKE_VOLUME_BUSY` if another scrub does so. */
  scrub(options: JobOptions = {}): Job {
    this.checkServing();
    return this.copies.scrub(options);
  }

  /** Makes the volume larger. Rejects with `ERR_STRAKE_INVALID_ARGUMENT` if it would be smaller. */
  async grow(sizeBytes: number): Promise<void> {
    this.checkServing();
    await this.membership.change((record) => grow(record, sizeBytes));
  }

  /** Gives the volume another name. Requests go on meanwhile. */
  async rename(name: string): Promise<void> {
    this.checkServing();
    await this.membership.change((record) => rename(record, name));
  }

  /**
   * The map with which the right to write is given back once the volume is closed: it says how far the members have come, so
   * that an older copy of one is told from it the next time. Null if the volume has not served writes, or has stopped.
   */
  get lastMap(): VolumeMap | null {
    const { membership } = this;
    return this.phase === 'closed' && this.served && membership.stopped === null ? membership.latest : null;
  }

  /** Flushes, and gives back what was discarded before. Resolves when that is done as far as it can be. */
  async releaseDiscarded(): Promise<void> {
    for (const group of this.membership.groups.keys()) await this.copies.makeRoom(group);
  }

  /** As `releaseDiscarded`, for groups on these devices, where another volume needs room. Does nothing unless it is served. */
  async releaseOn(deviceIds: readonly string[]): Promise<void> {
    for (const [index, group] of this.membership.groups.entries()) {
      if (this.phase !== 'serving' || this.ending || this.membership.stopped !== null) return;
      if (group.some((slot) => deviceIds.includes(this.membership.deviceId(slot)))) await this.copies.makeRoom(index);
    }
  }

  /** Room that other volumes on the same devices can give back counts as well. */
  private async makeRoom(group: GroupIndex): Promise<void> {
    const deviceIds = this.membership.groups[group].map((slot) => this.membership.deviceId(slot));
    await Promise.all([this.copies.makeRoom(group), this.options.makeRoom(deviceIds)]);
  }

  /**
   * A device answers nothing any more: takes it out of the map wherever it can be done without. Resolves to whether that was
   * everywhere; otherwise a group has no current member left that answers.
   */
  async loseDevice(deviceId: string, reason: string): Promise<boolean> {
    const { membership } = this;
    const slots = membership.slotsOf(deviceId);
    const leaving = slots.map((slot) => membership.expel(slot, reason));
    await membership.idle();
    return !leaving.includes(false) && membership.stopped === null;
  }

  /** Somebody else has decided a newer map of this generation: it is brought into effect, after changes asked for before. */
  adopt(): void {
    this.membership.adopt();
  }

  /** Another client has the right to write: requests end with errors from now on, and nothing is sent any more. */
  depose(reason: string): void {
    this.isDeposed = true;
    this.membership.stop(reason);
  }

  /** The same as `loseDevice` for a volume that is managed: its members may come back, unless it is just being closed. */
  partFrom(deviceId: string, reason: string): void {
    for (const slot of this.membership.slotsOf(deviceId)) this.membership.expel(slot, reason);
    if (this.phase === 'closing') this.membership.endAwaiting();
  }

  /**
   * The device of a member that does not answer is back. Returns whether it goes on in its place: it is in the same life, so that
   * it has all that it had, and what it has not done is asked again.
   */
  rejoin(group: GroupIndex, position: MemberPosition, member: SegmentMember): boolean {
    const slot = this.membership.groups[group][position];
    if (!this.membership.rejoin(slot, member)) return false;
    this.pieces.returned(slot);
    this.flushes.returned(slot);
    this.membership.resume();
    return true;
  }

  /** What whoever brings members back has to know. */
  get members(): Pick<Membership, 'isMissed' | 'isAwaiting' | 'isChanging'> {
    return this.membership;
  }

  /** Whether anything was acknowledged that no flush covers. */
  get hasUnflushed(): boolean {
    return this.ownFlush.modified || this.flushes.busy;
  }

  /** Whether it has come to its end, and something that it has acknowledged may not be on stable storage. */
  get mayLose(): boolean {
    const { stopped } = this.membership;
    return this.served && stopped !== null && !this.isDeposed && (this.hasUnflushed || this.flushes.hasFailed);
  }

  /** Resolves when the changes of the map that have been asked for are in effect, or have failed. */
  changesEnded(): Promise<void> {
    return this.membership.idle();
  }

  /** Whether a member is being brought up to date, or that is being given up. */
  isSynced(group: GroupIndex, position: MemberPosition): boolean {
    return this.jobs.isSynced({ group, position });
  }

  /** The map that is in effect. */
  get record(): VolumeMap {
    return this.membership.record;
  }

  status(): VolumeStatus {
    const { counters, stamps, phase } = this;
    return volumeStatus(this.membership, phase, counters, stamps.flushNumber, this.jobs.progress);
  }

  /** Cancels jobs, and a start that is under way; no others begin. Requests go on. */
  endWork(): void {
    this.ending = true;
    this.jobs.cancel('the volume is being stopped');
  }

  onFence(told: () => void): void {
    this.fence.onRaise(told);
  }

  /** Tells front ends, waits for what is in flight, stops jobs, and gives the handlers up. The members stay open. */
  async close(): Promise<void> {
    if (this.phase === 'closed' || this.phase === 'closing') return;
    if (this.suspended) this.membership.stop('it was closed while it was suspended');
    this.phase = 'closing';
    this.fence.raise();
    this.endWork();
    this.ownFlush.close();
    this.membership.endAwaiting();
    // What was given up goes on only as long as something is waited for.
    if (this.options.holdMs?.() === 0 && isUsed(this.parts, this.flushes)) {
      this.membership.stop('it was closed while requests waited');
    }
    await this.jobs.unwound();
    // No request begins any more. One that is in flight may discard something.
    await this.lastEnded();
    // What was discarded and not flushed since would have to be looked for at the next start. Where this fails that does it.
    const goesOn = this.membership.stopped === null && !this.readOnly;
    if (goesOn) await this.releaseDiscarded().catch(unlessInternal(undefined));
    await this.lastEnded();
    if (this.served && this.membership.stopped === null) {
      await settleAtEnd(this.parts, this.flushes, this.ownFlush.modified);
    }
    await this.lastEnded();
    await this.membership.idle();
    this.phase = 'closed';
    this.holding?.close();
    for (const part of [this.pieces, this.split, this.flushes, this.calls]) part.close();
  }

  /** Resolves when nothing is in flight. What ends may be followed by something else, such as a discard with FUA by a flush. */
  private async lastEnded(): Promise<void> {
    const { pieces, split, flushes, calls, copies } = this;
    while (pieces.inFlight > 0 || split.inFlight > 0 || flushes.busy || calls.running > 0 || copies.busy) {
      await Promise.all([pieces.ended(), split.ended(), flushes.ended(), calls.idle(), copies.idle()]);
    }
  }

  // Requests.

  get sizeBytes(): number {
    return this.membership.record.sizeBytes;
  }

  /** Whether requests are accepted: it has been started, and is not being closed. */
  get serving(): boolean {
    return this.phase === 'serving';
  }

  read(memory: number, lengthBytes: number, offsetBytes: number, token: number): void {
    this.requests.read(memory, lengthBytes, offsetBytes, token);
  }

  write(memory: number, lengthBytes: number, offsetBytes: number, flags: number, token: number): void {
    this.requests.writeFrom(-1, memory, lengthBytes, offsetBytes, flags, token);
  }

  writeFrom(
    source: number,
    memory: number,
    lengthBytes: number,
    offsetBytes: number,
    flags: number,
    token: number,
  ): void {
    this.requests.writeFrom(source, memory, lengthBytes, offsetBytes, flags, token);
  }

  zero(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    this.requests.zero(offsetBytes, spanBytes, flags, token);
  }

  /** Zeroes the whole blocks within the range and frees what that empties; the rest keeps its content. */
  discardRange(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    this.requests.discardRange(offsetBytes, spanBytes, flags, token);
  }

  flush(token: number): void {
    this.requests.flush(token);
  }

  extents(offsetBytes: number, spanBytes: number, memory: number, roomBytes: number, token: number): void {
    this.requests.extents(offsetBytes, spanBytes, memory, roomBytes, token);
  }
}
