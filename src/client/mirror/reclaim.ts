/**
 * Gives back the slots of segments that were discarded: in two steps, a zero with a stamp, and later the release.
 *
 * What was zeroed is told by entries, in order with all other writes; a slot that is gone tells nothing. So a slot is given back
 * only when
 *
 * 1. the zero is *settled*: a flush that all members remember has made it durable. A device that has lost it all the same lacks
 *    that flush, and is known for it;
 * 2. every member of the group is current. One that comes back learns from the entries what was zeroed;
 * 3. nothing else happens in the segment, and no block of it is stored or kept on any member.
 *
 * That is done after each flush for what was discarded before it. When a member has become current again, a job looks through the
 * segments that were changed since the first of those that were away had left; from where on is in the map, so this goes on
 * after a restart. It ends when a member leaves, and begins anew when that one is current again. What a crash leaves is given
 * back at the start: no engine tells that anything is settled which it has yet to release, unless the map tells the job of it.
 */

import { allEnded } from '../../core/all-ended.js';
import { check, unlessInternal } from '../../core/check.js';
import { StrakeError } from '../../core/errors.js';
import { inLanes } from '../../core/in-lanes.js';
import { BLOCK_BYTES, DISCARDS_NOTED_MAX, RELEASES_AT_ONCE } from '../../core/limits.js';
import { allVacant } from '../../layout/block-entry.js';
import { isBefore } from '../../layout/flush-id.js';
import { unreleasedSince } from '../../layout/volume-map.js';
import type { ChunkIndex, FlushNumber, GroupIndex } from '../../ports/ids.js';
import { LIST_ZERO } from '../../ports/segment-list.js';
import type { Job, JobOptions } from '../jobs/job.js';
import type { VolumeJobs } from '../jobs/volume-jobs.js';
import type { VolumeFlush } from '../requests/volume-flush.js';
import type { VolumeParts } from '../volume-parts.js';
import type { MemberSlot } from './membership.js';
import { entriesOf } from './reconcile.js';

/** Bytes of a block's entry. */
const ENTRY_BYTES = 16;

export class Reclaim {
  private readonly parts: VolumeParts;
  private readonly group: GroupIndex;
  private readonly flushes: Pick<VolumeFlush, 'flushOwn' | 'markNext' | 'rememberedBelow'>;
  /** Segments that were discarded, and the flush number under which. */
  private readonly discarded = new Map<number, number>();
  private releasing: Promise<void> | null = null;
  private departures = 0;

  constructor(
    parts: VolumeParts,
    group: GroupIndex,
    flushes: Pick<VolumeFlush, 'flushOwn' | 'markNext' | 'rememberedBelow'>,
  ) {
    this.parts = parts;
    this.group = group;
    this.flushes = flushes;
  }

  /** Blocks of a segment were discarded, under this flush number. What is not noted is found by the next job, or scrub. */
  note(stripe: ChunkIndex, flushNumber: FlushNumber): void {
    if (this.discarded.size >= DISCARDS_NOTED_MAX && !this.discarded.has(stripe)) return;
    // One that was begun earlier may end later: the segment is settled when both are.
    this.discarded.set(stripe, Math.max(flushNumber, this.discarded.get(stripe) ?? 0));
    check(this.discarded.size <= DISCARDS_NOTED_MAX, 'more discards are noted than may be', this.discarded.size);
    // The release relies on it that whoever lacks this flush is known for that.
    this.flushes.markNext();
  }

  /** The lowest flush number of a discard that has yet to be followed by its release, or `otherwise`. */
  oldest(otherwise: number): number {
    let oldest = otherwise;
    for (const flushNumber of this.discarded.values()) oldest = Math.min(oldest, flushNumber);
    return oldest;
  }

  /**
   * The same of those that nothing tells of but what is settled. What was discarded since a member has left is found by a job,
   * from the point that the map names, whoever serves the volume then.
   */
  oldestUntold(otherwise: number): number {
    const { record } = this.parts.membership;
    const since = unreleasedSince(record, this.group);
    if (since === null) return this.oldest(otherwise);
    const { generation } = record;
    check(since.generation <= generation, 'a copy lacks what a later generation has discarded', since.generation);
    let oldest = otherwise;
    for (const flushNumber of this.discarded.values()) {
      if (isBefore({ generation, flushNumber }, since)) oldest = Math.min(oldest, flushNumber);
    }
    return oldest;
  }

  /** Whether all members are current, and slots may be there to be given back that a job has to look for. */
  private get due(): boolean {
    const { membership } = this.parts;
    return membership.complete(this.slots) && unreleasedSince(membership.record, this.group) !== null;
  }

  private get slots(): MemberSlot[] {
    return this.parts.membership.groups[this.group];
  }

  /** A flush has ended: begins to give back what was discarded before it. Most flushes come after no discard. */
  noteFlushed(): void {
    if (this.discarded.size > 0) void this.release();
  }

  /** Gives back what was discarded and is settled. Resolves when all of it that could be has been. */
  release(): Promise<void> {
    this.releasing ??= this.releaseSettled().finally(() => {
      this.releasing = null;
    });
    return this.releasing;
  }

  /** Whether something of this goes on. */
  get busy(): boolean {
    return this.releasing !== null;
  }

  /** Resolves when nothing of this goes on. */
  idle(): Promise<void> {
    return this.releasing ?? Promise.resolve();
  }

  private async releaseSettled(): Promise<void> {
    const { membership } = this.parts;
    if (!membership.complete(this.slots)) return;
    const below = this.flushes.rememberedBelow;
    const settled = [...this.discarded].filter(([, flushNumber]) => flushNumber < below).map(([stripe]) => stripe);
    // The latest first: their tables are the likeliest to be in memory still.
    await inLanes(RELEASES_AT_ONCE, settled.reverse(), async (stripe) => {
      // What is being written to needs its slot, or is discarded anew.
      if (membership.stopped !== null || !this.parts.pieces.idle(stripe)) return;
      // A member that fails here is known for it by the next request; nothing is lost by a slot that is kept.
      await this.giveBack(stripe).catch(unlessInternal(false));
    });
  }

  /** Begins the job if it is due and not under way. `again` is called when there may be more to do. */
  begin(jobs: VolumeJobs, options: JobOptions, again: () => void): void {
    const place = { group: this.group, position: -1 };
    if (!this.due || jobs.isSynced(place)) return;
    const job = jobs.start(
      { kind: 'reclaim', ...place },
      options,
      (one) => this.run(one),
      () => {},
    );
    job.unwound.then(() => {
      if (job.progress.state === 'done' || this.interrupted) again();
    });
  }

  /** Rejects with a `StrakeError`; what is left is found by the next one. */
  private async run(job: Job): Promise<void> {
    const { membership, pieces } = this.parts;
    this.departures = membership.departures;
    await pieces.drained(this.group);
    // All that has been zeroed until now is settled.
    await this.flush();
    let released = false;
    await job.each(await this.candidates(), membership.record.segmentBytes, async (stripe) => {
      if (this.interrupted) job.cancel('a copy has left');
      await job.pace((membership.record.segmentBytes / BLOCK_BYTES) * ENTRY_BYTES);
      if (await this.giveBack(stripe)) released = true;
    });
    // Space is there for others when it is durable that it was given back.
    if (released) await this.flush();
    if (this.interrupted) job.cancel('a copy has left');
    job.check();
    membership.released(this.group);
  }

  private async flush(): Promise<void> {
    this.flushes.markNext();
    const result = await this.parts.calls.call((token) => this.flushes.flushOwn(token));
    if (result < 0) throw new StrakeError('IO', 'a flush for giving back slots failed');
  }

  /** Whether a member has left since the last run began: what was discarded meanwhile has slots again. */
  private get interrupted(): boolean {
    return this.departures !== this.parts.membership.departures;
  }

  /** Segments that hold nothing, and were changed since a member that is current again had left. */
  private async candidates(): Promise<number[]> {
    const since = unreleasedSince(this.parts.membership.record, this.group);
    const stripes = new Set<number>();
    for (const { member } of this.slots) {
      if (since === null) break;
      if (member !== null) await this.parts.work.list(member, LIST_ZERO, since, (stripe) => stripes.add(stripe));
    }
    return [...stripes].sort((one, other) => one - other);
  }

  /** Gives the slots of a segment back if no member needs them. Returns whether it has done so. */
  async giveBack(stripe: ChunkIndex): Promise<boolean> {
    const { membership, pieces } = this.parts;
    if (!membership.complete(this.slots)) return false;
    // Most have content, which one copy tells, and nobody has to wait.
    const first = this.slots.find(({ segments }) => segments.has(stripe));
    if (first === undefined || !allVacant(await entriesOf(this.parts.work, first, stripe))) {
      if (this.isSettled(stripe)) this.discarded.delete(stripe);
      return false;
    }
    return pieces.locked(stripe, 0, membership.record.segmentBytes / BLOCK_BYTES, () => this.giveBackHeld(stripe));
  }

  /** Whether nothing of a segment has been zeroed since the last flush that is remembered began. */
  private isSettled(stripe: ChunkIndex): boolean {
    const zeroed = this.discarded.get(stripe);
    return zeroed === undefined || zeroed < this.flushes.rememberedBelow;
  }

  private async giveBackHeld(stripe: ChunkIndex): Promise<boolean> {
    const { work, membership } = this.parts;
    if (!membership.complete(this.slots) || !this.isSettled(stripe)) return false;
    const entries = await allEnded(this.slots.map((slot) => entriesOf(this.parts.work, slot, stripe)));
    if (!membership.complete(this.slots)) return false;
    this.discarded.delete(stripe);
    if (!entries.every(allVacant)) return false;
    const having = this.slots.filter(({ segments }) => segments.has(stripe));
    await allEnded(
      having.map(async (slot) => {
        const { present, segments } = slot;
        const result = await work.releaseZero(present, segments, stripe);
        if (result < 0 && slot.member === present) membership.expel(slot, 'a slot could not be given back');
      }),
    );
    // The slots are there for others when that is durable.
    this.parts.onModified(stripe);
    return having.length > 0;
  }
}
