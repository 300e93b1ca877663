/** Reading the journal: which batches count, how it ends, and the records of a batch. */

import { check } from '../../core/check.js';
import type { ReplicaPage, SlotNumber } from '../../core/ids.js';
import { SECTOR_BYTES } from '../../core/limits.js';
import {
  BLOCK_ZERO,
  ENTRY_CHECKSUM,
  ENTRY_FLAGS,
  ENTRY_STAMP_HIGH,
  ENTRY_STAMP_LOW,
  ENTRY_WORDS,
} from '../../layout/block-entry.js';
import { getCounter, getId, getUint64, viewOf } from '../../layout/fields.js';
import type { FlushId } from '../../layout/flush-id.js';
import type { BlockCount, BlockIndex, FlushNumber, Generation } from '../../ports/ids.js';
import { BATCH_PAGES_MAX } from '../limits.js';
import { BATCH_HEADER_BYTES, JOURNAL_MAGIC, type Layout, PAGE_BYTES, SEALED_BYTES } from './format.js';
import {
  ALLOCATE_RECORD_BYTES,
  type AllocateRecord,
  INTENT_RECORD_BYTES,
  nextBatchPage,
  PAGE_SECTORS,
  RECORD_ALLOCATE,
  RECORD_BLOCK,
  RECORD_BYTES,
  RECORD_FLAG_ZERO,
  RECORD_FLAGS,
  RECORD_FLUSHED,
  RECORD_FREE,
  RECORD_INTENT,
  RECORD_PAGE,
  RECORD_SETTLED,
  RECORD_STAMP,
  RECORD_VOLUME,
  RECORD_ZERO,
  tagOf,
  VOLUME_RECORD_HEADER_BYTES,
  ZERO_RECORD_BYTES,
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
    check(bytes.length === layout.journalPages * PAGE_BYTES, 'a journal is read in part', bytes.length);
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
      for (let index = 0; index < header.pages; index += 1) {
        check(!seen.has(at + index), 'the journal is replayed round and round', at);
        seen.add(at + index);
      }
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
    check(sequenceMax >= expected - 1, 'batches are replayed that are not there', sequenceMax);
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

/** What replaying meets in a batch. Slots, pages and blocks are as they were written: the receiver checks them. */
export interface RecordHandler {
  /** `flags`: `RECORD_FLAG_*`. */
  block(slot: SlotNumber, block: BlockIndex, words: Uint32Array, flags: number): void;
  allocate(record: AllocateRecord): void;
  free(slot: SlotNumber): void;
  intent(slot: SlotNumber): void;
  stamp(slot: SlotNumber, generation: Generation, flushNumber: FlushNumber): void;
  /** A part of a page of the volumes region. */
  page(index: ReplicaPage, offset: number, bytes: Uint8Array): void;
  flushed(page: ReplicaPage, mark: FlushId): void;
  settled(page: ReplicaPage, settled: FlushId): void;
  /** `count` blocks become zero, 0 for all of the slot. `words`: the entry that each of them gets. */
  zero(slot: SlotNumber, block: BlockIndex, count: BlockCount, words: Uint32Array): void;
}

/**
 * Passes the records of a batch to a handler. Returns how many there were, or -1 if one has an unknown type, sets what is
 * reserved, or does not end within its sector. `groups`: whether the device has that feature, with which more is known.
 */
export function readRecords(batch: FoundBatch, handler: RecordHandler, groups: boolean): number {
  const view = viewOf(batch.bytes);
  const words = new Uint32Array(ENTRY_WORDS);
  let count = 0;
  for (let sector = 0; sector < batch.pages * PAGE_SECTORS; sector += 1) {
    const end = sector * SECTOR_BYTES + SEALED_BYTES;
    let at = sector * SECTOR_BYTES + (sector === 0 ? BATCH_HEADER_BYTES : 0);
    while (at + INTENT_RECORD_BYTES <= end) {
      const type = view.getUint8(at);
      if (type === 0) break;
      if (type >= RECORD_BYTES.length || at + RECORD_BYTES[type] > end || isReservedSet(view, at, groups)) return -1;
      count += 1;
      const isPart = type === RECORD_PAGE || type === RECORD_VOLUME;
      const next = at + RECORD_BYTES[type] + (isPart ? view.getUint16(at + 2, true) : 0);
      if (next > end) return -1;
      if (isPart) passPart(view, at, batch.bytes.subarray(at + VOLUME_RECORD_HEADER_BYTES, next), handler);
      else passRecord(view, at, words, handler);
      at = next;
    }
  }
  return count;
}

/** Whether a record has flags that nobody knows, or a field that has no meaning yet and is not zero. */
function isReservedSet(view: DataView, at: number, groups: boolean): boolean {
  if (!groups && belongsToGroups(view, at)) return true;
  switch (view.getUint8(at)) {
    case RECORD_BLOCK:
      return view.getUint8(at + 1) > RECORD_FLAGS;
    case RECORD_ALLOCATE: {
      // Epochs after the first, layers, flags and other states come with features that this program does not know.
      const zero = isZero(view, at + 36, at + 42) && isZero(view, at + 44, at + ALLOCATE_RECORD_BYTES);
      return view.getUint8(at + 1) !== 0 || view.getUint32(at + 32, true) > 1 || !zero;
    }
    case RECORD_VOLUME:
      return false;
    case RECORD_PAGE:
      return view.getUint8(at + 1) !== 0;
    case RECORD_ZERO:
      return view.getUint8(at + 1) !== 0 || !isZero(view, at + 18, at + ZERO_RECORD_BYTES);
    default:
      return !isZero(view, at + 1, at + 4);
  }
}

/** Whether a record, or a field that it sets, came with the feature `groups`. */
function belongsToGroups(view: DataView, at: number): boolean {
  const type = view.getUint8(at);
  if (type === RECORD_BLOCK) return (view.getUint8(at + 1) & RECORD_FLAG_ZERO) !== 0;
  if (type === RECORD_ALLOCATE) return !isZero(view, at + 32, at + ALLOCATE_RECORD_BYTES);
  return type > RECORD_FLUSHED;
}

function isZero(view: DataView, from: number, to: number): boolean {
  for (let at = from; at < to; at += 1) if (view.getUint8(at) !== 0) return false;
  return true;
}

function passPart(view: DataView, at: number, bytes: Uint8Array, handler: RecordHandler): void {
  if (view.getUint8(at) === RECORD_VOLUME) handler.page(view.getUint8(at + 1), view.getUint32(at + 4, true), bytes);
  else handler.page(view.getUint16(at + 4, true), view.getUint16(at + 6, true), bytes);
}

function markAt(view: DataView, at: number): FlushId {
  return { generation: getUint64(view, at), flushNumber: getUint64(view, at + 8) };
}

/** Passes on a record that is no part of a page. `words`: memory for an entry. */
function passRecord(view: DataView, at: number, words: Uint32Array, handler: RecordHandler): void {
  const slot = view.getUint32(at + 4, true);
  switch (view.getUint8(at)) {
    case RECORD_BLOCK:
      for (let word = 0; word < ENTRY_WORDS; word += 1) words[word] = view.getUint32(at + 8 + 4 * word, true);
      handler.block(slot, view.getUint16(at + 2, true), words, view.getUint8(at + 1));
      break;
    case RECORD_ALLOCATE:
      handler.allocate({
        slot,
        volumeId: getId(view, at + 8),
        member: view.getUint16(at + 2, true),
        stripe: getUint64(view, at + 24),
        epoch: view.getUint32(at + 32, true),
        group: view.getUint16(at + 42, true),
      });
      break;
    case RECORD_FREE:
      handler.free(slot);
      break;
    case RECORD_INTENT:
      handler.intent(slot);
      break;
    case RECORD_STAMP:
      handler.stamp(slot, getUint64(view, at + 8), getUint64(view, at + 16));
      break;
    case RECORD_FLUSHED:
      handler.flushed(slot, markAt(view, at + 8));
      break;
    case RECORD_SETTLED:
      handler.settled(slot, markAt(view, at + 8));
      break;
    case RECORD_ZERO:
      words[ENTRY_CHECKSUM] = 0;
      words[ENTRY_FLAGS] = BLOCK_ZERO;
      words[ENTRY_STAMP_LOW] = view.getUint32(at + 8, true);
      words[ENTRY_STAMP_HIGH] = view.getUint32(at + 12, true);
      handler.zero(slot, view.getUint16(at + 2, true), view.getUint16(at + 16, true), words);
      break;
    default:
  }
}
