/** Memory that operations may still use which were given up. */

import * as assert from 'uvu/assert';
import { AbandonedMemory } from '#strake/core/abandoned-memory.js';
import { check, run } from '../support/check.js';

check('memory is free when the last operation that begins in it has ended', () => {
  const memory = new AbandonedMemory();
  const free: string[] = [];
  for (const start of [0, 4096, 4096, 8192]) memory.add(start);
  memory.whenFree(4096, 4096, () => free.push('one block of two operations'));
  memory.whenFree(0, 8192, () => free.push('two blocks'));
  memory.whenFree(8193, 4096, () => free.push('unused'));
  assert.equal(free, ['unused']);
  memory.remove(4096);
  memory.remove(8192);
  assert.is(free.length, 1);
  memory.remove(4096);
  assert.equal(free.splice(0), ['unused', 'one block of two operations']);
  memory.remove(0);
  assert.equal(free, ['two blocks']);
  assert.throws(() => memory.remove(0), /no operation was given up/);
});

check('what becomes free may be given up again at once', () => {
  const memory = new AbandonedMemory();
  const free: number[] = [];
  memory.add(0);
  memory.whenFree(0, 1, () => {
    memory.add(0);
    memory.whenFree(0, 1, () => free.push(0));
  });
  memory.remove(0);
  assert.equal(free, []);
  memory.remove(0);
  assert.equal(free, [0]);
});

run();
