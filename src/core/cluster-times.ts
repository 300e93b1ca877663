/**
 * Times of a cluster: what they are as long as nobody has set them, and what they may be. `docs/operating.md` says what each is
 * for.
 *
 * Invariant: a lease outlasts two pings, or none would be renewed in time, and a node is down only when several heartbeats have
 * not come.
 */

import type { ClusterTimes } from '../ports/manager.js';
import { fields, optional, whole, wrongArgument } from './arguments.js';

export const DEFAULT_TIMES: ClusterTimes = {
  pingMs: 500,
  leaseMs: 2000,
  silenceMs: 1000,
  deviceOperationMs: 5000,
  deviceFenceMs: 30_000,
  holdMs: 60_000,
  attachMs: 5000,
  ownFlushMs: 5000,
  nodeDownMs: 2500,
  graceMs: 300_000,
  handOutMs: 500,
  startMs: 5000,
};

const time = optional(whole(10, 3_600_000));

/** Times that are to be changed: each may be left out. */
export const TIME_CHANGES = fields<Partial<ClusterTimes>>({
  pingMs: time,
  leaseMs: time,
  silenceMs: time,
  deviceOperationMs: time,
  deviceFenceMs: time,
  holdMs: time,
  attachMs: time,
  ownFlushMs: time,
  nodeDownMs: time,
  graceMs: time,
  handOutMs: time,
  startMs: time,
});

/** The times with some of them changed. Throws `ERR_STRAKE_INVALID_ARGUMENT` for what cannot be. */
export function changedTimes(times: ClusterTimes, wanted: unknown): ClusterTimes {
  const next = { ...times, ...TIME_CHANGES.take(wanted, 'times') };
  if (next.leaseMs < 3 * next.pingMs) throw wrongArgument('leaseMs', 'three times pingMs or more', next.leaseMs);
  if (next.nodeDownMs < 3 * next.pingMs)
    throw wrongArgument('nodeDownMs', 'three times pingMs or more', next.nodeDownMs);
  if (next.silenceMs < 2 * next.pingMs) throw wrongArgument('silenceMs', 'twice pingMs or more', next.silenceMs);
  if (next.deviceFenceMs < next.deviceOperationMs) {
    throw wrongArgument('deviceFenceMs', 'deviceOperationMs or more', next.deviceFenceMs);
  }
  return next;
}
