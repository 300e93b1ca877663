/** What a manager answers is durable, what it could not make so it does not answer, and who has an older store does not lead. */

import * as assert from 'uvu/assert';
import { StrakeError } from '#strake/core/errors.js';
import { memberInSync, memberOffline, memberSyncing } from '#strake/layout/map-changes.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import { foundCluster } from '#strake/manager/found.js';
import { Manager } from '#strake/manager/manager.js';
import { check, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { CLUSTER, idOf, ManagerWorld, MemoryMetaStore } from '../support/manager-world.js';
import { changeOf, decided, statesOf } from '../support/map-requests.js';

const SINCE = { generation: 1, flushNumber: 3 };

/** A volume of three copies, which client `one` holds, and of which `lost` members have been removed; nobody has stored that. */
async function pendingRemoval(lost: readonly number[]) {
  const world = await ManagerWorld.begin();
  await world.create('v', 3);
  const [map] = (await world.attach('v', 'one')).maps;
  await world.bring([map]);
  const request = changeOf('one', map, (volume) => {
    return lost.reduce((changed, place) => memberOffline(changed, 0, place, SINCE), volume);
  });
  return { world, map, out: decided(await world.settle(world.manager.change(request))) };
}

check('a cluster is founded once, and a manager needs one', async () => {
  const store = new MemoryMetaStore();
  const world = new ManagerWorld();
  world.store = store;
  await failure('NOT_FOUND', world.start());
  await foundCluster(store, { clusterId: CLUSTER });
  await failure('EXISTS', foundCluster(store, { clusterId: CLUSTER }));
  const manager = await world.start();
  assert.is(manager.clusterId, CLUSTER);
});

check('records that are not what they have to be are refused', async () => {
  const world = await ManagerWorld.begin();
  await world.create('v', 2);
  const contents = world.store.contents();
  const opened = (change: (records: Map<string, string>) => void) => {
    world.store = new MemoryMetaStore(contents);
    change(world.store.records);
    return world.start();
  };
  await failure(
    'DAMAGED',
    opened((records) => records.set('cluster', '{')),
  );
  const newer = JSON.stringify({
    ...JSON.parse(contents.records.find(({ key }) => key === 'cluster')?.value ?? ''),
    form: 2,
  });
  await failure(
    'UNKNOWN_FEATURE',
    opened((records) => records.set('cluster', newer)),
  );
  const missing = await failure(
    'DAMAGED',
    opened((records) => records.delete(`group/${idOf('v')}/00000`)),
  );
  assert.match(missing.message, /group 0/);
});

check('a restarted manager knows what was decided, and who has what', async () => {
  const { world, out } = await pendingRemoval([2]);
  const before = await world.settle(world.manager.volumes());
  await world.restart();
  await world.registerAll();
  const after = await world.settle(world.manager.volumes());
  assert.equal(after[0].groups[0].mapVersion, out.mapVersion);
  assert.equal([after[0].holder, after[0].generation], [before[0].holder, before[0].generation]);
  assert.equal((await world.settle(world.manager.fetch('v'))).maps, [out]);
  const numbers = (await world.settle(world.manager.events(0))).map(({ number }) => number);
  assert.equal(
    numbers,
    numbers.map((_, at) => at + 1),
  );
  // The holder may have been heard just before.
  await failure('VOLUME_BUSY', world.attach('v', 'two'));
});

check('a restarted manager does not take what is pending for effective', async () => {
  const { world, map, out } = await pendingRemoval([1]);
  const [first] = world.members;
  // Nobody has stored the removal: the device that it leaves aside may serve reads and refuse what comes late.
  await world.restart();
  await world.registerAll();
  const [listed] = await world.settle(world.manager.volumes());
  assert.is(listed.groups[0].base, map.mapVersion, 'members tell what they have answered');
  assert.ok(out.mapVersion > map.mapVersion);
  const [attached] = (await world.attach('v', 'one')).maps;
  for (const member of world.members) if (member !== first) member.store(attached);
  assert.is(statesOf(attached), 'in-sync,offline,in-sync');
  const answers = [{ deviceId: attached.members[2].deviceId, incarnation: 1 }];
  const { mapVersion, group, volume } = attached;
  await world.settle(world.manager.stored({ volumeId: volume.id, group, mapVersion, answers }));
  const join = changeOf('one', attached, (one) => ({
    ...one,
    groups: [one.groups[0].map((member, at) => (at === 1 ? { ...member, state: 'syncing' as const } : member))],
  }));
  await failure('UNAVAILABLE', world.settle(world.manager.change(join)));
});

check('a restarted manager knows that a map was effective whose members have come back empty', async () => {
  const { world, out } = await pendingRemoval([2]);
  await world.bring([out]);
  const change = async (from: ReplicaMap, make: Parameters<typeof changeOf>[2]) => {
    const map = decided(await world.settle(world.manager.change(changeOf('one', from, make))));
    await world.bring([map]);
    return map;
  };
  const syncing = await change(out, (volume) => memberSyncing(volume, 0, 2, 1, false));
  const present = { incarnation: 1, flushNumber: 1 };
  const whole = await change(syncing, (volume) => memberInSync(volume, 0, 2, present));
  await world.pass(100);
  await world.restart();
  for (const member of world.members.slice(0, 2)) member.maps.clear();
  await world.registerAll();
  // The third member was in-sync in no map before the last one, whose answers nobody can repeat.
  const alone = changeOf('one', whole, (volume) => memberOffline(memberOffline(volume, 0, 0, SINCE), 0, 1, SINCE));
  assert.is(statesOf(decided(await world.settle(world.manager.change(alone)))), 'offline,offline,in-sync');
});

check('what one batch could not make durable is not answered, and nothing more is decided', async () => {
  const world = await ManagerWorld.begin();
  await world.create('v', 2);
  world.store.failure = new StrakeError('NO_SPACE', 'no room');
  let answered = false;
  const note = () => {
    answered = true;
  };
  void world.manager.attach({ volume: 'v', clientId: idOf('one'), takeOver: false }).then(note, note);
  await world.pass(1000);
  assert.not.ok(answered);
  assert.equal(
    world.steppedDown.map(({ code }) => code),
    ['ERR_STRAKE_NO_SPACE'],
  );
  const refused = await failure('NO_MANAGER', world.settle(world.manager.fetch('v')));
  assert.match(refused.message, /no room/);
  world.store.failure = null;
  await world.pass(1000);
  await world.restart();
  await world.registerAll();
  assert.is((await world.attach('v', 'two')).maps[0].generation, 1, 'the attach was not decided');
});

check('decisions that arrive while a batch is being committed share the next one', async () => {
  const world = await ManagerWorld.begin();
  for (const name of ['u', 'v', 'w', 'x']) await world.create(name, 2);
  const { commits } = world.store;
  let open = () => {};
  world.store.gate = new Promise((resolve) => {
    open = resolve;
  });
  const attaches: Promise<unknown>[] = [];
  let answered = 0;
  for (const volume of ['u', 'v', 'w', 'x']) {
    const attach = world.manager.attach({ volume, clientId: idOf('one'), takeOver: false });
    attaches.push(attach.then(() => (answered += 1)));
    await world.pass(10);
  }
  assert.is(answered, 0, 'nothing is answered before it is durable');
  open();
  world.store.gate = null;
  await world.settle(Promise.all(attaches));
  assert.is(world.store.commits - commits, 2);
});

check('a deposed manager fails at its next commit', async () => {
  const world = await ManagerWorld.begin();
  await world.create('v', 2);
  const { store, manager: deposed } = world;
  const other = await world.start();
  assert.is(world.store, store);
  await world.registerAll();
  const attach = { volume: 'v', clientId: idOf('one'), takeOver: true };
  await world.settle(other.attach(attach));
  let answered = false;
  const note = () => {
    answered = true;
  };
  void deposed.attach({ ...attach, clientId: idOf('two') }).then(note, note);
  await world.pass(1000);
  assert.not.ok(answered);
  assert.equal(
    world.steppedDown.map(({ code }) => code),
    ['ERR_STRAKE_STALE_METADATA'],
  );
  assert.is((await world.settle(other.fetch('v'))).maps[0].holder, idOf('one'));
});

check('an older copy of the store does not lead once a node tells of more', async () => {
  const world = await ManagerWorld.begin();
  const copy = world.store.copy();
  const { sequence } = copy;
  await world.create('v', 2);
  await world.beatAll();
  assert.ok(world.nodes[0].sequenceSeen > copy.sequence);
  world.store = copy;
  await world.start();
  const refused = await failure('STALE_METADATA', world.settle(world.nodes[0].register(world.manager)));
  assert.match(refused.message, /older copy/);
  assert.is(world.steppedDown.length, 1);
  await failure('NO_MANAGER', world.settle(world.manager.volumes()));
  assert.is(copy.sequence, sequence, 'nothing is committed to it');
});

check('a manager that starts decides nothing before its nodes have registered, or its time is up', async () => {
  const world = await ManagerWorld.begin();
  await world.create('v', 2);
  await world.restart();
  let answered = 0;
  const attach = () => {
    const call = world.manager.attach({ volume: 'v', clientId: idOf('one'), takeOver: false });
    return call.then(() => (answered += 1));
  };
  const first = attach();
  const { sequence } = world.store;
  for (const node of world.nodes.slice(0, 2)) await world.settle(node.register(world.manager));
  await world.pass(1000);
  assert.is(answered, 0);
  assert.is(world.store.sequence, sequence, 'nor is anything committed');
  const status = await world.settle(world.manager.status());
  assert.equal([status.deciding, status.awaited], [false, ['c']]);
  await world.settle(world.nodes[2].register(world.manager));
  await world.settle(first);
  await world.restart();
  const second = attach();
  await world.pass(4900);
  assert.is(answered, 1);
  await world.pass(600);
  await world.settle(second);
  assert.ok((await world.settle(world.manager.status())).deciding);
});

check('a volume of which a device has a newer map waits', async () => {
  const { world, out } = await pendingRemoval([2]);
  const [member] = world.members;
  const ahead = { ...out, mapVersion: out.mapVersion + 5 };
  member.store(ahead);
  await world.restart();
  await world.registerAll();
  const refused = await failure('UNPROVEN', world.attach('v', 'one'));
  assert.match(refused.message, member.deviceId);
  const [listed] = await world.settle(world.manager.volumes());
  assert.match(String(listed.blocked), String(ahead.mapVersion));
  await failure('UNPROVEN', world.settle(world.manager.delete('v')));
  await world.create('w', 2);
});

check('a manager that is closed has made durable what it was asked for', async () => {
  const world = await ManagerWorld.begin();
  const created = world.create('v', 2);
  await created;
  await world.settle(world.manager.close());
  await failure('NO_MANAGER', world.manager.volumes());
  await world.start();
  assert.is((await world.settle(world.manager.volumes())).length, 1);
  assert.instance(world.manager, Manager);
});

run();
