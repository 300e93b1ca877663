/** Faults that let assertions fire: those of a client's sessions with nodes, and of the leases that it has on them. */

import { type AssertionMutant, one } from './assertion-mutant.js';
import { tests } from './mutant.js';

const JUDGES = [
  tests('members/two-nodes.test.ts'),
  tests('members/leases.test.ts'),
  tests('members/strangers.test.ts'),
];
const ASKED = 'client/members/asked.ts';
const CONNECTION = 'client/members/asking-connection.ts';
const SESSION = 'client/members/node-session.ts';

/** A change of one place, met by those tests in which two nodes have sessions. */
const at = (file: string) => (says: string, find: string, replace: string) => one(says, file, find, replace, ...JUDGES);
const inTable = at(ASKED);
const onConnection = at(CONNECTION);
const inSession = at(SESSION);

export const SESSION_ASSERTIONS: readonly AssertionMutant[] = [
  inTable(
    'what is asked for already is asked for once more',
    'let asked = this.free.pop();',
    'let asked = this.free.pop() ?? [...this.open][0];',
  ),
  inTable(
    'what is being sent is used again',
    '    this.free.push(asked);\n',
    '    asked.sending = 1;\n    this.free.push(asked);\n',
  ),
  inTable('something is sent again that has been answered', '    asked.answered = false;\n', ''),
  inSession(
    'something is answered that nobody has asked',
    '    this.asked.release(asked);\n    control.resolve(answer);',
    '    this.asked.release(asked);\n    this.asked.release(asked);\n    control.resolve(answer);',
  ),
  onConnection('something is over that is being sent', '    asked.head = null;\n', ''),
  onConnection('a connection is used for two sessions', '    this.session = null;\n', ''),
  onConnection('a connection is nobody’s', '    this.session = session;\n    this.greet', '    this.greet'),
  inSession('nothing is asked for', '      asked.control = { ...control, resolve };\n', ''),
  inSession('something is asked without a buffer', '    asked.head = head;\n', ''),
  inSession('a request is for no member', '    asked.member = member;\n', ''),

  onConnection('a request has no header', '        bytes = requestHeadBytes(request);\n', ''),
  onConnection('more has been sent than was to be', '    asked.sending = 2;\n', ''),
  onConnection(
    'a reply is for nothing',
    '    getAnswer(frame, answer);\n    const { request, list, control } = asked;',
    '    getAnswer(frame, answer);\n    asked.request = null;\n    const { request, list, control } = asked;',
  ),
  onConnection('blocks come for what has been answered', '    this.reading = asked;\n', ''),
  onConnection(
    'blocks answer what asked for none',
    '    this.reading = null;\n    const { request } = asked;',
    '    this.reading = null;\n    asked.request = null;\n    const { request } = asked;',
  ),

  inSession(
    'a session has two connections',
    '    this.connection = null;\n    if (this.failed) {',
    '    if (this.failed) {',
  ),
  inSession('a session is welcomed that was not asked for', "this.enter('greeting');", "this.enter('connecting');"),

  inSession(
    'a session breaks that has no connection',
    '    const reason = why === NO_REASON',
    '    this.connection = null;\n    const reason = why === NO_REASON',
  ),
  inSession(
    'a session loses a connection that it has not',
    "    this.state = 'broken';\n",
    "    this.state = 'broken';\n    this.connection = null;\n",
  ),
  inSession(
    'a request is answered twice',
    '    this.note(asked, answer, value);\n',
    '    this.note(asked, answer, value);\n    this.note(asked, answer, value);\n',
  ),
];
