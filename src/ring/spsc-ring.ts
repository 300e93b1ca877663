/**
 * A single-producer single-consumer ring between two threads, in a SharedArrayBuffer. Exported as `strake/ring`.
 *
 * ```text
 *   word  0         16       32       48            64
 *        ┌─────────┬────────┬────────┬─────────────┬───────┬───────┬─────┐
 *        │ header  │  tail  │  head  │  sleeping   │ 64 B  │ 64 B  │ ... │   each of the first four has a cache
 *        └─────────┴────────┴────────┴─────────────┴───────┴───────┴─────┘   line to itself
 *          fixed    producer consumer  both          entry 0
 * ```
 *
 * - `tail` counts the entries ever published, `head` those ever released, both modulo 2^32. The producer writes `tail` and
 *   entries from `head + entries` on; the consumer writes `head` and reads entries below `tail`.
 * - An entry is written first and published last; it is read first and released last. Atomics are sequentially consistent,
 *   so an entry below `tail` is seen whole.
 * - `sleeping` is set to 1 by a consumer that has found the ring empty, which then looks again before it sleeps. A producer
 *   that has published and finds 1 exchanges it for 0 and wakes the consumer, once. In any order of the four steps
 *   (publish, look at `sleeping`; set `sleeping`, look at `tail`) one side sees the other: no wake-up is lost, and none is
 *   sent to a consumer that is awake.
 *
 * How to wake a consumer is the user's business: `publish` says when to. Indices read from shared memory are checked, so
 * that a peer gone wrong causes an error instead of reads outside of the ring.
 */

import { made, powerOfTwo } from '../core/arguments.js';
import { ENTRIES_MAX } from './limits.js';

/** Bytes of an entry. */
export const RING_ENTRY_BYTES = 64;
/** Words (int32) of an entry. */
export const RING_ENTRY_WORDS = RING_ENTRY_BYTES / 4;

const MAGIC = 0x53524e47;
const WORD_MAGIC = 0;
const WORD_ENTRIES = 1;
const WORD_TAIL = 16;
const WORD_HEAD = 32;
const WORD_SLEEPING = 48;
const WORDS_BEFORE_ENTRIES = 64;

const ringEntries = powerOfTwo(2, ENTRIES_MAX);
/** Throws unless it is called on such memory, whatever the memory says of itself. */
const sharedLength = Object.getOwnPropertyDescriptor(SharedArrayBuffer.prototype, 'byteLength')?.get as () => number;
const sharedMemory = made<SharedArrayBuffer>('a SharedArrayBuffer', (value) => {
  try {
    return sharedLength.call(value) >= 0;
  } catch {
    return false;
  }
});

/**
 * Memory for a ring of `entries` entries: a power of two from 2 to 2^20. Throws `ERR_STRAKE_INVALID_ARGUMENT` otherwise.
 */
export function createRing(entries: number): SharedArrayBuffer {
  ringEntries.take(entries, 'createRing: entries');
  const memory = new SharedArrayBuffer(WORDS_BEFORE_ENTRIES * 4 + entries * RING_ENTRY_BYTES);
  const words = new Int32Array(memory);
  words[WORD_MAGIC] = MAGIC;
  words[WORD_ENTRIES] = entries;
  return memory;
}

/** The other side of a ring has broken the protocol. */
export class RingCorruptError extends Error {
  constructor(what: string) {
    super(`the ring is corrupt: ${what}`);
    this.name = 'RingCorruptError';
  }
}

abstract class RingEnd {
  /** The ring's memory by int32 words; entries start where `reserve` and `next` say. */
  readonly words: Int32Array;
  /** The same by float64: an entry's first element is its word index divided by two. */
  readonly floats: Float64Array;
  /** Entries of the ring. */
  readonly entries: number;

  constructor(memory: SharedArrayBuffer) {
    sharedMemory.take(memory, 'memory');
    if (memory.byteLength < WORDS_BEFORE_ENTRIES * 4 || memory.byteLength % 8 !== 0) {
      throw new RingCorruptError('this memory was not made by createRing');
    }
    this.words = new Int32Array(memory);
    this.floats = new Float64Array(memory);
    this.entries = this.words[WORD_ENTRIES];
    const bytes = WORDS_BEFORE_ENTRIES * 4 + this.entries * RING_ENTRY_BYTES;
    if (this.words[WORD_MAGIC] !== MAGIC || bytes !== memory.byteLength) {
      throw new RingCorruptError('this memory was not made by createRing');
    }
  }

  /** First word of the entry with this count. */
  protected wordOf(count: number): number {
    return WORDS_BEFORE_ENTRIES + (count & (this.entries - 1)) * RING_ENTRY_WORDS;
  }

  /** `later - earlier` of two counts modulo 2^32, checked to be a possible number of entries. */
  protected distance(later: number, earlier: number): number {
    const distance = (later - earlier) | 0;
    if (distance < 0 || distance > this.entries) throw new RingCorruptError(`${distance} entries in use`);
    return distance;
  }
}

/** The end that writes. Exactly one thread may use it. */
export class RingProducer extends RingEnd {
  private tail: number;
  private head: number;

  constructor(memory: SharedArrayBuffer) {
    super(memory);
    this.tail = Atomics.load(this.words, WORD_TAIL);
    this.head = Atomics.load(this.words, WORD_HEAD);
  }

  /** First word of the next free entry, to be filled before `publish`; -1 if the ring is full. */
  reserve(): number {
    if (this.distance(this.tail, this.head) === this.entries) {
      this.head = Atomics.load(this.words, WORD_HEAD);
      if (this.distance(this.tail, this.head) === this.entries) return -1;
    }
    const word = this.wordOf(this.tail);
    this.tail = (this.tail + 1) | 0;
    return word;
  }

  /** Shows the reserved entries to the consumer. Returns whether it sleeps and has to be woken. */
  publish(): boolean {
    Atomics.store(this.words, WORD_TAIL, this.tail);
    if (Atomics.load(this.words, WORD_SLEEPING) === 0) return false;
    return Atomics.exchange(this.words, WORD_SLEEPING, 0) === 1;
  }
}

/** The end that reads. Exactly one thread may use it. */
export class RingConsumer extends RingEnd {
  private head: number;
  private tail: number;
  /** As `head` in the ring's memory, which the other side could change. */
  private released: number;

  constructor(memory: SharedArrayBuffer) {
    super(memory);
    this.head = Atomics.load(this.words, WORD_HEAD);
    this.tail = this.head;
    this.released = this.head;
  }

  /** First word of the next entry, which stays valid until `release`; -1 if there is none. */
  next(): number {
    if (this.head === this.tail) {
      const tail = Atomics.load(this.words, WORD_TAIL);
      // Not before what has been taken, and not beyond what has been given back.
      this.distance(tail, this.head);
      this.distance(tail, this.released);
      this.tail = tail;
      if (this.head === tail) return -1;
    }
    const word = this.wordOf(this.head);
    this.head = (this.head + 1) | 0;
    return word;
  }

  /** Gives all entries returned by `next` back to the producer. */
  release(): void {
    this.released = this.head;
    Atomics.store(this.words, WORD_HEAD, this.head);
  }

  /** Announces that the consumer will sleep. False if an entry has arrived, in which case it must not. */
  sleep(): boolean {
    Atomics.store(this.words, WORD_SLEEPING, 1);
    if (Atomics.load(this.words, WORD_TAIL) === this.head) return true;
    Atomics.store(this.words, WORD_SLEEPING, 0);
    return false;
  }
}
