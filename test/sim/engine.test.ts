/** Engines that die without the stores of their members, and others that take their places. */

import * as assert from 'uvu/assert';
import { makeTrial } from '#strake/embed/trials.js';
import { FAULT_KINDS, type FaultKind, planOf } from '#strake/sim/trial/plan.js';
import { check, repetitions, run } from '../support/check.js';

const SEEDS = repetitions(200, 8);

async function trialsWith(faults: readonly FaultKind[], from: number, seeds: number): Promise<string[]> {
  const told: string[] = [];
  for (let seed = from; seed < from + seeds; seed += 1) {
    const { failure } = await makeTrial(seed, faults, {}, (_timeUs, text) => {
      if (/engine dies|alone|the devices/.test(text)) told.push(text);
    });
    assert.is(failure, undefined, `strake sim --replay ${seed} --faults ${faults.join(',')}`);
  }
  return told;
}

check('copies agree after engines have died alone, whichever of their requests have arrived', [], async () => {
  const told = await trialsWith(['engine'], 1, SEEDS);
  const sum = (pattern: RegExp) => told.reduce((total, text) => total + Number(pattern.exec(text)?.[1] ?? 0), 0);
  assert.ok(told.length > 5 * SEEDS);
  // Of these some have arrived and others have not, so that something has to be made equal.
  assert.ok(sum(/dies: (\d+) of its requests/) > 2 * SEEDS);
  assert.ok(told.some((text) => text.startsWith('reading from disk2 alone')));
  assert.ok(told.some((text) => text.includes('again while it makes copies agree')));
  for (const how of ['close', 'kill', 'power']) assert.ok(told.includes(`the devices: ${how}`), how);
});

check('they do so while disks are slow, engines stand still and connections break', [], async () => {
  await trialsWith(['slow', 'pause', 'network', 'engine'], 1, Math.ceil(SEEDS / 2));
});

check('an engine that is alone is a part of all faults, and changes no other plan', [], () => {
  const others = FAULT_KINDS.filter((kind) => kind !== 'engine');
  let detached = 0;
  for (let seed = 1; seed <= 200; seed += 1) {
    const plan = planOf(seed, FAULT_KINDS);
    if (!plan.detached) {
      assert.equal(plan, planOf(seed, others));
      continue;
    }
    detached += 1;
    assert.ok(plan.copies > 1 && plan.nodes === 1 && plan.programs === 0);
  }
  assert.ok(detached > 10 && detached < 50);
});

run();
