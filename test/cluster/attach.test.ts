/** Volumes of a cluster: attached through a manager, served over devices of other nodes, given back, and taken over. */

import * as assert from 'uvu/assert';
import { SimKey } from '#strake/sim/world/sim-key.js';
import type { ManagedVolumes } from '#strake/volumes/managed-volumes.js';
import { authenticateMap } from '#strake/wire/maps.js';
import { check, run } from '../support/check.js';
import { type ClusterClient, ClusterWorld, KEY_SEED } from '../support/cluster-world.js';

async function attached(world: ClusterWorld, number = 0, takeOver = false): Promise<ClusterClient> {
  const client = world.client(number);
  await world.settle(client.node.attachVolume('v', { takeOver }));
  return client;
}

check('a client attaches a volume, serves it, and gives it back to the next one', async () => {
  const world = await ClusterWorld.begin(1);
  const first = await attached(world);
  assert.equal(first.states(), ['in-sync', 'in-sync']);
  for (let stripe = 0; stripe < 4; stripe += 1) {
    assert.is(await world.settle(first.write(stripe, 1, 100 + stripe)), 4096);
  }
  assert.is(await world.settle(first.flush()), 0);
  for (let round = 0; round < 2; round += 1) {
    for (let stripe = 0; stripe < 4; stripe += 1) {
      assert.is(await world.settle(first.read(stripe, 1)), 100 + stripe);
    }
  }
  await world.settle(first.node.detachVolume('v'));
  const [{ lease, generation }] = await world.settle(world.calls.volumes());
  assert.is(lease, 'released');
  assert.is(generation, 1);
  const second = await attached(world, 1);
  assert.is(second.engine.record.generation, 2);
  for (let stripe = 0; stripe < 4; stripe += 1) {
    assert.is(await world.settle(second.read(stripe, 1)), 100 + stripe);
  }
  await world.settle(second.node.close());
});

check('a volume that another client serves is refused, or taken over: then the first one writes no more', async () => {
  const world = await ClusterWorld.begin(2);
  const first = await attached(world);
  assert.is(await world.settle(first.write(0, 1, 100)), 4096);
  const second = world.client(1);
  let refusal = '';
  await world.settle(second.node.attachVolume('v').catch(({ code }) => (refusal = code)));
  assert.is(refusal, 'ERR_STRAKE_VOLUME_BUSY');
  const lost = first.engine;
  const late = first.write(0, 2, 111, 1);
  await world.settle(second.node.attachVolume('v', { takeOver: true }));
  const result = await world.settle(late);
  assert.is(await world.settle(second.write(0, 1, 200)), 4096);
  assert.is(await world.settle(second.read(0, 1)), 200);
  if (result === 4096) assert.is(await world.settle(second.read(0, 2)), 111);
  await world.until(() => !lost.serving);
  assert.throws(() => first.engine, /attached volume v \(generation 2\)/);
  assert.is(await world.settle(second.read(0, 1)), 200);
  assert.ok(first.events.some(({ kind }) => kind === 'stopped'));
  await world.settle(first.node.close());
  await world.settle(second.node.close());
});

check('a client that is cut off from members and manager loses a volume without writing any more', async () => {
  const world = await ClusterWorld.begin(3);
  const first = await attached(world);
  assert.is(await world.settle(first.write(0, 1, 100)), 4096);
  const cut = (works: boolean) => {
    for (const { machine } of world.nodes) world.link(first.machine, machine, works);
    world.reachesManager(first.machine, works);
  };
  cut(false);
  const lost = first.engine;
  const late = first.write(0, 1, 111, 1);
  const second = await attached(world, 1, true);
  assert.is(await world.settle(second.read(0, 1)), 100);
  assert.is(await world.settle(second.write(0, 1, 200)), 4096);
  cut(true);
  assert.is(await world.settle(late), -5);
  await world.until(() => !lost.serving);
  for (let round = 0; round < 4; round += 1) assert.is(await world.settle(second.read(0, 1)), 200);
  await world.settle(first.node.close());
  await world.settle(second.node.close());
});

check('a member whose process dies is done without, and brought up to date when it is back', async () => {
  const world = await ClusterWorld.begin(4);
  const client = await attached(world);
  for (let stripe = 0; stripe < 4; stripe += 1) {
    assert.is(await world.settle(client.write(stripe, 1, 100 + stripe)), 4096);
  }
  world.nodes[1].kill();
  const beganUs = world.world.time.nowUs;
  for (let stripe = 2; stripe < 6; stripe += 1) {
    assert.is(await world.settle(client.write(stripe, 1, 200 + stripe)), 4096);
  }
  assert.equal(client.states(), ['in-sync', 'offline']);
  assert.ok(world.world.time.nowUs - beganUs < 300_000, 'it is noticed at once');
  await world.nodes[1].start();
  await world.until(() => client.states()[1] === 'in-sync');
  for (let round = 0; round < 4; round += 1) {
    for (let stripe = 0; stripe < 6; stripe += 1) {
      assert.is(await world.settle(client.read(stripe, 1)), (stripe < 2 ? 100 : 200) + stripe);
    }
  }
  await world.settle(client.node.close());
});

check('what the manager decides by itself is taken over by the holder, whose requests go on', async () => {
  const world = await ClusterWorld.begin(5);
  const client = await attached(world);
  let going = true;
  const writer = (async () => {
    for (let value = 0; going; value += 1) assert.is(await client.write(value % 8, 1, value), 4096);
  })();
  await world.pause(100_000);
  const sizeBytes = client.engine.sizeBytes * 2;
  await world.settle(world.calls.grow('v', sizeBytes));
  await world.until(() => client.engine.sizeBytes === sizeBytes);
  await world.settle(world.calls.rename('v', 'w'));
  await world.until(() => client.node.volumes.named('w').length === 1);
  going = false;
  await world.settle(writer);
  assert.equal(
    client.node
      .engine('w')
      .status()
      .groups[0].map(({ state }) => state),
    ['in-sync', 'in-sync'],
  );
  await world.settle(client.node.close());
});

check('a volume that gets another name while it is given back is given back all the same', async () => {
  const world = await ClusterWorld.begin(61);
  const first = world.client();
  await world.settle(first.node.attachVolume('v'));
  assert.is(await world.settle(first.write(0, 1, 100)), 4096);
  const given = first.node.detachVolume('v');
  await world.settle(world.calls.rename('v', 'w'));
  assert.is(world.lease, 'exclusive');
  await world.settle(given);
  assert.is(world.lease, 'released');
  const second = world.client(1);
  await world.settle(second.node.attachVolume('w'));
  await world.settle(second.node.close());
  await world.settle(first.node.close());
});

check('a client that is told of another attach just when its own is in effect gives up', async () => {
  for (let turns = 0; turns < 8; turns += 1) {
    const world = await ClusterWorld.begin(70 + turns);
    const key = new SimKey(KEY_SEED, world.random());
    const first = world.client();
    const { authority } = (first.node as unknown as { managed: ManagedVolumes }).managed;
    let done = false;
    authority.onMap(async ({ id, generation }) => {
      if (done) return;
      done = true;
      const own = authority.mapOf(id, 0);
      const right = { holder: 'e'.repeat(32), generation: generation + 1, mapVersion: own.mapVersion + 1 };
      const other = authenticateMap({ ...own, ...right }, key);
      for (const { host } of world.nodes) for (const store of host.stores.values()) void store.bring(other);
      for (let turn = 0; turn < turns; turn += 1) await null;
      first.node.heard([other]);
    });
    let refused = '';
    void first.node.attachVolume('v').catch(({ code }) => {
      refused = code;
    });
    await world.pause(5_000_000);
    assert.match(refused, /UNAVAILABLE|IO/, `it waits for ever, told after ${turns} turns`);
    await world.settle(first.node.close());
  }
});

run();
