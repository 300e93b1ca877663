/**
 * Trials of the simulator in the checkout that this file lies in, one seed after the other until one fails. Arguments: `sim` or
 * `cluster`, kinds of faults (or `all`), first seed, last seed. Prints a JSON line when it is ready, and one for each seed.
 */

import { makeClusterTrial, makeTrial } from '#strake/embed/trials.js';
import { CLUSTER_FAULT_KINDS } from '#strake/sim/cluster/cluster-plan.js';
import { FAULT_KINDS } from '#strake/sim/trial/plan.js';
import type { TrialResult } from '#strake/sim/trial/trial.js';

const [scene, words, from, to] = process.argv.slice(2);

function chosen<Kind extends string>(kinds: readonly Kind[]): readonly Kind[] {
  return words === 'all' ? kinds : kinds.filter((kind) => words.split(',').includes(kind));
}

function make(seed: number): Promise<TrialResult> {
  return scene === 'cluster'
    ? makeClusterTrial(seed, chosen(CLUSTER_FAULT_KINDS))
    : makeTrial(seed, chosen(FAULT_KINDS));
}

const print = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);

print({ ready: true });
for (let seed = Number(from); seed <= Number(to); seed += 1) {
  const { failure } = await make(seed);
  print({ seed, failure });
  if (failure !== undefined) break;
}
