/**
 * Which sequence on a whole cluster notices a mutant, beside the tests of the part that it is in: the file below `test/sim`, and
 * the title of the first of its tests that fails.
 */

import { type Mutant, tests } from './mutant.js';

export interface Sequence {
  readonly file: string;
  readonly title: string;
}

const inFile =
  (file: string) =>
  (title: string): Sequence => ({ file, title });
const leases = inFile('sequences-leases');
const copying = inFile('sequences-copying');
const maps = inFile('sequences-maps');
const attach = inFile('sequences-attach');

const CUT_OFF = leases('a client that reaches one member alone reads nothing that another has replaced');
const FROZEN = leases('a guest that was frozen with its clocks has no leases when it goes on');
const DEAD_IN_TAKE_IN = maps('a group goes on when a member dies that a take-in waits for (dead-member-in-pending)');
const GOES_ON = attach('whoever serves a volume goes on when a candidate goes away, and loses nothing (failed-attach)');
const LATE_PONG = leases('a client counts its lease from its question, however late the answer is');

export const SEQUENCES: Readonly<Record<string, Sequence>> = {
  'lease-reads-without-leases': CUT_OFF,
  'lease-one-is-enough': CUT_OFF,
  'lease-not-waited-for': CUT_OFF,
  'lease-counted-from-the-reply': LATE_PONG,
  'lease-by-an-old-reading-of-the-clock': LATE_PONG,
  'lease-though-clocks-move-apart': FROZEN,
  'lease-pong-overtakes-map': leases(
    'an answer that a map has overtaken grants no lease under that map (pong-overtakes-map)',
  ),
  'lease-ends-with-the-connection': leases(
    'a node that sees a connection end waits for the lease that it has given on it (lease-outlives-connection)',
  ),
  'lease-of-the-former-life-forgotten': leases(
    'a node whose power failed answers no map while leases go on that it has forgotten',
  ),
  'lease-of-any-map-waited-for': leases(
    'an attach waits for nobody that can still be heard by some members (half-cut-engine)',
  ),
  'eio-drops-the-piece': copying(
    'a write that was answered with EIO is sent on until its member has it (eio-keeps-the-piece)',
  ),
  'reconcile-off': copying(
    'a member is compared again when another writer has decided about a write (job-and-new-writer)',
  ),
  'removal-not-addable': DEAD_IN_TAKE_IN,
  'one-answer-is-enough': DEAD_IN_TAKE_IN,
  'attach-not-addable': maps('a volume can be attached whatever is pending'),
  'removal-shares-nobody': maps('nobody leaves who alone is in the last map that has taken effect'),
  'restart-takes-pending-for-effective': maps('what a manager has decided is not effective because it starts anew'),
  'session-map-answered-before-the-drain': maps('a map is answered when what was admitted before it has ended'),
  'deposed-at-once': GOES_ON,
  'held-dropped': GOES_ON,
  'held-written-anyway': attach(
    'a write that was held is never written when another generation was served meanwhile (failed-attach)',
  ),
};

/** Mutants that sequences notice, each before its sequence alone. */
export function beforeSequences(mutants: readonly Mutant[]): Mutant[] {
  return mutants
    .filter(({ name }) => Object.hasOwn(SEQUENCES, name))
    .map((mutant) => ({ ...mutant, judges: [tests(`sim/${SEQUENCES[mutant.name].file}.test.ts`)] }));
}
