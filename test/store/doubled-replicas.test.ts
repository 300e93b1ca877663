/** Devices on which two pages hold one replica: nobody could tell which of them counts, so they are refused as damaged. */

import * as assert from 'uvu/assert';
import { viewOf } from '#strake/layout/fields.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { type Layout, PAGE_BYTES, pageOffset } from '#strake/store/format/format.js';
import { encodeReplica } from '#strake/store/format/replica-page.js';
import { check, run } from '../support/check.js';
import { changeRoot, fsck, knownDevice, openAndRead, resealTree } from '../support/damaged-store.js';
import { DEVICE_ID, diskOf, randomOf, replicaMap, SimStore, VOLUME_ID } from '../support/sim-store.js';
import { firstDevices, migrated } from '../support/version-1.js';

const DOUBLED = /pages 0 and 5 of the volumes both hold group 0 of volume a{32}/;

/** Puts the page of the replica that page 0 holds at page 5 too. */
function double(disk: SimDisk, layout: Layout, directory: number, change: (page: DataView) => void): void {
  const view = viewOf(disk.peek(directory, PAGE_BYTES));
  const page = disk.peek(pageOffset(layout.volumesOffset, 0, view.getUint32(36, true) >> 1), PAGE_BYTES);
  viewOf(page).setUint32(4, 5, true);
  change(viewOf(page));
  disk.poke(pageOffset(layout.volumesOffset, 5, 0), page);
  view.setUint32(32 + 8 * 5 + 4, 1, true);
  disk.poke(directory, new Uint8Array(view.buffer, view.byteOffset, PAGE_BYTES));
  resealTree(disk, layout);
}

check('two pages of one replica in the tree', async () => {
  const device = await knownDevice('closed');
  const directory = device.live.find(({ what }) => what === 'volume directory')?.from ?? -1;
  const changes: readonly ((page: DataView) => void)[] = [
    () => {},
    (page) => page.setUint32(64, 99, true), // a newer map
    (page) => page.setUint32(96, 1, true), // that of a deleted volume
  ];
  for (const change of changes) {
    const disk = device.disk.clone();
    double(disk, device.layout, directory, change);
    const before = crc32c(disk.peek(0, disk.geometry.sizeBytes));
    const { verdict, problems } = await fsck(disk);
    assert.equal([verdict, problems[0].kind], ['damaged', 'volume']);
    assert.match(problems[0].text, DOUBLED);
    assert.is(problems[0].offset, pageOffset(device.layout.volumesOffset, 5, 0));
    assert.is((await openAndRead(disk, device.expected)).refused, 'ERR_STRAKE_DAMAGED');
    assert.is(crc32c(disk.peek(0, disk.geometry.sizeBytes)), before, 'it is left alone');
  }
});

/** A store with its volume on page 0. */
async function opened(disk: SimDisk, seed: number): Promise<SimStore> {
  const store = new SimStore(disk, seed);
  await store.format();
  await store.open();
  return store;
}

check('two pages of one replica, the second in the journal', async () => {
  const disk = diskOf(4);
  const { opened: of, settle } = await opened(disk, 1).then((store) => ({
    opened: store.opened.store,
    settle: <T>(promise: Promise<T>) => store.settle(promise),
  }));
  const record = of.volumeTable.recordOf(0);
  if (record === undefined) throw new Error('there is no replica');
  // What stores maps is handed a page that the table of volumes would never choose.
  const write = Reflect.get(Reflect.get(of, 'maps'), 'store').bind(Reflect.get(of, 'maps'));
  const put = write((page: Uint8Array) => {
    encodeReplica(page, { index: 5, deviceId: DEVICE_ID, sequence: 1 }, record);
    return 5;
  });
  assert.is(await settle(put), 5);
  disk.kill(randomOf(1));
  const { verdict, problems } = await fsck(disk);
  assert.is(verdict, 'damaged');
  assert.match(problems[0].text, DOUBLED);
  assert.is((await openAndRead(disk, new Map())).refused, 'ERR_STRAKE_DAMAGED');
});

check('a replica that has moved from one page to another is on one page, wherever the journal begins', async () => {
  const disk = diskOf(4);
  const store = await opened(disk, 1);
  const [moved, other] = ['b'.repeat(32), 'c'.repeat(32)];
  const put = (id: string) => store.settle(store.opened.store.putReplica(replicaMap(id)));
  assert.is(await put(moved), 1);
  await store.settle(store.opened.store.runCheckpoint('half'));
  assert.is(await store.settle(store.opened.store.forgetReplica(1)), 1);
  assert.equal([await put(other), await put(moved)], [1, 2]);
  disk.kill(randomOf(1));
  assert.is((await fsck(disk)).verdict, 'recoverable');
  const again = new SimStore(disk, 2);
  await again.open(true);
  assert.equal(
    [VOLUME_ID, other, moved].map((id) => again.opened.store.volumeTable.indexOf(id, 0)),
    [0, 1, 2],
  );
  await again.close();
});

check('two pages of one volume on a device of version 1', async () => {
  // One volume that the device has no segments of, and one that it has.
  for (const number of [1, 2]) {
    const { disk } = firstDevices('closed')[1];
    const { superblock } = await fsck(disk);
    const layout = superblock?.layout as Layout;
    const at = (page: number) => {
      const places = [0, 1].map((place) => disk.peek(pageOffset(layout.volumesOffset, page, place), PAGE_BYTES));
      return places.toSorted((one, two) => viewOf(two).getUint32(24, true) - viewOf(one).getUint32(24, true))[0];
    };
    const page = at(number);
    viewOf(page).setUint32(4, 9, true);
    disk.poke(pageOffset(layout.volumesOffset, 9, 0), page);
    changeRoot(disk, layout, (view) => view.setUint32(128 + 8192 + 8 * 9 + 4, 1, true));
    const before = crc32c(disk.peek(0, disk.geometry.sizeBytes));
    const { verdict, problems } = await fsck(disk);
    assert.is(verdict, 'damaged');
    const text = new RegExp(`pages ${number} and 9 of the volumes both hold volume`);
    assert.ok(
      problems.some((problem) => text.test(problem.text)),
      JSON.stringify(problems),
    );
    const code = await migrated(disk).then(
      () => 'it was migrated',
      (error: { code: string }) => error.code,
    );
    assert.is(code, 'ERR_STRAKE_DAMAGED');
    assert.is(crc32c(disk.peek(0, disk.geometry.sizeBytes)), before, 'it is left alone');
  }
});

run();
