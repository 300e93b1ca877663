/**
 * What `fsck` finds, class by class. Damage that checksums tell is in `corruption.test.ts`; here the checksums are
 * right and what they cover is not, as a bug or an enemy would leave it.
 */

import * as assert from 'uvu/assert';
import { StrakeError } from '#strake/core/errors.js';
import { NO_FLUSH } from '#strake/layout/flush-id.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { dumpDevice } from '#strake/store/checking/dump.js';
import { checkDevice, type FsckReport } from '#strake/store/checking/fsck.js';
import type { Batch } from '#strake/store/format/journal-batch.js';
import type { AllocateRecord } from '#strake/store/format/journal-records.js';
import type { ImageReader } from '#strake/store/opening/image-reader.js';
import type { ProblemKind } from '#strake/store/opening/problems.js';
import { check, run } from '../support/check.js';
import {
  changeRoot,
  fsck,
  type KnownDevice,
  knownDevice,
  openAndRead,
  readerOf,
  resealTree,
} from '../support/damaged-store.js';
import { BLOCK, randomOf, SimStore, SLOT_BLOCKS } from '../support/sim-store.js';

function liveOf({ live }: KnownDevice, what: string): number {
  return live.find((range) => range.what === what)?.from ?? -1;
}

/** The one problem that a report has. */
function only(report: FsckReport): readonly [string, ProblemKind | undefined, string] {
  const [problem] = report.problems;
  if (report.problems.length > 1) throw new Error(JSON.stringify(report.problems));
  return [report.verdict, problem?.kind, problem?.text ?? ''];
}

/** Changes a page of a device that is closed, puts the checksums above it right, and checks what is found. */
async function changed(what: string, change: (view: DataView) => void): Promise<FsckReport> {
  const device = await knownDevice('closed');
  const { disk, layout } = device;
  const offset = liveOf(device, what);
  const page = disk.peek(offset, BLOCK);
  change(new DataView(page.buffer, page.byteOffset, BLOCK));
  disk.poke(offset, page);
  resealTree(disk, layout);
  return fsck(disk);
}

check('a device that is as it was left is clean, or recoverable after a crash', async () => {
  const closed = await fsck((await knownDevice('closed')).disk, true);
  assert.equal([closed.verdict, closed.crashed, closed.torn, closed.problems.length], ['clean', false, false, 0]);
  const { counts } = closed;
  assert.equal([counts.usedSlots, counts.volumes, counts.batches, counts.slotsInDoubt], [3, 1, 0, 0]);
  assert.equal([counts.validBlocks, counts.zeroBlocks, counts.checkedBlocks], [10, 2, 10]);
  const killed = await fsck((await knownDevice('killed')).disk, true);
  assert.equal([killed.verdict, killed.crashed, killed.torn, killed.problems.length], ['recoverable', true, false, 0]);
  assert.equal([killed.counts.validBlocks, killed.counts.zeroBlocks, killed.counts.slotsInDoubt], [10, 2, 3]);
  assert.ok(killed.counts.batches > 3 && killed.counts.records > killed.counts.batches);
  const { disk } = await knownDevice('closed');
  await new SimStore(disk, 1).open();
  disk.kill(randomOf(1));
  const opened = await fsck(disk, true);
  assert.equal([opened.verdict, opened.crashed, opened.counts.batches], ['recoverable', true, 0]);
});

check('progress is told for each slot in use', async () => {
  const seen: number[] = [];
  const { disk } = await knownDevice('closed');
  await checkDevice(readerOf(disk), { onProgress: (done, slots) => seen.push(done, slots) });
  assert.equal(seen, [1, 14, 2, 14, 4, 14]);
});

check('superblocks: one lost, one old, both lost, one of another device', async () => {
  const device = await knownDevice('closed');
  const { disk, layout } = device;
  const lost = disk.clone();
  lost.poke(0, new Uint8Array(BLOCK));
  assert.equal(only(await fsck(lost)), ['recoverable', 'superblock', 'the first superblock: it has no superblock']);
  lost.poke(layout.copyOffset, new Uint8Array(BLOCK));
  const gone = await fsck(lost);
  assert.match(only(gone)[2], /no superblock that can be used/);
  assert.equal([gone.verdict, gone.superblock], ['damaged', undefined]);
  const old = disk.clone();
  const store = new SimStore(old, 1);
  await store.open();
  const before = old.peek(layout.copyOffset, BLOCK);
  await store.close();
  old.poke(layout.copyOffset, before);
  assert.equal(only(await fsck(old)), ['recoverable', 'superblock', 'the second superblock is older than the other']);
});

check('a device that has become shorter or longer', async () => {
  const { disk, layout, expected } = await knownDevice('closed');
  const longer = await checkDevice(readerOf(disk.clone(), layout.sizeBytes), { data: true });
  assert.is(longer.verdict, 'clean');
  const grown: ImageReader = { ...readerOf(disk), sizeBytes: layout.sizeBytes + BLOCK };
  const [verdict, kind] = only(await checkDevice(grown));
  assert.equal([verdict, kind], ['recoverable', 'size']);
  // The second of the slots in use is cut off.
  const cut = await checkDevice(readerOf(disk, layout.dataOffset + layout.slotBytes), { data: true });
  assert.is(cut.verdict, 'damaged');
  assert.equal(
    [...new Set(cut.problems.map((problem) => problem.kind))],
    ['superblock', 'size', 'data'],
    JSON.stringify(cut.problems),
  );
  assert.ok(cut.counts.badBlocks > 0 && cut.counts.badBlocks < expected.size);
  const stub = await checkDevice(readerOf(disk, 1 << 20), { data: true });
  assert.equal([stub.verdict, stub.problems.at(-1)?.kind], ['damaged', 'size']);
});

check('counts, activity and roots that contradict', async () => {
  const device = await knownDevice('closed');
  const { layout } = device;
  const cases: readonly (readonly [(view: DataView) => void, string, ProblemKind, RegExp])[] = [
    [(view) => view.setUint32(56, 9, true), 'damaged', 'slots', /counts 9 used slots, the slot table has 3/],
    [
      (view) => {
        view.setUint32(68, 1, true);
        view.setUint32(128 + 8192 + 2048, 13, true);
      },
      'recoverable',
      'active',
      /names 1 slots that are free/,
    ],
    [
      (view) => {
        view.setUint32(68, 2, true);
      },
      'recoverable',
      'active',
      /1 slots twice/,
    ],
    [(view) => view.setUint32(8, view.getUint32(8, true) + 5, true), 'recoverable', 'root', /do not follow each other/],
  ];
  for (const [change, verdict, kind, text] of cases) {
    const disk = device.disk.clone();
    changeRoot(disk, layout, change);
    const found = only(await fsck(disk));
    assert.equal(found.slice(0, 2), [verdict, kind]);
    assert.match(found[2], text);
  }
});

check('two slots for one segment, slots of nobody, members that do not exist', async () => {
  const twice = await changed('slots', (view) => {
    for (let at = 0; at < 128; at += 4) view.setUint32(256 + at, view.getUint32(128 + at, true), true);
  });
  assert.match(twice.problems[0].text, /slot 1 holds a segment that is in another slot too/);
  assert.is(twice.verdict, 'damaged');
  const nobody = await changed('slots', (view) => view.setUint8(128, 0x77));
  assert.match(nobody.problems[0].text, /slot 0 belongs to group 0 of volume 77a.*, which is not here/);
  const member = await changed('slots', (view) => view.setUint16(128 + 32, 3, true));
  assert.match(only(member)[2], /slot 0 is member 3 of a volume with 1 copies/);
});

check('entries that no version writes', async () => {
  const cases: readonly (readonly [number, number, RegExp])[] = [
    [4, 1 | 2, /block 0 of slot 0: its entry has the impossible flags 3/],
    [4, 32, /impossible flags 32/],
    [4, 8, /impossible flags 8/],
    [4, 2, /it has a checksum, and no content/],
    [4, 0, /it was never written, and its entry is not empty/],
    [16 * SLOT_BLOCKS + 4, 1, /block 16 of slot 0: its entry is not empty, and the slot has no such block/],
    [4092, 1, /block 255 of slot 0/],
  ];
  for (const [at, value, text] of cases) {
    const change = (view: DataView) => {
      if (at === 4) view.setUint32(0, 99, true);
      view.setUint32(at, value, true);
    };
    const found = only(await changed('table', change));
    assert.equal(found.slice(0, 2), ['damaged', 'entry']);
    assert.match(found[2], text);
  }
});

check('volumes that contradict', async () => {
  const stranger = await changed('volume', (view) => view.setUint8(512, 0x11));
  assert.match(only(stranger)[2], /none of the members of its group 0 is this device/);
  const segments = await changed('volume', (view) => view.setUint32(92, 1 << 20, true));
  assert.match(only(segments)[2], /its segments have 1048576 bytes, and slots have 65536/);
  const doubled = await changed('volume', (view) => {
    view.setUint8(91, 2);
    for (let at = 512; at < 576; at += 1) view.setUint8(at + 64, view.getUint8(at));
  });
  assert.match(doubled.problems[0].text, /names device .* twice/);
});

/** Records in the journal that contradict the tree, in a batch that is sealed as it should be. */
async function journaled(change: (store: SimStore) => void): Promise<{ report: FsckReport; disk: SimDisk }> {
  const { disk } = await knownDevice('closed');
  const store = new SimStore(disk, 4);
  await store.open();
  change(store);
  await store.settle(store.flush());
  disk.kill(randomOf(1));
  return { report: await fsck(disk), disk };
}

function allocationOf(digit: string, stripe: number): AllocateRecord {
  return { slot: 9, volumeId: digit.repeat(32), member: 0, stripe, epoch: 1, group: 1 };
}

/** Adds a record, and sets a byte of it. */
function addWith(batch: Batch, add: (batch: Batch) => boolean, byte: number): void {
  const before = batch.bytes.slice();
  add(batch);
  const start = batch.bytes.findIndex((value, at) => value !== before[at]);
  batch.bytes[start + byte] = 0x11;
}

check('records that contradict the tree', async () => {
  const words = new Uint32Array(4);
  const cases: readonly (readonly [(store: SimStore) => void, RegExp])[] = [
    [({ opened }) => opened.store.journal.batch.addSlot(3, 9), /a record names slot 9, which is free/],
    [({ opened }) => opened.store.journal.batch.addSlot(4, 1000), /slot 1000, which is free or does not exist/],
    [({ opened }) => opened.store.journal.batch.addBlock(0, 16, words, 0, 0), /1 blocks from 16 on of slot 0/],
    [({ opened }) => opened.store.journal.batch.addZero(0, 15, 2, 1, 1), /2 blocks from 15 on of slot 0/],
    [({ opened }) => opened.store.journal.batch.addZero(0, 1, 0, 1, 1), /16 blocks from 1 on of slot 0/],
    [({ opened }) => opened.store.journal.batch.addZero(9, 0, 0, 1, 1), /names slot 9, which is free/],
    [({ opened }) => opened.store.journal.batch.addBlock(0, 2, words, 0, 5), /block 2 of slot 0 was zero before it/],
    [
      ({ opened }) => opened.store.journal.batch.addSettled(9, NO_FLUSH),
      /names page 9 of the volumes, which is empty or does not exist/,
    ],
    [({ opened }) => opened.store.journal.batch.addAllocate(allocationOf('a', 0)), /cannot have been given slot 9/],
    [({ opened }) => opened.store.journal.batch.addAllocate(allocationOf('e', 77)), /cannot have been given slot 9/],
    [
      ({ opened }) => {
        const { batch } = opened.store.journal;
        batch.view.setUint8(batch.reserve(8), 0x55);
      },
      /has 1 records, of which -1 can be read/,
    ],
    [
      ({ opened }) => {
        const { batch } = opened.store.journal;
        const at = batch.reserve(24);
        batch.view.setUint8(at, 5);
        batch.view.setUint32(at + 12, 0xffffffff, true);
      },
      /is beyond 2\^53/,
    ],
  ];
  for (const [change, text] of [...cases, ...reservedCases()]) {
    const { report, disk } = await journaled(change);
    const [verdict, kind, found] = only(report);
    assert.equal([verdict, kind], ['damaged', 'record']);
    assert.match(found, text);
    assert.is((await openAndRead(disk, new Map())).refused, 'ERR_STRAKE_DAMAGED');
  }
});

/** Records with what no version writes: a flag, an epoch, or a byte of which a feature that is not there has the meaning. */
function reservedCases(): (readonly [(store: SimStore) => void, RegExp])[] {
  const words = new Uint32Array(4);
  const mark = { generation: 1, flushNumber: 1 };
  const records: readonly (readonly [(batch: Batch) => boolean, readonly number[]])[] = [
    [(batch) => batch.addBlock(0, 0, words, 0, 1), [1]],
    [(batch) => batch.addAllocate(allocationOf('a', 9)), [1, 32, 36, 40, 41, 44, 55]],
    [(batch) => batch.addSlot(4, 1), [1, 2, 3]],
    [(batch) => batch.addStamp(1, 1, 1), [1, 3]],
    [(batch) => batch.addFlushed(0, mark), [1, 3]],
    [(batch) => batch.addPage(0, new Uint8Array(8), 0), [1]],
    [(batch) => batch.addSettled(0, mark), [1, 3]],
    [(batch) => batch.addZero(0, 0, 1, 1, 1), [1, 18, 23]],
  ];
  return records.flatMap(([add, reserved]) =>
    reserved.map((byte): readonly [(store: SimStore) => void, RegExp] => [
      ({ opened }) => addWith(opened.store.journal.batch, add, byte),
      /has 1 records, of which -1 can be read/,
    ]),
  );
}

/** A reader of a device of which one page cannot be read. */
function failingAt(disk: SimDisk, bad: number): ImageReader {
  const reader = readerOf(disk);
  return {
    ...reader,
    read: (offset, length) => {
      if (offset > bad || offset + length <= bad) return reader.read(offset, length);
      return Promise.reject(new StrakeError('IO', `reading ${length} bytes at ${offset} failed`, { errno: 5 }));
    },
  };
}

check('a device that cannot be read everywhere is checked where it can', async () => {
  const killed = await knownDevice('killed');
  const { batches } = (await fsck(killed.disk)).counts;
  const lastOfJournal = killed.layout.journalOffset + (killed.layout.journalPages - 1) * BLOCK;
  const one = await checkDevice(failingAt(killed.disk, lastOfJournal));
  assert.equal([one.problems.length, one.counts.batches], [1, batches], 'the rest of the journal is there');
  const device = await knownDevice('closed');
  for (const what of ['superblock', 'root', 'volume directory', 'volume', 'directory', 'slots', 'table'] as const) {
    const bad = liveOf(device, what);
    const failing = failingAt(device.disk, bad);
    const { verdict, problems } = await checkDevice(failing, { data: true });
    assert.is(verdict, 'damaged');
    const read = problems.filter(({ kind }) => kind === 'read');
    assert.equal([read.length, read[0].offset], [1, bad], what);
  }
});

check('a dump shows what is there, and goes through JSON unchanged', async () => {
  const { disk } = await knownDevice('killed');
  const reader = readerOf(disk);
  for (const request of [
    { what: 'superblock' },
    { what: 'root' },
    { what: 'volumes' },
    { what: 'slots', from: 0, to: 2 },
    { what: 'table', slot: 0 },
    { what: 'journal' },
  ] as const) {
    const dump = await dumpDevice(reader, request);
    assert.equal(JSON.parse(JSON.stringify(dump)), dump);
    assert.equal(dump.problems, []);
    const text = JSON.stringify(dump);
    assert.ok(text.length > 100 && !text.includes('"problem"'), text);
  }
  const { blocks } = (await dumpDevice(reader, { what: 'table', slot: 0 })) as unknown as {
    blocks: { block: number }[];
  };
  assert.equal(
    blocks.map(({ block }) => block),
    [0, 1, 2, 5, 9],
  );
  await dumpDevice(reader, { what: 'table', slot: 99 }).then(
    () => assert.unreachable(),
    (error: StrakeError) => assert.is(error.code, 'ERR_STRAKE_INVALID_ARGUMENT'),
  );
  disk.poke(0, new Uint8Array(BLOCK));
  disk.poke(disk.geometry.sizeBytes - BLOCK, new Uint8Array(BLOCK));
  assert.match(JSON.stringify(await dumpDevice(reader, { what: 'slots' })), /it has no superblock/);
});

run();
