/** What bounds a store alone. Bounds that others share, or that memory of a shard follows from, are in `src/core/limits.ts`. */

/** Blocks written between two flushes up to which their entries are journaled before the second is asked for. */
export const EAGER_BLOCKS_MAX = 16;
/** Discards of slots that were given back, in flight. */
export const DISCARDS_MAX = 16;
/** Pages of the volumes region: each holds one volume in one placement group. */
export const VOLUME_PAGES_MIN = 256;
export const VOLUME_PAGES_MAX = 65_536;
/** Entries of the slot table for each slot. */
export const SLOT_ENTRIES_EACH_MAX = 4;
/** Members of a replica group beyond one for each place: so many may be moving. */
export const MOVING_MAX = 2;
