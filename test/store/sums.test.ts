/** Sums that come with a write, and leave with a read. */

import * as assert from 'uvu/assert';
import { EBADMSG } from '#strake/core/errno.js';
import { ZERO_BLOCK_CHECKSUM } from '#strake/layout/block-entry.js';
import {
  REQUEST_ENTRIES,
  REQUEST_NEWER,
  REQUEST_READ,
  REQUEST_WRITE,
  SegmentRequest,
} from '#strake/ports/segment-request.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { check, run } from '../support/check.js';
import { BLOCK, diskOf, randomOf, SimStore } from '../support/sim-store.js';

/** The sum of a block that `SimStore.submit` fills with a value. */
function sumOf(value: number): number {
  return crc32c(new Uint8Array(new Uint32Array(BLOCK / 4).fill(value).buffer));
}

function requestFor(kind: number, block: number, blocks: number, flags = 0, stamp = 0): SegmentRequest {
  const request = new SegmentRequest().begin(kind, 0, 0);
  Object.assign(request, { block, blocks, flags, stampLow: stamp, stampHigh: 256, generation: 1 });
  return request;
}

interface Given {
  readonly block: number;
  readonly stamp: number;
  readonly value: number;
  /** One for each block. */
  readonly sums: readonly number[];
  readonly flags?: number;
  readonly proven?: boolean;
}

function write(store: SimStore, { block, stamp, value, sums, flags = REQUEST_NEWER, proven = false }: Given) {
  const request = requestFor(REQUEST_WRITE, block, sums.length, flags, stamp);
  request.sums = Uint32Array.from(sums);
  request.proven = proven;
  return store.settle(store.submit(request, value));
}

async function opened(disk = diskOf(4)): Promise<SimStore> {
  const store = new SimStore(disk, 1);
  await store.format();
  await store.open();
  assert.is(await store.settle(store.allocate(0)), 0);
  return store;
}

async function valuesOf(store: SimStore, blocks: number): Promise<unknown[]> {
  const values: unknown[] = [];
  for (let block = 0; block < blocks; block += 1) {
    const sectors = await store.settle(store.read(0, block));
    values.push(typeof sectors === 'number' ? sectors : sectors[0]);
  }
  return values;
}

async function checksumsOf(store: SimStore, blocks: number): Promise<number[]> {
  const request = requestFor(REQUEST_ENTRIES, 0, blocks);
  request.entries = new Uint32Array(4 * blocks);
  assert.is(await store.settle(store.submit(request)), 0);
  return Array.from({ length: blocks }, (_, block) => (request.entries as Uint32Array)[4 * block]);
}

check('a write that has not the sums it is to have changes nothing, whatever it finds', async () => {
  const store = await opened();
  const [good, bad] = [sumOf(7), sumOf(7) ^ 1];
  // First writes, overwrites, and a write of which a block is left as it is because it is newer.
  assert.is(await write(store, { block: 0, stamp: 5, value: 7, sums: [good, bad] }), -EBADMSG);
  assert.equal(await valuesOf(store, 3), [0, 0, 0]);
  assert.is(await write(store, { block: 0, stamp: 5, value: 7, sums: [good, good] }), 2 * BLOCK);
  assert.is(await write(store, { block: 1, stamp: 9, value: 8, sums: [sumOf(8)] }), BLOCK);
  assert.is(await write(store, { block: 0, stamp: 6, value: 7, sums: [bad] }), -EBADMSG);
  assert.is(await write(store, { block: 0, stamp: 6, value: 6, sums: [sumOf(6), sumOf(6), sumOf(7)] }), -EBADMSG);
  assert.equal(await valuesOf(store, 3), [7, 8, 0]);
  assert.is(await write(store, { block: 0, stamp: 6, value: 6, sums: [sumOf(6), sumOf(6), sumOf(6)] }), 3 * BLOCK);
  assert.equal(await valuesOf(store, 3), [6, 8, 6]);
  assert.equal(await checksumsOf(store, 3), [sumOf(6), sumOf(8), sumOf(6)]);
  await store.close();
});

check('records that are sent along with their data have the sums of content that is written', async () => {
  const disk = diskOf(4);
  const store = await opened(disk);
  assert.is(await write(store, { block: 0, stamp: 5, value: 7, sums: [sumOf(7)] }), BLOCK);
  // Flushes that follow each write let the store send records early.
  for (let stamp = 10; stamp < 40; stamp += 2) {
    const right = { block: 0, stamp, value: stamp, sums: [sumOf(stamp)] };
    assert.is(await write(store, right), BLOCK);
    assert.is(await store.settle(store.flush()), 0);
    const wrong = { block: 0, stamp: stamp + 1, value: 1, sums: [sumOf(1) ^ 2] };
    assert.is(await write(store, wrong), -EBADMSG);
    assert.is(await store.settle(store.flush()), 0);
    assert.equal(await valuesOf(store, 1), [stamp]);
  }
  // Whatever the journal says of the block is what its device has.
  store.loop.kill();
  disk.kill(randomOf(1));
  const again = new SimStore(disk, 2);
  assert.ok((await again.open(true)).crashed);
  assert.equal(again.suspects, []);
  assert.equal(await valuesOf(again, 1), [38]);
  await again.close();
});

check('sums that are proven are taken for those of the content', async () => {
  const store = await opened();
  assert.is(await write(store, { block: 0, stamp: 5, value: 7, sums: [sumOf(7)], proven: true }), BLOCK);
  assert.equal(await valuesOf(store, 1), [7]);
  assert.equal(await checksumsOf(store, 1), [sumOf(7)]);
  // Nobody compares them: what is read has others then, and is an error.
  assert.is(await write(store, { block: 0, stamp: 6, value: 7, sums: [sumOf(8)], proven: true }), BLOCK);
  assert.equal(await valuesOf(store, 1), [-EBADMSG]);
  await store.close();
});

check('a read tells the sums of what it has read, and of what reads as zeroes', async () => {
  const store = await opened();
  assert.is(await write(store, { block: 1, stamp: 5, value: 7, sums: [sumOf(7)] }), BLOCK);
  assert.is(await write(store, { block: 3, stamp: 5, value: 9, sums: [sumOf(9)] }), BLOCK);
  const zero = ZERO_BLOCK_CHECKSUM;
  assert.is(sumOf(0), zero);
  for (const [block, expected] of [
    [0, [zero, sumOf(7), zero, sumOf(9), zero]],
    [5, [zero, zero]],
  ] as const) {
    const request = requestFor(REQUEST_READ, block, expected.length);
    request.sums = new Uint32Array(expected.length);
    assert.is(await store.settle(store.submit(request)), expected.length * BLOCK);
    assert.ok(request.summed);
    assert.equal([...request.sums], expected);
  }
  const unasked = requestFor(REQUEST_READ, 0, 2);
  assert.is(await store.settle(store.submit(unasked)), 2 * BLOCK);
  assert.not(unasked.summed);
  await store.close();
});

run();
