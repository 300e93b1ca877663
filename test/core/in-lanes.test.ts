/** Lists that are gone through with several at a time. */

import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { inLanes } from '#strake/core/in-lanes.js';
import { check, run } from '../support/check.js';

/** Work that waits for as many turns of the microtask queue as it is told to. */
async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await null;
}

check('each item is worked on once, in order, and a lane has one at a time', async () => {
  const lengths = fc.array(fc.nat(6), { maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 9 }), lengths, async (lanes, items) => {
      const begun: number[] = [];
      const busy = new Set<number>();
      let most = 0;
      const work = async (item: number, lane: number): Promise<void> => {
        assert.not(busy.has(lane), 'the lane has an item');
        assert.ok(lane >= 0 && lane < lanes);
        busy.add(lane);
        most = Math.max(most, busy.size);
        begun.push(item);
        await turns(items[item]);
        busy.delete(lane);
      };
      await inLanes(lanes, [...items.keys()], work);
      assert.equal(begun, [...items.keys()]);
      assert.is(busy.size, 0);
      assert.is(most, Math.min(lanes, items.length));
    }),
  );
});

check('after a failure nothing is begun, and what was begun ends before it is told', async () => {
  const begun: number[] = [];
  const ended: number[] = [];
  const work = async (item: number): Promise<void> => {
    begun.push(item);
    await turns(item === 1 ? 2 : 20);
    if (item === 1) throw new Error('the second');
    ended.push(item);
  };
  const error = await inLanes(3, [0, 1, 2, 3, 4], work).then(
    () => null,
    (reason: Error) => reason.message,
  );
  assert.is(error, 'the second');
  assert.equal(begun, [0, 1, 2]);
  assert.equal(ended, [0, 2]);
});

check('who is asked first may put a lane off, or end all', async () => {
  const lanes: number[] = [];
  let asked = 0;
  const work = async (_: number, lane: number): Promise<void> => {
    lanes.push(lane);
    await turns(1);
  };
  await inLanes(3, [0, 1, 2, 3, 4, 5], work, (lane) => (lane === 2 ? turns(2) : null));
  assert.is(lanes.length, 6);
  assert.not(lanes.includes(2), 'it is asked anew after each pause');

  const begun: number[] = [];
  const ending = inLanes(
    2,
    [0, 1, 2, 3],
    async (item) => {
      begun.push(item);
      await turns(3);
    },
    () => {
      asked += 1;
      if (asked > 2) throw new Error('ended');
      return null;
    },
  );
  const error = await ending.then(
    () => null,
    (reason: Error) => reason.message,
  );
  assert.is(error, 'ended');
  assert.equal(begun, [0, 1]);
  assert.is(asked, 3, 'the other lane need not ask');
});

check('an empty list is gone through at once, and without lanes there is no way', async () => {
  await inLanes(4, [], () => Promise.reject(new Error('nothing is there')));
  assert.is(
    await inLanes(0, [1], async () => {}).then(
      () => '',
      (reason: Error) => reason.message,
    ),
    'a list is gone through in no lane: 0',
  );
});

run();
