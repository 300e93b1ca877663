/** Bounds of the store of a manager. */

/** Room below which a batch that fails counts as one for which there was none. */
export const STORE_ROOM_BYTES = 1 << 20;
/** Levels of a tree of pages: 2^32 pages would have no more. */
export const TREE_LEVELS_MAX = 32;
/** The largest map that the file of a store may ask for: LMDB maps what it says. */
export const MAP_BYTES_MAX = 2 ** 44;
