/** Mutants of what a writer tells to be settled, and of what the next one does with it. */

import { type Mutant, tests } from './mutant.js';

const DYING = tests('client/dying-writer.test.ts');
const OWN_FLUSH = tests('client/own-flush.test.ts');

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
  {
    name: 'release-before-settled',
    breaks: 'A slot is given back when its blocks were discarded, before any flush makes the zeroes durable',
    rule: 'the stamp of a zero orders it against copies until it is settled',
    edits: [
      {
        file: 'client/mirror/copy-jobs.ts',
        find: '    this.reclaims[group].note(stripe, flushNumber);\n',
        replace: '    this.reclaims[group].note(stripe, flushNumber);\n    void this.reclaims[group].release();\n',
      },
      {
        file: 'client/mirror/reclaim.ts',
        find: 'const below = this.flushes.rememberedBelow;',
        replace: 'const below = Number.POSITIVE_INFINITY;',
      },
      {
        file: 'client/mirror/reclaim.ts',
        find: 'return zeroed === undefined || zeroed < this.flushes.rememberedBelow;',
        replace: 'return zeroed === undefined || zeroed < Number.POSITIVE_INFINITY;',
      },
    ],
    judges: [DYING],
  },
  {
    name: 'release-behind-running-flush',
    breaks: 'A slot is given back when a flush ends that had begun before its blocks were discarded',
    rule: 'no slot is given back before a flush that covers the zeroes',
    edits: [
      {
        file: 'client/mirror/reclaim.ts',
        find: 'const below = this.flushes.rememberedBelow;',
        replace: 'const below = Number.POSITIVE_INFINITY;',
      },
      {
        file: 'client/mirror/reclaim.ts',
        find: 'return zeroed === undefined || zeroed < this.flushes.rememberedBelow;',
        replace: 'return zeroed === undefined || zeroed < Number.POSITIVE_INFINITY;',
      },
    ],
    judges: [DYING],
  },
  {
    name: 'own-flush-untold',
    breaks: 'What a flush of the engine itself has found to be lost is told to nobody',
    rule: 'a flush says so if what was acknowledged may be lost',
    edits: [
      {
        file: 'client/requests/volume-flush.ts',
        find: '    if (result < 0) this.untold = true;\n',
        replace: '    if (result < 0 && running.length > 0) this.untold = true;\n',
      },
    ],
    judges: [OWN_FLUSH],
  },
  {
    name: 'late-write-unflushed',
    breaks: 'A segment that was modified before the last flush and again behind it is not flushed any more',
    rule: 'the engine flushes what nobody else does',
    edits: [{ file: 'client/requests/own-flush.ts', find: '    this.lastChunk = -1;\n', replace: '' }],
    judges: [OWN_FLUSH],
  },
];
