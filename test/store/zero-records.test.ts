/** Records of the journal that speak of zeroes: of ranges that become zero, and of first writes of blocks that were zero. */

import * as assert from 'uvu/assert';
import { BLOCK_POISON, BLOCK_VALID, BLOCK_ZERO } from '#strake/layout/block-entry.js';
import type { Batch } from '#strake/store/format/journal-batch.js';
import { RECORD_FLAG_FIRST, RECORD_FLAG_POISON, RECORD_FLAG_ZERO } from '#strake/store/format/journal-records.js';
import { check, run } from '../support/check.js';
import { diskOf, randomOf, SimStore, SLOT_BLOCKS } from '../support/sim-store.js';

/** Entries of segment 0, and what recovery dropped, after records that `add` has put into the journal. */
async function replayed(add: (batch: Batch) => void): Promise<{ entries: number[][]; dropped: number }> {
  const disk = diskOf(4);
  const store = new SimStore(disk, 1);
  await store.format();
  await store.open();
  await store.settle(store.allocate(0));
  add(store.opened.store.journal.batch);
  await store.settle(store.flush());
  disk.kill(randomOf(1));
  const after = new SimStore(disk, 2);
  const { droppedBlocks } = await after.open();
  const words = await after.settle(after.member.entries(0));
  const entries = Array.from({ length: SLOT_BLOCKS }, (_, block) => [...words.subarray(4 * block, 4 * block + 4)]);
  await after.close();
  return { entries, dropped: droppedBlocks };
}

const NEVER = [0, 0, 0, 0];

check('a range becomes zero with its stamp, and all of a slot by one record', [], async () => {
  const { entries } = await replayed((batch) => {
    batch.addZero(0, 0, 0, 5, 1);
    batch.addZero(0, 3, 2, 6, 1);
  });
  entries.forEach((entry, block) => {
    assert.equal(entry, [0, BLOCK_ZERO, block === 3 || block === 4 ? 6 : 5, 1], `block ${block}`);
  });
});

check('a first write whose content is not there leaves the block as it was before', [], async () => {
  const written = Uint32Array.of(0x1234, BLOCK_VALID, 9, 1);
  const poisoned = Uint32Array.of(0, BLOCK_POISON, 8, 1);
  const { entries, dropped } = await replayed((batch) => {
    batch.addZero(0, 2, 3, 7, 1);
    batch.addBlock(0, 6, poisoned, 0, 0);
    batch.addBlock(0, 1, written, 0, RECORD_FLAG_FIRST);
    batch.addBlock(0, 3, written, 0, RECORD_FLAG_FIRST | RECORD_FLAG_ZERO);
    batch.addBlock(0, 6, written, 0, RECORD_FLAG_FIRST | RECORD_FLAG_POISON);
  });
  assert.is(dropped, 3);
  assert.equal(entries[1], NEVER);
  for (const block of [2, 3, 4]) assert.equal(entries[block], [0, BLOCK_ZERO, 7, 1], `block ${block}`);
  assert.equal(entries[5], NEVER);
  assert.equal(entries[6], [0, BLOCK_POISON, 0, 0]);
});

check('a block that is zero again after its first write is zero with the last stamp', [], async () => {
  const { entries, dropped } = await replayed((batch) => {
    batch.addZero(0, 2, 1, 7, 1);
    batch.addBlock(0, 2, Uint32Array.of(0x1234, BLOCK_VALID, 9, 1), 0, RECORD_FLAG_FIRST | RECORD_FLAG_ZERO);
    batch.addZero(0, 2, 1, 10, 1);
  });
  assert.is(dropped, 0);
  assert.equal(entries[2], [0, BLOCK_ZERO, 10, 1]);
});

run();
