/**
 * A client that stands still while another takes its volume, over real processes: when it goes on, beyond all leases, it answers
 * errors, and none of what it had under way lands any more.
 */

import * as assert from 'uvu/assert';
import { check, repetitions, run } from '../support/check.js';
import { ClusterProcesses, type Export } from '../support/cluster-processes.js';
import type { NbdClient } from '../support/nbd-client.js';
import { standStill, until } from '../support/scratch.js';

const BLOCK = 4096;
const BLOCKS = 64;
const DEPTH = 16;
/** Longer than a lease, and much longer. */
const BEYOND_MS = 2500;
const LONG_MS = 10_000;

/** Writes blocks, each time with a value that no other write has. */
class Writer {
  /** By block: what was acknowledged last, and what may have come since. */
  readonly known: number[];
  readonly open: Set<number>[];
  acknowledged = 0;
  private readonly nbd: NbdClient;
  private readonly values: () => number;

  constructor(nbd: NbdClient, values: () => number) {
    this.nbd = nbd;
    this.values = values;
    this.known = new Array(BLOCKS).fill(0);
    this.open = Array.from({ length: BLOCKS }, () => new Set<number>());
  }

  /** Resolves to whether it was acknowledged. */
  async write(block: number): Promise<boolean> {
    const value = this.values();
    this.open[block].add(value);
    const payload = new Uint8Array(new Uint32Array(BLOCK / 4).fill(value).buffer);
    try {
      await this.nbd.write(block * BLOCK, payload);
    } catch {
      // It is answered with an error, or the connection is lost.
      return false;
    }
    this.known[block] = value;
    this.open[block].delete(value);
    this.acknowledged += 1;
    return true;
  }

  async writeAll(): Promise<void> {
    const done = await Promise.all(Array.from({ length: BLOCKS }, (_, block) => this.write(block)));
    assert.ok(done.every(Boolean), 'a write of the client that has the volume fails');
  }

  /** Writes block after block, several at a time, until one fails. */
  async writeOn(): Promise<void> {
    const lane = async (number: number) => {
      for (let at = number; await this.write(at % BLOCKS); ) at += DEPTH;
    };
    await Promise.all(Array.from({ length: DEPTH }, (_, number) => lane(number)));
  }
}

async function contents(nbd: NbdClient): Promise<number[]> {
  const data = await nbd.read(0, BLOCKS * BLOCK);
  assert.is(data.length, BLOCKS * BLOCK);
  return Array.from({ length: BLOCKS }, (_, block) => {
    const words = new Set(Array.from({ length: BLOCK / 4 }, (_, at) => data.readUInt32LE(block * BLOCK + 4 * at)));
    assert.is(words.size, 1, `block ${block} holds parts of several writes`);
    return [...words][0];
  });
}

/** Stops the client `first` amid its writes, has another take the volume over, and lets it go on after so long. */
async function takeFromStopped(
  cluster: ClusterProcesses,
  first: Export,
  forMs: number,
  values: () => number,
): Promise<Export> {
  const before = new Writer(await first.connect(), values);
  await before.writeAll();
  const writing = before.writeOn();
  await until('writes to go on', () => before.acknowledged > 2 * BLOCKS);
  await standStill(first.process.child);
  const stoppedMs = performance.now();
  const second = await cluster.export('main', '--take-over');
  const nbd = await second.connect();
  for (const [block, value] of (await contents(nbd)).entries()) {
    const may = before.known[block] === value || before.open[block].has(value);
    assert.ok(may, `block ${block} holds ${value}, and ${before.known[block]} was acknowledged`);
  }
  const after = new Writer(nbd, values);
  do await after.writeAll();
  while (performance.now() - stoppedMs < forMs);
  const { acknowledged } = before;
  first.process.child.kill('SIGCONT');
  await after.writeAll();
  await writing;
  // What all members had when it was stopped may be acknowledged now; nothing that it was asked for since.
  assert.ok(before.acknowledged - acknowledged <= DEPTH, 'a client goes on to write that has lost its volume');
  const { code, stderr } = await first.process.ended;
  assert.is(code, 1, stderr);
  assert.match(stderr, /has attached volume main/);
  for (let round = 0; round < 2; round += 1) assert.equal(await contents(nbd), after.known);
  nbd.destroy();
  return second;
}

check('a client that stands still beyond its leases while another takes its volume never lands a write', async () => {
  const cluster = await ClusterProcesses.start();
  await cluster.addNodes('n1', 'n2');
  await cluster.ask(['volume', 'create', 'main', '--size', '1M', '--layout', 'mirror:2', '--on', 'n1,n2']);
  let value = 0;
  const values = () => {
    value += 1;
    return value;
  };
  let served = await cluster.export('main');
  for (let turn = 0; turn < repetitions(50, 2); turn += 1) {
    served = await takeFromStopped(cluster, served, turn % 10 === 9 ? LONG_MS : BEYOND_MS, values);
  }
  assert.is((await served.process.stop()).code, 0);
  await cluster.stop();
});

run();
