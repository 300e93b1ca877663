/**
 * Makes a failing plan smaller: fewer faults, a shorter course, fewer requests at a time, as long as something goes wrong.
 *
 * What is left of a plan is told as an edit, which together with the seed gives the smaller plan again.
 */

import type { SimPlan } from './plan.js';
import type { TrialResult } from './trial.js';

/** Changes that any plan may have; what is not given stays. */
export interface CommonEdit {
  /** Numbers of the actions that are kept. */
  readonly keep?: readonly number[];
  readonly endMs?: number;
  readonly connections?: number;
  readonly depth?: number;
  readonly burst?: number;
  readonly ragged?: number;
}

/** Changes of a plan of one node. */
export interface PlanEdit extends CommonEdit {
  readonly nodes?: number;
  readonly volumes?: number;
  readonly programs?: number;
  readonly networkLoss?: number;
  readonly clockRate?: number;
}

interface PlanAction {
  readonly number: number;
  readonly atMs: number;
}

/** What of a plan can be changed, whatever it is of. */
interface CommonPlan {
  readonly actions: readonly PlanAction[];
  readonly endMs: number;
  readonly connections: number;
  readonly depth: number;
  readonly burst: number;
  readonly ragged: number;
}

/** How plans of a kind are made smaller. */
export interface Shrinking<Plan, Edit> {
  edited(plan: Plan, edit: Edit): Plan;
  /** Edits that may be tried on top of what has been reached, from the boldest to the most careful. `now`: the plan with it. */
  attempts(now: Plan, edit: Edit, failedMs: number): Iterable<Edit>;
}

export interface ShrunkPlan<Edit = PlanEdit> {
  readonly edit: Edit;
  readonly result: TrialResult;
  /** Trials that it took. */
  readonly trials: number;
}

/** A plan with changes. */
export function edited<Plan extends CommonPlan, Edit extends CommonEdit>(plan: Plan, edit: Edit): Plan {
  const { keep, ...changes } = edit;
  const actions = keep === undefined ? plan.actions : plan.actions.filter(({ number }) => keep.includes(number));
  return { ...plan, ...changes, actions };
}

/** Fewer faults, and a shorter course. */
export function* fewerActions<Edit extends CommonEdit>(now: CommonPlan, edit: Edit, failedMs: number): Generator<Edit> {
  const endMs = Math.ceil(failedMs) + 1;
  if (endMs < now.endMs) yield { ...edit, endMs, keep: now.actions.filter((one) => one.atMs < endMs).map(numberOf) };
  const numbers = now.actions.map(numberOf);
  for (let share = numbers.length; share >= 1; share = Math.floor(share / 2)) {
    for (let from = 0; from < numbers.length; from += share) {
      yield { ...edit, keep: numbers.filter((_, at) => at < from || at >= from + share) };
    }
  }
}

/** Fewer requests at a time, of whole blocks only. */
export function* lessLoad<Edit extends CommonEdit>(now: CommonPlan, edit: Edit): Generator<Edit> {
  if (now.depth > 1) yield { ...edit, depth: now.depth / 2 };
  if (now.burst > 1) yield { ...edit, burst: now.burst / 2 };
  if (now.ragged > 0) yield { ...edit, ragged: 0 };
}

/** An end that is nearer to the last fault. */
export function* soonerEnd<Edit extends CommonEdit>(now: CommonPlan, edit: Edit): Generator<Edit> {
  const last = now.actions.at(-1)?.atMs ?? 0;
  const sooner = Math.floor((last + now.endMs) / 2);
  if (sooner < now.endMs) yield { ...edit, endMs: sooner };
}

function numberOf({ number }: PlanAction): number {
  return number;
}

/** Of plans of one node. */
export const NODE_SHRINKING: Shrinking<SimPlan, PlanEdit> = {
  edited,
  *attempts(now, edit, failedMs) {
    yield* fewerActions(now, edit, failedMs);
    if (now.nodes > 1) yield { ...edit, nodes: now.nodes - 1 };
    if (now.volumes > 1) yield { ...edit, volumes: now.volumes - 1 };
    if (now.connections > 1) yield { ...edit, connections: now.connections - 1 };
    if (now.programs > 0) yield { ...edit, programs: now.programs - 1 };
    yield* lessLoad(now, edit);
    if (now.networkLoss > 0) yield { ...edit, networkLoss: 0 };
    if (now.clockRate !== 1) yield { ...edit, clockRate: 1 };
    yield* soonerEnd(now, edit);
  },
};

/**
 * Shrinks the plan of a trial that failed with `result`, as `how` says. `run` carries a plan out. At most `trialsMax` trials are
 * made.
 */
export async function shrink<Plan, Edit extends CommonEdit>(
  how: Shrinking<Plan, Edit>,
  plan: Plan,
  result: TrialResult,
  run: (plan: Plan) => Promise<TrialResult>,
  trialsMax: number,
): Promise<ShrunkPlan<Edit>> {
  let best: ShrunkPlan<Edit> = { edit: {} as Edit, result, trials: 0 };
  let trials = 0;
  for (let smaller = true; smaller && trials < trialsMax; ) {
    smaller = false;
    const now = how.edited(plan, best.edit);
    for (const edit of how.attempts(now, best.edit, best.result.simulatedUs / 1000)) {
      if (trials === trialsMax) break;
      trials += 1;
      const attempt = await run(how.edited(plan, edit));
      if (attempt.failure === undefined) continue;
      best = { edit, result: attempt, trials };
      smaller = true;
      break;
    }
  }
  return { ...best, trials };
}
