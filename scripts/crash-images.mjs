/**
 * `npm run crash-images`: enumerates what power cuts may leave of a segment store, and judges each image (see
 * `test/support/crash-images.ts`). On all processors, until so many different images have been recovered.
 *
 * Options: --images N (default 1000000), --seed N (default 1: the first of the seeds), --processes N,
 * --only 'WORKLOAD/INSTANT/ORIGIN' with --seed: the one image that a failure has named.
 *
 * The exit code is 1 if an image failed, and 2 if the enumeration itself did. The last line is 'N images, D distinct, F failed'.
 */

import { fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { root, setup } from './setup.mjs';

const IMAGES = 1_000_000;
/** A set takes at most 2^24 numbers, so there are several. */
const SETS = 64;
/** Tests are TypeScript, which only a loader makes runnable. */
const TSX = ['--import', 'tsx'];
const SUPPORT = join(root, 'test', 'support');

function numberOf(name, text) {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new Error(`--${name} takes a number above 0, not '${text}'`);
}

function optionsOf(args) {
  const { values } = parseArgs({
    args,
    options: {
      images: { type: 'string', default: String(IMAGES) },
      seed: { type: 'string', default: '1' },
      processes: { type: 'string', default: String(availableParallelism()) },
      only: { type: 'string' },
    },
  });
  const [images, seed, processes] = ['images', 'seed', 'processes'].map((name) => numberOf(name, values[name]));
  return { images, seed, processes, only: values.only };
}

/** Sums, and which images were different. */
class Totals {
  counts = { images: 0, recovered: 0, ofRecovery: 0, instants: 0, exhaustive: 0, sampled: 0 };
  failures = [];
  distinct = 0;
  sets = Array.from({ length: SETS }, () => new Set());

  addDigests(digests) {
    for (const digest of digests) {
      const set = this.sets[digest % SETS];
      if (set.has(digest)) continue;
      set.add(digest);
      this.distinct += 1;
    }
  }

  add(counts) {
    for (const name of Object.keys(this.counts)) this.counts[name] += counts[name];
    for (const failure of counts.failures) {
      this.failures.push(failure);
      console.log(`FAIL  ${failure}`);
    }
  }

  report(seconds) {
    const { images, exhaustive, sampled, ofRecovery } = this.counts;
    const rate = `${Math.round(this.distinct / seconds)} distinct images/s in ${seconds.toFixed(0)} s`;
    console.log(
      `${exhaustive} instants exhaustive, ${sampled} sampled; ${ofRecovery} images left by recovery; ${rate}`,
    );
    console.log(`${images} images, ${this.distinct} distinct, ${this.failures.length} failed`);
  }
}

/** Each workload with one seed, then with the next. */
function* jobs(firstSeed, workloads) {
  for (let seed = firstSeed; ; seed += 1)
    for (let workload = 0; workload < workloads; workload += 1) yield { seed, workload };
}

/** A process that does one job after another, until it is ended. */
class Helper {
  counts = null;
  child = fork(join(SUPPORT, 'crash-helper.ts'), { execArgv: TSX, serialization: 'advanced' });

  /** Resolves when the helper has been ended, and rejects if it ends by itself. */
  run(next, totals, onImages) {
    const { child } = this;
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', (code, signal) => {
        if (this.counts !== null) totals.add(this.counts);
        if (this.ended) resolve();
        else reject(new Error(`a process has ended with ${signal ?? code}`));
      });
      child.on('message', ({ digests, counts, done }) => {
        if (this.ended) return;
        this.counts = counts;
        totals.addDigests(digests);
        if (done) {
          totals.add(counts);
          this.counts = null;
          child.send(next.next().value);
        }
        onImages();
      });
      child.send(next.next().value);
    });
  }

  ended = false;

  end() {
    this.ended = true;
    this.child.kill('SIGKILL');
  }
}

async function enumerate({ images, seed, processes }, totals) {
  const { Progress } = await import('../dist/cli/progress.js');
  const { WORKLOADS } = await support('crash-workloads.ts');
  const progress = new Progress('crash images', false, String);
  const next = jobs(seed, WORKLOADS.length);
  const helpers = Array.from({ length: processes }, () => new Helper());
  const endAll = () => {
    for (const helper of helpers) helper.end();
  };
  const onImages = () => {
    progress.update(totals.distinct, images);
    if (totals.distinct >= images) endAll();
  };
  try {
    await Promise.all(helpers.map((helper) => helper.run(next, totals, onImages)));
  } finally {
    endAll();
    progress.end();
  }
}

async function repeat({ seed, only }, totals) {
  const { CrashEnumeration } = await support('crash-images.ts');
  const { WORKLOADS } = await support('crash-workloads.ts');
  const [name] = only.split('/', 1);
  const workload = WORKLOADS.find((one) => one.name === name);
  if (workload === undefined) throw new Error(`there is no workload '${name}'`);
  const enumeration = new CrashEnumeration({
    seed,
    workload,
    only: only.slice(name.length + 1),
    onImage: (digest) => totals.addDigests([digest]),
  });
  totals.add(await enumeration.run());
  if (totals.counts.recovered === 0 && totals.failures.length === 0) throw new Error(`there is no image '${only}'`);
}

async function support(file) {
  const { register } = await import('tsx/esm/api');
  register();
  return await import(join(SUPPORT, file));
}

async function main(args) {
  const options = optionsOf(args);
  setup();
  const totals = new Totals();
  const started = performance.now();
  await (options.only === undefined ? enumerate(options, totals) : repeat(options, totals));
  totals.report((performance.now() - started) / 1000);
  return totals.failures.length === 0 ? 0 : 1;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(`crash-images: ${error.message}`);
  process.exitCode = 2;
}
