/**
 * The leases that a session takes: each member that it has open lets this client read under the map that is answered there, for a
 * while. Without one from every member in-sync nothing is read, as a newer map may have left out the one that is asked.
 *
 * ```text
 *   OPEN answered, MAP_CHANGED ──► taken + 1    what the client reads under is that map, and no lease under another counts
 *   PING(taken), time read before it ──► PONG(lease) ──► until 0.9 of the lease after that time
 * ```
 *
 * A lease counts for those only whose last change had been taken when PING left: a PONG that a change has overtaken says nothing
 * of the map that it brought.
 */

import type { BootTime } from '../../core/boot-time.js';
import { check } from '../../core/check.js';
import { LEASE_SHARE } from '../../core/limits.js';
import type { MapVersion } from '../../ports/ids.js';
import type { LeaseWaiter } from '../../ports/segment-member.js';
import type { GroupName } from '../../wire/control.js';

/** Which member of a group, and under which map. */
export interface LeasedReplica {
  readonly volumeId: string;
  readonly group: number;
  /** Index of the member in its map. */
  readonly index: number;
  readonly mapVersion: MapVersion;
}

/** When a client has asked for leases, and how many changes it had taken. */
export interface LeaseQuestion {
  readonly sentMs: number;
  readonly jumps: number;
  readonly taken: number;
}

/** That of one member. */
export class ReadLease {
  readonly volumeId: string;
  readonly group: number;
  /** The map that its node has told last, and the number of that change; null once nothing is told any more. */
  told: { readonly version: MapVersion; readonly at: number } | null = null;
  private readonly time: BootTime;
  /** Under which map, until when, and how often clocks had moved apart before. */
  private version = 0;
  private untilMs = 0;
  private jumps = 0;
  private waiters: LeaseWaiter[] = [];

  constructor(time: BootTime, { volumeId, group }: LeasedReplica) {
    check(group >= 0 && volumeId !== '', 'a lease is for no replica', group);
    this.time = time;
    this.volumeId = volumeId;
    this.group = group;
  }

  /** The node has told of this map: leases under others are void. */
  tell(version: MapVersion, at: number): void {
    // No node does so that can be relied on.
    const back = this.told !== null && version < this.told.version;
    this.told = back ? null : { version, at };
    if (back || version !== this.version) this.version = 0;
  }

  /** Nothing is told any more on this session. */
  end(): void {
    this.told = null;
    this.version = 0;
  }

  grant({ sentMs, jumps }: LeaseQuestion, leaseMs: number): void {
    check(this.told !== null, 'a lease is granted of a member that is not open', this.group);
    check(leaseMs > 0, 'a lease is granted that has ended', leaseMs);
    this.version = this.told.version;
    this.untilMs = sentMs + LEASE_SHARE * leaseMs;
    this.jumps = jumps;
    const { waiters } = this;
    this.waiters = [];
    for (const waiter of waiters) waiter.leased();
  }

  /** Whether a read that has come before this call may rely on it. */
  holds(version: MapVersion): boolean {
    if (this.version !== version) return false;
    // Not before: whoever reads the time earlier may have stood still since.
    const nowMs = this.time.read();
    return nowMs < this.untilMs && this.jumps === this.time.jumps;
  }

  /** Whoever waits for the lease of an earlier connection waits for this one. */
  follow(earlier: ReadLease): void {
    check(earlier !== this && earlier.told === null, 'a lease follows one that has not ended', this.group);
    for (const waiter of earlier.waiters) this.wait(waiter);
    earlier.waiters = [];
  }

  wait(waiter: LeaseWaiter): void {
    if (!this.waiters.includes(waiter)) this.waiters.push(waiter);
  }
}

/** Those of a session. */
export class LeaseBook {
  /** Changes that have been taken on the present connection. */
  taken = 0;
  private readonly time: BootTime;
  private readonly leases = new Map<string, ReadLease>();

  constructor(time: BootTime) {
    this.time = time;
  }

  /** A replica has been opened under a map. */
  opened(replica: LeasedReplica): void {
    check(replica.mapVersion > 0, 'a replica is opened under no map', replica.index);
    this.taken += 1;
    const name = nameOf(replica);
    // Whatever was open at this place is so no more.
    this.leases.get(name)?.end();
    const lease = new ReadLease(this.time, replica);
    lease.tell(replica.mapVersion, this.taken);
    this.leases.set(name, lease);
  }

  /** A replica that is open has another map. */
  changed(replica: LeasedReplica): void {
    check(replica.mapVersion > 0, 'a replica gets no map', replica.index);
    this.taken += 1;
    this.leases.get(nameOf(replica))?.tell(replica.mapVersion, this.taken);
  }

  /**
   * That of a replica that has been opened; it may have another map since. One that is never granted if the connection has broken
   * meanwhile.
   */
  of(replica: LeasedReplica): ReadLease {
    return this.leases.get(nameOf(replica)) ?? new ReadLease(this.time, replica);
  }

  /** A replica is closed. */
  close(replica: LeasedReplica): void {
    const name = nameOf(replica);
    this.leases.get(name)?.end();
    this.leases.delete(name);
  }

  /** The connection is no more: all is told anew on the next one. What it had it gives up before it asks for that. */
  end(): void {
    for (const lease of this.leases.values()) lease.end();
    this.leases.clear();
    this.taken = 0;
  }

  /** What is asked now. */
  question(): LeaseQuestion {
    const sentMs = this.time.read();
    check(this.taken >= this.leases.size, 'more replicas are open than were opened', this.leases.size);
    return { sentMs, jumps: this.time.jumps, taken: this.taken };
  }

  /** The node grants `leaseMs`, which is 0 for none, to all replicas but these. */
  answer(question: LeaseQuestion, leaseMs: number, unleased: readonly GroupName[]): void {
    if (leaseMs === 0) return;
    for (const lease of this.leases.values()) {
      const { told, volumeId, group } = lease;
      if (told === null || told.at > question.taken) continue;
      if (unleased.some((other) => other.volumeId === volumeId && other.group === group)) continue;
      lease.grant(question, leaseMs);
    }
  }
}

function nameOf({ volumeId, group, index }: LeasedReplica): string {
  return `${volumeId} ${group} ${index}`;
}
