/** Bounds of what store and client share. */

/** Members of a replica group beyond one for each place: so many may be moving. */
export const MOVING_MAX = 2;
