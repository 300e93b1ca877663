/**
 * Intents on their way: records that a slot is about to be written to, which have to be durable before it is. Then the slot is
 * in the activity log.
 */

import { check } from '../../core/check.js';
import type { SlotIndex } from '../../core/ids.js';
import { SLOT_USED } from '../format/format.js';
import { RECORD_INTENT } from '../format/journal-records.js';
import type { StoreOp } from '../store-op.js';
import type { ActivityLog } from './activity-log.js';
import type { JournalWriter } from './journal-writer.js';
import type { SlotTable } from './slot-table.js';

/** Slots that enter the activity log together. */
const INTENT_SLOTS = 16;

export class Intents {
  private readonly log: ActivityLog;
  private readonly slots: SlotTable;
  private readonly journal: JournalWriter;
  /** Whether a slot is just being given to a segment. */
  private readonly isAllocating: (slot: SlotIndex) => boolean;
  /** By slot: the operations that wait, of which the first has the record written. */
  private readonly waiting = new Map<SlotIndex, StoreOp[]>();
  /** Slots that enter the log together with one that is about to be written to, by that one. */
  private readonly neighbours = new Map<SlotIndex, SlotIndex[]>();

  constructor(log: ActivityLog, slots: SlotTable, journal: JournalWriter, isAllocating: (slot: SlotIndex) => boolean) {
    this.log = log;
    this.slots = slots;
    this.journal = journal;
    this.isAllocating = isAllocating;
  }

  /** Lets an operation wait for its slot's intent. Returns whether it is the one that has to write it. */
  join(op: StoreOp): boolean {
    const waiting = this.waiting.get(op.slot);
    check(op.page >= 0, 'an operation waits for an intent without its block table', op.index);
    if (waiting === undefined) this.waiting.set(op.slot, [op]);
    else waiting.push(op);
    return waiting === undefined;
  }

  /** Writes the record; the operation proceeds when that is durable. Returns false if the batch is full. */
  write(op: StoreOp): boolean {
    const { journal } = this;
    check(this.waiting.has(op.slot), 'an intent is written that nobody waits for', op.slot);
    check(!this.log.has(op.slot), 'an intent is written of a slot in the activity log', op.slot);
    if (!journal.batch.addSlot(RECORD_INTENT, op.slot)) return false;
    this.addNeighbours(op.slot);
    journal.whenSynced(journal.batch.sequence, op);
    return true;
  }

  /**
   * Slots beside one that is about to be written to will often be next, and cost nothing in the same batch: otherwise random
   * writes would pay a sync for each slot once.
   */
  private addNeighbours(slot: SlotIndex): void {
    const { slots, journal } = this;
    const first = slot - (slot % INTENT_SLOTS);
    let room = Math.floor((this.log.max - this.log.inUse) / 2);
    const added: SlotIndex[] = [];
    for (let index = first; index < Math.min(first + INTENT_SLOTS, slots.slots) && room > 0; index += 1) {
      const other = index as SlotIndex;
      const idle = slots.states[other] === SLOT_USED && !this.log.covers(other);
      if (!idle || this.waiting.has(other) || this.isAllocating(other)) continue;
      if (!journal.batch.addSlot(RECORD_INTENT, other)) break;
      this.waiting.set(other, []);
      added.push(other);
      room -= 1;
    }
    if (added.length === 0) return;
    this.neighbours.set(slot, added);
    this.log.expected += added.length;
    check(this.log.inUse <= this.log.max, 'more slots are to enter the activity log than fit', this.log.inUse);
  }

  /** A slot's intent is durable (0), or has failed. Returns the operations that have waited for that. */
  end(slot: SlotIndex, result: number): StoreOp[] {
    const slots = [slot, ...(this.neighbours.get(slot) ?? [])];
    this.neighbours.delete(slot);
    this.log.expected -= slots.length - 1;
    check(this.log.expected >= 0, 'more slots have entered the activity log than were expected', this.log.expected);
    check(slots.length <= INTENT_SLOTS, 'more slots enter the activity log together than may', slots.length);
    const ended: StoreOp[] = [];
    for (const one of slots) {
      const waiting = this.waiting.get(one);
      check(waiting !== undefined, 'an intent has ended twice, or was not wanted', one);
      ended.push(...waiting);
      this.waiting.delete(one);
      if (result === 0) this.log.add(one);
    }
    return ended;
  }
}
