/** What bounds a ring between threads. */

/** Entries of a ring. */
export const ENTRIES_MAX = 1 << 20;
