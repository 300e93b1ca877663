/**
 * The slots of a device in memory: which segment lies in which, found by volume and stripe.
 *
 * Fields are kept in arrays of numbers, about 50 bytes a slot, so that a million slots cost little. Of what the format has
 * for a slot, the fields that are reserved are zero and not kept.
 */

import { check } from '../../core/check.js';
import { NO_SLOT, type ReplicaPage, type SlotIndex } from '../../core/ids.js';
import type { ChunkIndex } from '../../ports/ids.js';
import { SLOT_FREE, SLOT_USED } from '../format/format.js';

/** The segment is in the activity log, or was when the device was last open: content and entries may differ. */
export const SLOT_FLAG_DOUBT = 1;
/** The block table has a page on the device. */
export const SLOT_FLAG_TABLE = 2;
/** That page is in the second place. */
export const SLOT_FLAG_PLACE = 4;
/** Reserved: copies of the segment may differ. */
export const SLOT_FLAG_REPLICA_DIRTY = 8;
/** All flags that version 1 knows. */
export const SLOT_FLAGS_KNOWN = 15;

/** Of a bucket; others hold the number of a slot and 1, so that memory of those that were never filled is never touched. */
const EMPTY = 0;

export class SlotTable {
  readonly states: Uint8Array;
  readonly flags: Uint8Array;
  /** Page of the replica on this device. */
  readonly volumes: Uint16Array;
  readonly members: Uint8Array;
  readonly stripes: Float64Array;
  readonly generations: Float64Array;
  readonly flushNumbers: Float64Array;
  readonly tableChecksums: Uint32Array;
  readonly slots: number;
  private used = 0;
  private readonly usedByVolume: Uint32Array;
  /** Slots by hash of volume and stripe, with open addressing. */
  private readonly buckets: Int32Array;
  private readonly mask: number;
  /** Free slots are found from here on. */
  private next = 0;

  /** `volumePages`: how many replicas there may be. */
  constructor(slots: number, volumePages: number) {
    this.slots = slots;
    this.usedByVolume = new Uint32Array(volumePages);
    this.states = new Uint8Array(slots);
    this.flags = new Uint8Array(slots);
    this.volumes = new Uint16Array(slots);
    this.members = new Uint8Array(slots);
    this.stripes = new Float64Array(slots);
    this.generations = new Float64Array(slots);
    this.flushNumbers = new Float64Array(slots);
    this.tableChecksums = new Uint32Array(slots);
    let size = 16;
    while (size < slots * 1.5) size *= 2;
    this.buckets = new Int32Array(size);
    this.mask = size - 1;
  }

  get usedSlots(): number {
    return this.used;
  }

  get freeSlots(): number {
    return this.slots - this.used;
  }

  /** Slots of the volume with this index. */
  usedBy(volume: ReplicaPage): number {
    return this.usedByVolume[volume];
  }

  private bucketOf(volume: ReplicaPage, stripe: ChunkIndex): number {
    // Multiplicative hashing (Knuth, TAOCP volume 3, 6.4), of the two words of a stripe's number and the volume.
    const high = Math.floor(stripe / 2 ** 32);
    const mixed = Math.imul(stripe | 0, 0x9e3779b1) ^ Math.imul(volume + 1 + high * 31, 0x85ebca6b);
    return (mixed ^ (mixed >>> 15)) & this.mask;
  }

  /** The slot of a segment, or -1. */
  find(volume: ReplicaPage, stripe: ChunkIndex): SlotIndex {
    const { buckets, mask, stripes, volumes } = this;
    for (let bucket = this.bucketOf(volume, stripe); ; bucket = (bucket + 1) & mask) {
      if (buckets[bucket] === EMPTY) return NO_SLOT;
      const slot = (buckets[bucket] - 1) as SlotIndex;
      if (stripes[slot] === stripe && volumes[slot] === volume) return slot;
    }
  }

  /** A free slot that `usable` accepts, or -1. Searches on from where it found the last one. */
  findFree(usable: (slot: SlotIndex) => boolean): SlotIndex {
    for (let tried = 0; tried < this.slots; tried += 1) {
      const slot = this.next as SlotIndex;
      this.next = slot + 1 === this.slots ? 0 : slot + 1;
      if (this.states[slot] === SLOT_FREE && usable(slot)) return slot;
    }
    return NO_SLOT;
  }

  /** Gives a free slot to a segment. */
  assign(slot: SlotIndex, volume: ReplicaPage, stripe: ChunkIndex, member: number): void {
    check(this.states[slot] === SLOT_FREE, 'a slot is given away twice', slot);
    check(volume < this.usedByVolume.length, 'a slot is given to no replica', slot);
    this.states[slot] = SLOT_USED;
    // The tree on the device may still need the page that the slot's last owner had there: the next goes to the other
    // place, whoever owns it.
    this.flags[slot] &= SLOT_FLAG_PLACE;
    this.volumes[slot] = volume;
    this.members[slot] = member;
    this.stripes[slot] = stripe;
    this.generations[slot] = 0;
    this.flushNumbers[slot] = 0;
    this.tableChecksums[slot] = 0;
    this.used += 1;
    this.usedByVolume[volume] += 1;
    let bucket = this.bucketOf(volume, stripe);
    for (; this.buckets[bucket] !== EMPTY; bucket = (bucket + 1) & this.mask) {
      const other = this.buckets[bucket] - 1;
      const same = this.stripes[other] === stripe && this.volumes[other] === volume;
      check(!same, 'a segment is given a second slot', slot);
    }
    this.buckets[bucket] = slot + 1;
  }

  /** Gives a slot's segment, which stays what it is, to another replica of the same volume. */
  give(slot: SlotIndex, volume: ReplicaPage): void {
    const { stripes, members, generations, flushNumbers, tableChecksums, flags } = this;
    check(this.volumes[slot] !== volume, 'a segment is given to the replica that has it', slot);
    const kept = { flags: flags[slot], generation: generations[slot], flushNumber: flushNumbers[slot] };
    const checksum = tableChecksums[slot];
    const [stripe, member] = [stripes[slot], members[slot]];
    this.free(slot);
    this.assign(slot, volume, stripe, member);
    flags[slot] = kept.flags;
    generations[slot] = kept.generation;
    flushNumbers[slot] = kept.flushNumber;
    tableChecksums[slot] = checksum;
    check(stripes[slot] === stripe, 'a segment that changes its replica is another', slot);
  }

  /** Takes a slot back. */
  free(slot: SlotIndex): void {
    check(this.states[slot] === SLOT_USED, 'a slot becomes free twice', slot);
    const { buckets, mask } = this;
    let hole = this.bucketOf(this.volumes[slot], this.stripes[slot]);
    for (; buckets[hole] !== slot + 1; hole = (hole + 1) & mask) {
      check(buckets[hole] !== EMPTY, 'a slot is not found by its segment', slot);
    }
    // What follows may have been pushed on by the one that goes: move it up (TAOCP volume 3, 6.4, algorithm R).
    for (let bucket = (hole + 1) & mask; buckets[bucket] !== EMPTY; bucket = (bucket + 1) & mask) {
      const moved = buckets[bucket] - 1;
      const home = this.bucketOf(this.volumes[moved], this.stripes[moved]);
      if (((bucket - home) & mask) < ((bucket - hole) & mask)) continue;
      buckets[hole] = moved + 1;
      hole = bucket;
    }
    buckets[hole] = EMPTY;
    this.states[slot] = SLOT_FREE;
    this.flags[slot] &= SLOT_FLAG_PLACE;
    this.used -= 1;
    check(this.usedByVolume[this.volumes[slot]] > 0, 'a volume has given back more slots than it had', slot);
    this.usedByVolume[this.volumes[slot]] -= 1;
    check(this.find(this.volumes[slot], this.stripes[slot]) < 0, 'a segment is found whose slot was given back', slot);
  }
}
