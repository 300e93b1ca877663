/** Mutants of what holds when an engine dies and the stores of its members live on. */

import { type Mutant, sim, tests } from './mutant.js';

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
];
