/**
 * Gives back the slots of segments that were discarded while a copy was away.
 *
 * A member that comes back learns from the entries what was zeroed, so a discard keeps the slots while any member of the group is
 * not current. When all are, segments that were changed since the first of them left are looked at, and those in which no
 * block is stored or kept lose their slots: alone with the segment, on all members or on none, as a discard would do it.
 * A member that cannot do it leaves the map. What a crash leaves on some members only is given back at the start.
 *
 * From where on segments have to be looked at is in the map, so this goes on after a restart. It ends when a member leaves, and
 * begins anew when that one is current again.
 */

import { StrakeError } from '../../core/errors.js';
import { BLOCK_BYTES } from '../../core/limits.js';
import { allVacant } from '../../layout/block-entry.js';
import { isBefore } from '../../layout/flush-id.js';
import { unreleasedSince } from '../../layout/volume-map.js';
import type { Job, JobOptions } from '../jobs/job.js';
import type { VolumeJobs } from '../jobs/volume-jobs.js';
import type { VolumeFlush } from '../requests/volume-flush.js';
import type { VolumeParts } from '../volume-parts.js';
import type { MemberSlot } from './membership.js';
import { allEnded, entriesOf } from './reconcile.js';

/** Bytes of a block's entry. */
const ENTRY_BYTES = 16;

export class Reclaim {
  private readonly parts: VolumeParts;
  private readonly group: number;
  private readonly flushes: Pick<VolumeFlush, 'flush' | 'markNext'>;
  /** Segments that were discarded too late to be found by when they were changed; at most as many as pieces. */
  private readonly noted = new Set<number>();
  private departures = 0;

  constructor(parts: VolumeParts, group: number, flushes: Pick<VolumeFlush, 'flush' | 'markNext'>) {
    this.parts = parts;
    this.group = group;
    this.flushes = flushes;
  }

  /** A discard could not give the slot of a segment back, and all members are current now. */
  note(stripe: number): void {
    this.noted.add(stripe);
  }

  /** Whether all members are current, and slots may be there to be given back. */
  private get due(): boolean {
    const { membership } = this.parts;
    if (!membership.complete(this.slots)) return false;
    return this.noted.size > 0 || unreleasedSince(membership.record, this.group) !== null;
  }

  private get slots(): MemberSlot[] {
    return this.parts.membership.groups[this.group];
  }

  /** Begins it as a job if it is due and not under way. `again` is called when there may be more to do. */
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
    const { calls, membership, pieces } = this.parts;
    this.departures = membership.departures;
    await pieces.drained(this.group);
    let released = false;
    await job.each(this.candidates(), membership.record.segmentBytes, async (stripe) => {
      if (this.interrupted) job.cancel('a copy has left');
      await job.pace((membership.record.segmentBytes / BLOCK_BYTES) * ENTRY_BYTES);
      if (await this.giveBack(stripe)) released = true;
    });
    // Space is there for others when it is durable that it was given back.
    const result = released ? await calls.call((token) => this.flushes.flush(token)) : 0;
    if (result < 0) throw new StrakeError('IO', 'the flush after giving back slots failed');
    if (this.interrupted) job.cancel('a copy has left');
    job.check();
    membership.released(this.group);
  }

  /** Whether a member has left since the last run began: what was discarded meanwhile has slots again. */
  private get interrupted(): boolean {
    return this.departures !== this.parts.membership.departures;
  }

  /** Segments that were changed since a member that is current again had left. */
  private candidates(): number[] {
    const since = unreleasedSince(this.parts.membership.record, this.group);
    const stripes = new Set(this.noted);
    this.noted.clear();
    for (const { member } of this.slots) {
      if (since === null) break;
      member?.visit((stripe, generation, flushNumber) => {
        if (!isBefore({ generation, flushNumber }, since)) stripes.add(stripe);
      });
    }
    return [...stripes].sort((one, other) => one - other);
  }

  /** Gives the slots of a segment back if no member needs them. Returns whether it has done so. */
  async giveBack(stripe: number): Promise<boolean> {
    const { membership, pieces } = this.parts;
    if (!membership.complete(this.slots)) return false;
    // Most have content, which one copy tells, and nobody has to wait.
    const first = this.slots.find(({ present }) => present.has(stripe));
    if (first === undefined || !allVacant(await entriesOf(first, stripe))) return false;
    return pieces.locked(stripe, 0, membership.record.segmentBytes / BLOCK_BYTES, () => this.giveBackHeld(stripe));
  }

  private async giveBackHeld(stripe: number): Promise<boolean> {
    const { calls, membership } = this.parts;
    if (!membership.complete(this.slots)) return false;
    const entries = await allEnded(this.slots.map((slot) => entriesOf(slot, stripe)));
    if (!entries.every(allVacant) || !membership.complete(this.slots)) return false;
    const having = this.slots.filter(({ present }) => present.has(stripe));
    this.flushes.markNext();
    await allEnded(
      having.map(async (slot) => {
        const { present } = slot;
        const result = await calls.call((token) => present.zero(stripe, 0, 0, true, 0, 0, 0, token));
        if (result < 0 && slot.member === present) membership.expel(slot, 'a slot could not be given back');
      }),
    );
    // A flush that has begun meanwhile may have covered it on some members only.
    this.flushes.markNext();
    return having.length > 0;
  }
}
