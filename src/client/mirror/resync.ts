/**
 * Brings a member up to date while the volume is served.
 *
 * ```text
 *   offline ── drained ── commit ──▶ syncing ── drained ── candidates copied ── flush ── commit ──▶ in-sync
 * ```
 *
 * What was begun while the place had another member has to end first: a failure of that one must not be taken for one of the
 * new one.
 *
 * From the first commit on all writes go to the member as well. Once those that began before it have ended, every segment that
 * may differ is compared by the entries of its blocks, and blocks that differ are copied, each run alone with its
 * blocks, so that no write can come between. Where the volume was opened while the member was away, content is compared as
 * well: a write that a crash cut short may be on a copy without a trace in its entry, if the checksum is the same.
 * A block that no source can read becomes poison, never silent zeroes. A segment that was made equal is recorded under the same
 * flush as its source, so that the next start need not compare it again. A job that fails or is cancelled leaves the member
 * offline, with the point from which it missed writes unchanged.
 */

import { allEnded } from '../../core/all-ended.js';
import { check } from '../../core/check.js';
import { deviceError, EBADMSG, EIO, ENODATA } from '../../core/errno.js';
import { StrakeError } from '../../core/errors.js';
import { BLOCK_BYTES, COPY_BYTES } from '../../core/limits.js';
import { alike, allVacant, isPoison, isStored, sameBlock, stampOf } from '../../layout/block-entry.js';
import type { FlushId } from '../../layout/flush-id.js';
import { memberInSync, memberSyncing } from '../../layout/map-changes.js';
import { isInDoubt } from '../../layout/request-checks.js';
import { FENCE_ALL } from '../../ports/device.js';
import type { BlockCount, BlockIndex, ChunkIndex } from '../../ports/ids.js';
import { LIST_ALL } from '../../ports/segment-list.js';
import type { SegmentMember } from '../../ports/segment-member.js';
import type { CopyBuffer } from '../jobs/copy-buffers.js';
import type { Job } from '../jobs/job.js';
import { COMPARISONS_MAX } from '../limits.js';
import type { BlockRange, ComparedEntries } from '../members/member-work.js';
import type { VolumeFlush } from '../requests/volume-flush.js';
import type { VolumeParts } from '../volume-parts.js';
import type { Allocation } from './allocation.js';
import { candidates } from './candidates.js';
import type { MemberSlot } from './membership.js';
import { type ReadRange, readRuns, runsOf } from './read-runs.js';
import { entriesOf } from './reconcile.js';

const COPY_BLOCKS = COPY_BYTES / BLOCK_BYTES;
/** Blocks between two that differ which are read along with them: that costs less than another request. */
const GAP_BLOCKS = 8;

export class Resync {
  private readonly parts: VolumeParts;
  private readonly allocation: Allocation;
  private readonly slot: MemberSlot;
  /** Whether equal entries do not prove equal content. */
  private contents = false;
  private job: Job | null = null;

  constructor(parts: VolumeParts, allocation: Allocation, slot: MemberSlot) {
    this.parts = parts;
    this.allocation = allocation;
    this.slot = slot;
  }

  /** Rejects with a `StrakeError`; the member is then to be taken out of the map. */
  async run(job: Job, flushes: Pick<VolumeFlush, 'ended' | 'flushOwn' | 'markNext' | 'settled'>): Promise<void> {
    const { membership, pieces } = this.parts;
    check(this.job === null, 'a resync is run twice', job.id);
    const { group, position, present } = this.slot;
    const known = membership.record.groups[group][position];
    const everything = present.incarnation < known.incarnation || (await this.learn()) < known.flushNumber;
    // Before the first flush number of a generation its members are made to agree.
    this.contents = known.since.generation < membership.record.generation || known.since.flushNumber === 0;
    const { incarnation } = present;
    this.slot.incarnation = incarnation;
    await Promise.all([pieces.drained(group), flushes.ended()]);
    // Whoever saw that it was cancelled may have let go of the device.
    job.check();
    this.job = job;
    await membership.change((record) => {
      job.check();
      return memberSyncing(record, group, position, incarnation, everything);
    });
    this.parts.onEvent({ kind: 'member-syncing', group, position, deviceId: present.deviceId, reason: job.kind });
    await pieces.drained(group);
    await job.each(await this.candidates(), present.segmentBytes, (stripe) => this.segment(job, stripe));
    await this.promote(job, incarnation, flushes);
  }

  /** Learns what the member has. Resolves to the highest flush number that anything there was recorded under. */
  private async learn(): Promise<number> {
    const { present, segments } = this.slot;
    let newest = 0;
    segments.clear();
    await this.parts.work.list(present, LIST_ALL, null, (stripe, _generation, flushNumber) => {
      segments.add(stripe);
      newest = Math.max(newest, flushNumber);
    });
    return newest;
  }

  private source(): MemberSlot {
    const source = this.parts.membership.groups[this.slot.group].find(({ readable }) => readable);
    if (source === undefined) throw new StrakeError('UNAVAILABLE', 'no member is current that could be copied');
    check(source !== this.slot, 'a member is brought up to date from itself', source.position);
    return source;
  }

  /** Segments in which the member may differ from the others. */
  private async candidates(): Promise<number[]> {
    const { work, membership } = this.parts;
    const { since } = membership.record.groups[this.slot.group][this.slot.position];
    const found = await candidates(work, [this.slot.present, this.source().present], since);
    return [...found.keys()].sort((one, other) => one - other);
  }

  private async segment(job: Job, stripe: ChunkIndex): Promise<void> {
    const { buffers, pieces } = this.parts;
    const { present, segments } = this.slot;
    const blocks = present.segmentBytes / BLOCK_BYTES;
    if (!this.source().segments.has(stripe)) {
      // Only with the whole segment held is it certain that it does not come into being meanwhile.
      await pieces.locked(stripe, 0, blocks, async () => {
        if (segments.has(stripe) && !this.source().segments.has(stripe)) await this.release(stripe);
      });
      if (!this.source().segments.has(stripe)) return;
    }
    // What is written from now on gets its slot there too.
    if (!segments.has(stripe) && allVacant(await this.entriesOf(this.source(), stripe))) return;
    const allocated = segments.has(stripe) ? 0 : await this.allocation.ensure(stripe);
    if (allocated < 0) throw new StrakeError('NO_SPACE', `device ${present.deviceId} has no space for a segment`);
    if (!segments.has(stripe)) throw new StrakeError('IO', `device ${present.deviceId}: no slot could be allocated`);
    await job.pace(blocks * 16);
    const [from, to] = await allEnded([this.entriesOf(this.source(), stripe), this.entriesOf(this.slot, stripe)]);
    const most = this.contents ? COPY_BLOCKS / 2 : COPY_BLOCKS;
    const mayDiffer = (at: number) => !sameBlock(from, to, at) || (this.contents && isStored(from, at));
    let block = 0;
    while (block < blocks) {
      let end = block;
      for (let at = block; at < blocks && at - block < most && at - end <= GAP_BLOCKS; at += 1) {
        if (mayDiffer(at)) end = at + 1;
        else if (end === block) break;
      }
      if (end > block) {
        const [first, count] = [block, end - block];
        await job.pace(count * BLOCK_BYTES);
        const work = (buffer: CopyBuffer) =>
          pieces.locked(stripe, first, count, () => this.copyRun(job, stripe, first, count, buffer));
        await buffers.withBuffer(work, job);
      }
      block = Math.max(end, block + 1);
    }
    await this.restamp(stripe, blocks);
  }

  /**
   * The segment is equal, and all that is written meanwhile goes to both sides: with the whole of it held, the point at which the
   * source was last modified is that of the target as well. Before the last block is equal it must not be: a target that is
   * stopped half-way would be taken for one that needs nothing.
   */
  private async restamp(stripe: ChunkIndex, blocks: BlockCount): Promise<void> {
    const { present } = this.slot;
    const result = await this.parts.pieces.locked(stripe, 0, blocks, async () => {
      const [source, own] = await allEnded([this.stateOf(this.source(), stripe), this.stateOf(this.slot, stripe)]);
      if (source === null || sameState(source, own)) return 0;
      return this.parts.work.restamp(present, stripe, source);
    });
    if (result < 0) throw new StrakeError('IO', `device ${present.deviceId}: a segment could not be recorded as equal`);
  }

  /** What a member has recorded of a segment; null if it has no slot. */
  private async stateOf({ present }: MemberSlot, stripe: ChunkIndex): Promise<ListedSegment | null> {
    let found: ListedSegment | null = null;
    await this.parts.work.listRange(present, stripe, stripe + 1, (_stripe, generation, flushNumber, state) => {
      found = { generation, flushNumber, doubt: isInDoubt(state) };
    });
    return found;
  }

  private entriesOf(slot: MemberSlot, stripe: ChunkIndex): Promise<Uint32Array> {
    return entriesOf(this.parts.work, slot, stripe);
  }

  private async release(stripe: ChunkIndex): Promise<void> {
    const { present, segments } = this.slot;
    const result = await this.parts.work.release(present, segments, stripe);
    if (result < 0) throw deviceError(-result, `giving back segment ${stripe}`);
  }

  /** Copies what differs of a run that is held, until nothing of an earlier writer's comes between. */
  private async copyRun(
    job: Job,
    stripe: ChunkIndex,
    first: BlockIndex,
    count: BlockCount,
    buffer: CopyBuffer,
  ): Promise<void> {
    for (let round = 0; round < COMPARISONS_MAX; round += 1) {
      if ((await this.copyOnce(job, stripe, first, count, buffer)) === 0) return;
    }
    const { deviceId } = this.slot.present;
    throw new StrakeError('IO', `device ${deviceId}: blocks changed whenever they were about to be made equal`);
  }

  /** What was seen before the run was held may be out of date. Resolves to how many blocks were no longer as compared. */
  private async copyOnce(
    job: Job,
    stripe: ChunkIndex,
    first: BlockIndex,
    count: BlockCount,
    buffer: CopyBuffer,
  ): Promise<number> {
    const source = this.source();
    check(count <= COPY_BLOCKS, 'a run does not fit the buffer', count);
    const [from, to] = await allEnded([this.entriesOf(source, stripe), this.entriesOf(this.slot, stripe)]);
    const differ: BlockIndex[] = [];
    const unequal = this.contents ? await this.unequal(stripe, first, count, buffer) : new Set<number>();
    for (let block = first; block < first + count; block += 1) {
      if (!sameBlock(from, to, block) || (isStored(from, block) && unequal.has(block))) differ.push(block);
    }
    const lost = new Set<number>();
    if (differ.some((block) => isStored(from, block))) {
      const result = await this.read(source.present, { stripe, block: first, blocks: count }, buffer.memory, buffer);
      const stored = differ.filter((block) => isStored(from, block));
      if (result < 0) for (const block of await this.readCarefully(stripe, first, stored, buffer)) lost.add(block);
    }
    const runs = runsOf(differ, (one, other) => together(from, one, other, lost));
    const work = runs.map(({ 0: start, length }) => {
      const memory = buffer.memory + (start - first) * BLOCK_BYTES;
      return this.put({ stripe, block: start, blocks: length }, { from, to }, lost.has(start), memory, buffer);
    });
    const left = (await allEnded(work)).reduce((sum, one) => sum + one, 0);
    job.bytesCopied += (differ.length - left) * BLOCK_BYTES;
    return left;
  }

  /** Blocks of a run that can be read on both sides, and are not the same there. */
  private async unequal(
    stripe: ChunkIndex,
    first: BlockIndex,
    count: BlockCount,
    buffer: CopyBuffer,
  ): Promise<Set<number>> {
    const { bytes } = this.parts.memory;
    check(2 * count <= COPY_BLOCKS, 'two sides of a run do not fit the buffer', count);
    const sides = [this.source().present, this.slot.present];
    const found = new Set<number>();
    const compare = async (block: BlockIndex, blocks: BlockCount): Promise<void> => {
      const places = sides.map((_, side) => buffer.memory + (side * count + block - first) * BLOCK_BYTES);
      const reads = sides.map((side, index) => this.read(side, { stripe, block, blocks }, places[index], buffer));
      const results = await allEnded(reads);
      if (results.some((result) => result < 0)) {
        // One bad block fails the whole read; what is bad is mended when it is read, or differs by its entry.
        if (blocks > 1) for (let at = block; at < block + blocks; at += 1) await compare(at, 1);
        return;
      }
      for (let at = 0; at < blocks; at += 1) {
        const [one, other] = places.map((place) =>
          bytes.subarray(place + at * BLOCK_BYTES, place + (at + 1) * BLOCK_BYTES),
        );
        if (Buffer.compare(one, other) !== 0) found.add(block + at);
      }
    };
    await compare(first, count);
    return found;
  }

  /** Reads the blocks, each from the first member that can. Resolves to those that none can. */
  private async readCarefully(
    stripe: ChunkIndex,
    first: BlockIndex,
    blocks: readonly BlockIndex[],
    buffer: CopyBuffer,
  ): Promise<readonly BlockIndex[]> {
    const sources = this.parts.membership.groups[this.slot.group].filter(({ readable }) => readable);
    check(sources.length > 0, 'blocks count as lost that nobody was asked for', first);
    let wanted = blocks;
    for (const { present } of sources) {
      const read: ReadRange = (range, memory, bad) => this.read(present, range, memory, buffer, bad);
      const at = { first, memory: buffer.memory, lost: () => buffer.lost };
      const failed = await readRuns(read, stripe, wanted, at);
      for (const error of failed.values()) {
        // Only what is known of the block itself makes it lost; a device that is gone may know it still.
        const known = [EBADMSG, ENODATA, EIO].includes(error) && present.fence() !== FENCE_ALL;
        if (!known) throw new StrakeError('IO', `device ${present.deviceId} failed while it was copied`);
      }
      wanted = wanted.filter((block) => failed.has(block));
    }
    return wanted;
  }

  private read(
    member: SegmentMember,
    range: BlockRange,
    memory: number,
    buffer: CopyBuffer,
    bad?: Set<BlockIndex>,
  ): Promise<number> {
    this.job?.check();
    return this.answered(this.parts.work.read(member, range, memory, buffer, bad), buffer);
  }

  private async answered(work: Promise<number>, buffer: CopyBuffer): Promise<number> {
    const result = await work;
    if (buffer.lost) throw new StrakeError('IO', 'a device did not answer');
    return result;
  }

  /**
   * Gives the member a run of blocks of one kind, whose content is at `memory` in the buffer. Resolves to how many were left, as
   * they are not what was compared.
   */
  private async put(
    range: BlockRange,
    pair: ComparedEntries,
    lost: boolean,
    memory: number,
    buffer: CopyBuffer,
  ): Promise<number> {
    const { present } = this.slot;
    const { stripe, block } = range;
    const { from } = pair;
    const { work } = this.parts;
    if (lost || isPoison(from, block)) {
      check(range.blocks === 1, 'blocks become poison together', range.blocks);
      const left = await work.poison(present, range, stampOf(from, block), pair.to);
      if (left < 0) throw deviceError(-left, `making block ${block} of segment ${stripe} unreadable`);
      if (left > 0) return left;
      this.parts.counters.poisonedBlocks += 1;
      this.parts.onEvent({ kind: 'poisoned', deviceId: present.deviceId, stripe, block });
      return 0;
    }
    this.job?.check();
    const inBuffer = memory >= buffer.memory && memory + range.blocks * BLOCK_BYTES <= buffer.memory + COPY_BYTES;
    check(inBuffer, 'a copied block is beyond the buffer', block);
    const result = await this.answered(work.put(present, range, memory, pair, buffer), buffer);
    if (result < 0) throw new StrakeError('IO', `device ${present.deviceId}: a copied block could not be written`);
    return result;
  }

  /** What was copied is durable before the map says so, and the member remembers the same flush as the others. */
  private async promote(
    job: Job,
    incarnation: number,
    flushes: Pick<VolumeFlush, 'flushOwn' | 'markNext' | 'settled'>,
  ): Promise<void> {
    const { calls, membership } = this.parts;
    const { group, position, present } = this.slot;
    const { written } = this.slot;
    check(job.segmentsDone === job.segmentsTotal, 'a member becomes current before all was compared', job.segmentsDone);
    flushes.markNext();
    const result = await calls.call((token) => flushes.flushOwn(token));
    if (result < 0) throw new StrakeError('IO', 'the flush after copying failed');
    this.slot.covered = written;
    await membership.change((record) => {
      job.check();
      const gone = this.slot.leaving || record.groups[group][position].state !== 'syncing';
      if (gone) throw new StrakeError('IO', `device ${present.deviceId} failed while it was being synced`);
      if (present.incarnation !== incarnation)
        throw new StrakeError('IO', `device ${present.deviceId} was opened anew`);
      return memberInSync(record, group, position, { incarnation, flushNumber: this.slot.covered });
    });
    await this.parts.work.agreed(present, flushes.settled);
    this.parts.onEvent({ kind: 'member-in-sync', group, position, deviceId: present.deviceId, reason: job.kind });
  }
}

/** Whether both sides were last modified at the same point, and the second is in no doubt. */
function sameState(one: ListedSegment | null, other: ListedSegment | null): boolean {
  if (one === null || other === null || other.doubt) return false;
  return one.generation === other.generation && one.flushNumber === other.flushNumber;
}

/** Whether two blocks can be put by one operation. */
function together(from: Uint32Array, one: number, other: number, lost: ReadonlySet<number>): boolean {
  return !lost.has(one) && !lost.has(other) && alike(from, one, other);
}

/** What a list tells of a segment. */
interface ListedSegment extends FlushId {
  readonly doubt: boolean;
}
