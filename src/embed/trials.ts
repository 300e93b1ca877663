/** Trials of the simulator, on all cores: a pool of workers, each with memory of its own. */

import { availableParallelism } from 'node:os';
import { promiseHooks } from 'node:v8';
import { Piscina } from 'piscina';
import { type FaultKind, planOf, type SimPlan } from '../sim/trial/plan.js';
import { edited, type PlanEdit, type ShrunkPlan, shrink } from '../sim/trial/shrink.js';
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

let memory: TrialMemory | undefined;
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

function optionsOf(log?: TrialLog): TrialOptions {
  memory ??= new TrialMemory(TRIAL_MEMORY_BYTES);
  const common = { memory, checksum, continuations: continuationsNow };
  return log === undefined ? common : { ...common, log, details: true };
}

/** Runs a trial, and counts continuations meanwhile. */
async function runTrial(plan: SimPlan, log?: TrialLog): Promise<TrialResult> {
  const stop = promiseHooks.onBefore(noteContinuation);
  try {
    return await new Trial(plan, optionsOf(log)).run();
  } finally {
    stop();
  }
}

/** Makes one trial in this thread. `edit` changes its plan. */
export function makeTrial(
  seed: number,
  faults: readonly FaultKind[],
  edit: PlanEdit = {},
  log?: TrialLog,
): Promise<TrialResult> {
  return runTrial(edited(planOf(seed, faults), edit), log);
}

/** Makes a failing trial smaller, by at most `trialsMax` others; undefined if it does not fail. */
export async function shrinkTrial(
  seed: number,
  faults: readonly FaultKind[],
  trialsMax: number,
): Promise<ShrunkPlan | undefined> {
  const result = await makeTrial(seed, faults);
  if (result.failure === undefined) return undefined;
  return shrink(planOf(seed, faults), result, (plan) => runTrial(plan), trialsMax);
}

/** Makes `count` trials with the seeds from `from` on, on `workers` cores; default: all. Tells each result, in any order. */
export async function makeTrials(
  { from, count, faults }: TrialTask,
  onResult: (result: TrialResult) => void,
  workers = availableParallelism(),
): Promise<void> {
  const pool = new Piscina<TrialTask, TrialResult[]>({
    filename: new URL('../trial-main.js', import.meta.url).href,
    minThreads: workers,
    maxThreads: workers,
  });
  try {
    let next = from;
    const runner = async (): Promise<void> => {
      while (next < from + count) {
        const task = { from: next, count: Math.min(TASK_TRIALS, from + count - next), faults };
        next += task.count;
        for (const result of await pool.run(task)) onResult(result);
      }
    };
    await Promise.all(Array.from({ length: workers * TASKS_WAITING }, runner));
  } finally {
    await pool.destroy();
  }
}
