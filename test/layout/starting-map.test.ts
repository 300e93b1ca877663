/** Maps of groups: how they change, which of those that devices have counts, and with which a volume starts. */

import * as assert from 'uvu/assert';
import { NO_FLUSH } from '#strake/layout/flush-id.js';
import {
  deletionOf,
  grow,
  memberInSync,
  memberOffline,
  memberSyncing,
  released,
  rename,
  replaceMember,
  withoutDevice,
} from '#strake/layout/map-changes.js';
import { checkReplica, type ReplicaMap, replicaOf } from '#strake/layout/replica-map.js';
import {
  type KnownDevice,
  managedVolumes,
  missingGroups,
  missingMembers,
  newestMap,
  newestMaps,
  startingMap,
} from '#strake/layout/starting-map.js';
import {
  checkMap,
  type MemberRecord,
  NO_CLIENT,
  NO_DEVICE,
  newestVersion,
  type VolumeMap,
} from '#strake/layout/volume-map.js';
import { check, run } from '../support/check.js';

const ID = 'a'.repeat(32);
const HOLDER = 'b'.repeat(32);
const FORK = 2 ** 20;
const START = { holder: HOLDER, again: false };
const SINCE = { generation: 4, flushNumber: 9 };

const idOf = (number: number) => String(number).repeat(32);

function member(number: number): MemberRecord {
  return { deviceId: idOf(number), state: 'in-sync', since: NO_FLUSH, incarnation: 3, flushNumber: 4, joined: 1 };
}

/** Two groups: of devices 1 and 2, and of devices 3 and 4. */
const MAP: VolumeMap = {
  ...{ id: ID, name: 'v', headerVersion: 2, createdMs: 1, sizeBytes: 1 << 30, layout: 'mirror', copies: 2 },
  ...{ segmentBytes: 1 << 20, deleted: false, generation: 5, holder: NO_CLIENT, lease: 'exclusive', versions: [7, 20] },
  groups: [
    [member(1), member(2)],
    [member(3), member(4)],
  ],
};

/** A device that has been opened once since the map, with these maps. */
function device(replicas: readonly ReplicaMap[], incarnation = 4): KnownDevice {
  const replicasOf = (id: string) => replicas.filter(({ volume }) => volume.id === id);
  return { replicas: [undefined, ...replicas], replicasOf, failed: false, incarnation };
}

/** The four devices, with what each has of a map; some may have others, or be away. */
function devices(map: VolumeMap, others: Readonly<Record<number, KnownDevice | null>> = {}): Map<string, KnownDevice> {
  const known = new Map<string, KnownDevice>();
  for (const number of [1, 2, 3, 4]) {
    const other = others[number];
    if (other !== null) known.set(idOf(number), other ?? device([replicaOf(map, number < 3 ? 0 : 1)]));
  }
  return known;
}

const states = ({ groups }: VolumeMap) => groups.map((group) => group.map(({ state }) => state));
const CURRENT = ['in-sync', 'in-sync'];

check('a change of a member is a new version of its group alone, and says when it became a member', () => {
  const offline = memberOffline(MAP, 1, 0, SINCE);
  assert.equal([offline.versions, offline.groups[1][0].since], [[7, 21], SINCE]);
  assert.is(offline.groups[0], MAP.groups[0]);
  const syncing = memberSyncing(offline, 1, 0, 8, false);
  assert.equal([syncing.versions, syncing.groups[1][0].joined], [[7, 22], 22]);
  const current = memberInSync(syncing, 1, 0, { incarnation: 8, flushNumber: 6 });
  assert.equal([current.versions, current.groups[1][0].joined], [[7, 23], 22]);
  const replaced = replaceMember(offline, 1, 0, idOf(1));
  assert.equal(
    [replaced.versions, replaced.groups[1][0].deviceId, replaced.groups[1][0].joined],
    [[7, 22], idOf(1), 0],
  );
  for (const map of [offline, syncing, current, replaced]) {
    checkMap(map);
    assert.is(map.headerVersion, MAP.headerVersion);
  }
});

check('a change of the header is a new version of it, and of every group', () => {
  for (const map of [rename(MAP, 'w'), grow(MAP, 2 ** 31)])
    assert.equal([map.headerVersion, map.versions], [3, [8, 21]]);
  const note = deletionOf(MAP);
  assert.equal([note.deleted, note.headerVersion, note.versions], [true, 3, [9, 22]]);
  const last = released(MAP);
  assert.equal([last.lease, last.headerVersion, last.versions], ['released', 2, [8, 21]]);
  assert.equal(withoutDevice(note, idOf(3)).versions, [9, 23]);
  assert.is(withoutDevice(note, idOf(3)).groups[1][0].deviceId, NO_DEVICE);
  assert.is(newestVersion(note), 22);
});

check('a map whose groups and versions do not agree is refused', () => {
  assert.throws(() => checkMap({ ...MAP, versions: [1] }), /1 versions of 2 groups/);
  assert.throws(() => checkMap({ ...MAP, versions: [1, 2 ** 48] }), /map version/);
  const twice = { ...MAP, groups: [[member(1), member(1)], MAP.groups[1]] };
  assert.throws(() => checkReplica(replicaOf(twice, 0)), /twice/);
});

check('of each group the newest map counts, whoever has it; names, sizes and deletions come from all', () => {
  const newer = memberOffline(MAP, 0, 1, SINCE);
  const known = devices(MAP, { 1: device([replicaOf(newer, 0)]) });
  assert.equal(newestMap(known, ID), newer);
  assert.equal([...newestMaps(known)], [[ID, newer]]);
  // Another name, under an older map of the other group.
  const renamed = { ...replicaOf(MAP, 1), mapVersion: 19 };
  const other = device([{ ...renamed, volume: { ...renamed.volume, name: 'w', headerVersion: 9 } }]);
  const named = newestMap(devices(MAP, { 3: other }), ID);
  assert.equal([named?.name, named?.headerVersion, named?.versions], ['w', 9, [7, 20]]);
  // One group has heard that the volume is larger, or deleted.
  for (const [changed, expected] of [
    [grow(MAP, 2 ** 31), [2 ** 31, false]],
    [deletionOf(MAP), [MAP.sizeBytes, true]],
  ] as const) {
    const found = newestMap(devices(MAP, { 4: device([replicaOf(changed, 1)]) }), ID);
    assert.equal([found?.sizeBytes, found?.deleted], expected);
  }
  assert.is(newestMap(known, 'c'.repeat(32)), undefined);
});

check('a node decides about no volume of which any device has a map that a manager has decided', () => {
  const managed = { ...replicaOf(MAP, 1), authentication: 'f'.repeat(32) };
  // Not even where its own map of the other group is newer.
  const known = devices({ ...MAP, versions: [99, 20] }, { 3: device([managed]) });
  assert.is(newestMap(known, ID), undefined);
  assert.equal([[...newestMaps(known)], [...managedVolumes(known)]], [[], [ID]]);
  assert.equal([...managedVolumes(devices(MAP))], []);
});

check('a group that nobody has is told by its number, and members that are away by their device', () => {
  const half = devices(MAP, { 3: null, 4: null });
  const map = newestMap(half, ID);
  assert.ok(map);
  assert.equal([missingGroups(map), missingMembers(half, map)], [[1], []]);
  assert.equal(
    map.groups[1].map(({ deviceId }) => deviceId),
    [NO_DEVICE, NO_DEVICE],
  );
  checkMap(map);
  const some = devices(memberOffline(MAP, 0, 1, SINCE), { 2: null, 4: null });
  const found = newestMap(some, ID);
  assert.ok(found);
  assert.equal([missingGroups(found), missingMembers(some, found)], [[], [idOf(4)]]);
});

check('a start is a change of every group, in one generation above all', () => {
  const known = devices(MAP, { 4: device([{ ...replicaOf(MAP, 1), generation: 8 }]) });
  const map = startingMap(known, MAP, START);
  assert.equal([map.versions, map.generation, map.holder, map.lease], [[8, 21], 9, HOLDER, 'exclusive']);
  assert.equal(states(map), [CURRENT, CURRENT]);
  assert.ok(map.groups.flat().every(({ incarnation }) => incarnation === 4));
});

check('who is given up is passed by in the versions of that group alone', () => {
  const map = startingMap(devices(MAP, { 4: null }), MAP, START);
  assert.equal(
    [map.versions, states(map)],
    [
      [8, 21 + FORK - 1],
      [CURRENT, CURRENT],
    ],
  );
});

check('a device that lacks a map of one group is behind in that group, and not in another', () => {
  const newer = memberOffline(memberOffline(MAP, 1, 1, SINCE), 0, 1, SINCE);
  const both = memberInSync(memberInSync(newer, 0, 1, { incarnation: 3, flushNumber: 4 }), 1, 1, {
    incarnation: 3,
    flushNumber: 4,
  });
  // Device 2 is a member of both groups, and has the newest map of the second only.
  const groups = [both.groups[0], [{ ...both.groups[1][0], deviceId: idOf(2) }, both.groups[1][1]]];
  const map = { ...both, groups };
  const old = device([replicaOf(MAP, 0), replicaOf(map, 1)]);
  const started = startingMap(devices(map, { 2: old, 3: null }), map, START);
  assert.equal(states(started), [['in-sync', 'offline'], CURRENT]);
});

check('a start that was cut off in one group leaves all current; a second one in the same life does not', () => {
  const next = startingMap(devices(MAP), MAP, START);
  const known = devices(MAP, { 1: device([replicaOf(next, 0)], 5) });
  for (const number of [2, 3, 4]) known.set(idOf(number), device([replicaOf(MAP, number < 3 ? 0 : 1)], 5));
  const newest = newestMap(known, ID);
  assert.ok(newest);
  assert.equal(newest.versions, [8, 20]);
  const again = startingMap(known, newest, START);
  assert.equal([again.generation, again.versions, states(again)], [7, [9, 21], [CURRENT, CURRENT]]);
  assert.equal(states(startingMap(known, newest, { ...START, again: true })), [['in-sync', 'offline'], CURRENT]);
});

check('an older image of a device is behind where the others remember its life', () => {
  // What it has itself is from before that life.
  const before: VolumeMap = { ...MAP, groups: [MAP.groups[0], [{ ...member(3), incarnation: 2 }, member(4)]] };
  const known = devices(MAP, { 3: device([replicaOf(before, 1)], 3) });
  assert.equal(states(startingMap(known, MAP, START)), [CURRENT, ['offline', 'in-sync']]);
});

check('a device that is still in the life that the map tells of is current', () => {
  const known = devices(MAP, { 3: device([replicaOf(MAP, 1)], 3) });
  assert.equal(states(startingMap(known, MAP, START)), [CURRENT, CURRENT]);
  const older = devices(MAP, { 3: device([replicaOf(MAP, 1)], 2) });
  assert.equal(states(startingMap(older, MAP, START)), [CURRENT, ['offline', 'in-sync']]);
});

run();
