/** Failing plans are made smaller, down to what the failure needs. */

import * as assert from 'uvu/assert';
import { FAULT_KINDS, planOf, type SimPlan } from '#strake/sim/trial/plan.js';
import { edited, NODE_SHRINKING, shrink } from '#strake/sim/trial/shrink.js';
import type { TrialResult } from '#strake/sim/trial/trial.js';
import { check, run } from '../support/check.js';

function resultOf(plan: SimPlan, failedMs: number | undefined): TrialResult {
  const failure = failedMs === undefined ? undefined : 'wrong';
  const simulatedUs = 1000 * (failedMs ?? plan.endMs);
  return { seed: plan.seed, hash: 1, simulatedUs, requests: 1, events: 1, faults: 0, failure };
}

check('what is left is what the failure needs, and the edit gives the same plan again', [], async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const plan = planOf(seed, FAULT_KINDS);
    const { actions } = plan;
    if (actions.length < 4 || plan.connections < 2) continue;
    const needed = [actions[1].number, actions[3].number];
    // Fails 100 ms after the second of two actions, if two connections are there.
    const attempt = async (smaller: SimPlan): Promise<TrialResult> => {
      const there = smaller.actions.filter(({ number, atMs }) => needed.includes(number) && atMs < smaller.endMs);
      const fails = there.length === 2 && smaller.connections >= 2 && smaller.endMs > actions[3].atMs + 100;
      return resultOf(smaller, fails ? actions[3].atMs + 100 : undefined);
    };
    const { edit, result, trials } = await shrink(NODE_SHRINKING, plan, await attempt(plan), attempt, 1000);
    const smaller = edited(plan, edit);
    assert.equal(
      smaller.actions.map(({ number }) => number),
      needed,
      `seed ${seed}`,
    );
    assert.is(smaller.connections, 2);
    assert.is(smaller.depth, 1);
    assert.ok(smaller.endMs <= actions[3].atMs + 102);
    assert.is(result.failure, 'wrong');
    assert.ok(trials < 1000);
    assert.equal(edited(plan, JSON.parse(JSON.stringify(edit))), smaller);
  }
});

check('no more trials are made than allowed, and a failure that needs everything stays as it was', [], async () => {
  const plan = planOf(3, FAULT_KINDS);
  let trials = 0;
  const never = async (smaller: SimPlan) => {
    trials += 1;
    return resultOf(smaller, undefined);
  };
  const failed = resultOf(plan, plan.endMs);
  assert.equal((await shrink(NODE_SHRINKING, plan, failed, never, 7)).edit, {});
  assert.is(trials, 7);
  assert.is(
    (await shrink(NODE_SHRINKING, plan, failed, async (smaller) => resultOf(smaller, smaller.endMs), 5)).trials,
    5,
  );
});

run();
