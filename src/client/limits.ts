/** What bounds volumes alone. Bounds that others share are in `src/core/limits.ts`. */

/** The largest sequence number of a write: 40 bits. */
export const SEQUENCE_MAX = 2 ** 40 - 1;
/** Chunks modified since the last flush began from which on an engine flushes by itself. */
export const OWN_FLUSH_CHUNKS = 1024;
/** How long a modification goes unflushed; it is looked at every `WATCH_MS`. */
export const OWN_FLUSH_MS = 5_000;
/** How often blocks are compared anew that have changed when they were about to be made equal, as what is late comes but once. */
export const COMPARISONS_MAX = 8;
