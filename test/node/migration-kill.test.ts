/**
 * The process of a node that migrates devices of version 1 is killed at any instant: the next one opens them, with the same content.
 * The devices are loop devices where there are some, and regular files.
 */

import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate, setTimeout } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { check, loop, type Need, repetitions, run } from '../support/check.js';
import { CLOSED, fsckAll } from '../support/fsck.js';
import type { NbdClient } from '../support/nbd-client.js';
import { randomOf } from '../support/node-load.js';
import { NodeProcess } from '../support/node-process.js';
import { ending, loopDevice, project, scratchFile, socketPath, startProcess } from '../support/scratch.js';
import { ENDS, firstImages, firstVolumes } from '../support/version-1.js';

/** Kills in all; more by STRAKE_TEST_CYCLES. */
const KILLS = Number(process.env.STRAKE_TEST_CYCLES ?? repetitions(100, 4));
const SEED = Number(process.env.STRAKE_TEST_SEED ?? Date.now() % 1e6);
const BLOCK = 4096;
/** Those that `wide` names; the fourth was lost before. */
const DEVICES = 3;
/** Milliseconds from the first change of a device to the kill, at most; the opening of a device takes about as long. */
const AFTER_CHANGE_MS = 40;
/** Milliseconds from the start of the process. */
const AFTER_START_MS = 400;
const EIO = 5;

/** The incompatible features that the copy and the first superblock tell, and how often they have been written. */
function superblocks(path: string, sizeBytes: number): string {
  const file = openSync(path, 'r');
  const found = [sizeBytes - BLOCK, 0].map((offset) => {
    const head = Buffer.alloc(64);
    readSync(file, head, 0, 64, offset);
    return `${head.readUInt32LE(56)}/${head.readUInt32LE(16)}`;
  });
  closeSync(file);
  return found.join(' ');
}

/** The first number of a block, or a negative errno. */
async function firstWord(client: NbdClient, offset: number): Promise<number> {
  try {
    return (await client.read(offset, BLOCK)).readUInt32LE(0);
  } catch (error) {
    if ((error as Error).message === `read failed with ${EIO}`) return -EIO;
    throw error;
  }
}

async function checkContents(node: NodeProcess, end: (typeof ENDS)[number], what: string): Promise<void> {
  for (const [name, { sizeBytes, sha256, errors }] of Object.entries(firstVolumes(end))) {
    const client = await node.connect(name);
    const hash = createHash('sha256');
    const failed: string[] = [];
    for (let block = 0; block < sizeBytes / BLOCK; block += 1) {
      const value = await firstWord(client, block * BLOCK);
      if (value < 0) failed.push(String(block));
      hash.update(`${block} ${value}\n`);
    }
    await client.destroy();
    assert.equal([failed, hash.digest('hex')], [Object.keys(errors), sha256], `${what}: volume ${name}`);
  }
}

/** Starts a process that opens the devices, and kills it. Returns whether it had begun to change the first of them. */
async function killAmid(devices: readonly string[], sizeBytes: number, random: (n: number) => number): Promise<void> {
  const program = join(project, 'test', 'support', 'node-child.mjs');
  const options = JSON.stringify({ devices, without: {}, faults: [], socket: socketPath(), strict: true });
  const child = startProcess(process.execPath, [program, options], { stdin: 'pipe' });
  const ended = ending(child);
  child.stdin?.on('error', () => {});
  if (random(4) === 0) await setTimeout(random(AFTER_START_MS));
  else {
    const before = devices.map((path) => superblocks(path, sizeBytes));
    const unchanged = () => devices.every((path, at) => superblocks(path, sizeBytes) === before[at]);
    while (child.exitCode === null && unchanged()) await setImmediate();
    const until = performance.now() + random(AFTER_CHANGE_MS);
    while (performance.now() < until) await setImmediate();
  }
  child.kill('SIGKILL');
  await ended;
}

/** Puts an image on a device, or into a file, as it is. */
function restore(path: string, image: Uint8Array): void {
  const file = openSync(path, 'r+');
  writeSync(file, image);
  fsyncSync(file);
  closeSync(file);
}

/** What the devices are, what that needs of the machine, and how they are made. Each kind has its share of the kills. */
const KINDS: readonly (readonly [string, readonly Need[], (image: Uint8Array) => string])[] = [
  ['loop devices', [loop], (image) => loopDevice(scratchFile(image)).path],
  ['files', [], (image) => scratchFile(image)],
];

for (const [end, [kind, needs, create]] of ENDS.flatMap((one) => KINDS.map((other) => [one, other] as const))) {
  check(`${kind} of version 1 that were ${end} survive kills of the process that migrates them`, needs, async () => {
    const random = randomOf(SEED + end.length);
    const images = firstImages(end).slice(0, DEVICES);
    const devices = images.map(create);
    const found = new Map<string, number>();
    for (let kill = 0; kill < KILLS / (ENDS.length * KINDS.length); kill += 1) {
      const what = `seed ${SEED}, kill ${kill}`;
      devices.forEach((path, at) => {
        restore(path, images[at]);
      });
      await killAmid(devices, images[0].length, random);
      for (const path of devices) {
        const bits = superblocks(path, images[0].length).replaceAll(/\/\d+/g, '');
        found.set(bits, (found.get(bits) ?? 0) + 1);
      }
      const node = await NodeProcess.start({ devices });
      await checkContents(node, end, what);
      await node.close();
      await fsckAll(devices, CLOSED, what);
    }
    console.log(JSON.stringify({ seed: SEED, kind, features: Object.fromEntries(found) }));
  });
}

run();
