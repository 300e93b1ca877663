/** Mutants of volumes that are attached anew: what is held, what becomes of it, and who may attach when. */

import { type Mutant, tests } from './mutant.js';

const FAILED_ATTACH = tests('cluster/failed-attach.test.ts');
const MANAGER = tests('manager/manager.test.ts');

export const ATTACH_MUTANTS: readonly Mutant[] = [
  {
    name: 'served-though-another-attached',
    breaks: 'An attach that another has followed before there was an engine goes on, and waits for ever',
    rule: 'whoever hears of a later generation ends its attach, whenever that is',
    edits: [
      {
        file: 'volumes/volume-host.ts',
        find: '      this.demandHeld(volume);\n      this.adoptPending',
        replace: '      this.adoptPending',
      },
    ],
    judges: [tests('cluster/attach.test.ts')],
  },
  {
    name: 'deposed-at-once',
    breaks: 'A map of a later generation ends the service at once',
    rule: 'a candidate that does not come to serve leaves the volume to whoever served it',
    edits: [
      {
        file: 'volumes/managed-volumes.ts',
        find: 'if (this.ending || !isUsed || !this.anew.suspend(id, reason)) void',
        replace: 'if (reason) void',
      },
    ],
    judges: [FAILED_ATTACH],
  },
  {
    name: 'held-written-anyway',
    breaks: 'What was held is written anew though another generation was served',
    rule: 'what was held is never written again when a later generation has been served',
    edits: [
      {
        file: 'volumes/volume-host.ts',
        find: 'servedGeneration > engine.heldGeneration',
        replace: 'servedGeneration > map.generation',
      },
    ],
    judges: [FAILED_ATTACH],
  },
  {
    name: 'held-dropped',
    breaks: 'Requests of a volume that is suspended fail',
    rule: 'what is under way when another client attaches is not lost if that does not serve',
    edits: [
      {
        file: 'client/requests/pieces.ts',
        find: 'if (error < 0 && this.mayBeginAgain(piece)) this.setAside(piece);',
        replace: 'if (error > 0) this.setAside(piece);',
      },
    ],
    judges: [FAILED_ATTACH],
  },
  {
    name: 'candidate-not-waited-for',
    breaks: 'A volume is attached anew as soon as another client has attached it',
    rule: 'a client that has attached has its time to serve',
    edits: [{ file: 'manager/holder-calls.ts', find: "? 'coming' : 'free'", replace: "? 'free' : 'free'" }],
    judges: [MANAGER],
  },
  {
    name: 'served-forgotten',
    breaks: 'A volume is attached anew though another client serves it',
    rule: 'whoever serves in time keeps the volume',
    edits: [
      {
        file: 'manager/holder-calls.ts',
        find: "if (servedGeneration === generation) return 'serves';",
        replace: '',
      },
    ],
    judges: [MANAGER],
  },
];
