/** A volume and the maps of its groups are the same thing, seen whole and by its parts. */

import * as assert from 'uvu/assert';
import { checkReplica, type ReplicaMap, replicaOf, volumeOf } from '#strake/layout/replica-map.js';
import { checkMap, NO_DEVICE, type VolumeMap } from '#strake/layout/volume-map.js';
import { check, run } from '../support/check.js';

const NO_FLUSH = { generation: 0, flushNumber: 0 };

function member(digit: string, state: 'in-sync' | 'offline' = 'in-sync') {
  return { deviceId: digit.repeat(32), state, since: NO_FLUSH, incarnation: 3, flushNumber: 4, joined: 2 };
}

const VOLUME: VolumeMap = {
  id: 'a'.repeat(32),
  name: 'vol',
  headerVersion: 2,
  createdMs: 5,
  sizeBytes: 1 << 30,
  layout: 'mirror',
  copies: 2,
  segmentBytes: 1 << 20,
  versions: [7, 3],
  generation: 6,
  holder: 'b'.repeat(32),
  lease: 'exclusive',
  deleted: false,
  groups: [
    [member('1'), member('2', 'offline')],
    [member('3'), { ...member('0', 'offline'), deviceId: NO_DEVICE }],
  ],
};

function groupsOf(map: VolumeMap): [ReplicaMap, ReplicaMap] {
  return [replicaOf(map, 0), replicaOf(map, 1)];
}

check('a volume is what its groups say together, in any order', [], () => {
  const [first, second] = groupsOf(VOLUME);
  checkReplica(first);
  checkReplica(second);
  const back = volumeOf([second, first]);
  checkMap(back);
  assert.equal(JSON.parse(JSON.stringify(back)), JSON.parse(JSON.stringify(VOLUME)));
});

check('of headers that differ the newest names the volume, none makes it smaller or brings it back', [], () => {
  const [first, second] = groupsOf(VOLUME);
  const renamed = { ...first, volume: { ...first.volume, name: 'new', headerVersion: 3 } };
  const grown = { ...second, mapVersion: 9, volume: { ...second.volume, sizeBytes: 2 ** 31, deleted: true } };
  const volume = volumeOf([renamed, grown]);
  assert.is(volume.name, 'new');
  assert.is(volume.headerVersion, 3);
  assert.is(volume.sizeBytes, 2 ** 31);
  assert.is(volume.deleted, true);
  assert.equal(volume.versions, [7, 9]);
});

check('a group that is missing, there twice or of another volume is refused', [], () => {
  const [first, second] = groupsOf(VOLUME);
  assert.throws(() => volumeOf([]), /missing/);
  assert.throws(() => volumeOf([first]), /missing/);
  assert.throws(() => volumeOf([first, first]), /not the groups of one volume/);
  const foreign = { ...second, volume: { ...second.volume, id: 'b'.repeat(32) } };
  assert.throws(() => volumeOf([first, foreign]), /not the groups of one volume/);
});

check('of two members in one place the one in-sync counts', [], () => {
  const first = replicaOf({ ...VOLUME, groups: VOLUME.groups.slice(0, 1) }, 0);
  const moving = { ...first.members[0], deviceId: '9'.repeat(32), state: 'syncing' as const, joined: 8 };
  const [places] = volumeOf([{ ...first, members: [moving, ...first.members] }]).groups;
  assert.equal(
    places.map(({ deviceId }) => deviceId[0]),
    ['1', '2'],
  );
});

check('a map that contradicts itself is refused', [], () => {
  const [first] = groupsOf(VOLUME);
  const [one, two] = first.members;
  const wrong: [ReplicaMap, RegExp][] = [
    [{ ...first, group: 2 }, /cannot be one of 2 groups/],
    [{ ...first, mapVersion: 2 ** 48 }, /map version/],
    [{ ...first, members: [{ ...one, place: 2 }, two] }, /without a place/],
    [{ ...first, members: [one, { ...two, deviceId: one.deviceId }] }, /twice/],
    [{ ...first, members: [one, two, one, two, one] }, /5 members in 2 places/],
    [{ ...first, volume: { ...first.volume, sizeBytes: 1 } }, /size of 1 bytes/],
  ];
  for (const [map, message] of wrong) assert.throws(() => checkReplica(map), message);
});

run();
