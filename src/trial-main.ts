/** The program of a worker that makes trials. */

import { makeTrial, type TrialTask } from './embed/trials.js';
import type { TrialResult } from './sim/trial/trial.js';

/** Makes the trials of a task, one after another. */
export default async function work({ from, count, faults }: TrialTask): Promise<TrialResult[]> {
  const results: TrialResult[] = [];
  for (let seed = from; seed < from + count; seed += 1) results.push(await makeTrial(seed, faults));
  return results;
}
