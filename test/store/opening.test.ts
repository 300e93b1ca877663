/** A store that cannot be opened waits for what it has begun to read before it gives its memory back. */

import * as assert from 'uvu/assert';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { openStore } from '#strake/store/opening/open-store.js';
import { check, run } from '../support/check.js';
import { BLOCK, diskOf, randomOf, SimStore } from '../support/sim-store.js';

const STRIPES = 4;

/** A disk after the death of its process, with slots in doubt. */
async function inDoubt(): Promise<SimDisk> {
  const disk = diskOf(16);
  const store = new SimStore(disk, 1);
  await store.format();
  await store.open();
  for (let stripe = 0; stripe < STRIPES; stripe += 1) {
    assert.is(await store.settle(store.allocate(stripe)), 0);
    assert.is(await store.settle(store.write(stripe, 0, 1, 100 + stripe)), BLOCK);
  }
  assert.is(await store.settle(store.flush()), 0);
  disk.kill(randomOf(1));
  return disk;
}

check('where a slot cannot be compared, the others are not being read any more when that is told', async () => {
  const disk = await inDoubt();
  for (let seed = 1; seed <= 10; seed += 1) {
    const store = new SimStore(disk.clone(), seed);
    const { device, ports } = store;
    // Only slots are read side by side: one is there, and cannot be looked at while another is on its way.
    const memory = Object.create(ports.memory, {
      bytes: {
        get: () => {
          if (device.inFlight > 0) throw new Error('a slot cannot be compared');
          return ports.memory.bytes;
        },
      },
    });
    const opening = openStore({ ...ports, memory }, { path: 'disk' }, store.hooks).then(
      () => null,
      (error: Error) => [error.message, device.inFlight],
    );
    assert.equal(await store.settle(opening), ['a slot cannot be compared', 0]);
  }
});

run();
