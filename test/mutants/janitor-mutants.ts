/** Mutants of volumes that nobody attends to. */

import { type Mutant, tests } from './mutant.js';

const ASKED = tests('manager/janitors.test.ts');
const TRIALS = tests('sim/janitor.test.ts');
const JANITORS = 'manager/janitors.ts';

export const JANITOR_MUTANTS: readonly Mutant[] = [
  {
    name: 'janitor-never-asked',
    breaks: 'No node is asked to attend to a volume',
    rule: 'where nobody attaches, a node makes the copies equal and brings members up to date',
    edits: [{ file: JANITORS, find: 'if (nodeId !== null) about.asked', replace: "if (nodeId === '') about.asked" }],
    judges: [ASKED, TRIALS],
  },
  {
    name: 'janitor-at-once',
    breaks: 'A node is asked as soon as a holder is silent',
    rule: 'the holder has the time that is set to come back',
    edits: [{ file: JANITORS, find: 'nowMs - about.sinceMs < afterMs', replace: 'afterMs < 0' }],
    judges: [ASKED],
  },
  {
    name: 'janitor-for-members-that-are-away',
    breaks: 'A node attaches a volume again and again whose member is away',
    rule: 'a member that is out is a reason when its device is there',
    edits: [{ file: JANITORS, find: ' && this.state.nodes.isPresent(deviceId);', replace: ';' }],
    judges: [ASKED],
  },
  {
    name: 'janitor-asks-who-is-behind',
    breaks: 'A node is asked that has no current copy',
    rule: 'the manager asks a node that holds an in-sync member',
    edits: [
      {
        file: JANITORS,
        find: 'const there = inSyncOf(map).filter(',
        replace: 'const there = map.members.map((one) => one.deviceId).concat(inSyncOf(map).slice(9)).filter(',
      },
    ],
    judges: [ASKED],
  },
  {
    name: 'janitor-takes-over',
    breaks: 'A janitor that comes late takes the volume from whoever attends to it',
    rule: 'a janitor takes over nobody',
    edits: [
      {
        file: JANITORS,
        find: 'if (this.isNeglected(volume) && this.neglected.get(volume.id)?.asked) return;',
        replace: "if (volume.id !== '') return;",
      },
    ],
    judges: [ASKED, TRIALS],
  },
  {
    name: 'janitor-gives-back-what-is-used',
    breaks: 'A janitor gives back a volume that somebody has attached on its node meanwhile',
    rule: 'a janitor gives back what is still its own',
    edits: [{ file: 'volumes/managed-volumes.ts', find: 'if (volume?.janitor) await', replace: 'if (volume) await' }],
    judges: [TRIALS],
  },
  {
    name: 'janitor-is-in-the-way',
    breaks: 'A client has to take a volume over from a janitor by name',
    rule: 'any client’s attach takes a volume over from a janitor',
    edits: [
      {
        file: 'manager/holder-calls.ts',
        find: 'holder !== clientId && volume.janitor === null && state',
        replace: 'holder !== clientId && state',
      },
    ],
    judges: [ASKED, TRIALS],
  },
  {
    name: 'janitor-forgotten-by-the-next-manager',
    breaks: 'A manager that starts takes a janitor for a client that is not to be disturbed',
    rule: 'that a holder is a janitor is durable',
    edits: [
      {
        file: 'manager/volume-book.ts',
        find: 'janitor === null ? record : { ...record, janitor }',
        replace: 'janitor === null ? record : { ...record }',
      },
    ],
    judges: [ASKED],
  },
  {
    name: 'janitor-leaves-members-behind',
    breaks: 'A janitor gives a volume back before members that are there are up to date',
    rule: 'it brings members up to date, promotes, and releases',
    edits: [
      {
        file: 'volumes/janitor.ts',
        find: 'if (behind.length === 0) return;',
        replace: 'if (behind.length >= 0) return;',
      },
    ],
    judges: [TRIALS],
  },
  {
    name: 'janitor-deaf-to-the-holder',
    breaks: 'A node takes a volume from a client that serves it and does not reach the manager',
    rule: 'a volume is left alone whose holder is heard by its members',
    edits: [{ file: 'volumes/janitor.ts', find: ' || this.parts.hearsHolder(volumeId)', replace: '' }],
    judges: [TRIALS],
  },
];
