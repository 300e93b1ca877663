/** What becomes of operations that are on their way when the journal or a checkpoint fails. */

import * as assert from 'uvu/assert';
import { EIO } from '#strake/core/errno.js';
import { check, run } from '../support/check.js';
import { diskOf, replicaMap, SimStore, SLOT, SLOT_BLOCKS, VOLUME_ID } from '../support/sim-store.js';

/** As many as are admitted at a time: their records are more than a batch of the journal has room for. */
const WRITES = 230;
const SLOT_BYTES = 2 * SLOT;

check('everything that is on its way ends when the journal fails', [], async () => {
  for (let seed = 1; seed < 4; seed += 1) {
    const disk = diskOf(2200);
    const store = new SimStore(disk, seed);
    await store.format(SLOT_BYTES);
    await store.open();
    const { layout } = store.opened.store.superblock;
    for (let stripe = 0; stripe < WRITES; stripe += 1) assert.is(await store.settle(store.allocate(stripe)), 0);
    // The journal is empty again, and the slots may still be written to.
    await store.settle(store.opened.store.runCheckpoint('half'));
    const { journalOffset: start, dataOffset: end } = layout;
    disk.faults.add({ ops: ['write'], start, end, action: { kind: 'error', errno: EIO } });
    // Some come when the journal has failed already, and find the batch full that will never be written.
    disk.faults.add({ ops: ['write'], start: end, probability: 0.2, action: { kind: 'slow', byUs: 9000 } });
    const writes: Promise<number>[] = [];
    for (let stripe = 0; stripe < WRITES; stripe += 1) {
      writes.push(
        store.start((token) => store.member.write(stripe, 0, 2 * SLOT_BLOCKS, 0, -1, stripe, 1, stripe % 2, token)),
      );
    }
    for (const result of await store.settle(Promise.all(writes))) assert.ok(result < 0);
    store.opened.store.dispose();
    disk.attached = false;
  }
});

check('a map ends that waits for a checkpoint which fails', [], async () => {
  const store = new SimStore(diskOf(16), 1);
  await store.format();
  await store.open();
  const { store: opened } = store.opened;
  assert.is(await store.settle(store.allocate(0)), 0);
  while (opened.journal.freePages >= 8) assert.is(await store.settle(opened.noted()), 0);
  const { blockTableOffset: start, journalOffset: end } = opened.superblock.layout;
  store.device.disk.faults.add({ ops: ['write'], start, end, action: { kind: 'error', errno: EIO } });
  assert.is(await store.settle(opened.putReplica(replicaMap(VOLUME_ID, { mapVersion: 2 }))), -EIO);
});

check('a sync that fails once ends all modifications, and no later flush makes up for it', [], async () => {
  const store = new SimStore(diskOf(16), 1);
  await store.format();
  await store.open();
  assert.is(await store.settle(store.allocate(0)), 0);
  assert.ok((await store.settle(store.write(0, 0, 1, 1))) >= 0);
  // What the kernel could not write it may have thrown away: the next sync of the device would succeed.
  store.device.disk.faults.add({ ops: ['sync'], count: 1, action: { kind: 'error', errno: EIO } });
  assert.is(await store.settle(store.flush()), -EIO);
  assert.is(await store.settle(store.flush()), -EIO);
  assert.is(await store.settle(store.write(0, 0, 1, 2)), -EIO);
  assert.is(await store.settle(store.allocate(1)), -EIO);
});

check('whoever holds a member of a store that is given up is refused, before its end and after it', [], async () => {
  const store = new SimStore(diskOf(16), 1);
  await store.format();
  await store.open();
  assert.is(await store.settle(store.allocate(0)), 0);
  assert.ok((await store.settle(store.write(0, 0, 1, 1))) >= 0);
  const { store: opened } = store.opened;
  const before = store.readBytes(0, 0, 1);
  const quiet = opened.quiet();
  const during = store.readBytes(0, 0, 1);
  assert.ok((await store.settle(before)) instanceof Uint8Array, 'what was in flight is carried out');
  assert.is(await store.settle(during), -EIO);
  await store.settle(quiet);
  opened.dispose();
  assert.is(await store.settle(store.readBytes(0, 0, 1)), -EIO);
  assert.is(await store.settle(store.write(0, 0, 1, 2)), -EIO);
  assert.is(await store.settle(store.flush()), -EIO);
});

run();
