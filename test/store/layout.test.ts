/** Where things lie on devices of all sizes, before and since the feature groups. */

import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { computeFirstLayout, computeLayout, deviceBytesMin, type Layout } from '#strake/store/format/format.js';
import { check, run } from '../support/check.js';
import { SimStore, SLOT } from '../support/sim-store.js';

const KIB = 1 << 10;
const MIB = 1 << 20;
const GIB = 2 ** 30;
const TIB = 2 ** 40;

/**
 * Size, slot size; slots, entries, pages of volumes and of their directory, pages of the directory and of the slot table; offsets of
 * volumes, directory, block tables, journal, data; pages of the journal.
 */
const LAYOUTS: readonly (readonly number[])[] = [
  [2560000, 64 * KIB, 1, 1, 256, 1, 1, 1, 45056, 2142208, 2158592, 2166784, 2490368, 65],
  [4198400, MIB, 1, 4, 256, 1, 1, 1, 45056, 2142208, 2158592, 2191360, 3145728, 68],
  [GIB, 64 * KIB, 14380, 14380, 1024, 3, 1, 464, 61440, 8450048, 12259328, 130060288, 131268608, 287],
  [GIB, MIB, 975, 3900, 256, 1, 1, 126, 45056, 2142208, 3182592, 35131392, 50331648, 3460],
  [TIB, MIB, 1015294, 4061176, 65536, 130, 258, 131006, 1101824, 537972736, 1613287424, 34882441216, 34897657856, 3631],
];

check('layouts of devices of several sizes', () => {
  for (const [size, slot, slots, entries, volumePages, volumeDirectoryPages, ...rest] of LAYOUTS) {
    const [directoryPages, slotPages, volumes, directory, tables, journal, data, journalPages] = rest;
    const wanted = {
      ...{ sizeBytes: size, slotBytes: slot, slots, entries, rootOffset: 4096, volumeDirectoryOffset: 36864 },
      ...{ volumeDirectoryPages, volumesOffset: volumes, volumePages, directoryOffset: directory, directoryPages },
      ...{ directoryLevels: 0, directoryIndexOffset: directory, directoryIndexPages: 0 },
      ...{ slotTableOffset: directory + 8192 * directoryPages, slotPages, blockTableOffset: tables },
      ...{ journalOffset: journal, journalPages, dataOffset: data, copyOffset: size - 4096 },
    };
    assert.equal({ ...computeLayout(size, slot) }, wanted);
  }
  assert.is(deviceBytesMin(64 * KIB), 2560000);
  assert.is(deviceBytesMin(MIB), 4198400);
  assert.throws(() => computeLayout(2559999, 64 * KIB), /do not hold one slot/);
  assert.throws(() => computeLayout(513 * TIB, MIB), /more than the 512 TiB of this slot size/);
  assert.throws(() => computeLayout(33 * TIB, 64 * KIB), /more than the 32 TiB of this slot size/);
  assert.throws(() => computeLayout(GIB, 96 * KIB), /power of two/);
});

/** The most entries that a root of 1024 references leads to, of pages with 508 references and with 31 entries. */
const ROOT_ENTRIES = 1024 * 508 * 31;

check('the directory gets an index where the root leads to fewer entries than there are', () => {
  assert.is(ROOT_ENTRIES, 16_125_952);
  for (const [slotBytes, each] of [
    [MIB, 4],
    [512 * KIB, 2],
    [256 * KIB, 1],
    [64 * KIB, 1],
  ]) {
    // The largest device without an index, page by page of the device.
    let least = 0;
    let most = 16 * TIB;
    while (most - least > 4096) {
      const middle = Math.floor((least + most) / 8192) * 4096;
      if (computeLayout(Math.max(middle, 5 * MIB), slotBytes).directoryLevels === 0) least = middle;
      else most = middle;
    }
    const flat = computeLayout(least, slotBytes);
    assert.equal([flat.directoryLevels, flat.directoryIndexPages, flat.directoryPages], [0, 0, 1024]);
    assert.is(flat.directoryIndexOffset, flat.directoryOffset);
    assert.is(flat.entries, Math.floor(ROOT_ENTRIES / each) * each);
    const indexed = computeLayout(most, slotBytes);
    assert.equal([indexed.directoryLevels, indexed.directoryIndexPages], [1, 3]);
    assert.is(indexed.directoryOffset, indexed.directoryIndexOffset + 6 * 4096);
    // An index of three pages takes the room of the slot that was too many, and a reader has to take what was formatted.
    assert.ok(indexed.slots === flat.slots + 1 || indexed.slots === flat.slots, `${indexed.slots} ${flat.slots}`);
    assert.equal(computeLayout(most, slotBytes, 1), indexed);
    assert.equal(computeLayout(least, slotBytes, 0), flat);
    assert.throws(() => computeLayout(most, slotBytes, 0), /more than the 16125952 entries that a directory without/);
  }
});

check('any number of slots has its entries', () => {
  for (const size of [5 * TIB, 16 * TIB, 61 * TIB, 512 * TIB]) {
    const layout = computeLayout(size, MIB);
    assert.is(layout.entries, 4 * layout.slots);
    assert.ok(layout.slots > 0.96 * (size / MIB) && layout.entries < 2 ** 31);
    assert.ok(layout.directoryIndexPages > 0 && layout.directoryIndexPages <= 1024);
  }
});

/** Slots; pages of directory and slot table; offsets of block tables, journal, data; pages of the journal. */
const FIRST_LAYOUTS: readonly (readonly number[])[] = [
  [2494464, 64 * KIB, 1, 1, 1, 2150400, 2158592, 2424832, 65],
  [4198400, MIB, 1, 1, 1, 2150400, 2158592, 3145728, 68],
  [GIB, 64 * KIB, 14465, 1, 467, 5967872, 124465152, 125698048, 287],
  [GIB, MIB, 999, 1, 33, 2412544, 10596352, 25165824, 3544],
  [TIB, MIB, 1040169, 67, 33554, 277557248, 8798621696, 8814329856, 3631],
];

check('layouts of devices from before the feature groups', () => {
  for (const [size, slot, slots, directoryPages, slotPages, tables, journal, data, journalPages] of FIRST_LAYOUTS) {
    const wanted = {
      ...{ sizeBytes: size, slotBytes: slot, slots, entries: slots, rootOffset: 4096, volumeDirectoryOffset: 36864 },
      ...{ volumeDirectoryPages: 0, volumesOffset: 36864, volumePages: 256, directoryOffset: 2134016, directoryPages },
      ...{ directoryLevels: 0, directoryIndexOffset: 2134016, directoryIndexPages: 0 },
      ...{ slotTableOffset: 2134016 + 8192 * directoryPages, slotPages, blockTableOffset: tables },
      ...{ journalOffset: journal, journalPages, dataOffset: data, copyOffset: size - 4096 },
    };
    assert.equal({ ...computeFirstLayout(size, slot) }, wanted);
  }
  assert.throws(() => computeFirstLayout(2494463, 64 * KIB), /do not hold one slot/);
  assert.throws(() => computeFirstLayout(16 * TIB, MIB), /more than the 16125952 slots of a device from before groups/);
});

check('a device of 512-byte sectors whose end is no whole page keeps its copy in the last whole one', async () => {
  for (const [logicalBlockBytes, extra] of [
    [512, 3584],
    [4096, 0],
  ]) {
    const sizeBytes = 4 * MIB + extra;
    assert.is(computeLayout(sizeBytes, SLOT).copyOffset, 4 * MIB - 4096);
    const disk = new SimDisk({ sizeBytes, logicalBlockBytes });
    let store = new SimStore(disk, 1);
    await store.format();
    await store.open();
    await store.close();
    // The first superblock is gone: the other is found from the size alone.
    disk.poke(0, new Uint8Array(4096));
    store = new SimStore(disk, 2);
    const { problems } = await store.open();
    assert.is(problems.length, 1);
    const { superblock } = store.opened.store;
    assert.equal([superblock.logicalBlockBytes, superblock.layout.sizeBytes], [logicalBlockBytes, sizeBytes]);
    await store.close();
  }
});

/** Regions in order, with their lengths. */
function regionsOf(layout: Layout): [number, number][] {
  const { slots, entries, slotPages, directoryPages, journalPages, slotBytes } = layout;
  return [
    [0, 4096],
    [layout.rootOffset, 2 * 16384],
    [layout.volumeDirectoryOffset, 2 * layout.volumeDirectoryPages * 4096],
    [layout.volumesOffset, 2 * layout.volumePages * 4096],
    [layout.directoryIndexOffset, 2 * layout.directoryIndexPages * 4096],
    [layout.directoryOffset, 2 * directoryPages * 4096],
    [layout.slotTableOffset, 2 * slotPages * 4096],
    [layout.blockTableOffset, 2 * entries * 4096],
    [layout.journalOffset, journalPages * 4096],
    [layout.dataOffset, slots * slotBytes],
    [layout.copyOffset, 4096],
  ];
}

check('regions never overlap, hold all slots, and waste less than two slots', () => {
  const sizes = fc.oneof(
    fc.integer({ min: 2560000, max: 64 * MIB }),
    fc.maxSafeInteger().map((n) => Math.abs(n) % (32 * TIB)),
  );
  const property = fc.property(sizes, fc.constantFrom(16, 17, 18, 19, 20), fc.boolean(), (size, power, indexed) => {
    const slotBytes = 2 ** power;
    fc.pre(size >= deviceBytesMin(slotBytes) + 64 * KIB);
    const layout = indexed ? computeLayout(size, slotBytes, 1) : computeLayout(size, slotBytes);
    const regions = regionsOf(layout);
    for (const [index, [offset, length]] of regions.entries()) {
      assert.is(offset % 4096, 0);
      assert.ok(offset + length <= (regions[index + 1]?.[0] ?? size));
    }
    assert.is(layout.dataOffset % slotBytes, 0);
    assert.ok(layout.slotPages * 31 >= layout.entries && layout.directoryPages * 508 >= layout.slotPages);
    assert.ok(layout.entries >= layout.slots);
    const { directoryIndexPages, directoryPages, directoryLevels } = layout;
    if (directoryLevels === 0) assert.ok(directoryIndexPages === 0 && directoryPages <= 1024);
    else assert.ok(directoryIndexPages * 508 >= directoryPages && directoryIndexPages <= 1024);
    assert.ok(layout.volumeDirectoryPages * 508 >= layout.volumePages && layout.volumeDirectoryPages <= 256);
    assert.ok(layout.journalPages >= 64 && layout.journalPages <= 4096);
    const left = layout.copyOffset - layout.dataOffset - layout.slots * slotBytes;
    assert.ok(left < 2 * slotBytes + 64 * KIB, `${left} bytes are left over`);
  });
  fc.assert(property, { numRuns: 2000 });
});

run();
