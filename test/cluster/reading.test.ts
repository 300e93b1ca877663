/** A cluster of processes: clients that only read a volume, beside a writer that is killed under load and replaced by another. */

import { setImmediate } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { check, run } from '../support/check.js';
import { ClusterProcesses, type Export } from '../support/cluster-processes.js';
import { CMD, EPERM, type NbdClient, TX } from '../support/nbd-client.js';

const SIZE = 4 << 20;
const BLOCK = 4096;
/** Blocks in which the writer counts. */
const COUNTERS = 16;

/** Counts in blocks until its export dies; `told` has what was acknowledged last, `begun` what was asked for last. */
class Counting {
  readonly told = new Array<number>(COUNTERS).fill(0);
  readonly begun = new Array<number>(COUNTERS).fill(0);
  private going = true;

  async count(served: Export, from: number): Promise<void> {
    const client = await served.connect();
    try {
      for (let value = from; this.going; value += 1) {
        const at = value % COUNTERS;
        this.begun[at] = value;
        const payload = Buffer.alloc(BLOCK);
        payload.writeUInt32LE(value);
        if ((await client.errorOf({ type: CMD.write, offset: at * BLOCK, payload })) !== 0) return;
        this.told[at] = value;
      }
    } catch {
      // Its process has died.
    } finally {
      await client.destroy();
    }
  }

  end(): void {
    this.going = false;
  }
}

/** Reads the counters again and again: no value is earlier than what was acknowledged before, or read. */
class Following {
  reads = 0;
  private going = true;
  private readonly seen = new Array<number>(COUNTERS).fill(0);
  private readonly counting: Counting;

  constructor(counting: Counting) {
    this.counting = counting;
  }

  async follow(client: NbdClient): Promise<void> {
    while (this.going) {
      for (let at = 0; at < COUNTERS; at += 1) {
        const least = Math.max(this.seen[at], this.counting.told[at]);
        const found = (await client.read(at * BLOCK, BLOCK)).readUInt32LE(0);
        assert.ok(found >= least, `block ${at} holds ${found} after ${least}`);
        assert.ok(found <= this.counting.begun[at], `block ${at} holds ${found}, which nobody has written`);
        this.seen[at] = found;
        this.reads += 1;
      }
      await setImmediate();
    }
  }

  async reach(reads: number): Promise<void> {
    const until = this.reads + reads;
    while (this.reads < until) await setImmediate();
  }

  end(): void {
    this.going = false;
  }
}

check('readers go on beside a writer that is killed, and another that takes over', async () => {
  const cluster = await ClusterProcesses.start();
  await cluster.addNodes('n1', 'n2');
  await cluster.ask(['volume', 'create', 'main', '--size', String(SIZE), '--layout', 'mirror:2', '--on', 'n1,n2']);
  const first = await cluster.export('main');
  const shown = await cluster.export('main', '--read-only');
  assert.is(shown.process.data.readOnly, true);
  const client = await shown.connect();
  assert.is(client.flags & TX.readOnly, TX.readOnly);
  assert.is(await client.errorOf({ type: CMD.write, offset: 0, payload: Buffer.alloc(BLOCK, 1) }), EPERM);
  const counting = new Counting();
  const following = new Following(counting);
  const reading = following.follow(client);
  const counted = counting.count(first, 1);
  await following.reach(400);
  await first.process.kill();
  await counted;
  const second = await cluster.export('main', '--take-over');
  const again = counting.count(second, Math.max(...counting.begun) + 1);
  await following.reach(400);
  await cluster.node('n2').process.kill();
  await following.reach(200);
  counting.end();
  await again;
  following.end();
  await reading;
  await client.destroy();
  assert.is((await shown.process.stop()).code, 0);
  assert.is((await second.process.stop()).code, 0);
  await cluster.stop();
});

run();
