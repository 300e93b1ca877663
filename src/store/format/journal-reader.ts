/** Reading the journal: which batches count, how it ends, and the records of a batch. */

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
  SEALED_BYTES,
  viewOf,
} from './format.js';
import {
  ALLOCATE_RECORD_BYTES,
  BLOCK_RECORD_BYTES,
  FLUSHED_RECORD_BYTES,
  FREE_RECORD_BYTES,
  INTENT_RECORD_BYTES,
  nextBatchPage,
  PAGE_SECTORS,
  RECORD_ALLOCATE,
  RECORD_BLOCK,
  RECORD_BYTES,
  RECORD_FLUSHED,
  RECORD_FREE,
  RECORD_INTENT,
  RECORD_PAGE,
  RECORD_STAMP,
  RECORD_VOLUME,
  STAMP_RECORD_BYTES,
  tagOf,
  VOLUME_RECORD_HEADER_BYTES,
} from './journal-records.js';
import type { Checksum } from './superblock.js';

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
    if (this.tags[page * PAGE_SECTORS] < 0) return undefined;
    const at = page * PAGE_BYTES;
    const { view } = this;
    if (view.getUint32(at, true) !== JOURNAL_MAGIC || getId(view, at + 16) !== this.deviceId) return undefined;
    const pages = view.getUint32(at + 4, true);
    const sequence = getCounter(view, at + 8);
    const valid = view.getUint32(at + 40, true) === page && pages >= 1 && pages <= BATCH_PAGES_MAX;
    if (!valid || this.tags[page * PAGE_SECTORS] !== tagOf(sequence, 0)) return undefined;
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
    for (let index = 0; index < header.pages * PAGE_SECTORS; index += 1) {
      const tag = this.tags[header.page * PAGE_SECTORS + index];
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
        if (this.tags[at * PAGE_SECTORS] === SECTOR_DAMAGED) damage = `the header at page ${at} is damaged`;
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
      const tags = this.tags.subarray(at * PAGE_SECTORS, (at + 1) * PAGE_SECTORS);
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
  /** A part of a page of the volumes region; of types 6 and 8. */
  page(index: number, offset: number, bytes: Uint8Array): void;
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
  for (let sector = 0; sector < batch.pages * PAGE_SECTORS; sector += 1) {
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
        case RECORD_VOLUME:
        case RECORD_PAGE: {
          const start = at + VOLUME_RECORD_HEADER_BYTES;
          const after = start + view.getUint16(at + 2, true);
          if (after > end) return -1;
          const old = type === RECORD_VOLUME;
          const index = old ? view.getUint8(at + 1) : view.getUint16(at + 4, true);
          handler.page(index, old ? slot : view.getUint16(at + 6, true), batch.bytes.subarray(start, after));
          at = after;
          break;
        }
        default:
          return -1;
      }
    }
  }
  return count;
}
