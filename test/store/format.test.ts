/**
 * The format byte by byte: what lies on a device is compared with bytes that are written down here by hand, field after
 * field, as `docs/disk-format.md` has them. A change that fails one of these tests is a new version of the format.
 */

import fc from 'fast-check';
import * as assert from 'uvu/assert';
import type { StrakeError } from '#strake/core/errors.js';
import type { SlotIndex } from '#strake/core/ids.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { dumpDevice } from '#strake/store/checking/dump.js';
import { decodeDirectory, encodeDirectory } from '#strake/store/format/directory.js';
import { computeLayout, deviceBytesMin, type Layout } from '#strake/store/format/format.js';
import { Batch } from '#strake/store/format/journal-batch.js';
import { absent } from '#strake/store/format/page.js';
import { decodeRoot, encodeRoot } from '#strake/store/format/root.js';
import { decodeSlots, encodeSlots } from '#strake/store/format/slot-page.js';
import { decodeSuperblock, encodeSuperblock, type Superblock } from '#strake/store/format/superblock.js';
import { decodeFlushed, decodeVolume, encodeVolume } from '#strake/store/format/volume-page.js';
import { demandSuperblock, openStore } from '#strake/store/opening/open-store.js';
import { SlotTable } from '#strake/store/running/slot-table.js';
import { check, run } from '../support/check.js';
import { readerOf } from '../support/damaged-store.js';
import { BLOCK, diskOf, SimStore, SLOT, volumeOf } from '../support/sim-store.js';

const KIB = 1 << 10;
const MIB = 1 << 20;
const GIB = 2 ** 30;
const TIB = 2 ** 40;
const DEVICE = '000102030405060708090a0b0c0d0e0f';
const CLUSTER = 'c0c1c2c3c4c5c6c7c8c9cacbcccdcecf';
const VOLUME = 'f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff';

/** CRC32C by its definition, one bit after another, as an oracle. */
function definedCrc(bytes: Uint8Array): number {
  let rest = 0xffff_ffff;
  for (const byte of bytes) {
    rest ^= byte;
    for (let bit = 0; bit < 8; bit += 1) rest = (rest >>> 1) ^ (rest & 1 ? 0x82f6_3b78 : 0);
  }
  return ~rest >>> 0;
}

/** Zeroes, but for these fields: offset, and the bytes from there on in hexadecimal. */
function bytesOf(length: number, fields: readonly (readonly [number, string])[]): Uint8Array {
  const bytes = new Uint8Array(length);
  for (const [at, hex] of fields) bytes.set(Buffer.from(hex.replaceAll(' ', ''), 'hex'), at);
  return bytes;
}

function sealAt(bytes: Uint8Array, at: number): Uint8Array {
  new DataView(bytes.buffer).setUint32(at, definedCrc(bytes), true);
  return bytes;
}

function same(found: Uint8Array, wanted: Uint8Array): void {
  assert.is(found.length, wanted.length);
  const at = found.findIndex((byte, index) => byte !== wanted[index]);
  const show = (bytes: Uint8Array) => Buffer.from(bytes.subarray(at, at + 16)).toString('hex');
  if (at >= 0) throw new Error(`byte ${at} and what follows: ${show(found)}, and has to be ${show(wanted)}`);
}

const SUPERBLOCK: Superblock = {
  sequence: 0x01_0203_0405,
  deviceId: DEVICE,
  clusterId: CLUSTER,
  label: 'shelf 7',
  incompatible: 0,
  readOnlyCompatible: 0,
  compatible: 0,
  logicalBlockBytes: 512,
  physicalBlockBytes: 4096,
  atomicWriteBytes: 512,
  incarnation: 9,
  state: 1,
  formattedMs: 1_700_000_000_000,
  layout: computeLayout(GIB, MIB),
};

/** The same by hand. */
const SUPERBLOCK_FIELDS: readonly (readonly [number, string])[] = [
  [0, '53 54 52 41 4b 45 0d 0a'],
  [8, '01000000'],
  [16, '0504030201000000'],
  [24, DEVICE],
  [40, CLUSTER],
  [80, '0000004000000000'], // 1 GiB
  [88, '00020000 00100000 00020000'], // logical, physical, atomic
  [100, '00100000 00001000'], // block, slot
  [108, '01000000 10000000 01000000'], // kind of checksum, entry, state
  [136, 'e703000000000000'], // 999 slots
  [144, '0010000000000000'], // roots at 4096
  [152, '0090000000000000'], // volumes at 36864
  [160, '0090200000000000'], // directory at 2134016
  [168, '00b0200000000000'], // slot table at 2142208
  [176, '00d0240000000000'], // block tables at 2412544
  [184, '00b0a10000000000'], // journal at 10596352
  [192, 'd80d000000000000'], // 3544 pages
  [200, '0000800100000000'], // data at 24 MiB
  [208, '00f0ff3f00000000'], // the second superblock
  [216, '0900000000000000'],
  [224, '0068e5cf8b010000'], // 1 700 000 000 000
  [232, '7368656c662037'],
];

check('a superblock', () => {
  const wanted = sealAt(bytesOf(4096, SUPERBLOCK_FIELDS), 12);
  const page = new Uint8Array(4096);
  encodeSuperblock(SUPERBLOCK, page, crc32c);
  same(page, wanted);
  assert.equal(decodeSuperblock(wanted, crc32c), SUPERBLOCK);
});

const ROOT_FIELDS: readonly (readonly [number, string])[] = [
  [0, '53525431'], // SRT1
  [8, '0700000000000000'], // sequence
  [16, DEVICE],
  [32, '0300000000000000 0900000000000000 0800000000000000'], // page and sequence of the journal, durable sequence
  [56, '0200000000000000'], // used slots
  [64, '01000000 02000000'], // pages of the directory, active slots
  [128, '44332211 03000000'], // directory page 0: checksum, present and in the second place
  [128 + 8192 + 8, 'ddccbbaa 01000000'], // volume 1
  [128 + 8192 + 2048, '04000000 05000000'], // slots 4 and 5 are active
];
const ROOT = {
  sequence: 7,
  journalPage: 3,
  journalSequence: 9,
  durableSequence: 8,
  usedSlots: 2,
  directory: [{ present: true, place: 1, checksum: 0x11223344 }],
  volumes: Array.from({ length: 256 }, (_, at) =>
    at === 1 ? { present: true, place: 0, checksum: 0xaabbccdd } : absent(),
  ),
  active: [4, 5],
};

check('a root', () => {
  const wanted = sealAt(bytesOf(16384, ROOT_FIELDS), 4);
  const bytes = new Uint8Array(16384);
  encodeRoot(ROOT, DEVICE, bytes, crc32c);
  same(bytes, wanted);
  assert.equal(decodeRoot(wanted, DEVICE, SUPERBLOCK.layout, crc32c), ROOT);
});

check('a page of the directory', () => {
  const wanted = bytesOf(4096, [
    [0, '53445231'], // SDR1
    [4, '02000000'],
    [8, DEVICE],
    [24, '0700000000000000'],
    [32, '04030201 01000000'],
    [32 + 16, 'efbeadde 03000000'],
  ]);
  const references = [
    { present: true, place: 0, checksum: 0x01020304 },
    absent(),
    { present: true, place: 1, checksum: 0xdeadbeef },
  ];
  const page = new Uint8Array(4096);
  encodeDirectory(page, 2, DEVICE, 7, references);
  same(page, wanted);
  const found = decodeDirectory(wanted, 2, DEVICE);
  assert.is(found.length, 508);
  assert.equal(found.slice(0, 3), references);
});

/** Slot 32 is the second of page 1. */
const SLOT_FIELDS: readonly (readonly [number, string])[] = [
  [0, '53535431'], // SST1
  [4, '01000000'],
  [8, DEVICE],
  [24, '0700000000000000'],
  [256, VOLUME],
  [256 + 16, '0500000001000000'], // stripe 2^32 + 5
  [256 + 32, '0200'], // member
  [256 + 34, '01 06'], // used; a table, in the second place
  [256 + 36, '01000000'], // references
  [256 + 40, '0300000000000000 0400000000000000'], // generation, flush number
  [256 + 56, '78563412'], // checksum of the block table
];

check('a page of slots', () => {
  const table = new SlotTable(40);
  table.assign(32 as SlotIndex, 0, 2 ** 32 + 5, 2);
  table.flags[32] = 6;
  table.generations[32] = 3;
  table.flushNumbers[32] = 4;
  table.tableChecksums[32] = 0x12345678;
  const page = new Uint8Array(4096);
  encodeSlots(page, 1, DEVICE, 7, table, [VOLUME]);
  const wanted = bytesOf(4096, SLOT_FIELDS);
  same(page, wanted);
  const found = new SlotTable(40);
  decodeSlots(wanted, 1, DEVICE, found, () => 0);
  assert.is(found.find(0, 2 ** 32 + 5), 32);
  const numbers = [found.members, found.flags, found.generations, found.flushNumbers, found.tableChecksums];
  assert.equal(
    numbers.map((column) => column[32]),
    [2, 6, 3, 4, 0x12345678],
  );
});

const VOLUME_FIELDS: readonly (readonly [number, string])[] = [
  [0, '53564c31'], // SVL1
  [4, '03000000'],
  [8, DEVICE],
  [24, '0700000000000000'],
  [32, VOLUME],
  [48, '0100000000000000'], // created
  [56, '0000004000000000'], // 1 GiB
  [64, '0500000000000000'], // version of the map
  [72, '0600000000000000 0600000000000000'], // generation, twice
  [88, '02 02 01 02'], // mirror, copies, groups, members of a group
  [92, '00001000'], // bytes of a segment
  [104, '0600000000000000 0504030201000000'], // the flush that is remembered
  [160, '0200 6462'], // name
  [424, '0302'], // version of the name
  [512, DEVICE],
  [512 + 16, '01'], // in sync
  [512 + 40, '0900000000000000 0a00000000000000'], // incarnation, flush number
  [576, CLUSTER],
  [576 + 16, '03'], // offline
  [576 + 24, '0500000000000000 0300000000000000'], // since
];
const VOLUME_RECORD = {
  ...volumeOf(VOLUME, DEVICE),
  name: 'db',
  nameVersion: 0x0203,
  layout: 'mirror' as const,
  copies: 2,
  segmentBytes: MIB,
  mapVersion: 5,
  generation: 6,
  groups: [
    [
      {
        deviceId: DEVICE,
        state: 'in-sync' as const,
        since: { generation: 0, flushNumber: 0 },
        incarnation: 9,
        flushNumber: 10,
      },
      {
        deviceId: CLUSTER,
        state: 'offline' as const,
        since: { generation: 5, flushNumber: 3 },
        incarnation: 0,
        flushNumber: 0,
      },
    ],
  ],
};

const FLUSHED = { generation: 6, flushNumber: 0x0102_0304_05 };

check('a page of a volume', () => {
  const wanted = bytesOf(4096, VOLUME_FIELDS);
  const page = new Uint8Array(4096);
  encodeVolume(page, 3, DEVICE, 7, VOLUME_RECORD, FLUSHED);
  same(page, wanted);
  assert.equal(decodeVolume(wanted, 3, DEVICE), VOLUME_RECORD);
  assert.equal(decodeFlushed(wanted), FLUSHED);
});

check('a batch of the journal', () => {
  const bytes = new Uint8Array(16 * 4096);
  const batch = new Batch(bytes, 0);
  batch.begin(0x0102_0304_05);
  batch.addAllocate({ slot: 6, volumeId: VOLUME, member: 1, stripe: 2 ** 32 + 5, epoch: 1, group: 0x0203 });
  batch.addBlock(6, 3, Uint32Array.of(0, 0x11223344, 1, 0x55, 0x66), 1, 1);
  batch.addSlot(3, 7);
  batch.addSlot(4, 8);
  batch.addStamp(6, 3, 4);
  batch.addFlushed(2, { generation: 3, flushNumber: 4 });
  batch.addSettled(0x0102, { generation: 3, flushNumber: 2 });
  batch.addZero(6, 3, 0x0102, 0x55, 0x66);
  // This one does not fit the rest of the first sector, so it begins the second.
  batch.addVolume(2, new Uint8Array(4096).fill(0xee), 416);
  batch.addPage(0x0102, new Uint8Array(4096).fill(0xdd), 832);
  batch.seal(DEVICE, 9, 12, 0x0102_0304_04, (from, length) => crc32c(bytes, from, length));
  const wanted = bytesOf(4096, [
    [0, '534a4231 01000000'], // SJB1, pages
    [8, '0504030201000000'], // sequence
    [16, DEVICE],
    [32, '0900000000000000'], // incarnation
    [40, '0c000000 0a000000'], // own page, records
    [48, '0404030201000000'], // durable sequence
    [72, `02 00 0100 06000000 ${VOLUME}`],
    [96, '0500000001000000 01000000 00000000 0000 0302'], // stripe, epoch, layer, flags and state, group
    [128, '01 01 0300 06000000 44332211 01000000 55000000 66000000'],
    [152, '03 00 0000 07000000'],
    [160, '04 00 0000 08000000'],
    [168, '05 00 0000 06000000 0300000000000000 0400000000000000'],
    [192, '07 00 0000 02000000 0300000000000000 0400000000000000'],
    [216, '09 00 0000 02010000 0300000000000000 0200000000000000'],
    [240, '0a 00 0300 06000000 55000000 66000000 0201 000000000000'],
    [512, `06 02 a001 a0010000 ${'ee'.repeat(416)}`],
    [1024, `08 00 a001 0201 4003 ${'dd'.repeat(416)}`],
  ]);
  for (let sector = 0; sector < 8; sector += 1) {
    const at = sector * 512;
    wanted.set([sector, 0x05, 0x04, 0x03], at + 504);
    new DataView(wanted.buffer).setUint32(at + 508, definedCrc(wanted.subarray(at, at + 508)), true);
  }
  same(bytes.subarray(0, 4096), wanted);
  assert.equal(bytes.subarray(4096), new Uint8Array(15 * 4096));
});

check('a block table', async () => {
  const disk = diskOf(2);
  const store = new SimStore(disk, 1);
  await store.format();
  await store.open();
  await store.settle(store.allocate(0));
  await store.settle(store.write(0, 2, 1, 0xabcd));
  await store.settle(store.zero(0, 3, 1, false, 0x77));
  await store.close();
  const { slots } = (await dumpDevice(readerOf(disk), { what: 'slots' })) as unknown as {
    slots: { table: { offset: number } }[];
  };
  const content = new Uint8Array(BLOCK);
  new Uint32Array(content.buffer).fill(0xabcd);
  const wanted = bytesOf(4096, [
    [36, '01000000 cdab0000 01000000'], // valid, stamp
    [48, '00000000 02000000 77000000 01000000'], // zero
  ]);
  new DataView(wanted.buffer).setUint32(32, definedCrc(content), true);
  same(disk.peek(slots[0].table.offset, 4096), wanted);
});

// ---------------------------------------------------------------- layout

/** Size, slot size; slots, pages of directory and slot table; offsets of block tables, journal, data; journal pages. */
const LAYOUTS: readonly (readonly number[])[] = [
  [2494464, 64 * KIB, 1, 1, 1, 2150400, 2158592, 2424832, 65],
  [4198400, MIB, 1, 1, 1, 2150400, 2158592, 3145728, 68],
  [GIB, 64 * KIB, 14465, 1, 467, 5967872, 124465152, 125698048, 287],
  [GIB, MIB, 999, 1, 33, 2412544, 10596352, 25165824, 3544],
  [TIB, MIB, 1040169, 67, 33554, 277557248, 8798621696, 8814329856, 3631],
];

check('layouts of devices of several sizes', () => {
  for (const [size, slot, slots, directoryPages, slotPages, tables, journal, data, journalPages] of LAYOUTS) {
    const layout = computeLayout(size, slot);
    assert.equal(
      { ...layout },
      {
        sizeBytes: size,
        slotBytes: slot,
        slots,
        rootOffset: 4096,
        volumesOffset: 36864,
        directoryOffset: 2134016,
        directoryPages,
        slotTableOffset: 2134016 + 8192 * directoryPages,
        slotPages,
        blockTableOffset: tables,
        journalOffset: journal,
        journalPages,
        dataOffset: data,
        copyOffset: size - 4096,
      },
    );
  }
  assert.is(deviceBytesMin(64 * KIB), 2494464);
  assert.is(deviceBytesMin(MIB), 4198400);
  assert.throws(() => computeLayout(2494463, 64 * KIB), /do not hold one slot/);
  assert.throws(() => computeLayout(TIB, 64 * KIB), /more than/);
  assert.throws(() => computeLayout(GIB, 96 * KIB), /power of two/);
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
  const { slots, slotPages, directoryPages, journalPages, slotBytes } = layout;
  return [
    [0, 4096],
    [layout.rootOffset, 2 * 16384],
    [layout.volumesOffset, 2 * 256 * 4096],
    [layout.directoryOffset, 2 * directoryPages * 4096],
    [layout.slotTableOffset, 2 * slotPages * 4096],
    [layout.blockTableOffset, 2 * slots * 4096],
    [layout.journalOffset, journalPages * 4096],
    [layout.dataOffset, slots * slotBytes],
    [layout.copyOffset, 4096],
  ];
}

check('regions never overlap, hold all slots, and waste less than two slots', () => {
  const sizes = fc.oneof(
    fc.integer({ min: 2494464, max: 64 * MIB }),
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
    assert.ok(layout.slotPages * 31 >= layout.slots && layout.directoryPages * 508 >= layout.slotPages);
    assert.ok(layout.journalPages >= 64 && layout.journalPages <= 4096);
    const left = layout.copyOffset - layout.dataOffset - layout.slots * slotBytes;
    assert.ok(left < 2 * slotBytes + 64 * KIB, `${left} bytes are left over`);
  });
  fc.assert(property, { numRuns: 2000 });
});

// ---------------------------------------------------------------- what is not known is refused

/** A formatted disk on which both superblocks have been changed, with the right checksum. */
async function changedSuperblock(at: number, hex: string): Promise<SimDisk> {
  const disk = diskOf(2);
  await new SimStore(disk, 1).format();
  const { copyOffset } = computeLayout(disk.geometry.sizeBytes, SLOT);
  for (const offset of [0, copyOffset]) {
    const page = disk.peek(offset, 4096);
    page.set(Buffer.from(hex, 'hex'), at);
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
    [56, '05', /UNKNOWN_FEATURE.*incompatible feature 0, incompatible feature 2/],
    [63, '80', /UNKNOWN_FEATURE.*incompatible feature 63/],
    [64, '02', /UNKNOWN_FEATURE.*read-only-compatible feature 1/],
    [71, '40', /UNKNOWN_FEATURE.*read-only-compatible feature 62/],
    [108, '02', /UNKNOWN_FEATURE.*checksum is 2/],
    [112, '20', /UNKNOWN_FEATURE.*entry size is 32/],
    [101, '20', /UNKNOWN_FEATURE.*block size is 8192/],
    [116, '07', /UNKNOWN_FEATURE.*unknown state 7/],
    [120, '01', /UNKNOWN_FEATURE.*encrypted/],
    [296, '01', /UNKNOWN_FEATURE.*reserved byte 296/],
    [4095, '01', /UNKNOWN_FEATURE.*reserved byte 4092/],
    [200, '00000100', /NOT_FORMATTED.*dataOffset/],
  ];
  for (const [at, hex, message] of cases) {
    const disk = await changedSuperblock(at, hex);
    const store = new SimStore(disk, 2);
    assert.match(await refusalOf(store.settle(openStore(store.ports, { path: 'disk' }))), message);
  }
});

check('read-only-compatible features do not keep from reading, and compatible ones from nothing', async () => {
  const disk = await changedSuperblock(64, '02');
  const demand = (readOnly: boolean) => demandSuperblock(readerOf(disk), { path: 'disk' }, readOnly, () => {});
  assert.is((await demand(true)).superblock.readOnlyCompatible, 2);
  assert.match(await refusalOf(demand(false)), /read-only-compatible feature 1/);
  const other = await changedSuperblock(72, 'ffffffffffffffff');
  const store = new SimStore(other, 2);
  await store.open();
  await store.close();
});

check('fields that are reserved are refused unless they are zero', () => {
  const { layout } = SUPERBLOCK;
  const slots = (page: Uint8Array) => decodeSlots(page, 1, DEVICE, new SlotTable(40), () => 0);
  for (const at of [72, 127, 128 + 8, 128 + 8191, 128 + 10240 + 8, 16383]) {
    const root = sealAt(bytesOf(16384, [...ROOT_FIELDS, [at, '01']]), 4);
    assert.throws(() => decodeRoot(root, DEVICE, layout, crc32c), /reserved byte/, `root ${at}`);
  }
  for (const at of [32, 127, 128, 255])
    assert.throws(() => slots(bytesOf(4096, [...SLOT_FIELDS, [at, '01']])), /reserved/);
  // Snapshot epoch, references, block count, parent, fold, and the rest of an entry; flags and states that are not
  // known.
  for (const at of [24, 28, 36, 60, 64, 72, 80, 96, 127].map((field) => 256 + field)) {
    assert.throws(
      () => slots(bytesOf(4096, [...SLOT_FIELDS, [at, '02']])),
      /fields that this version/,
      `slot ${at - 256}`,
    );
  }
  assert.throws(() => slots(bytesOf(4096, [...SLOT_FIELDS, [256 + 35, '16']])), /fields that this version/);
  assert.throws(() => slots(bytesOf(4096, [...SLOT_FIELDS, [256 + 34, '02']])), /unknown state 2/);
  for (const at of [100, 159, 512 + 17, 512 + 20, 576 + 56, 640, 4095]) {
    assert.throws(
      () => decodeVolume(bytesOf(4096, [...VOLUME_FIELDS, [at, '01']]), 3, DEVICE),
      undefined,
      `volume ${at}`,
    );
  }
});

run();
