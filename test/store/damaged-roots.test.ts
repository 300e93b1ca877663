/** Roots and journals that are damaged between lives of a store: the newest root that can be read counts, and nothing comes back. */

import * as assert from 'uvu/assert';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { dumpDevice } from '#strake/store/checking/dump.js';
import { deviceBytesMin, PAGE_BYTES, ROOT_BYTES } from '#strake/store/format/format.js';
import { decodeRoot, encodeRoot } from '#strake/store/format/root.js';
import { BATCH_PAGES_MAX } from '#strake/store/limits.js';
import { check, run } from '../support/check.js';
import { newestRoot, openAndRead, putAll, readerOf } from '../support/damaged-store.js';
import { failure } from '../support/failure.js';
import { BLOCK, DEVICE_ID, diskOf, randomOf, SECTOR, SimStore, SLOT } from '../support/sim-store.js';

check('a first write that recovery has dropped does not come back with an older root', async () => {
  const disk = new SimDisk({ sizeBytes: deviceBytesMin(SLOT), discard: false });
  let store = new SimStore(disk, 1);
  await store.format();
  await store.open();
  // The only slot holds another segment's content first.
  await putAll(store, new Map(), 0, [
    [0, 111],
    [1, 112],
  ]);
  await store.settle(store.member.release(0));
  await store.settle(store.flush());
  await putAll(store, new Map(), 1, [[0, 222]]);
  // A power cut that leaves the record and not the content.
  let dropped: SimDisk | undefined;
  for (let seed = 1; dropped === undefined && seed < 500; seed += 1) {
    const cut = disk.sample(randomOf(seed));
    store = new SimStore(cut, seed);
    if ((await store.open()).droppedBlocks === 1) dropped = cut;
  }
  if (dropped === undefined) throw new Error('no power cut has dropped the block');
  assert.equal(await store.settle(store.read(1, 0)), new Array(8).fill(0));
  await putAll(store, new Map(), 1, [[1, 333]]);
  await store.settle(store.flush());
  dropped.kill(randomOf(1));
  const { roots } = (await dumpDevice(readerOf(dropped), { what: 'root' })) as unknown as {
    roots: { offset: number; sequence: number }[];
  };
  const [newest] = roots.toSorted((one, other) => other.sequence - one.sequence);
  dropped.flipBit(newest.offset + 100, 1);
  assert.is((await openAndRead(dropped, new Map())).refused, 'ERR_STRAKE_DAMAGED');
});

/** Formats a disk, and stores one block durably. */
async function putOne(store: SimStore): Promise<void> {
  await store.format();
  await store.open();
  assert.is(await store.settle(store.allocate(0)), 0);
  assert.is(await store.settle(store.write(0, 0, 1, 101)), BLOCK);
  assert.is(await store.settle(store.flush()), 0);
}

check('a flushed block that is being overwritten survives a crash and a flipped bit of the newest root', async () => {
  const disk = diskOf(16);
  const store = new SimStore(disk, 1);
  await putOne(store);
  const { layout } = store.opened.store.superblock;
  // The slot stays in use, so the next write of the block needs nothing of the journal.
  await store.settle(store.opened.store.runCheckpoint('half'));
  assert.is(await store.settle(store.write(0, 0, 1, 103)), BLOCK);
  disk.kill(randomOf(1));
  const at = newestRoot(disk, layout) + 200;
  disk.poke(
    at,
    disk.peek(at, 1).map((byte) => byte ^ 4),
  );
  const next = new SimStore(disk, 2);
  await next.open(true);
  assert.equal(await next.settle(next.read(0, 0)), new Array(BLOCK / SECTOR).fill(103));
});

check('a root from which the next batch might reach into the data is refused', async () => {
  const disk = diskOf(16);
  const store = new SimStore(disk, 1);
  await putOne(store);
  const { layout } = store.opened.store.superblock;
  await store.close();
  for (const left of [BATCH_PAGES_MAX, BATCH_PAGES_MAX - 1, 1, 0]) {
    const image = disk.clone();
    for (const at of [layout.rootOffset, layout.rootOffset + ROOT_BYTES]) {
      const root = decodeRoot(image.peek(at, ROOT_BYTES), DEVICE_ID, layout, crc32c);
      const bytes = new Uint8Array(ROOT_BYTES);
      encodeRoot({ ...root, journalPage: layout.journalPages - left }, DEVICE_ID, bytes, crc32c);
      image.poke(at, bytes);
    }
    const next = new SimStore(image, 2);
    if (left < BATCH_PAGES_MAX) {
      const { message } = await failure('DAMAGED', next.open(true));
      assert.match(message, 'beyond the journal');
      continue;
    }
    await next.open(true);
    // A batch of any size fits there: the data behind the journal stays what it was.
    assert.is(await next.settle(next.write(0, 1, 1, 102)), BLOCK);
    assert.is(await next.settle(next.flush()), 0);
    assert.equal(await next.settle(next.read(0, 0)), new Array(BLOCK / SECTOR).fill(101));
  }
});

check('a sector that cannot be read costs nothing where a copy exists, or where it is not needed', async () => {
  for (const how of ['closed', 'killed'] as const) {
    const disk = diskOf(16);
    const store = new SimStore(disk, 1);
    await putOne(store);
    const { layout } = store.opened.store.superblock;
    if (how === 'closed') await store.close();
    else store.opened.store.dispose();
    if (how === 'killed') disk.kill(randomOf(1));
    const newest = newestRoot(disk, layout);
    const older = layout.rootOffset + ROOT_BYTES - (newest - layout.rootOffset);
    // The last page of the journal has never been written to.
    const unneeded = layout.journalOffset + (layout.journalPages - 1) * PAGE_BYTES;
    for (const at of [0, layout.copyOffset, older, newest, unneeded]) {
      const image = disk.clone();
      image.faults.add({ ops: ['read'], start: at, end: at + SECTOR, action: { kind: 'error', errno: 5 } });
      const next = new SimStore(image, 2);
      await next.open(true);
      assert.equal(await next.settle(next.read(0, 0)), new Array(BLOCK / SECTOR).fill(101), `${how}, ${at}`);
      await next.close();
    }
  }
});

check('damage where the journal is not needed does not cost the device when the journal has come there', async () => {
  const disk = diskOf(16);
  const store = new SimStore(disk, 1);
  await putOne(store);
  const { layout } = store.opened.store.superblock;
  await store.close();
  const ahead = 12;
  for (let page = ahead; page < layout.journalPages; page += ahead) {
    disk.flipBit(layout.journalOffset + page * PAGE_BYTES + 70, 3);
  }
  const next = new SimStore(disk, 2);
  await next.open(true);
  const problems = next.opened.recovery.problems.map(({ kind }) => kind);
  assert.equal(problems, ['journal-stray']);
  // Each flush is a page or more, so the journal ends before each of the pages once.
  for (let turn = 1; turn <= 2 * ahead; turn += 1) {
    assert.is(await next.settle(next.write(0, 1, 1, turn)), BLOCK);
    assert.is(await next.settle(next.flush()), 0);
    const image = disk.clone();
    image.kill(randomOf(turn));
    const again = new SimStore(image, 3);
    await again.open(true);
    assert.equal(await again.settle(again.read(0, 1)), new Array(BLOCK / SECTOR).fill(turn), `after flush ${turn}`);
  }
});

/** A device that was closed in order twice; its block was zeroed in between, which the older root does not know. */
async function closedTwice() {
  const disk = diskOf(16);
  const store = new SimStore(disk, 1);
  await putOne(store);
  await store.close();
  const next = new SimStore(disk, 2);
  await next.open(true);
  assert.is(await next.settle(next.zero(0, 0, 1, false, 300)), 0);
  assert.is(await next.settle(next.flush()), 0);
  const { layout } = next.opened.store.superblock;
  await next.close();
  return { disk, layout };
}

check('a device that was closed in order and has lost its newest root needs its journal', async () => {
  const { disk, layout } = await closedTwice();
  for (let page = 0; page < layout.journalPages; page += 1) {
    const at = layout.journalOffset + page * PAGE_BYTES;
    if (disk.peek(at, PAGE_BYTES).some((byte) => byte !== 0)) disk.flipBit(at + 70, 3);
  }
  const harmless = new SimStore(disk.clone(), 3);
  await harmless.open(true);
  assert.equal(await harmless.settle(harmless.read(0, 0)), new Array(BLOCK / SECTOR).fill(0));
  disk.flipBit(newestRoot(disk, layout) + 200, 1);
  await failure('DAMAGED', new SimStore(disk, 4).open(true));
});

check('a damaged page of the journal counts until no root needs it', async () => {
  const { disk, layout } = await closedTwice();
  // The last batch that only the older root needs. It says of itself alone that the block holds zeroes.
  const journal = disk.peek(layout.journalOffset, layout.journalPages * PAGE_BYTES);
  const view = new DataView(journal.buffer, journal.byteOffset);
  const sequenceAt = (page: number) => Number(view.getBigUint64(page * PAGE_BYTES + 8, true));
  const last = Array.from({ length: layout.journalPages }, (_, page) => page).reduce((most, page) =>
    sequenceAt(page) > sequenceAt(most) ? page : most,
  );
  disk.flipBit(layout.journalOffset + last * PAGE_BYTES + 70, 3);
  // Opened, and killed when the root after it is to be written, which never ends here.
  const killed = new SimStore(disk, 3);
  const roots = { start: layout.rootOffset, end: layout.rootOffset + 2 * ROOT_BYTES };
  disk.faults.add({ ops: ['write'], ...roots, action: { kind: 'stick' } });
  const end = await killed.open(true).catch((error: Error) => error.message);
  assert.match(String(end), /stuck|nothing/);
  assert.is(disk.faults.acted, 1);
  disk.kill(randomOf(1));
  disk.faults.clear();
  disk.flipBit(newestRoot(disk, layout) + 200, 1);
  await failure('DAMAGED', new SimStore(disk, 4).open(true));
});

check('a device of which nothing that exists twice can be read is not called unformatted or damaged', async () => {
  const disk = diskOf(16);
  const store = new SimStore(disk, 1);
  await store.format();
  await store.open();
  const { layout } = store.opened.store.superblock;
  assert.is(await store.settle(store.allocate(0)), 0);
  store.opened.store.dispose();
  disk.kill(randomOf(1));
  const journal = layout.journalOffset + (layout.journalPages - 1) * PAGE_BYTES;
  const regions = [
    [0, layout.sizeBytes],
    [layout.rootOffset, layout.volumesOffset],
    [layout.journalOffset, journal],
  ];
  for (const [start, end] of regions) {
    const image = disk.clone();
    image.faults.add({ ops: ['read'], start, end, action: { kind: 'error', errno: 5 } });
    const next = new SimStore(image, 2);
    let code = '';
    await next.open(true).catch((error: { code: string }) => {
      code = error.code;
    });
    assert.is(code, 'ERR_STRAKE_IO', `${start}`);
  }
});

check('a newest root that cannot be read once, and can be later, does not come back', async () => {
  for (let seed = 1; seed < 9; seed += 1) {
    const disk = diskOf(16);
    const store = new SimStore(disk, seed);
    await store.format();
    await store.open();
    const { layout } = store.opened.store.superblock;
    for (let stripe = 0; stripe < 3; stripe += 1) {
      assert.is(await store.settle(store.allocate(stripe)), 0);
      assert.is(await store.settle(store.write(stripe, 0, 1, 101 + 2 * stripe)), BLOCK);
      assert.is(await store.settle(store.flush()), 0);
      await store.settle(store.opened.store.runCheckpoint('half'));
    }
    store.opened.store.dispose();
    disk.kill(randomOf(seed));
    const at = newestRoot(disk, layout);
    const [start, end] = [layout.rootOffset, layout.volumesOffset];
    disk.faults.add({ ops: ['read'], start: at, end: at + 1, count: 1, action: { kind: 'error', errno: 5 } });
    // The first write there empties what was not read; the next one is that of the new root.
    disk.faults.add({ ops: ['write'], start, end, skip: 1, count: 1, action: { kind: 'error', errno: 5 } });
    const second = new SimStore(disk, seed);
    let code = '';
    await second.open(true).catch((error: { code: string }) => {
      code = error.code;
    });
    assert.is(code, 'ERR_STRAKE_IO');
    disk.powerCut(randomOf(seed));
    disk.faults.clear();
    disk.attached = false;
    const third = new SimStore(disk, seed);
    await third.open(true);
    for (let stripe = 0; stripe < 3; stripe += 1) {
      assert.equal(await third.settle(third.read(stripe, 0)), new Array(BLOCK / SECTOR).fill(101 + 2 * stripe));
    }
  }
});

run();
