/** What bounds volumes alone. Bounds that others share are in `src/core/limits.ts`. */

/** The largest sequence number of a write: 40 bits. */
export const SEQUENCE_MAX = 2 ** 40 - 1;
