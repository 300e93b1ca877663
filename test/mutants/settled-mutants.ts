/** Mutants of what a writer tells to be settled, and of what the next one does with it. */

import { type Mutant, tests } from './mutant.js';

const DYING = tests('client/dying-writer.test.ts');

export const SETTLED_MUTANTS: readonly Mutant[] = [
  {
    name: 'unsettled-believed',
    breaks: 'Segments that were recorded after what is settled count as equal if their stamps are',
    rule: 'what a writer that dies alone had under way is reconciled',
    edits: [
      {
        file: 'client/mirror/reconcile.ts',
        find: '(recent || unsettled || !agrees)',
        replace: '(recent || (unsettled && recent) || !agrees)',
      },
    ],
    judges: [DYING],
  },
  {
    name: 'settled-too-high',
    breaks: 'All that was begun before a flush is told to be settled, what is still under way included',
    rule: 'what is settled is on every member in-sync',
    edits: [
      {
        file: 'client/requests/volume-flush.ts',
        find: 'this.durableNext = this.pieces.oldestFlushNumber(this.stamps.flushNumber);',
        replace: 'this.durableNext = this.stamps.flushNumber;',
      },
    ],
    judges: [DYING],
  },
  {
    name: 'writes-not-newer',
    breaks: 'Writes of an engine are applied whenever they arrive',
    rule: 'a write that is not newer than what the block has is answered, not applied',
    edits: [
      {
        file: 'client/mirror/mirror.ts',
        find: 'request.flags = (piece.flags & REQUEST_FUA) | REQUEST_NEWER;',
        replace: 'request.flags = piece.flags & REQUEST_FUA;',
      },
    ],
    judges: [DYING],
  },
];
