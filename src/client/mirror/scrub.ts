/** Reads everything that a volume holds, on every member, mends what is bad, and gives back slots that hold nothing. */

import { check } from '../../core/check.js';
import { StrakeError } from '../../core/errors.js';
import { BLOCK_BYTES, COPY_BYTES } from '../../core/limits.js';
import { groupOf } from '../../layout/volume-map.js';
import type { ChunkIndex } from '../../ports/ids.js';
import type { CopyBuffer } from '../jobs/copy-buffers.js';
import type { Job } from '../jobs/job.js';
import type { VolumeFlush } from '../requests/volume-flush.js';
import type { VolumeParts } from '../volume-parts.js';
import type { MemberSlot } from './membership.js';
import type { ReadRepair } from './read-repair.js';
import type { Reclaim } from './reclaim.js';

const COPY_BLOCKS = COPY_BYTES / BLOCK_BYTES;

export class Scrub {
  private readonly parts: VolumeParts;
  private readonly repair: ReadRepair;

  private readonly reclaims: readonly Reclaim[];
  private released = false;
  /** Segments of which blocks were mended. */
  private readonly mended: ChunkIndex[] = [];

  /** `reclaims`: by group. */
  constructor(parts: VolumeParts, repair: ReadRepair, reclaims: readonly Reclaim[]) {
    this.parts = parts;
    this.repair = repair;
    this.reclaims = reclaims;
  }

  /** What it has mended, or given back, is durable when it ends. */
  async run(job: Job, flushes: Pick<VolumeFlush, 'flushOwn' | 'markNext'>): Promise<void> {
    const { membership } = this.parts;
    const stripes = new Set<number>();
    for (const slot of membership.groups.flat()) {
      if (slot.readable) for (const stripe of slot.segments.stripes()) stripes.add(stripe);
    }
    const sorted = [...stripes].sort((one, other) => one - other);
    await job.each(sorted, membership.record.segmentBytes, (stripe) => this.segment(job, stripe));
    check(job.segmentsDone === sorted.length, 'a scrub ends before all was read', job.segmentsDone);
    if (this.mended.length > 0) {
      await this.flush(flushes);
      // While a copy could not tell that it holds nothing, all of them kept their slots, and nobody looks for those any more.
      for (const stripe of this.mended) {
        job.check();
        await this.giveBack(stripe);
      }
    }
    if (this.released) await this.flush(flushes);
  }

  private async flush(flushes: Pick<VolumeFlush, 'flushOwn' | 'markNext'>): Promise<void> {
    flushes.markNext();
    const result = await this.parts.calls.call((token) => flushes.flushOwn(token));
    if (result < 0) throw new StrakeError('IO', 'the flush after mending failed');
  }

  private async giveBack(stripe: ChunkIndex): Promise<void> {
    const group = groupOf(this.parts.membership.record, stripe);
    if (await this.reclaims[group].giveBack(stripe)) this.released = true;
  }

  private async segment(job: Job, stripe: ChunkIndex): Promise<void> {
    const { buffers, counters, membership, pieces } = this.parts;
    const { repairedBlocks } = counters;
    const blocks = membership.record.segmentBytes / BLOCK_BYTES;
    // Slots without content, which nothing else looks for any more.
    await this.giveBack(stripe);
    for (let first = 0; first < blocks; first += COPY_BLOCKS) {
      const count = Math.min(COPY_BLOCKS, blocks - first);
      for (const slot of membership.groupOf(stripe)) {
        if (!slot.readable || !slot.segments.has(stripe)) continue;
        await job.pace(count * BLOCK_BYTES);
        const work = (buffer: CopyBuffer) =>
          pieces.locked(stripe, first, count, () => this.checkRun(job, slot, stripe, first, buffer));
        await buffers.withBuffer(work, job);
      }
    }
    if (counters.repairedBlocks > repairedBlocks) this.mended.push(stripe);
  }

  private async checkRun(
    job: Job,
    slot: MemberSlot,
    stripe: ChunkIndex,
    first: number,
    buffer: CopyBuffer,
  ): Promise<void> {
    job.check();
    if (!slot.readable) return;
    const count = Math.min(COPY_BLOCKS, this.parts.membership.record.segmentBytes / BLOCK_BYTES - first);
    check(count > 0, 'a scrub reads beyond a segment', first);
    const { present, group, position } = slot;
    const { memory } = buffer;
    const result = await this.parts.work.read(present, { stripe, block: first, blocks: count }, memory, buffer);
    if (result >= 0 || buffer.lost) return;
    job.check();
    await this.repair.recover(group, { stripe, block: first, blocks: count }, memory, position, buffer);
  }
}

/** The error of a second scrub of a volume. */
export function scrubbed({ id, running }: Job): StrakeError {
  if (running) {
    return new StrakeError('VOLUME_BUSY', `job ${id} is scrubbing the volume already`, {
      remedy: `Wait for it (\`strake job list\` shows how far it is), or end it: strake job cancel ${id}`,
    });
  }
  return new StrakeError('VOLUME_BUSY', `scrub ${id}, which was cancelled, still waits for a device to answer`, {
    remedy: 'Try again; a device that hangs is given up after 30 seconds.',
  });
}
