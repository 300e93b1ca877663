/** The queue of those who wait for one thing. */

import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { InternalError } from '#strake/core/check.js';
import { Waiting } from '#strake/core/waiting.js';
import { check, run } from '../support/check.js';

check('those who wait are taken in the order in which they came, whatever is taken meanwhile', () => {
  const steps = fc.array(fc.oneof(fc.constant('push'), fc.constant('take'), fc.constant('back'), fc.constant('all')), {
    maxLength: 200,
  });
  fc.assert(
    fc.property(steps, (todo) => {
      const waiting = new Waiting<number>('numbers', 200);
      let model: number[] = [];
      let next = 0;
      for (const step of todo) {
        if (step === 'push') {
          waiting.push(next);
          model.push(next);
          next += 1;
        } else if (step === 'take') {
          assert.is(waiting.take(), model.shift());
        } else if (step === 'back') {
          const item = waiting.take();
          if (item !== undefined) waiting.putBack(item);
        } else {
          assert.equal(waiting.takeAll(), model);
          model = [];
        }
        assert.is(waiting.size, model.length);
        assert.is(waiting.next, model[0]);
      }
      assert.equal(waiting.takeAll(), model);
    }),
  );
});

check('more than can wait is a programmer’s error, which names them', () => {
  const waiting = new Waiting<number>('operations that wait for room', 2);
  waiting.push(1);
  waiting.push(2);
  assert.throws(
    () => waiting.push(3),
    (error: Error) => error instanceof InternalError && /more operations that wait for room .*: 2$/.test(error.message),
  );
  waiting.take();
  waiting.push(3);
  assert.equal(waiting.takeAll(), [2, 3]);
});

check('a round resumes as long as it may, and keeps the rest in order', () => {
  const waiting = new Waiting<number>('numbers', 8);
  for (const item of [1, 2, 3, 4]) waiting.push(item);
  const resumed: number[] = [];
  waiting.resume(
    (item) => resumed.push(item),
    () => resumed.length < 2,
  );
  assert.equal(resumed, [1, 2]);
  assert.equal(waiting.takeAll(), [3, 4]);
});

check('those who wait again wait for the next round, behind those who came meanwhile', () => {
  const waiting = new Waiting<string>('letters', 8);
  waiting.push('a');
  waiting.push('b');
  const resumed: string[] = [];
  waiting.resume((item) => {
    resumed.push(item);
    if (item === 'a') waiting.push('c');
    waiting.push(item);
  });
  assert.equal(resumed, ['a', 'b']);
  assert.equal(waiting.takeAll(), ['c', 'a', 'b']);
});

check('whom somebody else takes during a round is left to them', () => {
  const waiting = new Waiting<number>('numbers', 8);
  for (const item of [1, 2, 3]) waiting.push(item);
  const resumed: number[] = [];
  waiting.resume((item) => {
    resumed.push(item);
    waiting.takeAll();
  });
  assert.equal(resumed, [1]);
});

run();
