/** Faults that let assertions fire: those of the second connection of a session, at both ends. */

import { type AssertionMutant, one } from './assertion-mutant.js';
import { tests } from './mutant.js';

const PINGS = tests('members/pings.test.ts');
const PAIRED = 'node/paired-connection.ts';
const CONNECTION = 'client/members/ping-connection.ts';
const LINE = 'client/members/ping-line.ts';

export const PING_ASSERTIONS: readonly AssertionMutant[] = [
  one(
    'a second connection joins one that is no first',
    'wire/session-desk.ts',
    'serves && connection.join(first)',
    'serves && connection.join(connection)',
    PINGS,
  ),
  one('a ping comes for no session', PAIRED, '    this.first = first;\n', '', PINGS),
  {
    says: 'a ping is answered before the last one',
    edits: [
      { file: PAIRED, find: 'return super.reads && !this.answersPing;', replace: 'return super.reads;' },
      { file: PAIRED, find: '    this.answersPing = false;\n    if (this.state', replace: '    if (this.state' },
    ],
    judges: [PINGS],
  },
  one(
    'a connection for pings is used for two sessions',
    CONNECTION,
    '    this.asker = null;\n    this.service',
    '    this.service',
    PINGS,
  ),
  one(
    'a node is pinged before the last ping is answered',
    CONNECTION,
    '    this.waits = false;\n    this.asker?',
    '    this.asker?',
    PINGS,
  ),
  one(
    'a session begins whose pings have begun',
    LINE,
    "    this.session = 0;\n    this.giveUp('its",
    "    this.giveUp('its",
    PINGS,
  ),
  one(
    'a node is pinged where there is no way',
    LINE,
    '    this.opened = false;\n    this.asks',
    '    this.asks',
    PINGS,
  ),
  one('a ping is answered that was not sent', LINE, '    this.asks = true;\n', '', PINGS),
  one(
    'a connection for pings is given back twice',
    CONNECTION,
    '    this.service.onPingsFree(this);\n',
    '    this.service.onPingsFree(this);\n    this.service.onPingsFree(this);\n',
    PINGS,
  ),
  one(
    'pings go on when what sessions share is given up',
    'client/members/session-service.ts',
    '    this.freePings.push(connection);\n',
    '',
    PINGS,
  ),
];
