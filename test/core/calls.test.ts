/** Operations as promises. */

import * as assert from 'uvu/assert';
import { Calls } from '#strake/core/calls.js';
import { COMPLETION_ABANDONED } from '#strake/ports/completion.js';
import { SimLoop } from '#strake/sim/world/loop.js';
import { check, run } from '../support/check.js';

check('a call resolves to its result, and is told of memory that may still be used', async () => {
  const loop = new SimLoop({ seed: 1 });
  const calls = new Calls(loop);
  const tokens: number[] = [];
  const holder = { lost: false };
  const one = calls.call((token) => tokens.push(token));
  const other = calls.call((token) => tokens.push(token), holder);
  assert.is(calls.running, 2);
  assert.is.not(tokens[0], tokens[1]);
  loop.finish(tokens[1], -5, COMPLETION_ABANDONED);
  loop.finish(tokens[0], 4096, 0);
  assert.equal(await Promise.all([one, other]), [4096, -5]);
  assert.ok(holder.lost);
  await calls.idle();
  calls.close();
});

check('who waits until nothing is in flight is told by the last that ends', async () => {
  const loop = new SimLoop({ seed: 1 });
  const calls = new Calls(loop);
  const tokens: number[] = [];
  const ends = [calls.call((token) => tokens.push(token)), calls.call((token) => tokens.push(token))];
  let idle = false;
  const told = calls.idle().then(() => {
    idle = true;
  });
  loop.finish(tokens[0], 0, 0);
  await ends[0];
  await Promise.resolve();
  assert.not.ok(idle);
  loop.finish(tokens[1], 0, 0);
  await told;
});

check('an operation that cannot be begun is not in flight, and its error reaches the caller', async () => {
  const loop = new SimLoop({ seed: 1 });
  const calls = new Calls(loop);
  let told = Promise.resolve();
  const refuse = () => {
    told = calls.idle();
    throw new Error('no room');
  };
  const refused = await calls.call(refuse).catch((error) => error);
  assert.is(refused.message, 'no room');
  assert.is(calls.running, 0);
  await told;
  calls.close();
});

check('an operation that ends twice, or is in flight at the end, is a contradiction', async () => {
  const loop = new SimLoop({ seed: 1 });
  const calls = new Calls(loop);
  let token = 0;
  const end = calls.call((given) => {
    token = given;
  });
  assert.throws(() => calls.close(), /in flight when their handler is given up: 1/);
  loop.finish(token, 0, 0);
  assert.is(await end, 0);
  assert.throws(() => loop.finish(token, 0, 0), /ended twice, or was never begun: 0/);
  assert.throws(() => loop.finish(token + 1, 0, 0), /ended twice, or was never begun: 1/);
});

run();
