/**
 * What the journal does not have yet: entries of blocks that were changed in memory only, and stamps of slots. A flush writes
 * all of it, before its sync.
 */

import { check } from '../../core/check.js';
import type { SlotIndex, TablePage } from '../../core/ids.js';
import type { BlockIndex } from '../../ports/ids.js';
import { SLOT_USED } from '../format/format.js';
import { PAGE_BLOCK_RECORDS } from '../format/journal-records.js';
import type { JournalWriter } from './journal-writer.js';
import type { SlotTable } from './slot-table.js';
import { addToSet, BLOCK_SET_WORDS, inSet, removeFromSet, type TableCache } from './table-cache.js';

export class PendingEntries {
  /** How many entries there are. */
  blocks = 0;
  private readonly tables: TableCache;
  private readonly slots: SlotTable;
  private readonly journal: JournalWriter;
  private readonly entries = new Set<SlotIndex>();
  private readonly stamps = new Set<SlotIndex>();

  constructor(tables: TableCache, slots: SlotTable, journal: JournalWriter) {
    this.tables = tables;
    this.slots = slots;
    this.journal = journal;
  }

  /** Pages of the journal that a flush of all needs. */
  get pages(): number {
    return Math.ceil((this.blocks + this.stamps.size) / PAGE_BLOCK_RECORDS);
  }

  /** Slots with entries. */
  get withEntries(): SlotIndex[] {
    return [...this.entries];
  }

  /** Slots with anything. */
  get all(): SlotIndex[] {
    const all = [...this.entries];
    for (const slot of this.stamps) if (!this.entries.has(slot)) all.push(slot);
    return all;
  }

  add(slot: SlotIndex, page: TablePage, block: BlockIndex): void {
    check(this.tables.slotAt(page) === slot, 'an entry is pending in the block table of another slot', slot);
    if (inSet(this.tables.pending, page, block)) return;
    addToSet(this.tables.pending, page, block);
    this.entries.add(slot);
    this.blocks += 1;
  }

  /** The journal has a record of the block's entry that tells all. */
  remove(slot: SlotIndex, page: TablePage, block: BlockIndex): void {
    const { pending } = this.tables;
    if (!inSet(pending, page, block)) return;
    removeFromSet(pending, page, block);
    this.blocks -= 1;
    for (let word = page * BLOCK_SET_WORDS; word < (page + 1) * BLOCK_SET_WORDS; word += 1) {
      if (pending[word] !== 0) return;
    }
    this.entries.delete(slot);
  }

  addStamp(slot: SlotIndex): void {
    check(this.slots.states[slot] === SLOT_USED, 'a stamp is pending of a slot that is free', slot);
    this.stamps.add(slot);
  }

  /** Nothing of a slot that is given back matters any more. */
  forget(slot: SlotIndex, page: TablePage): void {
    const { pending } = this.tables;
    for (let word = page * BLOCK_SET_WORDS; word < (page + 1) * BLOCK_SET_WORDS; word += 1) {
      this.blocks -= bitCount(pending[word]);
      pending[word] = 0;
    }
    check(this.blocks >= 0, 'more entries are forgotten than were pending', this.blocks);
    this.entries.delete(slot);
    this.stamps.delete(slot);
  }

  /** Writes the record of a slot's stamp, if one is pending. Returns false if the batch is full. */
  writeStamp(slot: SlotIndex): boolean {
    if (!this.stamps.has(slot)) return true;
    const { generations, flushNumbers } = this.slots;
    if (!this.journal.batch.addStamp(slot, generations[slot], flushNumbers[slot])) return false;
    this.stamps.delete(slot);
    return true;
  }

  /** Writes records of a slot's stamp and entries. Returns false if the batch is full before that is done. */
  write(slot: SlotIndex): boolean {
    const { journal, tables } = this;
    if (!this.writeStamp(slot)) return false;
    const page = tables.find(slot);
    if (!this.entries.has(slot)) return true;
    check(page >= 0, 'a block table has left memory with entries that the journal does not have', slot);
    for (let word = 0; word < BLOCK_SET_WORDS; word += 1) {
      const at = page * BLOCK_SET_WORDS + word;
      while (tables.pending[at] !== 0) {
        const bit = 31 - Math.clz32(tables.pending[at] & -tables.pending[at]);
        const block = word * 32 + bit;
        if (!journal.batch.addBlock(slot, block, tables.words, tables.wordOf(page, block), 0)) return false;
        tables.pending[at] &= ~(1 << bit);
        this.blocks -= 1;
      }
    }
    this.entries.delete(slot);
    check(this.blocks >= this.entries.size, 'fewer entries are pending than slots have some', this.blocks);
    check(this.blocks === 0 || this.entries.size > 0, 'entries are pending that no slot has', this.blocks);
    return true;
  }
}

function bitCount(value: number): number {
  let bits = value - ((value >>> 1) & 0x55555555);
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
