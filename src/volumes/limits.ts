/** What bounds the volumes of a node alone. Bounds that others share are in `src/core/limits.ts`. */

/** How long whoever is to be asked again is left alone: managers, and members that have a newer map. */
export const MANAGED_PAUSE_MS = 250;
/** How often a change that nobody waits for is refused before it is given up. */
export const REFUSALS_MAX = 8;
/** After how many times that a client has told of itself members are looked for that could be brought up to date. */
export const RESUME_ROUNDS = 10;
/** Jobs of which one renewal tells. */
export const JOBS_TOLD_MAX = 256;
/** Volumes that a node attends to as a janitor at a time. */
export const JANITOR_VOLUMES_MAX = 4;
/** After how many pauses in which nobody is brought up to date a janitor gives up members, and between two tries. */
export const JANITOR_PAUSES_MAX = 40;
export const JANITOR_RETRY_PAUSES = 4;
/** Pauses in which managers have to hear what the members of volumes that are handed over have answered. */
export const ADOPTION_PAUSES_MAX = 40;
