/**
 * The memory through which a shard asks members whose stores are on another: two rings, and areas for what does not fit into an
 * entry.
 *
 * ```text
 *   asking shard                                                               shard of the stores
 *     records ──── requests: an entry each, payload by its place in the arena ────► members
 *             ◄─── replies: an entry, and a second one if blocks are named ───────
 *             ◄──► areas: entries of blocks, pages of lists; lent to the other side with a request
 *
 *   request   0 what, kind << 8 · 1 tag · 2 member · 3 memory · 4-5 chunk · 6 block · 7 blocks · 8-9 stamp ·
 *             10-11 flush number · 12 generation · 13 flags · 14 area, -1 for none · 15 words in it
 *             of a flush also: 4-5 settled number · 8 settled generation
 *   list      0 what, kind << 8 · 1 tag · 2 member · 4-5 first chunk · 6-7 end chunk · 8-9 cursor · 10-11 since, number ·
 *             12-13 since, generation · 14 area · 15 entries at the most
 *   open      0 what · 2 member · 3 device · 4 page
 *   close     0 what · 2 member
 *
 *   reply     0 what · 1 tag · 2 result · 3 flags · 4 fence · 5 whether blocks are named in the next entry · 6 count of a list ·
 *             8-9 next of a list · 10 memory that has come back
 *   blocks    0-7 bad · 8-15 left
 * ```
 *
 * Numbers in pairs of words are float64. Memory is addressed as the asking shard does; the other side has that arena as a guest
 * behind its own. An area belongs to the side that has its request; so does the memory of a payload, until its reply, or,
 * if that says that the operation was given up, until a reply says that it has come back.
 */

import { ENTRY_WORDS } from '../layout/block-entry.js';
import { CHUNK_BLOCKS_MAX, LIST_PAGE_CHUNKS } from '../ports/limits.js';
import { createRing } from '../ring/spsc-ring.js';
import { ENTRY_AREAS, LIST_AREAS, REPLY_RING_ENTRIES, REQUEST_RING_ENTRIES } from './limits.js';

export const ASK_REQUEST = 1;
export const ASK_LIST = 2;
export const ASK_OPEN = 3;
export const ASK_CLOSE = 4;
/** Word 0 of what is asked: the kind of a request or a list is above this. */
export const KIND_SHIFT = 8;

export const REPLY_DONE = 1;
export const REPLY_BACK = 2;

export const NO_AREA = -1;

/** Words of an area of entries: of a copy those that are expected, and those of the source. */
export const ENTRY_AREA_WORDS = 2 * CHUNK_BLOCKS_MAX * ENTRY_WORDS;
const ENTRY_AREA_BYTES = ENTRY_AREA_WORDS * 4;
/** A page of a list: three numbers and a state for each chunk. */
const LIST_AREA_BYTES = LIST_PAGE_CHUNKS * (3 * 8 + 1);

/** The memory of one direction; each of it is shared by two shards. */
export interface LinkMemory {
  readonly requests: SharedArrayBuffer;
  readonly replies: SharedArrayBuffer;
  readonly areas: SharedArrayBuffer;
}

export function createLink(): LinkMemory {
  return {
    requests: createRing(REQUEST_RING_ENTRIES),
    replies: createRing(REPLY_RING_ENTRIES),
    areas: new SharedArrayBuffer(LIST_AREAS * LIST_AREA_BYTES + ENTRY_AREAS * ENTRY_AREA_BYTES),
  };
}

/** The first so many words of an area of entries. */
export function entryArea(areas: SharedArrayBuffer, area: number, words: number): Uint32Array {
  return new Uint32Array(areas, LIST_AREAS * LIST_AREA_BYTES + area * ENTRY_AREA_BYTES, words);
}

/** An area for a page of a list. */
export class ListArea {
  readonly chunks: Float64Array;
  readonly generations: Float64Array;
  readonly flushNumbers: Float64Array;
  readonly states: Uint8Array;

  constructor(areas: SharedArrayBuffer, area: number) {
    const start = area * LIST_AREA_BYTES;
    const column = (at: number) => new Float64Array(areas, start + at * LIST_PAGE_CHUNKS * 8, LIST_PAGE_CHUNKS);
    this.chunks = column(0);
    this.generations = column(1);
    this.flushNumbers = column(2);
    this.states = new Uint8Array(areas, start + 3 * LIST_PAGE_CHUNKS * 8, LIST_PAGE_CHUNKS);
  }
}

/** What a list is made of on either side. */
type Columns = Pick<ListArea, 'chunks' | 'generations' | 'flushNumbers' | 'states'>;

/** Copies the first `count` entries of a page. */
export function copyPage(from: Columns, to: Columns, count: number): void {
  to.chunks.set(from.chunks.subarray(0, count));
  to.generations.set(from.generations.subarray(0, count));
  to.flushNumbers.set(from.flushNumbers.subarray(0, count));
  to.states.set(from.states.subarray(0, count));
}
