/**
 * The tiers of tests as judges: which mutants `npm test` and `npm run test:deep` notice by themselves, without the seeds of the
 * simulator that are chosen for each mutant.
 */

import type { Form, Judge, Mutant } from './mutant.js';

/** Files that look at what mutants break, those first that end soonest. */
const FILES = [
  'client/volume-engine.test.ts',
  'client/volume-engine-discards.test.ts',
  'client/volume-engine-reconcile.test.ts',
  'client/volume-engine-resync.test.ts',
  'node-sim/restart.test.ts',
  'store/journal.test.ts',
  'client/volume-engine-random.test.ts',
  'node-sim/mirror-death.test.ts',
  'store/crash.test.ts',
  'store/corruption.test.ts',
  'store/damaged-roots.test.ts',
  'nbd/transmission.test.ts',
  'store/crash-images.test.ts',
  'sim/trials.test.ts',
  'sim/seeds-first.test.ts',
  'sim/seeds-second.test.ts',
];

/** A mutant before the files of a tier: those that are named for it, then those for all. */
export function beforeTier(mutant: Mutant, form: Form): Mutant {
  const named = mutant.judges.flatMap((judge) => (judge.kind === 'test' ? [judge.file] : []));
  const judges = [...new Set([...named, ...FILES])].map((file): Judge => ({ kind: 'test', file, form }));
  return { ...mutant, judges };
}
