/**
 * `npm test` and `npm run test:deep`: set the checkout up, check the code, and run all tests. The last line is
 * 'N passed, N failed'.
 *
 * Files of tests run side by side, each in a process of its own with a time limit, so that a crash or a hang fails one file and
 * is reported. Other arguments choose files by a part of their path:
 * `npm test -- nbd` runs only those, and no lint, Rust or bench.
 *
 * Options: --deep (files that repeat themselves do so in full; otherwise in brief, by STRAKE_TEST_BRIEF=1), --repeating (only
 * those files, and with --deep Rust tests), --node PATH (files of tests only, run by another Node.js), --list (prints the names
 * of tests instead).
 * With STRAKE_TEST_ALL=1, as in CI, a skipped test counts as a failure.
 */

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { lint } from './lint.mjs';
import { root, setup, setupPackages } from './setup.mjs';
import { compileTests } from './tests/compile.mjs';
import { hasBriefForm, LANES, onlyWaits, testFiles } from './tests/plan.mjs';
import { run } from './tests/process.mjs';
import { Report } from './tests/report.mjs';

const FILE_LIMIT_MS = 360_000;
/** In full, trials alone take four minutes of two cores, which they share with what runs beside them. */
const DEEP_FILE_LIMIT_MS = 900_000;
const LIST_LIMIT_MS = 60_000;
const CARGO_LIMIT_MS = 900_000;
const SETUP_LIMIT_MS = 900_000;
/**
 * Without optimization, which takes a third of the time and checks arithmetic for overflows; in full as it is released. The
 * binding has no tests, and is built by the set-up.
 */
const cargo = (deep) => [
  'test',
  ...(deep ? ['--release'] : []),
  '--workspace',
  '--exclude',
  'strake-binding',
  '--quiet',
  '--',
];

const { values: options, positionals: parts } = parseArgs({
  options: {
    deep: { type: 'boolean', default: false },
    repeating: { type: 'boolean', default: false },
    node: { type: 'string' },
    list: { type: 'boolean', default: false },
  },
  allowPositionals: true,
});
const report = new Report(process.env.STRAKE_TEST_ALL === '1');
/** Whether everything is run, and not only files of tests. */
const whole = parts.length === 0 && !options.repeating && options.node === undefined;
/** Whether what has two forms is run in full, Rust tests among it: optimized, they are other programs. */
const repeated = parts.length === 0 && options.repeating && options.deep;
const node = options.node ?? process.execPath;

/** The environment of one form of the tests. */
function formOf(deep) {
  return { STRAKE_TEST_BRIEF: deep ? undefined : '1' };
}

async function runLint(built) {
  const started = performance.now();
  const results = await lint(false, built);
  for (const { name, skipped } of results) if (skipped !== undefined) report.skip(name, skipped);
  const failures = results.filter(({ error }) => error !== undefined);
  const passed = results.length - failures.length - results.filter(({ skipped }) => skipped !== undefined).length;
  const output = failures.map(({ name, error }) => `${name}:\n${error}`).join('\n');
  const seconds = (performance.now() - started) / 1000;
  report.add({ name: 'lint, format, types, layers', passed, failed: failures.length, seconds, output });
}

async function runCargo() {
  const { code, output, seconds } = await run('cargo', [...cargo(options.deep), '--test-threads=2'], CARGO_LIMIT_MS);
  const sum = (pattern) => [...output.matchAll(pattern)].reduce((total, match) => total + Number(match[1]), 0);
  const passed = sum(/^test result: .*? (\d+) passed/gm);
  const failed = sum(/^test result: .*? (\d+) failed/gm);
  // A file that crashes or does not compile prints no result.
  report.add({ name: 'crates', passed, failed: code === 0 ? failed : Math.max(1, failed), seconds, output });
  for (const [, name, reason] of output.matchAll(/^skipped: (.+?): (.+)$/gm)) report.skip(name, reason);
}

async function runFile(file, argumentsOf) {
  const name = `${join('test', file)}${options.node === undefined ? '' : ' (other Node.js)'}`;
  const { code, signal, output, seconds } = await run(
    node,
    argumentsOf(file),
    options.deep ? DEEP_FILE_LIMIT_MS : FILE_LIMIT_MS,
    formOf(options.deep),
  );
  const count = (word) => Number(new RegExp(`^\\s*${word}:\\s+(\\d+)`, 'm').exec(output)?.[1] ?? 0);
  const [total, passed, skipped] = ['Total', 'Passed', 'Skipped'].map(count);
  const failed = total - passed - skipped;
  const crashed = (code !== 0 && failed <= 0) || total === 0;
  const why = crashed ? `\nended with ${signal ?? `exit code ${code}`} before all tests had` : '';
  const used = /^processor time: ([\d.]+) s$/m.exec(output)?.[1];
  report.addFile({
    name,
    passed,
    failed: crashed ? failed + 1 : failed,
    seconds,
    processor: used === undefined ? undefined : Number(used),
    output: output + why,
  });
  for (const [, test, reason] of output.matchAll(/^skipped: (.+?): (.+)$/gm)) report.skip(test, reason);
}

async function runSmoke() {
  const args = [join('scripts', 'bench.mjs'), '--smoke', '-o', 'json'];
  const { code, output, seconds } = await run(process.execPath, args, FILE_LIMIT_MS);
  const missing = /^bench: (.+ is not installed.*)$/m.exec(output);
  if (missing !== null) report.skip('bench --smoke', missing[1]);
  else report.add({ name: 'bench --smoke', passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, seconds, output });
}

/** Does `work` for each of `items` in some lanes, each of which takes the next item when it is done with one. */
async function inLanes(count, items, work) {
  const pending = [...items];
  const lane = async () => {
    for (let item = pending.shift(); item !== undefined; item = pending.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: count }, lane));
}

/** The set-up in a process of its own, so that others run beside it. It ends this one if it fails, as nothing goes on then. */
async function setupBeside() {
  const { code } = await run(process.execPath, [join(root, 'scripts', 'setup.mjs')], SETUP_LIMIT_MS, {}, 'inherit');
  if (code !== 0) process.exit(1);
}

/**
 * Rust and lint, one after the other, as both want cargo's lock, and the smoke run of the bench. The first two begin beside the
 * set-up: most of that is one program that is linked, which uses one core.
 */
async function runOthers(built) {
  await report.part('crates', runCargo);
  await report.part('lint', () => runLint(built));
  await built;
  await report.part('bench', runSmoke);
}

/**
 * Files of tests, and the `others`, which take one lane until they have ended. Files that only wait run beside the lanes.
 * Nothing is measured: the smoke run is judged by whether it works.
 */
async function runSideBySide(files, argumentsOf, others) {
  const job = (file) => () => runFile(file, argumentsOf);
  const jobs = files.filter((file) => !onlyWaits(file)).map(job);
  const beside = files.filter(onlyWaits).map(job);
  if (whole) jobs.unshift(() => others);
  else if (repeated) jobs.unshift(() => report.part('crates', runCargo));
  await Promise.all([inLanes(LANES, jobs, (begin) => begin()), ...beside.map((begin) => begin())]);
}

/** The names of the tests of a file, each with the file. */
async function namesOf(file, deep, argumentsOf) {
  const env = { ...formOf(deep), STRAKE_TEST_LIST: '1' };
  const { code, output } = await run(node, argumentsOf(file), LIST_LIMIT_MS, env);
  if (code !== 0) throw new Error(`${file} cannot be listed:\n${output}`);
  return [...output.matchAll(/^test: (.+)$/gm)].map(([, name]) => `${join('test', file)}: ${name}`);
}

async function listRust() {
  const { code, output } = await run('cargo', [...cargo(options.deep), '--list'], CARGO_LIMIT_MS);
  if (code !== 0) throw new Error(`cargo cannot list its tests:\n${output}`);
  return [...output.matchAll(/^(.+): test$/gm)].map(([, name]) => `crates: ${name}`);
}

/** All names of one form, sorted. */
async function listed(files, deep, argumentsOf) {
  const names = [];
  await inLanes(LANES, files, async (file) => names.push(...(await namesOf(file, deep, argumentsOf))));
  return names.sort();
}

async function printNames(files, argumentsOf) {
  const names = await listed(files, options.deep, argumentsOf);
  if (whole) names.push(...(await listRust()).sort());
  for (const name of names) console.log(name);
  console.log(`${names.length} tests`);
}

/** Both forms have the same tests: a brief one repeats less, and leaves nothing out. */
async function compareForms(files, argumentsOf) {
  const started = performance.now();
  const [brief, full] = [await listed(files, false, argumentsOf), await listed(files, true, argumentsOf)];
  const lost = full.filter((name) => !brief.includes(name));
  const failed = brief.length === full.length && lost.length === 0 ? 0 : 1;
  const output = `${full.length} tests in full, ${brief.length} in brief, not in brief:\n${lost.join('\n')}`;
  const seconds = (performance.now() - started) / 1000;
  report.add({ name: 'brief forms leave no test out', passed: 1 - failed, failed, seconds, output });
}

async function main() {
  setupPackages();
  const built = report.part('set-up', whole && !options.list ? setupBeside : setup);
  const others = whole && !options.list ? runOthers(built) : undefined;
  await built;
  const argumentsOf = await report.part('compiling tests', compileTests);
  const files = testFiles(parts).filter((file) => !options.repeating || hasBriefForm(file));
  if (options.list) {
    await printNames(files, argumentsOf);
    return 0;
  }
  await report.part(whole ? 'everything side by side' : 'test files', () => runSideBySide(files, argumentsOf, others));
  if (options.deep && parts.length === 0) {
    await report.part('forms', () => compareForms(files.filter(hasBriefForm), argumentsOf));
  }
  return report.end();
}

try {
  process.exitCode = await main();
} catch (error) {
  // Whatever reads the last line is told that something failed.
  report.add({ name: 'the run itself', passed: 0, failed: 1, seconds: performance.now() / 1000, output: error.stack });
  process.exitCode = report.end();
}
