/**
 * The short form of fuzzing: some inputs of fixed seeds for each target, and those that found something once. `npm run fuzz` is
 * the long form.
 */

import * as assert from 'uvu/assert';
import { SimRandom } from '#strake/sim/world/random.js';
import { check, repetitions, run } from '../support/check.js';
import { type Finding, Fuzzer } from './engine.js';
import { regressions, tell } from './findings.js';
import { mutate } from './mutate.js';
import { demand, type FuzzTarget } from './target.js';
import { targets } from './targets/index.js';

const SEED = 1;
/** Inputs of each target: a few seconds each. */
const INPUTS: Readonly<Record<string, number>> = {
  journal: 1500,
  pages: 8000,
  image: 250,
  maps: 250,
  ring: 1200,
  'nbd-handshake': 150,
  'nbd-transmission': 200,
  'wire-requests': 2000,
  'wire-replies': 2000,
  'wire-calls': 2000,
  'wire-answers': 2000,
  control: 1500,
};
/** In brief, one in so many of them. */
const BRIEF_PART = 4;
/** An input that found something chooses differently each time that its target changes, so several choices are tried. */
const CHOICES = 32;

async function firstFinding(target: FuzzTarget, inputs: number): Promise<Finding | undefined> {
  const fuzzer = await Fuzzer.make(target, SEED);
  for (let index = 0; index < inputs; index += 1) {
    const found = await fuzzer.step(index);
    if (found !== undefined) return await fuzzer.minimise(found);
  }
  return undefined;
}

for (const target of targets) {
  check(`${target.name}: nothing is found`, async () => {
    const inputs = INPUTS[target.name];
    assert.ok(inputs > 0, 'the target has a number of inputs');
    const finding = await firstFinding(target, Math.ceil(inputs / repetitions(1, BRIEF_PART)));
    if (finding !== undefined) throw new Error(tell(target.name, finding));
  });

  for (const { name, input } of regressions(target)) {
    check(`${name} finds nothing any more`, async () => {
      for (let seed = 0; seed < CHOICES; seed += 1) await target.run(new Uint8Array(input), new SimRandom(seed));
    });
  }
}

check('what is planted is found, and made as small as it can be', async () => {
  const target: FuzzTarget = {
    name: 'planted',
    covers: [],
    bytesMax: 600,
    corpus: () => [new Uint8Array(500).fill(7)],
    run: (bytes) => {
      const at = bytes.indexOf(0x7f);
      demand(at < 0 || at + 2 >= bytes.length || bytes[at + 1] !== 7, `a planted fault at ${at}`);
    },
  };
  const finding = await firstFinding(target, 2000);
  assert.ok(finding);
  assert.equal([...(finding?.input ?? [])], [0x7f, 7, 0]);
});

check('the same numbers give the same input, and other numbers another', () => {
  const corpus = [new Uint8Array(100).fill(1), new Uint8Array(40).fill(2)];
  const made = (seed: number) => Buffer.from(mutate(corpus[0], corpus, new SimRandom(seed), 120)).toString('hex');
  const inputs = Array.from({ length: 200 }, (_, seed) => made(seed));
  assert.equal(
    inputs,
    Array.from({ length: 200 }, (_, seed) => made(seed)),
  );
  assert.ok(new Set(inputs).size > 150);
  assert.ok(inputs.every((input) => input.length <= 240));
});

run();
