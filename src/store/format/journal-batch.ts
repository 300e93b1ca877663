/** A batch of the journal while records are put into it. `journal-records` describes how it lies on the device. */

import { check } from '../../core/check.js';
import type { ReplicaPage, SlotNumber } from '../../core/ids.js';
import { SECTOR_BYTES } from '../../core/limits.js';
import { putId, putUint64, viewOf } from '../../layout/fields.js';
import type { FlushId } from '../../layout/flush-id.js';
import type { BlockCount, BlockIndex, FlushNumber, Generation } from '../../ports/ids.js';
import { BATCH_PAGES_MAX } from '../limits.js';
import { emptySectorChecksum } from './empty-sector.js';
import { BATCH_HEADER_BYTES, JOURNAL_MAGIC, PAGE_BYTES, SEALED_BYTES, TABLE_ENTRIES } from './format.js';
import {
  ALLOCATE_RECORD_BYTES,
  type AllocateRecord,
  BLOCK_RECORD_BYTES,
  FLUSHED_RECORD_BYTES,
  INTENT_RECORD_BYTES,
  PAGE_SECTORS,
  RECORD_ALLOCATE,
  RECORD_BLOCK,
  RECORD_FLUSHED,
  type RECORD_FREE,
  type RECORD_INTENT,
  RECORD_PAGE,
  RECORD_SETTLED,
  RECORD_STAMP,
  RECORD_VOLUME,
  RECORD_ZERO,
  STAMP_RECORD_BYTES,
  tagOf,
  VOLUME_CHUNK_BYTES,
  VOLUME_RECORD_HEADER_BYTES,
  ZERO_RECORD_BYTES,
} from './journal-records.js';

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
  private sector = BATCH_PAGES_MAX * PAGE_SECTORS - 1;

  constructor(bytes: Uint8Array, memory: number) {
    this.bytes = bytes;
    this.view = viewOf(bytes);
    this.memory = memory;
  }

  begin(sequence: number): void {
    check(sequence > this.sequence, 'a batch has a number that has been', sequence);
    // What lies behind is still zero from the time before.
    this.bytes.fill(0, 0, this.pages * PAGE_BYTES);
    this.sequence = sequence;
    this.records = 0;
    this.sector = 0;
    this.at = BATCH_HEADER_BYTES;
    this.limit = SEALED_BYTES;
  }

  get pages(): number {
    return Math.floor(this.sector / PAGE_SECTORS) + 1;
  }

  /** Sectors that hold nothing yet. */
  get sectorsLeft(): number {
    return BATCH_PAGES_MAX * PAGE_SECTORS - this.sector - 1;
  }

  /** Whether a record fits that needs no further page. */
  hasRoomInPage(bytes: number): boolean {
    return this.at + bytes <= this.limit || (this.sector + 1) % PAGE_SECTORS !== 0;
  }

  /** Room for a record. Returns where to put it, or -1 if the batch is full. */
  reserve(bytes: number): number {
    check(this.sequence > 0, 'a record is put into a batch that was not begun', this.sequence);
    check(bytes <= SEALED_BYTES - BATCH_HEADER_BYTES, 'a record does not fit a sector', bytes);
    if (this.at + bytes > this.limit) {
      if (this.sector + 1 === BATCH_PAGES_MAX * PAGE_SECTORS) return -1;
      this.sector += 1;
      this.at = this.sector * SECTOR_BYTES;
      this.limit = this.at + SEALED_BYTES;
    }
    const at = this.at;
    this.at += bytes;
    this.records += 1;
    return at;
  }

  addBlock(slot: SlotNumber, block: BlockIndex, words: Uint32Array, word: number, flags: number): boolean {
    check(block < TABLE_ENTRIES, 'a record names a block that no slot has', block);
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

  addAllocate(record: AllocateRecord): boolean {
    const at = this.reserve(ALLOCATE_RECORD_BYTES);
    if (at < 0) return false;
    this.view.setUint8(at, RECORD_ALLOCATE);
    this.view.setUint16(at + 2, record.member, true);
    this.view.setUint32(at + 4, record.slot, true);
    putId(this.view, at + 8, record.volumeId);
    putUint64(this.view, at + 24, record.stripe);
    this.view.setUint32(at + 32, record.epoch, true);
    this.view.setUint16(at + 42, record.group, true);
    return true;
  }

  /** `count` blocks from `block` on become zero, with the stamp; 0 stands for all of the slot. */
  addZero(slot: SlotNumber, block: BlockIndex, count: BlockCount, stampLow: number, stampHigh: number): boolean {
    const at = this.reserve(ZERO_RECORD_BYTES);
    if (at < 0) return false;
    this.view.setUint8(at, RECORD_ZERO);
    this.view.setUint16(at + 2, block, true);
    this.view.setUint32(at + 4, slot, true);
    this.view.setUint32(at + 8, stampLow, true);
    this.view.setUint32(at + 12, stampHigh, true);
    this.view.setUint16(at + 16, count, true);
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

  addStamp(slot: SlotNumber, generation: Generation, flushNumber: FlushNumber): boolean {
    const at = this.reserve(STAMP_RECORD_BYTES);
    if (at < 0) return false;
    this.view.setUint8(at, RECORD_STAMP);
    this.view.setUint32(at + 4, slot, true);
    putUint64(this.view, at + 8, generation);
    putUint64(this.view, at + 16, flushNumber);
    return true;
  }

  addFlushed(volume: ReplicaPage, mark: FlushId): boolean {
    return this.addMark(RECORD_FLUSHED, volume, mark);
  }

  /** What is settled of the volume whose page this is. */
  addSettled(page: ReplicaPage, settled: FlushId): boolean {
    return this.addMark(RECORD_SETTLED, page, settled);
  }

  private addMark(
    type: typeof RECORD_FLUSHED | typeof RECORD_SETTLED,
    page: number,
    { generation, flushNumber }: FlushId,
  ): boolean {
    const at = this.reserve(FLUSHED_RECORD_BYTES);
    if (at < 0) return false;
    this.view.setUint8(at, type);
    this.view.setUint32(at + 4, page, true);
    putUint64(this.view, at + 8, generation);
    putUint64(this.view, at + 16, flushNumber);
    return true;
  }

  /** One part of a volume page, from `offset` on, as devices without the feature `groups` have it. */
  addVolume(index: ReplicaPage, page: Uint8Array, offset: number): boolean {
    const at = this.addPart(page, offset);
    if (at < 0) return false;
    this.view.setUint8(at, RECORD_VOLUME);
    this.view.setUint8(at + 1, index);
    this.view.setUint32(at + 4, offset, true);
    return true;
  }

  /** One part of a page of the volumes region, from `offset` on. */
  addPage(index: ReplicaPage, page: Uint8Array, offset: number): boolean {
    const at = this.addPart(page, offset);
    if (at < 0) return false;
    this.view.setUint8(at, RECORD_PAGE);
    this.view.setUint16(at + 4, index, true);
    this.view.setUint16(at + 6, offset, true);
    return true;
  }

  private addPart(page: Uint8Array, offset: number): number {
    check(offset >= 0 && offset < page.length, 'a part lies beyond its page', offset);
    const length = Math.min(VOLUME_CHUNK_BYTES, page.length - offset);
    const at = this.reserve(VOLUME_RECORD_HEADER_BYTES + length);
    if (at < 0) return -1;
    this.view.setUint16(at + 2, length, true);
    this.bytes.set(page.subarray(offset, offset + length), at + VOLUME_RECORD_HEADER_BYTES);
    return at;
  }

  /** Completes header and seals. `durableSequence`: the batch up to which everything is known to be durable. */
  seal(
    deviceId: string,
    incarnation: number,
    page: number,
    durableSequence: number,
    checksum: (from: number, bytes: number) => number,
  ): void {
    const { view, sequence, pages, sector: lastUsed } = this;
    check(durableSequence < sequence, 'a batch says of itself that it is durable', sequence);
    view.setUint32(0, JOURNAL_MAGIC, true);
    view.setUint32(4, pages, true);
    putUint64(view, 8, sequence);
    putId(view, 16, deviceId);
    putUint64(view, 32, incarnation);
    view.setUint32(40, page, true);
    view.setUint32(44, this.records, true);
    putUint64(view, 48, durableSequence);
    const sectors = pages * PAGE_SECTORS;
    // A tag ends with the number of its sector.
    const firstTag = tagOf(sequence, sectors - 1) - (sectors - 1);
    for (let sector = 0; sector < sectors; sector += 1) {
      const start = sector * SECTOR_BYTES;
      const tag = firstTag + sector;
      view.setUint32(start + SEALED_BYTES, tag, true);
      const sum = sector > lastUsed ? emptySectorChecksum(tag) : checksum(start, SEALED_BYTES + 4);
      view.setUint32(start + SEALED_BYTES + 4, sum, true);
    }
  }
}
