/**
 * The journal: batches of records, written one after another around a ring of pages.
 *
 * ```text
 *   batch    1 to 16 pages, each of 8 sectors
 *   sector   504 bytes of payload │ tag: sequence of the batch, 24 bits; number of the sector in it, 8 bits │ CRC32C of the rest
 *   payload  of the first sector: header, records; of the others: records. No record crosses a sector; type 0 ends a sector.
 * ```
 *
 * Every sector that the journal ever wrote is sealed, and the device writes whole sectors. So a power cut in the middle of a
 * batch leaves sectors that are sealed, some by an older batch: a *torn* tail, which was never promised to anybody. A sector
 * that is not sealed can only have been changed afterwards: that is *damage*, and so is a batch that is missing although a
 * later one says that it was durable.
 *
 * When fewer than `BATCH_PAGES_MAX` pages are left before the end of the ring, the next batch begins at its start.
 */

import { SECTOR_BYTES } from '../../core/limits.js';
import type { FlushId } from '../../layout/flush-id.js';
import {
  BATCH_HEADER_BYTES,
  BATCH_PAGES_MAX,
  getCounter,
  getId,
  getUint64,
  JOURNAL_MAGIC,
  type Layout,
  PAGE_BYTES,
  putId,
  putUint64,
  SEALED_BYTES,
  viewOf,
} from './format.js';
import type { Checksum } from './superblock.js';

/** The entry of one block. */
export const RECORD_BLOCK = 1;
/** A slot is given to a segment. */
export const RECORD_ALLOCATE = 2;
/** A slot is taken back. */
export const RECORD_FREE = 3;
/** A slot may be written to from now on: it enters the activity log. */
export const RECORD_INTENT = 4;
/** Generation and flush number of a segment's last modification. */
export const RECORD_STAMP = 5;
/** A part of a volume page. */
export const RECORD_VOLUME = 6;
/** This flush of a volume has begun; what it has to make durable stands before. */
export const RECORD_FLUSHED = 7;

/** The block had no content before: it is valid only if its content matches, until a flush has covered it. */
export const RECORD_FLAG_FIRST = 1;
/** With the former: the block was poison before, and stays so if its content does not match. */
export const RECORD_FLAG_POISON = 2;

export const BLOCK_RECORD_BYTES = 24;
export const ALLOCATE_RECORD_BYTES = 56;
export const FREE_RECORD_BYTES = 8;
export const INTENT_RECORD_BYTES = 8;
export const STAMP_RECORD_BYTES = 24;
export const FLUSHED_RECORD_BYTES = 24;
/** Bytes of a volume page in one record, so that a page takes ten of them. */
export const VOLUME_CHUNK_BYTES = 416;
const VOLUME_RECORD_HEADER_BYTES = 8;
/** By type; of a volume record its header. The entry at 0 is never used: that type ends a sector. */
const RECORD_BYTES: readonly number[] = [
  0,
  BLOCK_RECORD_BYTES,
  ALLOCATE_RECORD_BYTES,
  FREE_RECORD_BYTES,
  INTENT_RECORD_BYTES,
  STAMP_RECORD_BYTES,
  VOLUME_RECORD_HEADER_BYTES,
  FLUSHED_RECORD_BYTES,
];

const SECTORS = PAGE_BYTES / SECTOR_BYTES;
/** The fewest records of blocks that a page holds. */
export const PAGE_BLOCK_RECORDS = Math.floor((SEALED_BYTES - BATCH_HEADER_BYTES) / BLOCK_RECORD_BYTES) + 7 * 21;

/** A batch while it is filled, in memory from which it will be written. */
export class Batch {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Where it lies in the arena. */
  readonly memory: number;
  sequence = 0;
  records = 0;
  /** Free byte in the current sector, and end of what a record may use there. */
  private at = 0;
  private limit = 0;
  private sector = BATCH_PAGES_MAX * SECTORS - 1;

  constructor(bytes: Uint8Array, memory: number) {
    this.bytes = bytes;
    this.view = viewOf(bytes);
    this.memory = memory;
  }

  begin(sequence: number): void {
    // What lies behind is still zero from the time before.
    this.bytes.fill(0, 0, this.pages * PAGE_BYTES);
    this.sequence = sequence;
    this.records = 0;
    this.sector = 0;
    this.at = BATCH_HEADER_BYTES;
    this.limit = SEALED_BYTES;
  }

  get pages(): number {
    return Math.floor(this.sector / SECTORS) + 1;
  }

  /** Sectors that hold nothing yet. */
  get sectorsLeft(): number {
    return BATCH_PAGES_MAX * SECTORS - this.sector - 1;
  }

  /** Room for a record. Returns where to put it, or -1 if the batch is full. */
  reserve(bytes: number): number {
    if (this.at + bytes > this.limit) {
      if (this.sector + 1 === BATCH_PAGES_MAX * SECTORS) return -1;
      this.sector += 1;
      this.at = this.sector * SECTOR_BYTES;
      this.limit = this.at + SEALED_BYTES;
    }
    const at = this.at;
    this.at += bytes;
    this.records += 1;
    return at;
  }

  addBlock(slot: number, block: number, words: Uint32Array, word: number, flags: number): boolean {
    const at = this.reserve(BLOCK_RECORD_BYTES);
    if (at < 0) return false;
    const { view } = this;
    view.setUint8(at, RECORD_BLOCK);
    view.setUint8(at + 1, flags);
    view.setUint16(at + 2, block, true);
    view.setUint32(at + 4, slot, true);
    for (let index = 0; index < 4; index += 1) view.setUint32(at + 8 + 4 * index, words[word + index], true);
    return true;
  }

  addAllocate(slot: number, volumeId: string, member: number, stripe: number): boolean {
    const at = this.reserve(ALLOCATE_RECORD_BYTES);
    if (at < 0) return false;
    this.view.setUint8(at, RECORD_ALLOCATE);
    this.view.setUint16(at + 2, member, true);
    this.view.setUint32(at + 4, slot, true);
    putId(this.view, at + 8, volumeId);
    putUint64(this.view, at + 24, stripe);
    return true;
  }

  /** A record that names only a slot. */
  addSlot(type: typeof RECORD_FREE | typeof RECORD_INTENT, slot: number): boolean {
    const at = this.reserve(INTENT_RECORD_BYTES);
    if (at < 0) return false;
    this.view.setUint8(at, type);
    this.view.setUint32(at + 4, slot, true);
    return true;
  }

  addStamp(slot: number, generation: number, flushNumber: number): boolean {
    const at = this.reserve(STAMP_RECORD_BYTES);
    if (at < 0) return false;
    this.view.setUint8(at, RECORD_STAMP);
    this.view.setUint32(at + 4, slot, true);
    putUint64(this.view, at + 8, generation);
    putUint64(this.view, at + 16, flushNumber);
    return true;
  }

  addFlushed(volume: number, { generation, flushNumber }: FlushId): boolean {
    const at = this.reserve(FLUSHED_RECORD_BYTES);
    if (at < 0) return false;
    this.view.setUint8(at, RECORD_FLUSHED);
    this.view.setUint32(at + 4, volume, true);
    putUint64(this.view, at + 8, generation);
    putUint64(this.view, at + 16, flushNumber);
    return true;
  }

  /** One part of a volume page, from `offset` on. */
  addVolume(index: number, page: Uint8Array, offset: number): boolean {
    const length = Math.min(VOLUME_CHUNK_BYTES, page.length - offset);
    const at = this.reserve(VOLUME_RECORD_HEADER_BYTES + length);
    if (at < 0) return false;
    this.view.setUint8(at, RECORD_VOLUME);
    this.view.setUint8(at + 1, index);
    this.view.setUint16(at + 2, length, true);
    this.view.setUint32(at + 4, offset, true);
    this.bytes.set(page.subarray(offset, offset + length), at + VOLUME_RECORD_HEADER_BYTES);
    return true;
  }

  /** Completes header and seals. `durableSequence`: the batch up to which everything is known to be durable. */
  seal(
    deviceId: string,
    incarnation: number,
    page: number,
    durableSequence: number,
    checksum: (from: number, bytes: number) => number,
  ): void {
    const { view, sequence } = this;
    view.setUint32(0, JOURNAL_MAGIC, true);
    view.setUint32(4, this.pages, true);
    putUint64(view, 8, sequence);
    putId(view, 16, deviceId);
    putUint64(view, 32, incarnation);
    view.setUint32(40, page, true);
    view.setUint32(44, this.records, true);
    putUint64(view, 48, durableSequence);
    for (let sector = 0; sector < this.pages * SECTORS; sector += 1) {
      const start = sector * SECTOR_BYTES;
      view.setUint32(start + SEALED_BYTES, tagOf(sequence, sector), true);
      view.setUint32(start + SEALED_BYTES + 4, checksum(start, SEALED_BYTES + 4), true);
    }
  }
}

function tagOf(sequence: number, sector: number): number {
  return ((sequence % 2 ** 24) * 256 + sector) >>> 0;
}

/** The page at which the batch after one of `pages` pages at `page` begins. */
export function nextBatchPage(layout: Layout, page: number, pages: number): number {
  const next = page + pages;
  return next + BATCH_PAGES_MAX > layout.journalPages ? 0 : next;
}

/** A batch as it was found. */
export interface FoundBatch {
  readonly sequence: number;
  readonly page: number;
  readonly pages: number;
  readonly incarnation: number;
  readonly durableSequence: number;
  readonly records: number;
  readonly bytes: Uint8Array;
}

/** How the journal ends. */
export interface JournalEnd {
  /** Where the next batch would have been. */
  readonly page: number;
  /** The highest sequence of any batch that is there, or was begun. */
  readonly sequenceMax: number;
  /** Something of an unfinished batch is there. */
  readonly torn: boolean;
  /** Why the journal cannot be believed; empty if it can. */
  readonly damage: string;
  /** Sectors outside of what is replayed that are not sealed: harmless, and still not as they were written. */
  readonly strayDamage: number;
  /** Pages outside of what is replayed in which sectors are not sealed. */
  readonly damagedPages: readonly number[];
}

const SECTOR_OLD = -1;
const SECTOR_DAMAGED = -2;

/** The whole ring in memory, for replay and for `dump`. */
export class JournalReader {
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly layout: Layout;
  private readonly deviceId: string;
  /** For each sector its tag, or `SECTOR_*`. */
  private readonly tags: Float64Array;

  /** `bytes` is the whole journal. */
  constructor(bytes: Uint8Array, layout: Layout, deviceId: string, checksum: Checksum) {
    this.bytes = bytes;
    this.view = viewOf(bytes);
    this.layout = layout;
    this.deviceId = deviceId;
    this.tags = new Float64Array(bytes.length / SECTOR_BYTES);
    for (let sector = 0; sector < this.tags.length; sector += 1) this.tags[sector] = this.tagAt(sector, checksum);
  }

  private tagAt(sector: number, checksum: Checksum): number {
    const start = sector * SECTOR_BYTES;
    const seal = this.view.getUint32(start + SEALED_BYTES + 4, true);
    const tag = this.view.getUint32(start + SEALED_BYTES, true);
    if (seal === 0 && tag === 0 && this.isZero(start)) return SECTOR_OLD;
    const actual = checksum(this.bytes.subarray(start, start + SEALED_BYTES + 4));
    return actual === seal ? tag : SECTOR_DAMAGED;
  }

  private isZero(start: number): boolean {
    for (let at = start; at < start + SECTOR_BYTES; at += 4) if (this.view.getUint32(at, true) !== 0) return false;
    return true;
  }

  /** The header at a page, if a sealed one is there. */
  private headerAt(page: number): Omit<FoundBatch, 'bytes'> | undefined {
    if (this.tags[page * SECTORS] < 0) return undefined;
    const at = page * PAGE_BYTES;
    const { view } = this;
    if (view.getUint32(at, true) !== JOURNAL_MAGIC || getId(view, at + 16) !== this.deviceId) return undefined;
    const pages = view.getUint32(at + 4, true);
    const sequence = getCounter(view, at + 8);
    const valid = view.getUint32(at + 40, true) === page && pages >= 1 && pages <= BATCH_PAGES_MAX;
    if (!valid || this.tags[page * SECTORS] !== tagOf(sequence, 0)) return undefined;
    return {
      sequence,
      page,
      pages,
      incarnation: getUint64(view, at + 32),
      durableSequence: getUint64(view, at + 48),
      records: view.getUint32(at + 44, true),
    };
  }

  /** Sectors of a batch that are not as it was written: how many are older, how many are damaged. */
  private holes(header: Omit<FoundBatch, 'bytes'>): { old: number; damaged: number } {
    let old = 0;
    let damaged = 0;
    for (let index = 0; index < header.pages * SECTORS; index += 1) {
      const tag = this.tags[header.page * SECTORS + index];
      if (tag === SECTOR_DAMAGED) damaged += 1;
      else if (tag !== tagOf(header.sequence, index)) old += 1;
    }
    return { old, damaged };
  }

  /** Passes whole batches to `each`, in order, from `page` on, and tells how that ended. */
  replay(page: number, sequence: number, each: (batch: FoundBatch) => void): JournalEnd {
    const seen = new Set<number>();
    let at = page;
    let expected = sequence;
    let damage = '';
    for (;;) {
      const header = at + 1 <= this.layout.journalPages ? this.headerAt(at) : undefined;
      if (header === undefined || header.sequence !== expected || at + header.pages > this.layout.journalPages) {
        if (this.tags[at * SECTORS] === SECTOR_DAMAGED) damage = `the header at page ${at} is damaged`;
        break;
      }
      const { old, damaged } = this.holes(header);
      if (damaged > 0) damage = `${damaged} sectors of batch ${expected} at page ${at} are damaged`;
      if (old > 0 || damaged > 0) break;
      each({ ...header, bytes: this.bytes.subarray(at * PAGE_BYTES, (at + header.pages) * PAGE_BYTES) });
      for (let index = 0; index < header.pages; index += 1) seen.add(at + index);
      expected += 1;
      at = nextBatchPage(this.layout, at, header.pages);
    }
    return this.judge(at, expected, damage, seen);
  }

  private judge(page: number, expected: number, damage: string, seen: ReadonlySet<number>): JournalEnd {
    let last = expected - 1;
    let verdict = damage;
    const pages = Array.from({ length: this.layout.journalPages }, (_, at) => at).filter((at) => !seen.has(at));
    for (const at of pages) {
      const header = this.headerAt(at);
      if (header === undefined || header.sequence < expected) continue;
      last = Math.max(last, header.sequence);
      if (header.durableSequence >= expected && verdict === '') {
        verdict = `batch ${expected} is missing, although batch ${header.sequence} says that it was durable`;
      }
    }
    let sequenceMax = last;
    let strayDamage = 0;
    const damagedPages: number[] = [];
    for (const at of pages) {
      const tags = this.tags.subarray(at * SECTORS, (at + 1) * SECTORS);
      if (tags.includes(SECTOR_DAMAGED)) damagedPages.push(at);
      for (const tag of tags) {
        if (tag === SECTOR_DAMAGED) strayDamage += 1;
        else if (tag !== SECTOR_OLD) sequenceMax = Math.max(sequenceMax, this.sequenceNear(tag, last));
      }
    }
    const torn = sequenceMax >= expected;
    // What cannot be read now may be a part of any batch that was not durable.
    if (strayDamage > 0) sequenceMax += this.layout.journalPages;
    return { page, sequenceMax, torn, damage: verdict, strayDamage, damagedPages };
  }

  /**
   * The sequence of a sector that lies outside of what is replayed, of which the tag has 24 bits; `last` if it is older
   * than that. Of a batch that was not durable any sector may be what is left: taken for a part of a later batch of the same
   * number and place that was cut off there, it would make that one look whole. Such batches fit in the ring, so a number
   * that lies further on is that of a sector left alone for a very long time.
   */
  private sequenceNear(tag: number, last: number): number {
    const ahead = (Math.floor(tag / 256) - (last % 2 ** 24) + 2 ** 24) % 2 ** 24;
    return ahead <= this.layout.journalPages ? last + ahead : last;
  }
}

/** What replaying meets in a batch. Slots and blocks are as they were written: the receiver checks them. */
export interface RecordHandler {
  /** `flags`: `RECORD_FLAG_*`. */
  block(slot: number, block: number, words: Uint32Array, flags: number): void;
  allocate(slot: number, volumeId: string, member: number, stripe: number): void;
  free(slot: number): void;
  intent(slot: number): void;
  stamp(slot: number, generation: number, flushNumber: number): void;
  volume(index: number, offset: number, bytes: Uint8Array): void;
  flushed(volume: number, mark: FlushId): void;
}

/**
 * Passes the records of a batch to a handler. Returns how many there were, or -1 if one has an unknown type or does not end
 * within its sector.
 */
export function readRecords(batch: FoundBatch, handler: RecordHandler): number {
  const view = viewOf(batch.bytes);
  const words = new Uint32Array(4);
  let count = 0;
  for (let sector = 0; sector < batch.pages * SECTORS; sector += 1) {
    const end = sector * SECTOR_BYTES + SEALED_BYTES;
    let at = sector * SECTOR_BYTES + (sector === 0 ? BATCH_HEADER_BYTES : 0);
    while (at + INTENT_RECORD_BYTES <= end) {
      const type = view.getUint8(at);
      if (type === 0) break;
      if (type >= RECORD_BYTES.length || at + RECORD_BYTES[type] > end) return -1;
      const slot = view.getUint32(at + 4, true);
      count += 1;
      switch (type) {
        case RECORD_BLOCK: {
          for (let index = 0; index < 4; index += 1) words[index] = view.getUint32(at + 8 + 4 * index, true);
          handler.block(slot, view.getUint16(at + 2, true), words, view.getUint8(at + 1));
          at += BLOCK_RECORD_BYTES;
          break;
        }
        case RECORD_ALLOCATE:
          handler.allocate(slot, getId(view, at + 8), view.getUint16(at + 2, true), getUint64(view, at + 24));
          at += ALLOCATE_RECORD_BYTES;
          break;
        case RECORD_FREE:
          handler.free(slot);
          at += FREE_RECORD_BYTES;
          break;
        case RECORD_INTENT:
          handler.intent(slot);
          at += INTENT_RECORD_BYTES;
          break;
        case RECORD_STAMP:
          handler.stamp(slot, getUint64(view, at + 8), getUint64(view, at + 16));
          at += STAMP_RECORD_BYTES;
          break;
        case RECORD_FLUSHED:
          handler.flushed(slot, { generation: getUint64(view, at + 8), flushNumber: getUint64(view, at + 16) });
          at += FLUSHED_RECORD_BYTES;
          break;
        case RECORD_VOLUME: {
          const length = view.getUint16(at + 2, true);
          const start = at + VOLUME_RECORD_HEADER_BYTES;
          if (start + length > end) return -1;
          handler.volume(view.getUint8(at + 1), slot, batch.bytes.subarray(start, start + length));
          at = start + length;
          break;
        }
        default:
          return -1;
      }
    }
  }
  return count;
}
