/**
 * Slots for new segments: on every member before any data of the segment is written to one.
 *
 * If a member has no space, the slots just taken elsewhere are given back and everyone who waited learns of it; the map
 * stays as it is. The exception is a member that is being brought up to date and has no room for a segment that the
 * others had already: it cannot become current, and must not keep the volume from being written.
 */

import { EIO, ENOSPC } from '../../core/errno.js';
import { groupOf } from '../../layout/volume-map.js';
import type { ChunkIndex, GroupIndex } from '../../ports/ids.js';
import type { MemberWork } from '../members/member-work.js';
import type { MemberSlot, Membership } from './membership.js';

/** Whether the segment has a slot on every member that writes go to. */
export function allocated(group: readonly MemberSlot[], stripe: ChunkIndex): boolean {
  for (const slot of group) {
    if (slot.member !== null && slot.state !== 'offline' && !slot.segments.has(stripe)) return false;
  }
  return true;
}

/** Whether a member that is in-sync has a slot for the segment; if none has, it reads as zeroes. */
export function exists(group: readonly MemberSlot[], stripe: ChunkIndex): boolean {
  for (const slot of group)
    if (slot.member !== null && slot.state === 'in-sync' && slot.segments.has(stripe)) return true;
  return false;
}

export class Allocation {
  private readonly membership: Membership;
  private readonly work: MemberWork;
  private readonly makeRoom: (group: GroupIndex) => Promise<void>;
  private readonly running = new Map<number, Promise<number>>();

  /** `makeRoom`: gives back what was discarded in a group, as far as that can be done now. */
  constructor(membership: Membership, work: MemberWork, makeRoom: (group: GroupIndex) => Promise<void>) {
    this.membership = membership;
    this.work = work;
    this.makeRoom = makeRoom;
  }

  /** Resolves to 0 when the segment has its slots, or to a negative errno. Those who ask meanwhile share the answer. */
  ensure(stripe: ChunkIndex): Promise<number> {
    let running = this.running.get(stripe);
    if (running === undefined) {
      running = this.allocateOrMakeRoom(stripe).finally(() => this.running.delete(stripe));
      this.running.set(stripe, running);
    }
    return running;
  }

  /** Where a device is full, what was discarded is given back, and then it is tried once more. */
  private async allocateOrMakeRoom(stripe: ChunkIndex): Promise<number> {
    const result = await this.allocate(stripe);
    if (result !== -ENOSPC) return result;
    await this.makeRoom(groupOf(this.membership.record, stripe));
    return this.allocate(stripe);
  }

  private async allocate(stripe: ChunkIndex): Promise<number> {
    const { membership } = this;
    const group = membership.groupOf(stripe);
    const known = exists(group, stripe);
    const lacking = group.filter((slot) => slot.writable && !slot.segments.has(stripe));
    const results = await Promise.all(lacking.map((slot) => this.work.allocate(slot.present, slot.segments, stripe)));
    const full = lacking.filter((slot, index) => results[index] === -ENOSPC && !(known && slot.state === 'syncing'));
    const failed = lacking.filter((slot, index) => results[index] < 0 && !full.includes(slot));
    const gone = failed.map((slot) => membership.expel(slot, 'no slot could be allocated'));
    if (failed.length > 0) await membership.idle();
    if (full.length > 0) {
      const taken = lacking.filter((_slot, index) => results[index] >= 0);
      await Promise.all(taken.map((slot) => this.giveBack(slot, stripe)));
      return -ENOSPC;
    }
    return gone.every(Boolean) ? 0 : -EIO;
  }

  private async giveBack(slot: MemberSlot, stripe: ChunkIndex): Promise<void> {
    if ((await this.work.release(slot.present, slot.segments, stripe)) >= 0) return;
    this.membership.expel(slot, 'a slot could not be given back');
    await this.membership.idle();
  }
}
