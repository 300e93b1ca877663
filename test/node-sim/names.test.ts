/** Volumes of one name, made where the other could not be seen, and names that change. */

import * as assert from 'uvu/assert';
import { EIO } from '#strake/core/errno.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { check, run } from '../support/check.js';
import { deviceIdOf, SimNode, VOLUME_NAME } from '../support/sim-node.js';
import { diskOf, randomOf, SLOT } from '../support/sim-store.js';

const [ONE, OTHER] = ['a'.repeat(32), 'b'.repeat(32)];

function single(id: string, name = VOLUME_NAME) {
  return { id, name, layout: 'single', copies: 1, createdMs: 1, sizeBytes: 8 * SLOT } as const;
}

let lives = 100;

/** A node that opens some disks. */
async function nodeOf(...disks: readonly SimDisk[]): Promise<SimNode> {
  lives += 1;
  const sim = new SimNode(lives);
  for (const disk of disks) await sim.open(disk);
  await sim.assemble();
  return sim;
}

/** What a call was refused with; empty if it was not. */
async function codeOf(sim: SimNode, call: Promise<unknown>): Promise<string> {
  return sim.settle(
    call.then(
      () => '',
      ({ code }) => code,
    ),
  );
}

const NAME_CONFLICT = 'ERR_STRAKE_NAME_CONFLICT';

/** Two disks, each with a volume of the same name that was made while the other disk was away. */
async function twins(): Promise<[SimDisk, SimDisk]> {
  const disks: [SimDisk, SimDisk] = [diskOf(16), diskOf(16)];
  for (const [number, disk] of disks.entries()) {
    const sim = new SimNode(1 + number);
    await sim.format(disk, number);
    await sim.open(disk);
    await sim.settle(sim.node.create(single([ONE, OTHER][number])));
    for (const stripe of [0, 1]) assert.is(await sim.write(stripe, 0, 1 + number), 4096);
    await sim.settle(sim.node.close());
  }
  return disks;
}

async function contentOf(sim: SimNode, volume: string): Promise<number> {
  sim.volume = volume;
  return sim.read(1, 0);
}

function conflicts(sim: SimNode): boolean[] {
  return sim.node.volumeReports().map(({ conflict }) => conflict);
}

for (const reversed of [false, true]) {
  const order = reversed ? 'the one way' : 'the other way round';
  check(`of two volumes of one name neither is served, with devices ${order}, until one is renamed`, [], async () => {
    const disks = await twins();
    const sim = await nodeOf(...(reversed ? disks.toReversed() : disks));
    assert.equal(conflicts(sim), [true, true]);
    for (const text of [VOLUME_NAME, ONE, OTHER]) {
      assert.is(await codeOf(sim, sim.node.started(text)), NAME_CONFLICT);
      assert.is(await codeOf(sim, sim.node.scrub(text, 0)), NAME_CONFLICT);
      assert.is(await codeOf(sim, sim.node.grow(text, 16 * SLOT)), NAME_CONFLICT);
      assert.is(await codeOf(sim, sim.node.startWithout(text, [])), NAME_CONFLICT);
    }
    for (const call of [sim.node.rename(VOLUME_NAME, 'w'), sim.node.delete(VOLUME_NAME)]) {
      assert.is(await codeOf(sim, call), NAME_CONFLICT);
    }
    assert.is(await codeOf(sim, sim.node.create(single('c'.repeat(32)))), 'ERR_STRAKE_EXISTS');
    const before = sim.resolved;
    await sim.settle(sim.node.rename(OTHER.slice(0, 8), 'w'));
    assert.is(sim.resolved, before + 1);
    const contents = async (node: SimNode) => [await contentOf(node, VOLUME_NAME), await contentOf(node, 'w')];
    assert.equal([...(await contents(sim)), ...conflicts(sim)], [1, 2, false, false]);
    await sim.settle(sim.node.close());
    const again = await nodeOf(...disks);
    assert.equal(await contents(again), [1, 2]);
    await again.settle(again.node.close());
  });
}

check('of two volumes of one name the other is served when one is deleted by its id', [], async () => {
  const disks = await twins();
  const sim = await nodeOf(...disks);
  await sim.settle(sim.node.delete(ONE));
  assert.equal([await contentOf(sim, VOLUME_NAME), sim.node.volumes.size], [2, 1]);
  await sim.settle(sim.node.close());
});

check('a volume that is served goes on when a device brings another one of its name', [], async () => {
  const [first, second] = await twins();
  const sim = await nodeOf(first);
  const { engine } = sim;
  await sim.settle(sim.node.takeBack(await sim.open(second)));
  assert.equal(conflicts(sim), [false, true]);
  assert.is(await sim.settle(sim.node.started(VOLUME_NAME)), engine);
  sim.volume = ONE;
  assert.equal([await sim.write(2, 0, 7), await sim.read(2, 0)], [4096, 7]);
  assert.is(await codeOf(sim, sim.node.delete(VOLUME_NAME)), NAME_CONFLICT);
  // Renaming the one that is served lets the other have the name.
  await sim.settle(sim.node.rename(ONE, 'w'));
  assert.equal([engine.record.name, await contentOf(sim, VOLUME_NAME), await contentOf(sim, 'w')], ['w', 2, 1]);
  await sim.settle(sim.node.close());
});

check('two volumes of one name that one device brings are both held back', [], async () => {
  const third = diskOf(16);
  const sim = new SimNode(50);
  await sim.format(third, 2);
  await sim.open(third);
  await sim.settle(sim.node.create(single(ONE)));
  await sim.settle(sim.node.create(single(OTHER, 'w')));
  const [entry] = sim.node.stores.values();
  const [stored] = entry.replicasOf(OTHER);
  assert.ok(stored);
  await sim.settle(entry.putReplica({ ...stored, volume: { ...stored.volume, name: VOLUME_NAME, headerVersion: 1 } }));
  third.kill(randomOf(1));
  const fourth = diskOf(16);
  const again = new SimNode(51);
  await again.format(fourth, 3);
  await again.open(fourth);
  await again.assemble();
  await again.settle(again.node.takeBack(await again.open(third)));
  assert.equal(conflicts(again), [true, true]);
  // When the device is let go of, nobody knows of them any more.
  await again.settle(again.node.forget(deviceIdOf(2)));
  assert.is(again.node.volumes.size, 0);
  await again.settle(again.node.close());
});

check('a conflict ends when the device that brought it is let go of', [], async () => {
  const [first, second] = await twins();
  const sim = await nodeOf(first, second);
  await sim.settle(sim.node.forget(deviceIdOf(0)));
  assert.equal([await contentOf(sim, VOLUME_NAME), sim.node.volumes.size], [2, 1]);
  await sim.settle(sim.node.close());
});

async function mirror() {
  const disks: [SimDisk, SimDisk] = [diskOf(64), diskOf(64)];
  const sim = new SimNode(1);
  for (const [number, disk] of disks.entries()) {
    await sim.format(disk, number);
    await sim.open(disk);
  }
  await sim.createMirror();
  for (const stripe of [0, 1]) assert.is(await sim.write(stripe, 0, 1), 4096);
  return { sim, disks };
}

check('devices that count as lost are named by the id of a volume, or by a name that one volume has', [], async () => {
  const { sim, disks } = await mirror();
  const { id } = sim.engine.record;
  await sim.settle(sim.node.close());
  for (const [at, text] of [id, id.slice(0, 8), VOLUME_NAME].entries()) {
    const alone = new SimNode(70 + at);
    await alone.open(disks[0].clone());
    await alone.settle(
      alone.node.assemble(
        new Map([
          ['none', ['x']],
          [text, [deviceIdOf(1)]],
        ]),
      ),
    );
    assert.equal(alone.states().toSorted(), ['in-sync', 'offline'], text);
    await alone.settle(alone.node.close());
  }
  const both = new SimNode(60);
  for (const disk of await twins()) await both.open(disk);
  await both.settle(
    both.node.assemble(
      new Map([
        [VOLUME_NAME, [deviceIdOf(3)]],
        [ONE, [deviceIdOf(3)]],
      ]),
    ),
  );
  assert.equal(conflicts(both), [true, true]);
  await both.settle(both.node.close());
});

check('names are checked, taken at once, and may be asked for twice', [], async () => {
  const { sim } = await mirror();
  const { node } = sim;
  for (const name of ['', '_v', '__proto__', 'a b', 'x'.repeat(256), 'F'.repeat(32)]) {
    assert.is(await codeOf(sim, node.rename(VOLUME_NAME, name)), 'ERR_STRAKE_INVALID_ARGUMENT', name);
    assert.is(await codeOf(sim, node.create(single(ONE, name))), 'ERR_STRAKE_INVALID_ARGUMENT', name);
  }
  const { id, versions } = sim.engine.record;
  await sim.settle(node.rename(VOLUME_NAME, VOLUME_NAME));
  assert.equal(sim.engine.record.versions, versions);
  assert.is(await codeOf(sim, node.rename('none', 'w')), 'ERR_STRAKE_NO_VOLUME');
  await sim.settle(node.create(single(OTHER, 'constructor')));
  assert.is(await codeOf(sim, node.rename(id, 'constructor')), 'ERR_STRAKE_EXISTS');
  const racing = [node.rename(id, 'w'), node.rename(OTHER, 'w'), node.create(single('c'.repeat(32), 'w'))];
  const codes = await Promise.all(racing.map((call) => codeOf(sim, call)));
  assert.equal(codes.toSorted(), ['', 'ERR_STRAKE_EXISTS', 'ERR_STRAKE_EXISTS']);
  assert.is(node.volumes.named('w').length, 1);
  await sim.settle(node.close());
});

check('a crash while a volume is renamed leaves the one name or the other, and all copies current', [], async () => {
  const seen = new Set<string>();
  for (let writes = 0; writes < 8; writes += 1) {
    for (const stuck of [0, 1]) {
      const { sim, disks } = await mirror();
      const ops = ['write', 'sync'] as const;
      // The one device takes a few more operations, the other as many as it likes.
      disks[stuck].faults.add({ ops: [...ops], skip: writes, action: { kind: 'stick' } });
      let renamed = false;
      const rename = sim.node.rename(VOLUME_NAME, 'w').then(
        () => {
          renamed = true;
        },
        () => {},
      );
      const other = [...sim.node.stores.values()][1 - stuck].store;
      await sim.loop.run(() => renamed || other.replicas.some((one) => one?.volume.name === 'w'));
      assert.is(await sim.settle(other.flushed()), 0);
      disks[stuck].faults.clear();
      for (const disk of disks) disk.kill(randomOf(1 + writes));
      void rename;
      const again = await nodeOf(...disks);
      const [{ name }] = again.node.volumes.values();
      seen.add(name);
      again.volume = again.node.volumes.size === 1 ? name : '';
      assert.equal(again.states(), ['in-sync', 'in-sync']);
      assert.is(await again.read(1, 0), 1);
      if (renamed) assert.is(name, 'w');
      await again.settle(again.node.close());
    }
  }
  assert.ok(seen.has('w'));
});

check('a device that was away while its volume was renamed does not bring the old name back', [], async () => {
  const { sim, disks } = await mirror();
  const [first, second] = disks;
  await sim.settle(sim.node.close());
  const alone = new SimNode(2);
  await alone.open(first);
  await alone.assemble([deviceIdOf(1)]);
  await alone.settle(alone.node.rename(VOLUME_NAME, 'w'));
  await alone.settle(alone.node.takeBack(await alone.open(second)));
  alone.volume = 'w';
  await alone.jobsEnded();
  assert.is(alone.node.volumes.size, 1);
  await alone.settle(alone.node.close());
  for (const seen of [disks, disks.toReversed()]) {
    const again = await nodeOf(...seen);
    assert.equal(
      [...again.node.volumes.values()].map(({ name }) => name),
      ['w'],
    );
    await again.settle(again.node.close());
  }
});

check('renaming an unproven volume makes no map newer than that of the device that is missing', [], async () => {
  for (const returns of ['at the next start', 'while the node runs']) {
    const { sim, disks } = await mirror();
    const [first, second] = disks;
    // The first misses a write that is acknowledged; only the second knows.
    first.faults.add({ ops: ['write', 'sync'], action: { kind: 'error', errno: EIO } });
    assert.is(await sim.write(1, 0, 2), 4096);
    assert.is(await sim.flush(), 0);
    first.faults.clear();
    for (const disk of disks) disk.kill(randomOf(1));
    let node = await nodeOf(first);
    assert.ok(node.node.volume(VOLUME_NAME).unproven);
    // As often as the second has changed its map, and more.
    for (const name of ['x', 'y', 'z', 'w'])
      await node.settle(node.node.rename(node.node.volumeReports()[0].stored.id, name));
    assert.is(await codeOf(node, node.node.started('w')), 'ERR_STRAKE_UNPROVEN');
    if (returns === 'at the next start') {
      await node.settle(node.node.close());
      node = await nodeOf(first, second);
    } else {
      await node.settle(node.node.takeBack(await node.open(second)));
    }
    node.volume = 'w';
    await node.jobsEnded();
    for (let turn = 0; turn < 4; turn += 1) assert.is(await node.read(1, 0), 2, returns);
    await node.settle(node.node.close());
    const last = await nodeOf(second, first);
    assert.equal(
      [...last.node.volumes.values()].map(({ name }) => name),
      ['w'],
    );
    await last.settle(last.node.close());
  }
});

check(
  'a volume that has failed can be renamed where a device takes the name, and not where none does',
  [],
  async () => {
    const { sim, disks } = await mirror();
    const { id } = sim.engine.record;
    await sim.settle(sim.node.close());
    const alone = await nodeOf(disks[0]);
    const { store } = [...alone.node.stores.values()][0];
    disks[0].faults.add({ ops: ['write', 'sync'], action: { kind: 'error', errno: EIO } });
    assert.is(await codeOf(alone, alone.node.rename(id, 'w')), 'ERR_STRAKE_UNAVAILABLE');
    assert.ok(store.failed);
    assert.is(alone.node.volume(id).name, VOLUME_NAME);
  },
);

check('renaming a volume that is not started leaves each device the map that it has', [], async () => {
  const disks = [diskOf(64), diskOf(64), diskOf(64)];
  const [first, second, third] = disks;
  const sim = new SimNode(1);
  for (const [number, disk] of disks.entries()) {
    await sim.format(disk, number);
    await sim.open(disk);
  }
  await sim.createMirror(3);
  // The second misses a write: its map is older than that of the others.
  second.faults.add({ ops: ['write', 'sync'], action: { kind: 'error', errno: EIO } });
  assert.is(await sim.write(1, 0, 2), 4096);
  assert.is(await sim.flush(), 0);
  second.faults.clear();
  for (const disk of disks) disk.kill(randomOf(1));
  const node = await nodeOf(first, second);
  const { id, unproven } = node.node.volume(VOLUME_NAME);
  assert.ok(unproven);
  const maps = () => [...node.node.stores.values()].flatMap((entry) => entry.replicasOf(id));
  const before = maps();
  assert.ok((before[0]?.mapVersion ?? 0) > (before[1]?.mapVersion ?? 0));
  await node.settle(node.node.rename(id, 'w'));
  assert.equal(
    maps(),
    before.map((map) => ({ ...map, volume: { ...map.volume, name: 'w', headerVersion: 1 } })),
  );
  await node.settle(node.node.takeBack(await node.open(third)));
  node.volume = 'w';
  await node.jobsEnded();
  assert.equal(node.states(), ['in-sync', 'in-sync', 'in-sync']);
  for (let turn = 0; turn < 6; turn += 1) assert.is(await node.read(1, 0), 2);
  await node.settle(node.node.close());
});

run();
