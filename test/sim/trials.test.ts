/** Trials of whole nodes: that they repeat, that everything takes part in them, and what they have found. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { makeTrial, makeTrials } from '#strake/embed/trials.js';
import { FAULT_KINDS, planOf, type SimPlan } from '#strake/sim/trial/plan.js';
import { Trial, type TrialResult } from '#strake/sim/trial/trial.js';
import { TrialMemory } from '#strake/sim/trial/trial-memory.js';
import { TRIAL_MEMORY_BYTES } from '#strake/sim/trial/trial-node.js';
import { check, repetitions, run } from '../support/check.js';
import { project } from '../support/project.js';

check('a seed takes the same course in every thread, after whatever came before, and told or not', [], async () => {
  const seeds = [11, 12, 13, 14].slice(0, repetitions(4, 2));
  const here: TrialResult[] = [];
  for (const seed of seeds) here.push(await makeTrial(seed, FAULT_KINDS));
  let lines = 0;
  const again: TrialResult[] = [];
  for (const seed of seeds.toReversed()) {
    again.unshift(
      await makeTrial(seed, FAULT_KINDS, {}, () => {
        lines += 1;
      }),
    );
  }
  assert.equal(again, here);
  assert.ok(lines > 1000);
  const elsewhere: TrialResult[] = [];
  await makeTrials({ from: 11, count: seeds.length, faults: FAULT_KINDS }, (result) => elsewhere.push(result), 2);
  assert.equal(
    elsewhere.sort((one, other) => one.seed - other.seed),
    here,
  );
  assert.is(new Set(here.map(({ hash }) => hash)).size, seeds.length);
});

check('without faults nothing is answered with an error, and no copy is ever out of sync', [], async () => {
  for (let seed = 1; seed <= 5; seed += 1) {
    const told: string[] = [];
    const { failure, requests } = await makeTrial(seed, [], {}, (_timeUs, text) => told.push(text));
    assert.is(failure, undefined);
    assert.ok(requests > 100);
    // What comes after that starts with some of the copies.
    const course = told.slice(0, told.indexOf('faults stop'));
    assert.ok(course.length > 100);
    assert.equal(
      course.filter((text) => /error|offline|syncing/.test(text)),
      [],
    );
  }
});

check('connections and programs of the process ask for everything that a volume does', [], async () => {
  const done = new Set<string>();
  for (let seed = 1; seed <= 20; seed += 1) {
    const { failure } = await makeTrial(seed, [], {}, (_timeUs, text) => {
      const [, client, request] = /^(connection|program) \d+: #\d+ (\D+?)(?: of .*)? is done$/.exec(text) ?? [];
      if (client !== undefined) done.add(`${client}: ${request}`);
    });
    assert.is(failure, undefined);
  }
  const requests = ['flush', 'read', 'trim', 'write', 'write-zeroes'];
  const all = ['block status', ...requests].map((request) => `connection: ${request}`);
  assert.equal([...done].sort(), [...all, ...requests.map((request) => `program: ${request}`)].sort());
});

check('what a trial finds in memory hangs on its seed, not on what was there before', [], async () => {
  const plan = planOf(11, FAULT_KINDS);
  const [one, other] = [0xa5, 0x5a].map((before) => new TrialMemory(TRIAL_MEMORY_BYTES, before));
  const results = [await new Trial(plan, { memory: one }).run(), await new Trial(plan, { memory: other }).run()];
  assert.equal(results[0], results[1]);
});

check('plans have several nodes and volumes, and clients that are far away', [], async () => {
  const plans = Array.from({ length: 100 }, (_, seed) => planOf(seed, FAULT_KINDS));
  const several = plans.filter(({ nodes, volumes }) => nodes > 1 && volumes > 1);
  assert.ok(several.length > 0);
  assert.ok(plans.some(({ clientDelaysUs }) => clientDelaysUs.some((delayUs) => delayUs > 0)));
  const [{ seed, nodes, volumes }] = several;
  const opened = new Set<string>();
  const told: string[] = [];
  const { failure } = await makeTrial(seed, ['kill'], {}, (_timeUs, text) => {
    told.push(text);
    const action = /^action .*"node":(\d)/.exec(text);
    if (action !== null) opened.add(action[1]);
  });
  assert.is(failure, undefined);
  assert.is(told.filter((text) => text === 'faults stop').length, nodes);
  assert.is(opened.size, nodes, 'each node has faults of its own');
  assert.ok(volumes > 1 && told.some((text) => text.includes('volume2')));
});

check('every kind of fault is drawn, and happens', [], () => {
  const drawn = new Set<string>();
  for (let seed = 1; seed <= 300; seed += 1) for (const { kind } of planOf(seed, FAULT_KINDS).actions) drawn.add(kind);
  assert.equal([...drawn].sort(), [...FAULT_KINDS, 'grow', 'scrub'].sort());
});

check('what trials have found once stays found', [], async () => {
  const folder = join(project, 'test', 'sim', 'plans');
  const memory = new TrialMemory(TRIAL_MEMORY_BYTES);
  const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
  assert.ok(files.length > 0);
  for (const name of files) {
    const plan: SimPlan = JSON.parse(readFileSync(join(folder, name), 'utf8'));
    const { failure } = await new Trial(plan, { memory }).run();
    assert.is(failure, undefined, name);
  }
});

run();
