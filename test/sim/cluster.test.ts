/** Whole clusters in the simulator: a manager, nodes, and clients that fight for a volume. */

import * as assert from 'uvu/assert';
import { makeClusterTrial } from '#strake/embed/trials.js';
import { CLUSTER_FAULT_KINDS, type ClusterFaultKind, clusterPlanOf } from '#strake/sim/cluster/cluster-plan.js';
import { check, repetitions, run } from '../support/check.js';

const SEEDS = repetitions(8, 2);

async function trials(faults: readonly ClusterFaultKind[], from: number, seeds: number): Promise<string[]> {
  const told: string[] = [];
  for (let seed = from; seed < from + seeds; seed += 1) {
    const { failure, requests } = await makeClusterTrial(seed, faults, {}, (_timeUs, text) => told.push(text));
    const command = `strake sim --cluster --replay ${seed} --faults ${faults.length === 0 ? 'none' : faults.join(',')}`;
    assert.is(failure, undefined, command);
    assert.ok(requests > 10, command);
  }
  return told;
}

check('a cluster to which nothing happens serves a volume by one client', [], async () => {
  const told = await trials([], 1, SEEDS);
  assert.is(told.filter((text) => text.endsWith(' serves')).length, SEEDS);
});

check(
  'clients take the volume from each other: its holder lives, has died, stands still, or closes it',
  [],
  async () => {
    const seeds = 2;
    const told = await trials(['attach'], 405, seeds);
    assert.ok(told.filter((text) => text.endsWith(' serves')).length > 4 * seeds);
    assert.ok(told.some((text) => text.endsWith(' gives the volume back')));
    assert.ok(told.some((text) => text.endsWith(' stands still')));
  },
);

check('the same plan takes the same course', [], async () => {
  for (const seed of [2, 3]) {
    const [one, other] = [
      await makeClusterTrial(seed, CLUSTER_FAULT_KINDS),
      await makeClusterTrial(seed, CLUSTER_FAULT_KINDS),
    ];
    assert.equal(one, other);
  }
});

check('plans have every kind of fault, and every party', [], () => {
  const kinds = new Set<string>();
  for (let seed = 1; seed <= 100; seed += 1) {
    const plan = clusterPlanOf(seed, CLUSTER_FAULT_KINDS);
    for (const { kind } of plan.actions) kinds.add(kind === 'cut-off' ? 'cut' : kind);
    assert.equal(clusterPlanOf(seed, CLUSTER_FAULT_KINDS), plan);
    assert.ok(plan.nodes >= plan.copies && plan.clients >= 2);
  }
  assert.equal([...kinds].sort(), [...CLUSTER_FAULT_KINDS].sort());
});

run();
