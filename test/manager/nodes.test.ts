/** Nodes and devices: who is believed, who is there, and what each is told. */

import * as assert from 'uvu/assert';
import { DEFAULT_TIMES } from '#strake/core/cluster-times.js';
import { memberOffline } from '#strake/layout/map-changes.js';
import type { DeviceListed } from '#strake/ports/manager.js';
import { check, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { FakeStorageNode, idOf, ManagerWorld } from '../support/manager-world.js';
import { changeOf, decided } from '../support/map-requests.js';

const SINCE = { generation: 1, flushNumber: 3 };

async function deviceOf(world: ManagerWorld, deviceId: string): Promise<DeviceListed> {
  const found = (await world.settle(world.manager.devices())).find((one) => one.deviceId === deviceId);
  if (found === undefined) throw new Error(`there is no device ${deviceId}`);
  return found;
}

const kindsOf = async (world: ManagerWorld) => (await world.settle(world.manager.events(0))).map(({ kind }) => kind);

check('nodes and devices are listed, and are down when they are not heard', async () => {
  const world = await ManagerWorld.begin([2, 1]);
  const [a, b] = world.nodes;
  const nodes = await world.settle(world.manager.nodes());
  assert.equal(
    nodes.map(({ name, state, devices }) => [name, state, devices]),
    [
      ['a', 'up', 2],
      ['b', 'up', 1],
    ],
  );
  for (let passed = 0; passed < 3000; passed += 500) {
    await world.pass(500);
    await world.settle(a.beat(world.manager));
  }
  const later = await world.settle(world.manager.nodes());
  assert.equal([later[0].state, later[1].state], ['up', 'down']);
  assert.ok((later[1].silentMs ?? 0) >= 2500);
  const device = await deviceOf(world, b.members[0].deviceId);
  assert.equal([device.state, device.freeBytes], ['absent', null]);
  await world.settle(b.beat(world.manager));
  assert.is((await deviceOf(world, b.members[0].deviceId)).state, 'healthy');
  const kinds = await kindsOf(world);
  assert.is(kinds.filter((kind) => kind === 'node-down').length, 1);
  assert.is(kinds.filter((kind) => kind === 'node-up').length, 3);
});

check('a node of another cluster, or with the name of another, is refused', async () => {
  const world = await ManagerWorld.begin([1]);
  const stranger = new FakeStorageNode('z', 1);
  await failure('WRONG_DEVICE', world.settle(stranger.register(world.manager, 'd'.repeat(32))));
  const twin = Object.assign(new FakeStorageNode('y', 1), { name: 'a' });
  const refused = await failure('EXISTS', world.settle(twin.register(world.manager)));
  assert.match(refused.message, world.nodes[0].nodeId);
  assert.is((await world.settle(world.manager.nodes())).length, 1);
});

check('a node that has not registered with this manager is told to', async () => {
  const world = await ManagerWorld.begin([1]);
  const [a] = world.nodes;
  await world.restart();
  const request = { nodeId: a.nodeId, sequenceSeen: 0, devices: [], replicas: [] };
  const answer = await world.settle(world.manager.heartbeat(request));
  assert.equal([answer.registered, answer.maps], [false, []]);
  await world.settle(a.register(world.manager));
  assert.ok((await world.settle(world.manager.heartbeat(request))).registered);
});

check('an older copy of a device is refused, and gets no maps', async () => {
  const world = await ManagerWorld.begin([1, 1]);
  const [a] = world.nodes;
  const [member] = a.members;
  member.incarnation = 5;
  await world.settle(a.register(world.manager));
  await world.create('v', 2);
  member.incarnation = 4;
  const { refused } = await world.settle(a.register(world.manager));
  assert.is(refused.length, 1);
  assert.match(refused[0].why, /older copy/);
  await world.pass(600);
  assert.equal(await world.settle(a.beat(world.manager)), []);
  assert.is((await deviceOf(world, member.deviceId)).state, 'refused');
  await failure('NO_SPACE', world.create('w', 2));
  member.incarnation = 6;
  assert.equal((await world.settle(a.register(world.manager))).refused, []);
  assert.is((await world.settle(a.beat(world.manager))).length, 1);
});

check('of a device on two nodes the one counts that was there, until its node is down', async () => {
  const world = await ManagerWorld.begin([1, 1]);
  const [a, b] = world.nodes;
  const clone = Object.assign(new FakeStorageNode('z', 0), { members: a.members });
  const { refused } = await world.settle(clone.register(world.manager));
  assert.match(refused[0].why, /node a has it too/);
  assert.is((await deviceOf(world, a.members[0].deviceId)).nodeName, 'a');
  for (let passed = 0; passed < 3000; passed += 500) {
    await world.pass(500);
    await world.settle(b.beat(world.manager));
  }
  assert.equal((await world.settle(clone.register(world.manager))).refused, []);
  assert.is((await deviceOf(world, a.members[0].deviceId)).nodeName, 'z');
  assert.ok((await kindsOf(world)).includes('device-moved'));
});

check('maps come to members that have not answered them, after the time that a holder has for it', async () => {
  const world = await ManagerWorld.begin([1, 1]);
  const { maps } = await world.create('v', 2);
  const [a] = world.nodes;
  await world.pass(400);
  assert.equal(await world.settle(a.beat(world.manager)), []);
  await world.pass(200);
  assert.equal(await world.settle(a.beat(world.manager, false)), maps);
  assert.equal(await world.settle(a.beat(world.manager)), maps, 'again, until it has answered');
  assert.equal(await world.settle(a.beat(world.manager)), []);
  const [listed] = await world.settle(world.manager.volumes());
  const answered = listed.groups[0].members.map((member) => member.answered);
  assert.equal(answered.sort(), [0, maps[0].mapVersion]);
});

check('an attach is handed out once a member has answered it, or somebody changes its members', async () => {
  const world = await ManagerWorld.begin([1, 1]);
  await world.create('v', 2);
  await world.passWithBeats(1000);
  const { maps } = await world.attach('v', 'one');
  await world.pass(2000);
  const [a, b] = world.nodes;
  assert.equal(await world.settle(a.beat(world.manager, false)), [], 'its client may be gone');
  await world.bring(maps, b.members);
  assert.equal(await world.settle(b.beat(world.manager)), maps);
});

check('an attach that a member tells of is handed out by a manager that knows nothing else of it', async () => {
  const world = await ManagerWorld.begin([1, 1]);
  await world.create('v', 2);
  await world.passWithBeats(1000);
  const { maps } = await world.attach('v', 'one');
  const [a, b] = world.nodes;
  a.members[0].store(maps[0]);
  await world.restart();
  await world.registerAll();
  assert.equal(await world.settle(b.beat(world.manager)), maps);
});

check('no map is handed out before it is durable', async () => {
  const world = await ManagerWorld.begin([1, 1]);
  let open = () => {};
  world.store.gate = new Promise((resolve) => {
    open = resolve;
  });
  const request = { volumeId: idOf('v'), name: 'v', sizeBytes: 1 << 24, layout: 'mirror', copies: 2, on: [] } as const;
  const told: number[] = [];
  world.manager.onDecided((maps) => told.push(maps.length));
  const created = world.manager.create(request);
  await world.pass(1000);
  let answered = false;
  const beat = world.nodes[0].beat(world.manager).then((maps) => {
    answered = true;
    return maps;
  });
  await world.pass(1000);
  assert.not.ok(answered);
  assert.equal(told, []);
  open();
  world.store.gate = null;
  const { maps } = await world.settle(created);
  assert.equal(await world.settle(beat), maps);
  assert.equal(told, [1]);
});

check('a heartbeat brings 64 maps at the most, and the next ones the rest', async () => {
  const world = await ManagerWorld.begin([1, 1]);
  for (let number = 0; number < 70; number += 1) await world.create(`v${number}`, 2);
  await world.pass(600);
  const [a] = world.nodes;
  assert.is((await world.settle(a.beat(world.manager))).length, 64);
  assert.is((await world.settle(a.beat(world.manager))).length, 6);
  assert.is((await world.settle(a.beat(world.manager))).length, 0);
});

check('what a device says that is not a member raises nothing', async () => {
  const world = await ManagerWorld.begin([1, 1, 1]);
  await world.create('v', 3);
  const [map] = (await world.attach('v', 'one')).maps;
  await world.bring([map]);
  const request = changeOf('one', map, (volume) => memberOffline(volume, 0, 2, SINCE));
  const out = decided(await world.settle(world.manager.change(request)));
  const [first, second, third] = out.members.map(({ deviceId }) => {
    return world.members.find((member) => member.deviceId === deviceId) ?? world.members[0];
  });
  await world.bring([out], [first, second]);
  third.store(out);
  await world.beatAll();
  const [listed] = await world.settle(world.manager.volumes());
  assert.is(listed.groups[0].base, map.mapVersion, 'two members in-sync have not answered');
});

check('times are changed one by one, survive a restart, and are refused where they contradict each other', async () => {
  const world = await ManagerWorld.begin([1]);
  assert.equal((await world.settle(world.manager.status())).times, DEFAULT_TIMES);
  const set = (times: object) => world.settle(world.manager.setTimes(times));
  const changed = await set({ holdMs: 10_000 });
  assert.equal(changed, { ...DEFAULT_TIMES, holdMs: 10_000 });
  for (const wrong of [
    { leaseMs: 1000 },
    { nodeDownMs: 900 },
    { silenceMs: 600 },
    { silenceMs: 1800 },
    { leaseMs: 5001 },
    { attachMs: 1999 },
    { janitorMs: 3999 },
    { pingMs: 0 },
    { pingMs: 1.5 },
    { what: 1 },
  ]) {
    await failure('INVALID_ARGUMENT', set(wrong));
  }
  await failure('INVALID_ARGUMENT', set({ deviceFenceMs: 100 }));
  await world.restart();
  await world.registerAll();
  const { answer } = { answer: await world.settle(world.manager.status()) };
  assert.is(answer.times.holdMs, 10_000);
});

check('events are numbered, kept, and told after any of them', async () => {
  const world = await ManagerWorld.begin([1, 1]);
  for (let number = 0; number < 150; number += 1) {
    await world.create(`v${number}`, 2);
    await world.settle(world.manager.delete(`v${number}`));
  }
  const first = await world.settle(world.manager.events(0));
  assert.is(first.length, 256);
  const rest = await world.settle(world.manager.events(first[255].number));
  assert.is(rest[0].number, first[255].number + 1);
  assert.equal(await world.settle(world.manager.events(10_000)), []);
});

run();
