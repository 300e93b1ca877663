/**
 * Block tables in memory: a bounded number of pages, each the table of one slot as it lies on the device.
 *
 * A page that is *pinned* is in use by operations, one that is *changed* holds entries that the tree on the device does not:
 * neither is given up. Any other may be, the longest unused first, by the clock algorithm (Corbató, 1968).
 */

import { check } from '../../core/check.js';
import { NO_PAGE, type SlotIndex, type TablePage } from '../../core/ids.js';
import { ENTRY_WORDS } from '../../layout/block-entry.js';
import type { BlockIndex } from '../../ports/ids.js';
import type { Memory } from '../../ports/memory.js';
import { PAGE_BYTES, TABLE_ENTRIES } from '../format/format.js';

const NONE = -1;
/** Words of a set of blocks. */
export const BLOCK_SET_WORDS = TABLE_ENTRIES / 32;

export class TableCache {
  /** All pages as words. Entry of block b in page p: from `p * 1024 + 4 * b` on. */
  readonly words: Uint32Array;
  readonly pages: number;
  /** By page: the blocks whose entries are not in the journal yet. */
  readonly pending: Int32Array;
  /** By page: the blocks whose first write no flush is known to have covered. */
  readonly young: Int32Array;
  private readonly memoryStart: number;
  /** By slot: its page and 1, or 0 for none, so that memory of slots that were never used is never touched. */
  private readonly pageOf: Int32Array;
  private readonly slotOf: Int32Array;
  private readonly pins: Uint32Array;
  private readonly changed: Uint8Array;
  private readonly used: Uint8Array;
  private hand = 0;

  static memoryBytes(pages: number): number {
    return pages * PAGE_BYTES;
  }

  /** `memoryStart` is a page of the arena from which `pages` pages are free to use. */
  constructor(memory: Memory, memoryStart: number, pages: number, slots: number) {
    const { buffer, byteOffset } = memory.bytes;
    this.memoryStart = memoryStart;
    this.pages = pages;
    this.words = new Uint32Array(buffer, byteOffset + memoryStart, pages * (PAGE_BYTES / 4));
    this.pending = new Int32Array(pages * BLOCK_SET_WORDS);
    this.young = new Int32Array(pages * BLOCK_SET_WORDS);
    this.pageOf = new Int32Array(slots);
    this.slotOf = new Int32Array(pages).fill(NONE);
    this.pins = new Uint32Array(pages);
    this.changed = new Uint8Array(pages);
    this.used = new Uint8Array(pages);
  }

  /** The page of a slot's table, or -1. */
  find(slot: SlotIndex): TablePage {
    const page = (this.pageOf[slot] - 1) as TablePage;
    check(page === NONE || this.slotOf[page] === slot, 'a slot has its block table in the page of another', slot);
    if (page !== NONE) this.used[page] = 1;
    return page;
  }

  slotAt(page: TablePage): SlotIndex {
    return this.slotOf[page] as SlotIndex;
  }

  /** Where a page lies in the arena. */
  memoryOf(page: TablePage): number {
    check(page >= 0 && page < this.pages, 'there is no such page of the cache', page);
    return this.memoryStart + page * PAGE_BYTES;
  }

  /** First word of an entry. */
  wordOf(page: TablePage, block: BlockIndex): number {
    return page * (PAGE_BYTES / 4) + block * ENTRY_WORDS;
  }

  /** Takes a page for a slot that has none, with undefined content. Returns -1 if all pages are in use. */
  take(slot: SlotIndex): TablePage {
    check(this.pageOf[slot] === 0, 'a slot takes a second page for its block table', slot);
    for (let tried = 0; tried < 2 * this.pages; tried += 1) {
      const page = this.hand as TablePage;
      this.hand = page + 1 === this.pages ? 0 : page + 1;
      if (this.pins[page] > 0 || this.changed[page] === 1) continue;
      if (this.used[page] === 1) {
        this.used[page] = 0;
        continue;
      }
      this.drop(page);
      this.pageOf[slot] = page + 1;
      this.slotOf[page] = slot;
      this.used[page] = 1;
      return page;
    }
    return NO_PAGE;
  }

  clear(page: TablePage): void {
    check(this.slotOf[page] !== NONE, 'a page is cleared that has no block table', page);
    const start = page * (PAGE_BYTES / 4);
    this.words.fill(0, start, start + PAGE_BYTES / 4);
  }

  private drop(page: TablePage): void {
    const slot = this.slotOf[page];
    this.checkJournaled(page);
    if (slot !== NONE) this.pageOf[slot] = 0;
    this.slotOf[page] = NONE;
    this.changed[page] = 0;
    this.used[page] = 0;
    this.young.fill(0, page * BLOCK_SET_WORDS, (page + 1) * BLOCK_SET_WORDS);
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
    if (page !== NONE) this.drop(page);
  }

  pin(page: TablePage): void {
    check(this.slotOf[page] !== NONE, 'a page is held that has no block table', page);
    this.pins[page] += 1;
  }

  unpin(page: TablePage): void {
    check(this.pins[page] > 0, 'a block table was let go of twice', page);
    this.pins[page] -= 1;
  }

  pinned(page: TablePage): boolean {
    return this.pins[page] > 0;
  }

  setChanged(page: TablePage): void {
    check(this.slotOf[page] !== NONE, 'a page has changed that has no block table', page);
    this.changed[page] = 1;
  }

  /** The pages that hold entries which the tree on the device does not. */
  changedPages(): TablePage[] {
    const list: TablePage[] = [];
    for (let page = 0; page < this.pages; page += 1) if (this.changed[page] === 1) list.push(page as TablePage);
    return list;
  }

  setClean(page: TablePage): void {
    this.checkJournaled(page);
    this.changed[page] = 0;
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
