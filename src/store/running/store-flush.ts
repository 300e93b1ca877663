/**
 * The flushes of a store: pending entries to the journal, the marks of flushes that are to be remembered behind them, and one
 * sync of the device. Those who ask while a flush runs share the next one.
 *
 * Where flushes come after few writes, entries go to the journal at once, while the flush is still on its way to the store
 * (*eager*).
 */

import type { CompletionPort } from '../../ports/completion.js';
import { SLOT_FREE } from '../format/format.js';
import { EAGER_BLOCKS_MAX } from '../limits.js';
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
  /** A flush has succeeded, and everybody has been told. */
  readonly onDurable: () => void;
}

export class StoreFlush {
  private readonly parts: StoreFlushParts;
  private tokens: number[] = [];
  private callbacks: ((result: number) => void)[] = [];
  private readonly volumes = new Set<number>();
  private running = false;
  private runningTokens: number[] = [];
  private runningCallbacks: ((result: number) => void)[] = [];
  /** Slots whose pending entries the running flush has yet to write, and marks. */
  private unjournaled: number[] = [];
  private unmarked: number[] = [];
  private eagerly = false;
  private eagerBlocks = 0;

  constructor(parts: StoreFlushParts) {
    this.parts = parts;
  }

  /** Makes durable what has ended. `volume`: whose current flush this is, to be remembered; -1 for none. */
  flush(token: number, volume: number): void {
    this.tokens.push(token);
    if (volume >= 0) this.volumes.add(volume);
    if (!this.running) this.start();
  }

  /** The same for those who wait here. */
  flushWith(callback: (result: number) => void): void {
    this.callbacks.push(callback);
    if (!this.running) this.start();
  }

  /** Whether entries are to go to the journal at once. */
  get eager(): boolean {
    return this.eagerly && !this.running;
  }

  /** So many blocks were journaled at once. A client that has stopped flushing would only pay for this. */
  countEager(blocks: number): void {
    this.eagerBlocks += blocks;
    this.eagerly = this.eagerBlocks <= EAGER_BLOCKS_MAX;
  }

  journalEagerly(): void {
    const { pending } = this.parts;
    this.countEager(pending.blocks);
    for (const slot of pending.withEntries) if (!pending.write(slot)) return;
  }

  private start(): void {
    const { pending } = this.parts;
    this.running = true;
    this.runningTokens = this.tokens;
    this.runningCallbacks = this.callbacks;
    this.tokens = [];
    this.callbacks = [];
    this.unmarked = [...this.volumes];
    this.volumes.clear();
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
      const volume = this.unmarked[this.unmarked.length - 1];
      const mark = volumes.marks[volume];
      if (!journal.batch.addFlushed(volume, mark)) {
        journal.makeRoom();
        return;
      }
      volumes.flushedMarks[volume] = mark;
      volumes.changed.add(volume);
      this.unmarked.pop();
    }
    journal.whenSynced(journal.lastSequence, { proceed: (result) => this.end(result) });
    journal.submit();
  }

  private end(result: number): void {
    const { completions, onDurable } = this.parts;
    this.running = false;
    const tokens = this.runningTokens;
    const callbacks = this.runningCallbacks;
    this.runningTokens = [];
    this.runningCallbacks = [];
    for (const token of tokens) completions.finish(token, result, 0);
    for (const callback of callbacks) callback(result);
    if (result === 0) onDurable();
    if (!this.running && this.tokens.length + this.callbacks.length > 0) this.start();
  }

  /** The device takes no more modifications: those who wait are told, and the running flush writes no more. */
  fail(failure: number): void {
    const { completions } = this.parts;
    for (const token of this.tokens.splice(0)) completions.defer(token, failure);
    for (const callback of this.callbacks.splice(0)) callback(failure);
    if (!this.unwritten) return;
    this.unjournaled = [];
    this.unmarked = [];
    this.end(failure);
  }
}
