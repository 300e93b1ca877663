/** Bringing members up to date: one that comes back, one that is replaced, and what scrubbing mends. */

import * as assert from 'uvu/assert';
import type { Job } from '#strake/client/jobs/job.js';
import { BLOCK_VALID } from '#strake/layout/block-entry.js';
import type { MemberState } from '#strake/layout/volume-map.js';
import { check, run } from '../support/check.js';
import { ScriptedMember } from '../support/scripted-member.js';
import { BLOCK, turn } from '../support/segment-world.js';
import { assertEqual, deviceId, makeRecord, SEGMENT, SEGMENT_BLOCKS, VolumeBench } from '../support/volume-bench.js';
import { checksum } from '../support/weak-checksum.js';

const PAIR: readonly MemberState[] = ['in-sync', 'in-sync'];
const HIGH = 3 << 8;

check(
  'members missing at the start are offline before anything is served; without a current one nothing is',
  async () => {
    const bench = await new VolumeBench(PAIR, undefined, undefined, [1]).start();
    assert.equal(bench.states(), ['in-sync', 'offline']);
    assert.is(bench.committed.length, 1);
    bench.write(0, 0, BLOCK, 4);
    await bench.world.drain();
    assert.is(bench.results[0], BLOCK);
    const stale = await new VolumeBench(['offline', 'offline']).start().catch((error) => error);
    assert.is(stale.code, 'ERR_STRAKE_UNAVAILABLE');
  },
);

/** A volume whose second member has missed writes. */
async function parted(): Promise<VolumeBench> {
  const bench = await new VolumeBench(PAIR).start();
  bench.write(0, 0, 3 * SEGMENT, 1);
  await bench.world.drain();
  bench.flush(1);
  await bench.world.drain();
  bench.flush(2);
  await bench.world.drain();
  bench.members[1].fail = () => -5;
  bench.write(3, 0, BLOCK, 2);
  await bench.world.drain();
  bench.write(4, 3 * SEGMENT, BLOCK, 3);
  bench.discard(5, SEGMENT, SEGMENT);
  await bench.world.drain();
  assert.equal(bench.results.slice(3, 6), [BLOCK, BLOCK, 0]);
  assert.is(bench.states()[1], 'offline');
  bench.members[1].fail = () => undefined;
  return bench;
}

check('a member that comes back gets what it missed, and only that', async () => {
  const bench = await parted();
  const job = bench.engine.attach(0, 1, bench.members[1]);
  await bench.world.drain();
  await job.ended;
  assert.equal(bench.states(), PAIR);
  assertEqual(bench);
  const { state, bytesCopied, segmentsDone, segmentsTotal, kind } = job.progress;
  assert.equal([state, kind, bytesCopied], ['done', 'resync', (2 + SEGMENT_BLOCKS) * BLOCK]);
  assert.equal([segmentsDone, segmentsTotal], [3, 3], 'the segment that was not written since is no candidate');
});

check('what was being modified when its device was closed is compared, however long ago that was', async () => {
  for (const side of [0, 1]) {
    const bench = await parted();
    const segment = bench.members[side].slots.get(2);
    if (segment === undefined) throw new Error('no segment');
    segment.dirty = true;
    bench.members[1].put(2, 0, new Uint8Array(BLOCK).fill(9), BLOCK_VALID, 1, HIGH);
    Object.assign(bench.members[1].slots.get(2) ?? {}, {
      generation: bench.members[0].slots.get(2)?.generation,
      flushNumber: bench.members[0].slots.get(2)?.flushNumber,
    });
    const job = bench.engine.attach(0, 1, bench.members[1]);
    await bench.world.drain();
    await job.ended;
    assertEqual(bench);
  }
});

/** Blocks that begin as asked and have all the same checksum. */
function sameChecksum(value: number): Uint8Array {
  const words = new Uint32Array(BLOCK / 4).fill(value);
  // The checksum of members in tests is FNV-1a by words: the last but one has no effect if the last undoes it.
  const before = checksum(new Uint8Array(words.buffer, 0, BLOCK - 4));
  words[words.length - 1] = before ^ 0x5a5a5a5a;
  return new Uint8Array(words.buffer);
}

check('content is compared where the volume was opened without the member: entries may not tell', async () => {
  assert.is(checksum(sameChecksum(1)), checksum(sameChecksum(2)));
  const bench = await new VolumeBench(
    PAIR,
    ([one, other]) => {
      // A write of twos was under way at the crash: it is on the first copy, and its entry has not been recorded.
      for (const [member, value] of [
        [one, 2],
        [other, 1],
      ] as const) {
        member.put(0, 0, sameChecksum(9), BLOCK_VALID, 4, HIGH);
        member.put(0, 1, sameChecksum(value), BLOCK_VALID, 5, HIGH);
        for (const segment of member.slots.values()) segment.dirty = true;
      }
      other.rot(0, 0);
    },
    undefined,
    [1],
  ).start();
  const job = bench.engine.attach(0, 1, bench.members[1]);
  await bench.world.drain();
  await job.ended;
  assert.equal(bench.states(), PAIR);
  const [one, other] = bench.members.map((member) => member.contentOf(0, 1) as Uint8Array);
  assert.equal([one[0], other[0]], [2, 2]);
  assert.is(job.progress.bytesCopied, BLOCK, 'and only what differs is copied');
});

check('an older image of a device is compared in full', async () => {
  for (const older of ['incarnation', 'content']) {
    const bench = await parted();
    const [, member] = bench.members;
    // Segment 2 looks as if it were current, and is not.
    const segment = member.slots.get(2);
    if (segment === undefined) throw new Error('no segment');
    segment.entries[2] -= 1;
    if (older === 'incarnation') member.incarnation -= 1;
    else for (const each of member.slots.values()) each.flushNumber = 0;
    const job = bench.engine.attach(0, 1, member);
    await bench.world.drain();
    await job.ended;
    assertEqual(bench);
    assert.equal(await member.entries(2), await bench.members[0].entries(2));
    assert.is(job.progress.segmentsTotal, 4);
  }
});

check('writes that began before the member was syncing end before anything is compared', async () => {
  const bench = await parted();
  let allow = () => {};
  bench.commit = () =>
    new Promise((resolve) => {
      allow = resolve;
    });
  const job = bench.engine.attach(0, 1, bench.members[1]);
  await turn();
  bench.write(6, 2 * SEGMENT, BLOCK, 9);
  const early = bench.world.find('write');
  bench.commit = async () => {};
  allow();
  await bench.world.drain(
    (count) => count - 1,
    () => bench.world.pending.length === 1,
  );
  assert.is(job.progress.state, 'running');
  assert.is(bench.states()[1], 'syncing');
  await bench.world.end(early);
  await bench.world.drain();
  await job.ended;
  assert.equal(bench.states(), PAIR);
  assertEqual(bench);
});

check('what failed on a member before it left is not held against it when it is back', async () => {
  for (const kind of ['write', 'flush'] as const) {
    const bench = await new VolumeBench(PAIR).start();
    const { members, world } = bench;
    bench.write(0, 0, 2 * SEGMENT, 1);
    await world.drain();
    if (kind === 'write') bench.write(1, 0, BLOCK, 2);
    else bench.flush(1);
    const slow = world.find(kind, members[0]);
    members[1].fail = () => -5;
    bench.write(2, SEGMENT, BLOCK, 3);
    await world.end(world.find(kind, members[1]), -5);
    const others = () => world.pending.length === 1;
    await world.drain((count) => count - 1, others);
    assert.equal(bench.results, [2 * SEGMENT, undefined, BLOCK]);
    assert.is(bench.states()[1], 'offline');
    members[1].fail = () => undefined;
    const job = bench.engine.attach(0, 1, members[1]);
    await turn();
    await world.drain((count) => count - 1, others);
    await world.end(slow);
    await world.drain();
    await job.ended;
    assert.is(job.progress.state, 'done', `${kind}: ${job.progress.reason}`);
    assert.is(bench.results[1], kind === 'write' ? BLOCK : 0);
    assert.equal(bench.states(), PAIR);
    assertEqual(bench);
  }
});

check(
  'a resync that fails or is cancelled leaves the member offline, and the next one starts where it did',
  async () => {
    for (const how of ['write', 'flush', 'cancel', 'incarnation'] as const) {
      const bench = await parted();
      const [, member] = bench.members;
      const { since } = bench.engine.record.groups[0][1];
      for (const tag of [6, 7]) {
        bench.flush(tag);
        await bench.world.drain();
      }
      if (how === 'write' || how === 'flush') member.fail = (kind) => (kind === how ? -5 : undefined);
      let job: Job = bench.engine.attach(0, 1, member);
      await turn();
      if (how === 'cancel') job.cancel();
      if (how === 'incarnation') member.incarnation += 1;
      await bench.world.drain();
      await job.ended;
      await turn();
      assert.is(job.progress.state, how === 'cancel' ? 'cancelled' : 'failed', how);
      assert.is(bench.states()[1], 'offline');
      assert.equal(bench.engine.record.groups[0][1].since, since);
      member.fail = () => undefined;
      job = bench.engine.attach(0, 1, member);
      await bench.world.drain();
      await job.ended;
      assert.equal(bench.states(), PAIR);
      assertEqual(bench);
    }
  },
);

check('a block that no source can read becomes poison on the target, never zeroes', async () => {
  const bench = await parted();
  bench.members[0].rot(0, 0);
  const job = bench.engine.attach(0, 1, bench.members[1]);
  await bench.world.drain();
  await job.ended;
  assert.is(bench.members[1].contentOf(0, 0), -61);
  assert.is(bench.engine.status().counters.poisonedBlocks, 1);
  bench.read(9, 0, BLOCK);
  await bench.world.drain();
  assert.is(bench.results[9], -5);
});

check('a source that vanishes ends the resync instead of poisoning the target', async () => {
  const bench = await parted();
  bench.members[0].fail = () => -5;
  bench.members[0].fenced = 2;
  const job = bench.engine.attach(0, 1, bench.members[1]);
  await bench.world.drain();
  await job.ended;
  assert.is(job.progress.state, 'failed');
  assert.is(bench.engine.status().counters.poisonedBlocks, 0);
  assert.equal(bench.states(), ['in-sync', 'offline']);
});

check('a replacement is rebuilt whole, and the volume closes cleanly', async () => {
  const bench = await parted();
  const fresh = new ScriptedMember(bench.world, deviceId(8), SEGMENT);
  const started = bench.engine.replace(0, 1, deviceId(8), fresh);
  await turn();
  const job = await started;
  await bench.world.drain();
  await job.ended;
  assert.equal([job.progress.kind, job.progress.state], ['rebuild', 'done']);
  assert.equal(bench.states(), PAIR);
  assert.is(Buffer.compare(bench.image(bench.members[0]), bench.image(fresh)), 0);
  assert.is(bench.engine.record.groups[0][1].deviceId, deviceId(8));
  const closed = bench.engine.close();
  await bench.world.drain();
  await closed;
});

check('a target without space for what others have leaves the map; writes go on', async () => {
  const bench = await parted();
  bench.members[1].capacity = 3;
  const job = bench.engine.attach(0, 1, bench.members[1]);
  await turn();
  bench.write(9, 3 * SEGMENT, BLOCK, 5);
  await bench.world.drain();
  await job.ended;
  await bench.world.drain();
  assert.is(bench.results[9], BLOCK);
  assert.is(bench.states()[1], 'offline');
});

check('a rate is kept', async () => {
  const options = { resync: { bytesPerSecond: SEGMENT }, record: makeRecord(PAIR) };
  const bench = await new VolumeBench(PAIR, undefined, options).start();
  bench.members[1].fail = () => -5;
  bench.write(0, 0, 4 * SEGMENT, 1);
  await bench.world.drain();
  assert.is(bench.results[0], 4 * SEGMENT, 'slots that fail on one member after another are no error');
  bench.members[1].fail = () => undefined;
  const before = bench.world.timeMs;
  const job = bench.engine.attach(0, 1, bench.members[1]);
  await bench.world.drain();
  assert.equal(bench.states(), PAIR);
  assert.is(job.progress.bytesCopied, 4 * SEGMENT);
  assert.ok(bench.world.timeMs - before >= 3000, `${bench.world.timeMs - before} ms`);
});

check('scrubbing mends what has rotted on any member, and counts what is lost', async () => {
  const bench = await new VolumeBench(PAIR).start();
  bench.write(0, 0, 2 * SEGMENT, 1);
  await bench.world.drain();
  bench.members[0].rot(0, 1);
  bench.members[1].rot(1, 3);
  const { flushNumber } = bench.members[0];
  const job = bench.engine.scrub();
  await bench.world.drain();
  await job.ended;
  // A power cut now must not bring back what was bad.
  assert.ok(bench.members.every((member) => member.flushNumber === flushNumber + 1));
  assertEqual(bench);
  assert.equal([job.progress.state, job.progress.segmentsDone], ['done', 2]);
  assert.is(bench.engine.status().counters.repairedBlocks, 2);
  for (const member of bench.members) member.rot(0, 2);
  const second = bench.engine.scrub();
  await bench.world.drain();
  await second.ended;
  assert.is(second.progress.state, 'done');
  assert.ok(bench.engine.status().counters.unrecoverableBlocks >= 1);
});

run();
