/**
 * Members of a volume in memory, whose operations end in an order and with results that the test chooses.
 *
 * It checks what callers have promised: no two modifications of one block in flight, and none of a segment without a slot.
 */

import {
  allVacant,
  BLOCK_POISON,
  BLOCK_SUSPECT,
  BLOCK_VALID,
  BLOCK_ZERO,
  ENTRY_CHECKSUM,
  ENTRY_FLAGS,
  ENTRY_STAMP_HIGH,
  ENTRY_STAMP_LOW,
  ENTRY_WORDS,
} from '#strake/layout/block-entry.js';
import { addToDigest, type ChunkDigest } from '#strake/layout/chunk-digest.js';
import { type FlushId, isBefore, NO_FLUSH } from '#strake/layout/flush-id.js';
import { compareStamps, generationOf } from '#strake/layout/write-stamp.js';
import { COMPLETION_ABANDONED } from '#strake/ports/completion.js';
import { DIGEST_CHUNKS } from '#strake/ports/limits.js';
import {
  CHUNK_DOUBT,
  LIST_ALL,
  LIST_DIGESTS,
  LIST_SINCE,
  LIST_ZERO,
  type SegmentList,
} from '#strake/ports/segment-list.js';
import type { LeaseWaiter, SegmentMember } from '#strake/ports/segment-member.js';
import {
  REQUEST_ACCEPT,
  REQUEST_AGREED,
  REQUEST_ALLOCATE,
  REQUEST_COPY,
  REQUEST_ENTRIES,
  REQUEST_FLUSH,
  REQUEST_MARKED,
  REQUEST_NEWER,
  REQUEST_POISON,
  REQUEST_READ,
  REQUEST_RELEASE,
  REQUEST_RELEASE_ZERO,
  REQUEST_RESTAMP,
  REQUEST_SAME,
  REQUEST_WRITE,
  REQUEST_ZERO,
  type SegmentRequest,
} from '#strake/ports/segment-request.js';
import { BLOCK, type PendingSegmentOperation, type SegmentWorld } from './segment-world.js';
import { checksum } from './weak-checksum.js';

interface Segment {
  readonly stripe: number;
  generation: number;
  flushNumber: number;
  dirty: boolean;
  readonly content: Uint8Array;
  readonly entries: Uint32Array;
}

export class ScriptedMember implements SegmentMember {
  readonly slots = new Map<number, Segment>();
  incarnation = 1;
  flushed: FlushId = NO_FLUSH;
  settled: FlushId | null = null;
  outstanding = 0;
  fenced = 0;
  capacity = Number.POSITIVE_INFINITY;
  /** Result of an operation that begins now; undefined lets it succeed. */
  fail: (kind: PendingSegmentOperation['kind'], stripe: number, block: number) => number | undefined = () => undefined;
  /** That of its map. */
  mapGeneration = 0;
  generation = 0;
  flushNumber = 0;
  stampMax = { low: 0, high: 0 };
  /** Called with each page of a list before it is filled. */
  onList: (page: SegmentList) => void = () => {};
  private readonly busy = new Set<string>();
  /** Under which version of the map reads may rely on it. */
  private leased: number | 'always' | 'never' = 'always';
  private readonly leaseWaiters = new Set<LeaseWaiter>();

  constructor(
    readonly world: SegmentWorld,
    readonly deviceId: string,
    readonly segmentBytes: number,
  ) {}

  fence(): number {
    return this.fenced;
  }

  has(stripe: number): boolean {
    return this.slots.has(stripe);
  }

  mayRead(mapVersion: number): boolean {
    return this.leased === 'always' || this.leased === mapVersion;
  }

  whenLeased(waiter: LeaseWaiter): void {
    this.leaseWaiters.add(waiter);
  }

  /** Grants a lease under a version of the map, or takes it away. */
  lease(mapVersion: number | 'never'): void {
    this.leased = mapVersion;
    if (mapVersion === 'never') return;
    const waiters = [...this.leaseWaiters];
    this.leaseWaiters.clear();
    for (const waiter of waiters) waiter.leased();
  }

  submit(request: SegmentRequest): void {
    switch (request.kind) {
      case REQUEST_READ:
        this.read(request);
        break;
      case REQUEST_WRITE:
        this.write(request);
        break;
      case REQUEST_ZERO:
        this.zero(request);
        break;
      case REQUEST_ALLOCATE:
        this.allocate(request);
        break;
      case REQUEST_FLUSH:
        this.flush(request);
        break;
      case REQUEST_ACCEPT:
        this.accept(request);
        break;
      case REQUEST_RELEASE:
        this.release(request);
        break;
      case REQUEST_RESTAMP:
        this.restamp(request);
        break;
      case REQUEST_POISON:
        this.poison(request);
        break;
      default:
        this.answerSoon(request.token, this.answer(request));
    }
  }

  list(page: SegmentList): void {
    this.onList(page);
    page.count = 0;
    page.next = -1;
    const { sinceGeneration: generation, sinceNumber: flushNumber } = page;
    if (page.kind === LIST_DIGESTS) this.fillDigests(page);
    for (const segment of page.kind === LIST_DIGESTS ? [] : this.slots.values()) {
      if (segment.stripe < page.firstChunk || segment.stripe >= page.endChunk) continue;
      const late = page.kind === LIST_ALL || !isBefore(segment, { generation, flushNumber });
      if (!(late || (page.kind === LIST_SINCE && segment.dirty))) continue;
      if (page.kind === LIST_ZERO && !allVacant(segment.entries)) continue;
      page.add(segment.stripe, segment.generation, segment.flushNumber, segment.dirty ? CHUNK_DOUBT : 0);
    }
    this.answerSoon(page.token, page.count);
  }

  private fillDigests(page: SegmentList): void {
    const digests = new Map<number, ChunkDigest>();
    for (const { stripe, generation, flushNumber } of this.slots.values()) {
      const first = stripe - (stripe % DIGEST_CHUNKS);
      const digest = digests.get(first) ?? { low: 0, high: 0 };
      digests.set(first, digest);
      addToDigest(digest, stripe, generation, flushNumber);
    }
    for (const [first, { low, high }] of digests) page.add(first, high, low, 0);
  }

  /** Ends a token before anything that a test ends by itself. */
  private answerSoon(token: number, result: number): void {
    queueMicrotask(() => this.world.finish(token, result, 0));
  }

  private answer(request: SegmentRequest): number {
    const { kind, chunk, block, blocks, entries } = request;
    if (kind === REQUEST_ENTRIES) {
      const first = block * ENTRY_WORDS;
      entries?.set(this.segment(chunk).entries.subarray(first, first + blocks * ENTRY_WORDS));
    } else if (kind === REQUEST_AGREED) {
      const { generation, flushNumber } = request;
      this.settled = { generation, flushNumber };
      for (const segment of this.slots.values()) segment.dirty = false;
    } else throw new Error(`no request of kind ${kind} was expected`);
    return 0;
  }

  private begin(kind: PendingSegmentOperation['kind'], request: SegmentRequest, move: () => number, memory = -1): void {
    const { chunk: stripe, block, blocks, flags, token } = request;
    const keys: string[] = [];
    if (kind === 'write' || kind === 'zero' || kind === 'poison') {
      for (let index = block; index < block + blocks; index += 1) keys.push(`${stripe}.${index}`);
    }
    for (const key of keys) {
      if (this.busy.has(key)) throw new Error(`two modifications of block ${key} in flight`);
      this.busy.add(key);
    }
    this.outstanding += 1;
    if (memory >= 0) this.world.used.add(memory);
    const forced = this.fail(kind, stripe, block);
    const end = (result = forced, completionFlags = 0) => {
      this.outstanding -= 1;
      for (const key of keys) this.busy.delete(key);
      if ((completionFlags & COMPLETION_ABANDONED) !== 0 && memory >= 0) {
        this.world.abandoned.add(memory);
        this.world.givenUp.push(memory);
      }
      if (kind !== 'read' && kind !== 'restamp') this.recordUnder(request);
      this.world.finish(token, result !== undefined && result < 0 ? result : move(), completionFlags);
    };
    this.world.pending.push({ kind, member: this, stripe, block, blocks, flags, end });
  }

  /** What is recorded before an engine says under what. */
  mark(generation: number, flushNumber: number): void {
    this.generation = generation;
    this.flushNumber = flushNumber;
  }

  private recordUnder({ generation, flushNumber }: SegmentRequest): void {
    this.generation = generation;
    this.flushNumber = flushNumber;
  }

  /** Whether a condition of a request keeps it from a block. */
  private leaves(
    { flags, entries, chunk, block, blocks, stampLow, stampHigh }: SegmentRequest,
    index: number,
  ): boolean {
    const own = this.segment(chunk).entries.subarray((block + index) * ENTRY_WORDS, (block + index + 1) * ENTRY_WORDS);
    if ((flags & REQUEST_SAME) !== 0) {
      const expected = entries?.subarray(index * ENTRY_WORDS, (index + 1) * ENTRY_WORDS);
      if (expected === undefined || own.some((word, at) => word !== expected[at])) return true;
    }
    if ((flags & REQUEST_NEWER) === 0) return false;
    const copied = (flags & REQUEST_SAME) !== 0 ? blocks : 0;
    const from = (copied + index) * ENTRY_WORDS;
    const copy = (flags & REQUEST_COPY) !== 0 && entries !== null;
    const high = copy ? entries[from + ENTRY_STAMP_HIGH] : stampHigh;
    const low = copy ? entries[from + ENTRY_STAMP_LOW] : stampLow;
    const order = compareStamps({ low, high }, { low: own[ENTRY_STAMP_LOW], high: own[ENTRY_STAMP_HIGH] });
    if (order < 0 && copy) return generationOf(own[ENTRY_STAMP_HIGH]) >= this.mapGeneration;
    if (order !== 0) return order < 0;
    return !copy && (own[ENTRY_FLAGS] & BLOCK_SUSPECT) === 0;
  }

  private segment(stripe: number): Segment {
    const segment = this.slots.get(stripe);
    if (segment === undefined) throw new Error(`segment ${stripe} has no slot`);
    return segment;
  }

  private allocate(request: SegmentRequest): void {
    const { chunk: stripe } = request;
    this.begin('allocate', request, () => {
      if (!this.has(stripe) && this.slots.size >= this.capacity) return -28;
      if (!this.has(stripe)) this.make(stripe);
      return 0;
    });
  }

  make(stripe: number): Segment {
    const blocks = this.segmentBytes / BLOCK;
    const { generation, flushNumber } = this;
    const content = new Uint8Array(this.segmentBytes).fill(0xee);
    const segment = { stripe, generation, flushNumber, dirty: false, content, entries: new Uint32Array(blocks * 4) };
    this.slots.set(stripe, segment);
    return segment;
  }

  private read(request: SegmentRequest): void {
    const { chunk: stripe, block, blocks, memory } = request;
    const move = () => {
      const { bytes } = this.world;
      if (!this.has(stripe)) {
        bytes.fill(0, memory, memory + blocks * BLOCK);
        return blocks * BLOCK;
      }
      let error = 0;
      for (let index = 0; index < blocks; index += 1) {
        const content = this.contentOf(stripe, block + index);
        if (typeof content === 'number') {
          error = content;
          request.bad.add(index);
        } else bytes.set(content, memory + index * BLOCK);
      }
      return error < 0 ? error : blocks * BLOCK;
    };
    this.begin('read', request, move, memory);
  }

  /** What a read of the block gives: bytes or an error. */
  contentOf(stripe: number, block: number): Uint8Array | number {
    if (!this.has(stripe)) return new Uint8Array(BLOCK);
    const { entries, content } = this.segment(stripe);
    const at = block * ENTRY_WORDS;
    const flags = entries[at + ENTRY_FLAGS];
    if ((flags & BLOCK_POISON) !== 0) return -61;
    if ((flags & BLOCK_SUSPECT) !== 0) return -74;
    if ((flags & BLOCK_VALID) === 0 || (flags & BLOCK_ZERO) !== 0) return new Uint8Array(BLOCK);
    const bytes = content.subarray(block * BLOCK, (block + 1) * BLOCK);
    return checksum(bytes) === entries[at + ENTRY_CHECKSUM] ? bytes : -74;
  }

  private write(request: SegmentRequest): void {
    const { chunk: stripe, block, blocks, memory, source, flags, stampLow, stampHigh } = request;
    this.segment(stripe);
    const copied = (flags & REQUEST_SAME) !== 0 ? blocks * ENTRY_WORDS : 0;
    const stamps = (flags & REQUEST_COPY) !== 0 ? request.entries?.slice(copied) : undefined;
    if (source >= 0) this.world.copy(memory, source, blocks * BLOCK);
    const payload = this.world.bytes.slice(memory, memory + blocks * BLOCK);
    const move = () => {
      for (let index = 0; index < blocks; index += 1) {
        if (this.leaves(request, index)) {
          request.left.add(index);
          continue;
        }
        const bytes = payload.subarray(index * BLOCK, (index + 1) * BLOCK);
        const at = index * ENTRY_WORDS;
        const low = stamps?.[at + ENTRY_STAMP_LOW] ?? stampLow;
        const high = stamps?.[at + ENTRY_STAMP_HIGH] ?? stampHigh;
        this.put(stripe, block + index, bytes, BLOCK_VALID, low, high);
      }
      return blocks * BLOCK;
    };
    this.begin('write', request, move, memory);
  }

  /** Sets a block and its entry. */
  put(stripe: number, block: number, bytes: Uint8Array | null, flags: number, low: number, high: number): void {
    const segment = this.slots.get(stripe) ?? this.make(stripe);
    if (bytes !== null) segment.content.set(bytes, block * BLOCK);
    const at = block * ENTRY_WORDS;
    segment.entries[at + ENTRY_CHECKSUM] = bytes === null ? 0 : checksum(bytes);
    segment.entries[at + ENTRY_FLAGS] = flags;
    segment.entries[at + ENTRY_STAMP_LOW] = low;
    segment.entries[at + ENTRY_STAMP_HIGH] = high;
    segment.generation = this.generation;
    segment.flushNumber = this.flushNumber;
    if (high > this.stampMax.high || (high === this.stampMax.high && low > this.stampMax.low)) {
      this.stampMax = { low, high };
    }
  }

  /** Lets a block's content rot. */
  rot(stripe: number, block: number): void {
    this.segment(stripe).content[block * BLOCK + 7] ^= 1;
  }

  private zero(request: SegmentRequest): void {
    const { chunk: stripe, block, blocks, stampLow, stampHigh } = request;
    this.segment(stripe);
    this.begin('zero', request, () => {
      for (let index = 0; index < blocks; index += 1) {
        if (this.leaves(request, index)) request.left.add(index);
        else this.put(stripe, block + index, null, BLOCK_VALID | BLOCK_ZERO, stampLow, stampHigh);
      }
      return 0;
    });
  }

  private poison(request: SegmentRequest): void {
    const { chunk: stripe, block, blocks, stampLow, stampHigh } = request;
    this.segment(stripe);
    this.begin('poison', request, () => {
      for (let index = 0; index < blocks; index += 1) {
        if (this.leaves(request, index)) request.left.add(index);
        else this.put(stripe, block + index, null, BLOCK_POISON, stampLow, stampHigh);
      }
      return 0;
    });
  }

  private flush(request: SegmentRequest): void {
    const { generation, flushNumber } = request;
    this.begin('flush', request, () => {
      if ((request.flags & REQUEST_MARKED) !== 0) this.flushed = { generation, flushNumber };
      const { settledGeneration, settledNumber } = request;
      if (settledGeneration > 0) this.settled = { generation: settledGeneration, flushNumber: settledNumber };
      for (const segment of this.slots.values()) segment.dirty = false;
      return 0;
    });
  }

  private accept(request: SegmentRequest): void {
    const { chunk: stripe, block, blocks, memory } = request;
    const { content, entries } = this.segment(stripe);
    this.begin('accept', request, () => {
      this.world.bytes.set(content.subarray(block * BLOCK, (block + blocks) * BLOCK), memory);
      for (let index = block; index < block + blocks; index += 1) {
        const at = index * ENTRY_WORDS;
        if ((entries[at + ENTRY_FLAGS] & (BLOCK_SUSPECT | BLOCK_POISON)) !== BLOCK_SUSPECT) continue;
        entries[at + ENTRY_CHECKSUM] = checksum(content.subarray(index * BLOCK, (index + 1) * BLOCK));
        entries[at + ENTRY_FLAGS] = BLOCK_VALID;
      }
      return blocks * BLOCK;
    });
  }

  private release(request: SegmentRequest): void {
    const { chunk: stripe, flags, token } = request;
    if ((flags & REQUEST_RELEASE_ZERO) === 0) {
      if (this.fail('release', stripe, 0) !== undefined) this.answerSoon(token, -5);
      else {
        this.slots.delete(stripe);
        this.answerSoon(token, 0);
      }
      return;
    }
    this.begin('release', request, () => {
      if (this.has(stripe) && !allVacant(this.segment(stripe).entries)) request.left.add(0);
      else this.slots.delete(stripe);
      return 0;
    });
  }

  private restamp(request: SegmentRequest): void {
    const { chunk: stripe, generation, flushNumber } = request;
    this.begin('restamp', request, () => {
      const segment = this.slots.get(stripe);
      if (segment !== undefined) Object.assign(segment, { generation, flushNumber, dirty: false });
      return 0;
    });
  }

  /** The entries of a segment. */
  entries(stripe: number): Uint32Array {
    return this.segment(stripe).entries.slice();
  }
}
