/**
 * What a mutant is: a deliberate fault in code that keeps data safe, and who should notice it.
 *
 * A mutant that nobody notices is a hole in the tests, or no fault at all; one of the second kind does not belong here. The
 * texts to replace are exact and occur once, so that a change of the code cannot turn a mutant into nothing without notice.
 */

import type { ClusterFaultKind } from '#strake/sim/cluster/cluster-plan.js';
import type { FaultKind } from '#strake/sim/trial/plan.js';

/** A change of one place. */
export interface Edit {
  /** Below `src`. */
  readonly file: string;
  /** Has to occur exactly once. */
  readonly find: string;
  readonly replace: string;
}

/** Which form a file of tests has, if it has two: that of `npm test`, or that of `npm run test:deep`. */
export type Form = 'brief' | 'full';

/** Who is asked whether something is wrong. */
export type Judge =
  /** Seeds of the simulator, one after the other, until one fails. */
  | { readonly kind: 'sim'; readonly faults: readonly FaultKind[] | 'all'; readonly seeds: number }
  /** The same of whole clusters. */
  | { readonly kind: 'cluster'; readonly faults: readonly ClusterFaultKind[] | 'all'; readonly seeds: number }
  /** A file of tests, below `test`; in full, if nothing else is said. */
  | { readonly kind: 'test'; readonly file: string; readonly form?: Form };

export interface Mutant {
  readonly name: string;
  /** What it breaks. */
  readonly breaks: string;
  /** The rule that it breaks, in a few words. */
  readonly rule: string;
  readonly edits: readonly Edit[];
  /** Asked in this order, until one notices. */
  readonly judges: readonly Judge[];
}

/** The simulator with these kinds of faults only, which finds faults that they uncover sooner. */
export function sim(faults: readonly FaultKind[] | 'all', seeds = 200): Judge {
  return { kind: 'sim', faults, seeds };
}

/** Whole clusters in the simulator, likewise. */
export function cluster(faults: readonly ClusterFaultKind[] | 'all', seeds = 200): Judge {
  return { kind: 'cluster', faults, seeds };
}

export function tests(file: string): Judge {
  return { kind: 'test', file };
}
