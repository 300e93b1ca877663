/**
 * The journal: replay of a ring of sectors, and the records in what it finds.
 *
 * An input is the page and the sequence where replay begins, 4 bytes each, then the ring; what it lacks to `RING_PAGES` is
 * empty. What the parser passes on has to be what a plain second parser finds, which knows the lengths of records, what in
 * them is reserved, and nothing else.
 */

import { viewOf } from '#strake/layout/fields.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { computeLayout, type Layout, PAGE_BYTES, SEALED_BYTES } from '#strake/store/format/format.js';
import { Batch } from '#strake/store/format/journal-batch.js';
import {
  type FoundBatch,
  type JournalEnd,
  JournalReader,
  type RecordHandler,
  readRecords,
} from '#strake/store/format/journal-reader.js';
import { nextBatchPage, RECORD_FREE, RECORD_INTENT } from '#strake/store/format/journal-records.js';
import { DEVICE_ID, VOLUME_ID } from '../../support/sim-store.js';
import { interesting, putNumber } from '../mutate.js';
import { demand, type FuzzTarget } from '../target.js';

const HEADER_BYTES = 8;
const SECTOR = 512;
const SECTORS = PAGE_BYTES / SECTOR;
const RING_PAGES = 40;
/** Bytes of a record by type. A volume record has its length in it. */
const RECORD_BYTES: Readonly<Record<number, number>> = {
  1: 24,
  2: 56,
  3: 8,
  4: 8,
  5: 24,
  6: 8,
  7: 24,
  8: 8,
  9: 24,
  10: 24,
};
/** Bytes of a record by type that have to be zero: the first, and the one after the last. */
const RESERVED: Readonly<Record<number, readonly (readonly [number, number])[]>> = {
  2: [
    [1, 2],
    [36, 42],
    [44, 56],
  ],
  3: [[1, 4]],
  4: [[1, 4]],
  5: [[1, 4]],
  7: [[1, 4]],
  8: [[1, 2]],
  9: [[1, 4]],
  10: [
    [1, 2],
    [18, 24],
  ],
};

const LAYOUT: Layout = { ...computeLayout(4 << 20, 64 << 10), journalPages: RING_PAGES };

function fillBatch(batch: Batch, random: SimRandom, records: number): void {
  const words = new Uint32Array(4);
  for (let left = records; left > 0; left -= 1) {
    const slot = random.below(6);
    words.fill(random.next());
    switch (random.below(10)) {
      case 0:
        batch.addAllocate({
          slot,
          volumeId: VOLUME_ID,
          member: 0,
          stripe: random.below(100),
          epoch: random.below(2),
          group: random.below(9),
        });
        break;
      case 1:
        batch.addSlot(RECORD_FREE, slot);
        break;
      case 2:
        batch.addSlot(RECORD_INTENT, slot);
        break;
      case 3:
        batch.addStamp(slot, 1, random.below(1000));
        break;
      case 4:
        batch.addFlushed(slot, { generation: 1, flushNumber: random.below(1000) });
        break;
      case 5:
        batch.addVolume(random.below(256), new Uint8Array(PAGE_BYTES).fill(random.next()), random.below(10) * 416);
        break;
      case 6:
        batch.addPage(random.below(2 ** 16), new Uint8Array(PAGE_BYTES).fill(random.next()), random.below(10) * 416);
        break;
      case 7:
        batch.addSettled(slot, { generation: 1, flushNumber: random.below(1000) });
        break;
      case 8:
        batch.addZero(slot, random.below(16), random.below(16), random.next(), random.next());
        break;
      default:
        batch.addBlock(slot, random.below(16), words, 0, random.below(8));
    }
  }
}

/** A ring with batches of several sizes from `page` on, one after the other. */
function ringOf(seed: number, page: number, sizes: readonly number[]): Uint8Array {
  const random = new SimRandom(seed);
  const bytes = new Uint8Array(HEADER_BYTES + RING_PAGES * PAGE_BYTES);
  const view = viewOf(bytes);
  const sequence = 1 + random.below(1000);
  view.setUint32(0, page, true);
  view.setUint32(4, sequence, true);
  let at = page;
  sizes.forEach((records, index) => {
    const batch = new Batch(new Uint8Array(16 * PAGE_BYTES), 0);
    batch.begin(sequence + index);
    fillBatch(batch, random, records);
    const checksum = (from: number, length: number) => crc32c(batch.bytes, from, length);
    batch.seal(DEVICE_ID, 3, at, sequence + index - 1, checksum);
    bytes.set(batch.bytes.subarray(0, batch.pages * PAGE_BYTES), HEADER_BYTES + at * PAGE_BYTES);
    at = nextBatchPage(LAYOUT, at, batch.pages);
  });
  return bytes.slice(0, bytes.findLastIndex((byte) => byte !== 0) + 1 + SECTOR);
}

/** A ring of a few small batches, in which records have other types, lengths and numbers. */
function generate(random: SimRandom): Uint8Array {
  const sizes = Array.from({ length: 1 + random.below(4) }, () => 1 + random.below(80));
  const bytes = ringOf(random.next(), random.below(4), sizes);
  const view = viewOf(bytes);
  for (let left = 1 + random.below(4); left > 0; left -= 1) {
    // Records begin at multiples of 8, and so do numbers in them and in headers.
    const at = HEADER_BYTES + random.below((bytes.length - HEADER_BYTES) / 8 - 1) * 8;
    const what = random.below(4);
    if (what === 0) view.setUint16(at + 2, random.below(700), true);
    else if (what === 1) putNumber(bytes, at, random.pick([4, 8]), interesting(random), true);
    else bytes[at] = random.below(11);
  }
  if (random.chance(0.9)) reseal(bytes);
  return bytes;
}

function reseal(bytes: Uint8Array): void {
  const view = viewOf(bytes);
  for (let at = HEADER_BYTES; at + SECTOR <= bytes.length; at += SECTOR) {
    if (bytes.subarray(at, at + SECTOR).every((byte) => byte === 0)) continue;
    view.setUint32(at + SEALED_BYTES + 4, crc32c(bytes, at, SEALED_BYTES + 4), true);
  }
}

/** A record as either parser sees it. */
type Seen = string;

function collector(list: Seen[]): RecordHandler {
  return {
    block: (slot, block, words, flags) => list.push(`1 ${slot} ${block} ${flags} ${words.join(' ')}`),
    allocate: ({ slot, volumeId, member, stripe, epoch, group }) =>
      list.push(`2 ${slot} ${volumeId} ${member} ${stripe} ${epoch} ${group}`),
    free: (slot) => list.push(`3 ${slot}`),
    intent: (slot) => list.push(`4 ${slot}`),
    stamp: (slot, generation, flush) => list.push(`5 ${slot} ${generation} ${flush}`),
    flushed: (volume, mark) => list.push(`7 ${volume} ${mark.generation} ${mark.flushNumber}`),
    settled: (page, settled) => list.push(`9 ${page} ${settled.generation} ${settled.flushNumber}`),
    zero: (slot, block, count, words) => list.push(`10 ${slot} ${block} ${count} ${words.join(' ')}`),
    page: (index, offset, bytes) => list.push(`page ${index} ${offset} ${bytes.length} ${crc32c(bytes)}`),
  };
}

/** Whether a record has flags that nobody knows, or what is reserved is not zero. */
function isUnknown(bytes: Uint8Array, view: DataView, at: number): boolean {
  if (bytes[at] === 1 && bytes[at + 1] > 7) return true;
  if (bytes[at] === 2 && view.getUint32(at + 32, true) > 1) return true;
  return (RESERVED[bytes[at]] ?? []).some(([from, to]) =>
    bytes.subarray(at + from, at + to).some((byte) => byte !== 0),
  );
}

/** Types and slots of a batch's records, found with nothing but lengths and zeroes; undefined if one is none. */
function plainRecords({ bytes, pages }: FoundBatch): string[] | undefined {
  const view = viewOf(bytes);
  const list: string[] = [];
  for (let sector = 0; sector < pages * SECTORS; sector += 1) {
    const end = sector * SECTOR + SEALED_BYTES;
    let at = sector * SECTOR + (sector === 0 ? 72 : 0);
    while (at + 8 <= end && bytes[at] !== 0) {
      const type = bytes[at];
      const length =
        (RECORD_BYTES[type] ?? Number.POSITIVE_INFINITY) +
        (type === 6 || type === 8 ? view.getUint16(at + 2, true) : 0);
      if (at + length > end || isUnknown(bytes, view, at)) return undefined;
      const second = view.getUint32(at + 4, true);
      if (type === 6) list.push(`page ${bytes[at + 1]} ${second}`);
      else if (type === 8) list.push(`page ${second % 2 ** 16} ${second >>> 16}`);
      else list.push(`${type} ${second}`);
      at += length;
    }
  }
  return list;
}

function checkRecords(batch: FoundBatch): void {
  const plain = plainRecords(batch);
  const list: Seen[] = [];
  const count = orBeyond(() => readRecords(batch, collector(list), true));
  if (count === undefined) return;
  demand(count >= 0 === (plain !== undefined), `batch ${batch.sequence}: ${count} records, plainly ${plain?.length}`);
  if (plain === undefined) return;
  demand(count === plain.length && list.length === count, `${count} records, ${plain.length} plainly`);
  list.forEach((seen, index) => {
    demand(`${seen} `.startsWith(`${plain[index]} `), `${seen} is not ${plain[index]}`);
  });
}

/** What `read` returns; undefined if it meets a number beyond what the format has, the only thing that it may throw for. */
function orBeyond<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof RangeError && /is beyond 2\^5[23]$/.test(error.message)) return undefined;
    throw error;
  }
}

function checkEnd(end: JournalEnd, batches: readonly FoundBatch[], sequence: number): void {
  demand(end.page >= 0 && end.page < RING_PAGES, `the journal ends at page ${end.page}`);
  demand(Number.isSafeInteger(end.sequenceMax), `the highest sequence is ${end.sequenceMax}`);
  demand(end.sequenceMax >= sequence - 1 + batches.length, `after ${batches.length} batches: ${end.sequenceMax}`);
}

export const journal: FuzzTarget = {
  name: 'journal',
  covers: ['store'],
  bytesMax: HEADER_BYTES + RING_PAGES * PAGE_BYTES,
  corpus: () => [
    ringOf(1, 0, [3]),
    ringOf(2, 0, [10, 0, 60, 2]),
    ringOf(3, 3, [150, 30, 400]),
    ringOf(4, 0, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ringOf(5, 8, [700, 5]),
    new Uint8Array(HEADER_BYTES),
  ],
  generate,
  reseal,
  run: (bytes) => {
    const input = new Uint8Array(HEADER_BYTES + RING_PAGES * PAGE_BYTES);
    input.set(bytes);
    const view = viewOf(input);
    const page = view.getUint32(0, true) % RING_PAGES;
    const sequence = view.getUint32(4, true);
    const ring = input.slice(HEADER_BYTES);
    const before = Buffer.from(ring);
    const reader = new JournalReader(ring, LAYOUT, DEVICE_ID, (part) => crc32c(part));
    const batches: FoundBatch[] = [];
    const end = orBeyond(() => reader.replay(page, sequence, (batch) => batches.push(batch)));
    const taken = new Set<number>();
    batches.forEach((batch, index) => {
      demand(batch.sequence === sequence + index, `batch ${index} has sequence ${batch.sequence}`);
      demand(batch.bytes.length === batch.pages * PAGE_BYTES, `batch ${index} has ${batch.bytes.length} bytes`);
      for (let at = batch.page; at < batch.page + batch.pages; at += 1) {
        demand(at < RING_PAGES && !taken.has(at), `page ${at} is replayed twice, or does not exist`);
        taken.add(at);
      }
      checkRecords(batch);
    });
    if (end !== undefined) checkEnd(end, batches, sequence);
    demand(before.equals(ring), 'reading has changed what was read');
  },
};
