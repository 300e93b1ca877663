/**
 * What control work asks of members, as promises: jobs, repair, reconcile. Clients' reads and writes never come here.
 *
 * Each operation has a record of its own while it is in flight. What modifies is recorded under the flush number of the moment in
 * which it is begun.
 */

import type { Calls, MemoryHolder } from '../../core/calls.js';
import { check } from '../../core/check.js';
import { deviceError } from '../../core/errno.js';
import { BLOCK_BYTES } from '../../core/limits.js';
import { ENTRY_WORDS, isZero, stampOf, zeroFlags } from '../../layout/block-entry.js';
import type { FlushId } from '../../layout/flush-id.js';
import type { Stamp } from '../../layout/write-stamp.js';
import type { BlockCount, BlockIndex, ChunkIndex, FlushNumber, Generation } from '../../ports/ids.js';
import { LIST_ALL, SegmentList } from '../../ports/segment-list.js';
import type { SegmentMember } from '../../ports/segment-member.js';
import {
  type BlockBits,
  REQUEST_ACCEPT,
  REQUEST_AGREED,
  REQUEST_ALLOCATE,
  REQUEST_COPY,
  REQUEST_ENTRIES,
  REQUEST_FLUSH,
  REQUEST_MARKED,
  REQUEST_POISON,
  REQUEST_READ,
  REQUEST_RELEASE,
  REQUEST_RELEASE_ZERO,
  REQUEST_RESTAMP,
  REQUEST_SAME,
  REQUEST_SETTLED,
  REQUEST_WRITE,
  REQUEST_ZERO,
  SegmentRequest,
} from '../../ports/segment-request.js';
import type { SegmentMap } from './segment-map.js';

/** Blocks of one segment. */
export interface BlockRange {
  readonly stripe: ChunkIndex;
  readonly block: BlockIndex;
  readonly blocks: BlockCount;
}

/** Entries of a whole segment that were compared: of the copy that is right, and of the one that is made equal. */
export interface ComparedEntries {
  readonly from: Uint32Array;
  readonly to: Uint32Array;
}

/**
 * What of a segment a list tells. Of a range of `LIST_DIGESTS` it is the first segment, and the two words of the digest, high
 * first.
 */
export type EachSegment = (stripe: ChunkIndex, generation: Generation, flushNumber: FlushNumber, state: number) => void;

export class MemberWork {
  private readonly calls: Calls;
  private readonly now: () => FlushId;
  private readonly free: SegmentRequest[] = [];
  private readonly freeLists: SegmentList[] = [];
  /** Records that are in flight. */
  private readonly inUse = new Set<SegmentRequest>();

  /** `now`: what modifications are recorded under. */
  constructor(calls: Calls, now: () => FlushId) {
    this.calls = calls;
    this.now = now;
  }

  /** A record for an operation that begins now. */
  private take(kind: number, stripe: ChunkIndex): SegmentRequest {
    const request = this.free.pop() ?? new SegmentRequest();
    const { generation, flushNumber } = this.now();
    check(!this.inUse.has(request), 'a record is taken that is in flight', stripe);
    this.inUse.add(request);
    request.begin(kind, stripe, 0);
    request.generation = generation;
    request.flushNumber = flushNumber;
    return request;
  }

  private takeFor(kind: number, { stripe, block, blocks }: BlockRange): SegmentRequest {
    check(blocks > 0 && block >= 0, 'control work is asked for no blocks', stripe);
    const request = this.take(kind, stripe);
    request.block = block;
    request.blocks = blocks;
    return request;
  }

  private async run(
    member: SegmentMember,
    request: SegmentRequest,
    holder: MemoryHolder | null = null,
  ): Promise<number> {
    const result = await this.submit(member, request, holder);
    this.giveBack(request);
    return result;
  }

  /** The same for what may be left. Resolves to how much was, or a negative errno. */
  private async runUnless(
    member: SegmentMember,
    request: SegmentRequest,
    holder: MemoryHolder | null = null,
    leftBlocks?: Set<number>,
  ): Promise<number> {
    const { chunk: stripe, block, blocks } = request;
    const result = await this.submit(member, request, holder);
    if (leftBlocks !== undefined) addBlocks(leftBlocks, request.left, { stripe, block, blocks });
    // Somebody else may have the record as soon as it is given back.
    const left = request.left.count;
    check(left <= Math.max(request.blocks, 1), 'more is left than was asked for', left);
    this.giveBack(request);
    return result < 0 ? result : left;
  }

  private submit(member: SegmentMember, request: SegmentRequest, holder: MemoryHolder | null): Promise<number> {
    return this.calls.call((token) => {
      request.token = token;
      member.submit(request);
    }, holder);
  }

  private giveBack(request: SegmentRequest): void {
    check(this.inUse.delete(request), 'a record has come back twice', request.chunk);
    this.free.push(request);
  }

  /** Reads blocks to `memory`. Resolves to the bytes or a negative errno. `bad` is filled with blocks that an error names. */
  async read(
    member: SegmentMember,
    range: BlockRange,
    memory: number,
    holder: MemoryHolder,
    bad?: Set<number>,
  ): Promise<number> {
    const request = this.takeFor(REQUEST_READ, range);
    request.memory = memory;
    const result = await this.submit(member, request, holder);
    if (bad !== undefined) addBlocks(bad, request.bad, range);
    this.giveBack(request);
    return result;
  }

  /** The same of what is settled there; `-EAGAIN` if it is not. */
  async readSettled(
    member: SegmentMember,
    range: BlockRange,
    memory: number,
    holder: MemoryHolder,
    bad: Set<number>,
  ): Promise<number> {
    const request = this.takeFor(REQUEST_READ, range);
    request.flags = REQUEST_SETTLED;
    request.memory = memory;
    const result = await this.submit(member, request, holder);
    addBlocks(bad, request.bad, range);
    this.giveBack(request);
    return result;
  }

  /**
   * Makes blocks of one kind what they are on another member, from `memory`, where they are still what they were when the two
   * were compared: what an earlier writer had under way may have come since. Resolves to how many are not, and were left, or
   * a negative errno; `left` is filled with them.
   */
  put(
    member: SegmentMember,
    range: BlockRange,
    memory: number,
    pair: ComparedEntries,
    holder: MemoryHolder,
    left?: Set<number>,
  ): Promise<number> {
    const { from, to } = pair;
    const { block, blocks } = range;
    const [first, end] = [block * ENTRY_WORDS, (block + blocks) * ENTRY_WORDS];
    check(end <= from.length, 'blocks are copied that have no entries', block);
    check(from.length === to.length, 'copies that were compared have tables of different sizes', to.length);
    const zero = isZero(from, block);
    const request = this.takeFor(zero ? REQUEST_ZERO : REQUEST_WRITE, range);
    const expected = to.subarray(first, end);
    if (zero) {
      const { low, high } = stampOf(from, block);
      request.stampLow = low;
      request.stampHigh = high;
      request.entries = expected.slice();
      request.flags = REQUEST_SAME | zeroFlags(from, block);
    } else {
      request.memory = memory;
      request.entries = new Uint32Array([...expected, ...from.subarray(first, end)]);
      request.flags = REQUEST_SAME | REQUEST_COPY;
    }
    return this.runUnless(member, request, zero ? null : holder, left);
  }

  /** The entries of a whole segment on a member that has it. Rejects with a `StrakeError`. */
  async entries(member: SegmentMember, stripe: ChunkIndex): Promise<Uint32Array> {
    const blocks = member.segmentBytes / BLOCK_BYTES;
    const words = new Uint32Array(blocks * ENTRY_WORDS);
    const request = this.takeFor(REQUEST_ENTRIES, { stripe, block: 0, blocks });
    request.entries = words;
    const result = await this.run(member, request);
    if (result < 0) throw deviceError(-result, `reading the block table of segment ${stripe}`);
    return words;
  }

  /** Ends doubt about the blocks of a range by taking the content that is there; it is read to `memory`. */
  accept(member: SegmentMember, range: BlockRange, memory: number, holder: MemoryHolder): Promise<number> {
    const request = this.takeFor(REQUEST_ACCEPT, range);
    request.memory = memory;
    return this.run(member, request, holder);
  }

  /**
   * Makes blocks unreadable that are what they were when they were found to be lost: `seen` are the entries of their whole
   * segment then. Resolves to how many are not, and were left, or a negative errno.
   */
  poison(member: SegmentMember, range: BlockRange, { low, high }: Stamp, seen: Uint32Array): Promise<number> {
    const { block, blocks } = range;
    check((block + blocks) * ENTRY_WORDS <= seen.length, 'blocks become poison that have no entries', block);
    const request = this.takeFor(REQUEST_POISON, range);
    request.stampLow = low;
    request.stampHigh = high;
    request.entries = seen.slice(block * ENTRY_WORDS, (block + blocks) * ENTRY_WORDS);
    request.flags = REQUEST_SAME;
    return this.runUnless(member, request);
  }

  /** Gives a segment a slot. Resolves to 0 or a negative errno. */
  async allocate(member: SegmentMember, map: SegmentMap, stripe: ChunkIndex): Promise<number> {
    const result = await this.run(member, this.take(REQUEST_ALLOCATE, stripe));
    if (result >= 0) map.add(stripe);
    return result;
  }

  /** Gives a segment's slot back, whatever it holds. Resolves to 0 or a negative errno. */
  async release(member: SegmentMember, map: SegmentMap, stripe: ChunkIndex): Promise<number> {
    const result = await this.run(member, this.take(REQUEST_RELEASE, stripe));
    if (result >= 0) map.delete(stripe);
    return result;
  }

  /** The same if nothing in it is stored or kept. Resolves to 1 if it was not given back, else to 0 or a negative errno. */
  async releaseZero(member: SegmentMember, map: SegmentMap, stripe: ChunkIndex): Promise<number> {
    const request = this.take(REQUEST_RELEASE, stripe);
    request.flags = REQUEST_RELEASE_ZERO;
    const left = await this.runUnless(member, request);
    check(left <= 1, 'a release leaves more than a segment', left);
    if (left === 0) map.delete(stripe);
    return left;
  }

  /** Records that a segment is equal to what another member has as of a point. Resolves to 0 or a negative errno. */
  restamp(member: SegmentMember, stripe: ChunkIndex, { generation, flushNumber }: FlushId): Promise<number> {
    const request = this.take(REQUEST_RESTAMP, stripe);
    request.generation = generation;
    request.flushNumber = flushNumber;
    return this.run(member, request);
  }

  /** A flush of the device that is remembered. */
  flush(member: SegmentMember): Promise<number> {
    const request = this.take(REQUEST_FLUSH, 0);
    request.flags = REQUEST_MARKED;
    return this.run(member, request);
  }

  /** Tells a member that all copies agree as of this point: what was recorded below is on all of them. */
  agreed(member: SegmentMember, { generation, flushNumber }: FlushId): Promise<number> {
    const request = this.take(REQUEST_AGREED, 0);
    request.generation = generation;
    request.flushNumber = flushNumber;
    return this.run(member, request);
  }

  /** Goes through what a member has: `kind` is one of `LIST_*`. Rejects with a `StrakeError`. */
  list(member: SegmentMember, kind: number, since: FlushId | null, each: EachSegment): Promise<void> {
    const list = (this.freeLists.pop() ?? new SegmentList()).begin(kind);
    list.sinceGeneration = since?.generation ?? 0;
    list.sinceNumber = since?.flushNumber ?? 0;
    return this.goThrough(member, list, each);
  }

  /** The same for the segments from `first` on, up to and without `end`. */
  listRange(member: SegmentMember, first: number, end: number, each: EachSegment): Promise<void> {
    check(end > first, 'no segments are listed', first);
    const list = this.freeLists.pop() ?? new SegmentList();
    return this.goThrough(member, list.begin(LIST_ALL, first, end), each);
  }

  private async goThrough(member: SegmentMember, list: SegmentList, each: EachSegment): Promise<void> {
    for (let more = true; more; ) {
      const result = await this.calls.call((token) => {
        list.token = token;
        member.list(list);
      });
      if (result < 0) throw deviceError(-result, `listing what device ${member.deviceId} has`);
      for (let at = 0; at < list.count; at += 1) {
        each(list.chunks[at], list.generations[at], list.flushNumbers[at], list.states[at]);
      }
      check(list.next < 0 || list.next > list.cursor, 'a list does not go on', list.next);
      list.cursor = list.next;
      more = list.next >= 0;
    }
    this.freeLists.push(list);
  }
}

/** Adds the blocks of a range whose bits are set. */
function addBlocks(blocks: Set<number>, bits: BlockBits, { block, blocks: count }: BlockRange): void {
  for (let index = 0; bits.count > 0 && index < count; index += 1) if (bits.has(index)) blocks.add(block + index);
}
