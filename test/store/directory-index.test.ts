/**
 * Devices whose directory has an index: large ones, on which the root alone does not lead to all entries, and small ones that were
 * formatted so, on which every page of the tree can be damaged.
 */

import * as assert from 'uvu/assert';
import { viewOf } from '#strake/layout/fields.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { dumpDevice } from '#strake/store/checking/dump.js';
import { type Layout, PAGE_BYTES, ROOT_BYTES } from '#strake/store/format/format.js';
import { openStore } from '#strake/store/opening/open-store.js';
import { check, repetitions, run } from '../support/check.js';
import {
  changeRoot,
  type FlipCounts,
  flipOne,
  fsck,
  type KnownDevice,
  knownDevice,
  newestRoot,
  openAndRead,
  readerOf,
} from '../support/damaged-store.js';
import { DirectMember } from '../support/direct-member.js';
import { bytesOf, definedCrc, same } from '../support/golden.js';
import { DEVICE_ID, diskOf, randomOf, replicaMap, SimStore, SLOT } from '../support/sim-store.js';

const MIB = 1 << 20;
const TIB = 2 ** 40;
const FLIPS = repetitions(1500, 120);
const ENDS = ['closed', 'killed'] as const;

interface DumpedRoot {
  readonly sequence: number;
  readonly directoryIndex?: readonly { readonly index: number; readonly offset: number }[];
}

/** The pages of the index that the newest root names. */
async function indexOf(disk: SimDisk): Promise<readonly { readonly index: number; readonly offset: number }[]> {
  const { roots } = (await dumpDevice(readerOf(disk), { what: 'root' })) as unknown as { roots: DumpedRoot[] };
  const whole = roots.filter(({ sequence }) => sequence > 0);
  return whole.toSorted((one, other) => other.sequence - one.sequence)[0].directoryIndex ?? [];
}

check('the root leads to the index, the index to the directory, byte by byte', async () => {
  const disk = diskOf(6);
  const store = new SimStore(disk, 1);
  const { layout } = await store.format(SLOT, 1);
  assert.equal([layout.directoryLevels, layout.directoryIndexPages, layout.directoryPages], [1, 1, 1]);
  const indexOffset = layout.volumesOffset + 2 * 256 * 4096;
  assert.equal([layout.directoryIndexOffset, layout.directoryOffset], [indexOffset, indexOffset + 8192]);
  assert.equal([...disk.peek(312, 4)], [1, 0, 0, 0]);
  await store.open();
  assert.is(await store.settle(store.allocate(3)), 0);
  await store.close();
  const [{ index, offset }] = await indexOf(disk);
  // It was written by one checkpoint, that of the close: everything before found the table of slots empty.
  assert.equal([index, offset], [0, indexOffset + 4096]);
  const page = disk.peek(offset, 4096);
  const root = disk.peek(newestRoot(disk, layout), ROOT_BYTES);
  const at = (bytes: Uint8Array, from: number, length: number) =>
    Buffer.from(bytes.subarray(from, from + length)).toString('hex');
  const wanted = bytesOf(4096, [
    [0, '53445831'], // SDX1
    [4, '00000000'],
    [8, DEVICE_ID],
    [24, at(root, 8, 8)], // the sequence of its root
    [36, '03000000'], // the directory page is there, in its second place
  ]);
  const directory = disk.peek(layout.directoryOffset + 4096, 4096);
  assert.is(at(directory, 0, 4), '53445231'); // SDR1
  viewOf(wanted).setUint32(32, definedCrc(directory), true);
  same(page, wanted);
  // One page of the index, and what the root says of it.
  assert.is(at(root, 64, 4), '01000000');
  assert.is(viewOf(root).getUint32(128, true), definedCrc(page));
  assert.is(at(root, 132, 4), '03000000');
});

for (const how of ENDS) {
  check(`a device with an index that was ${how} opens and holds what it held`, async () => {
    const { disk, expected } = await knownDevice(how, 1);
    assert.is((await indexOf(disk)).length, 1);
    assert.is((await fsck(disk, true)).problems.length, 0);
    const { refused, errors } = await openAndRead(disk, expected);
    assert.equal([refused, errors.size], ['', 0]);
  });

  check(`a flipped bit of a device with an index that was ${how} never gives wrong data`, async () => {
    const device = await knownDevice(how, 1);
    const random = randomOf(12);
    const counts: FlipCounts = { flips: 0, refused: 0, unreadable: 0, right: 0 };
    const upper = device.live.filter(({ what }) =>
      ['superblock', 'root', 'directory index', 'directory'].includes(what),
    );
    assert.ok(upper.some(({ what }) => what === 'directory index'));
    const bytes = upper.reduce((sum, { from, to }) => sum + to - from, 0);
    const stride = Math.ceil(bytes / FLIPS);
    for (const { what, from, to } of upper) {
      const fields = what.startsWith('directory') ? 64 : 0;
      for (let at = from; at < to; at += at < from + fields ? 1 : 1 + random.below(2 * stride - 1)) {
        await flipOne(device, what, at, random.below(8), counts, true);
      }
    }
    assert.ok(counts.refused > 0 && counts.right > 0, JSON.stringify(counts));
  });
}

/** What `fsck` and opening say of a device; nothing that is wrong may be read. */
async function verdictOf(disk: SimDisk, { expected }: KnownDevice): Promise<[string, string, string]> {
  const { verdict, problems } = await fsck(disk, true);
  const { refused } = await openAndRead(disk, expected);
  return [verdict, refused, problems[0]?.text ?? ''];
}

check('damage of the index is told by name, and the device is refused', async () => {
  const device = await knownDevice('closed', 1);
  const { layout } = device;
  const [{ offset }] = await indexOf(device.disk);
  const other = offset === layout.directoryIndexOffset ? offset + PAGE_BYTES : offset - PAGE_BYTES;
  const page = device.disk.peek(offset, PAGE_BYTES);
  const refusals: readonly (readonly [string, (disk: SimDisk) => void, RegExp])[] = [
    [
      'zeroes',
      (disk) => disk.poke(offset, new Uint8Array(PAGE_BYTES)),
      /page 0 of the directory index table is damaged/,
    ],
    [
      'half',
      (disk) => disk.poke(offset, new Uint8Array(PAGE_BYTES / 2)),
      /page 0 of the directory index table is damaged/,
    ],
    [
      'the version before',
      (disk) => disk.poke(offset, disk.peek(other, PAGE_BYTES)),
      /directory index table is damaged/,
    ],
    ['directory', (disk) => disk.poke(offset, disk.peek(layout.directoryOffset, PAGE_BYTES)), /index table is damaged/],
    // From here on what it says is wrong, and its checksum right.
    [
      'magic',
      changed(offset, layout, (view) => view.setUint8(2, 0x52)),
      /directory index table: it is a page of another/,
    ],
    ['number', changed(offset, layout, (view) => view.setUint8(4, 1)), /directory index table: it is page 1/],
    ['device', changed(offset, layout, (view) => view.setUint8(8, 1)), /directory index table: it belongs to device/],
    [
      'flags',
      changed(offset, layout, (view) => view.setUint8(36, 7)),
      /directory index table: unknown flags at byte 32/,
    ],
    ['beyond', changed(offset, layout, (view) => view.setUint8(44, 1)), /index leads to pages beyond the last/],
    ['absent', changed(offset, layout, (view) => view.setUint8(36, 2)), /counts 3 used slots, the slot table has 0/],
    ['place', changed(offset, layout, (view) => view.setUint8(36, view.getUint8(36) ^ 2)), /directory table/],
  ];
  for (const [what, damage, text] of refusals) {
    const disk = device.disk.clone();
    damage(disk);
    assert.not.equal(disk.peek(offset, PAGE_BYTES), page, what);
    const [verdict, refused, told] = await verdictOf(disk, device);
    assert.equal([verdict, refused], ['damaged', 'ERR_STRAKE_DAMAGED'], what);
    assert.match(told, text, what);
  }
  const roots: readonly (readonly [(view: DataView) => void, RegExp])[] = [
    [(view) => view.setUint32(64, 2, true), /its directory has another size/],
    [(view) => view.setUint8(136, 1), /its reserved byte 136 is not zero/],
  ];
  for (const [change, text] of roots) {
    const disk = device.disk.clone();
    changeRoot(disk, layout, change);
    const { problems } = await fsck(disk);
    assert.ok(
      problems.some((problem) => text.test(problem.text)),
      JSON.stringify(problems),
    );
    const { errors } = await openAndRead(disk, device.expected);
    assert.is(errors.size, 0);
  }
});

/** Changes a page of the index, and puts right what the newest root says of it; checksums below it stay what they were. */
function changed(offset: number, layout: Layout, change: (view: DataView) => void): (disk: SimDisk) => void {
  return (disk) => {
    const page = disk.peek(offset, PAGE_BYTES);
    change(viewOf(page));
    disk.poke(offset, page);
    const rootOffset = newestRoot(disk, layout);
    const root = disk.peek(rootOffset, ROOT_BYTES);
    viewOf(root).setUint32(128, crc32c(page), true);
    viewOf(root).setUint32(4, 0, true);
    viewOf(root).setUint32(4, crc32c(root), true);
    disk.poke(rootOffset, root);
  };
}

/** Counts what a device is asked to read and to write, in bytes. */
function counted({ ports }: SimStore): { read: number; written: number; zeroed: number; discarded: number } {
  const counts = { read: 0, written: 0, zeroed: 0, discarded: 0 };
  const { device } = ports;
  const { read, write, zero, discard } = device;
  device.read = (memory, length, ...rest) => {
    counts.read += length;
    read.call(device, memory, length, ...rest);
  };
  device.write = (memory, length, ...rest) => {
    counts.written += length;
    write.call(device, memory, length, ...rest);
  };
  device.zero = (offset, span, ...rest) => {
    counts.zeroed += span;
    zero.call(device, offset, span, ...rest);
  };
  device.discard = (offset, span, ...rest) => {
    counts.discarded += span;
    discard.call(device, offset, span, ...rest);
  };
  return counts;
}

/** Opens a store that has only been formatted, and puts a volume there whose segments have 1 MiB. */
async function openEmpty(store: SimStore): Promise<void> {
  store.opened = await store.settle(openStore(store.ports, { path: 'disk' }, store.hooks));
  const map = replicaMap();
  const volume = { ...map.volume, segmentBytes: MIB };
  const page = await store.settle(store.opened.store.putReplica({ ...map, volume }));
  store.member = new DirectMember(store.loop, store.opened.store, page);
}

/** Lets the next segment take this slot. */
function aim(store: SimStore, slot: number): void {
  Reflect.set(store.opened.store.slots, 'next', slot);
}

for (const end of ['closed', 'cut'] as const) {
  check(`a device of 16 TiB holds segments in the first and the last of its slots, ${end}`, async () => {
    const disk = new SimDisk({ sizeBytes: 16 * TIB, discard: false, writeZeroesMaxBytes: 2 ** 40 });
    let store = new SimStore(disk, 1);
    let counts = counted(store);
    const { layout } = await store.format(MIB);
    store.device.close();
    assert.equal([layout.directoryLevels, layout.directoryIndexPages, layout.entries], [1, 9, 4 * layout.slots]);
    // Journal and root, and the first megabytes: nothing for each entry, of which there are 65 million.
    assert.ok(counts.written < 32 * MIB && counts.zeroed <= 8 * MIB && counts.read === 0, JSON.stringify(counts));
    const opened = async (format: boolean) => {
      store = new SimStore(disk, 2);
      counts = counted(store);
      if (format) await openEmpty(store);
      else await store.open(true);
      assert.ok(counts.read < 40 * MIB && counts.written < MIB && counts.zeroed === 0, JSON.stringify(counts));
    };
    await opened(true);
    // Both sides of each border between pages of slots, of the directory and of its index, and the last.
    const perPage = 31 * 508;
    const wanted = [0, 30, 31, perPage - 1, perPage, 508 * perPage - 1, 508 * perPage, layout.slots - 1];
    for (const [stripe, slot] of wanted.entries()) {
      aim(store, slot);
      assert.is(await store.settle(store.allocate(stripe)), 0);
      assert.is(store.opened.store.slots.find(0, stripe), slot);
      assert.is(await store.settle(store.write(stripe, 1, 1, 100 + stripe)), 4096);
      if (stripe % 3 === 2) await store.settle(store.opened.store.runCheckpoint('half'));
    }
    await store.settle(store.flush());
    for (let round = 0; round < 2; round += 1) {
      if (end === 'closed') await store.close();
      else disk.powerCut(randomOf(3));
      const found = await fsck(disk, true);
      assert.equal(
        [found.verdict, found.counts.usedSlots],
        [end === 'closed' ? 'clean' : 'recoverable', wanted.length],
      );
      await opened(false);
      for (const [stripe, slot] of wanted.entries()) {
        assert.is(store.opened.store.slots.find(0, stripe), slot);
        assert.equal(await store.settle(store.read(stripe, 1)), new Array(8).fill(100 + stripe + 1000 * round));
        assert.is(await store.settle(store.write(stripe, 1, 1, 1100 + stripe)), 4096);
      }
      await store.settle(store.flush());
      const pages = await indexOf(disk);
      assert.equal(
        pages.map(({ index }) => index),
        [0, 1, 2],
      );
    }
    await store.close();
    assert.equal((await fsck(disk, true)).problems, []);
  });
}

run();
