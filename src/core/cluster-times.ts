/**
 * Times of a cluster: what they are as long as nobody has set them, what they may be, and those that a process has heard of last.
 * `docs/operating.md` says what each is for.
 *
 * Invariants: a lease outlasts three pings, or none would be renewed in time, and the silence after which a member is reported,
 * so that whoever reads goes on until then. A node is down only when several heartbeats have not come.
 *
 * A lease is as long as the answer that grants it says, and whoever has it uses 0.9 of just that: so a node and its clients may
 * hear of another length at different times, and in either order. Only a node has to see to something: a length that is more
 * than its devices have on record is on record before it is granted.
 */

import type { ClusterTimes } from '../ports/manager.js';
import { fields, optional, whole, wrongArgument } from './arguments.js';
import { check } from './check.js';
import { LEASE_SHARE } from './limits.js';

export const DEFAULT_TIMES: ClusterTimes = {
  pingMs: 500,
  leaseMs: 2000,
  silenceMs: 1000,
  deviceOperationMs: 5000,
  deviceFenceMs: 30_000,
  holdMs: 60_000,
  attachMs: 5000,
  ownFlushMs: 5000,
  janitorMs: 10_000,
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
  janitorMs: time,
  nodeDownMs: time,
  graceMs: time,
  handOutMs: time,
  startMs: time,
});

/** The times with some of them changed. Throws `ERR_STRAKE_INVALID_ARGUMENT` for what cannot be. */
export function changedTimes(times: ClusterTimes, wanted: unknown): ClusterTimes {
  const next = { ...times, ...TIME_CHANGES.take(wanted, 'times') };
  if (next.leaseMs < 3 * next.pingMs) throw wrongArgument('leaseMs', 'three times pingMs or more', next.leaseMs);
  if (LEASE_SHARE * next.leaseMs <= next.silenceMs) {
    throw wrongArgument('leaseMs', `more than silenceMs ÷ ${LEASE_SHARE}`, next.leaseMs);
  }
  if (next.nodeDownMs < 3 * next.pingMs)
    throw wrongArgument('nodeDownMs', 'three times pingMs or more', next.nodeDownMs);
  if (next.silenceMs < 2 * next.pingMs) throw wrongArgument('silenceMs', 'twice pingMs or more', next.silenceMs);
  if (next.deviceFenceMs < next.deviceOperationMs) {
    throw wrongArgument('deviceFenceMs', 'deviceOperationMs or more', next.deviceFenceMs);
  }
  // Rule B and Rule C may each keep a candidate waiting for a lease.
  if (next.attachMs < next.leaseMs) throw wrongArgument('attachMs', 'leaseMs or more', next.attachMs);
  // Until twice a lease has passed a holder counts as one that may be there.
  if (next.janitorMs < 2 * next.leaseMs) throw wrongArgument('janitorMs', 'twice leaseMs or more', next.janitorMs);
  return next;
}

/** The times that hold in a shard: those that a manager has told last, or before that those of a cluster where nobody set any. */
export class TimesHeard {
  private times = DEFAULT_TIMES;
  private isOver = false;

  get now(): ClusterTimes {
    return this.times;
  }

  hear(times: ClusterTimes): void {
    check(times.pingMs > 0 && times.leaseMs > 0, 'a manager tells times that cannot be', times.pingMs);
    this.times = this.isOver ? { ...times, holdMs: 0 } : times;
  }

  /** The process is about to end: no request is held any more for what may come. */
  endHolding(): void {
    this.isOver = true;
    this.hear(this.times);
  }
}
