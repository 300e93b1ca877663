/** Medians with their spread. */

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** The middle of a non-empty list; of an even number, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.slice().sort((one, other) => one - other);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export function spread(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/** A median, and the interval that holds that of the population with this probability. */
export interface MedianInterval {
  readonly median: number;
  readonly low: number;
  readonly high: number;
  /** Between 0 and 1; below what was asked for where the values are too few. */
  readonly coverage: number;
}

/**
 * The interval of a median from order statistics, without any assumption on how values are distributed but that they are
 * independent: each is below the true median with probability 1/2, so the k-th smallest of n is above it with the probability
 * that fewer than k of n fair coins show heads. Takes the narrowest interval from the k-th smallest to the k-th largest with at
 * least `coverage`; from the smallest to the largest where the values are too few for it (below six for 95%). See e.g. Conover,
 * Practical Nonparametric Statistics.
 */
export function medianInterval(values: readonly number[], coverage = 0.95): MedianInterval {
  const sorted = values.slice().sort((one, other) => one - other);
  const { length } = sorted;
  // Probability that exactly `heads` of all coins show heads, and that at most so many do.
  let exactly = 0.5 ** length;
  let atMost = exactly;
  let rank = 0;
  let covered = 1 - 2 * atMost;
  while (rank + 1 < length / 2) {
    exactly *= (length - rank) / (rank + 1);
    if (1 - 2 * (atMost + exactly) < coverage) break;
    atMost += exactly;
    rank += 1;
    covered = 1 - 2 * atMost;
  }
  return { median: median(values), low: sorted[rank], high: sorted[length - 1 - rank], coverage: covered };
}
