/** What a node decides when it finds the devices of a volume again after crashes. */

import * as assert from 'uvu/assert';
import { EIO } from '#strake/core/errno.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import type { SegmentStore } from '#strake/store/segment-store.js';
import { check, run } from '../support/check.js';
import { deviceIdOf, numberOf, SimNode, VOLUME_NAME } from '../support/sim-node.js';
import { diskOf, randomOf, SLOT } from '../support/sim-store.js';

/** Lets the next write of data to a disk fail. */
function failOnce({ node }: SimNode, disk: SimDisk): void {
  const [{ superblock }] = node.stores.values();
  const start = superblock.layout.dataOffset;
  disk.faults.add({ ops: ['write'], count: 1, start, action: { kind: 'error', errno: EIO } });
}

function storeOf({ node }: SimNode, deviceId: string): SegmentStore {
  const entry = node.stores.get(deviceId);
  assert.ok(entry);
  return entry.store;
}

async function mirror(count = 2) {
  const disks = Array.from({ length: count }, () => diskOf(16));
  const sim = new SimNode(1);
  for (const [number, disk] of disks.entries()) {
    await sim.format(disk, number);
    await sim.open(disk);
  }
  await sim.createMirror();
  return { disks, sim };
}

check('a copy that was away gets what the other was written before a crash, and no flush had covered', [], async () => {
  const made = await mirror();
  const { disks } = made;
  const [first, second] = disks;
  for (const stripe of [0, 1]) assert.is(await made.sim.write(stripe, 0, 1), 4096);
  await made.sim.settle(made.sim.node.close());

  const sim = new SimNode(3);
  for (const disk of disks) await sim.open(disk);
  await sim.assemble();
  failOnce(sim, second);
  assert.is(await sim.write(1, 0, 2), 4096);
  assert.equal(sim.states(), ['in-sync', 'offline']);
  assert.is(await sim.write(0, 5, 3), 4096);
  for (const disk of [first, second]) disk.kill(randomOf(1));

  const again = new SimNode(2);
  for (const disk of disks) await again.open(disk);
  await again.assemble();
  await again.jobsEnded();
  assert.equal(again.states(), ['in-sync', 'in-sync']);
  for (let turn = 0; turn < 4; turn += 1) assert.is(await again.read(0, 5), 3);
});

check('a map that a crash kept from the current copy does not keep the volume from starting', [], async () => {
  const { disks, sim } = await mirror(4);
  // Twice, so that the journal need not say any more that the block exists.
  for (let turn = 0; turn < 2; turn += 1) assert.is(await sim.write(0, 0, 1), 4096);
  const { groups } = sim.engine.record;
  const [current, out] = groups[0].map(({ deviceId }) => disks[numberOf(deviceId)]);
  failOnce(sim, out);
  const { layout } = [...sim.node.stores.values()][0].superblock;
  const end = layout.dataOffset;
  current.faults.add({ ops: ['write'], start: layout.journalOffset, end, action: { kind: 'stick' } });
  void sim.begin((token) => sim.engine.write(0, 4096, 0, 0, token));
  // The map that takes a copy out is on its way to the other, and no device has it.
  await sim.loop.run(() => sim.states().includes('offline'));
  for (const { deviceId } of groups[1]) assert.is(await sim.settle(storeOf(sim, deviceId).flushed()), 0);
  current.faults.clear();
  for (const disk of disks) disk.kill(randomOf(1));

  const again = new SimNode(2);
  for (const disk of disks) await again.open(disk);
  await again.assemble();
  await again.jobsEnded();
  assert.equal(again.states(), ['in-sync', 'in-sync']);
  assert.ok((await again.read(0, 0)) >= 0);
});

check('a volume that waited for a device starts with the map that this device brings', [], async () => {
  const { disks, sim } = await mirror();
  const [first, second] = disks;
  for (let turn = 0; turn < 2; turn += 1) assert.is(await sim.write(0, 0, 1), 4096);
  first.faults.add({ ops: ['write', 'sync'], action: { kind: 'error', errno: EIO } });
  assert.is(await sim.write(0, 0, 2), 4096);
  assert.is(await sim.flush(), 0);
  assert.equal(sim.states().toSorted(), ['in-sync', 'offline']);
  await sim.settle(sim.node.grow(VOLUME_NAME, 128 * SLOT));
  first.faults.clear();
  for (const disk of disks) disk.kill(randomOf(1));

  const again = new SimNode(2);
  await again.open(first);
  await again.assemble();
  assert.ok(again.node.volume(VOLUME_NAME).unproven);
  await again.settle(again.node.takeBack(await again.open(second)));
  assert.is(again.engine.sizeBytes, 128 * SLOT);
  await again.jobsEnded();
  for (let turn = 0; turn < 4; turn += 1) assert.is(await again.read(0, 0), 2);
});

check('an older image of a device is not believed, and brought up to date', [], async () => {
  const { disks, sim } = await mirror();
  const [first, second] = disks;
  for (const stripe of [0, 1]) assert.is(await sim.write(stripe, 0, 1), 4096);
  await sim.settle(sim.node.close());
  const older = second.clone();
  const later = new SimNode(2);
  for (const disk of disks) await later.open(disk);
  await later.assemble();
  assert.is(await later.write(0, 0, 2), 4096);
  // Of a segment that was given back nothing is left that would be newer than what the older image has.
  assert.is(await later.settle(later.begin((token) => later.engine.discardRange(SLOT, SLOT, 0, token))), 0);
  await later.settle(later.node.close());

  const again = new SimNode(3);
  for (const disk of [first, older]) await again.open(disk);
  await again.assemble();
  await again.jobsEnded();
  assert.equal(again.states(), ['in-sync', 'in-sync']);
  for (let turn = 0; turn < 4; turn += 1) {
    assert.is(await again.read(0, 0), 2);
    assert.is(await again.read(1, 0), 0);
  }
});

check('a volume that was deleted meanwhile is not brought back by a device that waited', [], async () => {
  const { disks, sim } = await mirror();
  const [first, second] = disks;
  await sim.settle(sim.node.close());
  const alone = new SimNode(2);
  await alone.open(second);
  await alone.assemble([deviceIdOf(0)]);
  await alone.settle(alone.node.delete(VOLUME_NAME));
  await alone.settle(alone.node.close());

  const again = new SimNode(3);
  await again.open(first);
  await again.assemble();
  assert.ok(again.node.volume(VOLUME_NAME).unproven);
  await again.settle(again.node.takeBack(await again.open(second)));
  assert.is(again.node.volumes.size, 0);
});

check('a device that was given up as lost does not win when it comes back', [], async () => {
  const { disks, sim } = await mirror();
  const [first, second] = disks;
  for (let turn = 0; turn < 2; turn += 1) assert.is(await sim.write(0, 0, 1), 4096);
  // It fails before anything gets there, so it does not even learn that it is taken out.
  const failed = second.clone();
  failed.kill(randomOf(1));
  second.vanished = true;
  assert.is(await sim.write(0, 0, 2), 4096);
  for (let size = 65; size < 75; size += 1) await sim.settle(sim.node.grow(VOLUME_NAME, size * SLOT));
  first.kill(randomOf(1));

  const alone = new SimNode(2);
  await alone.open(failed);
  await alone.assemble([deviceIdOf(0)]);
  assert.is(await alone.write(0, 0, 3), 4096);
  await alone.settle(alone.node.close());

  const again = new SimNode(3);
  for (const disk of [first, failed]) await again.open(disk);
  await again.assemble();
  await again.jobsEnded();
  for (let turn = 0; turn < 4; turn += 1) assert.is(await again.read(0, 0), 3);
});

check('a start that is cut off while its map is stored costs no copy its place', [], async () => {
  const { disks, sim } = await mirror();
  const [first, second] = disks;
  assert.is(await sim.write(0, 0, 1), 4096);
  await sim.settle(sim.node.close());

  const cut = new SimNode(2);
  for (const disk of disks) await cut.open(disk);
  second.faults.add({ ops: ['write', 'sync'], action: { kind: 'stick' } });
  const [{ store }] = cut.node.stores.values();
  const before = store.replicas[0]?.mapVersion ?? 0;
  cut.node.assemble(new Map()).catch(() => {});
  await cut.loop.run(() => (store.replicas[0]?.mapVersion ?? 0) > before);
  assert.is(await cut.settle(store.flushed()), 0);
  second.faults.clear();
  for (const disk of disks) disk.powerCut(randomOf(1));

  const again = new SimNode(3);
  for (const disk of [first, second]) await again.open(disk);
  const versions = [...again.node.stores.values()].map(({ store: { replicas } }) => replicas[0]?.mapVersion ?? 0);
  assert.is(versions[0], versions[1] + 1);
  await again.assemble();
  assert.equal(again.states(), ['in-sync', 'in-sync']);
  assert.equal(again.engine.status().jobs, []);
  assert.is(await again.read(0, 0), 1);
});

run();
