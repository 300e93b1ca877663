/**
 * Devices of version 1 with whole pages damaged, and with devices that fail while they are migrated: each is refused and left
 * alone, or migrated with nothing wrong, or it is migrated once the device works again. Flipped bits: `migration.test.ts`.
 */

import * as assert from 'uvu/assert';
import { StrakeError } from '#strake/core/errors.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import type { FaultOp } from '#strake/sim/disk/faults.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { dumpDevice } from '#strake/store/checking/dump.js';
import { type Layout, PAGE_BYTES, pageOffset, ROOT_BYTES } from '#strake/store/format/format.js';
import { decodeSuperblock } from '#strake/store/format/superblock.js';
import { check, repetitions, run } from '../support/check.js';
import { fsck, readerOf } from '../support/damaged-store.js';
import { randomOf } from '../support/sim-store.js';
import { checkPages, ENDS, firstDevices, type HeldSegments, heldOn, migrated } from '../support/version-1.js';

/** Of all damaged pages, one in so many is tried; likewise of operations that fail. */
const PAGES_ONE_IN = repetitions(1, 40);
const FAULTS_ONE_IN = repetitions(1, 16);
const SECTOR = 512;
const EIO = 5;
const EROFS = 30;

/** A page that opening may look at, and where the one of the other place lies. */
interface Page {
  readonly what: string;
  readonly offset: number;
  readonly other: number;
}

function layoutOf(disk: SimDisk): Layout {
  return decodeSuperblock(disk.peek(0, PAGE_BYTES), crc32c).layout;
}

/** The metadata of a device, but for batches of the journal that nobody was promised: a crash may leave those in any way. */
async function pagesOf(disk: SimDisk): Promise<Page[]> {
  const layout = layoutOf(disk);
  const pages: Page[] = [
    { what: 'superblock', offset: 0, other: layout.copyOffset },
    { what: 'superblock', offset: layout.copyOffset, other: 0 },
  ];
  for (let at = 0; at < 2 * ROOT_BYTES; at += PAGE_BYTES) {
    const other = layout.rootOffset + ((at + ROOT_BYTES) % (2 * ROOT_BYTES));
    pages.push({ what: 'root', offset: layout.rootOffset + at, other });
  }
  const both = (what: string, region: number, index: number) => {
    const [first, second] = [0, 1].map((place) => pageOffset(region, index, place));
    pages.push({ what, offset: first, other: second }, { what, offset: second, other: first });
  };
  for (let index = 0; index < 4; index += 1) both('volume', layout.volumesOffset, index);
  for (let index = 0; index < layout.directoryPages; index += 1) both('directory', layout.directoryOffset, index);
  for (let index = 0; index < Math.min(2, layout.slotPages); index += 1) both('slots', layout.slotTableOffset, index);
  const dump = async (what: 'slots' | 'journal') => (await dumpDevice(readerOf(disk), { what })) as unknown;
  const { slots } = (await dump('slots')) as { slots: { slot: number; table: object | null }[] };
  for (const { slot, table } of slots) if (table !== null) both('table', layout.blockTableOffset, slot);
  const { batches } = (await dump('journal')) as {
    batches: { offset: number; pages: number; sequence: number; durableSequence: number }[];
  };
  const durable = batches.at(-1)?.durableSequence ?? 0;
  for (const { offset, pages: count, sequence } of batches) {
    if (sequence > durable) continue;
    for (let page = 0; page < count; page += 1) {
      const at = offset + page * PAGE_BYTES;
      pages.push({ what: 'journal', offset: at, other: at + PAGE_BYTES });
    }
  }
  return pages;
}

type Damage = (disk: SimDisk, page: Page, pages: readonly Page[], random: SimRandom) => void;

/** Sectors of the page of the other place in front, behind or in between. */
function mixed(disk: SimDisk, { offset, other }: Page, from: number, to: number): void {
  disk.poke(offset + from * SECTOR, disk.peek(other + from * SECTOR, (to - from) * SECTOR));
}

const DAMAGES: Readonly<Record<string, Damage>> = {
  zeroed: (disk, { offset }) => disk.poke(offset, new Uint8Array(PAGE_BYTES)),
  'zeroed behind': (disk, { offset }, _pages, random) => {
    const from = 1 + random.below(7);
    disk.poke(offset + from * SECTOR, new Uint8Array(PAGE_BYTES - from * SECTOR));
  },
  'an older page': (disk, page) => mixed(disk, page, 0, 8),
  'torn in front': (disk, page, _pages, random) => mixed(disk, page, 0, 1 + random.below(7)),
  'torn behind': (disk, page, _pages, random) => mixed(disk, page, 1 + random.below(7), 8),
  'torn within': (disk, page, _pages, random) => mixed(disk, page, 3, 4 + random.below(4)),
  'another page': (disk, { offset }, pages, random) =>
    disk.poke(offset, disk.peek(random.pick(pages).offset, PAGE_BYTES)),
  swapped: (disk, { offset }, pages, random) => {
    const other = random.pick(pages).offset;
    const kept = disk.peek(offset, PAGE_BYTES);
    disk.poke(offset, disk.peek(other, PAGE_BYTES));
    disk.poke(other, kept);
  },
};

function digestOf(disk: SimDisk): number {
  return crc32c(disk.peek(0, disk.geometry.sizeBytes));
}

/** Migrates a disk. Returns the code with which it was refused, or nothing; throws what is no `StrakeError`. */
async function tryMigrate(disk: SimDisk, seed: number): Promise<string> {
  try {
    await migrated(disk, seed);
    return '';
  } catch (error) {
    if (!(error instanceof StrakeError)) throw error;
    return error.code;
  }
}

for (const end of ENDS) {
  check(`a device of version 1 with a damaged page is refused and left alone, or migrated, ${end}`, [], async () => {
    const counts: Record<string, number> = { refused: 0, migrated: 0, less: 0 };
    for (const [number, { disk: original, held, pages: volumes }] of firstDevices(end).entries()) {
      const pages = await pagesOf(original);
      const random = new SimRandom(31, number);
      const { blockTableOffset, journalOffset } = layoutOf(original);
      for (const [name, damage] of Object.entries(DAMAGES)) {
        for (const page of pages) {
          if (random.below(PAGES_ONE_IN) > 0) continue;
          const disk = original.clone();
          damage(disk, page, pages, random);
          const before = digestOf(disk);
          if (before === digestOf(original)) continue;
          const what = `device ${number + 1}, ${end}: ${page.what} at ${page.offset}: ${name}`;
          const refused = await tryMigrate(disk, number + 1);
          if (refused !== '') {
            counts.refused += 1;
            assert.match(refused, /^ERR_STRAKE_(DAMAGED|NOT_FORMATTED|UNKNOWN_FEATURE)$/, what);
            assert.is(digestOf(disk), before, what);
            continue;
          }
          const now = await heldOn(disk);
          const inTables = page.offset >= blockTableOffset && page.offset < journalOffset;
          const touched = inTables || ['another page', 'swapped'].includes(name);
          if (now.sha256 === held.sha256) counts.migrated += 1;
          else counts.less += 1;
          // The table of one slot is all that a device can lose and still open: its blocks are poison then.
          if (now.sha256 !== held.sha256) assert.ok(touched && poisonAlone(now, held), what);
          assert.is(now.segments, held.segments, what);
          await checkPages(disk, volumes);
        }
      }
    }
    console.log(end, JSON.stringify(counts));
    assert.ok(counts.refused > 0 && counts.migrated > 0);
  });
}

/** What is lost is poison: as many segments, and no fewer entries. */
function poisonAlone(now: HeldSegments, held: HeldSegments): boolean {
  return now.segments === held.segments && now.blocks >= held.blocks;
}

check('a device of version 1 that has become shorter is refused and left alone', [], async () => {
  for (const end of ENDS) {
    for (const { disk } of firstDevices(end).slice(0, repetitions(4, 1))) {
      const { copyOffset, dataOffset, journalOffset, blockTableOffset, volumesOffset, rootOffset } = layoutOf(disk);
      const cuts = [
        copyOffset,
        dataOffset + 65_536,
        dataOffset,
        journalOffset,
        blockTableOffset,
        volumesOffset,
        rootOffset,
      ];
      for (const sizeBytes of cuts.flatMap((cut) => [cut, cut + SECTOR])) {
        const short = new SimDisk({ sizeBytes });
        for (let at = 0; at < sizeBytes; at += SECTOR) {
          const bytes = disk.peek(at, SECTOR);
          if (bytes.some((byte) => byte !== 0)) short.poke(at, bytes);
        }
        const before = digestOf(short);
        assert.is(await tryMigrate(short, 1), 'ERR_STRAKE_DAMAGED', `${end}, ${sizeBytes} bytes`);
        assert.is(digestOf(short), before);
      }
    }
  }
});

/** What fails: one operation, or all from it on. */
const FAILURES: readonly {
  readonly what: string;
  readonly ops: readonly FaultOp[];
  readonly errno: number;
  readonly once: boolean;
}[] = [
  { what: 'a write fails', ops: ['write'], errno: EIO, once: true },
  { what: 'a sync fails', ops: ['sync'], errno: EIO, once: true },
  { what: 'a read fails', ops: ['read'], errno: EIO, once: true },
  { what: 'every read fails', ops: ['read'], errno: EIO, once: false },
  {
    what: 'every write fails, as if it had become read-only,',
    ops: ['write', 'sync', 'zero', 'discard'],
    errno: EROFS,
    once: false,
  },
];

for (const { what: kind, ops, errno, once } of FAILURES) {
  check(`a device of version 1 on which ${kind} is migrated the next time`, [], async () => {
    const counts = { failed: 0, opened: 0 };
    for (const end of ENDS) {
      for (const [number, { disk: original, held }] of firstDevices(end).entries()) {
        const { dataOffset } = layoutOf(original);
        const random = new SimRandom(41, number);
        for (let skip = 0, acted = true; acted; skip += 1) {
          if (random.below(FAULTS_ONE_IN) > 0) continue;
          const disk = original.clone();
          const before = digestOf(disk);
          // Blocks that cannot be read are unreadable from then on: that is not of the migration.
          const range = ops[0] === 'read' ? { start: 0, end: dataOffset } : {};
          const count = once ? { count: 1 } : {};
          disk.faults.add({ ops, skip, ...range, ...count, action: { kind: 'error', errno } });
          const code = await tryMigrate(disk, skip + 1);
          acted = disk.faults.acted > 0;
          disk.faults.clear();
          const what = `device ${number + 1}, ${end}, ${skip} pass: ${code}`;
          if (code !== '') {
            counts.failed += 1;
            assert.match(code, /^ERR_STRAKE_(IO|DAMAGED)$/, what);
            if (ops[0] === 'read') assert.is(digestOf(disk), before, what);
          } else counts.opened += 1;
          for (const crash of ['kill', 'powerCut'] as const) {
            const copy = disk.clone();
            copy[crash](randomOf(skip));
            assert.is(await tryMigrate(copy, skip + 2), '', what);
            assert.equal(await heldOn(copy), held, what);
          }
        }
      }
    }
    console.log(JSON.stringify(counts));
    assert.ok(counts.failed > 0);
  });
}

check('what fails is told by fsck of the device as it was, in its old form', [], async () => {
  const [{ disk }] = firstDevices('closed');
  disk.faults.add({ ops: ['write'], skip: 2, action: { kind: 'error', errno: EROFS } });
  assert.is(await tryMigrate(disk, 1), 'ERR_STRAKE_IO');
  disk.faults.clear();
  disk.kill(randomOf(1));
  const { verdict, superblock, problems } = await fsck(disk, true);
  // Both superblocks have the feature, and all pages are as they were.
  assert.equal([verdict, superblock?.incompatible], ['recoverable', 1], JSON.stringify(problems));
});

run();
