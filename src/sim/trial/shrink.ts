/**
 * Makes a failing plan smaller: fewer faults, a shorter course, fewer requests at a time, as long as something goes wrong.
 *
 * What is left of a plan is told as an edit, which together with the seed gives the smaller plan again.
 */

import type { SimPlan } from './plan.js';
import type { TrialResult } from './trial.js';

/** Changes of a plan; what is not given stays. */
export interface PlanEdit {
  /** Numbers of the actions that are kept. */
  readonly keep?: readonly number[];
  readonly endMs?: number;
  readonly nodes?: number;
  readonly volumes?: number;
  readonly connections?: number;
  readonly programs?: number;
  readonly depth?: number;
  readonly burst?: number;
  readonly ragged?: number;
  readonly networkLoss?: number;
  readonly clockRate?: number;
}

export interface ShrunkPlan {
  readonly edit: PlanEdit;
  readonly result: TrialResult;
  /** Trials that it took. */
  readonly trials: number;
}

export function edited(plan: SimPlan, edit: PlanEdit): SimPlan {
  const { keep, ...changes } = edit;
  const actions = keep === undefined ? plan.actions : plan.actions.filter(({ number }) => keep.includes(number));
  return { ...plan, ...changes, actions };
}

/** Edits that may be tried on top of what has been reached, from the boldest to the most careful. */
function* attempts(plan: SimPlan, edit: PlanEdit, failedMs: number): Generator<PlanEdit> {
  const now = edited(plan, edit);
  const endMs = Math.ceil(failedMs) + 1;
  if (endMs < now.endMs) yield { ...edit, endMs, keep: now.actions.filter((one) => one.atMs < endMs).map(numberOf) };
  const numbers = now.actions.map(numberOf);
  for (let share = numbers.length; share >= 1; share = Math.floor(share / 2)) {
    for (let from = 0; from < numbers.length; from += share) {
      yield { ...edit, keep: numbers.filter((_, at) => at < from || at >= from + share) };
    }
  }
  if (now.nodes > 1) yield { ...edit, nodes: now.nodes - 1 };
  if (now.volumes > 1) yield { ...edit, volumes: now.volumes - 1 };
  if (now.connections > 1) yield { ...edit, connections: now.connections - 1 };
  if (now.programs > 0) yield { ...edit, programs: now.programs - 1 };
  if (now.depth > 1) yield { ...edit, depth: now.depth / 2 };
  if (now.burst > 1) yield { ...edit, burst: now.burst / 2 };
  if (now.ragged > 0) yield { ...edit, ragged: 0 };
  if (now.networkLoss > 0) yield { ...edit, networkLoss: 0 };
  if (now.clockRate !== 1) yield { ...edit, clockRate: 1 };
  const last = now.actions.at(-1)?.atMs ?? 0;
  const sooner = Math.floor((last + now.endMs) / 2);
  if (sooner < now.endMs) yield { ...edit, endMs: sooner };
}

function numberOf({ number }: { readonly number: number }): number {
  return number;
}

/**
 * Shrinks the plan of a trial that failed with `result`. `run` carries a plan out. At most `trialsMax` trials are made.
 */
export async function shrink(
  plan: SimPlan,
  result: TrialResult,
  run: (plan: SimPlan) => Promise<TrialResult>,
  trialsMax: number,
): Promise<ShrunkPlan> {
  let best: ShrunkPlan = { edit: {}, result, trials: 0 };
  let trials = 0;
  for (let smaller = true; smaller && trials < trialsMax; ) {
    smaller = false;
    for (const edit of attempts(plan, best.edit, best.result.simulatedUs / 1000)) {
      if (trials === trialsMax) break;
      trials += 1;
      const attempt = await run(edited(plan, edit));
      if (attempt.failure === undefined) continue;
      best = { edit, result: attempt, trials };
      smaller = true;
      break;
    }
  }
  return { ...best, trials };
}
