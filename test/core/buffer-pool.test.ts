/** The pool of fixed buffers. */

import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { BufferPool, type PooledBuffer } from '#strake/core/buffer-pool.js';
import { check, run } from '../support/check.js';

const CLASSES = [
  { bytes: 4096, count: 4 },
  { bytes: 65536, count: 2 },
];
const START = 8192;

check('buffers are aligned, apart from each other, with room for a header before each', () => {
  const pool = new BufferPool(START, CLASSES);
  const regionEnd = START + BufferPool.regionBytes(CLASSES);
  let freeFrom = START;
  for (const { memory, capacityBytes } of pool.buffers) {
    assert.is(memory % 4096, 0);
    assert.ok(memory - 64 >= freeFrom, 'the header lies in nobody else’s buffer');
    freeFrom = memory + capacityBytes;
  }
  assert.ok(freeFrom <= regionEnd);
});

check('a request takes the smallest class that fits, a larger one if that is empty, and nothing if all are', () => {
  const pool = new BufferPool(START, CLASSES);
  const sizes = Array.from({ length: 7 }, () => pool.take(4096)?.capacityBytes);
  assert.equal(sizes, [4096, 4096, 4096, 4096, 65536, 65536, undefined]);
  assert.is(new BufferPool(START, CLASSES).take(65537), null);
});

check('a buffer released twice is a programmer’s error', () => {
  const pool = new BufferPool(START, CLASSES);
  const buffer = pool.take(1) as PooledBuffer;
  pool.release(buffer);
  assert.throws(() => pool.release(buffer), /released twice/);
  assert.is(pool.available, 6);
});

check('no buffer has two owners, and none is lost', () => {
  const actions = fc.array(fc.record({ take: fc.boolean(), bytes: fc.integer({ min: 1, max: 65536 }) }), {
    maxLength: 60,
  });
  const property = fc.property(actions, (sequence) => {
    const pool = new BufferPool(START, CLASSES);
    const held = new Set<PooledBuffer>();
    for (const { take, bytes } of sequence) {
      if (take) {
        const buffer = pool.take(bytes);
        if (buffer === null) continue;
        assert.ok(!held.has(buffer));
        assert.ok(buffer.capacityBytes >= bytes);
        held.add(buffer);
      } else {
        const [buffer] = held;
        if (buffer === undefined) continue;
        held.delete(buffer);
        pool.release(buffer);
      }
      assert.is(pool.available + held.size, 6);
    }
  });
  fc.assert(property, { numRuns: 300, seed: 20261121 });
});

run();
