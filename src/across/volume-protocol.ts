/**
 * The memory through which a shard asks volumes whose engines are on another: two rings.
 *
 * ```text
 *   asking shard                                                        shard of the engines
 *     requests ──── an entry each, payload by its place in the arena ─────────► engines
 *              ◄─── replies ───────────────────────────────────────────────────
 *
 *   request   0 what · 1 tag · 2 engine · 3 memory · 4-5 offset · 6-7 span · 8 flags, of extents room
 *   reply     0 what · 1 tag · 2 result · 3 flags · 4 memory that has come back
 * ```
 *
 * Numbers in pairs of words are float64. Memory is that of the node's first shard, which asks; it belongs to the other side until
 * the reply, or, if that says that an operation was given up, until a reply says that it has come back.
 */

import { createRing } from '../ring/spsc-ring.js';
import { VOLUME_REPLY_RING_ENTRIES, VOLUME_RING_ENTRIES } from './limits.js';

export const VOLUME_READ = 1;
export const VOLUME_WRITE = 2;
export const VOLUME_FLUSH = 3;
export const VOLUME_DISCARD = 4;
export const VOLUME_ZERO = 5;
export const VOLUME_EXTENTS = 6;

export const VOLUME_DONE = 1;
export const VOLUME_BACK = 2;

/** The memory of one direction; each of it is shared by two shards. */
export interface VolumeLink {
  readonly requests: SharedArrayBuffer;
  readonly replies: SharedArrayBuffer;
}

export function createVolumeLink(): VolumeLink {
  return { requests: createRing(VOLUME_RING_ENTRIES), replies: createRing(VOLUME_REPLY_RING_ENTRIES) };
}
