/**
 * Entries of block tables: what a modification leaves of its blocks, in memory and in the journal.
 *
 * The record of a block that was valid before comes with the next flush; that of any other goes to the journal at once, and the
 * operation ends when the journal has it. Where flushes come after few writes, the records of an overwrite are sent along
 * with its data.
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
import { SLOT_USED, TABLE_ENTRIES } from '../format/format.js';
import { RECORD_FLAG_FIRST, RECORD_FLAG_POISON, RECORD_FLAG_ZERO } from '../format/journal-records.js';
import { type StoreOp, WAIT_RECORDS } from '../store-op.js';
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
}

export class EntryUpdates {
  private readonly parts: EntryUpdatesParts;
  private readonly tables: TableCache;
  private readonly journal: JournalWriter;
  private readonly pending: PendingEntries;
  private readonly flushes: StoreFlush;
  private readonly checksums: Uint32Array;
  private readonly earlyWords = new Uint32Array(ENTRY_WORDS);
  private readonly earlySums = new Uint32Array(STORE_EARLY_BLOCKS_MAX);

  constructor(parts: EntryUpdatesParts) {
    this.parts = parts;
    this.tables = parts.tables;
    this.journal = parts.journal;
    this.pending = parts.pending;
    this.flushes = parts.flushes;
    this.checksums = parts.checksums;
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
      const later = op.kind === REQUEST_WRITE && words[word + ENTRY_FLAGS] === BLOCK_VALID;
      // Not before the batch has room: nothing must be seen in memory that a checkpoint could not find in the journal.
      if (!later && journal.batch.sectorsLeft < 1) {
        op.waiting = WAIT_RECORDS;
        this.parts.waitForRoom(op);
        return;
      }
      const first = op.kind === REQUEST_WRITE && (words[word + ENTRY_FLAGS] & BLOCK_VALID) === 0;
      const before = words[word + ENTRY_FLAGS];
      this.setEntry(op, word);
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
    this.stamp(op.slot, op.generation, op.flushNumber);
    if (op.waiting === WAIT_RECORDS) {
      this.journal.whenComplete(op);
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
        words[word + ENTRY_CHECKSUM] = this.checksums[op.area * TABLE_ENTRIES + op.next];
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

  /**
   * Sends the records of an overwrite along with its data, so that a flush finds both done, if flushes are such that this pays.
   * If a crash leaves the one without the other, content and entry differ, as they may for all slots in the activity log.
   * The payload has to be where the caller said, and not in a copy that is still to be made.
   */
  sendEarly(op: StoreOp): void {
    const { tables, journal } = this;
    if (!this.flushes.eager || op.blocks > STORE_EARLY_BLOCKS_MAX) return;
    for (let block = op.block; block < op.block + op.blocks; block += 1) {
      if (tables.words[tables.wordOf(op.page, block) + ENTRY_FLAGS] !== BLOCK_VALID) return;
      // A flush that comes before the data is written would put the older entry behind this one.
      if (inSet(tables.pending, op.page, block)) return;
    }
    if (journal.batch.sectorsLeft < 2) return;
    const { earlyWords } = this;
    check(op.source >= 0 && !op.early, 'an overwrite is sent early without its payload, or twice', op.index);
    const sums = this.sumsOf(op);
    if (sums === null) return;
    for (let index = 0; index < op.blocks; index += 1) {
      earlyWords[ENTRY_CHECKSUM] = sums[index];
      earlyWords[ENTRY_FLAGS] = BLOCK_VALID;
      earlyWords[ENTRY_STAMP_LOW] = op.stampLow;
      earlyWords[ENTRY_STAMP_HIGH] = op.stampHigh;
      const added = journal.batch.addBlock(op.slot, op.block + index, earlyWords, 0, 0);
      check(added, 'the records of an overwrite do not fit the batch that has room for them', op.slot);
    }
    this.stamp(op.slot, op.generation, op.flushNumber);
    this.pending.writeStamp(op.slot);
    op.early = true;
    this.flushes.countEager(op.blocks);
    journal.makeRoom();
  }

  /** Sums of an overwrite's payload; null if it has not those that it is to have, so that its device will not see it. */
  private sumsOf({ sums, proven, source, blocks }: StoreOp): Uint32Array | null {
    if (sums !== null && proven) return sums;
    const { earlySums } = this;
    this.parts.memory.checksums(source, blocks, earlySums);
    for (let index = 0; sums !== null && index < blocks; index += 1) if (earlySums[index] !== sums[index]) return null;
    return earlySums;
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
