/** Memory that is set aside until nothing can write to it. */

import * as assert from 'uvu/assert';
import { AbandonedMemory } from '#strake/core/abandoned-memory.js';
import { SetAside } from '#strake/core/set-aside.js';
import type { Memory } from '#strake/ports/memory.js';
import { check, run } from '../support/check.js';

/** A pool of two pieces, and the operations on them that were given up. */
function poolOfTwo(): { abandoned: AbandonedMemory; aside: SetAside } {
  const abandoned = new AbandonedMemory();
  const whenFree = abandoned.whenFree.bind(abandoned);
  return { abandoned, aside: new SetAside({ whenFree } as Memory, 2) };
}

check('a piece is set aside until the operation has ended, and is counted meanwhile', () => {
  const { abandoned, aside } = poolOfTwo();
  const back: string[] = [];
  abandoned.add(0);
  abandoned.add(4096);
  aside.hold(0, 4096, () => back.push(`first, ${aside.count} left`));
  assert.is(aside.count, 1);
  assert.not(aside.all);
  aside.hold(4096, 4096, () => back.push(`second, ${aside.count} left`));
  assert.ok(aside.all);
  abandoned.remove(4096);
  assert.equal(back, ['second, 1 left']);
  assert.not(aside.all);
  abandoned.remove(0);
  assert.equal(back, ['second, 1 left', 'first, 0 left']);
});

check('what nothing uses comes back at once', () => {
  const { abandoned, aside } = poolOfTwo();
  abandoned.add(8192);
  let back = 0;
  aside.hold(0, 8192, () => {
    back += 1;
  });
  assert.is(back, 1);
  assert.is(aside.count, 0);
});

check('more than there is cannot be set aside', () => {
  const { abandoned, aside } = poolOfTwo();
  abandoned.add(0);
  aside.hold(0, 4096, () => {});
  aside.hold(0, 4096, () => {});
  assert.throws(() => aside.hold(0, 4096, () => {}), /more memory is set aside than there is: 3/);
});

run();
