/** First writes whose records go to the journal beside their content: what a crash, or a content that fails, leaves of them. */

import * as assert from 'uvu/assert';
import { EIO } from '#strake/core/errno.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { check, repetitions, run } from '../support/check.js';
import { BLOCK, diskOf, randomOf, SimStore, SLOT_BLOCKS } from '../support/sim-store.js';

const FOREVER_US = 10_000_000;
const SLOW_US = 9_000;
/** What another segment had in the slot. */
const OLD = 77;

/** A store whose only slot was another segment's, which has filled it, and is the first's now. */
async function reused(seed: number): Promise<{ store: SimStore; disk: SimDisk }> {
  const disk = diskOf(1);
  const store = new SimStore(disk, seed);
  await store.format();
  await store.open();
  assert.is(await store.settle(store.allocate(5)), 0);
  assert.ok((await store.settle(store.write(5, 0, SLOT_BLOCKS, OLD))) > 0);
  assert.is(await store.settle(store.flush()), 0);
  assert.is(await store.settle(store.zero(5, 0, SLOT_BLOCKS, true, OLD + 1)), 0);
  assert.is(await store.settle(store.flush()), 0);
  assert.is(await store.settle(store.allocate(0)), 0);
  return { store, disk };
}

/** Whatever lies in slots, and the journal. */
function regionsOf({ opened }: SimStore): { data: [number, number]; journal: [number, number] } {
  const { layout } = opened.store.superblock;
  const journalEnd = layout.journalOffset + layout.journalPages * BLOCK;
  return { data: [layout.dataOffset, Number.POSITIVE_INFINITY], journal: [layout.journalOffset, journalEnd] };
}

/** Batches that say how far everything is durable, and are so themselves. */
async function note(store: SimStore): Promise<void> {
  for (let round = 0; round < 2; round += 1) {
    assert.is(await store.settle(store.flush()), 0);
    assert.is(await store.settle(store.opened.store.noted()), 0);
  }
  assert.is(await store.settle(store.flush()), 0);
}

/** Opens a store again after a crash. Returns the values of a block's sectors, and the blocks that were suspect. */
async function found(disk: SimDisk, seed: number, block: number): Promise<{ values: unknown; suspects: number[] }> {
  const again = new SimStore(disk, seed);
  await again.open(true);
  const values = await again.settle(again.read(0, block));
  const { suspects } = again;
  await again.close();
  return { values, suspects };
}

check('what a slot held before is never taken for a content that did not come', async () => {
  let dropped = 0;
  for (let seed = 1; seed <= repetitions(60, 12); seed += 1) {
    const { store, disk } = await reused(seed);
    const [start, end] = regionsOf(store).data;
    disk.faults.add({ ops: ['write'], start, end, action: { kind: 'slow', byUs: FOREVER_US } });
    void store.write(0, 0, 1, 8);
    await note(store);
    disk.powerCut(randomOf(seed));
    disk.faults.clear();
    const { values, suspects } = await found(disk, seed + 1000, 0);
    const { length } = [0, 8].filter((value) => (values as number[]).every((one) => one === value));
    assert.ok(length > 0, `seed ${seed}: the block holds ${values}`);
    assert.equal(suspects, []);
    if ((values as number[])[0] === 0) dropped += 1;
  }
  assert.ok(dropped > 0, 'the power was never cut before the content had come');
});

check('a first write whose content fails leaves the block as it was, whatever later batches say', async () => {
  for (const zeroed of [false, true]) {
    const { store, disk } = await reused(1);
    const [start, end] = regionsOf(store).data;
    if (zeroed) assert.is(await store.settle(store.zero(0, 0, 2, false, OLD + 1)), 0);
    disk.faults.add({ ops: ['write'], start, end, count: 1, action: { kind: 'error', errno: EIO } });
    assert.is(await store.settle(store.write(0, 0, 2, OLD + 2)), -EIO);
    await note(store);
    disk.powerCut(randomOf(1));
    disk.faults.clear();
    const { values, suspects } = await found(disk, 2, 0);
    assert.equal([new Set(values as number[]), suspects], [new Set([0]), []]);
  }
});

check('content and record are on their way at the same time', async () => {
  const { store, disk } = await reused(1);
  const { data, journal } = regionsOf(store);
  for (const [start, end] of [data, journal]) {
    disk.faults.add({ ops: ['write'], start, end, action: { kind: 'slow', byUs: SLOW_US } });
  }
  const before = store.loop.nowMs();
  assert.is(await store.settle(store.write(0, 0, 3, 8)), 3 * BLOCK);
  const tookUs = (store.loop.nowMs() - before) * 1000;
  assert.ok(tookUs >= SLOW_US && tookUs < 2 * SLOW_US, `${tookUs} µs`);
  disk.kill(randomOf(1));
  disk.faults.clear();
  assert.equal((await found(disk, 2, 2)).values, Array(8).fill(8));
});

check('a block that is written again waits until a batch calls its first write durable', async () => {
  const { store, disk } = await reused(1);
  const [start, end] = regionsOf(store).data;
  assert.ok((await store.settle(store.write(0, 0, 1, 8))) > 0);
  // A first write that is older than the next batches keeps them from being called so.
  disk.faults.add({ ops: ['write'], start, end, count: 1, action: { kind: 'slow', byUs: SLOW_US } });
  const slow = store.write(0, 1, 1, 10);
  assert.ok((await store.settle(store.write(0, 0, 1, 12))) > 0);
  assert.ok((await store.settle(slow)) > 0);
  await note(store);
  disk.powerCut(randomOf(1));
  const { values, suspects } = await found(disk, 2, 0);
  assert.equal([values, suspects], [Array(8).fill(12), []]);
});

run();
