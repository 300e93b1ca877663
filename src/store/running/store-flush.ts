/**
 * The flushes of a store: pending entries to the journal, the marks of flushes that are to be remembered behind them, and one
 * sync of the device. Those who ask while a flush runs share the next one.
 *
 * Where flushes come after few writes, entries go to the journal at once, while the flush is still on its way to the store
 * (*eager*).
 */

import { check } from '../../core/check.js';
import type { ReplicaPage, SlotIndex } from '../../core/ids.js';
import { STORE_CALLS_MAX, STORE_OPERATIONS_MAX } from '../../core/limits.js';
import { Waiting } from '../../core/waiting.js';
import type { FlushId } from '../../layout/flush-id.js';
import type { CompletionPort } from '../../ports/completion.js';
import type { BlockCount } from '../../ports/ids.js';
import { SLOT_FREE } from '../format/format.js';
import { EAGER_BLOCKS_MAX } from '../limits.js';
import { SPARE_PAGES_LOW } from './journal-room.js';
import type { JournalWriter } from './journal-writer.js';
import type { PendingEntries } from './pending-entries.js';
import type { SlotTable } from './slot-table.js';
import type { VolumeTable } from './volume-table.js';

/** What flushes need of their store. */
export interface StoreFlushParts {
  readonly completions: CompletionPort;
  readonly journal: JournalWriter;
  readonly slots: SlotTable;
  readonly pending: PendingEntries;
  readonly volumes: VolumeTable;
  /** Pages of the journal that nothing under way may need. */
  readonly sparePages: () => number;
  /** Has a checkpoint made, which makes room in the journal. */
  readonly makeRoom: () => Promise<void>;
  /** 0, or the errno of what has ended all modifications. */
  readonly failure: () => number;
  /** A flush has succeeded, and everybody has been told. */
  readonly onDurable: () => void;
}

/** A flush of a volume that is to be remembered, and as which. */
export interface FlushMark {
  readonly volume: ReplicaPage;
  readonly flush: FlushId;
}

interface MarkedFlush {
  readonly token: number;
  readonly mark: FlushMark;
}

/** Who is told how a flush has ended. */
class FlushWaiters {
  readonly tokens = new Waiting<number>('flushes', STORE_CALLS_MAX);
  readonly callbacks = new Waiting<(result: number) => void>('operations that wait for a flush', STORE_OPERATIONS_MAX);

  get size(): number {
    return this.tokens.size + this.callbacks.size;
  }
}

export class StoreFlush {
  private readonly parts: StoreFlushParts;
  /** Those who wait for the next flush, and for the running one; they change places when one begins. */
  private asked = new FlushWaiters();
  private told = new FlushWaiters();
  /** Flushes that are to be remembered, which wait for room in the journal. */
  private readonly marked = new Waiting<MarkedFlush>('flushes that wait for a checkpoint', STORE_CALLS_MAX);
  /** By volume, as what the next flush is to be remembered. */
  private readonly marks = new Map<number, FlushMark>();
  private running = false;
  /** Slots whose pending entries the running flush has yet to write, and marks. */
  private unjournaled: SlotIndex[] = [];
  private unmarked: FlushMark[] = [];
  /** The batch that the running flush makes durable. */
  private sequence = 0;
  private eagerly = false;
  private eagerBlocks = 0;
  private readonly synced = { proceed: (result: number) => this.end(result) };

  constructor(parts: StoreFlushParts) {
    this.parts = parts;
  }

  /**
   * Makes durable what has ended. `mark`: of which volume, and as which of its flushes, this is to be remembered. It is that of
   * the request: one that comes while this waits speaks of what this does not cover.
   */
  flush(token: number, mark: FlushMark | null): void {
    const failure = this.parts.failure();
    if (failure !== 0) {
      this.parts.completions.defer(token, failure);
      return;
    }
    const known = mark === null || this.parts.volumes.replicas[mark.volume] !== undefined;
    check(known, 'a flush is of no volume', mark?.volume);
    if (mark !== null && this.parts.sparePages() < SPARE_PAGES_LOW) {
      // Its mark takes room that no modification has asked for.
      this.marked.push({ token, mark });
      if (this.marked.size === 1) void this.parts.makeRoom().then(() => this.flushMarked());
      return;
    }
    this.asked.tokens.push(token);
    if (mark !== null) this.marks.set(mark.volume, mark);
    if (!this.running) this.start();
  }

  private flushMarked(): void {
    for (const { token, mark } of this.marked.takeAll()) this.flush(token, mark);
  }

  /** The same for those who wait here. */
  flushWith(callback: (result: number) => void): void {
    const failure = this.parts.failure();
    if (failure !== 0) {
      callback(failure);
      return;
    }
    this.asked.callbacks.push(callback);
    if (!this.running) this.start();
  }

  /** Whether entries are to go to the journal at once. */
  get eager(): boolean {
    return this.eagerly && !this.running;
  }

  /** So many blocks were journaled at once. A client that has stopped flushing would only pay for this. */
  countEager(blocks: BlockCount): void {
    this.eagerBlocks += blocks;
    this.eagerly = this.eagerBlocks <= EAGER_BLOCKS_MAX;
  }

  journalEagerly(): void {
    const { pending } = this.parts;
    this.countEager(pending.blocks);
    check(!this.running, 'entries are journaled at once while a flush writes them');
    for (const slot of pending.withEntries) if (!pending.write(slot)) return;
  }

  private start(): void {
    const { pending } = this.parts;
    const nobody = this.told;
    check(nobody.size === 0, 'a flush begins before all have been told of the last one', nobody.size);
    check(this.unjournaled.length + this.unmarked.length === 0, 'a flush begins before the last one has written all');
    this.running = true;
    this.told = this.asked;
    this.asked = nobody;
    if (this.marks.size > 0) {
      this.unmarked = [...this.marks.values()];
      this.marks.clear();
    }
    this.eagerly = this.eagerBlocks + pending.blocks <= EAGER_BLOCKS_MAX;
    this.eagerBlocks = 0;
    this.unjournaled = pending.all;
    this.journalPending();
  }

  /** Whether the running flush has more to write. */
  private get unwritten(): boolean {
    return this.running && this.unjournaled.length + this.unmarked.length > 0;
  }

  /** The journal has an empty batch. */
  useRoom(): void {
    if (this.unwritten) this.journalPending();
  }

  private journalPending(): void {
    const { journal, slots, pending, volumes } = this.parts;
    check(this.running, 'records of a flush are written that does not run');
    while (this.unjournaled.length > 0) {
      const slot = this.unjournaled[this.unjournaled.length - 1];
      if (slots.states[slot] !== SLOT_FREE && !pending.write(slot)) {
        journal.makeRoom();
        return;
      }
      this.unjournaled.pop();
    }
    // Last: what it speaks of stands before it.
    while (this.unmarked.length > 0) {
      const { volume, flush } = this.unmarked[this.unmarked.length - 1];
      if (!journal.batch.addFlushed(volume, flush)) {
        journal.makeRoom();
        return;
      }
      volumes.flushedMarks[volume] = flush;
      volumes.changed.add(volume);
      this.unmarked.pop();
    }
    this.sequence = journal.lastSequence;
    journal.whenSynced(this.sequence, this.synced);
    journal.submit();
  }

  private end(result: number): void {
    const { completions, journal, onDurable } = this.parts;
    check(this.running, 'a flush has ended twice');
    check(result !== 0 || journal.durableSequence >= this.sequence, 'a flush ends before it is durable', this.sequence);
    this.running = false;
    const tokens = this.told.tokens.takeAll();
    const callbacks = this.told.callbacks.takeAll();
    for (const token of tokens) completions.finish(token, result, 0);
    for (const callback of callbacks) callback(result);
    if (result === 0) onDurable();
    if (!this.running && this.asked.size > 0) this.start();
  }

  /** The device takes no more modifications: those who wait are told, and the running flush writes no more. */
  fail(failure: number): void {
    const { completions } = this.parts;
    for (const token of this.asked.tokens.takeAll()) completions.defer(token, failure);
    for (const callback of this.asked.callbacks.takeAll()) callback(failure);
    if (!this.unwritten) return;
    this.unjournaled = [];
    this.unmarked = [];
    this.end(failure);
  }
}
