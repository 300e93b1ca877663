/** Mutants of what a writer tells to be settled, and of what the next one does with it. */

import { type Mutant, tests } from './mutant.js';

const DYING = tests('client/dying-writer.test.ts');
const OWN_FLUSH = tests('client/own-flush.test.ts');
const KEPT = tests('store/settled.test.ts');
const TOLD = tests('client/settled.test.ts');
const MARKS = 'store/running/settled-marks.ts';
const TABLE = 'store/running/volume-table.ts';

export const SETTLED_MUTANTS: readonly Mutant[] = [
  {
    name: 'unsettled-believed',
    breaks: 'Segments that were recorded after what is settled count as equal if their stamps are',
    rule: 'what a writer that dies alone had under way is reconciled',
    edits: [
      {
        file: 'client/mirror/reconcile.ts',
        find: 'const bounds = [settled ?? AFTER_ALL,',
        replace: 'const bounds = [settled === null ? (settled ?? AFTER_ALL) : AFTER_ALL,',
      },
    ],
    judges: [DYING],
  },
  {
    name: 'settled-not-durable',
    breaks: 'What is settled is known while the device is open, and is not in its journal',
    rule: 'what is settled bounds what a later engine compares, whatever has died',
    edits: [
      {
        file: MARKS,
        find: 'check(batch.addSettled(page, mark), ',
        replace: 'check(mark.generation > 0, ',
      },
    ],
    judges: [KEPT],
  },
  {
    name: 'settled-not-in-page',
    breaks: 'What is settled is in the journal, and not in the page that a checkpoint writes',
    rule: 'what is settled bounds what a later engine compares, whatever has died',
    edits: [{ file: MARKS, find: '    this.changed.add(page);\n', replace: '' }],
    judges: [KEPT],
  },
  {
    name: 'settled-falls',
    breaks: 'What is settled is what was told last, in whatever order that came',
    rule: 'what is settled only rises',
    edits: [{ file: MARKS, find: 'if (!isBefore(this.marks[page], told)) return;', replace: '' }],
    judges: [KEPT],
  },
  {
    name: 'settled-while-syncing',
    breaks: 'A device that lacks some of it takes for settled what the others are told',
    rule: 'what is settled is on every member in-sync',
    edits: [{ file: TABLE, find: 'if (this.isInSync(page)) this.settled.tell', replace: 'this.settled.tell' }],
    judges: [KEPT],
  },
  {
    name: 'settled-told-to-syncing',
    breaks: 'Flushes tell a member that is being brought up to date what is settled',
    rule: 'what is settled is on every member in-sync',
    edits: [
      {
        file: 'client/requests/volume-flush.ts',
        find: "slot.member === member && slot.state === 'in-sync'",
        replace: 'slot.member === member',
      },
    ],
    judges: [TOLD],
  },
  {
    name: 'settled-of-the-last',
    breaks: 'A replica that is given a page knows what was settled of the one before',
    rule: 'what is settled is told of one replica',
    edits: [{ file: MARKS, find: '    this.marks[page] = NO_FLUSH;\n', replace: '' }],
    judges: [KEPT],
  },
  {
    name: 'settled-told-too-early',
    breaks: 'A flush tells that what it is about to make durable is settled',
    rule: 'what is settled is on every member in-sync',
    edits: [
      {
        file: 'client/requests/volume-flush.ts',
        find: 'told ? this.settled : NO_FLUSH',
        replace: 'told ? { ...this.settled, flushNumber: this.durableNext } : NO_FLUSH',
      },
    ],
    judges: [TOLD],
  },
  {
    name: 'unsettled-at-the-end',
    breaks: 'An engine that is closed leaves its last modifications unsettled',
    rule: 'after an orderly end nothing is compared',
    edits: [
      {
        file: 'client/volume-engine.ts',
        find: 'await settleAtEnd(this.parts, this.flushes, this.ownFlush.modified);',
        replace: '',
      },
    ],
    judges: [TOLD],
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
