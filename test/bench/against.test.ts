/** A comparison with another commit, for an instant: it is built, measured, judged and removed again. Its numbers mean nothing. */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, type Need, run, tool } from '../support/check.js';
import { type Ending, ending, project, startProcess } from '../support/scratch.js';

const ROW = 'null.randread.4k.qd1';
/** The fewest that can be judged. */
const PAIRS = 6;

const checkout: Need = () => {
  const { status } = spawnSync('git', ['rev-parse', '--verify', 'HEAD'], { cwd: project, stdio: 'ignore' });
  return status === 0 ? undefined : 'needs a git checkout';
};

function bench(args: readonly string[]): Promise<Ending> {
  return ending(startProcess(process.execPath, [join(project, 'scripts', 'bench.mjs'), '--smoke', ...args]));
}

function worktrees(): string {
  return spawnSync('git', ['worktree', 'list'], { cwd: project, encoding: 'utf8' }).stdout;
}

check(
  'a row is measured on both builds in turns and judged, and nothing is left of the other build',
  [checkout, tool('fio')],
  async () => {
    const before = worktrees();
    // What a run has left that was killed.
    const orphan = join(project, 'target', 'against', '99999999');
    mkdirSync(orphan, { recursive: true });
    const args = ['--against', 'HEAD', '--rows', ROW, '--pairs', String(PAIRS), '--seconds', '0.05', '-o', 'json'];
    // A bound that nothing reaches makes any row lower.
    const { code, stdout, stderr } = await bench([...args, '--bound', '1000']);
    assert.is(code, 1, stderr);
    const data = JSON.parse(stdout);
    assert.equal([data.schema, data.version, data.pairs, data.bound], ['strake.bench.against', 1, PAIRS, 1000]);
    assert.match(data.against.commit, /^[0-9a-f]{40}$/);
    const [row, ...others] = data.rows;
    assert.equal(others, []);
    assert.equal([row.id, row.unit, row.verdict, row.ratios.length], [ROW, 'iops', 'lower', PAIRS]);
    assert.ok(row.before > 0 && row.after > 0);
    assert.ok(row.ratio.low <= row.ratio.median && row.ratio.median <= row.ratio.high && row.ratio.coverage > 0.95);
    const turns = [...stderr.matchAll(/pair \d+\/\d+ {2}(before|after)$/gm)].map(([, build]) => build);
    assert.equal(turns.slice(0, 4), ['before', 'after', 'after', 'before']);
    assert.is(turns.length, 2 * PAIRS);
    assert.is(worktrees(), before);
    assert.not.ok(existsSync(orphan));
  },
);

check('what cannot be compared is said, with what to do', [checkout, tool('fio')], async () => {
  const refused = async (args: readonly string[], told: RegExp) => {
    const { code, stdout, stderr } = await bench(args);
    assert.is(code, 1);
    assert.is(stdout, '');
    assert.match(stderr, told);
  };
  await refused(
    ['--against', 'no-such-commit', '--rows', ROW],
    /^bench: no commit is called no-such-commit\n {2}Give a/m,
  );
  await refused(['--against', 'HEAD', '--rows', 'no-such-row'], /^bench: no row is called no-such-row$/m);
  await refused(['--against', 'HEAD', '--rows', ROW, '--pairs', '0'], /^bench: --pairs is at least/m);
  // A commit of nothing.
  const tree = spawnSync('git', ['mktree'], { cwd: project, input: '', encoding: 'utf8' }).stdout.trim();
  const author = { GIT_AUTHOR_NAME: 'a', GIT_AUTHOR_EMAIL: 'a@a', GIT_COMMITTER_NAME: 'a', GIT_COMMITTER_EMAIL: 'a@a' };
  const made = spawnSync('git', ['commit-tree', '-m', 'empty', tree], {
    cwd: project,
    encoding: 'utf8',
    env: { ...process.env, ...author },
  });
  const before = worktrees();
  await refused(
    ['--against', made.stdout.trim(), '--rows', ROW],
    /^bench: [0-9a-f]{40} cannot be built: .*\n {2}Choose/m,
  );
  assert.is(worktrees(), before);
});

run();
