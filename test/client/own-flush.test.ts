/** Flushes that the engine makes by itself: when, which count, and that no client is deceived by one that fails. */

import * as assert from 'uvu/assert';
import { OWN_FLUSH_CHUNKS } from '#strake/client/limits.js';
import { DEFAULT_TIMES } from '#strake/core/cluster-times.js';
import { WATCH_MS } from '#strake/core/limits.js';
import type { MemberState } from '#strake/layout/volume-map.js';
import { check, run } from '../support/check.js';
import { BLOCK } from '../support/segment-world.js';
import { makeRecord, SEGMENT, VolumeBench } from '../support/volume-bench.js';

const PAIR: readonly MemberState[] = ['in-sync', 'in-sync'];
const OWN_FLUSH_MS = DEFAULT_TIMES.ownFlushMs;
const LONG_MS = 60_000;
/** By when it has flushed what was modified now. */
const FLUSHED_MS = OWN_FLUSH_MS + WATCH_MS;

interface Counted {
  readonly bench: VolumeBench;
  /** Flushes that have begun on the first member since the start. */
  flushes: number;
}

async function counted(states = PAIR, segments = 4): Promise<Counted> {
  const record = { ...makeRecord(states), sizeBytes: segments * SEGMENT };
  const bench = await new VolumeBench(states, () => {}, { record }).start();
  await bench.world.drain();
  const found = { bench, flushes: 0 };
  bench.members[0].fail = (kind) => {
    if (kind === 'flush') found.flushes += 1;
    return undefined;
  };
  return found;
}

async function write({ bench }: Counted, tag: number, segment = 0): Promise<void> {
  bench.write(tag, segment * SEGMENT, BLOCK, 1);
  await bench.world.drain();
  assert.is(bench.results[tag], BLOCK);
}

async function pass({ bench }: Counted, mostMs: number): Promise<number> {
  const passedMs = bench.passTime(mostMs);
  await bench.world.drain();
  return passedMs;
}

check('what nobody flushes is flushed after a time, and then there is nothing to watch', async () => {
  const one = await counted();
  await write(one, 0);
  await pass(one, OWN_FLUSH_MS - WATCH_MS);
  assert.is(one.flushes, 0);
  await pass(one, 2 * WATCH_MS);
  assert.is(one.flushes, 1);
  assert.ok((await pass(one, LONG_MS)) <= WATCH_MS, 'nothing is watched any more');
  assert.is(one.flushes, 1);
});

check('without modifications there are no flushes, and no time is watched', async () => {
  const one = await counted();
  one.bench.read(0, 0, BLOCK);
  one.bench.discard(1, 0, SEGMENT);
  await one.bench.world.drain();
  assert.is(await pass(one, LONG_MS), 0);
  assert.is(one.flushes, 0);
});

check('flushes of clients take the place of those of the engine', async () => {
  const one = await counted();
  for (let tag = 0; tag < 20; tag += 2) {
    await write(one, tag);
    await pass(one, OWN_FLUSH_MS / 2);
    one.bench.flush(tag + 1);
    await one.bench.world.drain();
  }
  await pass(one, LONG_MS);
  assert.is(one.flushes, 10);
});

check('so many chunks are flushed before any time passes', async () => {
  const one = await counted(PAIR, 2 * OWN_FLUSH_CHUNKS);
  for (let round = 0; round < 2; round += 1) {
    for (let segment = 0; segment < OWN_FLUSH_CHUNKS - 1; segment += 1)
      await write(one, 4096 * round + segment, segment);
    // The same ones do not count again.
    for (let segment = 0; segment < 8; segment += 1) await write(one, 4096 * round + 2048 + segment, segment);
    assert.is(one.flushes, round);
    await write(one, 4096 * round + 4095, OWN_FLUSH_CHUNKS);
    assert.is(one.flushes, round + 1);
  }
  assert.ok((one.bench.members[0].settled?.flushNumber ?? 0) > 1, 'what the first flush covered is settled');
});

check('what was discarded is given back though nobody flushes, durably', async () => {
  const one = await counted();
  const { bench } = one;
  await write(one, 0);
  await pass(one, LONG_MS);
  bench.discard(1, 0, SEGMENT);
  await bench.world.drain();
  assert.ok(bench.members[0].has(0));
  const before = one.flushes;
  await pass(one, FLUSHED_MS);
  assert.equal(
    bench.members.map((member) => member.has(0)),
    [false, false],
  );
  await pass(one, LONG_MS);
  assert.is(one.flushes, before + 2, 'one for the zeroes, and one for the release');
});

check('a write that ends behind the beginning of a flush is flushed by the next', async () => {
  const one = await counted();
  const { bench } = one;
  await write(one, 0);
  bench.write(1, 0, BLOCK, 2);
  bench.flush(2);
  while (bench.results[2] === undefined) {
    await bench.world.end(bench.world.pending.find(({ kind }) => kind !== 'write'));
  }
  await bench.world.drain();
  assert.is(one.flushes, 1);
  await pass(one, LONG_MS);
  assert.is(one.flushes, 2);
});

check('a flush that is due joins the one of a client that waits', async () => {
  const one = await counted();
  const { bench } = one;
  await write(one, 0);
  bench.flush(1);
  bench.write(2, 0, BLOCK, 2);
  while (bench.results[2] === undefined) {
    await bench.world.end(bench.world.pending.find(({ kind }) => kind !== 'flush'));
  }
  bench.flush(3);
  bench.passTime(FLUSHED_MS);
  await bench.world.drain();
  assert.equal([bench.results[1], bench.results[3]], [0, 0]);
  await pass(one, LONG_MS);
  assert.is(one.flushes, 2);
});

check('a flush of the engine that fails is told by the next one of a client, once', async () => {
  const one = await counted(['in-sync']);
  const { bench } = one;
  await write(one, 0);
  bench.members[0].incarnation += 1;
  await pass(one, FLUSHED_MS);
  assert.is(one.flushes, 1);
  for (const tag of [1, 2]) {
    bench.flush(tag);
    await bench.world.drain();
  }
  assert.equal([bench.results[1], bench.results[2]], [-5, 0]);
});

check(
  'a volume that is closed flushes once, and no more by itself; not even once if nothing was modified',
  async () => {
    for (const modified of [true, false]) {
      const one = await counted();
      if (modified) await write(one, 0);
      let closed = false;
      one.bench.engine.close().then(() => {
        closed = true;
      });
      await one.bench.world.drain(undefined, () => closed);
      assert.is(one.flushes, modified ? 1 : 0);
      await pass(one, LONG_MS);
      assert.is(one.flushes, modified ? 1 : 0);
    }
  },
);

run();
