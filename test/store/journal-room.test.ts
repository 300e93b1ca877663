/**
 * The journal never runs full: a batch that were written over what the root still needs would cost the whole device, so
 * whatever is admitted has its room, however far apart its steps end.
 */

import * as assert from 'uvu/assert';
import type { SlotIndex } from '#strake/core/ids.js';
import { REQUEST_FUA } from '#strake/ports/segment-request.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { SimRandom } from '#strake/sim/world/random.js';
import type { Layout } from '#strake/store/format/format.js';
import { check, run } from '../support/check.js';
import { diskOf, replicaMap, SimStore, VOLUME_ID } from '../support/sim-store.js';

/** Writes at the same time, at most as many as a `SimStore` has payloads for. */
const WRITES = 32;

/** Each next operation on a range takes longer by `gapUs`, so that nothing shares a batch. */
function spread(disk: SimDisk, op: 'read' | 'write', start: number, end: number, gapUs: number, count: number): void {
  for (let number = 1; number <= count; number += 1) {
    disk.faults.add({ ops: [op], start, end, count: 1, action: { kind: 'slow', byUs: number * gapUs } });
  }
}

interface Burst {
  readonly slots: number;
  readonly gapUs: number;
  readonly flags: number;
  /** Free pages of the journal at its beginning. */
  readonly free: number;
}

/** A store whose tables are on the disk only, and whose slots are all clean. */
async function coldStore(disk: SimDisk, segments: number): Promise<SimStore> {
  const first = new SimStore(disk, 1);
  await first.format();
  await first.open();
  for (let stripe = 0; stripe < segments; stripe += 1) {
    assert.is(await first.settle(first.allocate(stripe)), 0);
    assert.is(await first.settle(first.write(stripe, 0, 1, 2 * stripe + 1)), 4096);
  }
  await first.close();
  const store = new SimStore(disk, 2);
  await store.open(true);
  return store;
}

async function burst({ slots, gapUs, flags, free }: Burst): Promise<void> {
  const disk = diskOf(slots);
  const segments = 2 * WRITES;
  const store = await coldStore(disk, segments);
  const { journal, superblock } = store.opened.store;
  const { blockTableOffset, journalOffset, dataOffset, copyOffset }: Layout = superblock.layout;
  for (let stamp = 1; journal.freePages > free; stamp += 1) {
    assert.is(await store.settle(store.zero(segments - 1, 0, 1, false, stamp)), 0);
  }
  spread(disk, 'read', blockTableOffset, journalOffset, gapUs, WRITES);
  spread(disk, 'write', dataOffset, copyOffset, gapUs, WRITES);
  const writes = Array.from({ length: WRITES }, (_, stripe) => store.write(stripe, 1, 1, 2 * stripe + 1001, flags));
  for (const result of await store.settle(Promise.all(writes))) assert.is(result, 4096);
  store.opened.store.dispose();
  disk.kill(new SimRandom(slots + free));
  const next = new SimStore(disk, 3);
  await next.open(true);
  for (let stripe = 0; stripe < WRITES; stripe += 1) {
    assert.equal(await next.settle(next.read(stripe, 1)), new Array(8).fill(2 * stripe + 1001));
  }
}

for (const flags of [0, REQUEST_FUA]) {
  for (const gapUs of [100, 300, 1500]) {
    for (const free of [20, 40, 60]) {
      check(`writes that end ${gapUs} us apart leave the journal whole, from ${free} pages on, flags ${flags}`, () =>
        burst({ slots: 128, gapUs, flags, free }),
      );
    }
  }
}

check('a map is stored, and a flush is remembered, while more writes wait than the journal has room for', async () => {
  const disk = diskOf(128);
  const store = await coldStore(disk, 2 * WRITES);
  const { store: opened } = store.opened;
  let [writing, left] = [true, 20_000];
  const lane = async (stripe: number) => {
    for (let value = 1; writing && left > 0; value += 2) {
      left -= 1;
      assert.is(await store.write(stripe, value % 16, 1, value), 4096);
    }
  };
  const lanes = Array.from({ length: 2 * WRITES - 2 }, (_, stripe) => lane(stripe));
  assert.is(await store.settle(store.write(0, 0, 1, 1)), 4096);
  for (let version = 2; version < 12; version += 1) {
    assert.is(await store.settle(opened.putReplica(replicaMap(VOLUME_ID, { mapVersion: version }))), 0);
    assert.is(await store.settle(store.flush(true)), 0);
  }
  assert.ok(left > 0, 'they came only when nobody was writing any more');
  writing = false;
  await store.settle(Promise.all(lanes));
});

check('more maps than the journal has room for at once are stored, one checkpoint after the other', async () => {
  const disk = diskOf(128);
  const store = await coldStore(disk, 2);
  const { store: opened } = store.opened;
  const maps = Array.from({ length: 60 }, (_, at) => opened.putReplica(replicaMap(VOLUME_ID, { mapVersion: 2 + at })));
  const marked = Array.from({ length: 8 }, () => store.flush(true));
  const write = store.write(0, 1, 1, 7);
  for (const result of await store.settle(Promise.all(maps))) assert.is(result, 0);
  for (const result of await store.settle(Promise.all(marked))) assert.is(result, 0);
  assert.is(await store.settle(write), 4096);
  assert.ok(opened.counters.checkpoints < 10, `${opened.counters.checkpoints} checkpoints`);
});

check('a map is stored that finds the batch nearly full when a checkpoint has let others in before it', async () => {
  const disk = new SimDisk({ sizeBytes: 64 << 20 });
  const store = new SimStore(disk, 1);
  await store.format(1 << 20);
  await store.open();
  const { store: opened } = store.opened;
  for (let stripe = 0; stripe < 12; stripe += 1) assert.is(await store.settle(store.allocate(stripe)), 0);
  for (const segments of [8, 10, 12]) {
    const checkpoint = opened.runCheckpoint('half');
    const zeroes = Array.from({ length: segments }, (_, stripe) => store.zero(stripe, 0, 256, false, 1));
    const map = opened.putReplica(replicaMap(VOLUME_ID, { mapVersion: 1 + segments }));
    await store.settle(checkpoint);
    for (const result of await store.settle(Promise.all(zeroes))) assert.is(result, 0);
    assert.is(await store.settle(map), 0);
  }
});

check('slots whose doubt has ended are stamped by a checkpoint where the journal has no room for that', async () => {
  const disk = diskOf(128);
  const store = await coldStore(disk, 2 * WRITES);
  const { store: opened } = store.opened;
  // Two pages are left: one for the checkpoint's note, and none for stamps.
  while (opened.journal.freePages > -14) assert.is(await store.settle(opened.noted()), 0);
  const { checkpoints } = opened.counters;
  for (let slot = 0; slot < 2 * WRITES; slot += 1)
    opened.endDoubt(slot as SlotIndex, { generation: 9, flushNumber: 9 });
  await store.loop.run(() => opened.counters.checkpoints === checkpoints + 1);
  opened.dispose();
  disk.kill(new SimRandom(1));
  const next = new SimStore(disk, 3);
  await next.open(true);
  const { generations } = next.opened.store.slots;
  for (let slot = 0; slot < 2 * WRITES; slot += 1) assert.is(generations[slot], 9);
});

check('the last slot is given away although the batch that was to record it had no room', async () => {
  const disk = diskOf(4);
  const store = new SimStore(disk, 1);
  await store.format();
  await store.open();
  const { journal, slots } = store.opened.store;
  let stripe = 0;
  for (; slots.freeSlots > 1; stripe += 1) assert.is(await store.settle(store.allocate(stripe)), 0);
  // Marks that say what is known already fill what is left of the batch.
  const filling = store.opened.store.volumeTable.flushedMarks[0];
  while (journal.batch.addFlushed(0, filling));
  assert.is(await store.settle(store.allocate(stripe)), 0);
  assert.is(await store.settle(store.write(stripe, 0, 1, 5)), 4096);
  await store.close();
});

run();
