/**
 * Tests with needs.
 *
 * A test that needs root, a loop device or a program says so; where one is missing the test is skipped, and a line
 * `skipped: NAME: REASON` tells why. The runner collects these lines, and in CI counts them as failures.
 */

import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { test } from 'uvu';
import { findProgram } from '#strake/embed/programs.js';
import { cleanUp } from './scratch.js';

/** How often a test repeats itself: in full, as in `npm run test:deep` and by hand, or in brief, as in `npm test`. */
export function repetitions(full: number, brief: number): number {
  return process.env.STRAKE_TEST_BRIEF === '1' ? brief : full;
}

/** What a test needs of the machine: undefined if it is there, otherwise why not. */
export type Need = () => string | undefined;

export const root: Need = () => (process.getuid?.() === 0 ? undefined : 'needs root');

export const loop: Need = () => {
  if (process.getuid?.() !== 0) return 'loop devices need root';
  if (!existsSync('/dev/loop-control')) return 'this machine has no loop devices';
  return findProgram('losetup') === undefined ? 'needs losetup: apt-get install util-linux' : undefined;
};

export const fuse: Need = () => {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return undefined;
  } catch {
    return 'needs /dev/fuse';
  }
};

const PACKAGES: Readonly<Record<string, string>> = {
  fio: 'fio',
  nbdkit: 'nbdkit',
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  nbdfuse: 'libnbd-bin',
  'qemu-img': 'qemu-utils',
  'qemu-nbd': 'qemu-utils',
  'mkfs.ext4': 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  mkswap: 'util-linux',
  'mkfs.minix': 'util-linux',
  addpart: 'util-linux',
  blkid: 'util-linux',
  blockdev: 'util-linux',
  flock: 'util-linux',
  prlimit: 'util-linux',
  setpriv: 'util-linux',
  script: 'bsdutils',
  npm: 'npm',
  cc: 'gcc',
};

/** A program that has to be installed. */
export function tool(name: string): Need {
  return () => {
    if (findProgram(name) !== undefined) return undefined;
    return `needs ${name}: apt-get install ${PACKAGES[name] ?? name}`;
  };
}

/** Whether io_uring can be used. */
export const uring: Need = () => {
  const probe = spawnSync(process.execPath, [
    '-e',
    "require('./native/index.cjs').uringSupport().available||process.exit(1)",
  ]);
  return probe.status === 0 ? undefined : 'io_uring is denied here';
};

type Body = () => Promise<void> | void;

/** Whether names are to be told instead of running anything. */
const LISTING = process.env.STRAKE_TEST_LIST === '1';

/** Tells after each test how long it took. */
const TIMING = process.env.STRAKE_TEST_TIMES === '1';

function timed(name: string, body: Body): Body {
  return async () => {
    const startedMs = performance.now();
    const usedBefore = processorSeconds();
    await body();
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    console.log(`${seconds} s, processor ${(processorSeconds() - usedBefore).toFixed(1)} s: ${name}`);
  };
}

/** A test: `check(name, body)` or `check(name, needs, body)`. */
export function check(name: string, ...rest: [Body] | [readonly Need[], Body]): void {
  if (LISTING) {
    console.log(`test: ${name}`);
    return;
  }
  const [needs, body] = rest.length === 1 ? [[], rest[0]] : rest;
  const reason = needs.map((need) => need()).find((why) => why !== undefined);
  if (reason === undefined) {
    test(name, TIMING ? timed(name, body) : body);
    return;
  }
  console.log(`skipped: ${name}: ${reason}`);
  test.skip(name, body);
}

/** Ticks of the processor's clock in a second, as the kernel counts for programs. */
const TICKS = 100;

/** Time of the processor that this process has used, with all of its threads and with children that have ended, in seconds. */
function processorSeconds(): number {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  // The name of the program may hold anything; the fields after it are numbers: the twelfth to the fifteenth are times.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS;
}

/** Once everything is closed, the process has to end by itself, in much less than this. */
const EXIT_MS = 20_000;

/** Runs the file's tests; its last line. */
export function run(): void {
  // Names are all that was asked for, whatever the file has opened before its tests.
  if (LISTING) process.exit(0);
  process.on('exit', () => console.log(`processor time: ${processorSeconds().toFixed(1)} s`));
  test.after(() => {
    cleanUp();
    const force = () => {
      console.error(`the process did not end by itself: ${process.getActiveResourcesInfo().join(', ')}`);
      process.exit(1);
    };
    setTimeout(force, EXIT_MS).unref();
  });
  test.run();
}
