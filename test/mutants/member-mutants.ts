/** Mutants of what is between a node and those who use its devices: who may do what, and who is given up when. */

import { type Mutant, tests } from './mutant.js';

const NODES = tests('members/two-nodes.test.ts');
const STRANGERS = tests('members/strangers.test.ts');
const GATES = tests('members/replica-gate.test.ts');

export const MEMBER_MUTANTS: readonly Mutant[] = [
  {
    name: 'session-asks-beyond-its-credits',
    breaks: 'A client asks for as much as it likes, whatever it was granted',
    rule: 'a client waits for answers before it asks for more than was granted',
    edits: [
      {
        file: 'client/members/node-session.ts',
        find: 'if (credited && !credits.mayTake(bytes)) return false;',
        replace: '',
      },
      { file: 'wire/credits.ts', find: 'if (!this.mayTake(payload)) return false;', replace: '' },
    ],
    judges: [STRANGERS],
  },
  {
    name: 'session-credit-back-when-all-is-sent',
    breaks: 'A node counts what it has answered as asked for until the whole send has ended',
    rule: 'an answer that has arrived gives its credit back',
    edits: [
      {
        file: 'node/segment-connection.ts',
        find: '    this.giveCredit(request);\n    if (',
        replace: '    if (',
      },
    ],
    judges: [STRANGERS],
  },
  {
    name: 'session-own-pause-counts',
    breaks: 'Time in which the engine itself was stopped counts against nodes',
    rule: 'nobody is given up for time in which nobody listened',
    edits: [
      {
        file: 'client/members/awake-clock.ts',
        find: 'this.missedMs += goneMs - SESSION_TICK_MS;',
        replace: 'this.missedMs += 1;',
      },
    ],
    judges: [NODES],
  },
  {
    name: 'session-slow-node-given-up',
    breaks: 'A node that ends what was asked before is given up like one that does not answer',
    rule: 'a node that answers has the time of an operation',
    edits: [
      {
        file: 'client/members/asking-connection.ts',
        find: 'return this.answers ? this.service.times.now.deviceOperationMs : RECONNECT_MS;',
        replace: 'return RECONNECT_MS;',
      },
    ],
    judges: [NODES],
  },
  {
    name: 'said-between-batches-waits',
    breaks: 'What is said between two batches of completions leaves when the next one happens to come',
    rule: 'what is said leaves at once',
    edits: [
      {
        file: 'net/connection-resources.ts',
        find: 'if (completions.inBatch || this.turns > 0 || this.closed) return;',
        replace: 'if (completions.inBatch || this.turns >= 0 || this.closed) return;',
      },
    ],
    judges: [NODES],
  },
  {
    name: 'device-opened-anew-unseen',
    breaks: 'A device that its node has opened anew within a session counts as the one that it was',
    rule: 'each life of a device is another one',
    edits: [
      {
        file: 'volumes/remote-device.ts',
        find: "if (state.incarnation !== this.incarnation) return 'its node has opened it anew';",
        replace: '',
      },
    ],
    judges: [NODES],
  },
  {
    name: 'writer-of-an-older-generation',
    breaks: 'Whoever has opened a replica may write under the map of the next holder',
    rule: 'only the holder of the generation that is stored writes',
    edits: [
      {
        file: 'node/access-check.ts',
        find: 'if (!replica.current && !looks(request.kind)) return STATUS_STALE_MAP;',
        replace: '',
      },
    ],
    judges: [tests('members/access-check.test.ts')],
  },
  {
    name: 'map-of-one-version-replaced',
    breaks: 'A map takes the place of another one that has the same version',
    rule: 'a version is that of one map',
    edits: [
      {
        file: 'node/replica-gate.ts',
        find: 'return known.mapVersion > map.mapVersion || !isSameMap(known, map);',
        replace: 'return known.mapVersion > map.mapVersion;',
      },
    ],
    judges: [GATES],
  },
  {
    name: 'map-goes-back',
    breaks: 'An older map that comes later takes the place of a newer one',
    rule: 'versions of maps only rise',
    edits: [
      {
        file: 'store/running/volume-table.ts',
        find: 'if (before <= map.mapVersion) {',
        replace: 'if (before >= 0) {',
      },
    ],
    judges: [GATES],
  },
  {
    name: 'served-before-it-began',
    breaks: 'An engine may say that a generation is served which has not begun',
    rule: 'the served generation is one on which the copies have agreed',
    edits: [
      {
        file: 'node/replica-gate.ts',
        find: 'Math.min(generation, map.generation)',
        replace: 'generation',
      },
    ],
    judges: [GATES],
  },
  {
    name: 'impossible-map-taken',
    breaks: 'A map is taken from a peer whose numbers no device could store',
    rule: 'what a peer says is judged before anything is done for it',
    edits: [{ file: 'wire/maps.ts', find: 'checkReplica(map);\n', replace: '\n' }],
    judges: [STRANGERS],
  },
  {
    name: 'serving-node-starts-volumes',
    breaks: 'A node that serves segments starts the volumes of a device that joins later',
    rule: 'a node that serves segments leaves volumes to others',
    edits: [
      {
        file: 'volumes/storage-node.ts',
        find: 'if (this.userOf === null) await this.deviceChanges.takeBack(entry);\n    else if',
        replace: 'await this.deviceChanges.takeBack(entry);\n    if',
      },
    ],
    judges: [tests('members/serving-node.test.ts')],
  },
];
