/** Giving back slots that were discarded while a copy was away: when, how, and what must not come between. */

import * as assert from 'uvu/assert';
import { BLOCK_SUSPECT, BLOCK_VALID, BLOCK_ZERO } from '#strake/layout/block-entry.js';
import type { MemberState } from '#strake/layout/volume-map.js';
import { check, run } from '../support/check.js';
import type { ScriptedMember } from '../support/scripted-member.js';
import { BLOCK } from '../support/segment-world.js';
import { makeRecord, SEGMENT, SEGMENT_BLOCKS, SIZE, VolumeBench } from '../support/volume-bench.js';

const PAIR: readonly MemberState[] = ['in-sync', 'in-sync'];
const ZERO = BLOCK_VALID | BLOCK_ZERO;
const HIGH = 2 << 8;

/** A mirror that was written to while one copy was away, and then discarded. */
async function discarded(): Promise<VolumeBench> {
  const bench = await new VolumeBench(PAIR).start();
  bench.members[1].fail = () => -5;
  bench.write(0, 0, SIZE, 1);
  await bench.world.drain();
  assert.equal(bench.states(), ['in-sync', 'offline']);
  bench.members[1].fail = () => undefined;
  bench.discard(1, 0, SIZE);
  await bench.world.drain();
  assert.is(bench.results[1], 0);
  return bench;
}

const slotsOf = ({ members }: VolumeBench) => members.map(({ slots }) => slots.size);
const releases = ({ world }: VolumeBench) =>
  world.pending.filter(({ kind, blocks }) => kind === 'release' && blocks === 0);

/** A mirror whose map says that slots may have to be given back. */
function pending(prepare: (members: ScriptedMember[]) => void): VolumeBench {
  const record = makeRecord(PAIR);
  const groups = record.groups.map((group) =>
    group.map((member) => ({ ...member, since: { generation: 0, flushNumber: 1 } })),
  );
  const put = (members: ScriptedMember[]) => {
    for (const member of members) member.mark(2, 5);
    prepare(members);
  };
  return new VolumeBench(PAIR, put, { record: { ...record, groups } });
}

check('slots are given back once the copy is current, and the next map says that they were', async () => {
  const bench = await discarded();
  assert.is(slotsOf(bench)[0], SIZE / SEGMENT);
  bench.engine.attach(0, 1, bench.members[1]);
  await bench.world.drain();
  assert.equal(bench.states(), PAIR);
  assert.equal(slotsOf(bench), [0, 0]);
  const job = bench.engine.status().jobs.find(({ kind }) => kind === 'reclaim');
  assert.equal([job?.state, job?.group, job?.bytesDone], ['done', 0, job?.bytesTotal]);
  assert.ok(bench.committed.at(-1)?.groups[0].some(({ since }) => since.flushNumber > 0));
  await bench.engine.rename('w');
  assert.ok(bench.committed.at(-1)?.groups[0].every(({ since }) => since.flushNumber === 0));
});

check('a write waits while the slots of its segment are being given back, and gets new ones', async () => {
  const bench = await discarded();
  bench.engine.attach(0, 1, bench.members[1]);
  await bench.world.drain(undefined, () => releases(bench).length > 0);
  const [{ stripe }] = releases(bench);
  bench.write(2, stripe * SEGMENT, BLOCK, 7);
  bench.read(3, stripe * SEGMENT, BLOCK);
  const held = bench.world.pending.filter((one) => one.stripe === stripe && one.member !== null);
  assert.ok(held.every(({ kind }) => kind === 'release'));
  await bench.world.drain();
  assert.is(bench.results[2], BLOCK);
  assert.equal(slotsOf(bench), [1, 1]);
  for (const member of bench.members) assert.is(bench.image(member)[stripe * SEGMENT], 7);
  assert.is(bench.payload(3, 0, 1)[0], 7);
});

check('nothing is given back while a copy is away', async () => {
  const bench = await discarded();
  bench.flush(2);
  await bench.world.drain();
  assert.is(slotsOf(bench)[0], SIZE / SEGMENT);
  const job = bench.engine.scrub();
  await bench.world.drain();
  assert.is(job.progress.state, 'done');
  assert.is(slotsOf(bench)[0], SIZE / SEGMENT);
});

check('what one copy still holds is given back on none', async () => {
  for (const holder of [0, 1]) {
    const bench = await pending((members) =>
      members.forEach((member, position) => {
        member.put(0, 0, position === holder ? new Uint8Array(BLOCK).fill(3) : null, BLOCK_VALID, 5, HIGH);
        if (position !== holder) member.put(0, 0, null, ZERO, 5, HIGH);
        for (let block = 0; block < SEGMENT_BLOCKS; block += 1) member.put(1, block, null, ZERO, 6, HIGH);
      }),
    ).start();
    await bench.world.drain();
    assert.equal(
      bench.members.map((member) => [member.has(0), member.has(1)]),
      [
        [true, false],
        [true, false],
      ],
    );
  }
});

check('a copy on which a slot cannot be given back leaves, and it goes on when that is back', async () => {
  const bench = await discarded();
  const [one, other] = bench.members;
  one.fail = (kind, stripe) => (kind === 'release' && stripe === 2 ? -5 : undefined);
  bench.engine.attach(0, 1, other);
  await bench.world.drain();
  assert.equal(bench.states(), ['offline', 'in-sync']);
  one.fail = () => undefined;
  bench.engine.attach(0, 0, one);
  await bench.world.drain();
  assert.equal(bench.states(), PAIR);
  assert.equal(slotsOf(bench), [0, 0]);
});

/** Ends what is pending that `which` names, and lets promises run. */
async function endAll(
  bench: VolumeBench,
  which: (one: VolumeBench['world']['pending'][number]) => boolean,
): Promise<void> {
  for (let one = bench.world.pending.find(which); one !== undefined; one = bench.world.pending.find(which)) {
    await bench.world.end(one);
  }
}

check('of two discards in one segment the later one counts, whichever ends first', async () => {
  const bench = await new VolumeBench(PAIR).start();
  bench.write(0, 0, 2 * SEGMENT, 1);
  await bench.world.drain();
  const flush = async (tag: number) => {
    bench.flush(tag);
    await endAll(bench, ({ kind, member }) => kind === 'flush' || member === null);
    assert.is(bench.results[tag], 0);
  };
  const half = SEGMENT / 2;
  bench.discard(1, 0, half);
  await flush(2);
  // Both are under the next flush number, and the write is in flight when the flush begins that covers the discards.
  bench.write(3, SEGMENT, BLOCK, 2);
  bench.discard(4, half, half);
  const zeroes = (block: number) => endAll(bench, (one) => one.kind === 'zero' && one.block === block);
  await zeroes(half / BLOCK);
  await zeroes(0);
  await endAll(bench, ({ member }) => member === null);
  assert.equal([bench.results[1], bench.results[3], bench.results[4]], [0, undefined, 0]);
  await flush(5);
  await endAll(bench, ({ kind }) => kind !== 'write');
  assert.ok(
    bench.members.every((member) => member.has(0)),
    'it is given back before what was discarded last is settled',
  );
  await bench.world.drain();
  const released = bench.engine.releaseDiscarded();
  await bench.world.drain();
  await released;
  assert.not.ok(bench.members.some((member) => member.has(0)));
});

check('slots that a damaged copy has kept are given back once a scrub has mended it', async () => {
  const bench = await new VolumeBench(PAIR).start();
  bench.write(0, 0, SEGMENT, 1);
  bench.discard(1, 0, BLOCK);
  bench.flush(2);
  await bench.world.drain();
  const [, damaged] = bench.members;
  damaged.put(0, 0, null, BLOCK_VALID | BLOCK_SUSPECT, 0, 0);
  bench.discard(3, BLOCK, SEGMENT - BLOCK);
  await bench.world.drain();
  bench.flush(4);
  await bench.world.drain();
  assert.equal(slotsOf(bench), [1, 1], 'who cannot tell what a block holds keeps its slot');
  const job = bench.engine.scrub();
  await bench.world.drain();
  assert.is(job.progress.state, 'done');
  assert.is(bench.engine.status().counters.repairedBlocks, 1);
  assert.equal(slotsOf(bench), [0, 0]);
});

check('room is made when what is being given back already is there for others', async () => {
  const bench = await new VolumeBench(PAIR).start();
  bench.write(0, 0, SEGMENT, 1);
  await bench.world.drain();
  bench.discard(1, 0, SEGMENT);
  await bench.world.drain(undefined, () => bench.results[1] !== undefined);
  bench.flush(2);
  await bench.world.drain(undefined, () => releases(bench).length > 0);
  assert.ok(releases(bench).length > 0);
  const made: boolean[] = [];
  const room = bench.engine.releaseDiscarded().then(() => made.push(bench.members.some((member) => member.has(0))));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(made, [], 'room is said to be made while slots are being given back');
  await bench.world.drain();
  await room;
  assert.equal(made, [false]);
});

check('closing ends it, and the next start goes on', async () => {
  const bench = await discarded();
  bench.engine.attach(0, 1, bench.members[1]);
  await bench.world.drain(undefined, () => releases(bench).length > 0);
  const closed = bench.engine.close();
  await bench.world.drain();
  await closed;
  const record = { ...bench.engine.record, generation: 4 };
  const again = await new VolumeBench(
    PAIR,
    (members) =>
      members.forEach((member, position) => {
        for (const [stripe, segment] of bench.members[position].slots) member.slots.set(stripe, segment);
      }),
    { record },
  ).start();
  await again.world.drain();
  assert.equal(slotsOf(again), [0, 0]);
});

check('a copy on which a slot cannot be given back leaves at the start, which goes on with the other', async () => {
  // Without a slot on the first, and with one on both, that a crash has left without anything in it.
  for (const both of [false, true]) {
    const bench = new VolumeBench(PAIR, ([one, other]) => {
      for (const member of both ? [one, other] : [other]) {
        for (let block = 0; block < SEGMENT_BLOCKS; block += 1) member.put(1, block, null, ZERO, both ? 5 : 4, HIGH);
        for (const segment of member.slots.values()) segment.dirty = true;
      }
      other.fail = (kind, stripe) => (kind === 'release' && stripe === 1 ? -5 : undefined);
    });
    await bench.start();
    await bench.world.drain();
    assert.equal(bench.states(), ['in-sync', 'offline']);
    assert.not(bench.members[0].has(1));
    bench.write(0, SEGMENT, BLOCK, 7);
    await bench.world.drain();
    assert.is(bench.results[0], BLOCK);
    assert.is(bench.committed.at(-1)?.groups[0][1].state, 'offline');
  }
});

run();
