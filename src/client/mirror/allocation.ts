/**
 * Slots for new segments: on every member before any data of the segment is written to one.
 *
 * If a member has no space, the slots just taken elsewhere are given back and everyone who waited learns of it; the map
 * stays as it is. The exception is a member that is being brought up to date and has no room for a segment that the
 * others had already: it cannot become current, and must not keep the volume from being written.
 */

import type { Calls } from '../../core/calls.js';
import { EIO, ENOSPC } from '../../core/errno.js';
import type { MemberSlot, Membership } from './membership.js';

/** Whether the segment has a slot on every member that writes go to. */
export function allocated(group: readonly MemberSlot[], stripe: number): boolean {
  for (const slot of group) {
    if (slot.member !== null && slot.state !== 'offline' && !slot.member.has(stripe)) return false;
  }
  return true;
}

/** Whether a member that is in-sync has a slot for the segment; if none has, it reads as zeroes. */
export function exists(group: readonly MemberSlot[], stripe: number): boolean {
  for (const slot of group)
    if (slot.member !== null && slot.state === 'in-sync' && slot.member.has(stripe)) return true;
  return false;
}

export class Allocation {
  private readonly membership: Membership;
  private readonly calls: Calls;
  private readonly running = new Map<number, Promise<number>>();

  constructor(membership: Membership, calls: Calls) {
    this.membership = membership;
    this.calls = calls;
  }

  /** Resolves to 0 when the segment has its slots, or to a negative errno. Those who ask meanwhile share the answer. */
  ensure(stripe: number): Promise<number> {
    let running = this.running.get(stripe);
    if (running === undefined) {
      running = this.allocate(stripe).finally(() => this.running.delete(stripe));
      this.running.set(stripe, running);
    }
    return running;
  }

  private async allocate(stripe: number): Promise<number> {
    const { membership } = this;
    const group = membership.groupOf(stripe);
    const known = exists(group, stripe);
    const lacking = group.filter((slot) => slot.writable && !slot.present.has(stripe));
    const results = await Promise.all(
      lacking.map((slot) => this.calls.call((token) => slot.present.allocate(stripe, token))),
    );
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

  private async giveBack(slot: MemberSlot, stripe: number): Promise<void> {
    try {
      await slot.present.release(stripe);
    } catch {
      this.membership.expel(slot, 'a slot could not be given back');
      await this.membership.idle();
    }
  }
}
