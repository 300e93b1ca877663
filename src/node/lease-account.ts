/**
 * The read leases that one member has given, by client: under which map, and until when. A client that holds leases of all
 * members that its map calls in-sync reads without asking anybody, so no member that a newer map has left out may be read under
 * them once something is acknowledged that it lacks.
 *
 * Invariant: what is counted here ends later than what the client counts, as it is counted from the answer, and there from the
 * question. Neither the end of a connection, nor a newer session, nor a map ends a lease.
 */

import { check } from '../core/check.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { LEASES_SWEPT } from './limits.js';

interface Lease {
  readonly map: ReplicaMap;
  readonly untilMs: number;
}

export class LeaseAccount {
  private readonly byClient = new Map<string, Lease>();

  /** Leases that are counted, those that have ended included until they are looked at. */
  get size(): number {
    return this.byClient.size;
  }

  /** Whether a client has a lease that goes on: it has asked for one since, and so it is there. */
  isLeased(clientId: string, nowMs: number): boolean {
    const lease = this.byClient.get(clientId);
    return lease !== undefined && lease.untilMs > nowMs;
  }

  /** A client may read under a map for so long from now on. It has given up what it had under earlier ones. */
  grant(clientId: string, map: ReplicaMap, nowMs: number, leaseMs: number): void {
    check(clientId !== '', 'a lease is granted to nobody', map.group);
    const last = this.byClient.get(clientId);
    const older = last !== undefined && last.map.mapVersion > map.mapVersion;
    check(!older, 'a lease is granted under an older map than the last', map.mapVersion);
    this.byClient.set(clientId, { map, untilMs: Math.max(nowMs + leaseMs, last?.untilMs ?? 0) });
    if (this.byClient.size >= LEASES_SWEPT) this.sweep(nowMs);
  }

  /** Forgets those that have ended: clients come and go, and each has another name. */
  private sweep(nowMs: number): void {
    for (const [clientId, { untilMs }] of this.byClient) if (untilMs <= nowMs) this.byClient.delete(clientId);
  }

  /** A client reads under no map any more that is older than this version. */
  giveUpBefore(clientId: string, mapVersion: number): void {
    check(mapVersion > 0, 'a client has taken a map that there is not', this.byClient.size);
    const lease = this.byClient.get(clientId);
    if (lease !== undefined && lease.map.mapVersion < mapVersion) this.byClient.delete(clientId);
  }

  /** A client reads here no more. */
  giveUp(clientId: string): void {
    this.byClient.delete(clientId);
  }

  /**
   * When the last lease ends that a map has to wait for, or 0: one under an earlier map that has a member in-sync which this one
   * has not. Under all others a reader reaches only members that refuse it, or have everything.
   */
  endOf(map: ReplicaMap, nowMs: number): number {
    let untilMs = 0;
    for (const [clientId, lease] of this.byClient) {
      if (lease.untilMs <= nowMs) this.byClient.delete(clientId);
      else if (lease.map.mapVersion < map.mapVersion && leavesOut(lease.map, map)) {
        untilMs = Math.max(untilMs, lease.untilMs);
      }
    }
    return untilMs;
  }
}

/** Whether a map calls a member in-sync that a later one does not. */
function leavesOut({ members }: ReplicaMap, later: ReplicaMap): boolean {
  const stays = (deviceId: string) =>
    later.members.some((member) => member.deviceId === deviceId && member.state === 'in-sync');
  return members.some(({ deviceId, state }) => state === 'in-sync' && !stays(deviceId));
}
