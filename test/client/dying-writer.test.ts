/** A writer that dies alone: its stores live on, nothing is in doubt there, and what it had under way is on some copies. */

import * as assert from 'uvu/assert';
import type { MemberState } from '#strake/layout/volume-map.js';
import { check, run } from '../support/check.js';
import { BLOCK } from '../support/segment-world.js';
import { SEGMENT, VolumeBench } from '../support/volume-bench.js';

const PAIR: readonly MemberState[] = ['in-sync', 'in-sync'];

/** A mirror of which a segment is written and settled, and then written to under one flush number. */
async function written(): Promise<VolumeBench> {
  const bench = await new VolumeBench(PAIR).start();
  bench.write(0, 0, SEGMENT, 1);
  await bench.world.drain();
  for (const tag of [1, 2]) {
    bench.flush(tag);
    await bench.world.drain();
  }
  bench.write(3, BLOCK, BLOCK, 2);
  await bench.world.drain();
  return bench;
}

/** Writes the first block, which ends on the first member only. */
async function half(bench: VolumeBench, tag: number, value: number): Promise<void> {
  bench.write(tag, 0, BLOCK, value);
  await bench.world.end(bench.world.find('write', bench.members[0]));
  assert.is(bench.results[tag], undefined);
}

/** The next engine on the same stores. */
async function takeOver(bench: VolumeBench): Promise<VolumeBench> {
  const record = { ...bench.engine.record, generation: bench.engine.record.generation + 1 };
  const next = await new VolumeBench(
    PAIR,
    (members) =>
      members.forEach((member, position) => {
        const before = bench.members[position];
        for (const [stripe, segment] of before.slots) member.slots.set(stripe, segment);
        Object.assign(member, { settled: before.settled, flushed: before.flushed });
      }),
    { record },
  ).start();
  await next.world.drain();
  return next;
}

function valuesOf({ members }: VolumeBench): (number | undefined)[] {
  return members.map((member) => {
    const content = member.contentOf(0, 0);
    return typeof content === 'number' ? content : content[0];
  });
}

check('what was under way is on all copies, or on none, when the next writer serves', async () => {
  const bench = await written();
  await half(bench, 4, 7);
  const [one, other] = bench.members.map((member) => member.slots.get(0));
  assert.equal([one?.generation, one?.flushNumber], [other?.generation, other?.flushNumber], 'stamps tell nothing');
  assert.equal(valuesOf(bench), [7, 1]);
  assert.equal(valuesOf(await takeOver(bench)), [7, 7]);
});

check('a write that is under way is not settled by flushes that begin behind it', async () => {
  const bench = await written();
  await half(bench, 4, 7);
  for (const tag of [5, 6, 7]) {
    bench.flush(tag);
    const flushed = () => bench.results[tag] !== undefined;
    while (!flushed()) {
      await bench.world.end(bench.world.pending.find(({ kind }) => kind !== 'write'));
    }
  }
  assert.equal(valuesOf(bench), [7, 1]);
  assert.equal(valuesOf(await takeOver(bench)), [7, 7]);
});

check('a write that comes late does not undo what the next writer has written', async () => {
  const bench = await written();
  await half(bench, 4, 7);
  const next = await takeOver(bench);
  next.write(5, 0, BLOCK, 8);
  await next.world.drain();
  assert.equal(valuesOf(next), [8, 8]);
  await bench.world.end(bench.world.find('write', bench.members[1]));
  assert.equal(valuesOf(next), [8, 8]);
});

check('a discard that one copy has lost with its power is on the other when the next writer serves', async () => {
  // The flush that runs when it is acknowledged does not cover it either.
  for (const flushing of [false, true]) {
    const bench = await written();
    const [, other] = bench.members;
    if (flushing) bench.flush(4);
    const before = structuredClone(other.slots);
    bench.discard(5, 0, SEGMENT);
    while (bench.results[5] === undefined) {
      await bench.world.end(bench.world.pending.find(({ kind }) => kind !== 'flush'));
    }
    // Whatever it does about that without another flush has been done.
    await bench.world.drain();
    other.slots.clear();
    for (const [stripe, segment] of before) other.slots.set(stripe, segment);
    assert.equal(valuesOf(bench), [0, 1]);
    assert.equal(valuesOf(await takeOver(bench)), [0, 0], flushing ? 'during a flush' : 'without a flush');
  }
});

check('no slot is given back before a flush that began behind the discard has ended', async () => {
  const bench = await written();
  bench.flush(4);
  await bench.world.drain(undefined, () => bench.world.find('flush') !== undefined);
  bench.discard(5, 0, SEGMENT);
  while (bench.results[5] === undefined) {
    await bench.world.end(bench.world.pending.find(({ kind }) => kind !== 'flush'));
  }
  await bench.world.drain();
  assert.is(bench.results[4], 0);
  assert.equal(
    bench.members.map((member) => member.has(0)),
    [true, true],
  );
  bench.flush(6);
  await bench.world.drain();
  assert.equal(
    bench.members.map((member) => member.has(0)),
    [false, false],
  );
});

run();
