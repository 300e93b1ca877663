/**
 * The activity log of a device in memory: the slots that may be written to without another intent.
 *
 * It is bounded, as it bounds what recovery has to compare. Whoever is about to add a slot says so first (`claim`), so that all
 * who are under way together fit. A slot leaves it at a checkpoint, the longest unused first.
 */

import { check } from '../../core/check.js';
import type { SlotIndex } from '../../core/ids.js';

/** Share of the log in use from which on a checkpoint makes room in it: each slot that leaves costs a sync when it returns. */
const CROWDED_SHARE = 7 / 8;

export class ActivityLog {
  readonly max: number;
  /** Slots that are about to enter beside those that were claimed: for allocations, and neighbours. */
  expected = 0;
  private readonly lastUse: Float64Array;
  private slots: SlotIndex[] = [];
  /** Slots that are about to enter, with the modifications under way that want that. */
  private readonly claims = new Map<SlotIndex, number>();
  private clock = 1;

  constructor(slotCount: number, max: number) {
    this.max = max;
    this.lastUse = new Float64Array(slotCount);
  }

  /** The slots in it. */
  get active(): readonly SlotIndex[] {
    return this.slots;
  }

  /** Slots in it, and those that are about to enter. */
  get inUse(): number {
    return this.slots.length + this.claims.size + this.expected;
  }

  has(slot: SlotIndex): boolean {
    return this.lastUse[slot] > 0;
  }

  /** Whether a modification of the slot needs no room that has not been counted. */
  covers(slot: SlotIndex): boolean {
    return this.has(slot) || this.claims.has(slot);
  }

  touch(slot: SlotIndex): void {
    this.lastUse[slot] = this.clock;
    this.clock += 1;
  }

  add(slot: SlotIndex): void {
    if (!this.has(slot)) this.slots.push(slot);
    check(this.slots.length <= this.max, 'the activity log has more slots than it may', this.slots.length);
    this.touch(slot);
    this.claims.delete(slot);
  }

  /** The slot has been given back. */
  remove(slot: SlotIndex): void {
    if (!this.has(slot)) return;
    const at = this.slots.indexOf(slot);
    check(at >= 0, 'a slot is in the activity log, and in no list of it', slot);
    this.lastUse[slot] = 0;
    this.slots.splice(at, 1);
  }

  /** A modification is admitted that may make the slot enter. */
  claim(slot: SlotIndex): void {
    check(slot >= 0 && slot < this.lastUse.length, 'a slot is to enter the activity log that there is not', slot);
    if (!this.has(slot)) this.claims.set(slot, (this.claims.get(slot) ?? 0) + 1);
  }

  /** It has ended, whether the slot has entered or not. */
  endClaim(slot: SlotIndex): void {
    const claims = this.claims.get(slot);
    if (claims === undefined) return;
    if (claims === 1) this.claims.delete(slot);
    else this.claims.set(slot, claims - 1);
  }

  /** Makes room: all of it, or half if it is crowded. */
  evict(which: 'half' | 'all'): void {
    if (which === 'half' && this.slots.length < this.max * CROWDED_SHARE) return;
    const byUse = this.slots.slice().sort((one, other) => this.lastUse[other] - this.lastUse[one]);
    const kept = which === 'all' ? 0 : Math.min(byUse.length, Math.floor(this.max / 2));
    check(
      this.claims.size + this.expected === 0,
      'the activity log is cleared while slots are to enter it',
      this.claims.size,
    );
    for (const slot of byUse.slice(kept)) this.lastUse[slot] = 0;
    this.slots = byUse.slice(0, kept);
  }
}
