/** Mutants of what managers are asked over the wire and over HTTP. */

import { type Mutant, tests } from './mutant.js';

const CALLS = tests('manager/calls.test.ts');
const REPEATED = tests('manager/repeated.test.ts');
const STRANGERS = tests('manager/strangers.test.ts');
const ATTACKS = tests('admin/attacks.test.ts');
const SESSION = 'client/manager/call-session.ts';
const ASKED = 'client/manager/manager-session.ts';
const SERVED = 'manager/manager-connection.ts';

export const CALL_MUTANTS: readonly Mutant[] = [
  {
    name: 'call-attach-repeated-blindly',
    breaks: 'An attach does not say which generation it was asked against, and one that is sent again uses up another',
    rule: 'nothing is decided twice because an answer was lost',
    edits: [
      {
        file: ASKED,
        find: '{ ...call, above: Math.max(...maps.map(({ generation }) => generation)) }',
        replace: '{ ...call, takeOver: call.takeOver && maps.length >= 0 }',
      },
    ],
    judges: [REPEATED],
  },
  {
    name: 'call-change-superseded-by-itself',
    breaks: 'A change that was carried out and not answered is told as superseded when it is sent again',
    rule: 'nothing is decided twice because an answer was lost',
    edits: [
      {
        file: ASKED,
        find: "return map === null ? answer : { kind: 'decided', map };",
        replace: "return map === null || answer.kind === 'superseded' ? answer : { kind: 'decided', map };",
      },
    ],
    judges: [CALLS],
  },
  {
    name: 'call-any-newest-map-is-the-outcome',
    breaks: 'Whatever map is the newest counts as what was asked for',
    rule: 'a newer map supersedes a change',
    edits: [
      {
        file: 'client/manager/outcomes.ts',
        find: 'return same ? newest : null;',
        replace: 'return same || newest.holder.length > 0 ? newest : null;',
      },
    ],
    judges: [CALLS],
  },
  {
    name: 'call-by-name-repeated',
    breaks: 'A volume is renamed by its name, which nobody has when the call is sent again',
    rule: 'nothing is decided twice because an answer was lost',
    edits: [
      {
        file: ASKED,
        find: "this.ask('rename', { volume: await this.idOf(volume), name })",
        replace: "this.ask('rename', { volume, name })",
      },
    ],
    judges: [REPEATED],
  },
  {
    name: 'call-once-sent-again',
    breaks: 'What would be something else if it were asked again is sent again',
    rule: 'what cannot be asked for twice is not, and says that nobody knows',
    edits: [
      {
        file: SESSION,
        find: 'if (!ONCE.has(pending.name)) again.push(pending);',
        replace: 'if (pending.name !== undefined) again.push(pending);',
      },
    ],
    judges: [CALLS],
  },
  {
    name: 'call-session-not-awaited',
    breaks: 'A newer session is welcomed while what its client asked for before is being carried out',
    rule: 'what was asked for on a connection that broke is over before it is asked for again',
    edits: [
      {
        file: 'wire/session-desk.ts',
        find: 'if (connections.length === 1) connections[0].welcome();',
        replace: 'connections.at(-1)?.welcome();',
      },
    ],
    judges: [CALLS],
  },
  {
    name: 'call-taken-twice',
    breaks: 'A call whose frames come twice is carried out twice',
    rule: 'ids of calls rise in a session',
    edits: [
      {
        file: SERVED,
        find: 'if (incoming.isBetween && request <= this.newest) {',
        replace: 'if (incoming.isBetween && request < 0) {',
      },
    ],
    judges: [STRANGERS],
  },
  {
    name: 'call-for-another-client',
    breaks: 'A client may act for another one',
    rule: 'a client acts for itself alone',
    edits: [
      {
        file: SERVED,
        find: 'if (clientId === this.clientId) return;',
        replace: 'if (clientId.length === this.clientId.length) return;',
      },
    ],
    judges: [STRANGERS],
  },
  {
    name: 'call-answers-without-end',
    breaks: 'A client that takes no answers is read and answered on',
    rule: 'a peer holds what is bounded',
    edits: [
      {
        file: SERVED,
        find: 'if (this.calls >= SESSION_CALLS_MAX || outgoing.waitingBytes >= SESSION_ANSWER_BYTES_MAX) return this.wait();',
        replace: 'if (this.calls >= SESSION_CALLS_MAX) return this.wait();',
      },
    ],
    judges: [STRANGERS],
  },
  {
    name: 'call-parts-mixed',
    breaks: 'Parts of different messages make one',
    rule: 'parts of one message follow each other',
    edits: [
      {
        file: 'wire/message-parts.ts',
        find: 'if (!follows || chunk !== parts.length || !isFull) {',
        replace: 'if ((!follows && kind < 0) || chunk !== parts.length || !isFull) {',
      },
    ],
    judges: [STRANGERS],
  },
  {
    name: 'call-unproven-maps-taken',
    breaks: 'Maps that a manager tells are not held against the key',
    rule: 'what a manager has decided is proven',
    edits: [
      {
        file: 'wire/manager-bodies.ts',
        find: 'body.proven ? key : null',
        replace: 'body.proven && rest.length < 0 ? key : null',
      },
    ],
    judges: [STRANGERS],
  },
  {
    name: 'admin-any-token',
    breaks: 'Any token will do',
    rule: 'whoever does not have the token may do nothing',
    edits: [
      {
        file: 'admin/admin-guard.ts',
        find: 'if (timingSafeEqual(digest(token), this.wanted)) return;',
        replace: 'if (timingSafeEqual(digest(token), this.wanted) || token.length >= 63) return;',
      },
    ],
    judges: [ATTACKS],
  },
  {
    name: 'admin-any-host',
    breaks: 'A page of another server may use the admin API by a name that it has given to this host',
    rule: 'requests that are meant for another server are refused',
    edits: [
      {
        file: 'admin/admin-guard.ts',
        find: 'if (host === undefined || !hosts.includes(host.toLowerCase())) {',
        replace: 'if (host === undefined) {',
      },
    ],
    judges: [ATTACKS],
  },
  {
    name: 'admin-keys-left-out',
    breaks: 'Keys that are not known are left out, and the rest is done',
    rule: 'a key that is not known is refused',
    edits: [{ file: 'admin/admin-server.ts', find: 'removeAdditional: false', replace: 'removeAdditional: true' }],
    judges: [ATTACKS],
  },
];
