/** What a dead writer has sent arrives late, when a block is just about to be made equal: it is not overwritten unseen. */

import * as assert from 'uvu/assert';
import { BLOCK_VALID } from '#strake/layout/block-entry.js';
import type { MemberState } from '#strake/layout/volume-map.js';
import { REQUEST_COPY } from '#strake/ports/segment-request.js';
import { check, run } from '../support/check.js';
import type { ScriptedMember } from '../support/scripted-member.js';
import { BLOCK, type PendingSegmentOperation } from '../support/segment-world.js';
import { VolumeBench, written } from '../support/volume-bench.js';
import { collision } from '../support/weak-checksum.js';

const PAIR: readonly MemberState[] = ['in-sync', 'in-sync'];
/** A stamp's high word, of a generation before that of the engine. */
const HIGH = 2 << 8;
const filled = (value: number) => new Uint8Array(BLOCK).fill(value);

/** Lets a write come late to a member, before the first operation of a kind that is about to change its block there. */
async function arriveBefore(
  { world }: VolumeBench,
  member: ScriptedMember,
  kind: PendingSegmentOperation['kind'],
  stamp: number,
): Promise<void> {
  const found = () => world.pending.find((one) => one.kind === kind && one.member === member);
  await world.drain(undefined, () => found() !== undefined);
  const operation = found();
  assert.ok(operation, 'the block is about to be changed');
  member.put(operation?.stripe ?? 0, operation?.block ?? 0, filled(9), BLOCK_VALID, stamp, HIGH);
  await world.end(operation);
}

const firstByte = (member: ScriptedMember, block = 0) => {
  const content = member.contentOf(0, block);
  return typeof content === 'number' ? content : content[0];
};
const values = ({ members }: VolumeBench, block = 0) => members.map((member) => firstByte(member, block));

check('a start compares anew what has come late', async () => {
  // Of the block on the other side: whether it is stored or zero, and whether the late write is newer.
  for (const [bytes, late, end] of [
    [filled(1), 6, 9],
    [filled(1), 3, 1],
    [null, 6, 9],
    [null, 3, 0],
  ] as const) {
    const bench = new VolumeBench(PAIR, ([one, other]) => {
      one.mark(2, 5);
      other.mark(2, 4);
      one.put(0, 0, bytes, bytes === null ? 3 : BLOCK_VALID, 5, HIGH);
      other.put(0, 0, filled(2), BLOCK_VALID, 4, HIGH);
      for (const member of [one, other]) member.put(0, 1, filled(7), BLOCK_VALID, 2, HIGH);
    });
    const started = bench.engine.start();
    await arriveBefore(bench, bench.members[1], bytes === null ? 'zero' : 'write', late);
    assert.is(firstByte(bench.members[1]), 9, 'it has not been overwritten');
    await bench.world.drain();
    await started;
    assert.equal(values(bench), [end, end]);
  }
});

check('a start compares anew what has come late to a copy of the same entry and other content', async () => {
  const bench = new VolumeBench(PAIR, (members) => {
    for (const [position, member] of members.entries()) {
      for (const block of [0, 1]) {
        const bytes = filled(1 + block);
        member.put(0, block, position === 0 ? bytes : collision(bytes), BLOCK_VALID, 4 + block, HIGH);
      }
      for (const segment of member.slots.values()) segment.dirty = true;
    }
  });
  const started = bench.engine.start();
  await arriveBefore(bench, bench.members[1], 'write', 6);
  await bench.world.drain();
  await started;
  assert.equal(values(bench), [9, 9]);
  assert.equal(bench.image(bench.members[0]), bench.image(bench.members[1]));
});

check('a copy that is brought up to date is compared anew where something has come late', async () => {
  for (const stored of [true, false]) {
    const bench = await written();
    const [, other] = bench.members;
    other.fail = () => -5;
    if (stored) bench.write(0, 0, BLOCK, 3);
    else bench.zero(0, 0, BLOCK);
    await bench.world.drain();
    other.fail = () => undefined;
    bench.engine.attach(0, 1, other);
    await arriveBefore(bench, other, stored ? 'write' : 'zero', 6);
    assert.is(firstByte(other), 9, 'it has not been overwritten');
    await bench.world.drain();
    assert.equal(bench.states(), PAIR);
    assert.equal(values(bench), stored ? [3, 3] : [0, 0]);
    assert.is(bench.engine.status().jobs[0].bytesCopied, BLOCK);
  }
});

check('what has come late to a block that nobody else has is not made unreadable', async () => {
  for (const starting of [true, false]) {
    const prepare = (members: ScriptedMember[]) => {
      for (const [position, member] of members.entries()) {
        member.mark(2, 5 - position);
        member.put(0, 0, filled(1), BLOCK_VALID, 5 - position, HIGH);
        member.rot(0, 0);
      }
    };
    const bench = starting ? new VolumeBench(PAIR, prepare) : await written();
    const [one, other] = bench.members;
    const started = starting ? bench.engine.start() : undefined;
    if (!starting) {
      other.fail = () => -5;
      bench.write(0, 0, BLOCK, 3);
      await bench.world.drain();
      other.fail = () => undefined;
      one.rot(0, 0);
      bench.engine.attach(0, 1, other);
    }
    await arriveBefore(bench, other, 'poison', 6);
    assert.is(firstByte(other), 9, 'it is there still');
    await bench.world.drain();
    await started;
    // A start takes the newest there is; a copy that is brought up to date is compared with one that is current.
    assert.equal(values(bench), starting ? [9, 9] : [-74, -61]);
    assert.equal([bench.states(), bench.engine.status().counters.poisonedBlocks], [PAIR, starting ? 0 : 1]);
  }
});

check('what comes to a bad block while a good copy is read stays', async () => {
  const bench = await written();
  const [one, other] = bench.members;
  one.rot(0, 0);
  for (const tag of [0, 1]) bench.read(tag, 0, BLOCK);
  for (const member of [one, other]) await bench.world.end(bench.world.find('read', member));
  await bench.world.drain(undefined, () => bench.world.find('read', other) !== undefined);
  one.put(0, 0, filled(9), BLOCK_VALID, 6, HIGH);
  await bench.world.drain();
  assert.equal([bench.results[0], bench.results[1]], [BLOCK, BLOCK]);
  assert.equal([firstByte(one), firstByte(other)], [9, 1]);
});

check('what comes to a bad block before it is repaired stays', async () => {
  const bench = await written();
  const [one, other] = bench.members;
  one.rot(0, 0);
  // Reads take turns.
  for (const tag of [0, 1]) bench.read(tag, 0, BLOCK);
  const repairs = () => bench.world.pending.filter(({ flags }) => (flags & REQUEST_COPY) !== 0);
  await bench.world.drain(undefined, () => repairs().length > 0);
  one.put(0, 0, filled(9), BLOCK_VALID, 6, HIGH);
  await bench.world.drain();
  assert.equal([bench.results[0], bench.results[1]], [BLOCK, BLOCK]);
  assert.equal([firstByte(one), firstByte(other)], [9, 1]);
  assert.is(bench.engine.status().counters.repairedBlocks, 0);
  assert.equal(bench.states(), PAIR);
});

run();
