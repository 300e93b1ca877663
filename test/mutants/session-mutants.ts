/** Mutants of sessions between an engine and members in other processes. */

import { type Mutant, sim, tests } from './mutant.js';

const NODES = tests('members/two-nodes.test.ts');
const STRANGERS = tests('members/strangers.test.ts');
const SESSION = 'client/members/node-session.ts';
const GATE = 'node/replica-gate.ts';

export const SESSION_MUTANTS: readonly Mutant[] = [
  {
    name: 'session-resends-under-a-new-stamp',
    breaks: 'What is sent again after a connection broke has another stamp',
    rule: 'what has not been answered is sent again under the same stamps',
    edits: [
      {
        file: SESSION,
        find: 'asked.id = 0;\n        this.queue.push(asked);',
        replace:
          'asked.id = 0;\n        if (asked.request !== null) asked.request.stampLow += 1;\n        this.queue.push(asked);',
      },
    ],
    judges: [NODES, sim(['engine', 'network'], 60)],
  },
  {
    name: 'session-does-not-send-again',
    breaks: 'What has not been answered when a connection breaks fails, though another connection is there',
    rule: 'what has not been answered is sent again',
    edits: [
      {
        file: SESSION,
        find: 'else if (asked.control?.once) this.give(asked, FAILED);',
        replace: 'else if (asked.control?.once || asked.request !== null) this.give(asked, FAILED);',
      },
    ],
    judges: [sim(['engine', 'network'], 60)],
  },
  {
    name: 'session-credits-not-enforced',
    breaks: 'A client may ask for as much as it likes',
    rule: 'who exceeds what was granted is cut off',
    edits: [
      {
        file: 'wire/answering-connection.ts',
        find: 'if (this.isCredited(kind) && !this.credits.mayTake(frame.payload)) {',
        replace: 'if (frame.payload < 0 && !this.credits.mayTake(frame.payload)) {',
      },
    ],
    judges: [STRANGERS],
  },
  {
    name: 'session-reply-for-another-request',
    breaks: 'A reply is taken for whatever waits at its place',
    rule: 'a reply is for the request that has its id',
    edits: [
      {
        file: 'client/members/asked.ts',
        find: 'asked.id !== 0 && asked.id % 2 ** 32 === low && this.waits(asked)',
        replace: 'asked.id !== 0 && this.waits(asked)',
      },
    ],
    judges: [STRANGERS],
  },
  {
    name: 'session-kept-over-a-new-generation',
    breaks: 'Requests under an older map are admitted when a newer one is stored',
    rule: 'once a newer map is stored nothing is admitted under older ones',
    edits: [
      {
        file: 'node/access-check.ts',
        find: 'if (request.mapVersion < replica.mapVersion) return STATUS_STALE_MAP;',
        replace: 'if (request.mapVersion < 0) return STATUS_STALE_MAP;',
      },
    ],
    judges: [tests('members/access-check.test.ts')],
  },
  {
    name: 'session-map-answered-before-the-drain',
    breaks: 'A map is answered while what was admitted under the one before is being carried out',
    rule: 'what was accepted is drained before a map is answered',
    edits: [
      { file: GATE, find: '      if (this.running === 0) {', replace: '      if (this.running >= 0) {' },
      {
        file: GATE,
        find: "check(this.running === 0, 'a map is answered while",
        replace: "check(this.running >= 0, 'a map is answered while",
      },
    ],
    judges: [tests('members/replica-gate.test.ts')],
  },
  {
    name: 'session-device-of-an-older-life',
    breaks: 'A device is believed that has the incarnation which the map knows, though it is an older image',
    rule: 'a device whose incarnation is not above the one that the map knows is an older copy, unless it has stored that map',
    edits: [
      {
        file: 'layout/starting-map.ts',
        find: 'return own.members.some((one) => one.deviceId === deviceId && one.incarnation === incarnation);',
        replace: 'return own.members.some((one) => one.deviceId === deviceId);',
      },
    ],
    judges: [NODES],
  },
];
