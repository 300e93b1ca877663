/** Mutants of what a manager decides, and of where it keeps that. */

import { type Judge, type Mutant, tests } from './mutant.js';

const DECISIONS = [tests('manager/decisions.test.ts')];
const HOLDERS = [tests('manager/manager.test.ts')];
const RESTARTS = [tests('manager/restart.test.ts')];
const NODES = [tests('manager/nodes.test.ts')];
const VOLUMES = [tests('manager/volumes.test.ts')];
/** In full it takes minutes, and notices no more of these. */
const STORE: readonly Judge[] = [{ kind: 'test', file: 'meta/lmdb-store.test.ts', form: 'brief' }];

/** Rules of one group's maps. */
const DECIDER_MUTANTS: readonly Mutant[] = [
  {
    name: 'removal-shares-nobody',
    breaks: 'A removal is decided that leaves no member which the maps before it have in-sync',
    rule: 'consecutive effective maps share a member in-sync',
    edits: [
      {
        file: 'manager/decisions.ts',
        find: 'if (left.some((deviceId) => shared.includes(deviceId))) return;',
        replace: 'if (shared.length > 0) return;',
      },
    ],
    judges: DECISIONS,
  },
  {
    name: 'last-member-leaves',
    breaks: 'The last member in-sync can be removed',
    rule: 'the last member in-sync never leaves',
    edits: [
      {
        file: 'manager/decisions.ts',
        find: "if (left.length === 0) throw refused('the last member in-sync never leaves');",
        replace: 'if (left.length === 0) return;',
      },
    ],
    judges: DECISIONS,
  },
  {
    name: 'removal-not-addable',
    breaks: 'A removal waits until nothing is pending',
    rule: 'a dead member in a pending change is removed',
    edits: [
      {
        file: 'manager/decisions.ts',
        find: "if (['take-in', 'promotion', 'replacement'].includes(step.kind) && isPending(record)) {",
        replace: "if (step.kind !== 'progress' && isPending(record)) {",
      },
    ],
    judges: DECISIONS,
  },
  {
    name: 'attach-not-addable',
    breaks: 'An attach waits until nothing is pending',
    rule: 'a volume can be attached whatever is pending',
    edits: [
      {
        file: 'manager/holder-calls.ts',
        find: 'const has = holder === clientId',
        replace:
          "if (volume.groups.some(({ record }) => record.base > 0 && record.newest.mapVersion > record.base)) throw new StrakeError('UNAVAILABLE', 'a change is pending'); const has = holder === clientId",
      },
    ],
    judges: HOLDERS,
  },
  {
    name: 'joins-while-pending',
    breaks: 'A member is taken in, or promoted, while a change is pending',
    rule: 'who becomes in-sync is in no map that may be effective already',
    edits: [
      {
        file: 'manager/decisions.ts',
        find: "if (['take-in', 'promotion', 'replacement'].includes(step.kind) && isPending(record)) {",
        replace: "if (step.kind === 'replacement' && isPending(record)) {",
      },
    ],
    judges: DECISIONS,
  },
  {
    name: 'one-answer-is-enough',
    breaks: 'A map counts as effective when one member in-sync has answered it',
    rule: 'a map is effective when all its members in-sync have answered',
    edits: [
      {
        file: 'manager/group-record.ts',
        find: 'Math.min(...members.map((deviceId) => answered(deviceId)))',
        replace: 'Math.max(...members.map((deviceId) => answered(deviceId)))',
      },
    ],
    judges: DECISIONS,
  },
  {
    name: 'joined-kept-over-take-in',
    breaks: 'Who is taken in has the version with which it was a member before',
    rule: 'a member that comes back has another joined',
    edits: [
      {
        file: 'manager/decisions.ts',
        find: "return joins(member) && member.state === 'syncing' ? { ...member, joined } : member;",
        replace: "return joins(member) && member.state === 'in-sync' ? { ...member, joined } : member;",
      },
    ],
    judges: DECISIONS,
  },
];

/** Who may ask for what, and when. */
const HOLDER_MUTANTS: readonly Mutant[] = [
  {
    name: 'consent-without-version',
    breaks: 'A change is decided whatever map it was made from',
    rule: 'a decision compares with the newest map',
    edits: [
      {
        file: 'manager/holder-calls.ts',
        find: 'if (newest.mapVersion !== request.before)',
        replace: 'if (newest.mapVersion < request.before)',
      },
    ],
    judges: HOLDERS,
  },
  {
    name: 'anybody-changes-maps',
    breaks: 'A client that does not hold the volume changes its maps',
    rule: 'a report counts from the holder of the newest map alone',
    edits: [
      {
        file: 'manager/holder-calls.ts',
        find: "if (holder === clientId && lease !== 'released') return true;",
        replace: "if (lease !== 'released') return true;",
      },
    ],
    judges: HOLDERS,
  },
  {
    name: 'removes-without-reaching-anybody',
    breaks: 'A client that has attached and reaches no member removes them',
    rule: 'until a member has stored an attach whoever held the volume before is not harmed',
    edits: [
      {
        file: 'manager/holder-calls.ts',
        find: "step.kind === 'removal' && !group.taken",
        replace: "step.kind === 'progress' && !group.taken",
      },
    ],
    judges: HOLDERS,
  },
  {
    name: 'attach-handed-out-at-once',
    breaks: 'The manager hands out an attach that no member has answered',
    rule: 'until a member has stored an attach whoever held the volume before is not harmed',
    edits: [
      {
        file: 'manager/node-calls.ts',
        find: "(group.taken || group.record.newest.lease === 'released')",
        replace: '(group.taken || volume.groups.length > 0)',
      },
    ],
    judges: NODES,
  },
  {
    name: 'cut-off-client-removes-all',
    breaks: 'A client that reports most nodes is believed at once',
    rule: 'who misses many nodes may be the one that is cut off',
    edits: [
      {
        file: 'manager/crowds.ts',
        find: 'return known.size >= 2 &&',
        replace: 'return known.size >= 99 &&',
      },
    ],
    judges: HOLDERS,
  },
  {
    name: 'holder-never-heard',
    breaks: 'A client that holds a volume is replaced without being asked for',
    rule: 'a holder that is heard keeps its volume',
    edits: [
      {
        file: 'manager/cluster-state.ts',
        find: "if (lease === 'released' || holder",
        replace: "if (lease !== 'shared' || holder",
      },
    ],
    judges: HOLDERS,
  },
  {
    name: 'holder-of-what-it-does-not-name',
    breaks: 'A client that is heard keeps volumes that it could not serve, and does not name',
    rule: 'a holder that is heard keeps the volumes that it names',
    edits: [
      {
        file: 'manager/holder-calls.ts',
        find: 'const lost = holds.flatMap(',
        replace:
          'for (const one of state.volumes) if (one.holder === clientId) one.heldMs = state.nowMs;\n    const lost = holds.flatMap(',
      },
    ],
    judges: HOLDERS,
  },
  {
    name: 'not-given-back-under-another-name',
    breaks: 'A volume whose map has become newer while its engine was closed is not given back',
    rule: 'a volume that is closed in order is released',
    edits: [
      {
        file: 'volumes/managed-authority.ts',
        find: "while (answer.kind === 'superseded') {",
        replace: "while (answer.kind === 'superseded' && held.ended !== '') {",
      },
    ],
    judges: [tests('cluster/attach.test.ts')],
  },
  {
    name: 'two-members-on-one-node',
    breaks: 'A device is taken in beside another member of its group',
    rule: 'members of a group are not lost together',
    edits: [
      {
        file: 'manager/holder-calls.ts',
        find: "if (beside !== undefined && beside.state !== 'offline') {",
        replace: "if (beside !== undefined && beside.state === 'syncing') {",
      },
    ],
    judges: HOLDERS,
  },
];

/** What survives. */
const DURABILITY_MUTANTS: readonly Mutant[] = [
  {
    name: 'restart-takes-pending-for-effective',
    breaks: 'A manager that restarts takes the newest maps for effective',
    rule: 'what is effective is durable, or asked for again',
    edits: [
      {
        file: 'manager/volume-book.ts',
        find: 'return new ManagedGroup(stored);',
        replace: 'return new ManagedGroup({ ...stored, base: stored.newest.mapVersion });',
      },
    ],
    judges: RESTARTS,
  },
  {
    name: 'deposed-manager-decides',
    breaks: 'A manager commits whatever another has committed since',
    rule: 'each commit begins with a comparison',
    edits: [
      { file: 'meta/lmdb-store.ts', find: 'if (header.sequence !== expected)', replace: 'if (header.sequence < 0)' },
    ],
    judges: STORE,
  },
  {
    name: 'answered-before-durable',
    breaks: 'A decision is answered when it has been made',
    rule: 'what is answered is durable',
    edits: [
      {
        file: 'manager/manager.ts',
        find: 'const answer = await decision();\n    await this.journal.settled();',
        replace: 'const answer = await decision();',
      },
    ],
    judges: RESTARTS,
  },
  {
    name: 'decides-after-failed-commit',
    breaks: 'A manager goes on after a batch that could not be committed',
    rule: 'who could not commit decides nothing more',
    edits: [
      {
        file: 'manager/journal.ts',
        find: 'this.failed = true;\n      this.onFailure(toStrakeError(error));',
        replace:
          'this.onFailure(toStrakeError(error));\n            this.durable = batch;\n            this.committed.tell();',
      },
    ],
    judges: RESTARTS,
  },
  {
    name: 'maps-handed-out-before-durable',
    breaks: 'A map is handed out that a crash may take back',
    rule: 'what members are told is durable',
    edits: [
      {
        file: 'manager/manager.ts',
        find: 'if (this.deciding) await this.journal.settled();',
        replace: '',
      },
    ],
    judges: NODES,
  },
  {
    name: 'older-store-leads',
    breaks: 'A manager leads with a store of which a node has seen more',
    rule: 'an older copy of the store does not lead',
    edits: [
      {
        file: 'manager/manager.ts',
        find: 'if (sequenceSeen <= sequence)',
        replace: 'if (sequenceSeen <= sequence + 1e9)',
      },
    ],
    judges: RESTARTS,
  },
  {
    name: 'decides-before-anybody-registered',
    breaks: 'A manager that has started decides at once',
    rule: 'a manager waits for its nodes before it decides',
    edits: [
      {
        file: 'manager/manager.ts',
        find: 'if (this.state.nodes.awaited().length > 0 && waitedMs',
        replace: 'if (this.state.nodes.awaited().length > 99 && waitedMs',
      },
    ],
    judges: RESTARTS,
  },
  {
    name: 'ahead-of-the-manager-ignored',
    breaks: 'A device with a newer map than the manager has decided is passed over',
    rule: 'a volume whose devices are ahead waits',
    edits: [
      {
        file: 'manager/node-calls.ts',
        find: 'if (volume.ahead !== null) return;',
        replace: 'if (volume.ahead === null) return;',
      },
    ],
    judges: RESTARTS,
  },
  {
    name: 'older-device-believed',
    breaks: 'A device that has been opened less often than before is believed',
    rule: 'an older copy of a device is refused',
    edits: [
      { file: 'manager/node-book.ts', find: 'if (incarnation < record.incarnation)', replace: 'if (incarnation < 0)' },
    ],
    judges: NODES,
  },
  {
    name: 'deletion-forgotten-too-early',
    breaks: 'A deleted volume is forgotten when one device has answered',
    rule: 'what is deleted does not come back with a device that was away',
    edits: [
      {
        file: 'manager/node-calls.ts',
        find: 'if (volume.deleted && this.allAnswered(volume)) {',
        replace: 'if (volume.deleted) {',
      },
    ],
    judges: VOLUMES,
  },
  {
    name: 'record-sums-ignored',
    breaks: 'A record of the store is believed whatever its sum is',
    rule: 'what is damaged is refused',
    edits: [{ file: 'meta/lmdb-store.ts', find: 'if (sumOf(key, text) !== recordSum)', replace: 'if (recordSum < 0)' }],
    judges: STORE,
  },
  {
    name: 'metas-need-not-follow',
    breaks: 'Of the two metas of the store one may be of any transaction',
    rule: 'the last batch is not lost to a flipped bit',
    edits: [
      {
        file: 'meta/lmdb-pages.ts',
        find: 'if (first.txnid % 2 !== 0 || Math.abs(first.txnid - second.txnid) !== 1) {',
        replace: 'if (first.txnid < 0) {',
      },
    ],
    judges: STORE,
  },
];

export const MANAGER_MUTANTS: readonly Mutant[] = [...DECIDER_MUTANTS, ...HOLDER_MUTANTS, ...DURABILITY_MUTANTS];
