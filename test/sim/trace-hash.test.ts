/** The trace hash: that it is the same however trials are divided, hangs on nothing but behaviour, and notices any change of that. */

import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { TraceHash } from '#strake/embed/trace-hash.js';
import { makeTrials } from '#strake/embed/trials.js';
import { FAULT_KINDS, planOf } from '#strake/sim/trial/plan.js';
import { Trial, type TrialResult } from '#strake/sim/trial/trial.js';
import { TrialMemory } from '#strake/sim/trial/trial-memory.js';
import { TRIAL_MEMORY_BYTES } from '#strake/sim/trial/trial-node.js';
import { SimTrace } from '#strake/sim/world/trace.js';
import { native } from '#strake/uring/native.js';
import { makeCheckout, mutatedFiles, removeCheckout } from '../mutants/workshop.js';
import { check, run } from '../support/check.js';
import { atEnd, ending, startProcess } from '../support/scratch.js';

const SEEDS = 3;

function resultOf(seed: number, changes: Partial<TrialResult> = {}): TrialResult {
  return { seed, hash: 7 * seed, simulatedUs: 5, requests: 2, events: 9, faults: 1, failure: undefined, ...changes };
}

function hashOf(results: readonly TrialResult[]): string {
  const traces = new TraceHash(1);
  for (const result of results) traces.add(result);
  return traces.digest();
}

check('trials count in the order of their seeds, each with its course, and not with its words', () => {
  const results = [1, 2, 3, 4].map((seed) => resultOf(seed));
  const whole = hashOf(results);
  assert.match(whole, /^[0-9a-f]{32}$/);
  assert.is(hashOf([results[2], results[0], results[3], results[1]]), whole);
  assert.is.not(hashOf(results.slice(0, 3)), whole);
  const exchanged = [resultOf(1, { hash: 14 }), resultOf(2, { hash: 7 }), results[2], results[3]];
  assert.is.not(hashOf(exchanged), whole);
  for (const change of [{ hash: 8 }, { simulatedUs: 6 }, { requests: 3 }, { faults: 0 }, { failure: 'one' }]) {
    assert.is.not(hashOf([resultOf(1, change), ...results.slice(1)]), whole);
  }
  assert.is(hashOf([resultOf(1, { failure: 'one' })]), hashOf([resultOf(1, { failure: 'another' })]));
  const traces = new TraceHash(1);
  traces.add(results[1]);
  assert.throws(() => traces.digest(), /the trial of a seed is missing: 1/);
});

check('a trace tells orders, times, kinds, places, results, origins and contents apart, and no tokens', () => {
  type Step = (trace: SimTrace) => void;
  const after = (...steps: readonly Step[]) => {
    const trace = new SimTrace();
    for (const step of steps) step(trace);
    return trace.hash;
  };
  const write: Step = (trace) => trace.add('write', 10, 1, 4096, 512);
  const read: Step = (trace) => trace.add('read', 10, 2, 8192, 512);
  const plain = after(write, read);
  const different = [
    after(read, write),
    after(write),
    after(write, (trace) => trace.add('read', 11, 2, 8192, 512)),
    after(write, (trace) => trace.add('read', 10 + 2 ** 32, 2, 8192, 512)),
    after(write, (trace) => trace.add('extents', 10, 2, 8192, 512)),
    after(write, (trace) => trace.add('read', 10, 2, 8192 + 2 ** 33, 512)),
    after(write, (trace) => trace.add('read', 10, 2, 8192, 1024)),
    after(write, read, (trace) => trace.note(5)),
    after(write, read, (trace) => trace.note(6)),
  ];
  assert.is(new Set([plain, ...different]).size, different.length + 1);
  assert.is(
    after(write, (trace) => trace.add('read', 10, 77, 8192, 512)),
    plain,
  );
  assert.is(
    after(write, (trace) => trace.add('finish', 10, 3, 0, 0), read),
    plain,
  );
});

check('trials are the same in one worker and in two, in any parts, and whatever memory held before', async () => {
  const all = async (parts: readonly (readonly [from: number, count: number])[], workers: number) => {
    const traces = new TraceHash(1);
    const onResult = (result: TrialResult) => traces.add(result);
    for (const [from, count] of parts) await makeTrials({ from, count, faults: FAULT_KINDS }, onResult, workers);
    return traces.digest();
  };
  const whole = await all([[1, SEEDS]], 1);
  assert.is(await all([[2, SEEDS - 1], [1, 1]], 2), whole); // biome-ignore format: one part in each
  const memory = new TrialMemory(TRIAL_MEMORY_BYTES, 0xa5);
  const { crc32c } = native();
  const traces = new TraceHash(1);
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const checksum = (bytes: Uint8Array, at: number, length: number) => crc32c(bytes, at, length);
    traces.add(await new Trial(planOf(seed, FAULT_KINDS), { memory, checksum }).run());
  }
  assert.is(traces.digest(), whole);
});

check('a changed constant changes the hash, other tokens do not', async () => {
  const variants = {
    same: { file: 'core/limits.ts', find: 'WATCH_MS = 1_000;', replace: 'WATCH_MS = 1000;' },
    constant: { file: 'core/limits.ts', find: 'WATCH_MS = 1_000;', replace: 'WATCH_MS = 1_001;' },
    tokens: {
      file: 'core/handlers.ts',
      find: 'this.hints.get(slots) ?? 0;',
      replace: 'this.hints.get(slots) ?? 3 * slots;',
    },
  };
  const hashes: Record<string, unknown> = {};
  for (const [name, edit] of Object.entries(variants)) {
    const checkout = makeCheckout(`trace-${name}`, mutatedFiles({ edits: [edit] }));
    atEnd(() => removeCheckout(checkout));
    const args = [
      join(checkout, 'dist', 'cli', 'main.js'),
      'sim',
      '--seeds',
      '2',
      // Short ones, as each process begins with code that nothing has warmed up.
      '--from',
      '34',
      '--jobs',
      '1',
      '--trace-hash',
      '--quiet',
      '-o',
      'json',
    ];
    const { code, stdout, stderr } = await ending(startProcess(process.execPath, args));
    assert.is(code, 0, stderr);
    hashes[name] = JSON.parse(stdout).traceHash;
  }
  assert.is.not(hashes.constant, hashes.same);
  assert.is(hashes.tokens, hashes.same);
});

run();
