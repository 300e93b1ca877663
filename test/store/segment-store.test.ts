/** What a segment store does at its own bounds, when nothing fails. */

import * as assert from 'uvu/assert';
import { EIO } from '#strake/core/errno.js';
import { pageOffset } from '#strake/store/format/format.js';
import { Batch } from '#strake/store/format/journal-batch.js';
import { check, run } from '../support/check.js';
import { turn } from '../support/segment-world.js';
import { diskOf, randomOf, SimStore, SLOT_BLOCKS } from '../support/sim-store.js';

/** Entries of a full batch of the journal, and some more. */
const SLOTS = 200;

async function fill(store: SimStore, value: number): Promise<void> {
  for (let stripe = 0; stripe < SLOTS; stripe += 1) {
    if (!store.member.has(stripe)) assert.is(await store.settle(store.allocate(stripe)), 0);
    assert.is(await store.settle(store.write(stripe, 0, SLOT_BLOCKS, value)), SLOT_BLOCKS * 4096);
  }
}

async function expectAll(store: SimStore, value: number): Promise<void> {
  for (let stripe = 0; stripe < SLOTS; stripe += 1) {
    const values = await store.settle(store.read(stripe, stripe % SLOT_BLOCKS));
    assert.equal(values, new Array(8).fill(value), `segment ${stripe}`);
  }
}

check('entries of more than one batch are journaled while nothing else goes on', [], async () => {
  const disk = diskOf(SLOTS);
  let store = new SimStore(disk, 1);
  await store.format();
  await store.open();
  await fill(store, 1);
  assert.is(await store.settle(store.flush()), 0);
  await fill(store, 2);
  assert.is(await store.settle(store.flush()), 0);
  await fill(store, 3);
  await store.close();
  store = new SimStore(disk, 2);
  const recovery = await store.open();
  assert.is(recovery.crashed, false);
  assert.is(recovery.slotsInDoubt, 0);
  await expectAll(store, 3);
  await store.close();
});

check(
  'the last flush that was to be remembered is: after a power cut, over a checkpoint, and not one that was lost',
  [],
  async () => {
    const disk = diskOf(SLOTS);
    let store = new SimStore(disk, 1);
    await store.format();
    await store.open();
    const reopened = async (): Promise<unknown> => {
      disk.powerCut(randomOf(1));
      store = new SimStore(disk, 2);
      await store.open();
      return store.member.flushed;
    };
    store.member.mark(3, 7);
    assert.is(await store.settle(store.flush(true)), 0);
    store.member.mark(3, 8);
    assert.is(await store.settle(store.flush()), 0);
    assert.equal(await reopened(), { generation: 3, flushNumber: 7 });
    store.member.mark(4, 2 ** 40);
    assert.is(await store.settle(store.flush(true)), 0);
    await store.settle(store.opened.store.runCheckpoint('all'));
    assert.equal(await reopened(), { generation: 4, flushNumber: 2 ** 40 });
    // More than a batch of the journal: what the flush has to make durable comes first.
    await fill(store, 1);
    disk.faults.add({ ops: ['sync'], action: { kind: 'lie' } });
    store.member.mark(4, 2 ** 40 + 1);
    assert.is(await store.settle(store.flush(true)), 0);
    const lost = disk.crashImages({ limit: 30, random: randomOf(2) });
    for (const image of lost) {
      const other = new SimStore(image, 3);
      const opened = await other.open().catch(() => undefined);
      if (opened === undefined) continue;
      const { flushNumber } = other.member.flushed;
      assert.ok(flushNumber === 2 ** 40 || flushNumber === 2 ** 40 + 1);
      const segments = [...other.member.segments()].length;
      if (flushNumber > 2 ** 40) assert.is(segments, SLOTS, 'what the flush had to make durable stands before it');
      await other.close();
    }
  },
);

check('a flush that is to be remembered is, at whatever moment of a checkpoint it is asked for', [], async () => {
  for (let steps = 0; ; steps += 1) {
    const disk = diskOf(SLOTS);
    let store = new SimStore(disk, steps);
    await store.format();
    await store.open();
    for (let stripe = 0; stripe < 10; stripe += 1) {
      assert.is(await store.settle(store.allocate(stripe)), 0);
      await store.settle(store.write(stripe, 0, SLOT_BLOCKS, 1));
    }
    // The last one counts, even if it is lower: two histories of a volume may have met.
    store.member.mark(9, 9);
    await store.settle(store.flush(true));
    await store.settle(store.zero(3, 0, SLOT_BLOCKS, true, 9));
    store.member.mark(5, 2);
    const checkpoint = store.opened.store.runCheckpoint('half');
    let ended = false;
    void checkpoint.then(() => {
      ended = true;
    });
    for (let step = 0; step < steps && !ended; step += 1) {
      store.loop.step();
      await turn();
    }
    const late = ended;
    assert.is(await store.settle(store.flush(true)), 0);
    await store.settle(checkpoint);
    disk.powerCut(randomOf(steps));
    store = new SimStore(disk, 2);
    await store.open();
    assert.equal(store.member.flushed, { generation: 5, flushNumber: 2 }, `${steps} steps`);
    await store.close();
    if (late) return;
  }
});

check('a flush is remembered as itself, and not as one that is asked for while it waits for room', [], async () => {
  const store = new SimStore(diskOf(SLOTS), 1);
  await store.format();
  await store.open();
  await fill(store, 1);
  await store.settle(store.flush());
  await store.settle(store.opened.store.runCheckpoint('half'));
  await fill(store, 2);
  const { volumeTable } = store.opened.store;
  const seen: number[] = [];
  const { addFlushed } = Batch.prototype;
  Batch.prototype.addFlushed = function (page, mark) {
    const added = addFlushed.call(this, page, mark);
    if (added) seen.push(mark.flushNumber);
    return added;
  };
  try {
    store.member.mark(1, 7);
    const first = store.flush(true);
    store.member.mark(1, 8);
    const second = store.flush(true);
    await store.settle(Promise.all([first, second]));
  } finally {
    Batch.prototype.addFlushed = addFlushed;
  }
  assert.equal([seen, volumeTable.flushedMarks[0].flushNumber], [[7, 8], 8]);
  await store.close();
});

check('a flush ends when the journal fails while its mark waits for room', [], async () => {
  let waited = false;
  // Somewhere here the records of the flush fill a batch to its end.
  for (let records = 2680; records <= 2690; records += 1) {
    const disk = diskOf(SLOTS);
    const store = new SimStore(disk, 1);
    await store.format();
    await store.open();
    await fill(store, 1);
    await store.settle(store.flush());
    await store.settle(store.opened.store.runCheckpoint('half'));
    // Intents, so that none has to be written below.
    for (let stripe = 0; stripe < SLOTS; stripe += 1) await store.settle(store.write(stripe, 0, 1, 3));
    await store.settle(store.flush());
    for (let stripe = 0, left = records; left > 0; stripe += 1, left -= SLOT_BLOCKS) {
      await store.settle(store.write(stripe, 0, Math.min(left, SLOT_BLOCKS), 5));
    }
    disk.faults.add({ ops: ['write'], action: { kind: 'error', errno: EIO } });
    const { journal } = store.opened.store;
    void store.zero(SLOTS - 1, 3, 1, false, 99);
    // Until its batch is on the way, and the next one is filled.
    const { sequence } = journal.position;
    while (journal.position.sequence === sequence) {
      store.loop.step();
      await turn();
    }
    const flush = store.flush(true);
    waited = waited || journal.batch.sectorsLeft === 0;
    assert.is(await store.settle(flush), -EIO, `${records} records`);
  }
  assert.ok(waited);
});

check('a device that is closed while a checkpoint runs has them one after the other', [], async () => {
  const disk = diskOf(SLOTS);
  let store = new SimStore(disk, 3);
  await store.format();
  await store.open();
  await fill(store, 1);
  const first = store.opened.store.runCheckpoint('half');
  const second = store.opened.store.runCheckpoint('all');
  await store.settle(Promise.all([first, second]));
  await fill(store, 2);
  void store.opened.store.runCheckpoint('half');
  await store.close();
  store = new SimStore(disk, 4);
  assert.is((await store.open()).slotsInDoubt, 0);
  await expectAll(store, 2);
  await store.close();
});

check('a write to a block that is poison shows nothing of the slot before a flush has covered it', [], async () => {
  const disk = diskOf(1);
  let store = new SimStore(disk, 5);
  await store.format();
  await store.open();
  const { slots } = store.opened.store.superblock.layout;
  // All slots hold what later must not show.
  for (let stripe = 0; stripe < slots; stripe += 1) {
    assert.is(await store.settle(store.allocate(stripe)), 0);
    await store.settle(store.write(stripe, 0, SLOT_BLOCKS, 666));
    await store.settle(store.flush());
    await store.settle(store.member.release(stripe));
  }
  await store.settle(store.flush());
  assert.is(await store.settle(store.allocate(100)), 0);
  await store.settle(store.write(100, 0, 1, 7));
  const slot = store.opened.store.slots.find(0, 100);
  await store.close();
  const { layout } = store.opened.store.superblock;
  for (const place of [0, 1]) disk.flipBit(pageOffset(layout.blockTableOffset, slot, place) + 100, 1);
  store = new SimStore(disk, 6);
  await store.open();
  assert.is(await store.settle(store.read(100, 3)), -61);
  assert.is(await store.settle(store.write(100, 3, 1, 9)), 4096);
  let images = 0;
  for (const image of disk.crashImages({ limit: 60 })) {
    const after = new SimStore(image, 7);
    await after.open();
    const values = await after.settle(after.read(100, 3));
    assert.ok(
      values === -61 || (values as number[]).every((value) => value === 9),
      `${image.origin}: ${String(values)}`,
    );
    images += 1;
  }
  assert.ok(images > 10);
});

check('overwrites that are flushed one by one match their checksums after a power cut', [], async () => {
  for (let seed = 10; seed < 30; seed += 1) {
    const disk = diskOf(4);
    let store = new SimStore(disk, seed);
    await store.format();
    await store.open();
    assert.is(await store.settle(store.allocate(0)), 0);
    for (let value = 1; value <= 40; value += 1) {
      assert.is(await store.settle(store.write(0, value % 4, 1, value)), 4096);
      assert.is(await store.settle(store.flush()), 0);
    }
    disk.powerCut(randomOf(seed));
    store = new SimStore(disk, seed + 100);
    const recovery = await store.open();
    assert.equal([recovery.crashed, recovery.suspectBlocks, recovery.droppedBlocks], [true, 0, 0]);
    for (let block = 0; block < 4; block += 1) {
      assert.equal(await store.settle(store.read(0, block)), new Array(8).fill(block === 0 ? 40 : 36 + block));
    }
    await store.close();
  }
});

run();
