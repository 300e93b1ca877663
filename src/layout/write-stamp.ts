/**
 * The stamp of a block's content: a number of 64 bits that orders the writes of a volume.
 *
 * ```text
 *   high word:  generation (24 bits) │ sequence, upper 8 bits      low word:  sequence, lower 32 bits
 * ```
 *
 * Engines give stamps (`src/client/requests/write-stamps.ts`). Devices only compare them, and tell of which generation they are.
 */

/** Two words of 32 bits. */
export interface Stamp {
  readonly low: number;
  readonly high: number;
}

/** Order of two stamps: negative, zero or positive. */
export function compareStamps(one: Stamp, other: Stamp): number {
  return one.high - other.high || one.low - other.low;
}

/** The generation in which a stamp was given, by its high word. */
export function generationOf(high: number): number {
  return high >>> 8;
}
