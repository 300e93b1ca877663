/**
 * Blocks whose first write recovery might still not believe: it does so once a sync has covered the write, and a durable batch
 * says so. A young block is not written again, or recovery would drop what was durable.
 */

import { check } from '../../core/check.js';
import type { SlotIndex, TablePage } from '../../core/ids.js';
import { STORE_OPERATIONS_MAX } from '../../core/limits.js';
import { Waiting } from '../../core/waiting.js';
import type { BlockIndex } from '../../ports/ids.js';
import { REQUEST_WRITE } from '../../ports/segment-request.js';
import type { StoreOp } from '../store-op.js';
import type { JournalWriter } from './journal-writer.js';
import { addToSet, clearSet, meetsSet, type TableCache } from './table-cache.js';

export class YoungBlocks {
  private readonly tables: TableCache;
  private readonly journal: JournalWriter;
  private readonly resume: (op: StoreOp, result: number) => void;
  /** The last batch with a first write of a slot that has young blocks. */
  private readonly sequences = new Map<SlotIndex, number>();
  private readonly waiting = new Waiting<StoreOp>('operations that wait for young blocks', STORE_OPERATIONS_MAX);
  private aging = false;

  /** `resume` is called with those who waited, and 0 or a negative errno. */
  constructor(tables: TableCache, journal: JournalWriter, resume: (op: StoreOp, result: number) => void) {
    this.tables = tables;
    this.journal = journal;
    this.resume = resume;
  }

  /** A first write of a block has its record in the batch that is being filled. */
  add(slot: SlotIndex, page: TablePage, block: BlockIndex): void {
    check(this.tables.slotAt(page) === slot, 'a young block is noted in the block table of another slot', slot);
    check(
      (this.sequences.get(slot) ?? 0) <= this.journal.batch.sequence,
      'first writes of a slot go back in the journal',
      slot,
    );
    addToSet(this.tables.young, page, block);
    this.sequences.set(slot, this.journal.batch.sequence);
  }

  /** Whether an operation would write to a young block. */
  meets(op: StoreOp): boolean {
    if (op.kind !== REQUEST_WRITE) return false;
    const sequence = this.sequences.get(op.slot);
    if (sequence === undefined) return false;
    if (sequence <= this.journal.notedSequence) {
      this.sequences.delete(op.slot);
      clearSet(this.tables.young, op.page);
      return false;
    }
    return meetsSet(this.tables.young, op.page, op.block, op.blocks);
  }

  /** Pages of the journal that what is under way may need. */
  get pages(): number {
    return this.aging ? 1 : 0;
  }

  /** Holds an operation until what is young now is old. */
  hold(op: StoreOp): void {
    check(op.page >= 0, 'an operation waits for young blocks without its block table', op.index);
    this.waiting.push(op);
    if (!this.aging) this.age();
  }

  /** A sync, a batch that says so, and a sync of that. */
  private age(): void {
    const { journal } = this;
    this.aging = true;
    const end = (result: number) => {
      check(this.aging, 'young blocks have become old twice');
      this.aging = false;
      for (const op of this.takeHeld()) this.resume(op, result);
    };
    const noted = { proceed: end };
    const synced = {
      proceed: (result: number) => {
        if (result < 0) end(result);
        else journal.whenSynced(journal.note(), noted);
      },
    };
    journal.whenSynced(journal.lastSequence, synced);
    journal.submit();
  }

  /** Operations that are held; they are the caller's now. */
  takeHeld(): StoreOp[] {
    return this.waiting.takeAll();
  }

  /** A slot has been given back. */
  forget(slot: SlotIndex): void {
    this.sequences.delete(slot);
  }

  /** Everything is in the tree, which a sync has covered. */
  forgetAll(): void {
    check(this.waiting.size === 0, 'a checkpoint ends while operations wait for young blocks', this.waiting.size);
    for (const slot of this.sequences.keys()) {
      const page = this.tables.find(slot);
      if (page >= 0) clearSet(this.tables.young, page);
    }
    this.sequences.clear();
  }
}
