/** Mutants of managed maps at their members, and of leases for reads on both ends. */

import { type Mutant, tests } from './mutant.js';

const LEASES = tests('members/leases.test.ts');
const PINGS = tests('members/pings.test.ts');
const READS = tests('client/read-leases.test.ts');
const GATED = tests('members/gated-member.test.ts');
const TIMES = tests('cluster/times.test.ts');
const GATE = 'node/replica-gate.ts';
const BOOK = 'client/members/read-lease.ts';
const WAITED = 'Math.max(this.leases.endOf(map, nowMs), device.silentUntilMs)';

export const LEASE_MUTANTS: readonly Mutant[] = [
  {
    name: 'lease-reads-without-leases',
    breaks: 'Reads go out whether there are leases or not',
    rule: 'reads, the holder’s too, need leases of all members in-sync (Rule A)',
    edits: [
      {
        file: 'client/mirror/mirror.ts',
        find: 'if (this.leases !== null && !this.leases.mayRead(piece.group)) {',
        replace: 'if (this.leases !== null && piece.group < 0) {',
      },
    ],
    judges: [READS],
  },
  {
    name: 'lease-one-is-enough',
    breaks: 'A read goes out if one member in-sync may be relied on',
    rule: 'leases come from all members that the client’s map calls in-sync (Rule A)',
    edits: [
      {
        file: 'client/mirror/read-leases.ts',
        find: "if (slot.state === 'in-sync' && slot.member?.mayRead(version) !== true) return false;\n    }\n    return true;",
        replace:
          "if (slot.state === 'in-sync' && slot.member?.mayRead(version) === true) return true;\n    }\n    return false;",
      },
    ],
    judges: [READS],
  },
  {
    name: 'lease-under-another-map',
    breaks: 'A lease under an earlier map counts under the one that the client has taken',
    rule: 'taking a new map voids all leases for the old one',
    edits: [
      { file: BOOK, find: 'if (this.version !== version) return false;', replace: 'if (version === 0) return false;' },
    ],
    judges: [READS],
  },
  {
    name: 'lease-counted-from-the-reply',
    breaks: 'A client counts its lease from the arrival of the answer',
    rule: 'the client counts 0.9 of the lease from the sending',
    edits: [
      {
        file: BOOK,
        find: 'this.untilMs = sentMs + LEASE_SHARE * leaseMs;',
        replace: 'this.untilMs = Math.max(sentMs, this.time.read()) + LEASE_SHARE * leaseMs;',
      },
    ],
    judges: [READS],
  },
  {
    name: 'lease-by-an-old-reading-of-the-clock',
    breaks: 'A read is judged by the time that was read for something else before',
    rule: 'after a pause nothing is read by what the clock said before (pause-inside-a-batch)',
    edits: [
      {
        file: BOOK,
        find: 'const nowMs = this.time.read();\n    return',
        replace: 'const nowMs = this.untilMs - 1;\n    return',
      },
    ],
    judges: [READS, LEASES],
  },
  {
    name: 'lease-though-clocks-move-apart',
    breaks: 'A guest that was frozen goes on with the leases that it had',
    rule: 'if BOOTTIME and REALTIME have moved apart by 100 ms leases are void',
    edits: [
      { file: BOOK, find: 'nowMs < this.untilMs && this.jumps === this.time.jumps', replace: 'nowMs < this.untilMs' },
    ],
    judges: [READS],
  },
  {
    name: 'lease-pong-overtakes-map',
    breaks: 'A PONG grants a lease under a map that came after its PING',
    rule: 'a lease counts for those only whose last change had been taken when the PING left (pong-overtakes-map)',
    edits: [
      {
        file: BOOK,
        find: 'if (told === null || told.at > question.taken) continue;',
        replace: 'if (told === null) continue;',
      },
    ],
    judges: [READS, PINGS],
  },
  {
    name: 'lease-map-overtaken-by-its-ping',
    breaks: 'A node takes a PING that has overtaken a MAP_CHANGED for a sign that the client has that map',
    rule: 'a lease is granted, and one before given up, for replicas whose last change the client has taken (pong-overtakes-map)',
    edits: [
      {
        file: 'node/session-leases.ts',
        find: 'if (changedAt > taken || map === undefined',
        replace: 'if (changedAt > taken + 1 || map === undefined',
      },
    ],
    judges: [PINGS],
  },
  {
    name: 'lease-asked-for-behind-writes',
    breaks: 'Pings go by the connection by which everything is asked',
    rule: 'PING has a connection of its own, so that no lease runs out behind writes to a slow device',
    edits: [
      {
        file: 'client/members/pings.ts',
        find: 'if (line.isOpen) {',
        replace: 'if (line.isOpen && question.taken < 0) {',
      },
    ],
    judges: [PINGS],
  },
  {
    name: 'lease-without-a-second-connection',
    breaks: 'A session whose second connection says nothing asks for no leases by its first one',
    rule: 'a session goes on without a second connection',
    edits: [
      {
        file: 'client/members/pings.ts',
        find: 'if (this.lineSilence.tooLong(nowMs) && this.silence.isHeard(nowMs))',
        replace: 'if (this.lineSilence.tooLong(nowMs) && nowMs < 0)',
      },
    ],
    judges: [PINGS],
  },
  {
    name: 'lease-counts-after-its-connection',
    breaks: 'A client goes on with its leases when it asks for another session',
    rule: 'a client gives up its leases of a node before it sends HELLO there',
    edits: [
      {
        file: BOOK,
        find: 'for (const lease of this.leases.values()) lease.end();\n    this.leases.clear();',
        replace: 'this.leases.clear();',
      },
    ],
    judges: [READS],
  },
  {
    name: 'lease-ends-with-the-connection',
    breaks: 'A node forgets the leases of a client whose connection ends',
    rule: 'neither the end of a connection nor a newer session ends a lease (lease-outlives-connection)',
    edits: [
      {
        file: 'node/segment-connection.ts',
        find: 'this.replicas.clear();',
        replace:
          '{ for (const { gate } of this.replicas.values()) gate.giveUp(this.clientId); this.replicas.clear(); }',
      },
    ],
    judges: [LEASES],
  },
  {
    name: 'lease-changes-of-another-client',
    breaks: 'A connection goes on counting the changes of the client that it served before',
    rule: 'the grant is for replicas whose last change the client has taken on this session',
    edits: [{ file: 'node/segment-connection.ts', find: 'this.changes = 0;\n    super.open', replace: 'super.open' }],
    judges: [LEASES],
  },
  {
    name: 'lease-not-waited-for',
    breaks: 'A map is answered while a client may read a member that it has left out',
    rule: 'MAP_STORED waits for leases under maps with a member in-sync that the new one has not (Rule B)',
    edits: [{ file: GATE, find: WAITED, replace: 'device.silentUntilMs' }],
    judges: [LEASES],
  },
  {
    name: 'lease-of-any-map-waited-for',
    breaks: 'A map that leaves nobody out waits for the leases of all readers',
    rule: 'take-in, promotion and attach wait for no lease',
    edits: [
      {
        file: 'node/lease-account.ts',
        find: 'lease.map.mapVersion < map.mapVersion && leavesOut(lease.map, map)',
        replace: 'lease.map.mapVersion < map.mapVersion',
      },
    ],
    judges: [LEASES],
  },
  {
    name: 'lease-of-the-former-life-forgotten',
    breaks: 'A device that was opened anew answers maps at once',
    rule: 'for the longest lease of its former life a device answers no map (Rule C)',
    edits: [{ file: GATE, find: WAITED, replace: 'this.leases.endOf(map, nowMs)' }],
    judges: [LEASES],
  },
  {
    name: 'lease-granted-by-a-former-life',
    breaks: 'A device that was let go of goes on to grant leases, of which its next life knows nothing',
    rule: 'leases are granted by the life of the device whose members answer maps',
    edits: [{ file: 'node/gated-device.ts', find: 'this.grants = false;', replace: '' }],
    judges: [LEASES],
  },
  {
    name: 'lease-of-a-short-life-only',
    breaks: 'A life of a device that ends soon hides what the one before has granted',
    rule: 'the longest lease that may go on is on the device',
    edits: [
      {
        file: 'store/opening/open-store.ts',
        find: 'leaseMs: Math.max(expected.leaseMs ?? 0, found.leaseMs),',
        replace: 'leaseMs: expected.leaseMs ?? 0,',
      },
    ],
    judges: [LEASES],
  },
  {
    name: 'lease-granted-while-a-map-is-stored',
    breaks: 'A member grants leases under the map that it is storing',
    rule: 'leases are granted under the map that is answered',
    edits: [
      {
        file: 'node/session-leases.ts',
        find: 'if (gate.answered && gate.device.leaseMs > 0 &&',
        replace: 'if (gate.device.leaseMs > 0 &&',
      },
      {
        file: 'node/session-leases.ts',
        find: "check(gate.answered, 'a lease is granted",
        replace: "check(true, 'a lease is granted",
      },
    ],
    judges: [LEASES],
  },
  {
    name: 'gate-admits-before-the-answer',
    breaks: 'Requests are admitted under a map that has been stored and not answered',
    rule: 'a member admits requests for exactly the map that it has stored and answered',
    edits: [
      { file: 'node/access-check.ts', find: 'if (!replica.answered) return STATUS_NOT_YET;', replace: '' },
      {
        file: GATE,
        find: "check(this.answered, 'a request is admitted",
        replace: "check(true, 'a request is admitted",
      },
    ],
    judges: [tests('members/access-check.test.ts')],
  },
  {
    name: 'gate-open-to-its-own-process',
    breaks: 'An engine asks of the devices of its process whatever maps others have brought there',
    rule: 'a local engine is fenced like a remote one',
    edits: [
      {
        file: 'node/gated-device.ts',
        find: 'if (map === undefined || !isManaged(map)) return member;',
        replace: 'if (map === undefined || map.group >= 0) return member;',
      },
    ],
    judges: [GATED],
  },
  {
    name: 'gate-moved-by-what-others-bring',
    breaks: 'An engine asks under maps that others have brought to its devices',
    rule: 'an engine asks under the map that whoever decides for it has brought',
    edits: [
      {
        file: 'node/gated-member.ts',
        find: 'return ours !== null && ours.generation === this.generation ? ours.mapVersion : 0;',
        replace: 'return ours !== null && ours.generation === this.generation ? this.gate.mapVersion : 0;',
      },
    ],
    judges: [GATED],
  },
  {
    name: 'gate-moved-to-another-generation',
    breaks: 'An engine that has been replaced asks under the maps of the next one of its process',
    rule: 'nothing of an earlier generation lands under a map of the next',
    edits: [
      {
        file: 'node/gated-member.ts',
        find: 'return ours !== null && ours.generation === this.generation ? ours.mapVersion : 0;',
        replace: 'return ours !== null ? ours.mapVersion : 0;',
      },
      {
        file: 'node/gated-member.ts',
        find: 'return this.gate.map?.generation === this.generation;',
        replace: 'return this.generation >= 0;',
      },
    ],
    judges: [GATED],
  },
  {
    name: 'gate-unmanaged-over-managed',
    breaks: 'A node that decides by itself replaces a map that a manager has decided',
    rule: 'only a giving back makes a managed replica unmanaged',
    edits: [
      {
        file: GATE,
        find: 'if (isManaged(known) && !managed && !givenBack) return -EPERM;',
        replace: '',
      },
    ],
    judges: [LEASES],
  },
  {
    name: 'lease-granted-before-it-is-on-record',
    breaks: 'A device grants a longer lease before it has its length on record',
    rule: 'a longer lease is on the device, durably, before it is granted (Rule C)',
    edits: [
      {
        file: 'node/gated-device.ts',
        find: 'const result = await this.recordLease(leaseMs);',
        replace: 'const result = await Promise.resolve(0);',
      },
    ],
    judges: [TIMES],
  },
  {
    name: 'lease-granted-though-not-on-record',
    breaks: 'A device that could not put a longer lease on record grants it',
    rule: 'a longer lease is on the device, durably, before it is granted (Rule C)',
    edits: [
      {
        file: 'node/gated-device.ts',
        find: 'if (result < 0) return;',
        replace: "check(result < 1, 'a result is no result', result);",
      },
    ],
    judges: [TIMES],
  },
];
