/** Requests with conditions, block by block: what is newer, what is the same, and what copies bring. */

import * as assert from 'uvu/assert';
import { EBADMSG, EINVAL, EIO, ENODATA, ENOENT } from '#strake/core/errno.js';
import type { SlotIndex } from '#strake/core/ids.js';
import { BLOCK_POISON, BLOCK_VALID, BLOCK_ZERO } from '#strake/layout/block-entry.js';
import {
  REQUEST_ACCEPT,
  REQUEST_ALLOCATE,
  REQUEST_COPY,
  REQUEST_ENTRIES,
  REQUEST_FLAGS,
  REQUEST_FUA,
  REQUEST_KINDS,
  REQUEST_NEWER,
  REQUEST_POISON,
  REQUEST_READ,
  REQUEST_SAME,
  REQUEST_WRITE,
  REQUEST_ZERO,
  SegmentRequest,
} from '#strake/ports/segment-request.js';
import { check, run } from '../support/check.js';
import { diskOf, randomOf, replicaMap, SimStore, SLOT_BLOCKS } from '../support/sim-store.js';

/** A request for blocks of segment 0, with a stamp of generation 1. */
function requestFor(kind: number, block: number, blocks: number, flags = 0, stamp = 0): SegmentRequest {
  const request = new SegmentRequest().begin(kind, 0, 0);
  Object.assign(request, { block, blocks, flags, stampLow: stamp, stampHigh: 256, generation: 1 });
  return request;
}

function leftOf(request: SegmentRequest): number[] {
  return Array.from({ length: request.blocks }, (_, index) => index).filter((index) => request.left.has(index));
}

async function opened(seed = 1): Promise<SimStore> {
  const store = new SimStore(diskOf(4), seed);
  await store.format();
  await store.open();
  assert.is(await store.settle(store.allocate(0)), 0);
  return store;
}

async function modify(store: SimStore, request: SegmentRequest, value?: number): Promise<number[]> {
  const bytes = request.kind === REQUEST_WRITE ? request.blocks * 4096 : 0;
  assert.is(await store.settle(store.submit(request, value)), bytes);
  assert.is(request.left.count, leftOf(request).length);
  return leftOf(request);
}

async function valuesOf(store: SimStore, blocks: number): Promise<(number | undefined)[]> {
  const values: (number | undefined)[] = [];
  for (let block = 0; block < blocks; block += 1) {
    const sectors = await store.settle(store.read(0, block));
    values.push(typeof sectors === 'number' ? sectors : sectors[0]);
  }
  return values;
}

async function entriesOf(store: SimStore, block: number, blocks: number): Promise<Uint32Array> {
  const request = requestFor(REQUEST_ENTRIES, block, blocks);
  request.entries = new Uint32Array(4 * blocks);
  assert.is(await store.settle(store.submit(request)), 0);
  return request.entries;
}

check('a payload is in its place whatever comes of the write, as other members find it there', [], async () => {
  const store = await opened();
  const inPlace = ({ memory }: SegmentRequest) => store.loop.view.getUint32(memory, true);
  assert.equal(await modify(store, requestFor(REQUEST_WRITE, 1, 2, REQUEST_NEWER, 5), 50), []);
  const older = requestFor(REQUEST_WRITE, 1, 2, REQUEST_NEWER, 4);
  assert.equal(await modify(store, older, 40), [0, 1]);
  assert.is(inPlace(older), 40);
  await store.settle(store.opened.store.quiet());
  const late = requestFor(REQUEST_WRITE, 1, 2, REQUEST_NEWER, 6);
  assert.is(await store.settle(store.submit(late, 60)), -EIO);
  assert.is(inPlace(late), 60);
});

check('a write is applied to the blocks for which it is newer, and answered for the others', [], async () => {
  const store = await opened();
  const newer = REQUEST_NEWER;
  assert.equal(await modify(store, requestFor(REQUEST_WRITE, 1, 2, newer, 5), 50), []);
  assert.equal(await modify(store, requestFor(REQUEST_WRITE, 4, 1, newer, 9), 90), []);
  assert.equal(await modify(store, requestFor(REQUEST_WRITE, 0, 6, newer, 7), 70), [4]);
  assert.equal(await valuesOf(store, 7), [70, 70, 70, 70, 90, 70, 0]);
  // Sent again, it finds itself.
  assert.equal(await modify(store, requestFor(REQUEST_WRITE, 0, 6, newer | REQUEST_FUA, 7), 71), [0, 1, 2, 3, 4, 5]);
  assert.equal(await modify(store, requestFor(REQUEST_ZERO, 3, 3, newer, 8)), [1]);
  assert.equal(await valuesOf(store, 7), [70, 70, 70, 0, 90, 0, 0]);
  const entries = await entriesOf(store, 3, 2);
  assert.equal([entries[1], entries[2], entries[3]], [BLOCK_ZERO, 8, 256]);
  assert.equal([entries[5], entries[6], entries[7]], [BLOCK_VALID, 9, 256]);
  await store.close();
});

check('a late write is compared with what the write before it leaves, not with what that one found', [], async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const store = await opened(seed);
    const requests = [8, 5, 9, 9, 7].map((stamp) => requestFor(REQUEST_WRITE, 2, 3, REQUEST_NEWER, stamp));
    await store.settle(Promise.all(requests.map((request) => store.submit(request, request.stampLow * 10))));
    assert.equal(await valuesOf(store, 6), [0, 0, 90, 90, 90, 0], `seed ${seed}`);
    assert.equal(
      requests.map((request) => request.left.count),
      [0, 3, 0, 3, 3],
    );
    await store.close();
  }
});

check('what is sent again with FUA is durable when it is answered, though it was there', [], async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const disk = diskOf(4);
    const store = new SimStore(disk, seed);
    await store.format();
    await store.open();
    await store.settle(store.allocate(0));
    assert.equal(await modify(store, requestFor(REQUEST_WRITE, 0, 1, REQUEST_NEWER, 1), 10), []);
    await store.settle(store.flush());
    await store.settle(store.opened.store.runCheckpoint('half'));
    assert.equal(await modify(store, requestFor(REQUEST_WRITE, 0, 1, REQUEST_NEWER, 2), 20), []);
    assert.equal(await modify(store, requestFor(REQUEST_WRITE, 0, 1, REQUEST_NEWER | REQUEST_FUA, 2), 20), [0]);
    disk.powerCut(randomOf(seed));
    const after = new SimStore(disk, seed);
    await after.open();
    assert.equal(await valuesOf(after, 1), [20]);
    await after.close();
  }
});

check('after a crash, all writes sent again in any order come to the newest', [], async () => {
  let suspects = 0;
  for (let seed = 1; seed <= 40; seed += 1) {
    const random = randomOf(seed);
    const disk = diskOf(4);
    const store = new SimStore(disk, seed);
    await store.format();
    await store.open();
    await store.settle(store.allocate(0));
    const sent = Array.from({ length: 24 }, (_, index) => {
      const block = random.below(5);
      return requestFor(REQUEST_WRITE, block, 1 + random.below(3), REQUEST_NEWER, index + 1);
    });
    const newest = Array.from({ length: 8 }, (_, block) => {
      const last = sent.findLast((one) => one.block <= block && block < one.block + one.blocks);
      return last === undefined ? 0 : last.stampLow * 10;
    });
    for (let at = 0; at < sent.length; at += 4) {
      const some = sent.slice(at, at + 4);
      const writes = some.map((request) => store.submit(request, request.stampLow * 10));
      if (random.chance(0.3)) await store.settle(store.flush());
      await store.settle(Promise.all(writes));
    }
    disk.powerCut(random);
    const after = new SimStore(disk, seed + 100);
    const { suspectBlocks } = await after.open(true, false);
    suspects += suspectBlocks;
    while (sent.length > 0) {
      const [request] = sent.splice(random.below(sent.length), 1);
      request.left.clear();
      await after.settle(after.submit(request, request.stampLow * 10));
    }
    assert.equal(await valuesOf(after, 8), newest, `seed ${seed}`);
    await after.close();
  }
  assert.ok(suspects > 0);
});

check('a block is left unless its entry is the one that is expected', [], async () => {
  const store = await opened();
  await modify(store, requestFor(REQUEST_WRITE, 0, 4, 0, 5), 50);
  const expected = await entriesOf(store, 0, 4);
  await modify(store, requestFor(REQUEST_WRITE, 1, 1, 0, 6), 60);
  // The same content, at another time.
  await modify(store, requestFor(REQUEST_WRITE, 2, 1, 0, 7), 50);
  const request = requestFor(REQUEST_WRITE, 0, 4, REQUEST_SAME, 4);
  request.entries = expected;
  assert.equal(await modify(store, request, 40), [1, 2]);
  assert.equal(await valuesOf(store, 4), [40, 60, 50, 40]);
  const zero = requestFor(REQUEST_ZERO, 0, 4, REQUEST_SAME, 9);
  zero.entries = await entriesOf(store, 0, 4);
  zero.entries[8] ^= 1;
  assert.equal(await modify(store, zero), [2]);
  assert.equal(await valuesOf(store, 4), [0, 0, 50, 0]);
  await store.close();
});

check('a copy brings the stamps of its source, and replaces nothing that is newer', [], async () => {
  const store = await opened();
  await modify(store, requestFor(REQUEST_WRITE, 0, 1, 0, 8), 80);
  await modify(store, requestFor(REQUEST_WRITE, 1, 1, 0, 5), 55);
  const copy = requestFor(REQUEST_WRITE, 0, 3, REQUEST_COPY | REQUEST_NEWER);
  // What the source has: an older block, another one of the same stamp, and one that is not here.
  copy.entries = Uint32Array.of(1, BLOCK_VALID, 7, 256, 2, BLOCK_VALID, 5, 256, 3, BLOCK_VALID, 3, 256);
  assert.equal(await modify(store, copy, 77), [0]);
  assert.equal(await valuesOf(store, 4), [80, 77, 77, 0]);
  const entries = await entriesOf(store, 0, 3);
  assert.equal([entries[2], entries[6], entries[10]], [8, 5, 3]);
  const same = requestFor(REQUEST_WRITE, 2, 1, REQUEST_COPY | REQUEST_SAME);
  same.entries = Uint32Array.of(...entries.subarray(8, 12), 4, BLOCK_VALID, 2, 256);
  assert.equal(await modify(store, same, 22), []);
  assert.equal([await valuesOf(store, 3), (await entriesOf(store, 2, 1))[2]], [[80, 77, 22], 2]);
  await store.close();
});

check('a copy replaces what is newer if an earlier generation has left it', [], async () => {
  const store = await opened();
  const { store: segments } = store.opened;
  // Of the generation of the map, of the one before, and of one that is yet to come.
  const stamps = [2, 1, 3].map((generation) => generation << 8);
  for (const [block, stampHigh] of stamps.entries()) {
    await modify(store, Object.assign(requestFor(REQUEST_WRITE, block, 1, 0, 9), { stampHigh }), 90);
  }
  assert.ok((await store.settle(segments.putReplica({ ...replicaMap(), mapVersion: 2, generation: 2 }))) >= 0);
  const copied = (stamp: number, flags = REQUEST_COPY | REQUEST_NEWER) => {
    const copy = requestFor(REQUEST_WRITE, 0, 3, flags);
    copy.entries = new Uint32Array([0, 1, 2].flatMap((block) => [block, BLOCK_VALID, stamp, 1 << 8]));
    return copy;
  };
  assert.equal(await modify(store, copied(7), 70), [0, 2]);
  assert.equal(await valuesOf(store, 3), [90, 70, 90]);
  // A write that is sent again brings nothing from anybody else.
  const late = Object.assign(requestFor(REQUEST_WRITE, 0, 3, REQUEST_NEWER, 6), { stampHigh: 1 << 8 });
  assert.equal(await modify(store, late, 60), [0, 1, 2]);
  assert.equal(await valuesOf(store, 3), [90, 70, 90]);
  await store.close();
});

check('only what is as it was found, or older, becomes unreadable', [], async () => {
  const store = await opened();
  await modify(store, requestFor(REQUEST_WRITE, 0, 5, 0, 5), 50);
  const found = await entriesOf(store, 0, 4);
  await modify(store, requestFor(REQUEST_WRITE, 1, 1, 0, 6), 60);
  const lost = requestFor(REQUEST_POISON, 0, 3, REQUEST_SAME, 8);
  lost.entries = found;
  assert.equal(await modify(store, lost), [1]);
  assert.equal(await valuesOf(store, 5), [-ENODATA, 60, -ENODATA, 50, 50]);
  assert.equal(await modify(store, requestFor(REQUEST_POISON, 0, 4, REQUEST_NEWER, 6)), [0, 1, 2]);
  assert.equal(await valuesOf(store, 5), [-ENODATA, 60, -ENODATA, -ENODATA, 50]);
  // Whatever they hold: that is nothing that anybody may ask.
  assert.is(await store.settle(store.submit(requestFor(REQUEST_POISON, 4, 1, 0, 9))), -EINVAL);
  assert.equal(await valuesOf(store, 5), [-ENODATA, 60, -ENODATA, -ENODATA, 50]);
  await store.close();
});

check('an error names the blocks that cannot be read, and a range becomes unreadable at once', [], async () => {
  const store = await opened();
  await modify(store, requestFor(REQUEST_WRITE, 0, 8, 0, 1), 10);
  await modify(store, requestFor(REQUEST_POISON, 4, 2, REQUEST_NEWER, 2));
  const entries = await entriesOf(store, 4, 2);
  assert.equal([...entries], [0, BLOCK_POISON, 2, 256, 0, BLOCK_POISON, 2, 256]);
  const read = requestFor(REQUEST_READ, 2, 6);
  assert.is(await store.settle(store.submit(read)), -ENODATA);
  assert.equal(
    [2, 3].filter((index) => read.bad.has(index)),
    [2, 3],
  );
  assert.is(read.bad.count, 2);
  await modify(store, requestFor(REQUEST_WRITE, 4, 2, 0, 3), 30);
  const { store: segments } = store.opened;
  const { tables } = segments;
  const page = tables.find(0 as SlotIndex);
  for (const block of [1, 6]) tables.words[tables.wordOf(page, block)] ^= 1;
  const rotten = requestFor(REQUEST_READ, 0, 8);
  assert.is(await store.settle(store.submit(rotten)), -EBADMSG);
  assert.equal([rotten.bad.has(1), rotten.bad.has(6), rotten.bad.count], [true, true, 2]);
});

check('a late write finds its stamp for as long as the segment has its slot, and not a moment longer', [], async () => {
  const store = await opened();
  const late = () => requestFor(REQUEST_WRITE, 0, 1, REQUEST_NEWER, 5);
  assert.equal(await modify(store, late(), 50), []);
  assert.equal(await modify(store, requestFor(REQUEST_ZERO, 0, 1, REQUEST_NEWER, 9)), []);
  assert.equal(await modify(store, late(), 50), [0], 'the zero is newer');
  await store.settle(store.member.release(0));
  assert.is(await store.settle(store.submit(late(), 50)), -ENOENT);
  assert.equal(await valuesOf(store, 1), [0]);
  assert.is(await store.settle(store.allocate(0)), 0);
  // Nothing tells of the zero any more: whoever gives slots back sees to it that nothing is late (docs/architecture.md).
  assert.equal(await modify(store, late(), 50), []);
  assert.equal(await valuesOf(store, 1), [50]);
});

check('what is no request is refused', [], async () => {
  const store = await opened();
  const wrong: readonly Partial<SegmentRequest>[] = [
    { kind: REQUEST_KINDS + 1 },
    { kind: -1 },
    { kind: 0.5 },
    { flags: REQUEST_FLAGS + 1 + 128 },
    { flags: REQUEST_FUA },
    { block: -1 },
    { block: 0.5 },
    { blocks: 0 },
    { blocks: -1 },
    { blocks: SLOT_BLOCKS + 1 },
    { block: SLOT_BLOCKS },
    { block: 2 ** 32 },
    { chunk: -1 },
    // The first beyond the end of the volume.
    { chunk: (1 << 30) / (SLOT_BLOCKS * 4096) },
    { chunk: 2 ** 53 },
    { generation: Number.NaN },
    { flushNumber: -1 },
    { kind: REQUEST_ALLOCATE, flags: REQUEST_NEWER },
    { kind: REQUEST_ACCEPT, blocks: SLOT_BLOCKS + 1 },
    { kind: REQUEST_ENTRIES },
    { kind: REQUEST_ENTRIES, blocks: 2, entries: new Uint32Array(7) },
    { kind: REQUEST_WRITE, flags: REQUEST_SAME },
    { kind: REQUEST_WRITE, flags: REQUEST_SAME | REQUEST_COPY, entries: new Uint32Array(7) },
    { kind: REQUEST_ZERO, flags: REQUEST_COPY, entries: new Uint32Array(8) },
  ];
  for (const fields of wrong) {
    const request = Object.assign(requestFor(REQUEST_READ, 0, 1), fields);
    assert.is(await store.settle(store.submit(request)), -EINVAL, JSON.stringify(fields));
  }
  await store.close();
});

run();
