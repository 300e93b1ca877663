/**
 * Block tables on their way into memory. Operations wait here for the table of their slot, or for a page in memory to put it
 * in; each gets its page pinned.
 */

import { check } from '../../core/check.js';
import { NO_PAGE, type SlotIndex, type TablePage } from '../../core/ids.js';
import { STORE_OPERATIONS_MAX } from '../../core/limits.js';
import { Waiting } from '../../core/waiting.js';
import { BLOCK_POISON, ENTRY_FLAGS } from '../../layout/block-entry.js';
import { COMPLETION_ABANDONED, type CompletionPort } from '../../ports/completion.js';
import type { Device } from '../../ports/device.js';
import type { Memory } from '../../ports/memory.js';
import { type Layout, PAGE_BYTES, pageOffset, SLOT_FREE, slotBlocks } from '../format/format.js';
import { TABLE_LOADS_MAX } from '../limits.js';
import type { StoreOp } from '../store-op.js';
import { SLOT_FLAG_PLACE, SLOT_FLAG_TABLE, type SlotTable } from './slot-table.js';
import type { TableCache } from './table-cache.js';

/** What loading needs of its store. */
export interface TableLoaderParts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly device: Device;
  readonly layout: Layout;
  readonly slots: SlotTable;
  readonly tables: TableCache;
  /** An operation has to wait. */
  readonly onWait: (op: StoreOp) => void;
  /** An operation has its page, pinned. */
  readonly onReady: (op: StoreOp) => void;
  readonly onFailed: (op: StoreOp, result: number) => void;
  /** A page may have become free for an operation that waited with `awaitPage`. */
  readonly onPage: (op: StoreOp) => void;
  /** A slot's table is not what was written. */
  readonly onDamage: (slot: SlotIndex) => void;
}

export class TableLoader {
  private readonly parts: TableLoaderParts;
  private readonly token: number;
  /** By slot: who waits for a table that is being read. */
  private readonly loading = new Map<number, StoreOp[]>();
  private readonly waiting = new Waiting<StoreOp>('operations that wait for a page of the cache', STORE_OPERATIONS_MAX);
  /** The operation that has its turn. */
  private tried: StoreOp | null = null;

  constructor(parts: TableLoaderParts) {
    this.parts = parts;
    this.token = parts.completions.register({
      complete: (tag, result, flags) => this.end(tag as TablePage, result, flags),
    });
  }

  /** Gets an operation the table of its slot. */
  load(op: StoreOp): void {
    const { tables, onWait, onReady } = this.parts;
    const { slot } = op;
    check(op.page < 0, 'an operation asks for a block table that it has', op.index);
    const waiting = this.loading.get(slot);
    if (waiting !== undefined) {
      onWait(op);
      waiting.push(op);
      return;
    }
    let page = tables.find(slot);
    if (page < 0) {
      page = this.begin(op);
      if (page < 0) return;
    }
    tables.pin(page);
    check(tables.slotAt(page) === slot, 'an operation gets the block table of another slot', slot);
    op.page = page;
    onReady(op);
  }

  /** Begins to load a slot's table. Returns its page if there is nothing to load. */
  private begin(op: StoreOp): TablePage {
    const { tables, slots, device, layout, onWait } = this.parts;
    const { slot } = op;
    const page = this.loading.size < TABLE_LOADS_MAX ? tables.take(slot) : NO_PAGE;
    if (page < 0) {
      onWait(op);
      this.awaitPage(op);
      return NO_PAGE;
    }
    if ((slots.flags[slot] & SLOT_FLAG_TABLE) === 0) {
      tables.clear(page);
      return page;
    }
    onWait(op);
    this.loading.set(slot, [op]);
    tables.pin(page);
    const place = (slots.flags[slot] & SLOT_FLAG_PLACE) !== 0 ? 1 : 0;
    const offset = pageOffset(layout.blockTableOffset, slot, place);
    device.read(tables.memoryOf(page), PAGE_BYTES, offset, this.token + page);
    return NO_PAGE;
  }

  private end(page: TablePage, result: number, flags: number): void {
    const { tables, memory, slots, onReady, onFailed } = this.parts;
    const slot = tables.slotAt(page);
    const waiting = this.loading.get(slot);
    check(waiting !== undefined, 'a block table has been read twice, or for nobody', page);
    this.loading.delete(slot);
    if (result < 0) {
      // The kernel may still write to a page whose reading was given up: it stays pinned until that is over.
      if ((flags & COMPLETION_ABANDONED) === 0) tables.unpin(page);
      tables.forget(slot);
      for (const op of waiting) onFailed(op, result);
      return;
    }
    if (memory.checksum(tables.memoryOf(page), PAGE_BYTES) !== slots.tableChecksums[slot]) this.losePage(page, slot);
    check(tables.pinned(page), 'a block table was let go of while it was read', slot);
    for (const op of waiting) {
      tables.pin(page);
      op.page = page;
      onReady(op);
    }
    // Not before: those that end at once would let others have the page while some still have to get it.
    this.letGo(page);
    this.retry();
  }

  /** Nothing tells any more what the slot's blocks are: reading them is an error until they are written again. */
  private losePage(page: TablePage, slot: SlotIndex): void {
    const { tables, layout, onDamage } = this.parts;
    onDamage(slot);
    tables.clear(page);
    for (let block = 0; block < slotBlocks(layout); block += 1) {
      tables.words[tables.wordOf(page, block) + ENTRY_FLAGS] = BLOCK_POISON;
    }
  }

  /** Unpins a page. That of a slot that has been given back goes with the last who looks at it. */
  letGo(page: TablePage): void {
    const { tables, slots } = this.parts;
    tables.unpin(page);
    const slot = tables.slotAt(page);
    if (slot >= 0 && slots.states[slot] === SLOT_FREE && !tables.pinned(page)) tables.forget(slot);
  }

  /** Lets an operation wait for a page that is free, behind all others; the one that has its turn waits on, before them. */
  awaitPage(op: StoreOp): void {
    check(op.page < 0, 'an operation waits for a page of the cache that it has', op.index);
    if (op !== this.tried) {
      this.waiting.push(op);
      return;
    }
    this.tried = null;
    this.waiting.putBack(op);
  }

  /** Lets those who wait for a page try again, in order. */
  retry(): void {
    const { waiting } = this;
    while (waiting.size > 0) {
      this.tried = waiting.take() as StoreOp;
      this.parts.onPage(this.tried);
      // There is still none.
      if (this.tried === null) return;
      this.tried = null;
    }
  }

  close(): void {
    check(this.loading.size === 0, 'block tables are read when their store is given up', this.loading.size);
    check(this.waiting.size === 0, 'operations wait for block tables when their store is given up', this.waiting.size);
    this.parts.completions.unregister(this.token);
  }
}
