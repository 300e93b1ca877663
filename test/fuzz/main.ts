/**
 * `npm run fuzz`: fuzzes targets for as long as is wanted, on all cores, and ends with 1 if anything was found.
 *
 * An input that does not end, or needs too much memory, is a finding too: it is known from outside of its thread.
 */

import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { save } from './findings.js';
import { type FuzzTarget, runInput } from './target.js';
import { targets } from './targets/index.js';
import { CURRENT_HEADER_WORDS, type Done, type Task } from './task.js';

/** An input that takes longer never ends. */
const HANG_MS = 60_000;
const HEAP_MIB = 2048;

const { values } = parseArgs({
  options: {
    target: { type: 'string', multiple: true },
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    from: { type: 'string', default: '0' },
    jobs: { type: 'string', default: String(availableParallelism()) },
    input: { type: 'string' },
    plain: { type: 'boolean', default: false },
  },
});

function number(name: 'minutes' | 'seed' | 'from' | 'jobs'): number {
  const value = Number(values[name]);
  if (!Number.isFinite(value) || value < 0) throw new Error(`--${name} ${values[name]} is not a number`);
  return value;
}

/** The input that a thread was running. */
function currentOf({ target, current }: Task, why: string): string {
  const [begun, index, length] = new Int32Array(current, 0, CURRENT_HEADER_WORDS);
  if (begun === 0) return `${target}: it could not be started: ${why}`;
  const input = new Uint8Array(current, CURRENT_HEADER_WORDS * 4, length).slice();
  return `${target}: input ${index}: ${why}\nrepeat it: ${save(target, input)}`;
}

function run(task: Task): Promise<Done> {
  const worker = new Worker(new URL('./worker.mjs', import.meta.url), {
    workerData: task,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
  });
  const words = new Int32Array(task.current, 0, CURRENT_HEADER_WORDS);
  return new Promise((resolve) => {
    let last = 0;
    const end = (done: Done) => {
      clearInterval(timer);
      resolve(done);
      void worker.terminate();
    };
    const lost = (why: string) =>
      end({ inputs: words[0], kept: 0, seconds: task.seconds, finding: currentOf(task, why) });
    const timer = setInterval(() => {
      if (words[0] === last) lost(`no end after ${HANG_MS / 1000} s`);
      last = words[0];
    }, HANG_MS);
    worker.on('message', end);
    worker.on('error', (error) => lost(error.stack ?? error.message));
  });
}

async function fuzz(target: FuzzTarget): Promise<boolean> {
  const jobs = Math.max(1, number('jobs'));
  const seed = number('seed');
  const tasks = Array.from({ length: jobs }, (_, job): Task => {
    const current = new SharedArrayBuffer(CURRENT_HEADER_WORDS * 4 + target.bytesMax + 4096);
    const seconds = number('minutes') * 60;
    return {
      target: target.name,
      seed,
      from: number('from') + job,
      step: jobs,
      seconds,
      guided: !values.plain,
      current,
    };
  });
  const before = process.cpuUsage();
  const done = await Promise.all(tasks.map(run));
  const { user, system } = process.cpuUsage(before);
  const inputs = done.reduce((sum, one) => sum + one.inputs, 0);
  const rate = Math.round(done.reduce((sum, one) => sum + one.inputs / one.seconds, 0));
  const kept = done.reduce((sum, one) => sum + one.kept, 0);
  // Of a machine that is busy otherwise, the second number tells more.
  const costly = Math.round((inputs * 1e6) / (user + system));
  console.log(`${target.name}: ${inputs} inputs, ${rate}/s, ${costly} per CPU second, ${kept} kept, seed ${seed}`);
  const findings = done.filter(({ finding }) => finding !== '');
  for (const { finding } of findings) console.error(`FOUND ${finding}`);
  return findings.length === 0;
}

async function repeat(target: FuzzTarget, path: string): Promise<boolean> {
  try {
    await runInput(target, readFileSync(path));
    console.log(`${target.name}: ${path} finds nothing`);
    return true;
  } catch (error) {
    console.error(error instanceof Error ? error.stack : error);
    return false;
  }
}

async function main(): Promise<boolean> {
  const names = values.target ?? targets.map(({ name }) => name);
  const chosen = names.map((name) => targets.find((one) => one.name === name) ?? name);
  const unknown = chosen.find((one) => typeof one === 'string');
  if (unknown !== undefined)
    throw new Error(`there is no target ${unknown}: ${targets.map(({ name }) => name).join(', ')}`);
  if (values.input !== undefined && chosen.length !== 1) throw new Error('--input needs one --target');
  let fine = true;
  for (const target of chosen as FuzzTarget[]) {
    const good = values.input === undefined ? await fuzz(target) : await repeat(target, values.input);
    fine &&= good;
  }
  return fine;
}

process.exitCode = (await main()) ? 0 : 1;
