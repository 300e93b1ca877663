/** The ring between threads: its rules one by one, against a model, and under load between real threads. */

import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { createRing, RING_ENTRY_WORDS, RingConsumer, RingCorruptError, RingProducer } from '#strake/ring/spsc-ring.js';
import { check, run } from '../support/check.js';
import { project } from '../support/scratch.js';

const WORD_TAIL = 16;
const WORD_HEAD = 32;

function write(producer: RingProducer, value: number): boolean {
  const word = producer.reserve();
  if (word >= 0) producer.words.fill(value, word, word + RING_ENTRY_WORDS);
  return word >= 0;
}

function read(consumer: RingConsumer): number | undefined {
  const word = consumer.next();
  return word < 0 ? undefined : consumer.words[word];
}

check('a ring has a power of two of entries', () => {
  for (const entries of [0, 1, 3, 1.5, -2, 2 ** 21, Number.NaN]) {
    assert.throws(() => createRing(entries), /entries has to be a power of two from 2 to 1048576/);
  }
  assert.is(new RingProducer(createRing(2)).entries, 2);
});

check('what is reserved is seen only when it is published, and is free only when it is released', () => {
  const memory = createRing(4);
  const producer = new RingProducer(memory);
  const consumer = new RingConsumer(memory);
  for (let value = 1; value <= 4; value += 1) assert.ok(write(producer, value));
  assert.is(read(consumer), undefined, 'not published yet');
  assert.is(write(producer, 5), false, 'the ring is full');
  producer.publish();
  assert.is(read(consumer), 1);
  assert.is(write(producer, 5), false, 'not released yet');
  consumer.release();
  assert.ok(write(producer, 5));
  producer.publish();
  assert.equal([read(consumer), read(consumer), read(consumer), read(consumer)], [2, 3, 4, 5]);
  assert.is(read(consumer), undefined);
});

check('a consumer is woken once, and only if it sleeps', () => {
  const memory = createRing(4);
  const producer = new RingProducer(memory);
  const consumer = new RingConsumer(memory);
  write(producer, 1);
  assert.is(producer.publish(), false, 'it is awake');
  assert.is(consumer.sleep(), false, 'something has arrived');
  read(consumer);
  consumer.release();
  assert.is(consumer.sleep(), true);
  write(producer, 2);
  assert.is(producer.publish(), true);
  write(producer, 3);
  assert.is(producer.publish(), false, 'it has been woken already');
});

check('counts go on past 2^31 and 2^32', () => {
  for (const start of [2 ** 31 - 3, -3]) {
    const memory = createRing(4);
    const words = new Int32Array(memory);
    words[WORD_TAIL] = start;
    words[WORD_HEAD] = start;
    const producer = new RingProducer(memory);
    const consumer = new RingConsumer(memory);
    for (let value = 0; value < 20; value += 1) {
      assert.ok(write(producer, value));
      producer.publish();
      assert.is(read(consumer), value);
      consumer.release();
    }
  }
});

check('a peer that writes nonsense causes an error, not a read outside of the ring', () => {
  for (const nonsense of [5, -1, 2 ** 31 - 1, -(2 ** 31)]) {
    const memory = createRing(4);
    const consumer = new RingConsumer(memory);
    new Int32Array(memory)[WORD_TAIL] = nonsense;
    assert.throws(
      () => consumer.next(),
      (error: Error) => error instanceof RingCorruptError,
    );
  }
  const memory = createRing(4);
  const producer = new RingProducer(memory);
  for (let value = 0; value < 4; value += 1) write(producer, value);
  new Int32Array(memory)[WORD_HEAD] = 9;
  assert.throws(
    () => producer.reserve(),
    (error: Error) => error instanceof RingCorruptError,
  );
  assert.throws(
    () => new RingConsumer(new SharedArrayBuffer(4096)),
    (error: Error) => error instanceof RingCorruptError,
  );
});

check('a tail that goes back, or that is overwritten together with the head, is noticed', () => {
  for (const [tail, head] of [
    [1, 0],
    [2 ** 30, 2 ** 30 - 1],
  ]) {
    const memory = createRing(4);
    const producer = new RingProducer(memory);
    const consumer = new RingConsumer(memory);
    for (let value = 1; value <= 3; value += 1) write(producer, value);
    producer.publish();
    assert.equal([read(consumer), read(consumer), read(consumer)], [1, 2, 3]);
    const words = new Int32Array(memory);
    words[WORD_TAIL] = tail;
    words[WORD_HEAD] = head;
    assert.throws(
      () => consumer.next(),
      (error: Error) => error instanceof RingCorruptError,
    );
  }
});

/** A queue with the ring's rules, in plain JavaScript. */
class Model {
  readonly reserved: number[] = [];
  readonly published: number[] = [];
  taken = 0;

  room(entries: number): number {
    return entries - this.reserved.length - this.published.length - this.taken;
  }
}

check('any sequence of steps does what a plain queue does', () => {
  const steps = fc.array(fc.constantFrom('reserve', 'publish', 'next', 'release', 'sleep'), { maxLength: 200 });
  const property = fc.property(fc.integer({ min: 1, max: 4 }), steps, (power, sequence) => {
    const entries = 2 ** power;
    const memory = createRing(entries);
    const producer = new RingProducer(memory);
    const consumer = new RingConsumer(memory);
    const model = new Model();
    let value = 0;
    for (const step of sequence) {
      if (step === 'reserve') {
        const expected = model.room(entries) > 0;
        value += 1;
        assert.is(write(producer, value), expected);
        if (expected) model.reserved.push(value);
      } else if (step === 'publish') {
        producer.publish();
        model.published.push(...model.reserved.splice(0));
      } else if (step === 'next') {
        const expected = model.published.shift();
        assert.is(read(consumer), expected);
        if (expected !== undefined) model.taken += 1;
      } else if (step === 'release') {
        consumer.release();
        model.taken = 0;
      } else {
        assert.is(consumer.sleep(), model.published.length === 0);
        new Int32Array(memory)[48] = 0;
      }
    }
  });
  fc.assert(property, { numRuns: 500, seed: 20261121 });
});

/**
 * Two threads and two rings: this one sends entries, the other one answers each with a word derived from it. Each side
 * sleeps when it finds nothing, so a lost wake-up ends the test by its time limit, and a torn or repeated entry by its sum.
 */
async function torture(entries: number, count: number, seed: number): Promise<void> {
  const rings = { there: createRing(entries), back: createRing(entries), bells: new SharedArrayBuffer(64) };
  const program = join(project, 'test', 'ring', 'torture-worker.mjs');
  const start = (role: string) => new Worker(program, { workerData: { ...rings, role, count, seed }, execArgv: [] });
  const reports = [start('asking'), start('answering')].map(async (worker) => {
    const [report] = await once(worker, 'message');
    await worker.terminate();
    return report as { error?: string; entries: number; sleeps: number };
  });
  const [asking, answering] = await Promise.all(reports);
  assert.is(asking.error, undefined);
  assert.is(answering.error, undefined);
  assert.is(asking.entries, count);
  assert.is(answering.entries, count);
  assert.ok(asking.sleeps + answering.sleeps > 0, 'somebody has slept and was woken');
}

for (const [entries, count] of [
  [2, 100_000],
  [16, 300_000],
  [1024, 1_000_000],
]) {
  check(`${count} entries cross between two threads whole, once and in order, ring of ${entries}`, () =>
    torture(entries, count, entries * 7919),
  );
}

run();
