/**
 * The mutants have not rotted: each still changes the code, and what it makes can be loaded. `npm run mutants` shows that each
 * is caught; here two are, by the first seeds of the simulator.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { atEnd } from '../support/scratch.js';
import { Hunt } from './hunt.js';
import { MUTANTS } from './mutants.js';
import { SEQUENCES } from './sequences.js';
import { applyEdit, mutatedFiles, ROOT } from './workshop.js';

const LIMIT_MS = 120_000;

check('each mutant finds the places that it changes, once, and compiles', () => {
  for (const mutant of MUTANTS) assert.ok(mutatedFiles(mutant).size > 0, mutant.name);
  assert.is(new Set(MUTANTS.map(({ name }) => name)).size, MUTANTS.length, 'names are different');
  assert.ok(MUTANTS.every(({ judges }) => judges.length > 0));
});

check('a mutant whose place is gone, or there twice, is refused', () => {
  const edit = { file: 'x.ts', find: 'sync();', replace: '' };
  assert.is(applyEdit('write(); sync();', edit), 'write(); ');
  assert.throws(() => applyEdit('write();', edit), /src\/x\.ts has 0 places that read:\nsync\(\);/);
  assert.throws(() => applyEdit('sync(); sync();', edit), /2 places/);
});

check('the table of mutants in docs/testing.md has each of them, with what it breaks', () => {
  const rows = readFileSync(join(ROOT, 'docs', 'testing.md'), 'utf8').matchAll(
    /^\| `([\w-]+)` \| (.+) \| (.+) \| `.+` \| .+ s \|$/gm,
  );
  const told = [...rows].map(([, name, breaks, rule]) => `${name}: ${breaks}: ${rule}`);
  const known = MUTANTS.map(({ name, breaks, rule }) => `${name}: ${breaks}: ${rule}`);
  assert.equal(told.sort(), known.sort());
});

check('each mutant that a sequence notices is there, and so is the sequence; docs/testing.md lists them', () => {
  const names = new Set(MUTANTS.map(({ name }) => name));
  for (const [name, { file, title }] of Object.entries(SEQUENCES)) {
    assert.ok(names.has(name), name);
    const text = readFileSync(join(ROOT, 'test', 'sim', `${file}.test.ts`), 'utf8');
    assert.ok(text.includes(`'${title}'`), `${file}: ${title}`);
  }
  const rows = readFileSync(join(ROOT, 'docs', 'testing.md'), 'utf8').matchAll(
    /^\| `([\w-]+)` \| `sim\/([\w-]+)`: (.+) \|$/gm,
  );
  const told = [...rows].map(([, name, file, title]) => `${name}: ${file}: ${title}`);
  const known = Object.entries(SEQUENCES).map(([name, { file, title }]) => `${name}: ${file}: ${title}`);
  assert.equal(told.sort(), known.sort());
});

check('the simulator catches two mutants, and passes the code as it is', async () => {
  const hunt = new Hunt(LIMIT_MS);
  atEnd(() => hunt.end());
  for (const name of ['write-sent-to-one', 'trim-does-nothing']) {
    const mutant = MUTANTS.find((one) => one.name === name);
    if (mutant === undefined) throw new Error(`there is no mutant ${name}`);
    const { caught } = await hunt.hunt(mutant);
    assert.match(caught?.reason ?? 'it survived', /^sector \d+: /);
  }
});

run();
