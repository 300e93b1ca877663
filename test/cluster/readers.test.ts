/** Volumes of a cluster that clients only read, beside whoever writes them, through take-overs and changes of their members. */

import * as assert from 'uvu/assert';
import { EIO, EROFS } from '#strake/core/errno.js';
import { check, run } from '../support/check.js';
import { type ClusterClient, ClusterWorld } from '../support/cluster-world.js';

async function writer(world: ClusterWorld, number = 0, takeOver = false): Promise<ClusterClient> {
  const client = world.client(number);
  await world.settle(client.node.attachVolume('v', { takeOver }));
  return client;
}

async function reader(world: ClusterWorld, number: number): Promise<ClusterClient> {
  const client = world.client(number);
  await world.settle(client.node.attachVolume('v', { readOnly: true }));
  return client;
}

/** Why a volume cannot be read. */
async function refusal(world: ClusterWorld, client: ClusterClient): Promise<string> {
  let text = '';
  await world.settle(
    client.node.attachVolume('v', { readOnly: true }).then(
      () => {},
      ({ code, message }) => {
        text = `${code}: ${message}`;
      },
    ),
  );
  return text;
}

check('many clients read what one writes, as soon as it is acknowledged', async () => {
  const world = await ClusterWorld.begin(1);
  const first = await writer(world);
  const readers = [await reader(world, 1), await reader(world, 2)];
  for (let value = 1; value < 20; value += 1) {
    const stripe = value % 3;
    assert.is(await world.settle(first.write(stripe, 1, value)), 4096);
    for (const one of readers) {
      assert.is(await world.settle(one.read(stripe, 1)), value, 'what was acknowledged');
      assert.is(await world.settle(one.read(9, 1)), 0, 'what was never written');
    }
    if (value % 5 === 0) assert.is(await world.settle(first.flush()), 0);
  }
  const listed = async () => (await world.settle(world.calls.volumes()))[0];
  await world.pause(1_000_000);
  const { holder, readers: heard } = await listed();
  assert.is(holder, first.clientId);
  assert.equal(heard.map(({ clientId }) => clientId).sort(), readers.map(({ clientId }) => clientId).sort());
  for (const one of readers) await world.settle(one.node.close());
  await world.pause(5_000_000);
  assert.equal((await listed()).readers, []);
  await world.settle(first.node.close());
});

check('who only reads writes nothing', async () => {
  const world = await ClusterWorld.begin(2);
  const first = await writer(world);
  const one = await reader(world, 1);
  const { served } = one;
  assert.is(served.readOnly, true);
  const results: number[] = [];
  const token = one.process.register({ complete: (tag, result) => (results[tag] = result) });
  served.write(0, 4096, 0, 0, token);
  served.zero(0, 4096, 0, token + 1);
  served.discardRange(0, 4096, 0, token + 2);
  served.flush(token + 3);
  await world.until(() => results.length === 4);
  assert.equal(results, [-EROFS, -EROFS, -EROFS, 0]);
  await world.settle(one.node.close());
  await world.settle(first.node.close());
});

check('a volume that nobody has attached is read, and one that was given back', async () => {
  const world = await ClusterWorld.begin(3);
  const one = await reader(world, 1);
  assert.is(await world.settle(one.read(0, 1)), 0);
  const first = await writer(world);
  assert.is(await world.settle(first.write(0, 1, 7)), 4096);
  assert.is(await world.settle(one.read(0, 1)), 7);
  await world.settle(first.node.detachVolume('v'));
  const [{ lease }] = await world.settle(world.calls.volumes());
  assert.is(lease, 'released', 'a reader keeps nobody from giving it back');
  assert.is(await world.settle(one.read(0, 1)), 7);
  const other = await reader(world, 2);
  assert.is(await world.settle(other.read(0, 1)), 7);
  await world.settle(one.node.detachVolume('v'));
  await world.settle(one.node.close());
  await world.settle(other.node.close());
  await world.settle(first.node.close());
});

check('a reader goes on through a take-over, and when a member is taken out and comes back', async () => {
  const world = await ClusterWorld.begin(4, 3, 3);
  const first = await writer(world);
  const one = await reader(world, 2);
  const values = new Array<number>(4).fill(0);
  let at = first;
  let next = 1;
  const round = async () => {
    for (let stripe = 0; stripe < 4; stripe += 1) {
      next += 1;
      assert.is(await world.settle(at.write(stripe, 1, next)), 4096);
      values[stripe] = next;
      assert.is(await world.settle(one.read(stripe, 1)), next);
    }
  };
  await round();
  world.nodes[1].kill();
  await round();
  assert.is(at.states().filter((state) => state === 'in-sync').length, 2);
  first.kill();
  at = await writer(world, 1, true);
  for (let stripe = 0; stripe < 4; stripe += 1) assert.is(await world.settle(one.read(stripe, 1)), values[stripe]);
  await round();
  await world.nodes[1].start();
  await world.until(() => at.states().every((state) => state === 'in-sync'));
  for (let turn = 0; turn < 4; turn += 1) await round();
  assert.is(one.served.status().state, 'ok');
  await world.settle(one.node.close());
  await world.settle(at.node.close());
});

check(
  'what a dead writer has left on one member alone is told by nobody until another has attached the volume',
  async () => {
    const world = await ClusterWorld.begin(5);
    const first = await writer(world);
    const one = await reader(world, 2);
    assert.is(await world.settle(first.write(0, 1, 10)), 4096);
    assert.is(await world.settle(first.write(0, 2, 20)), 4096);
    world.link(first.machine, world.nodes[1].machine, false);
    void first.write(0, 1, 11, 1);
    await world.pause(50_000);
    first.kill();
    let found: number | undefined;
    void one.read(0, 1).then((value) => {
      found = value;
    });
    await world.pause(2_000_000);
    assert.is(found, undefined, 'it is held');
    assert.is(await world.settle(one.read(0, 2, 1)), 20, 'what all have is told');
    const second = await writer(world, 1, true);
    await world.until(() => found !== undefined);
    assert.is(found, await world.settle(second.read(0, 1)));
    await world.settle(one.node.close());
    await world.settle(second.node.close());
  },
);

check('copies that may lack what was acknowledged are not read, and that is said', async () => {
  const world = await ClusterWorld.begin(6);
  const first = await writer(world);
  assert.is(await world.settle(first.write(0, 1, 10)), 4096);
  assert.is(await world.settle(first.flush()), 0);
  assert.is(await world.settle(first.write(0, 1, 11)), 4096);
  first.kill();
  world.nodes[0].powerOff();
  await world.nodes[0].powerOn();
  const one = world.client(2);
  assert.match(
    await refusal(world, one),
    /UNAVAILABLE: volume v cannot be read: .*have not been made equal under generation 1/,
  );
  const second = await writer(world, 1, true);
  assert.is(await world.settle(second.read(0, 1)), 11);
  await world.settle(one.node.attachVolume('v', { readOnly: true }));
  for (let turn = 0; turn < 4; turn += 1) assert.is(await world.settle(one.read(0, 1)), 11);
  await world.settle(one.node.close());
  await world.settle(second.node.close());
});

check('a copy that is an earlier image of itself is not read, though the volume was given back', async () => {
  const world = await ClusterWorld.begin(10);
  const first = await writer(world);
  assert.is(await world.settle(first.write(0, 1, 10)), 4096);
  assert.is(await world.settle(first.flush()), 0);
  const [, node] = world.nodes;
  const older = node.disk.clone();
  assert.is(await world.settle(first.write(0, 1, 11)), 4096);
  await world.settle(first.node.detachVolume('v'));
  node.powerOff();
  node.machine.disks.delete(node.disk);
  node.machine.disks.add(older);
  node.disk = older;
  await node.powerOn();
  // It gets the map with which the volume was given back.
  await world.pause(3_000_000);
  const one = world.client(2);
  assert.match(await refusal(world, one), /UNAVAILABLE: volume v cannot be read: .*not been made equal/);
  const second = await writer(world, 1);
  await world.settle(one.node.attachVolume('v', { readOnly: true }));
  for (let turn = 0; turn < 4; turn += 1) assert.is(await world.settle(one.read(0, 1)), 11);
  await world.settle(one.node.close());
  await world.settle(second.node.close());
  await world.settle(first.node.close());
});

check('a reader neither keeps a volume from being attached, nor lets one be read that is attached here', async () => {
  const world = await ClusterWorld.begin(7);
  const one = await reader(world, 1);
  const first = await writer(world);
  assert.match(await refusal(world, first), /VOLUME_BUSY/);
  assert.match(await refusal(world, one), /VOLUME_BUSY/);
  await world.settle(one.node.close());
  await world.settle(first.node.close());
});

check('a read that cannot be answered fails when it has been held for too long', async () => {
  const world = await ClusterWorld.begin(8);
  await world.settle(world.calls.setTimes({ holdMs: 5_000 }));
  const first = await writer(world);
  const one = await reader(world, 1);
  assert.is(await world.settle(first.write(0, 1, 10)), 4096);
  for (const { machine } of world.nodes) world.link(one.machine, machine, false);
  await world.pause(3_000_000);
  assert.is(await world.settle(one.read(0, 1)), -EIO);
  for (const { machine } of world.nodes) world.link(one.machine, machine, true);
  assert.is(await world.settle(one.read(0, 1)), 10);
  await world.settle(one.node.close());
  await world.settle(first.node.close());
});

check('a read is held once, for whatever it waits', async () => {
  const world = await ClusterWorld.begin(9);
  await world.settle(world.calls.setTimes({ holdMs: 6_000 }));
  const first = await writer(world);
  const one = await reader(world, 2);
  assert.is(await world.settle(first.write(0, 1, 10)), 4096);
  // What a dead writer has left on one member alone is told by nobody.
  world.link(first.machine, world.nodes[1].machine, false);
  void first.write(0, 1, 11, 1);
  await world.pause(50_000);
  first.kill();
  for (const { machine } of world.nodes) world.link(one.machine, machine, false);
  await world.pause(3_000_000);
  let found: number | undefined;
  void one.read(0, 1).then((value) => {
    found = value;
  });
  // It waits for members first, and then for somebody who makes them equal.
  await world.pause(4_000_000);
  for (const { machine } of world.nodes) world.link(one.machine, machine, true);
  await world.pause(4_500_000);
  assert.is(found, -EIO);
  await world.settle(one.node.close());
});

run();
