/** Zeroing and discarding on a volume: what is freed, what leaves a trace, and what is durable. */

import * as assert from 'uvu/assert';
import { DEVICE_FUA, DEVICE_KEEP_ALLOCATED } from '#strake/ports/device.js';
import { check, run } from '../support/check.js';
import { BLOCK } from '../support/segment-world.js';
import { SEGMENT, SIZE, VolumeBench, written } from '../support/volume-bench.js';

const PAIR = ['in-sync', 'in-sync'] as const;

check('discarding frees slots while all members are current, and leaves a trace while one is not', async () => {
  const bench = await written();
  bench.discard(0, 5, SEGMENT);
  await bench.world.drain();
  assert.ok(bench.members[0].has(0), 'the first block was covered in part and is left alone');
  bench.discard(1, 0, SEGMENT);
  await bench.world.drain();
  const slots = () => bench.members.map((member) => member.has(0));
  assert.equal(slots(), [true, true], 'a slot tells more than none until it is settled that it holds nothing');
  bench.flush(4);
  await bench.world.drain();
  assert.equal(slots(), [false, false]);
  bench.write(2, 0, SEGMENT, 3);
  await bench.world.drain();
  bench.zero(3, 0, SEGMENT, DEVICE_KEEP_ALLOCATED);
  await bench.world.drain();
  assert.ok(bench.members[0].has(0));
  const degraded = await written(['in-sync', 'in-sync']);
  degraded.members[1].fail = (kind) => (kind === 'flush' ? -5 : undefined);
  degraded.flush(0);
  await degraded.world.drain();
  degraded.discard(1, 0, SEGMENT);
  await degraded.world.drain();
  assert.equal([degraded.results[1], degraded.members[0].has(0)], [0, true]);
  assert.ok(degraded.image(degraded.members[0]).every((byte) => byte === 0));
});

check('zeroes with FUA where a discard has left nothing make that discard durable', async () => {
  for (const [offset, length, together] of [
    [0, SEGMENT, false],
    [512, 1024, false],
    [0, SEGMENT, true],
    [512, 1024, true],
  ] as const) {
    const bench = await written();
    const { world } = bench;
    bench.discard(1, 0, SEGMENT);
    if (!together) await world.drain();
    bench.zero(2, offset, length, DEVICE_FUA);
    await world.drain(
      () => 0,
      () => world.find('flush') !== undefined || bench.results[2] !== undefined,
    );
    assert.equal([bench.results[1], bench.results[2]], [0, undefined]);
    for (const member of bench.members) assert.ok(world.find('flush', member), 'it is not promised yet');
    await world.drain();
    assert.is(bench.results[2], 0);
    bench.zero(3, offset, length, 0);
    await world.drain(
      () => 0,
      () => bench.results[3] !== undefined,
    );
    assert.is(world.find('flush'), undefined, 'without FUA nothing has to be');
  }
});

check('zeroing behind a discard that is under way is not answered before that', async () => {
  for (const [offset, length] of [
    [0, SEGMENT],
    [512, 1024],
  ] as const) {
    const bench = await written();
    bench.discard(1, 0, SEGMENT);
    const [first, second] = bench.members;
    await bench.world.end(bench.world.find('zero', first));
    // As a store does once it has begun to give the slot back.
    second.slots.delete(0);
    bench.zero(2, offset, length);
    await bench.world.drain(
      () => 0,
      () => bench.world.pending.every(({ kind }) => kind !== 'nop'),
    );
    assert.equal([bench.results[1], bench.results[2]], [undefined, undefined]);
    second.make(0);
    await bench.world.drain();
    assert.equal([bench.results[1], bench.results[2]], [0, 0]);
  }
});

check('a discard that waited until a member had failed leaves a trace as well', async () => {
  const bench = await written();
  bench.members[1].fail = (kind) => (kind === 'write' ? -5 : undefined);
  bench.write(0, 0, BLOCK, 2);
  bench.discard(1, 0, SEGMENT);
  await bench.world.drain();
  assert.equal([bench.results[0], bench.results[1], bench.members[0].has(0)], [BLOCK, 0, true]);
});

check('zeroing succeeds although the only member that has its slot already fails', async () => {
  for (const failing of [0, 1]) {
    const bench = await new VolumeBench(PAIR).start();
    const { members, world } = bench;
    bench.write(0, 0, BLOCK, 1);
    await world.end(world.find('allocate', members[failing]));
    bench.zero(1, BLOCK, BLOCK, DEVICE_KEEP_ALLOCATED);
    members[failing].fail = () => -5;
    await world.end(world.find('zero', members[failing]), -5);
    await world.drain();
    assert.equal(bench.results, [BLOCK, 0]);
    assert.is(bench.states()[failing], 'offline');
    const expected = new Uint8Array(SIZE).fill(1, 0, BLOCK);
    assert.is(Buffer.compare(bench.image(members[1 - failing]), expected), 0);
  }
});

check('no slot is freed that is being written to, or was written to again', async () => {
  const bench = await written();
  bench.discard(1, 0, SEGMENT);
  await bench.world.drain();
  bench.flush(2);
  await bench.world.drain(undefined, () => bench.world.find('flush') !== undefined);
  bench.write(3, 2 * BLOCK, BLOCK, 3);
  await bench.world.end(bench.world.find('flush'));
  await bench.world.end(bench.world.find('flush'));
  assert.is(bench.results[3], undefined);
  assert.is(bench.world.find('release'), undefined, 'a write is under way');
  await bench.world.drain();
  bench.flush(4);
  await bench.world.drain();
  for (const member of bench.members) assert.is(bench.image(member)[2 * BLOCK], 3);
  bench.discard(5, 0, SEGMENT);
  await bench.world.drain();
  bench.flush(6);
  await bench.world.drain(undefined, () => bench.world.find('release') !== undefined);
  bench.write(7, BLOCK, BLOCK, 2);
  assert.not.ok(bench.kinds().includes('write'));
  await bench.world.drain();
  assert.is(bench.results[7], BLOCK);
  for (const member of bench.members)
    assert.equal([bench.image(member)[BLOCK], bench.image(member)[2 * BLOCK]], [2, 0]);
});

run();
