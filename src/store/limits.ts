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
/**
 * Slots of a device: 512 TiB of 1 MiB each. With `SLOT_ENTRIES_EACH_MAX` entries for each, numbers of entries have 31 bits, and
 * those of buckets of the hash table over slots in memory (`SlotTable`) have 30.
 */
export const SLOTS_MAX = 2 ** 29;
/** Members of a replica group that the entry of a slot can name: it has one byte for the place of its member. */
export const SLOT_MEMBER_MAX = 255;
/** The smallest slot; the largest is what one page of its block table describes. */
export const SLOT_BYTES_MIN = 64 << 10;
/** Pages that the root has references for: of the directory, or of its index where there is one. */
export const DIRECTORY_PAGES_MAX = 1024;
/** Slots that may be in the activity log. */
export const ACTIVE_SLOTS_MAX = 1024;
/** Block tables of one store that are read into memory at a time; more wait. As long as a device is silent it may keep them. */
export const TABLE_LOADS_MAX = 256;
/** Stores that share memory of block tables: those of a shard, and former ones whose devices did not answer. */
export const TABLE_SHARERS_MAX = 255;
/** Pages of the journal. */
export const JOURNAL_PAGES_MIN = 64;
export const JOURNAL_PAGES_MAX = 4096;
/** Pages of one batch of the journal. */
export const BATCH_PAGES_MAX = 16;
