/** Faults that let assertions fire: those of sessions with managers. */

import { type AssertionMutant, one } from './assertion-mutant.js';
import { tests } from './mutant.js';

const JUDGES = [tests('manager/calls.test.ts'), tests('manager/strangers.test.ts'), tests('manager/sockets.test.ts')];
const CONNECTION = 'client/manager/call-connection.ts';
const SESSION = 'client/manager/call-session.ts';

/** A change of one place of the connection, or of the session. */
const onConnection = (says: string, find: string, replace: string) => one(says, CONNECTION, find, replace, ...JUDGES);
const inSession = (says: string, find: string, replace: string) => one(says, SESSION, find, replace, ...JUDGES);

export const CALL_ASSERTIONS: readonly AssertionMutant[] = [
  onConnection(
    'a connection to a manager begins before its last has ended',
    "return this.state === 'free';",
    "return this.state !== 'free';",
  ),
  onConnection('calls are left on a connection to a manager that begins', '    this.taken.clear();\n', ''),
  inSession(
    'something is asked before the handshake',
    "while (this.state === 'open' &&",
    "while (this.state !== 'closed' &&",
  ),
  inSession('two calls have the same number', 'this.lastId += 1;', 'this.lastId = 1;'),
  onConnection('more calls have been sent than were asked for', 'this.requests -= 1;', 'this.requests -= 2;'),
  inSession(
    'a manager is asked whether it is there before the handshake',
    "else if (this.state !== 'open') return;",
    "else if (this.state === 'closed') return;",
  ),

  onConnection('a part is sent of a call that nobody has asked for', '    this.taken.set(request, []);\n', ''),
  inSession(
    'a session has no manager to reach',
    'times = new TimesHeard(), addresses } = parts;',
    'times = new TimesHeard(), addresses } = { ...parts, addresses: [] };',
  ),
  inSession(
    'a session with a manager goes on that is closed',
    "    if (this.state === 'closed') return;\n    const { isConnecting }",
    '    const { isConnecting }',
  ),
  inSession(
    'a manager is asked for two connections at a time',
    '    this.isConnecting = false;\n    this.file = NO_FILE;\n    if',
    '    this.file = NO_FILE;\n    if',
  ),
  inSession('numbers of sessions with managers are used up', 'this.number += 1;', 'this.number += 2 ** 32;'),
  inSession(
    'a manager welcomes a session that did not greet it',
    "this.enter('greeting');",
    "this.enter('connecting');",
  ),
  inSession('a call is to be sent again that was never sent', '      pending.sent += 1;\n', ''),
  inSession('a session with a manager is open without a connection', "    this.enter('broken');\n", ''),
  onConnection(
    'another manager is tried while one is connected',
    "return this.state === 'free';",
    "return this.state === 'free' && this.number === 0;",
  ),
  inSession(
    'another manager is tried while calls are on their way',
    '    this.sent.clear();\n    check(\n      again',
    '    check(\n      again',
  ),
  inSession('numbers of calls are used up', 'this.lastId += 1;', 'this.lastId += 2 ** 53;'),
  inSession(
    'a call is answered that was not sent',
    'this.sent.set(this.lastId, pending);',
    'this.sent.set(-this.lastId, pending);',
  ),
  inSession(
    'a call is answered while no manager is connected',
    '    const { name, isOver } = pending;\n',
    "    const { name, isOver } = pending;\n    this.state = 'waiting';\n",
  ),
  inSession(
    'the time of a session with a manager runs twice',
    "    this.ticking = false;\n    if (this.state === 'closed'",
    "    if (this.state === 'closed'",
  ),
  inSession(
    'a session with a manager ends before its calls',
    "    this.enter('closed');\n    this.sent.clear();\n",
    "    this.enter('closed');\n",
  ),
  inSession(
    'a session with a manager ends, and calls wait',
    "    this.enter('closed');\n    this.sent.clear();\n    this.waiting = [];\n",
    "    this.enter('closed');\n    this.sent.clear();\n",
  ),
];
