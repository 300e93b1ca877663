/** Whole clusters in the simulator: a manager, nodes, and clients that fight for a volume. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { makeClusterTrial } from '#strake/embed/trials.js';
import { Cluster } from '#strake/sim/cluster/cluster.js';
import { CLUSTER_MEMORY_BYTES } from '#strake/sim/cluster/cluster-memory.js';
import {
  CLUSTER_FAULT_KINDS,
  type ClusterFaultKind,
  type ClusterPlan,
  clusterPlanOf,
} from '#strake/sim/cluster/cluster-plan.js';
import { ClusterTrial } from '#strake/sim/cluster/cluster-trial.js';
import { unlessDied } from '#strake/sim/cluster/cluster-world.js';
import { TrialMemory } from '#strake/sim/trial/trial-memory.js';
import { SimEndless } from '#strake/sim/trial/trial-world.js';
import { check, repetitions, run } from '../support/check.js';
import { project } from '../support/project.js';

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

check('what trials of clusters have found once stays found', [], async () => {
  const folder = join(project, 'test', 'sim', 'cluster-plans');
  const memory = new TrialMemory(CLUSTER_MEMORY_BYTES);
  const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
  assert.ok(files.length > 0);
  for (const name of files) {
    const plan: ClusterPlan = JSON.parse(readFileSync(join(folder, name), 'utf8'));
    const { failure } = await new ClusterTrial(plan, { memory }).run();
    assert.is(failure, undefined, name);
  }
});

check('what does not come to an end fails the trial, and tells what goes on', [], async () => {
  const plan = { ...clusterPlanOf(1, []), nodes: 2, clients: 2 };
  const cluster = new Cluster(plan, { memory: new TrialMemory(CLUSTER_MEMORY_BYTES) });
  const { world, manager, clients } = cluster;
  const never = new Promise<void>(() => {});
  const course = async (): Promise<void> => {
    await manager.begin();
    await clients[0].boot();
    await world.settle(never, manager.process, 'the manager does the impossible').catch(unlessDied);
    await world.settle(never, clients[0].process, 'nothing happens');
  };
  world.timers.after(5_000_000, () => manager.die());
  const error = await world.run(course()).catch((reason: unknown) => reason);
  assert.instance(error, SimEndless);
  assert.match(String(error), 'nothing happens has not come to its end');
  assert.equal(
    cluster.goesOn.filter((text) => !text.startsWith('connection')),
    [
      'nothing happens: not yet, since 5000 ms',
      ...['manager', 'node 0', 'node 1', 'client 1'].map((name) => `${name} does nothing`),
      ...['client 0 has no engine', 'client 1 is dead'],
    ],
  );
});

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
    if ((plan.readers ?? 0) > 0) kinds.add('readers');
    for (const { kind } of plan.actions) kinds.add(kind === 'cut-off' ? 'cut' : kind);
    assert.equal(clusterPlanOf(seed, CLUSTER_FAULT_KINDS), plan);
    assert.ok(plan.nodes >= plan.copies && plan.clients >= 2);
  }
  assert.equal([...kinds].sort(), [...CLUSTER_FAULT_KINDS].sort());
});

run();
