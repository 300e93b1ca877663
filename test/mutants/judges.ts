/**
 * Asks judges about a checkout: the simulator with its oracle, and files of tests. Each is a process with a time limit.
 *
 * Only a reason counts. A judge that did not start, or that its time limit has ended, has found nothing; but one seed of the
 * simulator that takes so long that it can only be a loop without end is a hang.
 */

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { Form, Judge } from './mutant.js';

/** What a judge says. */
export interface Verdict {
  /** The first line of what is wrong; undefined if nothing was found. */
  readonly reason?: string;
  /** How the same can be seen again. */
  readonly by: string;
  /** Seeds that were tried, which is also the last one; 0 for a file of tests. */
  readonly seeds: number;
  readonly seconds: number;
  /** The judge was ended by its time limit. */
  readonly late: boolean;
}

/** Failures to load code, which say nothing about it. */
const NOT_LOADED = /SyntaxError|ERR_MODULE_NOT_FOUND|does not provide an export|ERR_DLOPEN/;
const REASON_CHARACTERS = 160;
/** How often a process is looked after. */
const WATCH_MS = 250;
/** One seed takes a second or two. */
const HANG_MS = 60_000;
/** Seeds of tests that draw them from the clock otherwise, and the form of files that have two. */
function environment(form: Form): NodeJS.ProcessEnv {
  return { ...process.env, STRAKE_TEST_SEED: '1', STRAKE_TEST_BRIEF: form === 'brief' ? '1' : undefined };
}

interface Ending {
  readonly output: string;
  readonly code: number | null;
  readonly late: boolean;
  /** It was ended because it printed nothing for so long. */
  readonly silent: boolean;
  readonly seconds: number;
}

/** Runs a TypeScript file of a checkout to its end, or until it has been silent for too long. */
function runFile(
  checkout: string,
  args: readonly string[],
  limitMs: number,
  { silenceMs = Number.POSITIVE_INFINITY, form = 'full' as Form } = {},
): Promise<Ending> {
  const startedMs = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--import', 'tsx', ...args], {
      cwd: checkout,
      env: environment(form),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    let heardMs = startedMs;
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text: string) => {
        output += text;
        heardMs = performance.now();
      });
    }
    let late = false;
    let silent = false;
    const timer = setInterval(() => {
      silent = performance.now() - heardMs > silenceMs;
      late = performance.now() - startedMs > limitMs;
      if (silent || late) child.kill('SIGKILL');
    }, WATCH_MS);
    child.on('error', reject);
    child.on('close', (code) => {
      clearInterval(timer);
      resolve({ output, code, late, silent, seconds: (performance.now() - startedMs) / 1000 });
    });
  });
}

function firstLine(text: string): string {
  const line = text.trim().split('\n', 1)[0];
  return line.length > REASON_CHARACTERS ? `${line.slice(0, REASON_CHARACTERS)}…` : line;
}

/** Why a process ended badly that did not tell: the first line that is an error. */
function uncaught({ output, code, late, silent }: Ending): string | undefined {
  if (silent) return `it hangs: nothing has happened for ${HANG_MS / 1000} s`;
  if (late || code === 0 || NOT_LOADED.test(output)) return undefined;
  const line = output.split('\n').find((one) => /^\w*(Error|Violation)\b|^\S*Error:/.test(one.trim()));
  return line === undefined ? undefined : firstLine(line);
}

/** Tries the seeds from `from` on, up to the number of the judge. */
async function simulate(
  checkout: string,
  judge: Extract<Judge, { kind: 'sim' | 'cluster' }>,
  from: number,
  limitMs: number,
): Promise<Verdict> {
  const words = judge.faults === 'all' ? 'all' : judge.faults.join(',');
  const program = join(checkout, 'test', 'mutants', 'simulate.ts');
  const ending = await runFile(checkout, [program, judge.kind, words, String(from), String(judge.seeds)], limitMs, {
    silenceMs: HANG_MS,
  });
  const { output, late, seconds } = ending;
  const lines = output
    .split('\n')
    .slice(0, -1)
    .filter((line) => line.startsWith('{'));
  const results = lines.map((line) => JSON.parse(line) as { ready?: boolean; seed?: number; failure?: string });
  if (results[0]?.ready !== true && !late) throw new Error(`the simulator did not start:\n${output}`);
  const last = results.at(-1);
  const crash = last?.failure === undefined ? uncaught(ending) : undefined;
  // A crash belongs to the seed that had begun.
  const seed = (last?.seed ?? from - 1) + (crash === undefined ? 0 : 1);
  const faults = judge.faults === 'all' ? '' : ` --faults ${words === '' ? 'none' : words}`;
  const reason = last?.failure ?? crash;
  return {
    ...(reason === undefined ? {} : { reason: firstLine(reason) }),
    by: `sim${judge.kind === 'cluster' ? ' --cluster' : ''} --replay ${seed}${faults}`,
    seeds: seed,
    seconds,
    late,
  };
}

async function runTests(
  checkout: string,
  { file, form }: Extract<Judge, { kind: 'test' }>,
  limitMs: number,
): Promise<Verdict> {
  const ending = await runFile(checkout, [join(checkout, 'test', file)], limitMs, { form });
  const { output, late, seconds } = ending;
  const failed = /^\s*FAIL\s+(.+)\n\s*(.*)/m.exec(stripVTControlCharacters(output));
  const total = /^\s*Total:\s+(\d+)/m.test(output);
  const told = failed === null || NOT_LOADED.test(output) ? undefined : `${failed[1]}: ${failed[2]}`;
  const reason = told ?? (total ? undefined : uncaught(ending));
  return {
    ...(reason === undefined ? {} : { reason: firstLine(reason) }),
    by: `test/${file}`,
    seeds: 0,
    seconds,
    late,
  };
}

/** Asks a judge about a checkout. `after`: what it said last, from which it goes on; a file of tests is asked only once. */
export function ask(checkout: string, judge: Judge, limitMs: number, after?: Verdict): Promise<Verdict> {
  if (judge.kind === 'test') return runTests(checkout, judge, limitMs);
  return simulate(checkout, judge, after === undefined ? 1 : after.seeds + 1, limitMs);
}

/** Asks for the same once more, of a checkout that should be sound: a whole file of tests, or the one seed that failed. */
export function askAgain(checkout: string, judge: Judge, { seeds }: Verdict, limitMs: number): Promise<Verdict> {
  if (judge.kind === 'test') return runTests(checkout, judge, limitMs);
  return simulate(checkout, { ...judge, seeds }, seeds, limitMs);
}
