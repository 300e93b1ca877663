/** Slots that are freed and given away again, and what an interrupted checkpoint may leave of their tables. */

import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { diskOf, randomOf, SimStore } from '../support/sim-store.js';

check('a reused slot leaves the table of its old owner alone until a root no longer leads to it', [], async () => {
  const disk = diskOf(1);
  let store = new SimStore(disk, 1);
  await store.format();
  await store.open();
  assert.is(await store.settle(store.allocate(0)), 0);
  assert.is(await store.settle(store.write(0, 0, 1, 1)), 4096);
  // No other slot is free, so that this one is taken again.
  const { slots } = store.opened.store.slots;
  for (let stripe = 2; stripe <= slots; stripe += 1) assert.is(await store.settle(store.allocate(stripe)), 0);
  await store.close();

  store = new SimStore(disk, 2);
  await store.open();
  // The journal has a record of the old owner's, so recovery begins with its table.
  assert.is(await store.settle(store.write(0, 0, 1, 2)), 4096);
  assert.is(await store.settle(store.flush()), 0);
  assert.is(await store.settle(store.zero(0, 0, 16, true, 3)), 0);
  assert.is(await store.settle(store.flush()), 0);
  assert.is(await store.settle(store.allocate(1)), 0);
  assert.is(await store.settle(store.write(1, 0, 1, 4)), 4096);
  assert.is(await store.settle(store.flush()), 0);
  // A checkpoint is interrupted when it has written the tables.
  await store.settle(store.opened.checkpointer.writeTables());
  disk.kill(randomOf(1));

  store = new SimStore(disk, 3);
  await store.open();
  assert.equal(await store.settle(store.read(1, 0)), new Array(8).fill(4));
  assert.equal(await store.settle(store.read(0, 0)), new Array(8).fill(0));
  await store.close();
});

run();
