/**
 * `npm test`: sets the checkout up, checks the code, and runs all tests. The last line is 'N passed, N failed'.
 *
 * Each file of tests runs in a process of its own with a time limit, so that a crash or a hang fails one file and is
 * reported. Arguments choose files by a part of their name: `npm test -- nbd` runs only those, and no lint, Rust or bench.
 *
 * With STRAKE_TEST_ALL=1, as in CI, a skipped test counts as a failure. STRAKE_TEST_NODE is the path of another Node.js with
 * which the files are run as well; tests that repeat themselves with many seeds make fewer of them then (STRAKE_TEST_BRIEF=1),
 * as what they look for does not depend on it.
 */

import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { lint } from './lint.mjs';
import { root, setup } from './setup.mjs';

const FILE_LIMIT_MS = 360_000;
const CARGO_LIMIT_MS = 900_000;
const everything = process.env.STRAKE_TEST_ALL === '1';
const totals = { passed: 0, failed: 0, skipped: [] };

/** Runs a program with a time limit, in a process group of its own, so that nothing of it stays behind. */
function run(program, args, limitMs, env = {}) {
  return new Promise((resolve) => {
    const started = Date.now();
    const child = spawn(program, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text) => {
        output += text;
      });
    }
    const endGroup = () => {
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // Nothing of the group is left.
      }
    };
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      endGroup();
    }, limitMs);
    child.on('error', (error) => {
      output += error.message;
    });
    child.on('exit', endGroup);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (late) output += `\nended after ${limitMs / 1000} s without an end in sight`;
      resolve({ code, signal, output, seconds: (Date.now() - started) / 1000 });
    });
  });
}

function report(name, passed, failed, seconds, output) {
  totals.passed += passed;
  totals.failed += failed;
  const verdict = failed === 0 ? 'ok  ' : 'FAIL';
  console.log(`${verdict}  ${name}  ${passed} passed, ${failed} failed  (${seconds.toFixed(1)} s)`);
  if (failed > 0) console.log(output.trimEnd().replace(/^/gm, '      '));
}

function skip(name, reason) {
  totals.skipped.push(`${name}: ${reason}`);
  if (everything) totals.failed += 1;
}

function runLint() {
  const started = Date.now();
  const results = lint();
  for (const { name, skipped } of results) if (skipped !== undefined) skip(name, skipped);
  const failures = results.filter(({ error }) => error !== undefined);
  const passed = results.length - failures.length - results.filter(({ skipped }) => skipped !== undefined).length;
  const output = failures.map(({ name, error }) => `${name}:\n${error}`).join('\n');
  report('lint, format, types, layers', passed, failures.length, (Date.now() - started) / 1000, output);
}

async function runCargo() {
  const args = ['test', '--release', '--workspace', '--quiet', '--', '--test-threads=2'];
  const { code, output, seconds } = await run('cargo', args, CARGO_LIMIT_MS);
  const sum = (pattern) => [...output.matchAll(pattern)].reduce((total, match) => total + Number(match[1]), 0);
  const passed = sum(/^test result: .*? (\d+) passed/gm);
  const failed = sum(/^test result: .*? (\d+) failed/gm);
  // A file that crashes or does not compile prints no result.
  report('crates', passed, code === 0 ? failed : Math.max(1, failed), seconds, output);
  for (const [, name, reason] of output.matchAll(/^skipped: (.+?): (.+)$/gm)) skip(name, reason);
}

async function runFile(file, node) {
  const name = node === process.execPath ? relative(root, file) : `${relative(root, file)} (other Node.js)`;
  const env = node === process.execPath ? {} : { STRAKE_TEST_BRIEF: '1' };
  const { code, signal, output, seconds } = await run(node, ['--import', 'tsx', file], FILE_LIMIT_MS, env);
  const count = (word) => Number(new RegExp(`^\\s*${word}:\\s+(\\d+)`, 'm').exec(output)?.[1] ?? 0);
  const [total, passed, skipped] = ['Total', 'Passed', 'Skipped'].map(count);
  const failed = total - passed - skipped;
  const crashed = (code !== 0 && failed <= 0) || total === 0;
  const why = crashed ? `\nended with ${signal ?? `exit code ${code}`} before all tests had` : '';
  report(name, passed, crashed ? failed + 1 : failed, seconds, output + why);
  for (const [, test, reason] of output.matchAll(/^skipped: (.+?): (.+)$/gm)) skip(test, reason);
}

async function runSmoke() {
  const args = [join('scripts', 'bench.mjs'), '--smoke', '-o', 'json'];
  const { code, output, seconds } = await run(process.execPath, args, FILE_LIMIT_MS);
  const missing = /^bench: (.+ is not installed.*)$/m.exec(output);
  if (missing !== null) skip('bench --smoke', missing[1]);
  else report('bench --smoke', code === 0 ? 1 : 0, code === 0 ? 0 : 1, seconds, output);
}

const wanted = process.argv.slice(2);
setup();
const files = readdirSync(join(root, 'test'), { recursive: true })
  .filter((name) => name.endsWith('.test.ts'))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
  .sort()
  .map((name) => join(root, 'test', name));
if (wanted.length === 0) {
  runLint();
  await runCargo();
}
for (const node of [process.execPath, process.env.STRAKE_TEST_NODE]) {
  if (node) for (const file of files) await runFile(file, node);
}
if (wanted.length === 0) await runSmoke();

for (const line of totals.skipped) console.log(`skipped${everything ? ' (counts as failed)' : ''}: ${line}`);
console.log(`${totals.passed} passed, ${totals.failed} failed`);
process.exitCode = totals.failed === 0 && totals.passed > 0 ? 0 : 1;
