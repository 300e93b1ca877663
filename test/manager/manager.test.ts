/** Who holds a volume, and what its manager decides for it. */

import * as assert from 'uvu/assert';
import { memberInSync, memberOffline, memberSyncing, replaceMember } from '#strake/layout/map-changes.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import { isAuthentic } from '#strake/wire/maps.js';
import { check, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { EPOCH, idOf, KEY, ManagerWorld } from '../support/manager-world.js';
import { changeOf, decided, statesOf } from '../support/map-requests.js';

const SINCE = { generation: 1, flushNumber: 3 };

/** A world with a volume of three copies that client `one` has attached, and that its members have stored. */
async function held(): Promise<{ readonly world: ManagerWorld; readonly map: ReplicaMap }> {
  const world = await ManagerWorld.begin([1, 1, 1, 1]);
  await world.create('v', 3, ['a', 'b', 'c']);
  const [map] = (await world.attach('v', 'one')).maps;
  await world.bring([map]);
  return { world, map };
}

/** Asks for a change of a map as client `one`. */
function ask(world: ManagerWorld, map: ReplicaMap, make: Parameters<typeof changeOf>[2], client = 'one') {
  return world.settle(world.manager.change(changeOf(client, map, make)));
}

check('a volume is made, attached, loses a member, gets it back, and is released', async () => {
  const world = await ManagerWorld.begin();
  const created = await world.create('v', 2, ['a', 'b']);
  assert.is(created.maps.length, 1);
  assert.is(created.maps[0].mapVersion, EPOCH + 1);
  assert.ok(isAuthentic(created.maps[0], KEY));
  assert.equal(
    created.devices.map(({ nodeId }) => nodeId),
    world.nodes.slice(0, 2).map(({ nodeId }) => nodeId),
  );
  const [map] = (await world.attach('v', 'one')).maps;
  assert.equal([map.mapVersion, map.generation, map.holder, map.lease], [EPOCH + 2, 1, idOf('one'), 'exclusive']);
  await world.bring([map]);
  const out = decided(await ask(world, map, (volume) => memberOffline(volume, 0, 1, SINCE)));
  assert.equal([out.mapVersion, statesOf(out)], [EPOCH + 3, 'in-sync,offline']);
  await world.bring([out]);
  const syncing = decided(await ask(world, out, (volume) => memberSyncing(volume, 0, 1, 1, false)));
  assert.equal([syncing.members[1].joined, statesOf(syncing)], [EPOCH + 4, 'in-sync,syncing']);
  await world.bring([syncing]);
  const progress = { incarnation: 1, flushNumber: 5 };
  const back = decided(await ask(world, syncing, (volume) => memberInSync(volume, 0, 1, progress)));
  assert.equal([back.members[1].joined, statesOf(back)], [EPOCH + 4, 'in-sync,in-sync']);
  assert.ok(isAuthentic(back, KEY));
  await world.bring([back]);
  const detach = { clientId: idOf('one'), volumeId: map.volume.id, maps: [back] };
  assert.is((await world.settle(world.manager.detach(detach))).kind, 'released');
  assert.is((await world.settle(world.manager.detach(detach))).kind, 'released', 'once more');
  const [listed] = await world.settle(world.manager.volumes());
  assert.equal([listed.lease, listed.groups[0].mapVersion], ['released', EPOCH + 6]);
  const kinds = (await world.settle(world.manager.events(0))).map(({ kind }) => kind);
  for (const kind of [
    'volume-created',
    'attached',
    'member-removal',
    'member-take-in',
    'member-promotion',
    'released',
  ]) {
    assert.ok(kinds.includes(kind), kind);
  }
});

check('a second client is refused while the holder is heard, and takes over where it is told to', async () => {
  const { world } = await held();
  const refused = await failure('VOLUME_BUSY', world.attach('v', 'two'));
  assert.match(refused.message, idOf('one'));
  await world.pass(3500);
  const holds = [{ volumeId: idOf('v'), generation: 1, serves: true }];
  await world.settle(world.manager.renew({ clientId: idOf('one'), holds }));
  await world.pass(3500);
  await failure('VOLUME_BUSY', world.attach('v', 'two'));
  const [map] = (await world.attach('v', 'two', true)).maps;
  assert.equal([map.generation, map.holder], [2, idOf('two')]);
  const renewed = await world.settle(world.manager.renew({ clientId: idOf('one'), holds }));
  assert.equal(renewed.lost, [{ volumeId: map.volume.id, generation: 2, state: 'coming' }]);
});

check('a client that is heard keeps what it names, and nothing that it could not serve', async () => {
  const { world } = await held();
  const { maps } = await world.create('w', 2);
  await world.attach('w', 'one');
  for (let passed = 0; passed < 5000; passed += 500) {
    await world.settle(
      world.manager.renew({
        clientId: idOf('one'),
        holds: [{ volumeId: maps[0].volume.id, generation: 1, serves: true }],
      }),
    );
    await world.pass(500);
  }
  await failure('VOLUME_BUSY', world.attach('w', 'two'));
  const [map] = (await world.attach('v', 'two')).maps;
  assert.equal([map.generation, map.holder], [2, idOf('two')]);
});

check('a client that attaches a volume anew names the generation before, and keeps it', async () => {
  const { world, map } = await held();
  const { id: volumeId } = map.volume;
  await world.attach('v', 'one', true);
  for (let passed = 0; passed < 5000; passed += 500) {
    await world.settle(
      world.manager.renew({ clientId: idOf('one'), holds: [{ volumeId, generation: 1, serves: false }] }),
    );
    await world.pass(500);
  }
  await failure('VOLUME_BUSY', world.attach('v', 'two'));
});

/** What a client is told that has held the volume under generation 1. */
async function told(world: ManagerWorld, { volume }: ReplicaMap, client = 'one', generation = 1, serves = false) {
  const holds = [{ volumeId: volume.id, generation, serves }];
  return (await world.settle(world.manager.renew({ clientId: idOf(client), holds }))).lost;
}

/** Attaches the volume anew as client `one`. */
function attachAnew(world: ManagerWorld, instead: number): Promise<unknown> {
  return world.manager.attach({ volume: 'v', clientId: idOf('one'), takeOver: true, instead, above: instead });
}

check('whoever held a volume attaches it anew when the next client has had its time, and not before', async () => {
  const { world, map } = await held();
  const { id: volumeId } = map.volume;
  await world.attach('v', 'two', true);
  await world.pass(4800);
  assert.equal(await told(world, map), [{ volumeId, generation: 2, state: 'coming' }]);
  await failure('VOLUME_BUSY', world.settle(attachAnew(world, 2)));
  await world.pass(400);
  assert.equal(await told(world, map), [{ volumeId, generation: 2, state: 'free' }]);
  await failure('VOLUME_BUSY', world.settle(attachAnew(world, 1)));
  await world.settle(attachAnew(world, 2));
  assert.equal(await told(world, map, 'one', 3), []);
  assert.equal(await told(world, map, 'two', 2), [{ volumeId, generation: 3, state: 'coming' }]);
});

check(
  'whoever held a volume attaches it anew when the next client has given it back, and not if that has served',
  async () => {
    const { world, map } = await held();
    const { id: volumeId } = map.volume;
    const [second] = (await world.attach('v', 'two', true)).maps;
    await world.settle(world.manager.detach({ clientId: idOf('two'), volumeId, maps: [second] }));
    assert.equal(await told(world, map), [{ volumeId, generation: 2, state: 'free' }]);
    const [third] = (await world.attach('v', 'two')).maps;
    assert.equal(await told(world, map, 'two', 3, true), []);
    await world.pass(6000);
    assert.equal(await told(world, map), [{ volumeId, generation: 3, state: 'serves' }]);
    await failure('VOLUME_BUSY', world.settle(attachAnew(world, 3)));
    await world.settle(world.manager.detach({ clientId: idOf('two'), volumeId, maps: [third] }));
    assert.equal(await told(world, map), [{ volumeId, generation: 3, state: 'serves' }]);
  },
);

check('a manager that has started gives the next client its time again', async () => {
  const { world, map } = await held();
  await world.attach('v', 'two', true);
  await world.pass(4000);
  await world.restart();
  await world.registerAll();
  await world.pass(4000);
  assert.equal(await told(world, map), [{ volumeId: map.volume.id, generation: 2, state: 'coming' }]);
  await world.pass(1200);
  assert.equal(await told(world, map), [{ volumeId: map.volume.id, generation: 2, state: 'free' }]);
});

check('a holder that has been silent for twice the lease is replaced without a word', async () => {
  const { world } = await held();
  await world.pass(3900);
  await failure('VOLUME_BUSY', world.attach('v', 'two'));
  await world.pass(200);
  const [map] = (await world.attach('v', 'two')).maps;
  assert.is(map.holder, idOf('two'));
});

check('an attach whose answer was lost is asked for again, and uses up nothing', async () => {
  const { world, map } = await held();
  const again = { volume: 'v', clientId: idOf('one'), takeOver: false };
  const same = await world.settle(world.manager.attach({ ...again, above: 0 }));
  assert.equal(same.maps, [map]);
  const next = await world.settle(world.manager.attach({ ...again, above: 1 }));
  assert.is(next.maps[0].generation, 2);
});

check('whoever asks with another version, or does not hold the volume, gets the newest maps', async () => {
  const { world, map } = await held();
  const remove: Parameters<typeof ask>[2] = (volume) => memberOffline(volume, 0, 0, SINCE);
  const out = decided(await ask(world, map, remove));
  const late = await ask(world, map, (volume) => memberOffline(volume, 0, 1, SINCE));
  assert.is(late.kind, 'superseded');
  if (late.kind === 'superseded') assert.equal(late.newest.maps, [out]);
  assert.is((await ask(world, out, (volume) => memberOffline(volume, 0, 1, SINCE), 'two')).kind, 'superseded');
  const [taken] = (await world.attach('v', 'two', true)).maps;
  const old = await ask(world, { ...out, mapVersion: taken.mapVersion }, (volume) =>
    memberOffline(volume, 0, 1, SINCE),
  );
  assert.is(old.kind, 'superseded', 'the holder of an older generation names the newest version');
});

check('a consent to an older map promotes nobody', async () => {
  const { world, map } = await held();
  const out = decided(await ask(world, map, (volume) => memberOffline(volume, 0, 2, SINCE)));
  await world.bring([out]);
  const syncing = decided(await ask(world, out, (volume) => memberSyncing(volume, 0, 2, 1, false)));
  await world.bring([syncing]);
  const consent = changeOf('one', syncing, (volume) => memberInSync(volume, 0, 2, { incarnation: 1, flushNumber: 1 }));
  const [attached] = (await world.attach('v', 'one', true)).maps;
  assert.equal([attached.generation, statesOf(attached)], [2, 'in-sync,in-sync,syncing']);
  await world.bring([attached]);
  const answer = await world.settle(world.manager.change(consent));
  assert.is(answer.kind, 'superseded');
});

check('nobody joins while a change is pending, and removals and attaches do not wait', async () => {
  const { world, map } = await held();
  const [, , third] = world.members;
  const out = decided(await ask(world, map, (volume) => memberOffline(volume, 0, 2, SINCE)));
  const takeIn = () => ask(world, out, (volume) => memberSyncing(volume, 0, 2, 1, false));
  const refused = await failure('UNAVAILABLE', takeIn());
  assert.match(refused.message, /pending/);
  await world.bring([out], [third]);
  const syncing = decided(await takeIn());
  // A removal is added to the take-in that nobody has stored, and an attach to both.
  const less = decided(await ask(world, syncing, (volume) => memberOffline(volume, 0, 1, SINCE)));
  assert.is(statesOf(less), 'in-sync,offline,syncing');
  const [attached] = (await world.attach('v', 'two', true)).maps;
  assert.is(statesOf(attached), 'in-sync,offline,syncing');
  await world.bring([attached]);
  const last = await failure(
    'UNAVAILABLE',
    ask(world, attached, (volume) => memberOffline(volume, 0, 0, SINCE), 'two'),
  );
  assert.match(last.message, /last member/);
});

check('a removal keeps a member that every map has which may be effective', async () => {
  const { world, map } = await held();
  const one = decided(await ask(world, map, (volume) => memberOffline(volume, 0, 1, SINCE)));
  const back = decided(await bringBack(world, one, 1));
  // The promotion is pending: the device that was promoted cannot be the only one that stays.
  const alone = (volume: Parameters<typeof memberOffline>[0]) => {
    return memberOffline(memberOffline(volume, 0, 0, SINCE), 0, 2, SINCE);
  };
  const refused = await failure('UNAVAILABLE', ask(world, back, alone));
  assert.match(refused.message, /every map since/);
  await world.bring([back]);
  assert.is(statesOf(decided(await ask(world, back, alone))), 'offline,in-sync,offline');
});

/** A member is taken in, and promoted, which nobody stores. */
async function bringBack(world: ManagerWorld, map: ReplicaMap, place: number) {
  await world.bring([map]);
  const syncing = decided(await ask(world, map, (volume) => memberSyncing(volume, 0, place, 1, false)));
  await world.bring([syncing]);
  return ask(world, syncing, (volume) => memberInSync(volume, 0, place, { incarnation: 1, flushNumber: 1 }));
}

check('a client that has attached and reaches no member removes none', async () => {
  const { world } = await held();
  const [map] = (await world.attach('v', 'two', true)).maps;
  const remove = () => ask(world, map, (volume) => memberOffline(volume, 0, 0, SINCE), 'two');
  const refused = await failure('UNAVAILABLE', remove());
  assert.match(refused.message, /reaches nobody/);
  await world.bring([map], world.members.slice(0, 2));
  decided(await remove());
});

check('a device takes the place of one that is offline if it is there, and on another node', async () => {
  const { world, map } = await held();
  const [first, , , spare] = world.members;
  const out = decided(await ask(world, map, (volume) => memberOffline(volume, 0, 1, SINCE)));
  await world.bring([out]);
  const put = (deviceId: string) => ask(world, out, (volume) => replaceMember(volume, 0, 1, deviceId));
  await failure('WRONG_DEVICE', put(idOf('nowhere')));
  const beside = new ManagerWorld([2]).nodes[0].members[1].deviceId;
  await failure('WRONG_DEVICE', put(beside));
  const replaced = decided(await put(spare.deviceId));
  assert.equal(
    replaced.members.map(({ deviceId }) => deviceId),
    [first.deviceId, spare.deviceId, map.members[2].deviceId],
  );
});

check('a device beside another member of the group is taken in by nobody', async () => {
  const world = await ManagerWorld.begin([2, 1]);
  await world.create('v', 2, ['a', 'b']);
  const [map] = (await world.attach('v', 'one')).maps;
  await world.bring([map]);
  const second = map.members.findIndex(({ deviceId }) => deviceId === world.nodes[1].members[0].deviceId);
  const out = decided(await ask(world, map, (volume) => memberOffline(volume, 0, second, SINCE)));
  await world.bring([out]);
  const free = world.nodes[0].members.find(({ deviceId }) => map.members.every((one) => one.deviceId !== deviceId));
  const change = ask(world, out, (volume) => replaceMember(volume, 0, second, free?.deviceId ?? ''));
  const refused = await failure('WRONG_DEVICE', change);
  assert.match(refused.message, /lost together/);
});

check('a client that reports many nodes at once waits until the manager misses them too', async () => {
  const { world, map } = await held();
  const first = decided(await ask(world, map, (volume) => memberOffline(volume, 0, 2, SINCE)));
  let answered = false;
  const request = changeOf('one', first, (volume) => memberOffline(volume, 0, 1, SINCE));
  const second = world.manager.change(request).then((answer) => {
    answered = true;
    return answer;
  });
  await world.passWithBeats(2000);
  assert.not.ok(answered, 'the manager hears both nodes');
  const [a, , , d] = world.nodes;
  for (let passed = 0; passed < 2500; passed += 500) {
    await world.pass(500);
    for (const node of [a, d]) await world.settle(node.beat(world.manager));
  }
  assert.is(statesOf(decided(await world.settle(second))), 'in-sync,offline,offline');
});

/** A volume of which two members are reported at once, and a second report that waits for what the manager hears. */
async function crowdOf() {
  const { world, map } = await held();
  await world.settle(world.manager.setTimes({ holdMs: 5000 }));
  const first = decided(await ask(world, map, (volume) => memberOffline(volume, 0, 2, SINCE)));
  return { world, request: changeOf('one', first, (volume) => memberOffline(volume, 0, 1, SINCE)) };
}

check('a report that is never borne out is refused in the end', async () => {
  const { world, request } = await crowdOf();
  let ended = false;
  const refused = failure('UNAVAILABLE', world.manager.change(request)).finally(() => {
    ended = true;
  });
  await world.passWithBeats(4500);
  assert.not.ok(ended, 'however long ago the other report was');
  await world.passWithBeats(1000);
  assert.match((await world.settle(refused)).message, /the manager hears its node/);
});

check('a report that waits gives way to the next one of its client, whose time goes on', async () => {
  const { world, request } = await crowdOf();
  const dropped = failure('UNAVAILABLE', world.manager.change(request));
  await world.passWithBeats(4000);
  let ended = false;
  const refused = failure('UNAVAILABLE', world.manager.change(request)).finally(() => {
    ended = true;
  });
  await world.passWithBeats(500);
  assert.match((await world.settle(dropped)).message, /waits for it no more/);
  assert.not.ok(ended);
  await world.passWithBeats(1000);
  assert.ok(ended, 'a report that is asked for again and again is never refused');
  assert.match((await world.settle(refused)).message, /the manager hears its node/);
});

check('a report that nobody waits for any more is not decided, though its nodes fall silent', async () => {
  const { world, request } = await crowdOf();
  let waits = true;
  const dropped = failure(
    'UNAVAILABLE',
    world.manager.change(request, () => waits),
  );
  await world.passWithBeats(1000);
  waits = false;
  await world.pass(4000);
  assert.match((await world.settle(dropped)).message, /waits for it no more/);
  const { maps } = await world.settle(world.manager.fetch('v'));
  assert.is(maps[0].mapVersion, request.before);
});

check('a report that waits ends with the manager', async () => {
  const { world, request } = await crowdOf();
  const waits = failure('NO_MANAGER', world.manager.change(request));
  await world.passWithBeats(500);
  await world.settle(world.manager.close());
  await world.settle(waits);
});

check('what nobody holds loses a dead member by anybody, and one that is heard by nobody', async () => {
  const world = await ManagerWorld.begin([1, 1]);
  const [map] = (await world.create('v')).maps;
  const remove = () => ask(world, map, (volume) => memberOffline(volume, 0, 1, SINCE), 'two');
  assert.is((await remove()).kind, 'superseded');
  const [a] = world.nodes.filter(({ members }) => members[0].deviceId === map.members[0].deviceId);
  for (let passed = 0; passed < 3000; passed += 500) {
    await world.pass(500);
    await world.settle(a.beat(world.manager));
  }
  assert.is(statesOf(decided(await remove())), 'in-sync,offline');
});

check('a volume is given back only as it is, and by its holder', async () => {
  const { world, map } = await held();
  const detach = (maps: readonly ReplicaMap[], client = 'one') =>
    world.settle(world.manager.detach({ clientId: idOf(client), volumeId: map.volume.id, maps }));
  assert.is((await detach([map], 'two')).kind, 'superseded');
  assert.is((await detach([{ ...map, mapVersion: map.mapVersion - 1 }])).kind, 'superseded');
  await failure('INVALID_ARGUMENT', detach([]));
  const less = {
    ...map,
    members: map.members.map((one, at) => (at === 0 ? { ...one, state: 'offline' as const } : one)),
  };
  await failure('INVALID_ARGUMENT', detach([less]));
  const further = map.members.map((one) => ({ ...one, flushNumber: 9 }));
  const released = await detach([{ ...map, members: further }]);
  assert.is(released.kind, 'released');
  if (released.kind === 'released') assert.is(released.maps[0].members[0].flushNumber, 9);
  assert.is((await world.attach('v', 'two')).maps[0].generation, 2, 'nobody is asked');
});

run();
