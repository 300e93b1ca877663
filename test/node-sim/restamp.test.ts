/** What was compared and copied once is recorded as equal: later starts look at nothing that is not in doubt. */

import * as assert from 'uvu/assert';
import { EIO } from '#strake/core/errno.js';
import type { NodeStore } from '#strake/node/node-store.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { check, run } from '../support/check.js';
import { deviceIdOf, SimNode } from '../support/sim-node.js';
import { diskOf, randomOf, SLOT } from '../support/sim-store.js';

const SLOTS = 16;
/** Segments of the volume that have content. */
const STRIPES = 6;

/** A mirror, whose segments were last modified at different points. */
async function mirror() {
  const disks = [diskOf(SLOTS), diskOf(SLOTS)];
  const sim = new SimNode(1);
  for (const [number, disk] of disks.entries()) {
    await sim.format(disk, number);
    await sim.open(disk);
  }
  await sim.createMirror();
  for (let stripe = 0; stripe < STRIPES; stripe += 1) {
    assert.is(await sim.write(stripe, stripe, 1 + stripe), 4096);
    assert.is(await sim.flush(), 0);
  }
  return { disks, sim };
}

/** A node that has opened these disks, and no volume yet. */
async function opened(seed: number, disks: readonly SimDisk[]): Promise<SimNode> {
  const sim = new SimNode(seed);
  for (const disk of disks) await sim.open(disk);
  return sim;
}

/** A node on these disks that serves, and has brought everything up to date. */
async function serving(seed: number, disks: readonly SimDisk[]): Promise<SimNode> {
  const sim = await opened(seed, disks);
  await sim.assemble();
  await sim.jobsEnded();
  assert.equal(sim.states(), ['in-sync', 'in-sync']);
  return sim;
}

/** How often the disks are read while the volume starts on devices that are open. */
async function readsOfStart(seed: number, disks: readonly SimDisk[]): Promise<number> {
  const sim = await opened(seed, disks);
  for (const disk of disks) disk.faults.add({ ops: ['read'], action: { kind: 'slow', byUs: 1 } });
  const before = disks.reduce((sum, { faults }) => sum + faults.acted, 0);
  await sim.assemble();
  await sim.jobsEnded();
  const reads = disks.reduce((sum, { faults }) => sum + faults.acted, 0) - before;
  for (const disk of disks) disk.faults.clear();
  assert.equal(sim.states(), ['in-sync', 'in-sync']);
  await sim.settle(sim.node.close());
  return reads;
}

/** The point at which each segment was last modified on a device, by segment. */
function stampsOf({ store }: NodeStore): Map<number, string> {
  const { slots } = store;
  const stamps = new Map<number, string>();
  for (let slot = 0; slot < slots.slots; slot += 1) {
    if (slots.states[slot] === 0) continue;
    stamps.set(slots.stripes[slot], `${slots.generations[slot]}.${slots.flushNumbers[slot]}`);
  }
  return new Map([...stamps].sort(([one], [other]) => one - other));
}

/** Lets the next write of data to a disk fail, so that its copy leaves. */
function failOnce({ node }: SimNode, disk: SimDisk): void {
  const [{ superblock }] = node.stores.values();
  disk.faults.add({
    ops: ['write'],
    count: 1,
    start: superblock.layout.dataOffset,
    action: { kind: 'error', errno: EIO },
  });
}

check('F7 after a resync a start reads nothing', async () => {
  const { disks, sim } = await mirror();
  failOnce(sim, disks[1]);
  assert.is(await sim.write(0, 0, 10), 4096);
  for (const [stripe, value] of [
    [1, 11],
    [2, 12],
    [STRIPES, 13],
  ]) {
    assert.is(await sim.write(stripe, 0, value), 4096);
    assert.is(await sim.flush(), 0);
  }
  assert.equal(sim.states(), ['in-sync', 'offline']);
  await sim.settle(sim.node.close());

  const again = await serving(2, disks);
  // A segment that was copied is written to afterwards, on both sides.
  assert.is(await again.write(1, 3, 14), 4096);
  await again.settle(again.node.close());
  assert.is(await readsOfStart(3, disks), 0);
});

check('B7 after a rebuild a start reads nothing, and what was written meanwhile is on both', async () => {
  const { disks, sim } = await mirror();
  await sim.settle(sim.node.close());
  const [first] = disks;
  const alone = await opened(2, [first]);
  await alone.assemble([deviceIdOf(1)]);
  const fresh = diskOf(SLOTS);
  await alone.format(fresh, 2);
  await alone.settle(alone.node.replace(deviceIdOf(1), await alone.open(fresh)));
  for (let value = 20; value < 30; value += 1) {
    assert.is(await alone.write(value % STRIPES, 7, value), 4096);
    if (value % 3 === 0) assert.is(await alone.flush(), 0);
  }
  await alone.jobsEnded();
  assert.equal(alone.states(), ['in-sync', 'in-sync']);
  await alone.settle(alone.node.close());
  assert.is(await readsOfStart(3, [first, fresh]), 0);
  const last = await serving(4, [first, fresh]);
  for (let turn = 0; turn < 4; turn += 1) {
    for (let value = 24; value < 30; value += 1) assert.is(await last.read(value % STRIPES, 7), value);
  }
});

/** A mirror after a crash, of which one copy has segments in doubt, and the other has none. */
async function oneInDoubt(): Promise<SimDisk[]> {
  const { disks, sim } = await mirror();
  assert.is(await sim.write(2, 2, 30), 4096);
  const store = sim.node.stores.get(deviceIdOf(0))?.store;
  await sim.settle(store?.runCheckpoint('all') ?? Promise.reject(new Error('the device is not open')));
  for (const disk of disks) disk.kill(randomOf(1));
  return disks;
}

check('after a crash the copies are compared once', async () => {
  const disks = await oneInDoubt();
  assert.ok((await readsOfStart(2, disks)) > 0, 'what is in doubt is read');
  assert.is(await readsOfStart(3, disks), 0);
});

check('what is recorded as equal is durable with the next flush', async () => {
  const disks = await oneInDoubt();
  const sim = await serving(2, disks);
  const recorded = [...sim.node.stores.values()].map(stampsOf);
  assert.equal(recorded[0], recorded[1]);
  assert.is(await sim.flush(), 0);
  for (const disk of disks) disk.kill(randomOf(3));
  const { node } = await opened(3, disks);
  assert.equal([...node.stores.values()].map(stampsOf), recorded);
});

check('what a resync has recorded as equal is durable when the copy counts', async () => {
  const { disks, sim } = await mirror();
  failOnce(sim, disks[1]);
  for (const stripe of [0, 3]) assert.is(await sim.write(stripe, 0, 40), 4096);
  await sim.settle(sim.node.close());
  await serving(2, disks);
  for (const disk of disks) disk.kill(randomOf(3));

  const { node } = await opened(3, disks);
  const [one, other] = [...node.stores.values()].map(stampsOf);
  assert.equal(one, other);
  assert.is(one.size, STRIPES);
});

check('a resync that is stopped before a segment is equal leaves the segment to the next one', async () => {
  const [stripe, value] = [4, 50];
  const { disks, sim } = await mirror();
  const [first] = disks;
  await sim.settle(sim.node.close());

  // A write that nobody was told of is on one copy, durably; on the other not even the intent of it.
  const torn = await serving(2, disks);
  const [one, other] = [0, 1].map((number) => torn.node.stores.get(deviceIdOf(number)) as NodeStore);
  const { journalOffset, dataOffset } = one.superblock.layout;
  first.faults.add({ ops: ['write'], start: journalOffset, end: dataOffset, action: { kind: 'stick' } });
  const before = stampsOf(other).get(stripe);
  torn.loop.bytes.fill(value, torn.area(0), torn.area(0) + 4096);
  void torn.begin((token) => torn.engine.write(torn.area(0), 4096, stripe * SLOT + stripe * 4096, 0, token));
  await torn.loop.run(() => stampsOf(other).get(stripe) !== before);
  assert.is(await torn.settle(other.store.flushed()), 0);
  first.faults.clear();
  for (const disk of disks) disk.kill(randomOf(1));
  const alone = await opened(3, [first]);
  await alone.assemble([deviceIdOf(1)]);
  assert.equal(alone.states(), ['in-sync', 'offline']);
  await alone.settle(alone.node.close());

  // Closed while the content of the source is on its way: everything that is recorded now counts.
  const stopped = await opened(4, disks);
  const { slots } = (stopped.node.stores.get(deviceIdOf(0)) as NodeStore).store;
  const start = dataOffset + slots.stripes.indexOf(stripe) * SLOT;
  first.faults.add({ ops: ['read'], start, end: start + SLOT, action: { kind: 'slow', byUs: 1_000_000 } });
  const acted = first.faults.acted;
  await stopped.assemble();
  await stopped.loop.run(() => first.faults.acted > acted);
  await stopped.settle(stopped.node.close());
  first.faults.clear();
  const last = await serving(5, disks);
  for (let turn = 0; turn < 4; turn += 1) assert.is(await last.read(stripe, stripe), 1 + stripe);
});

run();
