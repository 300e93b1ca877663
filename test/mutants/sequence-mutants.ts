/**
 * Mutants that take a rule of the cluster away altogether, where more than one place keeps it: each place alone is a mutant of its
 * own part. They are judged by sequences on whole clusters.
 */

import { type Mutant, tests } from './mutant.js';

const COPYING = tests('sim/sequences-copying.test.ts');

export const SEQUENCE_MUTANTS: readonly Mutant[] = [
  {
    name: 'copy-overtakes-write',
    breaks: 'A job copies blocks that are written meanwhile, and its copy replaces the newer block',
    rule: 'stamps order copies against writes (lagging-source)',
    edits: [
      {
        file: 'client/mirror/resync.ts',
        find: 'pieces.locked(stripe, first, count, () => this.copyRun(job, stripe, first, count, buffer));',
        replace: 'this.copyRun(job, stripe, first, count, buffer);',
      },
      {
        file: 'store/running/conditions.ts',
        find: 'if ((op.flags & REQUEST_SAME) !== 0 && !this.isSame(op, index, word)) return false;',
        replace: '',
      },
    ],
    judges: [COPYING],
  },
  {
    name: 'syncing-member-not-written',
    breaks: 'Writes do not go to a member that is being brought up to date',
    rule: 'a write is acknowledged when all members in-sync and syncing have it',
    edits: [
      {
        file: 'client/mirror/member-slot.ts',
        find: "return this.member !== null && this.state !== 'offline';",
        replace: "return this.member !== null && this.state === 'in-sync';",
      },
    ],
    judges: [COPYING],
  },
  {
    name: 'late-consent-decided',
    breaks: 'A promotion is decided that was asked for under another map, by whoever held the volume before',
    rule: 'a consent names the map that it was given under (late-consent)',
    edits: [
      {
        file: 'manager/holder-calls.ts',
        find: 'if (newest.mapVersion !== request.before)',
        replace: 'if (newest.mapVersion < request.before)',
      },
      {
        file: 'manager/holder-calls.ts',
        find: "if (holder === clientId && lease !== 'released') return true;",
        replace: "if (lease !== 'released' || holder === clientId) return true;",
      },
      {
        file: 'manager/map-steps.ts',
        find: "if (newest.generation !== proposed.generation) return 'a generation begins by an attach alone';",
        replace: '',
      },
      {
        file: 'manager/map-steps.ts',
        find: "if (newest.holder !== proposed.holder) return 'a holder is changed by an attach alone';",
        replace: '',
      },
      {
        file: 'manager/decisions.ts',
        find: "if (['take-in', 'promotion', 'replacement'].includes(step.kind) && isPending(record)) {",
        replace: "if (['take-in', 'replacement'].includes(step.kind) && isPending(record)) {",
      },
    ],
    judges: [COPYING],
  },
];
