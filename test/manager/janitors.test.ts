/** Volumes that nobody attends to: whom the manager asks to, when, and who may attach them meanwhile. */

import * as assert from 'uvu/assert';
import { memberOffline } from '#strake/layout/map-changes.js';
import { check, run } from '../support/check.js';
import { failure } from '../support/failure.js';
import { type FakeStorageNode, idOf, ManagerWorld } from '../support/manager-world.js';
import { changeOf, decided } from '../support/map-requests.js';

const SECOND = 1000;
const SINCE = { generation: 1, flushNumber: 3 };

/** Time passes in which nodes are heard. Resolves to whom the manager has asked, and in which second it did first. */
async function asked(
  world: ManagerWorld,
  forMs: number,
  heard: readonly FakeStorageNode[] = world.nodes,
): Promise<readonly (readonly [name: string, second: number])[]> {
  const found = new Map<string, number>();
  for (let passed = 0; passed < forMs; passed += 500) {
    await world.pass(500);
    for (const { name, nodeId, members } of heard) {
      const devices = members.map((member) => member.report());
      const { attach } = await world.settle(
        world.manager.heartbeat({ nodeId, sequenceSeen: 0, devices, replicas: [] }),
      );
      if (attach.length > 0 && !found.has(name)) found.set(name, Math.ceil((passed + 500) / SECOND));
    }
  }
  return [...found];
}

const janitor = (world: ManagerWorld, client: string) =>
  world.settle(world.manager.attach({ volume: 'v', clientId: idOf(client), takeOver: false, janitor: true }));

async function listed(world: ManagerWorld) {
  const [volume] = await world.settle(world.manager.volumes());
  return volume;
}

/** A volume whose holder says nothing any more. */
async function abandoned(devices = [1, 1, 1]): Promise<ManagerWorld> {
  const world = await ManagerWorld.begin(devices);
  await world.bring((await world.create('v', 2)).maps);
  await world.bring((await world.attach('v', 'one')).maps);
  return world;
}

check('a node with a current copy is asked when the holder has been silent for the time that is set', async () => {
  const world = await abandoned();
  assert.equal(await asked(world, 8 * SECOND), []);
  const found = await asked(world, 8 * SECOND);
  assert.is(found.length, 1);
  const [[name, second]] = found;
  assert.ok(['a', 'b'].includes(name) && second <= 4, `${name} in second ${second}`);
  const members = (await listed(world)).groups[0].members;
  assert.ok(members.some(({ nodeName }) => nodeName === name));
});

check('a holder that is heard is left alone, and so is a volume that was released whole', async () => {
  const world = await abandoned();
  const { maps } = await world.settle(world.manager.fetch('v'));
  for (let round = 0; round < 20; round += 1) {
    const holds = [{ volumeId: idOf('v'), generation: 1, serves: true }];
    await world.settle(world.manager.renew({ clientId: idOf('one'), holds }));
    assert.equal(await asked(world, SECOND), []);
  }
  await world.settle(world.manager.detach({ clientId: idOf('one'), volumeId: idOf('v'), maps }));
  assert.equal(await asked(world, 20 * SECOND), []);
});

check('a node that does nothing is followed by another, after a longer time', async () => {
  const world = await abandoned();
  const [[first]] = await asked(world, 12 * SECOND);
  // It is asked for ten seconds, and nobody is for twenty.
  const found = await asked(world, 32 * SECOND);
  const others = found.filter(([name]) => name !== first);
  assert.is(others.length, 1);
  assert.ok(others[0][1] >= 25, String(others[0][1]));
});

check('a janitor takes over nobody, is asked for once, and whoever else attaches takes it over', async () => {
  const world = await abandoned();
  await failure('VOLUME_BUSY', janitor(world, 'early'));
  assert.is((await asked(world, 12 * SECOND)).length, 1);
  const { maps } = await janitor(world, 'helper');
  assert.equal([maps[0].generation, (await listed(world)).janitor], [2, true]);
  assert.equal(await asked(world, SECOND), [], 'nobody else is asked');
  await failure('VOLUME_BUSY', janitor(world, 'late'));
  await failure('VOLUME_BUSY', world.settle(world.manager.delete('v')));
  // A manager that starts knows it too.
  await world.restart();
  await world.registerAll();
  assert.ok((await listed(world)).janitor);
  const after = await world.attach('v', 'two');
  assert.equal([after.maps[0].generation, (await listed(world)).janitor], [3, false]);
  await failure('VOLUME_BUSY', world.attach('v', 'three'));
});

check('a member that is out and there again is a reason, one that is away is none', async () => {
  const world = await abandoned();
  const [map] = (await world.settle(world.manager.fetch('v'))).maps;
  const [member] = map.members;
  const out = await world.settle(world.manager.change(changeOf('one', map, (v) => memberOffline(v, 0, 0, SINCE))));
  const maps = [decided(out)];
  await world.settle(world.manager.detach({ clientId: idOf('one'), volumeId: idOf('v'), maps }));
  const away = world.nodes.find((node) => node.members[0].deviceId === member.deviceId);
  assert.ok(away !== undefined);
  const others = world.nodes.filter((node) => node !== away);
  assert.equal(await asked(world, 20 * SECOND, others), []);
  await world.settle(away.register(world.manager));
  const found = await asked(world, 13 * SECOND);
  assert.is(found.length, 1);
  assert.is.not(found[0][0], away.name, 'it has no current copy');
  // It gives the volume back, and the member is out still: it is asked again later.
  const attached = await janitor(world, 'helper');
  await world.settle(world.manager.detach({ clientId: idOf('helper'), volumeId: idOf('v'), maps: attached.maps }));
  assert.not((await listed(world)).janitor);
  assert.equal(await asked(world, 18 * SECOND), [], 'not at once');
  assert.is((await asked(world, 5 * SECOND)).length, 1);
});

check('nobody is asked where a group has no current copy that is there', async () => {
  const world = await abandoned([1, 1]);
  assert.equal(await asked(world, 20 * SECOND, []), []);
  const [a] = world.nodes;
  const [map] = (await world.settle(world.manager.fetch('v'))).maps;
  assert.is(map.members.length, 2);
  a.members[0].incarnation = 0;
  assert.equal(await asked(world, 12 * SECOND, [a]), []);
});

run();
