/**
 * Entries of block tables: what a modification leaves of its blocks, in memory and in the journal.
 *
 * The record of a block that was valid before comes with the next flush; that of any other goes to the journal at once, and the
 * operation ends when the journal has it. Where no block of a write had content, these records are sent along with its
 * data; where flushes come after few writes, so are those of an overwrite.
 *
 * What a crash leaves of a first write, between the time when both are handed over and its answer:
 *
 * 1. Neither, or the content alone: nothing refers to it, and the blocks are what they were.
 * 2. The record alone, or with a content that is torn: the slot has an intent, so recovery compares. What does not match is
 *    what it was before the record, as no batch says that this one is durable (`FirstWrites`). What a slot held before, of
 *    whichever volume, is never taken for content: its checksum would have to be the same.
 * 3. Both: the block is what was written. Nobody was told that it is not.
 *
 * A content that fails is taken back by records of what its blocks were, which come before any batch that calls the first ones
 * durable.
 */

import { check } from '../../core/check.js';
import type { SlotIndex } from '../../core/ids.js';
import { STORE_EARLY_BLOCKS_MAX } from '../../core/limits.js';
import {
  BLOCK_POISON,
  BLOCK_SUSPECT,
  BLOCK_VALID,
  BLOCK_ZERO,
  ENTRY_CHECKSUM,
  ENTRY_FLAGS,
  ENTRY_STAMP_HIGH,
  ENTRY_STAMP_LOW,
  ENTRY_WORDS,
  isVacant,
  ZERO_KEPT,
} from '../../layout/block-entry.js';
import type { FlushId } from '../../layout/flush-id.js';
import type { BlockCount, FlushNumber, Generation } from '../../ports/ids.js';
import type { Memory } from '../../ports/memory.js';
import {
  REQUEST_ACCEPT,
  REQUEST_KEEP,
  REQUEST_POISON,
  REQUEST_WRITE,
  REQUEST_ZERO,
} from '../../ports/segment-request.js';
import { SEALED_BYTES, SLOT_USED, TABLE_ENTRIES } from '../format/format.js';
import {
  BLOCK_RECORD_BYTES,
  RECORD_FLAG_FIRST,
  RECORD_FLAG_POISON,
  RECORD_FLAG_ZERO,
} from '../format/journal-records.js';
import { type StoreOp, WAIT_NOTHING, WAIT_RECORDS, WAIT_TAKEN_BACK } from '../store-op.js';
import type { ActivityLog } from './activity-log.js';
import type { JournalWriter } from './journal-writer.js';
import type { PendingEntries } from './pending-entries.js';
import { SLOT_FLAG_DOUBT, type SlotTable } from './slot-table.js';
import type { StoreFlush } from './store-flush.js';
import { inSet, type TableCache } from './table-cache.js';
import type { YoungBlocks } from './young-blocks.js';

/** What updates of entries need of their store. */
export interface EntryUpdatesParts {
  readonly memory: Memory;
  readonly slots: SlotTable;
  readonly tables: TableCache;
  readonly journal: JournalWriter;
  readonly pending: PendingEntries;
  readonly young: YoungBlocks;
  readonly flushes: StoreFlush;
  readonly log: ActivityLog;
  /** Checksums of transfers: that of the first block of area `a` is at `a * TABLE_ENTRIES`. */
  readonly checksums: Uint32Array;
  /** The same of writes that are proven. */
  readonly provenSums: Uint32Array;
  /** Slots whose entries in the tree are not up to date. */
  readonly changedSlots: Set<number>;
  /** Blocks of a slot. */
  readonly blocks: BlockCount;
  /** Whether the device has the feature `groups`, with which the records of zeroes come. */
  readonly groups: boolean;
  /** The batch is full: the operation is to call `set` again when there is another. */
  readonly waitForRoom: (op: StoreOp) => void;
  /** The journal has all that it needs before the operation is answered. */
  readonly recorded: (op: StoreOp) => void;
  /** A write that has failed ends with its result. */
  readonly failed: (op: StoreOp) => void;
}

/** Records of blocks that a sector holds. */
const SECTOR_RECORDS = Math.floor(SEALED_BYTES / BLOCK_RECORD_BYTES);

export class EntryUpdates {
  private readonly parts: EntryUpdatesParts;
  private readonly tables: TableCache;
  private readonly journal: JournalWriter;
  private readonly pending: PendingEntries;
  private readonly flushes: StoreFlush;
  private readonly checksums: Uint32Array;
  private readonly provenSums: Uint32Array;
  private readonly earlyWords = new Uint32Array(ENTRY_WORDS);
  private readonly earlySums = new Uint32Array(TABLE_ENTRIES);

  constructor(parts: EntryUpdatesParts) {
    this.parts = parts;
    this.tables = parts.tables;
    this.journal = parts.journal;
    this.pending = parts.pending;
    this.flushes = parts.flushes;
    this.checksums = parts.checksums;
    this.provenSums = parts.provenSums;
  }

  /** Enters what an operation has done, from its next block on. */
  set(op: StoreOp): void {
    check(this.parts.log.has(op.slot), 'a slot is modified that is not in the activity log', op.slot);
    check(op.block + op.blocks <= this.parts.blocks, 'entries are set beyond the end of a slot', op.slot);
    check(this.tables.slotAt(op.page) === op.slot, 'entries are set in the block table of another slot', op.slot);
    // What becomes pending must not leave memory, whatever becomes of the operation.
    this.tables.setChanged(op.page);
    // What is kept is told block by block, as the record of a range has no place for that.
    const ranged = op.kind === REQUEST_ZERO && (op.flags & REQUEST_KEEP) === 0;
    if (ranged && this.parts.groups) this.setZero(op);
    else this.setEach(op);
  }

  private setEach(op: StoreOp): void {
    const { tables, journal } = this;
    const { words } = tables;
    for (; op.next < op.blocks; op.next += 1) {
      const block = op.block + op.next;
      const word = tables.wordOf(op.page, block);
      if (op.isLeft(op.next)) continue;
      if (op.kind === REQUEST_ACCEPT && !isDoubtful(words[word + ENTRY_FLAGS])) continue;
      const before = words[word + ENTRY_FLAGS];
      const later = op.kind === REQUEST_WRITE && before === BLOCK_VALID;
      const first = op.kind === REQUEST_WRITE && (before & BLOCK_VALID) === 0;
      const sent = first && op.firstIn > 0;
      // Not before the batch has room: nothing must be seen in memory that a checkpoint could not find in the journal.
      if (!later && !sent && journal.batch.sectorsLeft < 1) {
        op.waiting = WAIT_RECORDS;
        this.parts.waitForRoom(op);
        return;
      }
      this.setEntry(op, word);
      if (sent) continue;
      if (later) {
        if (!op.early) this.pending.add(op.slot, op.page, block);
        continue;
      }
      const added = journal.batch.addBlock(op.slot, block, words, word, first ? this.firstWriteOf(before) : 0);
      check(added, 'a record does not fit the batch that has room for it', op.slot);
      this.pending.remove(op.slot, op.page, block);
      if (first) this.parts.young.add(op.slot, op.page, block);
      op.waiting = WAIT_RECORDS;
    }
    this.endSet(op);
  }

  /** The flags of a first write's record, of a block that had these flags before. */
  private firstWriteOf(before: number): number {
    if ((before & BLOCK_POISON) !== 0) return RECORD_FLAG_FIRST | RECORD_FLAG_POISON;
    const goesBack = before === BLOCK_ZERO && this.parts.groups;
    return goesBack ? RECORD_FLAG_FIRST | RECORD_FLAG_ZERO : RECORD_FLAG_FIRST;
  }

  /** An operation has entered all that it has done. */
  private endSet(op: StoreOp): void {
    const { journal } = this;
    this.stamp(op.slot, op.generation, op.flushNumber);
    if (op.firstIn > 0) journal.firstWrites.end(op.firstIn);
    if (op.waiting === WAIT_RECORDS) {
      journal.whenComplete(op);
      return;
    }
    if (op.firstIn > 0) {
      op.waiting = WAIT_RECORDS;
      journal.whenRecorded(op.firstIn, op);
      return;
    }
    if (this.flushes.eager && !op.early) this.flushes.journalEagerly();
    this.parts.recorded(op);
  }

  /** Makes blocks zero: each run of them that is not left as it is has one record. */
  private setZero(op: StoreOp): void {
    const { tables, journal } = this;
    while (op.next < op.blocks) {
      if (op.isLeft(op.next)) {
        op.next += 1;
        continue;
      }
      if (journal.batch.sectorsLeft < 1) {
        op.waiting = WAIT_RECORDS;
        this.parts.waitForRoom(op);
        return;
      }
      const from = op.next;
      for (; op.next < op.blocks && !op.isLeft(op.next); op.next += 1) {
        const block = op.block + op.next;
        this.setEntry(op, tables.wordOf(op.page, block));
        this.pending.remove(op.slot, op.page, block);
      }
      const count = op.next - from === this.parts.blocks ? 0 : op.next - from;
      const added = journal.batch.addZero(op.slot, op.block + from, count, op.stampLow, op.stampHigh);
      check(added, 'the record of zeroes does not fit the batch that has room for it', op.slot);
      op.waiting = WAIT_RECORDS;
    }
    this.endSet(op);
  }

  private setEntry(op: StoreOp, word: number): void {
    const { words } = this.tables;
    switch (op.kind) {
      case REQUEST_ZERO:
        words[word + ENTRY_CHECKSUM] = (op.flags & REQUEST_KEEP) !== 0 ? ZERO_KEPT : 0;
        words[word + ENTRY_FLAGS] = BLOCK_ZERO;
        break;
      case REQUEST_POISON:
        words[word + ENTRY_CHECKSUM] = 0;
        words[word + ENTRY_FLAGS] = BLOCK_POISON;
        break;
      default:
        check(op.area >= 0, 'a block gets the checksum of a transfer that was not made', op.index);
        words[word + ENTRY_CHECKSUM] = (op.proven ? this.provenSums : this.checksums)[
          op.area * TABLE_ENTRIES + op.next
        ];
        words[word + ENTRY_FLAGS] = BLOCK_VALID;
    }
    if (op.kind === REQUEST_ACCEPT) return;
    words[word + ENTRY_STAMP_LOW] = op.stampLowOf(op.next);
    words[word + ENTRY_STAMP_HIGH] = op.stampHighOf(op.next);
  }

  /**
   * The slot was modified at this point. An operation that has waited while the volume was flushed may end after one that was
   * begun later, so the stamp only rises: copies of the segment come to the same one in whatever order they carry both out.
   */
  private stamp(slot: SlotIndex, generation: Generation, flushNumber: FlushNumber): void {
    const { slots, changedSlots } = this.parts;
    changedSlots.add(slot);
    const known = slots.generations[slot];
    if (known > generation || (known === generation && slots.flushNumbers[slot] >= flushNumber)) return;
    slots.generations[slot] = generation;
    slots.flushNumbers[slot] = flushNumber;
    this.pending.addStamp(slot);
  }

  /**
   * A slot holds what other copies hold that are recorded under this flush: it is recorded under it as well, whatever it was
   * before, and is in doubt no more. `journaled`: the journal has room for the record of that, which the next flush writes.
   * Without, it comes with the next checkpoint.
   *
   * A crash may leave the new stamp without content that was written before it. Then the slot is still in the activity log,
   * and so in doubt again: it leaves that log only at a checkpoint, which has synced the content. The end of its doubt reaches
   * the device by a checkpoint alone.
   */
  restamp(slot: SlotIndex, { generation, flushNumber }: FlushId, journaled: boolean): void {
    const { slots, changedSlots } = this.parts;
    check(slots.states[slot] === SLOT_USED, 'doubt ends about a slot that is free', slot);
    slots.flags[slot] &= ~SLOT_FLAG_DOUBT;
    changedSlots.add(slot);
    if (slots.generations[slot] === generation && slots.flushNumbers[slot] === flushNumber) return;
    slots.generations[slot] = generation;
    slots.flushNumbers[slot] = flushNumber;
    if (journaled) this.pending.addStamp(slot);
  }

  /** A write is about to be handed over: its records go along, if that is safe and pays. */
  sendAlong(op: StoreOp): void {
    const { words } = this.tables;
    let stored = 0;
    for (let block = op.block; block < op.block + op.blocks; block += 1) {
      if ((words[this.tables.wordOf(op.page, block) + ENTRY_FLAGS] & BLOCK_VALID) !== 0) stored += 1;
    }
    if (stored === 0) this.sendFirst(op);
    else if (stored === op.blocks) this.sendEarly(op);
  }

  /** Sends the records of a first write along with its data, all of them in one batch. */
  private sendFirst(op: StoreOp): void {
    const { tables, journal } = this;
    check(op.firstIn === 0, 'the records of a first write are sent along twice', op.index);
    if (journal.batch.sectorsLeft <= Math.ceil(op.blocks / SECTOR_RECORDS) || !this.sumUp(op)) return;
    // What is young must not leave memory, whatever becomes of the operation.
    tables.setChanged(op.page);
    for (let index = 0; index < op.blocks; index += 1) {
      const block = op.block + index;
      const before = tables.words[tables.wordOf(op.page, block) + ENTRY_FLAGS];
      this.addAlong(op, index, this.firstWriteOf(before));
      this.parts.young.add(op.slot, op.page, block);
    }
    op.firstIn = journal.batch.sequence;
    journal.firstWrites.begin(op.firstIn);
    journal.makeRoom();
  }

  /**
   * A write has failed. If it was a first one whose records were sent along, others say what its blocks were before; they come
   * before any batch that calls the first ones durable.
   */
  takeBack(op: StoreOp): void {
    check(op.result < 0, 'a write is taken back that has not failed', op.index);
    const { tables, journal } = this;
    for (; op.firstIn > 0 && op.next < op.blocks; op.next += 1) {
      if (journal.batch.sectorsLeft < 1) {
        op.waiting = WAIT_TAKEN_BACK;
        this.parts.waitForRoom(op);
        return;
      }
      const block = op.block + op.next;
      const added = journal.batch.addBlock(op.slot, block, tables.words, tables.wordOf(op.page, block), 0);
      check(added, 'what takes a record back does not fit the batch that has room for it', op.slot);
    }
    op.waiting = WAIT_NOTHING;
    if (op.firstIn > 0) {
      journal.firstWrites.end(op.firstIn);
      journal.makeRoom();
    }
    this.parts.failed(op);
  }

  /**
   * Sends the records of an overwrite along with its data, so that a flush finds both done, if flushes are such that this pays.
   * If a crash leaves the one without the other, content and entry differ, as they may for all slots in the activity log.
   */
  private sendEarly(op: StoreOp): void {
    const { tables, journal } = this;
    if (!this.flushes.eager || op.blocks > STORE_EARLY_BLOCKS_MAX) return;
    for (let block = op.block; block < op.block + op.blocks; block += 1) {
      if (tables.words[tables.wordOf(op.page, block) + ENTRY_FLAGS] !== BLOCK_VALID) return;
      // A flush that comes before the data is written would put the older entry behind this one.
      if (inSet(tables.pending, op.page, block)) return;
    }
    check(!op.early, 'an overwrite is sent early twice', op.index);
    if (journal.batch.sectorsLeft < 2 || !this.sumUp(op)) return;
    for (let index = 0; index < op.blocks; index += 1) this.addAlong(op, index, 0);
    this.stamp(op.slot, op.generation, op.flushNumber);
    this.pending.writeStamp(op.slot);
    op.early = true;
    this.flushes.countEager(op.blocks);
    journal.makeRoom();
  }

  /** Puts the record of a block that is on its way into the batch, which has room for it. */
  private addAlong(op: StoreOp, index: number, flags: number): void {
    const { earlyWords } = this;
    earlyWords[ENTRY_CHECKSUM] = this.provenSums[op.area * TABLE_ENTRIES + index];
    earlyWords[ENTRY_FLAGS] = BLOCK_VALID;
    earlyWords[ENTRY_STAMP_LOW] = op.stampLowOf(index);
    earlyWords[ENTRY_STAMP_HIGH] = op.stampHighOf(index);
    const added = this.journal.batch.addBlock(op.slot, op.block + index, earlyWords, 0, flags);
    check(added, 'the records of a write do not fit the batch that has room for them', op.slot);
  }

  /**
   * Sums the payload of a write, unless that has been done: its device need not. Returns false if it has not those that it is to
   * have, so that its device will not see it.
   */
  private sumUp(op: StoreOp): boolean {
    if (op.proven) return true;
    const { sums, source, blocks } = op;
    const { earlySums, provenSums } = this;
    const { memory } = this.parts;
    // What is to be copied there may not be there yet.
    if (source < 0) memory.carryOut();
    memory.checksums(source < 0 ? op.memory : source, blocks, earlySums);
    for (let index = 0; sums !== null && index < blocks; index += 1) if (earlySums[index] !== sums[index]) return false;
    for (let index = 0; index < blocks; index += 1) provenSums[op.area * TABLE_ENTRIES + index] = earlySums[index];
    op.proven = true;
    return true;
  }

  /** Whether nothing but what an operation is about to zero is stored or kept in its slot. */
  emptyBut(op: StoreOp): boolean {
    if ((op.flags & REQUEST_KEEP) !== 0) return false;
    for (let block = 0; block < this.parts.blocks; block += 1) {
      if (block >= op.block && block < op.block + op.blocks) continue;
      if (!isVacant(this.tables.words, this.tables.wordOf(op.page, block))) return false;
    }
    return true;
  }
}

/** Whether a block's content is stored, and may be any of several versions. */
function isDoubtful(flags: number): boolean {
  return (flags & (BLOCK_VALID | BLOCK_SUSPECT | BLOCK_POISON)) === (BLOCK_VALID | BLOCK_SUSPECT);
}
