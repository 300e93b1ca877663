/** What this version does not know is refused by name, or let pass where it does not matter. */

import * as assert from 'uvu/assert';
import type { StrakeError } from '#strake/core/errors.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { computeLayout } from '#strake/store/format/format.js';
import { Batch } from '#strake/store/format/journal-batch.js';
import { type RecordHandler, readRecords } from '#strake/store/format/journal-reader.js';
import { demandSuperblock, openStore } from '#strake/store/opening/open-store.js';
import { check, run } from '../support/check.js';
import { readerOf } from '../support/damaged-store.js';
import { sealAt } from '../support/golden.js';
import { diskOf, SimStore, SLOT, VOLUME_ID } from '../support/sim-store.js';

/** A formatted disk on which both superblocks have been changed, with the right checksum. */
async function changedSuperblock(...edits: readonly (readonly [number, string])[]): Promise<SimDisk> {
  const disk = diskOf(2);
  await new SimStore(disk, 1).format();
  const { copyOffset } = computeLayout(disk.geometry.sizeBytes, SLOT);
  for (const offset of [0, copyOffset]) {
    const page = disk.peek(offset, 4096);
    for (const [at, hex] of edits) page.set(Buffer.from(hex.replaceAll(' ', ''), 'hex'), at);
    page.fill(0, 12, 16);
    disk.poke(offset, sealAt(page, 12));
  }
  disk.kill(new SimStore(diskOf(1), 1).loop.random);
  return disk;
}

function refusalOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'it was opened',
    (error: StrakeError) => `${error.code}: ${error.message}`,
  );
}

check('unknown versions, features and fields of a superblock are refused by name', async () => {
  const cases: readonly (readonly [number, string, RegExp])[] = [
    [8, '02000000', /UNKNOWN_FEATURE.*format version 2, and this program knows 1/],
    [56, '03', /UNKNOWN_FEATURE.*incompatible feature 1 \(epochs\), which/],
    [56, '25', /UNKNOWN_FEATURE.*incompatible feature 2 \(data-log\), incompatible feature 5, which/],
    [63, '80', /UNKNOWN_FEATURE.*incompatible feature 63/],
    [64, '02', /UNKNOWN_FEATURE.*read-only-compatible feature 1/],
    [71, '40', /UNKNOWN_FEATURE.*read-only-compatible feature 62/],
    [108, '02', /UNKNOWN_FEATURE.*checksum is 2/],
    [112, '20', /UNKNOWN_FEATURE.*entry size is 32/],
    [101, '20', /UNKNOWN_FEATURE.*block size is 8192/],
    [116, '07', /UNKNOWN_FEATURE.*unknown state 7/],
    [120, '01', /UNKNOWN_FEATURE.*encrypted/],
    [56, '00', /UNKNOWN_FEATURE.*reserved byte 296/],
    [300, '02', /UNKNOWN_FEATURE.*2 pages of a block table, and this program knows 1/],
    [308, '02', /UNKNOWN_FEATURE.*2 lanes, and this program knows 1/],
    [312, '02', /UNKNOWN_FEATURE.*2 levels of the directory, and this program knows 1/],
    // With an index of its directory the device would have another layout.
    [312, '01', /NOT_FORMATTED.*has to be/],
    [320, '01', /UNKNOWN_FEATURE.*reserved byte 320/],
    [296, '01010000', /NOT_FORMATTED.*volumePages is 257 and has to be 256/],
    [304, '00000000', /NOT_FORMATTED.*entries is 0 and has to be/],
    [296, `00000000 01000000 00000000`, /NOT_FORMATTED.*has to be/],
    [4095, '01', /UNKNOWN_FEATURE.*reserved byte 4092/],
    [200, '00000100', /NOT_FORMATTED.*dataOffset/],
  ];
  for (const [at, hex, message] of cases) {
    const disk = await changedSuperblock([at, hex]);
    const store = new SimStore(disk, 2);
    assert.match(await refusalOf(store.settle(openStore(store.ports, { path: 'disk' }, store.hooks))), message);
  }
});

check('read-only-compatible features do not keep from reading, and compatible ones from nothing', async () => {
  const disk = await changedSuperblock([64, '02']);
  const demand = (readOnly: boolean) => demandSuperblock(readerOf(disk), { path: 'disk' }, readOnly, () => {});
  assert.is((await demand(true)).superblock.readOnlyCompatible, 2);
  assert.match(await refusalOf(demand(false)), /read-only-compatible feature 1/);
  const other = await changedSuperblock([72, 'ffffffffffffffff']);
  const store = new SimStore(other, 2);
  await store.open();
  await store.close();
});

check('an unknown feature is told, and not what it has changed', async () => {
  const disk = await changedSuperblock([56, '21'], [304, '05000000'], [320, '01'], [116, '07']);
  const store = new SimStore(disk, 2);
  const refused = await refusalOf(store.settle(openStore(store.ports, { path: 'disk' }, store.hooks)));
  assert.match(refused, /UNKNOWN_FEATURE.*it uses incompatible feature 5, which/);
});

/** Ignores what it is passed. */
const NOBODY: RecordHandler = {
  block: () => {},
  allocate: () => {},
  free: () => {},
  intent: () => {},
  stamp: () => {},
  page: () => {},
  flushed: () => {},
  settled: () => {},
  zero: () => {},
};

check('records that came with groups are none on a device without that feature', () => {
  const words = new Uint32Array(4);
  const first = { slot: 6, volumeId: VOLUME_ID, member: 0, stripe: 1, epoch: 0, group: 0 };
  const cases: readonly (readonly [boolean, (batch: Batch) => boolean])[] = [
    [true, (batch) => batch.addBlock(6, 3, words, 0, 3)],
    [true, (batch) => batch.addAllocate(first)],
    [true, (batch) => batch.addStamp(6, 3, 4)],
    [true, (batch) => batch.addFlushed(2, { generation: 3, flushNumber: 4 })],
    [true, (batch) => batch.addVolume(2, new Uint8Array(4096), 416)],
    [false, (batch) => batch.addBlock(6, 3, words, 0, 5)],
    [false, (batch) => batch.addAllocate({ ...first, epoch: 1 })],
    [false, (batch) => batch.addAllocate({ ...first, group: 1 })],
    [false, (batch) => batch.addPage(2, new Uint8Array(4096), 416)],
    [false, (batch) => batch.addSettled(2, { generation: 3, flushNumber: 4 })],
    [false, (batch) => batch.addZero(6, 0, 0, 1, 1)],
  ];
  for (const [number, [old, add]] of cases.entries()) {
    const bytes = new Uint8Array(16 * 4096);
    const batch = new Batch(bytes, 0);
    batch.begin(1);
    assert.ok(add(batch));
    const found = { sequence: 1, page: 0, pages: 1, incarnation: 1, durableSequence: 0, records: 1, bytes };
    assert.equal([readRecords(found, NOBODY, true), readRecords(found, NOBODY, false)], [1, old ? 1 : -1], `${number}`);
  }
});

run();
