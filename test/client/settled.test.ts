/** What an engine tells its members to be settled: only what is durable everywhere, and only those that have it. */

import * as assert from 'uvu/assert';
import { type FlushId, isBefore } from '#strake/layout/flush-id.js';
import type { MemberState } from '#strake/layout/volume-map.js';
import { check, run } from '../support/check.js';
import type { ScriptedMember } from '../support/scripted-member.js';
import { BLOCK } from '../support/segment-world.js';
import { makeRecord, SEGMENT, VolumeBench } from '../support/volume-bench.js';

const PAIR: readonly MemberState[] = ['in-sync', 'in-sync'];

async function serving(states = PAIR): Promise<VolumeBench> {
  const bench = await new VolumeBench(states).start();
  await bench.world.drain();
  return bench;
}

async function write(bench: VolumeBench, tag: number): Promise<void> {
  bench.write(tag, 0, BLOCK, tag + 1);
  await bench.world.drain();
  assert.is(bench.results[tag], BLOCK);
}

/** Whether the segment that is written to was last modified before what a member knows to be settled. */
function isSettled({ slots, settled }: ScriptedMember): boolean {
  const segment = slots.get(0);
  return settled !== null && segment !== undefined && isBefore(segment, settled);
}

check('a flush tells what an earlier one has made durable, and nothing of what it covers itself', async () => {
  const bench = await serving();
  await write(bench, 0);
  const [one, other] = bench.members;
  bench.flush(1);
  // One member has flushed, and the other may fail yet.
  await bench.world.end(bench.world.find('flush', one));
  assert.not(isSettled(one), 'while the flush runs');
  await bench.world.drain();
  assert.is(bench.results[1], 0);
  assert.equal([isSettled(one), isSettled(other)], [false, false], 'nobody has been told that it has ended');
  bench.flush(2);
  await bench.world.drain();
  assert.equal([isSettled(one), isSettled(other)], [true, true]);
});

check('a flush that fails settles nothing', async () => {
  const bench = await serving(['in-sync']);
  await write(bench, 0);
  const [one] = bench.members;
  // What it had is lost, perhaps.
  one.incarnation += 1;
  for (const tag of [1, 2]) {
    bench.flush(tag);
    await bench.world.drain();
  }
  assert.equal([bench.results[1], bench.results[2]], [-5, 0]);
  assert.not(isSettled(one));
});

check('a volume that is closed flushes what no flush has covered, and tells that all is settled', async () => {
  await closedWith(false);
  await closedWith(true);
});

/** `late`: the last write ends when no other requests are accepted. */
async function closedWith(late: boolean): Promise<void> {
  const bench = await serving();
  await write(bench, 0);
  bench.flush(1);
  await bench.world.drain();
  if (late) bench.write(2, 0, BLOCK, 3);
  else await write(bench, 2);
  let closed = false;
  bench.engine.close().then(() => {
    closed = true;
  });
  await bench.world.drain(undefined, () => closed);
  assert.equal(bench.members.map(isSettled), [true, true]);
}

check('discards keep what is settled low while their slots are kept, unless the map tells of them', async () => {
  const states: readonly MemberState[] = ['in-sync', 'offline'];
  for (const [flushNumber, told] of [
    [1000, false],
    [1, true],
  ] as const) {
    const record = makeRecord(states);
    const { generation } = record;
    const groups = record.groups.map((group) =>
      group.map((member) => (member.state === 'offline' ? { ...member, since: { generation, flushNumber } } : member)),
    );
    const bench = await new VolumeBench(states, () => {}, { record: { ...record, groups } }, [1]).start();
    await bench.world.drain();
    await write(bench, 0);
    bench.discard(1, 0, SEGMENT);
    for (const tag of [2, 3, 4]) {
      await bench.world.drain();
      bench.flush(tag);
    }
    await bench.world.drain();
    const [one] = bench.members;
    assert.ok(one.has(0), 'the copy that is away has to learn of it');
    assert.is(isSettled(one), told);
  }
});

check('a member that is being brought up to date is told when it is equal, and not before', async () => {
  const bench = await serving();
  const [one, other] = bench.members;
  other.fail = (kind) => (kind === 'write' ? -5 : undefined);
  await write(bench, 0);
  assert.equal(bench.engine.record.groups[0][1].state, 'offline');
  other.fail = () => undefined;
  other.settled = null;
  const told: (FlushId | null)[] = [];
  const flushes = async (tags: readonly number[]) => {
    for (const tag of tags) {
      bench.flush(tag);
      await bench.world.drain(undefined, () => bench.results[tag] !== undefined);
    }
  };
  const states: MemberState[] = [];
  bench.commit = async () => {
    states.push(bench.engine.record.groups[0][1].state);
    told.push(other.settled);
  };
  const job = bench.engine.attach(0, 1, other);
  await bench.world.drain(undefined, () => bench.engine.record.groups[0][1].state === 'syncing');
  await flushes([1, 2]);
  assert.ok(isSettled(one));
  await bench.world.drain(undefined, () => job.progress.state === 'done');
  assert.equal(told, [null, null], `while it was ${states.join(' and ')}`);
  await bench.world.drain();
  assert.ok(isSettled(other));
  assert.equal(other.settled, one.settled);
});

run();
