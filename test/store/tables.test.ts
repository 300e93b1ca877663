/** What a segment store does when its cache of block tables is too small. */

import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { diskOf, SimStore } from '../support/sim-store.js';

const SMALL = { activeSlots: 2, tablePages: 4 };

check('operations that wait for one table all get that table, however many others want its page', [], async () => {
  const disk = diskOf(16);
  let store = new SimStore(disk, 1);
  await store.format();
  await store.open();
  for (let stripe = 0; stripe < 12; stripe += 1) {
    assert.is(await store.settle(store.allocate(stripe)), 0);
    assert.is(await store.settle(store.write(stripe, 1, 1, 100 + stripe)), 4096);
  }
  await store.close();

  for (let seed = 2; seed < 12; seed += 1) {
    store = new SimStore(disk, seed, SMALL);
    await store.open();
    const reads: Promise<void>[] = [];
    for (let round = 0; round < 2; round += 1) {
      for (let stripe = 0; stripe < 12; stripe += 1) {
        // The first of each needs no device, and ends at once when the table is there.
        for (const block of [0, 1, 1]) {
          const expected = new Array(8).fill(block === 0 ? 0 : 100 + stripe);
          reads.push(store.read(stripe, block).then((found) => assert.equal(found, expected, `seed ${seed}`)));
        }
      }
      await store.settle(Promise.all(reads));
    }
    await store.close();
  }
});

check(
  'a read beside a first write returns zeroes or what is written, and nothing that lay in its memory',
  [],
  async () => {
    for (let seed = 1; seed <= 40; seed += 1) {
      const store = new SimStore(diskOf(16), seed);
      await store.format();
      await store.open();
      assert.is(await store.settle(store.allocate(0)), 0);
      for (const block of [0, 4]) assert.is(await store.settle(store.write(0, block, 2, 7)), 8192);
      const reading = store.readBytes(0, 1, 2);
      const [found] = await store.settle(Promise.all([reading, store.write(0, 2, 1, 9)]));
      if (typeof found === 'number') throw new Error(`seed ${seed}: ${found}`);
      const { 0: first, 1024: second } = new Uint32Array(found.buffer, found.byteOffset, found.length / 4);
      assert.is(first, 7);
      assert.ok([0, 9].includes(second), `seed ${seed}: ${second}`);
    }
  },
);

run();
