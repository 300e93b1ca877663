/** Trials of the simulator, on all cores: a pool of workers, each with memory of its own. */

import { availableParallelism } from 'node:os';
import { promiseHooks } from 'node:v8';
import { Piscina } from 'piscina';
import { CLUSTER_MEMORY_BYTES } from '../sim/cluster/cluster-memory.js';
import { type ClusterFaultKind, type ClusterPlan, clusterPlanOf } from '../sim/cluster/cluster-plan.js';
import { CLUSTER_SHRINKING, type ClusterEdit } from '../sim/cluster/cluster-shrink.js';
import { ClusterTrial } from '../sim/cluster/cluster-trial.js';
import { type FaultKind, planOf, type SimPlan } from '../sim/trial/plan.js';
import {
  type CommonEdit,
  NODE_SHRINKING,
  type PlanEdit,
  type Shrinking,
  type ShrunkPlan,
  shrink,
} from '../sim/trial/shrink.js';
import { Trial, type TrialResult } from '../sim/trial/trial.js';
import { TrialMemory } from '../sim/trial/trial-memory.js';
import { TRIAL_MEMORY_BYTES } from '../sim/trial/trial-node.js';
import type { TrialOptions } from '../sim/trial/trial-world.js';
import { crc32c as crc32cHere } from '../sim/world/crc32c.js';
import { native } from '../uring/native.js';

/** Trials of one task: enough that handing it over costs nothing, little enough that all workers end at about the same time. */
const TASK_TRIALS = 4;
/** Tasks that wait for each worker. */
const TASKS_WAITING = 2;

/** Up to so many bytes are summed in TypeScript. */
const CALL_BYTES = 128;

/** What is told of a trial while it runs; times are in virtual microseconds. */
export type TrialLog = (timeUs: number, text: string) => void;

/** What a worker is asked for. */
export interface TrialTask {
  readonly from: number;
  readonly count: number;
  readonly faults: readonly FaultKind[];
}

/** The same, of whole clusters. */
export interface ClusterTask {
  readonly from: number;
  readonly count: number;
  readonly clusterFaults: readonly ClusterFaultKind[];
}

export type AnyTask = TrialTask | ClusterTask;

/** A kind of trials. */
interface Kind<Plan, Edit, Fault> {
  readonly memoryBytes: number;
  readonly shrinking: Shrinking<Plan, Edit>;
  planOf(seed: number, faults: readonly Fault[]): Plan;
  trialOf(plan: Plan, options: TrialOptions): { run(): Promise<TrialResult> };
}

const NODE: Kind<SimPlan, PlanEdit, FaultKind> = {
  memoryBytes: TRIAL_MEMORY_BYTES,
  shrinking: NODE_SHRINKING,
  planOf,
  trialOf: (plan, options) => new Trial(plan, options),
};

const CLUSTER: Kind<ClusterPlan, ClusterEdit, ClusterFaultKind> = {
  memoryBytes: CLUSTER_MEMORY_BYTES,
  shrinking: CLUSTER_SHRINKING,
  planOf: clusterPlanOf,
  trialOf: (plan, options) => new ClusterTrial(plan, options),
};

/** By how much there is of it. */
const memories = new Map<number, TrialMemory>();
/** Of promises, in this thread. */
let continuations = 0;

// These functions are made once, not for each trial: machine code goes with the last function that has it.

/** CRC32C. A call of the addon costs as much as summing some hundred bytes here. */
function checksum(bytes: Uint8Array, at: number, length: number): number {
  return length <= CALL_BYTES ? crc32cHere(bytes, at, length) : native().crc32c(bytes, at, length);
}

function continuationsNow(): number {
  return continuations;
}

function noteContinuation(): void {
  continuations += 1;
}

function optionsOf(memoryBytes: number, log?: TrialLog): TrialOptions {
  const memory = memories.get(memoryBytes) ?? new TrialMemory(memoryBytes);
  memories.set(memoryBytes, memory);
  const common = { memory, checksum, continuations: continuationsNow };
  return log === undefined ? common : { ...common, log, details: true };
}

/** Runs a trial with so much memory, and counts continuations meanwhile. */
export async function inTrial<Result>(
  memoryBytes: number,
  run: (options: TrialOptions) => Promise<Result>,
  log?: TrialLog,
): Promise<Result> {
  const stop = promiseHooks.onBefore(noteContinuation);
  try {
    return await run(optionsOf(memoryBytes, log));
  } finally {
    stop();
  }
}

function runTrial<Plan, Edit, Fault>(
  { memoryBytes, trialOf }: Kind<Plan, Edit, Fault>,
  plan: Plan,
  log?: TrialLog,
): Promise<TrialResult> {
  return inTrial(memoryBytes, (options) => trialOf(plan, options).run(), log);
}

async function shrunk<Plan, Edit extends CommonEdit, Fault>(
  kind: Kind<Plan, Edit, Fault>,
  plan: Plan,
  trialsMax: number,
): Promise<ShrunkPlan<Edit> | undefined> {
  const result = await runTrial(kind, plan);
  if (result.failure === undefined) return undefined;
  return shrink(kind.shrinking, plan, result, (smaller) => runTrial(kind, smaller), trialsMax);
}

/** Makes one trial in this thread. `edit` changes its plan. */
export function makeTrial(
  seed: number,
  faults: readonly FaultKind[],
  edit: PlanEdit = {},
  log?: TrialLog,
): Promise<TrialResult> {
  return runTrial(NODE, NODE_SHRINKING.edited(planOf(seed, faults), edit), log);
}

/** Makes one trial of a whole cluster. */
export function makeClusterTrial(
  seed: number,
  faults: readonly ClusterFaultKind[],
  edit: ClusterEdit = {},
  log?: TrialLog,
): Promise<TrialResult> {
  return runTrial(CLUSTER, CLUSTER_SHRINKING.edited(clusterPlanOf(seed, faults), edit), log);
}

/** Makes a failing trial smaller, by at most `trialsMax` others; undefined if it does not fail. */
export function shrinkTrial(
  seed: number,
  faults: readonly FaultKind[],
  trialsMax: number,
): Promise<ShrunkPlan | undefined> {
  return shrunk(NODE, planOf(seed, faults), trialsMax);
}

/** The same of a trial of a whole cluster. */
export function shrinkClusterTrial(
  seed: number,
  faults: readonly ClusterFaultKind[],
  trialsMax: number,
): Promise<ShrunkPlan<ClusterEdit> | undefined> {
  return shrunk(CLUSTER, clusterPlanOf(seed, faults), trialsMax);
}

/** Makes the trials of a task in this thread, one after another. */
export async function carryOut(task: AnyTask): Promise<TrialResult[]> {
  const results: TrialResult[] = [];
  for (let seed = task.from; seed < task.from + task.count; seed += 1) {
    const isNode = 'faults' in task;
    results.push(await (isNode ? makeTrial(seed, task.faults) : makeClusterTrial(seed, task.clusterFaults)));
  }
  return results;
}

/** Makes `count` trials with the seeds from `from` on, on `workers` cores; default: all. Tells each result, in any order. */
export async function makeTrials(
  all: AnyTask,
  onResult: (result: TrialResult) => void,
  workers = availableParallelism(),
): Promise<void> {
  const pool = new Piscina<AnyTask, TrialResult[]>({
    filename: new URL('../trial-main.js', import.meta.url).href,
    minThreads: workers,
    maxThreads: workers,
  });
  try {
    const { from, count } = all;
    let next = from;
    const runner = async (): Promise<void> => {
      while (next < from + count) {
        const task = { ...all, from: next, count: Math.min(TASK_TRIALS, from + count - next) };
        next += task.count;
        for (const result of await pool.run(task)) onResult(result);
      }
    };
    await Promise.all(Array.from({ length: workers * TASKS_WAITING }, runner));
  } finally {
    await pool.destroy();
  }
}
