/** Handlers and the ranges of tokens that they have. */

import * as assert from 'uvu/assert';
import { Handlers } from '#strake/core/handlers.js';
import { TAG_BITS } from '#strake/ports/completion.js';
import { HANDLER_SLOTS_MAX } from '#strake/ports/limits.js';
import { check, run } from '../support/check.js';

class Told {
  readonly ends: (readonly [number, number])[] = [];

  complete(tag: number, result: number): void {
    this.ends.push([tag, result]);
  }
}

check('a token reaches the handler whose range it is in, with its tag, whatever the length of the range', () => {
  const handlers = new Handlers();
  const sizes = [TAG_BITS, 16, 20, 3, TAG_BITS, 18, 16];
  const all = sizes.map((tagBits) => {
    const told = new Told();
    return { told, last: 2 ** tagBits - 1, base: handlers.register(told, tagBits) };
  });
  for (const { base, last } of all) {
    handlers.complete(base, 1, 0);
    handlers.complete(base + last, 2, 0);
  }
  for (const { told, last } of all)
    assert.equal(told.ends, [
      [0, 1],
      [last, 2],
    ]);
});

check('a range is given again when its handler has gone, and what is late for that reaches nobody', () => {
  const handlers = new Handlers();
  const [one, two, three] = [new Told(), new Told(), new Told()];
  const first = handlers.register(one, 20);
  handlers.register(two, 16);
  handlers.unregister(first);
  handlers.complete(first + 5, 1, 0);
  assert.equal(one.ends, []);
  assert.is(handlers.register(three, 20), first);
  handlers.complete(first + 6, 2, 0);
  assert.equal([one.ends, three.ends], [[], [[6, 2]]]);
});

check('there is room for the handlers of a thousand volumes, up to the bound, and tokens have a sign', () => {
  const handlers = new Handlers();
  const bases: number[] = [];
  for (let volume = 0; volume < 1000; volume += 1) {
    for (const tagBits of [20, 16, 16, 16, 16]) bases.push(handlers.register(new Told(), tagBits));
  }
  assert.is(new Set(bases).size, bases.length);
  const told = new Told();
  let last = 0;
  const fill = () => {
    for (;;) last = handlers.register(told);
  };
  assert.throws(fill, /too many completion handlers/);
  assert.ok(last < 0, 'half of all tokens are negative');
  assert.ok(last >>> 16 < HANDLER_SLOTS_MAX);
  handlers.complete(last + 77, 3, 0);
  assert.equal(told.ends, [[77, 3]]);
});

run();
