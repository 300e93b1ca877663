/**
 * Which files of tests there are, in which order and how many side by side they run, and which of them have a
 * brief and a full form.
 *
 * Only the order is written down, which is about time alone: a file that is not named runs as well.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { root } from '../setup.mjs';

const folder = join(root, 'test');

/** Files side by side: one for each core, and two more, as all of them wait for processes, devices and timers now and then. */
export const LANES = Math.max(2, Math.min(4, availableParallelism())) + 2;

/** Files that hardly compute, but wait for the time limits of devices: they take no lane from those that do. */
const WAITING = ['device/faults.test.ts'];

/** Files that take longest, which begin first: one that began last would run while the other lanes have nothing left. */
const LONGEST_FIRST = [
  'sim/seeds-first.test.ts',
  'cli/contract.test.ts',
  'torture/short.test.ts',
  'node/devices.test.ts',
  'cluster/no-manager.test.ts',
  'cluster/refusals.test.ts',
  'cluster/up.test.ts',
  'cluster/strange-peers.test.ts',
  'cluster/processes.test.ts',
  'runtime/worker-death.test.ts',
  'runtime/closing.test.ts',
  'store/corruption.test.ts',
  'store/crash-images.test.ts',
  // Apart from the first half of the seeds: both use all cores.
  'sim/seeds-second.test.ts',
  'node/kill.test.ts',
  'cli/node.test.ts',
  'device/open.test.ts',
  'sim/trials.test.ts',
  'sim/cluster.test.ts',
  'sim/trace-hash.test.ts',
  'cli/devices.test.ts',
  'node/power-cut.test.ts',
  'node/space.test.ts',
  'nbd/attacks.test.ts',
  'nbd/crowds.test.ts',
];

/** Whether a file runs beside the lanes. */
export const onlyWaits = (name) => WAITING.includes(name);

const place = (name) => (LONGEST_FIRST.includes(name) ? LONGEST_FIRST.indexOf(name) : LONGEST_FIRST.length);

/** Files whose path contains one of `parts`, or all if there are none: paths below `test`, in the order in which they begin. */
export function testFiles(parts) {
  return readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith('.test.ts'))
    .filter((name) => parts.length === 0 || parts.some((part) => join('test', name).includes(part)))
    .sort()
    .sort((one, other) => place(one) - place(other));
}

/** The files of the project that a file imports. */
function importsOf(file) {
  const text = readFileSync(file, 'utf8');
  return [...text.matchAll(/\bfrom '(\.[^']+)'/g)]
    .map(([, target]) => join(dirname(file), target.replace(/\.js$/, '.ts')))
    .filter((target) => target.endsWith('.ts') && existsSync(target));
}

/** Whether a file has a brief form: it, or what it imports, asks `repetitions` how often something is repeated. */
export function hasBriefForm(name) {
  const seen = new Set();
  const pending = [join(folder, name)];
  for (let file = pending.pop(); file !== undefined; file = pending.pop()) {
    if (seen.has(file)) continue;
    seen.add(file);
    if (/(?<!function )\brepetitions\(/.test(readFileSync(file, 'utf8'))) return true;
    pending.push(...importsOf(file));
  }
  return false;
}
