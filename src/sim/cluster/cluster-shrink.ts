/** Makes the plan of a whole cluster smaller that fails. Who is in it stays, as actions name processes by their numbers. */

import { type CommonEdit, edited, fewerActions, lessLoad, type Shrinking, soonerEnd } from '../trial/shrink.js';
import type { ClusterPlan } from './cluster-plan.js';

/** Changes of a plan of a cluster. */
export interface ClusterEdit extends CommonEdit {
  readonly clockRates?: readonly number[];
}

export const CLUSTER_SHRINKING: Shrinking<ClusterPlan, ClusterEdit> = {
  edited,
  *attempts(now, edit, failedMs) {
    yield* fewerActions(now, edit, failedMs);
    if (now.connections > 1) yield { ...edit, connections: now.connections - 1 };
    yield* lessLoad(now, edit);
    if (now.clockRates.some((rate) => rate !== 1)) yield { ...edit, clockRates: [] };
    yield* soonerEnd(now, edit);
  },
};
