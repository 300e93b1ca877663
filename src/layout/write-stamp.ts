/**
 * The stamp of a block's content: it orders the writes of a volume. What its bits mean is told in
 * `src/client/requests/write-stamps.ts`; here and on devices it is a number of 64 bits.
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
