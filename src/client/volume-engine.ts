/**
 * A volume over the segment stores of its members: one engine for each volume, whoever the requests come from.
 *
 * ```text
 *   Volume ─▶ VolumeEngine ─┬─ one segment, whole blocks ──────▶ Pieces ─▶ members
 *                           └─ anything else ─▶ CutRequests ──▶ Pieces
 *             VolumeFlush, Reconcile (start), Resync, Scrub (jobs) ──▶ members, Membership ─▶ commit
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
import { EBUSY, EINVAL, EIO, EROFS, ESHUTDOWN } from '../core/errno.js';
import { StrakeError } from '../core/errors.js';
import { BLOCK_BYTES, VOLUME_REQUESTS_MAX } from '../core/limits.js';
import { alignDown, alignUp } from '../core/units.js';
import { grow, rename, replaceMember } from '../layout/map-changes.js';
import { checkMap, type VolumeMap } from '../layout/volume-map.js';
import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';
import { DEVICE_KEEP_ALLOCATED } from '../ports/device.js';
import type { Memory } from '../ports/memory.js';
import type { SegmentMember } from '../ports/segments.js';
import type { Volume } from '../ports/volume.js';
import { Allocation } from './allocation.js';
import { CarefulRead, type VolumeParts } from './careful-read.js';
import type { CopyBuffers } from './copy-buffers.js';
import { CutRequests } from './cut-requests.js';
import type { Job, JobOptions } from './job.js';
import { type MemberSlot, Membership } from './membership.js';
import { PIECE_READ, PIECE_WRITE, PIECE_ZERO } from './piece.js';
import { PATCH_SCRATCH_BYTES, Pieces } from './pieces.js';
import { Reclaim } from './reclaim.js';
import { Reconcile } from './reconcile.js';
import { Resync } from './resync.js';
import { Scrub, scrubbed } from './scrub.js';
import { VolumeCounters, type VolumeState, type VolumeStatus } from './volume-events.js';
import { volumeExtents } from './volume-extents.js';
import { highestFlushNumber, VolumeFlush } from './volume-flush.js';
import { VolumeJobs, type VolumeJobsOptions } from './volume-jobs.js';
import { WriteStamps } from './write-stamps.js';

/** Memory that an engine needs for itself, starting at a page. */
export const VOLUME_ENGINE_SCRATCH_BYTES = PATCH_SCRATCH_BYTES;

/** How often `close` looks whether everything has ended. */
const CLOSE_POLL_MS = 1;

export interface VolumeEngineOptions extends VolumeJobsOptions {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly clock: Clock;
  readonly record: VolumeMap;
  /** By group and position; null where a device is missing. */
  readonly members: readonly (readonly (SegmentMember | null)[])[];
  /** Start of `VOLUME_ENGINE_SCRATCH_BYTES` of page-aligned memory. */
  readonly scratch: number;
  /** Shared with other engines. */
  readonly buffers: CopyBuffers;
  readonly readOnly: boolean;
  /** Makes a map durable on all members that can be reached; rejects if it cannot. */
  readonly commit: (record: VolumeMap) => Promise<void>;
  readonly resync?: JobOptions;
}

type Phase = 'starting' | 'serving' | 'closing' | 'closed';

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
  private readonly allocation: Allocation;
  private readonly pieces: Pieces;
  private readonly cut: CutRequests;
  private readonly flushes: VolumeFlush;
  private readonly stamps: WriteStamps;
  private readonly careful: CarefulRead;
  private readonly parts: VolumeParts;
  /** By group. */
  private readonly reclaims: Reclaim[];
  private readonly counters = new VolumeCounters();
  private readonly segmentBytes: number;
  private readonly jobs: VolumeJobs;
  private phase: Phase = 'starting';
  private ending = false;

  /** Throws `ERR_STRAKE_INVALID_ARGUMENT` if the map contradicts itself or the members. */
  constructor(options: VolumeEngineOptions) {
    const { completions, memory, record, members, scratch, commit, onEvent } = options;
    checkMap(record);
    this.options = options;
    this.readOnly = options.readOnly;
    this.memory = memory;
    this.completions = completions;
    this.segmentBytes = record.segmentBytes;
    this.membership = new Membership(record, members, {
      commit,
      onEvent,
      missedSince: () => this.flushes.missedSince(),
      onChange: () => this.resumeHeld(),
    });
    for (const slot of this.membership.groups.flat()) if (slot.member !== null) this.checkMember(slot, slot.member);
    const { counters, membership } = this;
    this.stamps = new WriteStamps(record.generation);
    this.calls = new Calls(completions);
    this.allocation = new Allocation(membership, this.calls);
    this.pieces = new Pieces(completions, memory, membership, this.allocation, this.stamps, counters, scratch);
    this.cut = new CutRequests(completions, membership, this.pieces, (token) => this.flushes.flush(token));
    this.flushes = new VolumeFlush(completions, membership, this.pieces, this.stamps);
    this.pieces.onRelease = () => this.flushes.markNext();
    const { buffers } = options;
    this.parts = { membership, memory, pieces: this.pieces, calls: this.calls, buffers, counters, onEvent };
    this.careful = new CarefulRead(this.parts);
    this.jobs = new VolumeJobs({ clock: options.clock, calls: this.calls, busy: () => this.requests > 0 }, options);
    this.reclaims = membership.groups.map((_, group) => new Reclaim(this.parts, group, this.flushes));
    this.pieces.onUnreleased = (group, stripe) => {
      this.reclaims[group].note(stripe);
      this.startReclaim(group);
    };
  }

  private checkMember(slot: MemberSlot, member: SegmentMember): void {
    const expected = this.membership.deviceId(slot);
    if (member.deviceId !== expected || member.segmentBytes !== this.segmentBytes) {
      const what = `device ${member.deviceId} is not device ${expected} with segments of ${this.segmentBytes} bytes`;
      throw new StrakeError('INVALID_ARGUMENT', what);
    }
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
    const { membership, stamps, flushes } = this;
    const slots = membership.groups.flat();
    try {
      await this.partFromMissing();
      for (const { member } of slots) if (member !== null) stamps.startAbove(member.stampMax);
      stamps.flushNumber = 1 + highestFlushNumber(slots);
      flushes.startAt(stamps.flushNumber);
      if (!this.readOnly) {
        flushes.markAll();
        await new Reconcile(this.parts, this.allocation, () => this.ending).run();
        stamps.flushNumber += 1;
        flushes.startAt(stamps.flushNumber);
        flushes.markAll();
      }
    } catch (error) {
      membership.stop(error instanceof Error ? error.message : String(error));
      throw error;
    }
    if (membership.stopped !== null) throw new StrakeError('UNAVAILABLE', membership.stopped);
    this.phase = 'serving';
    if (this.readOnly || this.ending) return;
    for (const slot of slots) if (slot.member !== null && slot.state === 'offline') this.startResync(slot, 'resync');
    this.reclaims.forEach((_, group) => {
      this.startReclaim(group);
    });
  }

  /** Members that are missing, and those whose sync was interrupted, are offline from the start. */
  private async partFromMissing(): Promise<void> {
    const { membership } = this;
    for (const group of membership.groups) {
      if (!group.some(({ readable }) => readable)) {
        const names = group.map((slot) => `${membership.deviceId(slot)} (${slot.state})`).join(', ');
        throw new StrakeError('UNAVAILABLE', `no current member of a group is there: ${names}`);
      }
    }
    if (this.readOnly) return;
    for (const slot of membership.groups.flat()) {
      const missing = slot.member === null || slot.state === 'syncing';
      if (missing && slot.state !== 'offline') membership.expel(slot, 'it was missing at the start');
    }
    await membership.idle();
    if (membership.stopped !== null) throw new StrakeError('UNAVAILABLE', membership.stopped);
  }

  /**
   * A member that was offline is back: begins to bring it up to date. Throws `ERR_STRAKE_INVALID_ARGUMENT` if it is
   * another device, `ERR_STRAKE_BUSY` if the place is not offline.
   */
  attach(group: number, position: number, member: SegmentMember): Job {
    const slot = this.offlineSlot(group, position);
    this.checkMember(slot, member);
    slot.member = member;
    return this.startResync(slot, 'resync');
  }

  /** Another device takes the place of a member that is offline. Rejects with a `StrakeError`. */
  async replace(group: number, position: number, deviceId: string, member: SegmentMember): Promise<Job> {
    const slot = this.offlineSlot(group, position);
    if (member.deviceId !== deviceId || member.segmentBytes !== this.segmentBytes) {
      throw new StrakeError('INVALID_ARGUMENT', `device ${member.deviceId} cannot stand in for ${deviceId}`);
    }
    await this.membership.change((record) => replaceMember(record, group, position, deviceId));
    this.offlineSlot(group, position).member = member;
    return this.startResync(slot, 'rebuild');
  }

  private offlineSlot(group: number, position: number): MemberSlot {
    this.checkServing();
    const slot = this.membership.groups[group]?.[position];
    if (slot === undefined) throw new StrakeError('INVALID_ARGUMENT', `no member ${position} in group ${group}`);
    if (slot.state !== 'offline' || this.jobs.isSynced(slot)) {
      throw new StrakeError('BUSY', `member ${position} is ${slot.state}`);
    }
    return slot;
  }

  /**
   * Begins to bring a member up to date again that is there and offline, as after its job was cancelled. Returns whether
   * nothing else has to be done for the place: false if it needs a member of this incarnation. A job that is being given up
   * is waited for.
   */
  async resume(group: number, position: number, incarnation: number): Promise<boolean> {
    await this.jobs.givenUp({ group, position });
    await this.membership.idle();
    this.checkServing();
    const slot = this.membership.groups[group][position];
    if (slot.state !== 'offline' || this.jobs.isSynced(slot)) return true;
    if (slot.member?.incarnation !== incarnation) return false;
    this.startResync(slot, 'resync');
    return true;
  }

  private checkServing(): void {
    if (this.phase !== 'serving') throw new StrakeError('CLOSED', `the volume is ${this.phase}`);
    if (this.ending) throw new StrakeError('CLOSED', 'the volume is being stopped');
    if (this.membership.stopped !== null) throw new StrakeError('UNAVAILABLE', this.membership.stopped);
    if (this.readOnly) throw new StrakeError('READ_ONLY', 'the volume is open read-only');
  }

  private startResync(slot: MemberSlot, kind: 'resync' | 'rebuild'): Job {
    const resync = new Resync(this.parts, this.allocation, slot);
    const work = (job: Job) => resync.run(job, this.flushes);
    const undo = (reason: string) => {
      this.membership.expel(slot, reason);
    };
    const { group, position } = slot;
    const job = this.jobs.start({ kind, group, position }, this.options.resync ?? {}, work, undo);
    job.ended.then(() => this.startReclaim(group));
    return job;
  }

  /** Begins to give back what was discarded while a member of a group was away, if all are current now. */
  private startReclaim(group: number): void {
    if (!this.serving || this.ending || this.membership.stopped !== null) return;
    this.reclaims[group].begin(this.jobs, this.options.resync ?? {}, () => this.startReclaim(group));
  }

  /** Reads everything on every member and mends what is bad. Throws `ERR_STRAKE_VOLUME_BUSY` if another scrub does so. */
  scrub(options: JobOptions = {}): Job {
    this.checkServing();
    const other = this.jobs.unfinished('scrub');
    if (other !== undefined) throw scrubbed(other);
    const scrub = new Scrub(this.parts, this.careful, this.reclaims);
    const work = (job: Job) => scrub.run(job, this.flushes);
    return this.jobs.start({ kind: 'scrub', group: -1, position: -1 }, options, work, () => {});
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

  /** Puts into the map how far members have come, so that an older copy of one is told from it the next time. */
  async noteProgress(): Promise<void> {
    if (this.phase === 'serving' && !this.readOnly && this.membership.stopped === null) {
      await this.membership.change((record) => ({ ...record, mapVersion: record.mapVersion + 1 }));
    }
  }

  /** Resolves when the changes of the map that have been asked for are in effect, or have failed. */
  changesEnded(): Promise<void> {
    return this.membership.idle();
  }

  /** Whether a member is being brought up to date, or that is being given up. */
  isSynced(group: number, position: number): boolean {
    return this.jobs.isSynced({ group, position });
  }

  /** The map that is in effect. */
  get record(): VolumeMap {
    return this.membership.record;
  }

  status(): VolumeStatus {
    const { membership, counters, stamps } = this;
    const groups = membership.groups.map((group) =>
      group.map((slot) => ({
        deviceId: membership.deviceId(slot),
        state: slot.leaving ? ('offline' as const) : slot.state,
        present: slot.member !== null,
      })),
    );
    return {
      state: this.state(),
      reason: membership.stopped ?? '',
      mapVersion: membership.record.mapVersion,
      flushNumber: stamps.flushNumber,
      groups,
      counters: { ...counters },
      jobs: this.jobs.progress,
    };
  }

  private state(): VolumeState {
    const { membership } = this;
    if (membership.stopped !== null) return 'failed';
    if (this.phase === 'starting') return 'starting';
    if (this.phase !== 'serving') return 'closed';
    const slots = membership.groups.flat();
    if (slots.some(({ state, leaving }) => state === 'offline' || leaving)) return 'degraded';
    return slots.some(({ state }) => state === 'syncing') ? 'syncing' : 'ok';
  }

  /** Cancels jobs, and a start that is under way; no others begin. Requests go on. */
  endWork(): void {
    this.ending = true;
    this.jobs.cancel('the volume is being stopped');
  }

  /** Waits for what is in flight, stops jobs, and gives the handlers up. The members stay open. */
  async close(): Promise<void> {
    if (this.phase === 'closed' || this.phase === 'closing') return;
    this.phase = 'closing';
    this.endWork();
    await this.jobs.unwound();
    while (this.requests > 0 || this.flushes.busy || this.calls.running > 0) {
      await this.calls.call((token) => this.options.clock.after(CLOSE_POLL_MS, token));
    }
    await this.membership.idle();
    this.phase = 'closed';
    for (const part of [this.pieces, this.cut, this.flushes, this.calls]) part.close();
  }

  // Requests.

  get sizeBytes(): number {
    return this.membership.record.sizeBytes;
  }

  /** Whether requests are accepted: it has been started, and is not being closed. */
  get serving(): boolean {
    return this.phase === 'serving';
  }

  /** Requests in flight. */
  private get requests(): number {
    return this.pieces.whole + this.cut.inFlight;
  }

  /** Whether the request can be accepted; answers it if not. */
  private admit(lengthBytes: number, offsetBytes: number, modifies: boolean, token: number): boolean {
    let error = 0;
    if (this.membership.stopped !== null) error = -EIO;
    else if (this.phase !== 'serving') error = -ESHUTDOWN;
    else if (modifies && this.readOnly) error = -EROFS;
    else if (lengthBytes < 0 || offsetBytes < 0 || offsetBytes + lengthBytes > this.sizeBytes) error = -EINVAL;
    else if (this.requests >= VOLUME_REQUESTS_MAX) error = -EBUSY;
    if (error === 0 && lengthBytes > 0) return true;
    if (error === -EBUSY) this.counters.refused += 1;
    this.completions.defer(token, error);
    return false;
  }

  /** Whether the range is whole blocks of one segment. */
  private isPiece(lengthBytes: number, offsetBytes: number): boolean {
    return (
      offsetBytes % BLOCK_BYTES === 0 &&
      lengthBytes % BLOCK_BYTES === 0 &&
      (offsetBytes % this.segmentBytes) + lengthBytes <= this.segmentBytes
    );
  }

  private submit(
    kind: number,
    memory: number,
    source: number,
    length: number,
    offset: number,
    flags: number,
    release: boolean,
    token: number,
    answer: number,
  ): void {
    const piece = this.pieces.take(false);
    if (piece === null) return;
    const inSegment = offset % this.segmentBytes;
    piece.kind = kind;
    piece.stripe = (offset - inSegment) / this.segmentBytes;
    piece.block = inSegment / BLOCK_BYTES;
    piece.blocks = length / BLOCK_BYTES;
    piece.memory = memory;
    piece.source = source;
    piece.flags = flags;
    piece.release = release;
    piece.token = token;
    piece.answer = answer;
    this.pieces.submit(piece);
  }

  read(memory: number, lengthBytes: number, offsetBytes: number, token: number): void {
    if (!this.admit(lengthBytes, offsetBytes, false, token)) return;
    const before = offsetBytes % BLOCK_BYTES;
    const span = alignUp(before + lengthBytes, BLOCK_BYTES);
    const start = offsetBytes - before;
    if (this.isPiece(span, start)) {
      this.submit(PIECE_READ, memory - before, -1, span, start, 0, false, token, lengthBytes);
    } else {
      this.cut.start(PIECE_READ, memory, lengthBytes, offsetBytes, 0, false, token, lengthBytes);
    }
  }

  write(memory: number, lengthBytes: number, offsetBytes: number, flags: number, token: number): void {
    this.writeFrom(-1, memory, lengthBytes, offsetBytes, flags, token);
  }

  writeFrom(
    source: number,
    memory: number,
    lengthBytes: number,
    offsetBytes: number,
    flags: number,
    token: number,
  ): void {
    if (!this.admit(lengthBytes, offsetBytes, true, token)) return;
    if (this.isPiece(lengthBytes, offsetBytes)) {
      this.submit(PIECE_WRITE, memory, source, lengthBytes, offsetBytes, flags, false, token, lengthBytes);
      return;
    }
    if (source >= 0) this.memory.copy(memory, source, lengthBytes);
    this.cut.start(PIECE_WRITE, memory, lengthBytes, offsetBytes, flags, false, token, lengthBytes);
  }

  zero(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    if (!this.admit(spanBytes, offsetBytes, true, token)) return;
    this.cut.start(PIECE_ZERO, 0, spanBytes, offsetBytes, flags, this.mayRelease(flags), token, 0);
  }

  /** Zeroes the whole blocks within the range and frees what that empties; the rest keeps its content. */
  discardRange(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    if (!this.admit(spanBytes, offsetBytes, true, token)) return;
    const start = alignUp(offsetBytes, BLOCK_BYTES);
    const end = alignDown(offsetBytes + spanBytes, BLOCK_BYTES);
    if (end <= start) this.completions.defer(token, 0);
    else this.cut.start(PIECE_ZERO, 0, end - start, start, flags, this.mayRelease(flags), token, 0);
  }

  private mayRelease(flags: number): boolean {
    return (flags & DEVICE_KEEP_ALLOCATED) === 0;
  }

  flush(token: number): void {
    if (this.membership.stopped !== null || this.phase !== 'serving') {
      this.completions.defer(token, this.phase === 'serving' ? -EIO : -ESHUTDOWN);
    } else if (this.readOnly) {
      this.completions.defer(token, 0);
    } else {
      this.flushes.flush(token);
    }
  }

  extents(offsetBytes: number, spanBytes: number, memory: number, roomBytes: number, token: number): void {
    if (!this.admit(spanBytes, offsetBytes, false, token)) return;
    const count = volumeExtents(this.membership, offsetBytes, spanBytes, this.memory.view, memory, roomBytes);
    this.completions.defer(token, count);
  }
}
