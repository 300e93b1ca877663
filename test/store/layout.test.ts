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
      ...{ slotTableOffset: directory + 8192 * directoryPages, slotPages, blockTableOffset: tables },
      ...{ journalOffset: journal, journalPages, dataOffset: data, copyOffset: size - 4096 },
    };
    assert.equal({ ...computeLayout(size, slot) }, wanted);
  }
  assert.is(deviceBytesMin(64 * KIB), 2560000);
  assert.is(deviceBytesMin(MIB), 4198400);
  assert.throws(() => computeLayout(2559999, 64 * KIB), /do not hold one slot/);
  assert.throws(() => computeLayout(TIB, 64 * KIB), /more than/);
  assert.throws(() => computeLayout(GIB, 96 * KIB), /power of two/);
});

check('a large device has as many entries as its directory leads to, and more slots than a fourth of them', () => {
  const layout = computeLayout(15 * TIB, MIB);
  assert.is(layout.entries, 1024 * 508 * 31);
  assert.ok(layout.slots > layout.entries / 2 && layout.slots < layout.entries);
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
      ...{ slotTableOffset: 2134016 + 8192 * directoryPages, slotPages, blockTableOffset: tables },
      ...{ journalOffset: journal, journalPages, dataOffset: data, copyOffset: size - 4096 },
    };
    assert.equal({ ...computeFirstLayout(size, slot) }, wanted);
  }
  assert.throws(() => computeFirstLayout(2494463, 64 * KIB), /do not hold one slot/);
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
    fc.maxSafeInteger().map((n) => Math.abs(n) % (8 * TIB)),
  );
  const property = fc.property(sizes, fc.constantFrom(16, 17, 18, 19, 20), (size, power) => {
    const slotBytes = 2 ** power;
    fc.pre(size >= deviceBytesMin(slotBytes) && size / slotBytes < 1024 * 508 * 31);
    const layout = computeLayout(size, slotBytes);
    const regions = regionsOf(layout);
    for (const [index, [offset, length]] of regions.entries()) {
      assert.is(offset % 4096, 0);
      assert.ok(offset + length <= (regions[index + 1]?.[0] ?? size));
    }
    assert.is(layout.dataOffset % slotBytes, 0);
    assert.ok(layout.slotPages * 31 >= layout.entries && layout.directoryPages * 508 >= layout.slotPages);
    assert.ok(layout.entries >= layout.slots && layout.directoryPages <= 1024);
    assert.ok(layout.volumeDirectoryPages * 508 >= layout.volumePages && layout.volumeDirectoryPages <= 256);
    assert.ok(layout.journalPages >= 64 && layout.journalPages <= 4096);
    const left = layout.copyOffset - layout.dataOffset - layout.slots * slotBytes;
    assert.ok(left < 2 * slotBytes + 64 * KIB, `${left} bytes are left over`);
  });
  fc.assert(property, { numRuns: 2000 });
});

run();
