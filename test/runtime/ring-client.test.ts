/** Both ends of the rings of an in-process client, over a volume whose device stops answering. */

import * as assert from 'uvu/assert';
import { BufferPool } from '#strake/core/buffer-pool.js';
import { EIO } from '#strake/core/errno.js';
import { CLIENT_BUFFER_CLASSES, CLIENT_CHUNK_BYTES } from '#strake/core/limits.js';
import { Watch } from '#strake/core/watch.js';
import { COMPLETION_ABANDONED } from '#strake/ports/completion.js';
import type { Volume } from '#strake/ports/volume.js';
import { createRing } from '#strake/ring/spsc-ring.js';
import { RingClient } from '#strake/serve/ring-client.js';
import { RingService } from '#strake/serve/ring-service.js';
import { SimLoop } from '#strake/sim/world/loop.js';
import { check, run } from '../support/check.js';

const BLOCK = 4096;
const ENTRIES = 1024;
const CLIENT_BYTES = BufferPool.regionBytes(CLIENT_BUFFER_CLASSES);
const BUFFERS = CLIENT_BUFFER_CLASSES.reduce((sum, { count }) => sum + count, 0);
const LARGE_BUFFERS = CLIENT_BUFFER_CLASSES[CLIENT_BUFFER_CLASSES.length - 1].count;

interface Request {
  readonly memory: number;
  readonly offset: number;
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
    const begin = (memory: number, length: number, offset: number, token: number) => {
      this.pending.push({ memory, offset, length, token });
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
      memoryStart: 0,
      copyIn: (memory, bytes, at, length) => loop.bytes.set(bytes.subarray(at, at + length), memory),
      copyOut: (bytes, at, memory, length) => bytes.set(loop.bytes.subarray(memory, memory + length), at),
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

  /** As `answer`, with bytes that tell where they belong. */
  answerByPlace(): void {
    for (const { memory, offset, length, token } of this.pending.splice(0)) {
      for (let at = 0; at < length; at += 1) this.loop.bytes[memory + at] = byteAt(offset + at);
      this.loop.complete(token, length, 0);
    }
  }

  /** Lets what has been completed reach the client. */
  async turn(): Promise<void> {
    await this.loop.settle(new Promise((resolve) => this.loop.defer(this.loop.register({ complete: resolve }), 0)));
  }
}

function byteAt(offset: number): number {
  return (offset * 31 + (offset >> 12)) & 0xff;
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

check(
  'when all large buffers are with a device that does not answer, large reads go on in smaller pieces',
  async () => {
    const bench = new Bench();
    const bytes = Array.from({ length: LARGE_BUFFERS + 1 }, () => new Uint8Array(CLIENT_CHUNK_BYTES - 5));
    let done = false;
    const reads = Promise.all(bytes.map((part) => bench.client.transfer(false, 0, 5, part, 0))).then((results) => {
      done = true;
      return results;
    });
    assert.is(bench.giveUp().length, LARGE_BUFFERS);
    while (!done) {
      await bench.turn();
      assert.ok(bench.pending.every(({ length }) => length <= 128 << 10));
      bench.answerByPlace();
    }
    assert.equal(await reads, new Array(LARGE_BUFFERS + 1).fill(0));
    const wanted = Uint8Array.from({ length: CLIENT_CHUNK_BYTES - 5 }, (_, at) => byteAt(5 + at));
    for (const part of bytes) assert.ok(Buffer.from(part).equals(wanted), 'bytes of another place');
  },
);

check('when no buffer is left, requests fail, until the device has let go of one', async () => {
  const bench = new Bench();
  const bytes = new Uint8Array(CLIENT_CHUNK_BYTES);
  const results: number[] = [];
  const reads = Array.from({ length: LARGE_BUFFERS + 1 }, () => bench.client.transfer(false, 0, 0, bytes, 0));
  for (const read of reads) read.then((result) => results.push(result));
  const given: Request[] = [];
  while (results.length < reads.length) {
    given.push(...bench.giveUp());
    await bench.turn();
  }
  assert.equal(results, new Array(LARGE_BUFFERS + 1).fill(-EIO));
  assert.is(new Set(given.map(({ memory }) => memory)).size, BUFFERS);
  assert.is(await bench.loop.settle(bench.client.transfer(false, 0, 0, new Uint8Array(1), 0)), -EIO);
  bench.loop.endAbandoned(given[0].memory, BLOCK, true);
  await bench.turn();
  const read = bench.client.transfer(false, 0, 0, bytes, 0);
  bench.answer(3);
  assert.is(await bench.loop.settle(read), 0);
});

run();
