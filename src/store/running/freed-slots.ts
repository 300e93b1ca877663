/**
 * Slots on their way from being given back to being free for use: until the record of that is durable, and the device has
 * been told that their content is not needed.
 */

import { check } from '../../core/check.js';
import type { SlotIndex } from '../../core/ids.js';
import { DISCARDS_MAX } from '../limits.js';

/** In place of the batch that says so, of a slot that is being discarded. */
const DISCARDING = -1;

export interface FreedSlotsHooks {
  /** Discards a slot's content; null where the device has no use for that. */
  readonly discard: ((slot: SlotIndex) => Promise<unknown>) | null;
  /** A slot has become free for use. */
  readonly onFree: () => void;
}

export class FreedSlots {
  /** The batch with the record, by slot. */
  private readonly batches = new Map<SlotIndex, number>();
  private readonly hooks: FreedSlotsHooks;
  private inFlight = 0;
  private durableSequence = 0;
  private stopped = false;

  constructor(hooks: FreedSlotsHooks) {
    this.hooks = hooks;
  }

  get size(): number {
    return this.batches.size;
  }

  /** Whether some are being discarded, so that `onFree` will be called. */
  get discarding(): boolean {
    return this.inFlight > 0;
  }

  has(slot: SlotIndex): boolean {
    return this.batches.has(slot);
  }

  /** A slot is given back by a record in this batch. */
  add(slot: SlotIndex, sequence: number): void {
    check(!this.batches.has(slot), 'a slot is given back twice', slot);
    check(sequence > this.durableSequence, 'a slot is given back by a record that has passed', sequence);
    this.batches.set(slot, sequence);
  }

  /** Batches up to this one are durable. */
  advance(durableSequence: number): void {
    check(
      durableSequence >= this.durableSequence,
      'slots were free because of batches that are durable no more',
      durableSequence,
    );
    this.durableSequence = durableSequence;
    if (this.stopped) return;
    const { discard } = this.hooks;
    for (const [slot, sequence] of this.batches) {
      if (sequence === DISCARDING || sequence > durableSequence) continue;
      if (discard === null) {
        this.batches.delete(slot);
        continue;
      }
      if (this.inFlight === DISCARDS_MAX) return;
      this.batches.set(slot, DISCARDING);
      this.inFlight += 1;
      check(this.inFlight <= DISCARDS_MAX, 'more slots are discarded at once than may be', this.inFlight);
      void discard(slot).then(() => this.end(slot));
    }
  }

  /** Begins no more discards. */
  stop(): void {
    this.stopped = true;
  }

  private end(slot: SlotIndex): void {
    check(this.batches.get(slot) === DISCARDING, 'a slot was discarded that is not being so', slot);
    this.inFlight -= 1;
    check(this.inFlight >= 0, 'more discards have ended than were begun', this.inFlight);
    this.batches.delete(slot);
    this.advance(this.durableSequence);
    this.hooks.onFree();
  }
}
