/**
 * The leases that an answer to PING grants: for each replica that is open on its session, whose last change the client has taken,
 * under the map that is answered there.
 */

import { check } from '../core/check.js';
import { isManaged } from '../layout/replica-map.js';
import type { GroupName } from '../wire/control.js';
import { LISTED_MAX } from '../wire/limits.js';
import type { OpenReplica } from './open-replica.js';

/** What a session has, as far as leases go. */
export interface LeasedSession {
  readonly clientId: string;
  readonly changes: number;
  readonly replicas: { values(): Iterable<OpenReplica> };
}

export interface GrantedLeases {
  /** 0 if none is granted. */
  readonly leaseMs: number;
  /** Replicas whose last change has been taken, and for which none is granted. */
  readonly unleased: readonly GroupName[];
}

/**
 * Counts the leases of a client that has taken so many changes of its session. What it had under the maps before those it has
 * given up. The answer is to be sent after that: the time from which it counts is read here, after the question has come.
 */
export function grantLeases({ clientId, changes, replicas }: LeasedSession, taken: number): GrantedLeases {
  check(taken <= changes, 'a client has taken more than it was told', taken);
  const granted: OpenReplica[] = [];
  const unleased: GroupName[] = [];
  for (const replica of replicas.values()) {
    const { gate, changedAt, toldVersion } = replica;
    const { map } = gate;
    if (changedAt > taken || map === undefined || !isManaged(map)) continue;
    gate.confirm(clientId, toldVersion);
    check(toldVersion > 0, 'a replica is open of whose map nobody was told', gate.group);
    // While a map is being stored nothing is granted under it, and nothing more under the one before. Who only reads has no lease
    // of a member that may lack what was acknowledged.
    const readable = replica.role !== 'reader' || gate.isReadable;
    if (gate.answered && gate.device.leaseMs > 0 && map.mapVersion === toldVersion && readable) granted.push(replica);
    else unleased.push({ volumeId: gate.volumeId, group: gate.group });
  }
  if (granted.length === 0 || unleased.length > LISTED_MAX) return { leaseMs: 0, unleased: [] };
  const leaseMs = Math.min(...granted.map(({ gate }) => gate.device.leaseMs));
  for (const { gate } of granted) {
    const { map, device } = gate;
    check(map !== undefined, 'a lease is granted under no map', gate.group);
    check(gate.answered, 'a lease is granted under a map that has not been answered', gate.group);
    gate.leases.grant(clientId, map, device.now(), leaseMs);
  }
  return { leaseMs, unleased };
}
