/**
 * The format byte by byte: what lies on a device is compared with bytes that are written down here by hand, field after
 * field, as `docs/disk-format.md` has them. A change that fails one of these tests is a new version of the format.
 */

import * as assert from 'uvu/assert';
import type { SlotIndex } from '#strake/core/ids.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { dumpDevice } from '#strake/store/checking/dump.js';
import { decodeDirectory, encodeDirectory } from '#strake/store/format/directory.js';
import { emptySectorChecksum } from '#strake/store/format/empty-sector.js';
import {
  computeFirstLayout,
  computeLayout,
  DIRECTORY_INDEX_MAGIC,
  DIRECTORY_MAGIC,
  VOLUME_DIRECTORY_MAGIC,
} from '#strake/store/format/format.js';
import { Batch } from '#strake/store/format/journal-batch.js';
import { absent } from '#strake/store/format/page.js';
import { decodeRoot, encodeRoot } from '#strake/store/format/root.js';
import { decodeSlots, encodeSlots } from '#strake/store/format/slot-page.js';
import {
  decodeSuperblock,
  encodeSuperblock,
  FEATURE_GROUPS,
  type Superblock,
} from '#strake/store/format/superblock.js';
import { SlotTable } from '#strake/store/running/slot-table.js';
import { check, run } from '../support/check.js';
import { readerOf } from '../support/damaged-store.js';
import { bytesOf, CLUSTER, DEVICE, definedCrc, POSITION, same, sealAt, VOLUME } from '../support/golden.js';
import { BLOCK, diskOf, SimStore } from '../support/sim-store.js';

const MIB = 1 << 20;
const GIB = 2 ** 30;

const SUPERBLOCK: Superblock = {
  sequence: 0x01_0203_0405,
  deviceId: DEVICE,
  clusterId: CLUSTER,
  label: 'shelf 7',
  incompatible: FEATURE_GROUPS,
  readOnlyCompatible: 0,
  compatible: 0,
  logicalBlockBytes: 512,
  physicalBlockBytes: 4096,
  atomicWriteBytes: 512,
  incarnation: 9,
  state: 1,
  formattedMs: 1_700_000_000_000,
  leaseMs: 2000,
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
  [56, '01'], // the feature groups
  [136, 'cf03000000000000'], // 975 slots
  [144, '0010000000000000'], // roots at 4096
  [152, '00b0000000000000'], // volumes at 45056, behind the one page of their directory
  [160, '00b0200000000000'], // directory at 2142208
  [168, '00d0200000000000'], // slot table at 2150400
  [176, '0090300000000000'], // block tables at 3182592
  [184, '0010180200000000'], // journal at 35131392
  [192, '840d000000000000'], // 3460 pages
  [200, '0000000300000000'], // data at 48 MiB
  [208, '00f0ff3f00000000'], // the second superblock
  [216, '0900000000000000'],
  [224, '0068e5cf8b010000'], // 1 700 000 000 000
  [232, '7368656c662037'],
  [296, '00010000 01000000 3c0f0000 01000000 00000000 d0070000'], // V, pages of a table, T, lanes, levels, lease
];

check('a superblock', () => {
  const wanted = sealAt(bytesOf(4096, SUPERBLOCK_FIELDS), 12);
  const page = new Uint8Array(4096);
  encodeSuperblock(SUPERBLOCK, page, crc32c);
  same(page, wanted);
  assert.equal(decodeSuperblock(wanted, crc32c), SUPERBLOCK);
});

check('a superblock of a device whose directory has an index', () => {
  const wanted = sealAt(
    bytesOf(4096, [
      ...SUPERBLOCK_FIELDS,
      [160, '00d0200000000000'], // directory at 2150400, behind the index
      [168, '00f0200000000000'], // slot table at 2158592
      [176, '00b0300000000000'], // block tables at 3190784
      [184, '0030180200000000'], // journal at 35139584
      [312, '01000000'], // levels
    ]),
    12,
  );
  const superblock = { ...SUPERBLOCK, layout: computeLayout(GIB, MIB, 1) };
  assert.is(superblock.layout.directoryIndexOffset, 2142208);
  const page = new Uint8Array(4096);
  encodeSuperblock(superblock, page, crc32c);
  same(page, wanted);
  assert.equal(decodeSuperblock(wanted, crc32c), superblock);
});

/** What a device has that was formatted before the feature: the layout of then, and nothing behind the label. */
const FIRST_FIELDS: readonly (readonly [number, string])[] = [
  ...SUPERBLOCK_FIELDS.filter(([at]) => at !== 56 && at !== 296),
  [136, 'e703000000000000'], // 999 slots
  [152, '0090000000000000'], // volumes at 36864
  [160, '0090200000000000'], // directory at 2134016
  [168, '00b0200000000000'], // slot table at 2142208
  [176, '00d0240000000000'], // block tables at 2412544
  [184, '00b0a10000000000'], // journal at 10596352
  [192, 'd80d000000000000'], // 3544 pages
  [200, '0000800100000000'], // data at 24 MiB
];

check('a superblock from before the feature groups, and one that has been migrated', () => {
  const layout = computeFirstLayout(GIB, MIB);
  for (const [incompatible, leaseMs, more] of [
    [0, 0, []],
    [
      FEATURE_GROUPS,
      7,
      [
        [56, '01'],
        [316, '07'],
      ],
    ],
  ] as const) {
    const wanted = sealAt(bytesOf(4096, [...FIRST_FIELDS, ...more]), 12);
    const superblock = { ...SUPERBLOCK, incompatible, leaseMs, layout };
    const page = new Uint8Array(4096);
    encodeSuperblock(superblock, page, crc32c);
    same(page, wanted);
    assert.equal(decodeSuperblock(wanted, crc32c), superblock);
  }
});

const ROOT_FIELDS: readonly (readonly [number, string])[] = [
  [0, '53525431'], // SRT1
  [8, '0700000000000000'], // sequence
  [16, DEVICE],
  [32, '0300000000000000 0900000000000000 0800000000000000'], // page and sequence of the journal, durable sequence
  [56, '0200000000000000'], // used slots
  [64, '01000000 02000000'], // pages of the directory, active slots
  [128, '44332211 03000000'], // directory page 0: checksum, present and in the second place
  [128 + 8192, 'ddccbbaa 01000000'], // page 0 of the volume directory
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
    at === 0 ? { present: true, place: 0, checksum: 0xaabbccdd } : absent(),
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
    [4, '03000000'],
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
  encodeDirectory(page, DIRECTORY_MAGIC, POSITION, references);
  same(page, wanted);
  const found = decodeDirectory(wanted, DIRECTORY_MAGIC, 3, DEVICE);
  assert.is(found.length, 508);
  assert.equal(found.slice(0, 3), references);
  // The pages that lead to volumes differ by their name alone.
  wanted.set(Buffer.from('SVD1'), 0);
  encodeDirectory(page, VOLUME_DIRECTORY_MAGIC, POSITION, references);
  same(page, wanted);
  assert.equal(decodeDirectory(wanted, VOLUME_DIRECTORY_MAGIC, 3, DEVICE), found);
  // And so do those that lead to pages of the directory.
  wanted.set(Buffer.from('SDX1'), 0);
  encodeDirectory(page, DIRECTORY_INDEX_MAGIC, POSITION, references);
  same(page, wanted);
  assert.equal(decodeDirectory(wanted, DIRECTORY_INDEX_MAGIC, 3, DEVICE), found);
});

/** Slot 32 is the second of page 1. */
const SLOT_FIELDS: readonly (readonly [number, string])[] = [
  [0, '53535431'], // SST1
  [4, '01000000'],
  [8, DEVICE],
  [24, '0700000000000000'],
  [256, VOLUME],
  [256 + 16, '0500000001000000'], // stripe 2^32 + 5
  [256 + 24, '01000000'], // epoch
  [256 + 32, '0200'], // place in the group
  [256 + 34, '01 06'], // used; a table, in the second place
  [256 + 36, '01000000'], // references
  [256 + 40, '0300000000000000 0400000000000000'], // generation, flush number
  [256 + 56, '78563412'], // checksum of the block table
  [256 + 62, '0301'], // group 258
];

check('a page of slots', () => {
  const table = new SlotTable(40, 1);
  table.assign(32 as SlotIndex, 0, 2 ** 32 + 5, 2);
  table.flags[32] = 6;
  table.generations[32] = 3;
  table.flushNumbers[32] = 4;
  table.tableChecksums[32] = 0x12345678;
  const page = new Uint8Array(4096);
  encodeSlots(page, { ...POSITION, index: 1 }, table, [{ volumeId: VOLUME, group: 259 }]);
  const wanted = bytesOf(4096, SLOT_FIELDS);
  same(page, wanted);
  const found = new SlotTable(40, 1);
  const ownerOf = (_words: Uint32Array, _word: number, group: number) => (group === 259 ? 0 : -1);
  decodeSlots(wanted, 1, found, { deviceId: DEVICE, groups: true, ownerOf });
  assert.is(found.find(0, 2 ** 32 + 5), 32);
  const numbers = [found.members, found.flags, found.generations, found.flushNumbers, found.tableChecksums];
  assert.equal(
    numbers.map((column) => column[32]),
    [2, 6, 3, 4, 0x12345678],
  );
});

check('an entry of a slot from before the feature groups names neither epoch nor group', () => {
  const first = bytesOf(
    4096,
    SLOT_FIELDS.filter(([at]) => at !== 256 + 24 && at !== 256 + 62),
  );
  for (const groups of [false, true]) {
    const found = new SlotTable(40, 1);
    decodeSlots(first, 1, found, {
      deviceId: DEVICE,
      groups,
      ownerOf: (_words, _word, group) => (group === 0 ? 0 : -1),
    });
    assert.is(found.find(0, 2 ** 32 + 5), 32);
  }
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

check('sectors of a batch that hold nothing are sealed as others are', () => {
  const sector = new Uint8Array(512);
  const view = new DataView(sector.buffer);
  for (const tag of [0, 1, 0x80, 0xff00, 0x7fff_ffff, 0x8000_0000, 0xdead_beef, 0xffff_ffff]) {
    view.setUint32(504, tag, true);
    assert.is(emptySectorChecksum(tag), definedCrc(sector.subarray(0, 508)), String(tag));
  }
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

check('fields that are reserved are refused unless they are zero', () => {
  const slots = (page: Uint8Array, groups = true) =>
    decodeSlots(page, 1, new SlotTable(40, 1), { deviceId: DEVICE, groups, ownerOf: () => 0 });
  for (const at of [72, 127, 128 + 8, 128 + 8191, 128 + 8192 + 8, 128 + 10239, 128 + 10240 + 8, 16383]) {
    const root = sealAt(bytesOf(16384, [...ROOT_FIELDS, [at, '01']]), 4);
    assert.throws(() => decodeRoot(root, DEVICE, SUPERBLOCK.layout, crc32c), /reserved byte/, `root ${at}`);
  }
  for (const at of [32, 127, 128, 255])
    assert.throws(() => slots(bytesOf(4096, [...SLOT_FIELDS, [at, '01']])), /reserved/);
  // Epoch, layer, references, own mask and places; flags and states that are not known.
  for (const at of [24, 28, 36, 60, 64, 72, 80, 96, 127].map((field) => 256 + field)) {
    assert.throws(
      () => slots(bytesOf(4096, [...SLOT_FIELDS, [at, '02']])),
      /fields that this version/,
      `slot ${at - 256}`,
    );
  }
  for (const flag of ['10', '20', '16']) {
    assert.throws(() => slots(bytesOf(4096, [...SLOT_FIELDS, [256 + 35, flag]])), /fields that this version/);
  }
  // Without the feature, neither an epoch nor a group.
  assert.throws(() => slots(bytesOf(4096, SLOT_FIELDS), false), /fields that this version/);
  const ungrouped = SLOT_FIELDS.filter(([at]) => at !== 256 + 62);
  assert.throws(() => slots(bytesOf(4096, ungrouped), false), /fields that this version/);
  assert.throws(() => slots(bytesOf(4096, [...SLOT_FIELDS, [256 + 34, '02']])), /unknown state 2/);
});

run();
