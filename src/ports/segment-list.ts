/**
 * What a member has of a volume, page by page: presence and state of chunks, or digests of them.
 *
 * A list is no picture of one moment. A chunk that has its slot from before the first page until after the last is listed once.
 * One that gets its slot, or loses it, meanwhile may be listed or not: the engine does both, and knows of it. The order is
 * that of the member.
 */

import type { ChunkIndex, FlushNumber, Generation } from './ids.js';
import { LIST_PAGE_CHUNKS } from './limits.js';

/** All chunks that have a slot. */
export const LIST_ALL = 0;
/** Those with a stamp at `since` or later, and those in doubt. */
export const LIST_SINCE = 1;
/** Those with a stamp at `since` or later of which no block is stored or kept, so that their slots can be released. */
export const LIST_ZERO = 2;
/**
 * A digest of each `DIGEST_CHUNKS` that holds any chunk: the sum, modulo 2^32 in each of two words, of a hash over number and
 * stamp of each chunk (`layout/chunk-digest.ts`). Ranges without chunks are left out.
 */
export const LIST_DIGESTS = 3;
/** Kinds are below. */
export const LIST_KINDS = 4;

/** The chunk was being modified when the device was last closed without notice: its content must be reconciled. */
export const CHUNK_DOUBT = 1;

/** One page of a list: made once and used again, the member's from `list` until its token ends. */
export class SegmentList {
  kind = LIST_ALL;
  /** Range of chunks: the first, and the one after the last. */
  firstChunk: ChunkIndex = 0;
  endChunk: ChunkIndex = Number.MAX_SAFE_INTEGER;
  sinceGeneration: Generation = 0;
  sinceNumber: FlushNumber = 0;
  /** Where the page begins: 0, and of later ones what the page before has answered as `next`. */
  cursor = 0;
  /** Entries that the page may have, 1 to `LIST_PAGE_CHUNKS`. */
  most = LIST_PAGE_CHUNKS;
  /** Ends with the entries of the page, or a negative errno: `-EINVAL` for what is no list. */
  token = 0;

  /** Of the answer: entries of this page; where the next one begins, -1 after the last. */
  count = 0;
  next = -1;
  /** Number of the chunk; of a digest, of the first of its range. */
  readonly chunks = new Float64Array(LIST_PAGE_CHUNKS);
  /** The chunk's stamp; of a digest, its two words. */
  readonly generations = new Float64Array(LIST_PAGE_CHUNKS);
  readonly flushNumbers = new Float64Array(LIST_PAGE_CHUNKS);
  /** `CHUNK_DOUBT`. */
  readonly states = new Uint8Array(LIST_PAGE_CHUNKS);

  /** Begins a list of chunks from `firstChunk` on, up to and without `endChunk`. */
  begin(kind: number, firstChunk: ChunkIndex = 0, endChunk: ChunkIndex = Number.MAX_SAFE_INTEGER): this {
    this.kind = kind;
    this.firstChunk = firstChunk;
    this.endChunk = endChunk;
    this.sinceGeneration = 0;
    this.sinceNumber = 0;
    this.cursor = 0;
    this.most = LIST_PAGE_CHUNKS;
    return this;
  }

  /** Adds an entry to the page. */
  add(chunk: ChunkIndex, generation: Generation, flushNumber: FlushNumber, state: number): void {
    const { count } = this;
    this.chunks[count] = chunk;
    this.generations[count] = generation;
    this.flushNumbers[count] = flushNumber;
    this.states[count] = state;
    this.count = count + 1;
  }
}
