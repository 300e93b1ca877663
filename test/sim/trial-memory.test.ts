/** Memory of trials: that each finds what its seed says, wherever those before it have written. */

import * as assert from 'uvu/assert';
import { FAULT_KINDS, planOf } from '#strake/sim/trial/plan.js';
import { Trial } from '#strake/sim/trial/trial.js';
import { TrialMemory } from '#strake/sim/trial/trial-memory.js';
import { TRIAL_MEMORY_BYTES } from '#strake/sim/trial/trial-node.js';
import { native } from '#strake/uring/native.js';
import { check, repetitions, run } from '../support/check.js';

const PAGE = 4096;

check('a part holds what its seed says, whatever memory held, and what was written to it', [], () => {
  const [one, other] = [new TrialMemory(100 * PAGE, 0xa5), new TrialMemory(100 * PAGE)];
  const [first, second] = [one, other].map((memory) => {
    const part = memory.part(7, 2 * PAGE, 20 * PAGE);
    memory.fill(part, 0, 20 * PAGE);
    return part;
  });
  assert.is(Buffer.compare(first.bytes, second.bytes), 0);
  const before = first.bytes.slice();
  first.bytes.fill(0, 3 * PAGE, 5 * PAGE);
  first.touched.fill(1, 3, 5);
  one.fill(first, 0, 4 * PAGE);
  assert.is(first.bytes[4 * PAGE], 0, 'what is not to be filled is left');
  one.fill(first, 4 * PAGE, 20 * PAGE);
  assert.is(Buffer.compare(first.bytes, before), 0);
  const elsewhere = one.part(8, 2 * PAGE, 20 * PAGE);
  one.fill(elsewhere, 0, 20 * PAGE);
  assert.is.not(Buffer.compare(elsewhere.bytes, before), 0);
});

check('trials write nowhere but to pages that count as touched', [], async () => {
  const memory = new TrialMemory(TRIAL_MEMORY_BYTES);
  const { crc32c: checksum } = native();
  const shapes = new Set<string>();
  for (let seed = 1; seed <= repetitions(24, 6); seed += 1) {
    const plan = planOf(seed, FAULT_KINDS);
    shapes.add(plan.detached ? 'detached' : `${plan.nodes} nodes`);
    await new Trial(plan, { memory, checksum }).run();
    assert.is(memory.findStray(), -1, `seed ${seed}`);
  }
  assert.equal([...shapes].sort(), ['1 nodes', '2 nodes', 'detached']);
});

run();
