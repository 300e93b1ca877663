/** Jobs of a volume: one scrub at a time, and an end within bounded time whatever they wait for. */

import * as assert from 'uvu/assert';
import { COPY_BUFFERS, JOB_STEP_MS } from '#strake/core/limits.js';
import { check, run } from '../support/check.js';
import { turn } from '../support/segment-world.js';
import { SEGMENT, SIZE, VolumeBench } from '../support/volume-bench.js';

const PAIR = ['in-sync', 'in-sync'] as const;
/** One segment takes a quarter of an hour. */
const SLOWLY = { bytesPerSecond: 16 };

type Options = ConstructorParameters<typeof VolumeBench>;
type Written = [states: Options[0], options?: Options[2], missing?: Options[3]];

/** A volume with all its segments written. */
async function written(...[states, options, missing]: Written) {
  const bench = await new VolumeBench(states, () => {}, options, missing).start();
  bench.write(0, 0, SIZE, 1);
  await bench.world.drain();
  assert.is(bench.results[0], SIZE);
  return bench;
}

/** Lets a promise come to its end, and returns how long that took in the world's time. */
async function timeOf(bench: VolumeBench, promise: Promise<unknown>): Promise<number> {
  const { world } = bench;
  const before = world.timeMs;
  let over = false;
  void promise.finally(() => {
    over = true;
  });
  await world.drain(undefined, () => over);
  assert.ok(over);
  await promise;
  return world.timeMs - before;
}

check('a job that waits for its rate has ended as soon as it is cancelled, and is over soon after', [], async () => {
  const bench = await written(PAIR);
  const job = bench.engine.scrub(SLOWLY);
  // The first bytes cost nothing; the next ones wait.
  await bench.world.drain(undefined, () => bench.world.timeMs > 500);
  assert.ok(job.running);
  job.cancel();
  await job.ended;
  assert.equal([job.progress.state, job.progress.reason], ['cancelled', 'it was cancelled']);
  assert.ok((await timeOf(bench, job.unwound)) <= 2 * JOB_STEP_MS);
});

check('a volume is closed soon though a job of it waits for its rate', [], async () => {
  const bench = await written(PAIR);
  const job = bench.engine.scrub(SLOWLY);
  await bench.world.drain(undefined, () => bench.world.timeMs > 500);
  assert.ok((await timeOf(bench, bench.engine.close())) <= 2 * JOB_STEP_MS);
  assert.equal([job.progress.state, job.progress.reason], ['cancelled', 'the volume is being stopped']);
  const ends = bench.events.filter(({ kind }) => kind === 'job-ended');
  assert.is(ends.length, 1);
});

check('a volume is scrubbed by one job at a time', [], async () => {
  const bench = await written(PAIR);
  const first = bench.engine.scrub(SLOWLY);
  assert.throws(() => bench.engine.scrub(), /job 1 is scrubbing/);
  first.cancel();
  assert.throws(() => bench.engine.scrub(), /was cancelled, still waits/);
  await timeOf(bench, first.unwound);
  const second = bench.engine.scrub();
  await timeOf(bench, second.ended);
  assert.equal([second.id, second.progress.state, second.progress.bytesDone], [2, 'done', SIZE]);
});

check('a job that waits for a buffer of another volume ends when it is cancelled', [], async () => {
  const bench = await written(PAIR);
  const ends: (() => void)[] = [];
  const held = Array.from({ length: COPY_BUFFERS }, () =>
    bench.buffers.withBuffer(() => new Promise<void>((resolve) => ends.push(resolve))),
  );
  const job = bench.engine.scrub();
  await turn();
  assert.is(bench.world.pending.length, 0);
  job.cancel();
  await job.unwound;
  for (const end of ends) end();
  await Promise.all(held);
  const next = bench.engine.scrub();
  await timeOf(bench, next.ended);
  assert.is(next.progress.state, 'done');
});

check(
  'a job whose device hangs has ended when it is cancelled, and keeps its place until the device is given up',
  [],
  async () => {
    const bench = await written(PAIR);
    const job = bench.engine.scrub();
    await turn();
    const reads = bench.world.pending.filter(({ kind }) => kind === 'read');
    assert.ok(reads.length > 0);
    job.cancel();
    await job.ended;
    assert.is(job.progress.state, 'cancelled');
    assert.throws(() => bench.engine.scrub(), /still waits for a device/);
    const { length } = bench.world.pending;
    for (const read of reads) await bench.world.end(read);
    await job.unwound;
    assert.is(length - reads.length, bench.world.pending.length, 'it has begun nothing more');
  },
);

check(
  'a copy whose resync is cancelled is offline, and brought up to date when that is asked for again',
  [],
  async () => {
    const resync: { bytesPerSecond?: number } = { ...SLOWLY };
    const bench = await written(['in-sync', 'offline'], { resync }, [1]);
    const [, member] = bench.members;
    const { incarnation } = member;
    const job = bench.engine.attach(0, 1, member);
    await bench.world.drain(undefined, () => bench.world.timeMs > 500);
    assert.equal([job.running, bench.states()], [true, ['in-sync', 'syncing']]);
    assert.ok(await bench.engine.resume(0, 1, incarnation), 'it goes on already');
    assert.is(bench.engine.status().jobs.length, 1);
    job.cancel();
    assert.ok(bench.engine.isSynced(0, 1), 'it is not over yet');
    await timeOf(bench, job.unwound);
    await bench.world.drain();
    assert.equal([bench.states(), bench.engine.isSynced(0, 1)], [['in-sync', 'offline'], false]);
    assert.is(await bench.engine.resume(0, 1, incarnation + 1), false, 'another life of the device needs a new member');
    delete resync.bytesPerSecond;
    assert.ok(await bench.engine.resume(0, 1, incarnation));
    await bench.world.drain();
    assert.equal(bench.states(), ['in-sync', 'in-sync']);
    assert.ok(await bench.engine.resume(0, 1, incarnation), 'there is nothing to do');
    assert.equal(bench.image(bench.members[0]), bench.image(bench.members[1]));
  },
);

check('progress of a job never goes back', [], async () => {
  const bench = await written(PAIR);
  const job = bench.engine.scrub({ bytesPerSecond: SEGMENT });
  let last = 0;
  await bench.world.drain(undefined, () => {
    const { bytesDone, bytesTotal } = job.progress;
    assert.ok(bytesDone >= last && bytesDone <= bytesTotal);
    last = bytesDone;
    return !job.running;
  });
  assert.is(job.progress.bytesDone, SIZE);
  assert.ok(job.progress.elapsedMs >= 1000);
});

run();
