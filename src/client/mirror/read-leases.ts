/**
 * Whether reads of a managed volume may go out: while each member that the engine's map of their group calls in-sync may be
 * relied on, under that map. Any of them may then be asked, as none has been left out by a newer map unless this read came before
 * anything was acknowledged that it lacks.
 *
 * Fault model: leases run out at any moment, because members are not heard, clocks move apart, or maps change.
 */

import { check } from '../../core/check.js';
import type { GroupIndex } from '../../ports/ids.js';
import type { LeaseWaiter } from '../../ports/segment-member.js';
import type { Membership } from './membership.js';

export class ReadLeases {
  private readonly membership: Membership;
  private readonly waiter: LeaseWaiter;

  /** `waiter` is told when something that did not go out may do so. */
  constructor(membership: Membership, waiter: LeaseWaiter) {
    this.membership = membership;
    this.waiter = waiter;
  }

  /** Whether reads of a group that have come may go out now. */
  mayRead(group: GroupIndex): boolean {
    const version = this.membership.record.versions[group];
    check(version > 0, 'a group is read that has no map', group);
    for (const slot of this.membership.groups[group]) {
      // Who is leaving is a member until the map that leaves it out has taken effect.
      if (slot.state === 'in-sync' && slot.member?.mayRead(version) !== true) return false;
    }
    return true;
  }

  /** Something waits: the next lease is told, and so is each map that takes effect, by the membership. */
  wait(group: GroupIndex): void {
    check(!this.mayRead(group), 'something waits for leases that are there', group);
    for (const { state, member } of this.membership.groups[group]) {
      if (state === 'in-sync') member?.whenLeased(this.waiter);
    }
  }
}
