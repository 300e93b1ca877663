/** A volume is closed while requests are in flight: it waits for the last of them, and for nothing else. */

import * as assert from 'uvu/assert';
import { DEVICE_FUA } from '#strake/ports/device.js';
import { check, run } from '../support/check.js';
import { BLOCK, turn } from '../support/segment-world.js';
import { SEGMENT, VolumeBench } from '../support/volume-bench.js';

/** What may be in flight, by name, each begun under the tags 0 to 9. */
const IN_FLIGHT: Readonly<Record<string, (bench: VolumeBench) => void>> = {
  'a read': (bench) => bench.read(0, 0, BLOCK),
  'a write': (bench) => bench.write(0, 0, BLOCK, 2),
  'a write and another that waits for it': (bench) => {
    bench.write(0, 0, BLOCK, 2);
    bench.write(1, 0, BLOCK, 3);
  },
  'a patch': (bench) => bench.write(0, 100, 7, 2),
  'a write over two segments': (bench) => bench.write(0, SEGMENT - BLOCK, 2 * BLOCK, 2),
  'zeroes of what holds nothing': (bench) => bench.zero(0, SEGMENT, 2 * SEGMENT),
  'zeroes that are followed by their flush': (bench) => bench.zero(0, 0, SEGMENT, DEVICE_FUA),
  'a discard': (bench) => bench.discard(0, 0, SEGMENT),
  'a discard and a flush': (bench) => {
    bench.discard(0, 0, SEGMENT);
    bench.flush(1);
  },
  'a flush, and another that waits for it': (bench) => {
    bench.flush(0);
    bench.flush(1);
  },
  'all of these': (bench) => {
    bench.write(0, 0, BLOCK, 2);
    bench.flush(1);
    bench.write(2, SEGMENT - BLOCK, 2 * BLOCK, 2);
    bench.zero(3, 0, SEGMENT, DEVICE_FUA);
    bench.write(4, 100, 7, 2);
    bench.flush(5);
  },
};

/** A served volume that cannot ask for time: whatever it waits for has to come by itself. */
async function withoutTime(): Promise<VolumeBench> {
  const clock = {
    nowMs: () => 0,
    boottimeMs: () => 0,
    realtimeMs: () => 0,
    after: () => assert.unreachable('a volume that is being closed lets time pass'),
  };
  const bench = await new VolumeBench(['in-sync', 'in-sync'], () => {}, { clock }).start();
  bench.write(60, 0, SEGMENT, 1);
  await bench.world.drain();
  return bench;
}

check('it is closed when the last has ended, whichever that is, and no time passes', async () => {
  for (const [what, begin] of Object.entries(IN_FLIGHT)) {
    for (const last of [true, false]) {
      const bench = await withoutTime();
      begin(bench);
      let closed = false;
      const ended = bench.engine.close().then(() => {
        closed = true;
      });
      await turn();
      assert.ok(bench.world.pending.length > 0, what);
      while (bench.world.pending.length > 0) {
        // Answers to the client may be on their way.
        const busy = bench.world.pending.some(({ member }) => member !== null);
        assert.not.ok(busy && closed, `${what}: closed while something is in flight`);
        await bench.world.end(bench.world.pending.at(last ? -1 : 0));
      }
      await turn();
      assert.ok(closed, `${what}: not closed`);
      await ended;
      assert.ok(
        bench.results.slice(0, 10).every((result) => result !== undefined && result >= 0),
        `${what}: ${bench.results.slice(0, 10)}`,
      );
    }
  }
});

check('what is discarded by requests that were in flight is given back', async () => {
  for (const flags of [0, DEVICE_FUA]) {
    const bench = await withoutTime();
    bench.zero(0, 0, SEGMENT, flags);
    const ended = bench.engine.close();
    assert.ok(bench.members.every(({ slots }) => slots.has(0)));
    await bench.world.drain();
    await ended;
    assert.is(bench.results[0], 0);
    assert.not.ok(bench.members.some(({ slots }) => slots.has(0)));
  }
});

check('front ends are told once, within the call that closes it, and late ones at once', async () => {
  const bench = await withoutTime();
  bench.write(0, 0, BLOCK, 2);
  let told = 0;
  bench.engine.onFence(() => {
    told += 1;
  });
  const ended = bench.engine.close();
  assert.is(told, 1);
  bench.write(1, 0, BLOCK, 3);
  await bench.world.drain();
  await ended;
  assert.equal([bench.results[0], bench.results[1]], [BLOCK, -108]);
  bench.engine.onFence(() => {
    told += 1;
  });
  assert.is(told, 2);
});

check('a write that waits for a new map holds up the end, until that is durable', async () => {
  const bench = await withoutTime();
  let allow = () => {};
  bench.commit = () =>
    new Promise((resolve) => {
      allow = resolve;
    });
  bench.members[1].fail = (kind) => (kind === 'write' ? -5 : undefined);
  bench.write(0, 0, BLOCK, 2);
  let closed = false;
  const ended = bench.engine.close().then(() => {
    closed = true;
  });
  await bench.world.drain();
  assert.equal([bench.results[0], closed], [undefined, false]);
  allow();
  await bench.world.drain();
  await ended;
  assert.is(bench.results[0], BLOCK);
});

run();
