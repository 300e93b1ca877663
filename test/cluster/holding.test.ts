/** Members of an attached volume fail while there is no manager, or all of them at once: what waits, what fails, what goes on. */

import * as assert from 'uvu/assert';
import { PATCHES_MAX, VOLUME_PARTS_MAX } from '#strake/core/limits.js';
import { check, run } from '../support/check.js';
import { type ClusterClient, ClusterWorld } from '../support/cluster-world.js';
import { BLOCK, SLOT } from '../support/sim-store.js';

const EIO = -5;
const HOLD_MS = 4000;

/** A volume with two copies that a client has attached; its requests are held for so long. */
async function serving(
  seed: number,
  holdMs = HOLD_MS,
  slots = 32,
): Promise<{ world: ClusterWorld; client: ClusterClient }> {
  const world = await ClusterWorld.begin(seed, 2, 2, slots);
  await world.settle(world.calls.setTimes({ holdMs }));
  const client = world.client();
  await world.settle(client.node.attachVolume('v'));
  assert.is(await world.settle(client.write(0, 1, 100)), 4096);
  // The client has heard of the times.
  await world.pause(1_000_000);
  return { world, client };
}

/** Resolves to what a promise has come to, or to `waiting` if it has not. */
function stateOf<T>(promise: Promise<T>): { value: T | 'waiting' } {
  const state: { value: T | 'waiting' } = { value: 'waiting' };
  void promise.then((value) => (state.value = value));
  return state;
}

/** Lets the world go on until something is so; it is looked at ten times a second. */
async function ends(world: ClusterWorld, condition: () => Promise<boolean> | boolean): Promise<void> {
  for (let round = 0; round < 200; round += 1) {
    if (await world.settle(Promise.resolve(condition()))) return;
    await world.pause(100_000);
  }
  assert.unreachable('it does not come to that');
}

check(
  'eio-keeps-the-piece: a write that was held for too long fails, and lands on all copies all the same',
  async () => {
    const { world, client } = await serving(1);
    const [first, second] = world.nodes;
    world.managed = false;
    world.link(client.machine, second.machine, false);
    const state = stateOf(client.write(0, 1, 200));
    const behind = stateOf(client.read(0, 1, 1));
    await world.pause(1000 * (HOLD_MS - 1000));
    assert.is(state.value, 'waiting');
    await world.pause(6_000_000);
    assert.is(state.value, EIO);
    assert.is(behind.value, EIO, 'its blocks fail with it');
    assert.is(await world.settle(client.read(0, 1, 1)), EIO, 'and go on to');
    // It comes back in the same life: the piece lands, and its block answers again.
    world.link(client.machine, second.machine, true);
    await ends(world, async () => (await client.read(0, 1, 1)) === 200);
    assert.equal(client.states(), ['in-sync', 'in-sync']);
    world.managed = true;
    await world.pause(2_000_000);
    await world.settle(client.node.detachVolume('v'));
    // Each copy alone has it.
    for (const [dead, alive] of [
      [first, second],
      [second, first],
    ]) {
      dead.kill();
      await world.pause(3_000_000);
      const other = world.client(1);
      await world.settle(other.node.attachVolume('v', { takeOver: true }));
      assert.is(await world.settle(other.read(0, 1)), 200, alive.name);
      await dead.start();
      await world.until(() => other.states().every((one) => one === 'in-sync'));
      await world.settle(other.node.close());
      other.kill();
    }
  },
);

check('a write that waits for space on a member that is gone fails when it was held for too long', async () => {
  const { world, client } = await serving(7);
  world.managed = false;
  world.link(client.machine, world.nodes[1].machine, false);
  const first = stateOf(client.write(3, 0, 200));
  const behind = stateOf(client.read(3, 0, 1));
  await world.pause(1000 * (HOLD_MS - 1000));
  assert.is(first.value, 'waiting');
  await world.pause(3_000_000);
  assert.is(first.value, EIO);
  assert.is(behind.value, EIO);
  world.managed = true;
  await ends(world, () => client.states()[1] === 'offline');
  assert.is(await world.settle(client.read(3, 0, 1)), 0, 'it was sent to nobody');
  assert.is(await world.settle(client.write(3, 0, 300)), 4096);
  assert.is(await world.settle(client.read(3, 0, 1)), 300);
  await world.settle(client.node.close());
});

check('parts of blocks are written, or fail, however many are held', async () => {
  const { world, client } = await serving(8);
  for (let block = 0; block < 32; block += 1) {
    assert.is(await world.settle(client.write(0, block, 100 + block, block)), 4096);
  }
  world.managed = false;
  world.link(client.machine, world.nodes[1].machine, false);
  const held = Array.from({ length: 2 * PATCHES_MAX }, (_, block) =>
    stateOf(client.writeSector(0, block, 200 + block, block)),
  );
  await world.pause(1000 * (HOLD_MS + 3000));
  for (const { value } of held) assert.is(value, EIO);
  world.managed = true;
  await ends(world, () => client.states()[1] === 'offline');
  for (let block = 0; block < 32; block += 1) {
    // What was sent lands, and the rest was sent to nobody.
    const value = block < PATCHES_MAX ? 200 + block : 100 + block;
    await ends(world, async () => (await client.read(0, block)) === value);
    assert.is(await world.settle(client.writeSector(0, block, 300 + block, block)), 512);
    assert.is(await world.settle(client.read(0, block)), 300 + block);
  }
  await world.settle(client.node.close());
});

check('requests in many parts fail in their time, however many parts are held', async () => {
  const blocks = SLOT / BLOCK;
  const slots = VOLUME_PARTS_MAX / blocks + 4;
  const { world, client } = await serving(9, HOLD_MS, slots);
  for (let stripe = 0; stripe < slots; stripe += 1) {
    assert.is(await world.settle(client.write(stripe, 0, 100 + stripe)), 4096);
  }
  world.managed = false;
  world.link(client.machine, world.nodes[1].machine, false);
  const held = Array.from({ length: slots * blocks }, (_, at) =>
    stateOf(client.zero(Math.floor(at / blocks), at % blocks)),
  );
  await world.pause(1000 * (HOLD_MS + 3000));
  assert.is(held.filter(({ value }) => value === EIO).length, held.length);
  world.managed = true;
  await ends(world, () => client.states()[1] === 'offline');
  await ends(world, async () => (await client.read(0, 0)) === 0);
  assert.is(await world.settle(client.read(slots - 1, 0)), 100 + slots - 1, 'what waited was sent to nobody');
  assert.is(await world.settle(client.zero(slots - 1, 0)), 0);
  assert.is(await world.settle(client.read(slots - 1, 0)), 0);
  await world.settle(client.node.close());
});

check('a write that was given up reaches who has left meanwhile', async () => {
  const { world, client } = await serving(5);
  const [first, second] = world.nodes;
  assert.is(await world.settle(client.flush()), 0);
  world.managed = false;
  world.link(client.machine, second.machine, false);
  const written = stateOf(client.write(0, 1, 200));
  const flushed = stateOf(client.flush());
  await ends(world, () => written.value !== 'waiting' && flushed.value !== 'waiting');
  assert.equal([written.value, flushed.value], [EIO, EIO]);
  world.managed = true;
  await ends(world, () => client.states()[1] === 'offline');
  // The member that stays has it, and the next flush covers it.
  await ends(world, () => client.engine.status().counters.degradedWrites > 0);
  assert.is(await world.settle(client.flush()), 0);
  world.link(client.machine, second.machine, true);
  await ends(world, () => client.states()[1] === 'in-sync');
  await world.settle(client.node.detachVolume('v'));
  // What the other copy has is enough.
  first.kill();
  await world.pause(3_000_000);
  const other = world.client(1);
  await world.settle(other.node.attachVolume('v', { takeOver: true }));
  assert.is(await world.settle(other.read(0, 1)), 200);
  await world.settle(other.node.close());
});

check('copies that were all opened anew lose nothing that was flushed, and nothing that is under way', async () => {
  const { world, client } = await serving(6, 60_000);
  const { engine } = client;
  assert.is(await world.settle(client.flush()), 0);
  for (const node of world.nodes) node.kill();
  const written = client.write(0, 1, 200);
  await world.pause(500_000);
  const read = client.read(0, 1, 1);
  for (const node of world.nodes) await node.start();
  assert.is(await world.settle(written), 4096);
  assert.is(await world.settle(read), 200);
  assert.is(client.engine, engine);
  for (let round = 0; round < 2; round += 1) assert.is(await world.settle(client.flush()), 0);
  assert.is(await world.settle(client.read(0, 1)), 200);
  await world.settle(client.node.close());
});

check('a member that dies while there is no manager is done without when there is one', async () => {
  const { world, client } = await serving(2);
  world.managed = false;
  world.nodes[1].kill();
  const state = stateOf(client.write(0, 1, 200));
  await world.pause(2_000_000);
  assert.is(state.value, 'waiting');
  world.managed = true;
  await world.pause(1_000_000);
  assert.is(state.value, 4096);
  assert.equal(client.states(), ['in-sync', 'offline']);
  assert.is(await world.settle(client.read(0, 1, 1)), 200);
  await world.settle(client.node.close());
});

check('a client that loses all members for a while goes on where it was', async () => {
  const { world, client } = await serving(3, 60_000);
  const cut = (works: boolean) => {
    for (const { machine } of world.nodes) world.link(client.machine, machine, works);
    world.reachesManager(client.machine, works);
  };
  cut(false);
  const written = stateOf(client.write(0, 1, 200));
  const flushed = stateOf(client.flush());
  await world.pause(2_500_000);
  const read = stateOf(client.read(0, 3, 2));
  assert.is(written.value, 'waiting');
  cut(true);
  await ends(world, () => written.value !== 'waiting' && flushed.value !== 'waiting' && read.value !== 'waiting');
  assert.is(written.value, 4096);
  assert.is(flushed.value, 0);
  assert.is(read.value, 0);
  assert.is(await world.settle(client.read(0, 1, 1)), 200);
  await world.settle(client.node.close());
});

check(
  'copies that were all opened anew are attached anew, and the next flush says that something may be lost',
  async () => {
    const { world, client } = await serving(4);
    assert.is(await world.settle(client.flush()), 0);
    assert.is(await world.settle(client.write(0, 1, 200)), 4096);
    const { generation } = client.engine.record;
    for (const node of world.nodes) node.kill();
    await world.pause(500_000);
    for (const node of world.nodes) await node.start();
    await world.until(() => {
      const volume = [...client.node.volumes.values()][0];
      return volume?.engine?.serving === true && volume.engine.record.generation > generation;
    });
    assert.is(await world.settle(client.flush()), EIO);
    assert.is(await world.settle(client.flush()), 0);
    // The process has died, and the host has not.
    assert.is(await world.settle(client.read(0, 1)), 200);
    await world.until(() => client.states().every((state) => state === 'in-sync'));
    await world.settle(client.node.close());
  },
);

run();
