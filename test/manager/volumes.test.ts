/** Volumes come and go: where they lie, what they are called, and how they get into a cluster and out of it. */

import * as assert from 'uvu/assert';
import { memberOffline } from '#strake/layout/map-changes.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import { NO_CLIENT } from '#strake/layout/volume-map.js';
import { isAuthentic } from '#strake/wire/maps.js';
import { check, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { EPOCH, type FakeMember, idOf, KEY, ManagerWorld } from '../support/manager-world.js';
import { changeOf, decided, statesOf } from '../support/map-requests.js';

const SINCE = { generation: 1, flushNumber: 3 };

/** The nodes on which a map has members, by name. */
function nodesOf(world: ManagerWorld, map: ReplicaMap): string {
  const names = map.members.map(({ deviceId }) => {
    return world.nodes.find(({ members }) => members.some((member) => member.deviceId === deviceId))?.name ?? '?';
  });
  return names.sort().join('');
}

check('each group has its members on different nodes, on those that were named', async () => {
  const world = await ManagerWorld.begin([2, 2, 2]);
  const { maps } = await world.create('v', 2, ['a', 'c']);
  assert.equal(
    maps.map((map) => nodesOf(world, map)),
    ['ac', 'ac'],
  );
  const all = (await world.create('w', 2)).maps;
  assert.is(all.length, 3);
  const devices = all.flatMap((map) => map.members.map(({ deviceId }) => deviceId));
  assert.is(new Set(devices).size, 6, 'each device is in one group');
  for (const map of all) assert.is(new Set(nodesOf(world, map)).size, 2);
  assert.is((await world.create('x', 3)).maps.length, 2);
  assert.is((await world.create('y', 1, ['b'])).maps.length, 1);
  for (const map of maps) for (const member of map.members) assert.is(member.incarnation, 0, 'one less than it has');
});

check('a node with most devices is a partner of all others', async () => {
  const world = await ManagerWorld.begin([3, 1, 1, 1]);
  const { maps } = await world.create('v', 2);
  assert.equal(
    maps.map((map) => nodesOf(world, map)),
    ['ab', 'ac', 'ad'],
  );
});

check('a volume that cannot be is not made', async () => {
  const world = await ManagerWorld.begin([1, 1]);
  await world.create('v', 2);
  const make = (changes: object) => {
    const request = {
      volumeId: idOf('w'),
      name: 'w',
      sizeBytes: 1 << 24,
      layout: 'mirror',
      copies: 2,
      on: [],
    } as const;
    return world.settle(world.manager.create({ ...request, ...changes }));
  };
  await failure('EXISTS', make({ name: 'v' }));
  await failure('EXISTS', make({ volumeId: idOf('v') }));
  await failure('NO_SPACE', make({ copies: 3 }));
  await failure('NOT_FOUND', make({ on: ['a', 'z'] }));
  await failure('INVALID_ARGUMENT', make({ on: ['a'] }));
  await failure('INVALID_ARGUMENT', make({ on: ['a', 'a'] }));
  await failure('INVALID_ARGUMENT', make({ name: '-' }));
  await failure('INVALID_ARGUMENT', make({ sizeBytes: 4097 }));
  await failure('INVALID_ARGUMENT', make({ sizeBytes: 0 }));
  await failure('INVALID_ARGUMENT', make({ copies: 4 }));
  await failure('INVALID_ARGUMENT', make({ layout: 'single' }));
  const first = await make({});
  assert.equal(await make({}), first, 'the same once more');
  await failure('EXISTS', make({ sizeBytes: 1 << 25 }));
});

check('devices take no more replicas than they have room for', async () => {
  const world = await ManagerWorld.begin([1, 1]);
  for (const member of world.members) {
    const report = member.report();
    member.report = () => ({ ...report, replicasFree: 1 });
  }
  await world.registerAll();
  await world.create('v', 2);
  await failure('NO_SPACE', world.create('w', 2));
});

check('a name, and a larger size, come to all groups, and to who holds the volume', async () => {
  const world = await ManagerWorld.begin([2, 2]);
  await world.create('v', 2);
  await world.create('w', 2);
  const { maps } = await world.attach('v', 'one');
  await world.bring(maps);
  await failure('EXISTS', world.settle(world.manager.rename('v', 'w')));
  await failure('INVALID_ARGUMENT', world.settle(world.manager.rename('v', '/')));
  const renamed = await world.settle(world.manager.rename('v', 'u'));
  for (const [at, map] of renamed.maps.entries()) {
    assert.equal([map.volume.name, map.mapVersion], ['u', maps[at].mapVersion + 1]);
    assert.equal([map.holder, map.generation, map.lease], [idOf('one'), 1, 'exclusive']);
    assert.ok(isAuthentic(map, KEY));
  }
  assert.equal(await world.settle(world.manager.rename('u', 'u')), renamed);
  const grown = await world.settle(world.manager.grow('u', 1 << 25));
  for (const map of grown.maps) assert.equal([map.volume.sizeBytes, map.volume.headerVersion], [1 << 25, 2]);
  assert.equal(await world.settle(world.manager.grow('u', 1 << 25)), grown);
  await failure('INVALID_ARGUMENT', world.settle(world.manager.grow('u', 1 << 24)));
  await failure('INVALID_ARGUMENT', world.settle(world.manager.grow('u', (1 << 25) + 1)));
  const late = changeOf('one', maps[0], (volume) => memberOffline(volume, 0, 1, SINCE));
  assert.is((await world.settle(world.manager.change(late))).kind, 'superseded');
  await failure('NO_VOLUME', world.settle(world.manager.fetch('v')));
});

check('a deleted volume is gone when all its devices know, and does not come back with one that did not', async () => {
  const world = await ManagerWorld.begin([1, 1]);
  const { maps } = await world.create('v', 2);
  await world.passWithBeats(1000);
  await world.attach('v', 'one');
  await failure('VOLUME_BUSY', world.settle(world.manager.delete('v')));
  await world.passWithBeats(5000);
  await world.settle(world.manager.delete('v'));
  await failure('NO_VOLUME', world.settle(world.manager.fetch('v')));
  await failure('NO_VOLUME', world.settle(world.manager.delete('v')));
  await world.create('v2', 2);
  const [a, b] = world.nodes;
  const [note] = await world.settle(a.beat(world.manager));
  assert.ok(note.volume.deleted && note.mapVersion > maps[0].mapVersion + 1 && isAuthentic(note, KEY));
  await world.restart();
  await world.registerAll();
  await failure('NO_VOLUME', world.settle(world.manager.fetch('v')));
  await world.settle(b.beat(world.manager));
  await world.settle(b.beat(world.manager));
  assert.not.ok([...world.store.records.keys()].some((key) => key.startsWith(`group/${idOf('v')}`)));
  // An older copy of the volume comes, which has heard of nothing.
  b.members[0].maps.set(`${idOf('v')}/0`, maps[0]);
  await world.restart();
  await world.registerAll();
  const { nodeId, sequenceSeen } = b;
  const beat = () =>
    world.settle(world.manager.heartbeat({ nodeId, sequenceSeen, devices: [b.members[0].report()], replicas: [] }));
  assert.equal((await beat()).deleted, [idOf('v')]);
  assert.equal((await beat()).deleted, [], 'it has been told');
  const request = { volumeId: idOf('v'), name: 'v', sizeBytes: 1 << 24, layout: 'mirror', copies: 2, on: [] } as const;
  await failure('EXISTS', world.settle(world.manager.create(request)));
});

check('what no manager has decided about is left alone', async () => {
  const world = await ManagerWorld.begin([1, 1]);
  const { maps } = await world.create('v', 2);
  const other = await ManagerWorld.begin([1, 1]);
  other.members[0].store(maps[0]);
  await other.registerAll();
  const [a] = other.nodes;
  const request = {
    nodeId: a.nodeId,
    sequenceSeen: 0,
    devices: [a.members[0].report()],
    replicas: a.members[0].replicas(),
  };
  const answer = await other.settle(other.manager.heartbeat(request));
  assert.equal([answer.maps, answer.deleted], [[], []]);
  const unknown = (await other.settle(other.manager.events(0))).filter(({ kind }) => kind === 'volume-unknown');
  assert.is(unknown.length, 1);
});

// ---------------------------------------------------------------- what no rule mends

/** The last member in-sync of a map that nobody else has stored has died. */
async function lastInPendingDies(): Promise<{ world: ManagerWorld; map: ReplicaMap; dead: FakeMember }> {
  const world = await ManagerWorld.begin([1, 1]);
  await world.create('v', 2);
  const [map] = (await world.attach('v', 'one')).maps;
  await world.bring([map]);
  const request = changeOf('one', map, (volume) => memberOffline(volume, 0, 0, SINCE));
  const out = decided(await world.settle(world.manager.change(request)));
  const dead = world.members.find(({ deviceId }) => deviceId === out.members[1].deviceId);
  if (dead === undefined) throw new Error('there is no such member');
  return { world, map: out, dead };
}

check(
  'a volume whose last member is lost starts without it, in another epoch, and tells what may be lost',
  async () => {
    const { world, map, dead } = await lastInPendingDies();
    const start = (ids: readonly string[]) => world.settle(world.manager.startWithout('v', ids));
    await failure('INVALID_ARGUMENT', start([dead.deviceId]));
    const alive = world.nodes.filter(({ members }) => !members.includes(dead));
    for (let passed = 0; passed < 3000; passed += 500) {
      await world.pass(500);
      for (const node of alive) await world.settle(node.beat(world.manager));
    }
    await failure('NO_DEVICE', start([idOf('nowhere')]));
    await failure('INVALID_ARGUMENT', start([]));
    const forced = await start([dead.deviceId]);
    const [next] = forced.maps;
    assert.is(statesOf(next), 'in-sync,offline');
    assert.equal([next.mapVersion, next.generation, next.holder], [2 * EPOCH + 1, map.generation + 1, NO_CLIENT]);
    assert.match(forced.lost[0].what, /may have missed/);
    assert.is((await world.settle(world.manager.status())).epoch, 2);
    await world.pass(600);
    assert.equal(await world.settle(alive[0].beat(world.manager)), [next], 'it is handed out');
    const late = changeOf('one', map, (volume) => memberOffline(volume, 0, 1, SINCE));
    assert.is((await world.settle(world.manager.change(late))).kind, 'superseded');
    const [attached] = (await world.attach('v', 'two')).maps;
    assert.equal([attached.mapVersion, attached.generation], [2 * EPOCH + 2, map.generation + 2]);
    // The lost device comes back with a map of the other epoch: it is older.
    dead.store(map);
    await world.registerAll();
    await world.settle(world.manager.fetch('v'));
  },
);

check('a volume of which nobody would be left does not start', async () => {
  const { world, map } = await lastInPendingDies();
  for (let passed = 0; passed < 3000; passed += 500) await world.pass(500);
  const ids = map.members.map(({ deviceId }) => deviceId);
  await failure('UNAVAILABLE', world.settle(world.manager.startWithout('v', ids)));
  assert.is((await world.settle(world.manager.status())).epoch, 1);
});

// ---------------------------------------------------------------- one node and the cluster

/** A volume as a node that decides by itself has it, on both of its devices. */
function ownVolume(world: ManagerWorld, name = 'own'): ReplicaMap {
  const about = { id: idOf(name), name, headerVersion: 3, createdMs: 5, sizeBytes: 1 << 24, layout: 'mirror' } as const;
  const volume = { ...about, copies: 2, segmentBytes: 1 << 20, deleted: false };
  const members = world.nodes[0].members.map(({ deviceId }, place) => ({
    ...({ deviceId, place, state: 'in-sync', since: { generation: 0, flushNumber: 0 }, incarnation: 1 } as const),
    ...{ flushNumber: 4, joined: 1 },
  }));
  return {
    volume,
    group: 0,
    groups: 1,
    mapVersion: 17,
    generation: 9,
    holder: idOf('own node'),
    lease: 'exclusive',
    members,
  };
}

check('a volume of one node is adopted, attached, and given back', async () => {
  const world = await ManagerWorld.begin([2]);
  const own = ownVolume(world);
  const adopt = (maps: readonly ReplicaMap[]) => world.settle(world.manager.adopt(maps));
  const [managed] = await adopt([own]);
  assert.equal([managed.mapVersion, managed.generation, managed.lease], [EPOCH + 1, 9, 'exclusive']);
  assert.ok(isAuthentic(managed, KEY));
  assert.equal(await adopt([own]), [managed], 'once more');
  const [map] = (await world.attach('own', 'one')).maps;
  assert.is(map.generation, 10);
  await world.bring([map]);
  await failure('VOLUME_BUSY', world.settle(world.manager.giveBack('own')));
  await world.passWithBeats(5000);
  const [back] = await world.settle(world.manager.giveBack('own'));
  assert.equal([back.authentication, back.mapVersion], [undefined, map.mapVersion + 1]);
  assert.equal(await world.settle(world.manager.giveBack('own')), [back]);
  await failure('UNAVAILABLE', world.attach('own', 'two'));
  await world.restart();
  await world.registerAll();
  await failure('UNAVAILABLE', world.attach('own', 'two'));
  const [first, second] = world.members;
  first.store(back);
  await world.beatAll();
  assert.is((await world.settle(world.manager.volumes())).length, 1, 'one device has still what a manager decided');
  second.store(back);
  await world.beatAll();
  assert.equal(await world.settle(world.manager.volumes()), []);
  // And again: its versions go on.
  const [again] = await adopt([back]);
  assert.is(again.mapVersion, back.mapVersion + 1);
});

check('what cannot be adopted changes nothing', async () => {
  const world = await ManagerWorld.begin([2]);
  const own = ownVolume(world);
  const adopt = (maps: readonly ReplicaMap[]) => world.settle(world.manager.adopt(maps));
  await world.create('taken', 1);
  await failure('EXISTS', adopt([{ ...own, volume: { ...own.volume, name: 'taken' } }]));
  await failure('INVALID_ARGUMENT', adopt([{ ...own, groups: 2 }]));
  await failure('INVALID_ARGUMENT', adopt([own, own]));
  await failure('INVALID_ARGUMENT', adopt([{ ...own, volume: { ...own.volume, deleted: true } }]));
  await failure('INVALID_ARGUMENT', adopt([{ ...own, authentication: 'f'.repeat(32) }]));
  const [first, second] = own.members;
  await failure('INVALID_ARGUMENT', adopt([{ ...own, members: [first, { ...second, deviceId: idOf('nowhere') }] }]));
  const offline = own.members.map((member) => ({ ...member, state: 'offline' as const }));
  await failure('INVALID_ARGUMENT', adopt([ownVolume(world, 'whole'), { ...own, members: offline }]));
  assert.is((await world.settle(world.manager.volumes())).length, 1);
});

check('a volume on several nodes is given back to none', async () => {
  const world = await ManagerWorld.begin([1, 1]);
  await world.create('v', 2);
  const refused = await failure('UNAVAILABLE', world.settle(world.manager.giveBack('v')));
  assert.match(refused.message, /a, b/);
});

run();
