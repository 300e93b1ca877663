/** Mutants of what holds when an engine dies and the stores of its members live on. */

import { type Mutant, sim, tests } from './mutant.js';

/** Volumes of clusters in a simulated world. */
const ATTACH = tests('cluster/attach.test.ts');
const HOLDING = tests('cluster/holding.test.ts');

export const ENGINE_MUTANTS: readonly Mutant[] = [
  {
    name: 'settled-ignored',
    breaks: 'Copies are compared only where something is in doubt, or recorded differently',
    rule: 'after the death of the writer whatever it may have had under way is compared',
    edits: [
      {
        file: 'client/mirror/reconcile.ts',
        find: 'const bounds = [settled ?? AFTER_ALL,',
        replace: 'const bounds = [settled === null ? (settled ?? AFTER_ALL) : AFTER_ALL,',
      },
    ],
    judges: [sim(['engine'], 60)],
  },
  {
    name: 'settled-not-read',
    breaks: 'What is settled is known while the device is open, and is not read when it is opened again',
    rule: 'after the death of the writer whatever it may have had under way is compared, whenever that is',
    edits: [
      {
        file: 'store/running/settled-marks.ts',
        find: 'this.marks = [...marks];',
        replace: 'this.marks = marks.map(() => NO_FLUSH);',
      },
    ],
    judges: [tests('store/settled.test.ts'), sim(['engine'], 200)],
  },
  {
    name: 'eio-drops-the-piece',
    breaks: 'A write that was held for too long is over when its client is told that it has failed',
    rule: 'a write that was told to have failed keeps its stamp and its blocks until every member has it',
    edits: [
      {
        file: 'client/mirror/mirror.ts',
        find: 'if (!piece.givenUp && piece.heldMs <= beforeMs) ends.gaveUp(piece);',
        replace: `{
      if (piece.heldMs > beforeMs) continue;
      this.held.splice(this.held.indexOf(piece), 1);
      ends.modified(piece, -EIO);
    }`,
      },
    ],
    judges: [HOLDING],
  },
  {
    name: 'space-held-for-ever',
    breaks: 'A write that waits for a slot on a member that is gone waits for as long as there is no manager',
    rule: 'whatever waits for a manager fails when it was held for too long',
    edits: [
      {
        file: 'client/mirror/mirror.ts',
        find: 'if (waiting.piece.heldMs > beforeMs) continue;',
        replace: 'if (waiting.piece.heldMs >= 0) continue;',
      },
    ],
    judges: [HOLDING],
  },
  {
    name: 'patches-held-for-ever',
    breaks: 'Patches that wait for scratch blocks of others that are held wait for as long as there is no manager',
    rule: 'what waits for requests that are held fails in its time',
    edits: [
      {
        file: 'client/requests/patches.ts',
        find: 'if (piece.heldMs <= beforeMs) this.parts.fail(piece);',
        replace: 'if (piece.heldMs < 0) this.parts.fail(piece);',
      },
    ],
    judges: [HOLDING],
  },
  {
    name: 'parts-held-for-ever',
    breaks: 'Split requests that wait for parts of others that are held wait for as long as there is no manager',
    rule: 'what waits for requests that are held fails in its time',
    edits: [
      {
        file: 'client/requests/split-requests.ts',
        find: 'if (request.starvedMs > beforeMs) this',
        replace: 'if (request.starvedMs >= 0) this',
      },
    ],
    judges: [HOLDING],
  },
  {
    name: 'flush-that-runs-fails',
    breaks: 'A flush that members have yet to answer fails at once when its volume is suspended',
    rule: 'flushes are held as long as other requests',
    edits: [
      {
        file: 'client/requests/volume-flush.ts',
        find: 'if (this.heldMs === 0 || this.heldMs > beforeMs) return;',
        replace: 'if (this.heldMs > beforeMs) return;',
      },
    ],
    judges: [tests('cluster/failed-attach.test.ts')],
  },
  {
    name: 'newer-map-is-a-failure',
    breaks: 'A member that has a newer map than the engine counts as one that has failed',
    rule: 'what a member has not done because of a newer map is asked again under that',
    edits: [
      {
        file: 'client/mirror/mirror.ts',
        find: '} else if (result === -ESTALE) piece.stale |= slot.bit;',
        replace: '} else if (result === -ESTALE) piece.failed |= slot.bit;',
      },
    ],
    judges: [ATTACH],
  },
  {
    name: 'rejoined-in-another-life',
    breaks: 'A member whose device was opened anew goes on in its place',
    rule: 'a member goes on in its place if it is in the same life, and has all that it had',
    edits: [
      {
        file: 'client/mirror/membership.ts',
        find: 'slot.member?.incarnation !== member.incarnation',
        replace: 'slot.member === null',
      },
    ],
    judges: [HOLDING],
  },
  {
    name: 'loss-untold',
    breaks: 'After all copies were opened anew no flush tells that something may be lost',
    rule: 'the next flush fails if what was acknowledged may be lost',
    edits: [
      {
        file: 'client/volume-engine.ts',
        find: 'if (this.unflushed && membership.hasLost(record, members)) flushes.failNext();',
        replace: '',
      },
    ],
    judges: [HOLDING],
  },
];
