/** What a segment store does at its own bounds, when nothing fails. */

import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { diskOf, SimStore, SLOT_BLOCKS } from '../support/sim-store.js';

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

run();
