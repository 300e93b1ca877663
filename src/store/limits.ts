/** What bounds a store alone. Bounds that others share, or that memory of a shard follows from, are in `src/core/limits.ts`. */

/** Blocks written between two flushes up to which their entries are journaled before the second is asked for. */
export const EAGER_BLOCKS_MAX = 16;
/** Discards of slots that were given back, in flight. */
export const DISCARDS_MAX = 16;
