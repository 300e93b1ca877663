/** A thousand trials with every fault, for which two files of tests have time. */

import { availableParallelism } from 'node:os';
import * as assert from 'uvu/assert';
import { makeTrials } from '#strake/embed/trials.js';
import { FAULT_KINDS } from '#strake/sim/trial/plan.js';
import type { TrialResult } from '#strake/sim/trial/trial.js';
import { check, repetitions, run } from './check.js';

const HALF = Math.ceil(Number(process.env.STRAKE_TRIALS ?? repetitions(1000, 30)) / 2);
/** A few trials are done before a second thread would have warmed up. */
const THREADS = repetitions(availableParallelism(), 1);
const FIRST = Number(process.env.STRAKE_SEED ?? 1);

/** Runs half of them: the first (0) or the second (1). */
export function runHalf(half: 0 | 1): void {
  check(`F2 nodes keep what they promise under every fault, in a thousand trials: half ${half + 1}`, [], async () => {
    const results: TrialResult[] = [];
    const from = FIRST + half * HALF;
    await makeTrials({ from, count: HALF, faults: FAULT_KINDS }, (result) => results.push(result), THREADS);
    const failures = results.filter(({ failure }) => failure !== undefined);
    const told = failures.map(({ seed, failure }) => `strake sim --replay ${seed}: ${failure}`);
    assert.equal(told.slice(0, 5), []);
    assert.is(results.length, HALF);
    assert.is(new Set(results.map(({ seed }) => seed)).size, HALF);
    // A trial in which nothing happens proves nothing.
    const sum = (amount: (result: TrialResult) => number) => results.reduce((total, one) => total + amount(one), 0);
    assert.ok(sum(({ requests }) => requests) / (sum(({ simulatedUs }) => simulatedUs) / 1e6) > 25);
    assert.ok(sum(({ faults }) => faults) > 5 * HALF);
  });
  run();
}
