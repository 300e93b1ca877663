/**
 * Two builds against each other: who is measured when, where, and what is concluded.
 *
 * The builds take turns, A B B A and so on, so that a machine that becomes slower or faster meanwhile favours neither. A pair is
 * a measurement of each, one right after the other, on the same file. What counts is the ratio within pairs.
 */

import { type MedianInterval, median, medianInterval } from './statistics.js';

/** Pairs that a comparison takes at least, so that its interval has 95% without its two extremes. */
export const PAIRS_MIN = 9;
/** Ratio below which a build is slower than what is tolerated. */
export const BOUND = 0.98;
const COVERAGE = 0.95;

/** `before` is the commit that is compared with, `after` the tree that is worked on. */
export type Build = 'before' | 'after';

/** `not judged`: there were too few pairs for an interval of 95%. */
export type Verdict = 'lower' | 'not lower' | 'not judged';

/** One row of a comparison; `before` and `after` are medians in `unit`. */
export interface PairedRow {
  readonly id: string;
  readonly unit: string;
  readonly before: number;
  readonly after: number;
  /** After divided by before, pair by pair. */
  readonly ratios: readonly number[];
  readonly ratio: MedianInterval;
  readonly verdict: Verdict;
}

/** In which order the builds of a pair are measured. */
export function orderOf(pair: number): readonly [Build, Build] {
  return pair % 2 === 0 ? ['before', 'after'] : ['after', 'before'];
}

/** Lower only if the whole interval is below the bound: a ratio that may as well be above it proves nothing. */
export function verdictOf({ high, coverage }: MedianInterval, bound: number): Verdict {
  if (coverage < COVERAGE) return 'not judged';
  return high < bound ? 'lower' : 'not lower';
}

/** Compares values of both builds, pair by pair. */
export function compare(
  row: { readonly id: string; readonly unit: string },
  before: readonly number[],
  after: readonly number[],
  bound: number,
): PairedRow {
  const ratios = after.map((value, pair) => value / before[pair]);
  const ratio = medianInterval(ratios, COVERAGE);
  const verdict = verdictOf(ratio, bound);
  return { id: row.id, unit: row.unit, before: median(before), after: median(after), ratios, ratio, verdict };
}

/** Processors for a server and for its client. */
export interface Pinning {
  readonly server: readonly number[];
  readonly client: readonly number[];
}

/**
 * Divides processors so that server and client share none, and no core if there are two: half of the cores for each. `cores`:
 * the processors of each core. Null if there is one processor only.
 */
export function divide(cores: readonly (readonly number[])[]): Pinning | null {
  if (cores.length === 1) {
    const [only] = cores;
    const half = only.length >> 1;
    return half === 0 ? null : { server: only.slice(0, half), client: only.slice(half) };
  }
  const half = cores.length >> 1;
  return half === 0 ? null : { server: cores.slice(0, half).flat(), client: cores.slice(half).flat() };
}

/** Whether an id is meant by a pattern: it begins with it, or, with `*` for anything, is it. */
export function matches(id: string, pattern: string): boolean {
  if (!pattern.includes('*')) return id.startsWith(pattern);
  const parts = pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`).test(id);
}
