/** Faults that let assertions fire: those of the gates of replicas, of who passes them, and of what a node grants there. */

import { type AssertionMutant, one } from './assertion-mutant.js';
import { type Judge, tests } from './mutant.js';

const GATES = tests('members/replica-gate.test.ts');
const GATED = tests('members/gated-member.test.ts');
const JUDGES = [
  tests('members/two-nodes.test.ts'),
  tests('members/leases.test.ts'),
  tests('members/strangers.test.ts'),
];
const GATE = 'node/replica-gate.ts';
const OPEN = 'node/open-replica.ts';
const REQUESTS = 'node/peer-request.ts';
const GRANTS = 'node/session-leases.ts';
const CONNECTION = 'node/segment-connection.ts';
const MEMBER = 'node/gated-member.ts';

/** A change of one place. */
const at =
  (file: string, ...first: readonly Judge[]) =>
  (says: string, find: string, replace: string) =>
    one(says, file, find, replace, ...first, ...JUDGES);
const atGate = at(GATE, GATES);
const ofReplica = at(OPEN);
const inRequests = at(REQUESTS);
const inGrants = at(GRANTS);
const onConnection = at(CONNECTION);
const ofMember = at(MEMBER, GATED);

export const GATE_ASSERTIONS: readonly AssertionMutant[] = [
  ofReplica(
    'somebody is told twice of the maps of a replica',
    '    gate.watch(this);\n',
    '    gate.watch(this);\n    gate.watch(this);\n',
  ),
  ofReplica(
    'somebody watches a replica no more that did not',
    '    this.gate.unwatch(this);\n',
    '    this.gate.unwatch(this);\n    this.gate.unwatch(this);\n',
  ),
  ofMember(
    'a request is admitted under a map that has not been answered',
    'if (status === STATUS_OK) this.carryOut(passage);',
    'if (status === STATUS_OK || status === STATUS_NOT_YET) this.carryOut(passage);',
  ),
  ofMember(
    'more requests end at a replica than were admitted',
    '    this.gate.leave();\n',
    '    this.gate.leave();\n    this.gate.leave();\n',
  ),

  ofMember(
    'a request waits twice for a map',
    '    this.gate.wait(passage);\n',
    '    this.gate.wait(passage);\n    this.gate.wait(passage);\n',
  ),

  onConnection(
    'copies agree under a map whose requests have ended',
    'if (!agreed) replica.leave();',
    'replica.leave();',
  ),
  atGate('more maps have been stored than came', '    this.beingStored -= 1;\n', '    this.beingStored -= 2;\n'),
  atGate(
    'a map is stored of another replica',
    'this.storeOne(map, by, givenBack)',
    'this.storeOne({ ...map, group: map.group + 1 }, by, givenBack)',
  ),
  atGate(
    'a map is answered while requests are carried out under an earlier one',
    '      if (this.running === 0) {\n        const nowMs',
    '      if (this.running >= 0) {\n        const nowMs',
  ),
  atGate(
    'another map is stored while one is being answered',
    'const result = this.lastStored.then(() =>',
    'const result = Promise.resolve().then(() =>',
  ),
  ofReplica(
    'a replica is opened that its device does not know',
    '    const { device, page } = gate;\n',
    '    const { device } = gate;\n    const page = -1 as never;\n',
  ),
  ofReplica(
    'something is asked of a replica that is closed',
    '    gate.watch(this);\n',
    '    gate.watch(this);\n    this.closed = true;\n',
  ),
  ofReplica('more requests end in a session than were begun', '    this.running += 1;\n', ''),
  ofReplica(
    'a replica of a session is closed twice',
    'for (const replica of all) replica.close();',
    'for (const replica of [...all, ...all]) replica.close();',
  ),
  ofReplica('a session has closed more than it had open', '    this.size += 1;\n', ''),
  onConnection(
    'an answer has a status that nobody could read',
    'request.status = result < 0 ? -result : STATUS_OK;',
    'request.status = result < 0 ? result : STATUS_OK;',
  ),
  onConnection(
    'a request ends that is over',
    '    replica.member.submit(record);\n',
    '    replica.member.submit(record);\n    request.connection = null;\n',
  ),
  inRequests(
    'a request is given out that is in use',
    '    request.connection = null;\n    request.replica',
    '    request.replica',
  ),
  onConnection(
    'a request is over twice',
    '    this.service.requests.release(request);\n',
    '    this.service.requests.release(request);\n    this.service.requests.release(request);\n',
  ),
  inGrants('a lease is granted to nobody', 'gate.leases.grant(clientId, map', "gate.leases.grant('', map"),

  inGrants(
    'a client has taken a map that there is not',
    'gate.confirm(clientId, toldVersion);',
    'gate.confirm(clientId, 0);',
  ),

  {
    says: 'a replica is open of whose map nobody was told',
    edits: [
      { file: CONNECTION, find: '    replica.toldVersion = map.mapVersion;\n', replace: '' },
      { file: GRANTS, find: '    gate.confirm(clientId, toldVersion);\n', replace: '' },
    ],
    judges: JUDGES,
  },
  inGrants(
    'a lease is granted under a map that has not been answered',
    'if (gate.answered && gate.device.leaseMs > 0',
    'if (gate.device.leaseMs > 0',
  ),
  onConnection('a connection ends with replicas open', '    this.replicas.clear();\n', ''),
  {
    says: 'a connection begins with replicas of the one before',
    edits: [
      { file: CONNECTION, find: '    this.replicas.clear();\n', replace: '' },
      {
        file: 'node/segment-service.ts',
        find: "check(replicas.size === 0, 'a connection ends with replicas open', replicas.size),",
        replace: 'void replicas,',
      },
    ],
    judges: JUDGES,
  },
];
