/**
 * Block tables in memory of one store: by slot, the page of the memory that all stores of the thread share (`TableMemory`).
 */

import { check } from '../../core/check.js';
import { NO_PAGE, type SlotIndex, type TablePage } from '../../core/ids.js';
import { ENTRY_WORDS } from '../../layout/block-entry.js';
import type { BlockIndex } from '../../ports/ids.js';
import { PAGE_BYTES } from '../format/format.js';
import { BLOCK_SET_WORDS, type TableHolder, type TableMemory } from './table-memory.js';

export { BLOCK_SET_WORDS };

export class TableCache implements TableHolder {
  readonly least: number;
  /** All pages as words. Entry of block b in page p: from `p * 1024 + 4 * b` on. */
  readonly words: Uint32Array;
  /** By page: the blocks whose entries are not in the journal yet. */
  readonly pending: Int32Array;
  /** By page: the blocks whose first write no flush is known to have covered. */
  readonly young: Int32Array;
  private readonly memory: TableMemory;
  private readonly share: number;
  /** By slot: its page and 1, or 0 for none, so that memory of slots that were never used is never touched. */
  private readonly pageOf: Int32Array;
  /** The pages that hold entries which the tree on the device does not. */
  private readonly changed = new Set<TablePage>();

  /** `least`: the pages that it is promised, more than slots are in the activity log. Throws as `TableMemory.join`. */
  constructor(memory: TableMemory, least: number, slots: number) {
    this.memory = memory;
    this.least = least;
    this.words = memory.words;
    this.pending = memory.pending;
    this.young = memory.young;
    this.pageOf = new Int32Array(slots);
    this.share = memory.join(this);
  }

  /** The page of a slot's table, or -1. */
  find(slot: SlotIndex): TablePage {
    const page = (this.pageOf[slot] - 1) as TablePage;
    if (page === NO_PAGE) return NO_PAGE;
    check(this.memory.slotAt(page) === slot, 'a slot has its block table in the page of another', slot);
    this.memory.used[page] = 1;
    return page;
  }

  slotAt(page: TablePage): SlotIndex {
    return this.memory.slotAt(page);
  }

  /** Where a page lies in the arena. */
  memoryOf(page: TablePage): number {
    return this.memory.memoryOf(page);
  }

  /** First word of an entry. */
  wordOf(page: TablePage, block: BlockIndex): number {
    return page * (PAGE_BYTES / 4) + block * ENTRY_WORDS;
  }

  /** Takes a page for a slot that has none, with undefined content. Returns -1 if all pages are in use. */
  take(slot: SlotIndex): TablePage {
    check(this.pageOf[slot] === 0, 'a slot takes a second page for its block table', slot);
    const page = this.memory.take(this.share, slot);
    if (page >= 0) this.pageOf[slot] = page + 1;
    return page;
  }

  clear(page: TablePage): void {
    check(this.slotAt(page) >= 0, 'a page is cleared that has no block table', page);
    const start = page * (PAGE_BYTES / 4);
    this.words.fill(0, start, start + PAGE_BYTES / 4);
  }

  drop(page: TablePage): void {
    const slot = this.slotAt(page);
    this.checkJournaled(page);
    if (slot >= 0) this.pageOf[slot] = 0;
    this.setUnchanged(page);
    clearSet(this.young, page);
  }

  /** Only what the journal has, too, may go from memory. */
  private checkJournaled(page: TablePage): void {
    for (let word = page * BLOCK_SET_WORDS; word < (page + 1) * BLOCK_SET_WORDS; word += 1) {
      check(this.pending[word] === 0, 'entries go that the journal does not have', page);
    }
  }

  /** Forgets a slot's table, which nobody uses. */
  forget(slot: SlotIndex): void {
    const page = (this.pageOf[slot] - 1) as TablePage;
    if (page === NO_PAGE) return;
    this.drop(page);
    this.memory.giveBack(page);
  }

  pin(page: TablePage): void {
    check(this.slotAt(page) >= 0, 'a page is held that has no block table', page);
    this.memory.pins[page] += 1;
  }

  unpin(page: TablePage): void {
    check(this.memory.pins[page] > 0, 'a block table was let go of twice', page);
    this.memory.pins[page] -= 1;
  }

  pinned(page: TablePage): boolean {
    return this.memory.pins[page] > 0;
  }

  setChanged(page: TablePage): void {
    check(this.slotAt(page) >= 0, 'a page has changed that has no block table', page);
    if (this.memory.changed[page] === 1) return;
    this.memory.changed[page] = 1;
    this.changed.add(page);
  }

  /** The pages that hold entries which the tree on the device does not. */
  changedPages(): TablePage[] {
    return [...this.changed].sort((one, other) => one - other);
  }

  setClean(page: TablePage): void {
    this.checkJournaled(page);
    this.setUnchanged(page);
  }

  private setUnchanged(page: TablePage): void {
    if (this.memory.changed[page] === 0) return;
    this.memory.changed[page] = 0;
    this.changed.delete(page);
  }

  /** Memory that it has. */
  get heldBytes(): number {
    return this.memory.heldBy(this.share) * PAGE_BYTES;
  }

  /** The store is gone. */
  leave(): void {
    this.memory.leave(this.share);
  }
}

/** Whether a block is in a page's set. */
export function inSet(set: Int32Array, page: TablePage, block: BlockIndex): boolean {
  return (set[page * BLOCK_SET_WORDS + (block >>> 5)] & (1 << (block & 31))) !== 0;
}

export function addToSet(set: Int32Array, page: TablePage, block: BlockIndex): void {
  set[page * BLOCK_SET_WORDS + (block >>> 5)] |= 1 << (block & 31);
}

export function removeFromSet(set: Int32Array, page: TablePage, block: BlockIndex): void {
  set[page * BLOCK_SET_WORDS + (block >>> 5)] &= ~(1 << (block & 31));
}

export function clearSet(set: Int32Array, page: TablePage): void {
  set.fill(0, page * BLOCK_SET_WORDS, (page + 1) * BLOCK_SET_WORDS);
}

/** Whether a page's set has any block from `first` on, `count` of them. */
export function meetsSet(set: Int32Array, page: TablePage, first: number, count: number): boolean {
  for (let block = first; block < first + count; block += 1) if (inSet(set, page, block)) return true;
  return false;
}
