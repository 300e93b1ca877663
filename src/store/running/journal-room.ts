/**
 * Room in the journal. The store reserves it before it starts a modification: in the middle of one it is too late for a
 * checkpoint, which makes room and waits until none is in progress. Those whose batch is full wait here for the next one.
 */

import { check } from '../../core/check.js';
import { STORE_CALLS_MAX, STORE_OPERATIONS_MAX } from '../../core/limits.js';
import { Waiting } from '../../core/waiting.js';
import { PAGE_BLOCK_RECORDS } from '../format/journal-records.js';
import type { StoreOp } from '../store-op.js';
import type { JournalWriter } from './journal-writer.js';
import type { PendingEntries } from './pending-entries.js';
import type { YoungBlocks } from './young-blocks.js';

/**
 * Pages of the journal beyond what is reserved: admitted modifications leave so many for marks of flushes and for notes, and
 * these leave some for a checkpoint, which makes room.
 */
export const SPARE_PAGES = 12;
export const SPARE_PAGES_LOW = 8;

/** What room in the journal needs of its store. */
export interface JournalRoomParts {
  readonly journal: JournalWriter;
  readonly pending: PendingEntries;
  readonly young: YoungBlocks;
  /** An operation that found the batch full has another. */
  readonly resume: (op: StoreOp) => void;
  /** There will be no room any more. */
  readonly onFailed: (op: StoreOp, failure: number) => void;
}

export class JournalRoom {
  private readonly parts: JournalRoomParts;
  /** Pages that modifications in progress may still fill. */
  private reserved = 0;
  private readonly waiting = new Waiting<StoreOp>('operations that wait for room in a batch', STORE_OPERATIONS_MAX);
  private readonly calls = new Waiting<() => void>('calls that wait for room in a batch', STORE_CALLS_MAX);
  private failure = 0;

  constructor(parts: JournalRoomParts) {
    this.parts = parts;
  }

  /** Pages that nothing under way may need. */
  get sparePages(): number {
    const { journal, pending, young } = this.parts;
    return journal.freePages - this.reserved - pending.pages - young.pages;
  }

  reserve(pages: number): void {
    check(pages > 0, 'a modification needs no room in the journal', pages);
    this.reserved += pages;
  }

  giveBack(pages: number): void {
    this.reserved -= pages;
    check(this.reserved >= 0, 'more room in the journal is given back than was reserved', this.reserved);
  }

  /** Lets an operation that found the batch full wait for the next one. */
  wait(op: StoreOp): void {
    if (this.failure !== 0) {
      this.parts.onFailed(op, this.failure);
      return;
    }
    check(op.inFlight && op.admitted, 'an operation waits for room that has ended', op.index);
    this.waiting.push(op);
    this.parts.journal.makeRoom();
  }

  /** The same for control work, which has to look again: it is called at a failure too. */
  whenRoom(callback: () => void): void {
    this.calls.push(callback);
    this.parts.journal.submit();
  }

  /** The journal has an empty batch: operations that found the last one full go on, in order. */
  resume(): void {
    if (this.waiting.size === 0) return;
    for (const op of this.waiting.takeAll()) this.parts.resume(op);
  }

  /** The same for control work. */
  resumeCalls(): void {
    if (this.calls.size === 0) return;
    for (const callback of this.calls.takeAll()) callback();
  }

  /** The device takes no more modifications: nobody waits for room any more. */
  end(failure: number): void {
    for (const op of this.waiting.takeAll()) this.parts.onFailed(op, failure);
    this.resumeCalls();
  }

  /** Nothing is under way: all room has been given back, and nobody waits for any. */
  checkAtRest(): void {
    check(this.reserved === 0, 'room in the journal is reserved for nothing', this.reserved);
    check(this.waiting.size + this.calls.size === 0, 'some wait for room in the journal that will not come');
  }

  /** From now on nobody begins to wait. */
  close(failure: number): void {
    this.failure = failure;
  }
}

/**
 * Pages that an operation may fill: its records, a stamp and the intent of its slot may each go in a batch of their own. One that
 * fails may need as much again for records that take those back, but no stamp.
 */
export function pagesOf(op: StoreOp, hasIntent: boolean): number {
  return 2 * Math.ceil((op.blocks + 1) / PAGE_BLOCK_RECORDS) + (hasIntent ? 0 : 1);
}
