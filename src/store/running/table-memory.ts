/**
 * Memory for block tables, which the stores of one thread share: pages, each with the table of one slot as it is on the device.
 *
 * ```text
 *   shares     the pages of each store, or as many as it is promised (`least`) if it has fewer
 *   budget     ≥ all shares: a store may take a page that is free
 *              otherwise the longest unused page goes, of whichever store has more than it is promised
 * ```
 *
 * A store never waits for another one: what it is promised is there whatever the others do, and is more than what its activity
 * log keeps from going. So where the promises of all come to more than the budget, they are kept and the budget is not.
 *
 * A page that is *pinned* is in use by operations, one that is *changed* holds entries that the tree on the device does not:
 * neither is given up. Any other may be, by the clock algorithm (Corbató, 1968).
 */

import { check } from '../../core/check.js';
import { StrakeError } from '../../core/errors.js';
import { NO_PAGE, type SlotIndex, type TablePage } from '../../core/ids.js';
import type { Memory } from '../../ports/memory.js';
import { PAGE_BYTES, TABLE_ENTRIES } from '../format/format.js';
import { TABLE_SHARERS_MAX } from '../limits.js';

/** Words of a set of blocks. */
export const BLOCK_SET_WORDS = TABLE_ENTRIES / 32;

/** A store, as the memory of its block tables sees it. */
export interface TableHolder {
  /** Pages that it is promised. */
  readonly least: number;
  /** A page goes that nobody uses, and that holds nothing which the device does not. */
  drop(page: TablePage): void;
}

interface Share {
  readonly holder: TableHolder;
  /** Pages that it has. */
  held: number;
}

/** Where block tables of several stores are. */
export interface TableRange {
  /** A page of the arena. */
  readonly memoryStart: number;
  /** Memory from there on: the budget, and what all stores may be promised. */
  readonly bytes: number;
  /** Bytes that are used as long as the promises to stores leave it at that. */
  readonly budgetBytes: number;
}

export class TableMemory {
  /** All pages as words. Entry of block b in page p: from `p * 1024 + 4 * b` on. */
  readonly words: Uint32Array;
  /** By page: the blocks whose entries are not in the journal yet. */
  readonly pending: Int32Array;
  /** By page: the blocks whose first write no flush is known to have covered. */
  readonly young: Int32Array;
  readonly pins: Uint32Array;
  readonly changed: Uint8Array;
  readonly used: Uint8Array;
  private readonly pages: number;
  private readonly budget: number;
  private readonly memory: Memory;
  private readonly memoryStart: number;
  /** By page: its slot and 1, or 0 for none, so that memory of pages that were never used is never touched. */
  private readonly slotOf: Int32Array;
  /** By page: the number of the share that it belongs to and 1, or 0. */
  private readonly shareOf: Uint8Array;
  private readonly shares: (Share | null)[] = [];
  /** Pages that were used before, of which the last is used next: it costs no memory that is not there already. */
  private readonly free: TablePage[] = [];
  /** Pages from here on were never used. */
  private end = 0;
  private hand = 0;
  /** Pages that stores have or are promised, and those of stores that are gone which the kernel may still use. */
  private shared = 0;
  private promised = 0;
  /** Pages that nobody has, and that the kernel may still use. */
  private late = 0;

  constructor(memory: Memory, { memoryStart, bytes, budgetBytes }: TableRange) {
    const { buffer, byteOffset } = memory.bytes;
    const pages = Math.floor(bytes / PAGE_BYTES);
    this.memory = memory;
    this.memoryStart = memoryStart;
    this.pages = pages;
    this.budget = Math.floor(budgetBytes / PAGE_BYTES);
    check(this.budget <= pages, 'block tables are to have more memory than there is', budgetBytes);
    this.words = new Uint32Array(buffer, byteOffset + memoryStart, pages * (PAGE_BYTES / 4));
    this.pending = new Int32Array(pages * BLOCK_SET_WORDS);
    this.young = new Int32Array(pages * BLOCK_SET_WORDS);
    this.pins = new Uint32Array(pages);
    this.changed = new Uint8Array(pages);
    this.used = new Uint8Array(pages);
    this.slotOf = new Int32Array(pages);
    this.shareOf = new Uint8Array(pages);
  }

  /** Pages that a store has. */
  heldBy(number: number): number {
    return this.shares[number]?.held ?? 0;
  }

  /**
   * Takes a store in. Returns the number of its share. Throws `ERR_STRAKE_BUSY` if devices that never answered have memory of
   * which it would have to be promised some.
   */
  join(holder: TableHolder): number {
    const found = this.shares.indexOf(null);
    const number = found < 0 ? this.shares.length : found;
    if (number >= TABLE_SHARERS_MAX || this.shared + holder.least > this.pages) {
      throw new StrakeError('BUSY', 'memory of block tables is still in use by devices that did not answer', {
        remedy: 'Start the process anew.',
      });
    }
    this.shares[number] = { holder, held: 0 };
    this.promised += holder.least;
    this.shared += holder.least;
    this.shrink();
    return number;
  }

  private get limit(): number {
    return Math.max(this.budget, this.promised);
  }

  /** Gives pages up that are more than there may be, as far as nobody uses them. */
  private shrink(): void {
    while (this.shared > this.limit) {
      const page = this.evict(null);
      if (page < 0) return;
      this.free.push(page);
    }
  }

  /** Takes a page, with undefined content, for a slot of a share. Returns -1 if all that it might have are in use. */
  take(number: number, slot: SlotIndex): TablePage {
    const share = this.shares[number];
    check(share !== null && share !== undefined, 'a store that is gone takes a page for a block table', number);
    if (this.shared > this.limit) this.shrink();
    const more = share.held >= share.holder.least;
    const page = more && this.shared >= this.limit ? this.evict(share) : this.freePage(share);
    if (page < 0) return NO_PAGE;
    share.held += 1;
    // The page that went may have been its own.
    if (share.held > share.holder.least) this.shared += 1;
    this.slotOf[page] = slot + 1;
    this.shareOf[page] = number + 1;
    this.used[page] = 1;
    return page;
  }

  private freePage(share: Share): TablePage {
    const page = this.free.pop();
    if (page !== undefined) return page;
    if (this.end >= this.pages) {
      // A device that does not answer holds on to some of the pages of its store, which has to do with the others.
      check(this.late > 0, 'block tables that were promised a page find none', this.end);
      return this.evict(share);
    }
    this.end += 1;
    return (this.end - 1) as TablePage;
  }

  /** Gives up the longest unused page of a share, or of one with more pages than it is promised. Returns -1 if all are in use. */
  private evict(share: Share | null): TablePage {
    for (let tried = 0; tried < 2 * this.end; tried += 1) {
      const page = this.hand as TablePage;
      this.hand = page + 1 >= this.end ? 0 : page + 1;
      if (this.shareOf[page] === 0 || this.pins[page] > 0 || this.changed[page] === 1) continue;
      const owner = this.shares[this.shareOf[page] - 1];
      if (owner === null || (owner !== share && owner.held <= owner.holder.least)) continue;
      if (this.used[page] === 1) {
        this.used[page] = 0;
        continue;
      }
      owner.holder.drop(page);
      this.part(page);
      return page;
    }
    return NO_PAGE;
  }

  /** A page belongs to nobody any more. */
  private part(page: TablePage): void {
    const share = this.shares[this.shareOf[page] - 1];
    check(share !== null && share !== undefined, 'a page is given back that no store has', page);
    share.held -= 1;
    if (share.held >= share.holder.least) this.shared -= 1;
    check(this.shared >= this.promised, 'stores have fewer pages than they are promised', this.shared);
    this.slotOf[page] = 0;
    this.shareOf[page] = 0;
    this.used[page] = 0;
  }

  /** A page is given back, which nobody uses. One that is pinned still waits for an operation that was given up. */
  giveBack(page: TablePage): void {
    this.part(page);
    if (this.pins[page] > 0) this.freeLater(page);
    else this.free.push(page);
  }

  /** A page counts as shared until the kernel cannot use it any more. */
  private freeLater(page: TablePage): void {
    this.pins[page] = 0;
    this.shared += 1;
    this.late += 1;
    this.memory.whenFree(this.memoryOf(page), PAGE_BYTES, () => {
      this.shared -= 1;
      this.late -= 1;
      this.free.push(page);
    });
  }

  /** The slot of a page; -1 for none. */
  slotAt(page: TablePage): SlotIndex {
    return (this.slotOf[page] - 1) as SlotIndex;
  }

  /** Where a page lies in the arena. */
  memoryOf(page: TablePage): number {
    check(page >= 0 && page < this.end, 'there is no such page of the cache', page);
    return this.memoryStart + page * PAGE_BYTES;
  }

  /** A store is gone. Its pages are free when no operation that was given up can use them any more. */
  leave(number: number): void {
    const share = this.shares[number];
    check(share !== null && share !== undefined, 'a store leaves the memory of block tables twice', number);
    this.shares[number] = null;
    this.promised -= share.holder.least;
    this.shared -= Math.max(share.held, share.holder.least);
    for (let index = 0; index < this.end; index += 1) {
      const page = index as TablePage;
      if (this.shareOf[page] === number + 1) this.clearOf(page);
    }
  }

  private clearOf(page: TablePage): void {
    const sets = page * BLOCK_SET_WORDS;
    this.pending.fill(0, sets, sets + BLOCK_SET_WORDS);
    this.young.fill(0, sets, sets + BLOCK_SET_WORDS);
    for (const list of [this.slotOf, this.shareOf, this.used, this.changed]) list[page] = 0;
    this.freeLater(page);
  }
}
