/** The rules for assertions, on small trees; and the faults that let them fire (`npm run mutants -- --assertions`) have not rotted. */

import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { hunt } from '../mutants/assertion-hunt.js';
import { ASSERTION_MUTANTS } from '../mutants/assertions.js';
import { closeWorkshop, mutatedFiles } from '../mutants/workshop.js';
import { check, run } from '../support/check.js';
import { atEnd, project, scratchFolder } from '../support/scratch.js';

const { assertionErrors, assertionsBelow } = (await import(join(project, 'scripts', 'assertions.mjs'))) as {
  assertionErrors(folder: string): string[];
  assertionsBelow(folder: string): { found: { says: string }[] }[];
};

const LIMIT_MS = 120_000;

/** What is wrong with a tree whose store is one file that has this text. */
function errorsOf(text: string): string[] {
  const folder = mkdtempSync(join(scratchFolder(), 'tree-'));
  mkdirSync(join(folder, 'src', 'store'), { recursive: true });
  writeFileSync(join(folder, 'src', 'store', 'store.ts'), text);
  return assertionErrors(folder);
}

check('less than one assertion for 40 lines is refused', () => {
  const line = "check(one > 0, 'there is none', one);\n";
  assert.equal(errorsOf(`${line}${'one += 1;\n'.repeat(39)}`), []);
  const [error, ...others] = errorsOf(`${line}${'one += 1;\n'.repeat(40)}`);
  assert.match(error, /^src\/store: 1 assertions in 41 lines, at least 2 are wanted/);
  assert.is(others.length, 0);
});

check('comments, and methods of the same name, are no assertions', () => {
  assert.match(errorsOf("// check(one, 'it is none');\njob.check();\n")[0], /0 assertions/);
});

check('what an assertion says is a constant text, and tells which it was', () => {
  assert.match(errorsOf('check(one > 0, words, one);\n')[0], /store\.ts:1: what an assertion says is a constant text/);
  const twice = "check(one > 0, 'there is none');\n".repeat(2);
  assert.match(errorsOf(twice)[0], /store\.ts:2: src\/store\/store\.ts:1 says 'there is none' too/);
});

check('each fault that lets an assertion fire still changes the code', () => {
  for (const { says, edits } of ASSERTION_MUTANTS) assert.ok(mutatedFiles({ edits }).size > 0, says);
});

check('each fault is of an assertion that there is, and of one that no other fault is of', () => {
  // Of folders in which assertions are not counted those files that have some with faults.
  const files = [
    'core/cluster-times.ts',
    'core/in-lanes.ts',
    'core/set-aside.ts',
    'layout/fields.ts',
    'layout/map-codec.ts',
    'manager/janitors.ts',
    'manager/job-book.ts',
  ];
  const others = files.map((file) => readFileSync(join(project, 'src', file), 'utf8'));
  const said = new Set(assertionsBelow(project).flatMap(({ found }) => found.map(({ says }) => says)));
  for (const { says } of ASSERTION_MUTANTS) {
    assert.ok(said.has(says) || others.some((text) => text.includes(`'${says}'`)), says);
  }
  assert.is(new Set(ASSERTION_MUTANTS.map(({ says }) => says)).size, ASSERTION_MUTANTS.length, 'one fault each');
});

check('a hunt sees an assertion fire, and counts none that fires in the place of another', async () => {
  atEnd(closeWorkshop);
  const [mutant] = ASSERTION_MUTANTS.filter(({ says }) => says === 'two checkpoints run at once');
  assert.is(await hunt(mutant, 0, LIMIT_MS), undefined);
  const judges = mutant.judges.slice(0, 1);
  const other = await hunt({ ...mutant, says: 'nothing', judges }, 1, LIMIT_MS);
  assert.is(other, 'another one fired: two checkpoints run at once');
});

run();
