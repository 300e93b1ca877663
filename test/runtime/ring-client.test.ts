/** Both ends of the rings of an in-process client, over a volume whose device stops answering. */

import * as assert from 'uvu/assert';
import { BufferPool } from '#strake/core/buffer-pool.js';
import { EIO } from '#strake/core/errno.js';
import { CLIENT_BUFFER_CLASSES, CLIENT_CHUNK_BYTES } from '#strake/core/limits.js';
import { Watch } from '#strake/core/watch.js';
import { COMPLETION_ABANDONED } from '#strake/ports/completion.js';
import type { Volume } from '#strake/ports/volume.js';
import { createRing } from '#strake/ring/spsc-ring.js';
import { SimLoop } from '#strake/sim/loop.js';
import { RingClient } from '#strake/worker/ring-client.js';
import { REQUEST_FLUSH } from '#strake/worker/ring-protocol.js';
import { RingService } from '#strake/worker/ring-service.js';
import { check, run } from '../support/check.js';

const BLOCK = 4096;
const ENTRIES = 1024;
const CLIENT_BYTES = BufferPool.regionBytes(CLIENT_BUFFER_CLASSES);
const LARGE_BUFFERS = CLIENT_BUFFER_CLASSES[CLIENT_BUFFER_CLASSES.length - 1].count;

interface Request {
  readonly memory: number;
  readonly length: number;
  readonly token: number;
}

class Bench {
  readonly loop = new SimLoop({ seed: 1, arena: new Uint8Array(new SharedArrayBuffer(CLIENT_BYTES)) });
  readonly client: RingClient;
  /** Reads and writes that the volume has not answered. */
  readonly pending: Request[] = [];
  readonly used: number[] = [];

  constructor() {
    const { loop } = this;
    const begin = (memory: number, length: number, _offset: number, token: number) => {
      this.pending.push({ memory, length, token });
      this.used.push(memory);
    };
    const volume = {
      sizeBytes: 2 ** 40,
      read: begin,
      write: (memory: number, length: number, offset: number, _flags: number, token: number) =>
        begin(memory, length, offset, token),
      flush: (token: number) => loop.defer(token, 0),
    } as unknown as Volume;
    const [requests, replies] = [createRing(ENTRIES), createRing(2 * ENTRIES)];
    const service = new RingService(loop, loop, new Watch(loop, loop), {
      requests,
      replies,
      memoryStart: 0,
      memoryBytes: CLIENT_BYTES,
      volume: () => volume,
      wake: () => this.client.drain(),
      onBroken: (why) => {
        throw new Error(why);
      },
    });
    this.client = new RingClient({
      requests,
      replies,
      arena: loop.bytes,
      memoryStart: 0,
      wakeShard: () => service.drain(),
      onBusy: () => {},
    });
  }

  /** Gives up what is under way; the device may still write to `memory` and what follows it. */
  giveUp(): Request[] {
    const given = this.pending.splice(0);
    for (const { memory, token } of given) {
      this.loop.abandon(memory, BLOCK, true);
      this.loop.complete(token, -EIO, COMPLETION_ABANDONED);
    }
    return given;
  }

  answer(value: number): void {
    for (const { memory, length, token } of this.pending.splice(0)) {
      this.loop.bytes.fill(value, memory, memory + length);
      this.loop.complete(token, length, 0);
    }
  }

  /** Lets what has been completed reach the client. */
  async turn(): Promise<void> {
    assert.is(await this.loop.settle(this.client.command(REQUEST_FLUSH, 0, 0, 0, 0)), 0);
  }
}

check('a read that was given up is repeated in another buffer, until the device has let go of the first', async () => {
  const bench = new Bench();
  const bytes = new Uint8Array(100);
  const read = bench.client.transfer(false, 0, 5, bytes, 0);
  const [{ memory }] = bench.giveUp();
  await bench.turn();
  assert.is(bench.pending.length, 1);
  assert.is.not(bench.pending[0].memory, memory);
  bench.answer(7);
  assert.is(await bench.loop.settle(read), 0);
  assert.equal(bytes, new Uint8Array(100).fill(7));
  for (let index = 0; index < CLIENT_BUFFER_CLASSES[0].count; index += 1) {
    const next = bench.client.transfer(false, 0, 5, bytes, 0);
    bench.answer(1);
    await bench.loop.settle(next);
  }
  assert.is(bench.used.filter((one) => one === memory).length, 1);
  bench.loop.endAbandoned(memory, BLOCK, true);
  await bench.turn();
  const all = Array.from({ length: CLIENT_BUFFER_CLASSES[0].count }, () =>
    bench.client.transfer(false, 0, 5, bytes, 0),
  );
  assert.is(bench.used.filter((one) => one === memory).length, 2);
  bench.answer(1);
  await bench.loop.settle(Promise.all(all));
});

check('a write that was given up fails, and its buffer stays out of use', async () => {
  const bench = new Bench();
  const write = bench.client.transfer(true, 0, 0, new Uint8Array(BLOCK), 0);
  const [{ memory }] = bench.giveUp();
  assert.is(await bench.loop.settle(write), -EIO);
  const again = bench.client.transfer(true, 0, 0, new Uint8Array(BLOCK), 0);
  assert.is.not(bench.pending[0].memory, memory);
  bench.answer(0);
  assert.is(await bench.loop.settle(again), 0);
});

check('when all buffers of a size are with a device that does not answer, requests for them fail', async () => {
  const bench = new Bench();
  const bytes = new Uint8Array(CLIENT_CHUNK_BYTES);
  const reads = Array.from({ length: LARGE_BUFFERS + 1 }, () => bench.client.transfer(false, 0, 0, bytes, 0));
  const given = bench.giveUp();
  assert.is(given.length, LARGE_BUFFERS);
  const results = await bench.loop.settle(Promise.all(reads));
  assert.equal(results, new Array(LARGE_BUFFERS + 1).fill(-EIO));
  bench.loop.endAbandoned(given[0].memory, BLOCK, true);
  await bench.turn();
  const read = bench.client.transfer(false, 0, 0, bytes, 0);
  bench.answer(3);
  assert.is(await bench.loop.settle(read), 0);
});

run();
