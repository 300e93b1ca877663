/**
 * Makes the members that are in-sync agree before a volume is served.
 *
 * A writer that died may have left a write on some copies and not on others, or torn. Segments that may be concerned (in doubt,
 * recorded after what is settled or at different points, or not there on every member) are compared by the entries of their
 * blocks, and, where a member is in doubt about the segment, by content where these are equal: a store that lives on
 * has exact entries. Where copies differ or one is in doubt, the good copy with the highest stamp wins. Without a good copy,
 * content in doubt is accepted from the first member that has some, and counted; what is only poisoned or rotten becomes poison
 * on all.
 *
 * Any member in-sync has everything that was answered, so what one of them says alone is right after a crash. That matters for
 * segments that were given back: nothing remembers them, and a device that has lost what it had flushed still has the old
 * ones. So members that lack a flush which another one remembers are *behind*: what the others say counts, and a
 * copy of a member behind is only used for what the others have and cannot read.
 * Repeating this after it was interrupted comes to an end of the same kind: each step leaves a state that a crash could.
 */

import { allEnded } from '../../core/all-ended.js';
import { check, unlessInternal } from '../../core/check.js';
import { StrakeError } from '../../core/errors.js';
import { inLanes } from '../../core/in-lanes.js';
import { BLOCK_BYTES, COPY_BYTES, RECONCILE_BLOCKS, RECONCILE_SEGMENTS } from '../../core/limits.js';
import {
  allVacant,
  allZero,
  ENTRY_WORDS,
  isPoison,
  isStored,
  isSuspect,
  isZero,
  noEntries,
  sameBlock,
  stampOf,
} from '../../layout/block-entry.js';
import { compareFlushes, type FlushId, isBefore, NO_FLUSH } from '../../layout/flush-id.js';
import { compareStamps, type Stamp } from '../../layout/write-stamp.js';
import type { BlockIndex, ChunkIndex } from '../../ports/ids.js';
import { BufferPage, type CopyBuffer } from '../jobs/copy-buffers.js';
import { COMPARISONS_MAX } from '../limits.js';
import type { MemberWork } from '../members/member-work.js';
import type { VolumeParts } from '../volume-parts.js';
import type { Allocation } from './allocation.js';
import { AFTER_ALL, candidates } from './candidates.js';
import type { MemberSlot } from './membership.js';

/** One member's part in comparing a segment. */
interface Copy {
  readonly slot: MemberSlot;
  readonly entries: Uint32Array;
  readonly behind: boolean;
}

/** Entries of a segment on a member, whether it has it or not. */
export function entriesOf(work: MemberWork, slot: MemberSlot, stripe: ChunkIndex): Promise<Uint32Array> {
  const { present, segments } = slot;
  if (!segments.has(stripe)) return Promise.resolve(noEntries(present.segmentBytes / BLOCK_BYTES));
  return work.entries(present, stripe);
}

export class Reconcile {
  private readonly parts: VolumeParts;
  private readonly allocation: Allocation;
  private readonly ending: () => boolean;

  /** `ending`: whether it is to be given up. */
  constructor(parts: VolumeParts, allocation: Allocation, ending: () => boolean) {
    this.parts = parts;
    this.allocation = allocation;
    this.ending = ending;
  }

  /**
   * Rejects with a `StrakeError` if a group is left without a member that works, or if it is given up. `at`: the flush under
   * which it is recorded that copies agree.
   */
  async run(at: FlushId): Promise<void> {
    const { groups } = this.parts.membership;
    const compared: number[][] = [];
    for (const group of groups) {
      const doubtful = await doubtfulSegments(
        this.parts.work,
        group.filter(({ readable }) => readable),
      );
      const stripes = [...doubtful.keys()];
      compared.push(stripes);
      await this.eachOf(stripes, (stripe) => this.segment(group, stripe, doubtful.get(stripe) === true));
    }
    await this.flush();
    for (const [index, group] of groups.entries()) {
      await this.eachOf(compared[index], (stripe) => this.restamp(group, stripe, at));
    }
  }

  private async eachOf(stripes: readonly number[], work: (stripe: ChunkIndex) => Promise<void>): Promise<void> {
    await inLanes(RECONCILE_SEGMENTS, stripes, work, () => {
      if (this.ending()) throw new StrakeError('ABORTED', 'the volume is being closed');
      return null;
    });
  }

  /**
   * What is equal now, durably, is recorded at one point on all members, so that the next start need not compare it again. The
   * stamp of its last modification may have been lost in the crash, so that point is now: a copy that is away has to be compared.
   */
  private async restamp(group: readonly MemberSlot[], stripe: ChunkIndex, at: FlushId): Promise<void> {
    await allEnded(
      group.map(async (slot) => {
        if (!slot.readable || !slot.segments.has(stripe)) return;
        const result = await this.parts.work.restamp(slot.present, stripe, at);
        if (result < 0) await this.lose(slot, 'a segment could not be recorded as equal');
      }),
    );
  }

  /** `inDoubt`: content may differ from entries on a member. */
  private async segment(group: readonly MemberSlot[], stripe: ChunkIndex, inDoubt: boolean): Promise<void> {
    const slots = group.filter(({ readable }) => readable);
    check(slots.length > 0, 'a segment is made equal that has no copy', stripe);
    const read = await Promise.allSettled(slots.map((slot) => entriesOf(this.parts.work, slot, stripe)));
    const bad = slots.filter((_, index) => read[index].status === 'rejected');
    if (bad.length > 0) {
      for (const slot of bad) await this.lose(slot, `the table of segment ${stripe} cannot be read`);
      return this.segment(group, stripe, inDoubt);
    }
    const lastFlush = latestFlush(slots);
    const copies = slots.map((slot, index): Copy => {
      const { value } = read[index] as PromiseFulfilledResult<Uint32Array>;
      return { slot, entries: value, behind: isBehind(slot, lastFlush) };
    });
    const sized = copies.every(({ entries }) => entries.length === copies[0].entries.length);
    check(sized, 'copies of a segment have tables of different sizes', stripe);
    // Content is compared with the first.
    copies.sort((one, other) => Number(one.behind) - Number(other.behind));
    const lacking = slots.filter(({ segments }) => !segments.has(stripe));
    const empty = ({ slot, entries, behind }: Copy) =>
      allZero(entries) || (behind && lacking.some((one) => one !== slot && !isBehind(one, lastFlush)));
    if (lacking.length > 0 && copies.every(empty)) {
      await this.release(slots, stripe);
      return;
    }
    if (lacking.length > 0 && (await this.allocation.ensure(stripe)) < 0) {
      for (const slot of lacking) await this.lose(slot, 'there is no space for a segment that others have');
      return this.segment(group, stripe, inDoubt);
    }
    await this.parts.buffers.withBuffer(async (buffer) => {
      if (copies.length === 1) await this.acceptAll(copies[0], stripe, buffer);
      await this.differing(copies, stripe, buffer);
      if (copies.length > 1 && inDoubt) await this.contents(copies, stripe, buffer);
    });
    await this.giveBack(group, stripe);
  }

  /** A crash may have left a slot without anything in it: one that was to be written to, or whose content was cut off. */
  private async giveBack(group: readonly MemberSlot[], stripe: ChunkIndex): Promise<void> {
    const { membership } = this.parts;
    if (!membership.complete(group)) return;
    const entries = await Promise.all(
      group.map((slot) => entriesOf(this.parts.work, slot, stripe).catch(unlessInternal(null))),
    );
    for (const [at, slot] of group.entries()) {
      if (entries[at] === null) await this.lose(slot, `the table of segment ${stripe} cannot be read`);
    }
    const vacant = entries.every((one) => one !== null && allVacant(one));
    if (vacant && membership.complete(group)) await this.release(group, stripe);
  }

  /** Frees a segment on members that have it. One that cannot do it leaves the map, and keeps nothing from the others. */
  private async release(slots: readonly MemberSlot[], stripe: ChunkIndex): Promise<void> {
    await allEnded(
      slots.map(async (slot) => {
        if (!slot.segments.has(stripe)) return;
        const result = await this.parts.work.release(slot.present, slot.segments, stripe);
        if (result < 0) await this.lose(slot, 'a slot could not be given back');
      }),
    );
  }

  /** Deals with all blocks whose entries are not the same everywhere, several at a time. */
  private async differing(copies: readonly Copy[], stripe: ChunkIndex, buffer: CopyBuffer): Promise<void> {
    const [{ entries }] = copies;
    const blocks: number[] = [];
    for (let block = 0; block < entries.length / ENTRY_WORDS; block += 1) {
      if (!copies.every((copy) => sameBlock(entries, copy.entries, block))) blocks.push(block);
    }
    await inLanes(RECONCILE_BLOCKS, blocks, (block, lane) =>
      this.block(copies, stripe, block, new BufferPage(buffer, lane)),
    );
  }

  /** A single copy in doubt is taken as it is, in one go; what cannot be read stays in doubt, and is dealt with singly. */
  private async acceptAll({ slot, entries }: Copy, stripe: ChunkIndex, buffer: CopyBuffer): Promise<void> {
    const { work, counters } = this.parts;
    const count = entries.length / ENTRY_WORDS;
    const doubtful = [];
    for (let block = 0; block < count; block += 1) {
      if (isSuspect(entries, block) && !isPoison(entries, block) && !isZero(entries, block)) doubtful.push(block);
    }
    if (doubtful.length === 0) return;
    const [first, last] = [doubtful[0], doubtful[doubtful.length - 1]];
    const range = { stripe, block: first, blocks: last - first + 1 };
    const result = await work.accept(slot.present, range, buffer.memory, buffer);
    if (buffer.lost) throw new StrakeError('IO', `device ${slot.present.deviceId} did not answer`);
    if (result < 0) return;
    counters.acceptedSuspects += doubtful.length;
    counters.reconciledBlocks += doubtful.length;
    entries.set(await work.entries(slot.present, stripe));
  }

  /**
   * Makes the content equal where entries are. A write that was under way may have reached one copy and not another, and both
   * match their entries if the checksum is the same: a sector that ends in its own CRC32C has the same one whatever it holds.
   */
  private async contents(copies: readonly Copy[], stripe: ChunkIndex, buffer: CopyBuffer): Promise<void> {
    const [{ entries }] = copies;
    const blocks = entries.length / ENTRY_WORDS;
    const most = Math.floor(COPY_BYTES / BLOCK_BYTES / copies.length);
    check(most > 0, 'so many copies have no room in the buffer', copies.length);
    const equal = (block: BlockIndex) =>
      isStored(entries, block) && copies.every((copy) => sameBlock(entries, copy.entries, block));
    for (let block = 0; block < blocks; ) {
      let end = block;
      while (end < blocks && end - block < most && equal(end)) end += 1;
      if (end > block) await this.compareRun(copies, stripe, block, end - block, buffer);
      block = Math.max(end, block + 1);
    }
  }

  private async compareRun(
    copies: readonly Copy[],
    stripe: ChunkIndex,
    first: number,
    count: number,
    buffer: CopyBuffer,
    round = 0,
  ): Promise<void> {
    const { work } = this.parts;
    const { bytes } = this.parts.memory;
    check(copies.length * count * BLOCK_BYTES <= COPY_BYTES, 'copies do not fit the buffer', count);
    const place = (index: number, block: BlockIndex) => buffer.memory + (index * count + block - first) * BLOCK_BYTES;
    const results = await Promise.all(
      copies.map(({ slot: { present } }, index) =>
        work.read(present, { stripe, block: first, blocks: count }, place(index, first), buffer),
      ),
    );
    if (buffer.lost) throw new StrakeError('IO', 'a device did not answer');
    // A copy that is bad is known for it when it is read, and mended then.
    const sound = copies.map((_, index) => index).filter((index) => results[index] >= 0);
    for (let block = first; block < first + count; block += 1) {
      const content = (index: number) => bytes.subarray(place(index, block), place(index, block) + BLOCK_BYTES);
      const differ = sound.filter((index) => Buffer.compare(content(sound[0]), content(index)) !== 0);
      for (const index of differ) {
        this.parts.counters.reconciledBlocks += 1;
        if (await this.put(copies[sound[0]], copies[index], stripe, block, place(sound[0], block), buffer)) continue;
        await this.anew(copies, stripe, block, buffer, round);
        // What else there is of the run may be of use no more.
        return this.compareRun(copies, stripe, block, first + count - block, buffer, round + 1);
      }
    }
  }

  private async block(
    copies: readonly Copy[],
    stripe: ChunkIndex,
    block: BlockIndex,
    buffer: CopyBuffer,
    round = 0,
  ): Promise<void> {
    this.parts.counters.reconciledBlocks += 1;
    let source = await this.bestCopy(copies, stripe, block, buffer);
    const accepted = source === null ? await this.accept(copies, stripe, block, buffer) : null;
    source ??= accepted;
    source ??= await this.bestOf(
      copies.filter(({ behind }) => behind),
      stripe,
      block,
      buffer,
    );
    if (source === null) {
      if (await this.poison(copies, stripe, block)) return;
      return this.anew(copies, stripe, block, buffer, round);
    }
    for (const copy of copies) {
      const same = accepted === null && sameBlock(source.entries, copy.entries, block);
      if (copy === source || same) continue;
      if (await this.put(source, copy, stripe, block, buffer.memory, buffer)) continue;
      return this.anew(copies, stripe, block, buffer, round);
    }
  }

  /** Nobody has the block: it becomes unreadable on all copies. Resolves to false if one of them has changed meanwhile. */
  private async poison(copies: readonly Copy[], stripe: ChunkIndex, block: BlockIndex): Promise<boolean> {
    const { work, counters, onEvent } = this.parts;
    const stamp = copies.map(({ entries }) => stampOf(entries, block)).reduce(higher);
    for (const { slot, entries } of copies) {
      if (!slot.readable) continue;
      const result = await work.poison(slot.present, { stripe, block, blocks: 1 }, stamp, entries);
      if (result > 0) return false;
      if (result < 0) await this.lose(slot, 'a block could not be made unreadable');
    }
    counters.poisonedBlocks += 1;
    onEvent({ kind: 'poisoned', deviceId: copies[0].slot.present.deviceId, stripe, block });
    return true;
  }

  /** What a dead writer had under way has come to a copy: compares the block by the entries that there are now. */
  private async anew(
    copies: readonly Copy[],
    stripe: ChunkIndex,
    block: BlockIndex,
    buffer: CopyBuffer,
    round: number,
  ): Promise<void> {
    if (round >= COMPARISONS_MAX) {
      throw new StrakeError('IO', `block ${block} of segment ${stripe} changed whenever it was about to be made equal`);
    }
    const [first, end] = [block * ENTRY_WORDS, (block + 1) * ENTRY_WORDS];
    for (const { slot, entries } of copies) {
      if (!slot.readable) continue;
      const now = await this.parts.work.entries(slot.present, stripe);
      entries.set(now.subarray(first, end), first);
    }
    await this.block(copies, stripe, block, buffer, round + 1);
  }

  /**
   * Writes a block, whose content is at `memory` in the buffer, as it is on another copy. Resolves to whether it is so: false if
   * it is not what was compared any more.
   */
  private async put(
    from: Copy,
    to: Copy,
    stripe: ChunkIndex,
    block: BlockIndex,
    memory: number,
    buffer: CopyBuffer,
  ): Promise<boolean> {
    check(from.slot !== to.slot, 'a copy is made equal to itself', to.slot.position);
    check(!isPoison(from.entries, block), 'poison is copied as content', block);
    // It has left the map meanwhile.
    if (!to.slot.readable) return true;
    const range = { stripe, block, blocks: 1 };
    const pair = { from: from.entries, to: to.entries };
    const result = await this.parts.work.put(to.slot.present, range, memory, pair, buffer);
    if (result < 0) await this.lose(to.slot, 'a block could not be made equal');
    return result <= 0;
  }

  /**
   * The copy beyond doubt with the highest stamp that can be read, if need be of a member behind that knows nothing older
   * than the others; its content is in the buffer.
   */
  private async bestCopy(
    copies: readonly Copy[],
    stripe: ChunkIndex,
    block: BlockIndex,
    buffer: CopyBuffer,
  ): Promise<Copy | null> {
    const current = copies.filter(({ behind }) => !behind);
    check(current.length > 0, 'all copies of a block are behind', block);
    const known = current.map(({ entries }) => stampOf(entries, block)).reduce(higher);
    const helpful = copies.filter(
      ({ entries, behind }) => behind && compareStamps(stampOf(entries, block), known) >= 0,
    );
    return (await this.bestOf(current, stripe, block, buffer)) ?? (await this.bestOf(helpful, stripe, block, buffer));
  }

  private async bestOf(
    copies: readonly Copy[],
    stripe: ChunkIndex,
    block: BlockIndex,
    buffer: CopyBuffer,
  ): Promise<Copy | null> {
    const sound = copies.filter(({ entries }) => !isSuspect(entries, block) && !isPoison(entries, block));
    sound.sort((one, other) => compareStamps(stampOf(other.entries, block), stampOf(one.entries, block)));
    for (const copy of sound) {
      if (isZero(copy.entries, block) || (await this.read(copy.slot, stripe, block, buffer))) return copy;
    }
    return null;
  }

  private async read(
    { present }: MemberSlot,
    stripe: ChunkIndex,
    block: BlockIndex,
    buffer: CopyBuffer,
  ): Promise<boolean> {
    const result = await this.parts.work.read(present, { stripe, block, blocks: 1 }, buffer.memory, buffer);
    if (buffer.lost) throw new StrakeError('IO', `device ${present.deviceId} did not answer`);
    return result >= 0;
  }

  /** Takes the first content in doubt as it is. */
  private async accept(
    copies: readonly Copy[],
    stripe: ChunkIndex,
    block: BlockIndex,
    buffer: CopyBuffer,
  ): Promise<Copy | null> {
    const { work, counters, onEvent } = this.parts;
    for (const copy of copies) {
      if (!isSuspect(copy.entries, block) || isPoison(copy.entries, block)) continue;
      const { present } = copy.slot;
      const accepted = await work.accept(present, { stripe, block, blocks: 1 }, buffer.memory, buffer);
      if (buffer.lost) throw new StrakeError('IO', `device ${present.deviceId} did not answer`);
      if (accepted < 0) continue;
      if (!isZero(copy.entries, block) && !(await this.read(copy.slot, stripe, block, buffer))) continue;
      counters.acceptedSuspects += 1;
      onEvent({ kind: 'accepted', deviceId: present.deviceId, stripe, block });
      return copy;
    }
    return null;
  }

  /** A member that cannot be made equal leaves the map. Rejects if it is the last one. */
  private async lose(slot: MemberSlot, reason: string): Promise<void> {
    if (!this.parts.membership.expel(slot, reason)) {
      throw new StrakeError('UNAVAILABLE', `device ${slot.present.deviceId}: ${reason}, and no other copy is current`);
    }
    await this.parts.membership.idle();
  }

  private async flush(): Promise<void> {
    const { membership, work } = this.parts;
    for (const slot of membership.groups.flat()) {
      if (!slot.readable) continue;
      const result = await work.flush(slot.present);
      if (result < 0) await this.lose(slot, 'a flush failed');
    }
  }
}

function higher(one: Stamp, other: Stamp): Stamp {
  return compareStamps(one, other) >= 0 ? one : other;
}

/** The last flush that any of these members remembers. */
function latestFlush(slots: readonly MemberSlot[]): FlushId {
  return slots
    .map(({ present }) => present.flushed)
    .reduce((one, other) => (compareFlushes(one, other) >= 0 ? one : other), NO_FLUSH);
}

function isBehind({ present }: MemberSlot, lastFlush: FlushId): boolean {
  return compareFlushes(present.flushed, lastFlush) < 0;
}

/** What the last engine has told these members to be settled, the lowest of it; null if it has told nothing. */
function lowestSettled(slots: readonly MemberSlot[]): FlushId | null {
  let lowest: FlushId | null = null;
  for (const { present } of slots) {
    if (present.settled !== null && (lowest === null || isBefore(present.settled, lowest))) lowest = present.settled;
  }
  return lowest;
}

/**
 * Segments of which it is not certain that all these members hold the same, and whether any of them is in doubt about it. A
 * writer that dies leaves nothing in doubt on stores that live on, but what it had under way was recorded after what is settled.
 */
function doubtfulSegments(work: MemberWork, slots: readonly MemberSlot[]): Promise<Map<number, boolean>> {
  const lastFlush = latestFlush(slots);
  const settled = lowestSettled(slots);
  // What a member behind has lost may be any modification since the flush that it remembers.
  const since = slots
    .map(({ present }) => present.flushed)
    .reduce((one, other) => (compareFlushes(one, other) <= 0 ? one : other), lastFlush);
  const bounds = [settled ?? AFTER_ALL, isBefore(since, lastFlush) ? since : AFTER_ALL];
  return candidates(
    work,
    slots.map(({ present }) => present),
    isBefore(bounds[0], bounds[1]) ? bounds[0] : bounds[1],
  );
}
