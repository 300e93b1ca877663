/** Making the members that are current agree when a volume starts. */

import * as assert from 'uvu/assert';
import { BLOCK_POISON, BLOCK_SUSPECT, BLOCK_VALID, BLOCK_ZERO } from '#strake/layout/block-entry.js';
import type { MemberState } from '#strake/layout/volume-map.js';
import { check, run } from '../support/check.js';
import type { ScriptedMember } from '../support/scripted-member.js';
import { BLOCK } from '../support/segment-world.js';
import { assertEqual, SEGMENT, VolumeBench } from '../support/volume-bench.js';
import { collision } from '../support/weak-checksum.js';

const PAIR: readonly MemberState[] = ['in-sync', 'in-sync'];
const HIGH = 3 << 8;
const SUSPECT = BLOCK_VALID | BLOCK_SUSPECT;

/** One copy of a block: flags, stamp, the value of its bytes, and whether they have rotted. */
interface Copy {
  readonly flags: number;
  readonly stamp: number;
  readonly value: number;
  readonly rotten?: boolean;
  /** Its member lacks a flush that others remember. */
  readonly behind?: boolean;
}

interface Case {
  readonly name: string;
  readonly copies: readonly Copy[];
  /** What all copies give in the end: a value, or an error. */
  readonly expected: number;
  readonly accepted?: number;
  readonly poisoned?: number;
}

const valid = (stamp: number, value: number): Copy => ({ flags: BLOCK_VALID, stamp, value });
const suspect = (stamp: number, value: number): Copy => ({ flags: SUSPECT, stamp, value });
const poison: Copy = { flags: BLOCK_POISON, stamp: 5, value: 0 };
const never: Copy = { flags: 0, stamp: 0, value: 0 };
const rotten = (stamp: number): Copy => ({ ...valid(stamp, 9), rotten: true });
const behind = (copy: Copy): Copy => ({ ...copy, behind: true });

const CASES: readonly Case[] = [
  { name: 'equal copies stay', copies: [valid(5, 1), valid(5, 1)], expected: 1 },
  { name: 'the highest stamp wins, first', copies: [valid(6, 2), valid(5, 1)], expected: 2 },
  { name: 'the highest stamp wins, second', copies: [valid(5, 1), valid(6, 2)], expected: 2 },
  { name: 'the highest of three wins', copies: [valid(5, 1), valid(7, 3), valid(6, 2)], expected: 3 },
  { name: 'written beats never written', copies: [never, valid(5, 1)], expected: 1 },
  {
    name: 'zeroed later wins',
    copies: [valid(5, 1), { flags: BLOCK_VALID | BLOCK_ZERO, stamp: 6, value: 0 }],
    expected: 0,
  },
  { name: 'a copy beyond doubt beats a newer one in doubt', copies: [suspect(6, 2), valid(5, 1)], expected: 1 },
  { name: 'a rotten copy loses though it is newer', copies: [rotten(6), valid(5, 1)], expected: 1 },
  {
    name: 'zeroes in doubt lose too',
    copies: [{ flags: SUSPECT | BLOCK_ZERO, stamp: 6, value: 0 }, valid(5, 1)],
    expected: 1,
  },
  { name: 'all in doubt: the first is accepted', copies: [suspect(5, 1), suspect(6, 2)], expected: 1, accepted: 1 },
  { name: 'in doubt beats rotten', copies: [rotten(6), suspect(5, 1)], expected: 1, accepted: 1 },
  { name: 'a single copy in doubt is accepted', copies: [suspect(5, 1)], expected: 1, accepted: 1 },
  { name: 'a good copy heals poison', copies: [poison, valid(4, 1)], expected: 1 },
  { name: 'poison without a good copy stays poison', copies: [poison, rotten(6)], expected: -61, poisoned: 1 },
  { name: 'what a member behind has alone does not count', copies: [never, behind(valid(5, 1))], expected: 0 },
  { name: 'nor does what it has newer', copies: [behind(valid(6, 2)), valid(5, 1)], expected: 1 },
  { name: 'nor what it has older', copies: [behind(valid(5, 1)), suspect(6, 2)], expected: 2, accepted: 1 },
  { name: 'a member behind helps out for what is rotten', copies: [rotten(5), behind(valid(5, 1))], expected: 1 },
  { name: 'a member behind helps out for what is in doubt', copies: [suspect(5, 2), behind(valid(5, 1))], expected: 1 },
  { name: 'what it has older is better than nothing', copies: [rotten(6), behind(valid(5, 1))], expected: 1 },
  { name: 'but not than zeroes', copies: [never, behind(valid(5, 1))], expected: 0 },
  { name: 'it gets what it lacks', copies: [behind(never), valid(5, 1)], expected: 1 },
  { name: 'rotten everywhere becomes poison', copies: [rotten(5), rotten(6)], expected: -61, poisoned: 1 },
];

function put(member: ScriptedMember, block: number, { flags, stamp, value, rotten: isRotten }: Copy): void {
  const stored = (flags & BLOCK_VALID) !== 0 && (flags & BLOCK_ZERO) === 0;
  member.put(0, block, stored ? new Uint8Array(BLOCK).fill(value) : null, flags, stamp, stamp === 0 ? 0 : HIGH);
  if (isRotten) member.rot(0, block);
}

for (const { name, copies, expected, accepted = 0, poisoned = 0 } of CASES) {
  check(`reconciling: ${name}`, async () => {
    const bench = await new VolumeBench(
      copies.map(() => 'in-sync'),
      (members) =>
        members.forEach((member, position) => {
          put(member, 0, valid(3, 8));
          put(member, 2, copies[position]);
          member.flushed = { generation: 2, flushNumber: copies[position].behind ? 4 : 5 };
          for (const segment of member.slots.values()) segment.dirty = true;
        }),
    ).start();
    for (const member of bench.members) {
      const content = member.contentOf(0, 2);
      assert.is(typeof content === 'number' ? content : content[5], expected);
      assert.is((member.contentOf(0, 0) as Uint8Array)[0], 8);
      assert.not(member.slots.get(0)?.dirty);
    }
    const { counters } = bench.engine.status();
    assert.equal([counters.acceptedSuspects, counters.poisonedBlocks], [accepted, poisoned]);
    bench.write(0, 0, BLOCK, 4);
    await bench.world.drain();
    const entries = await bench.members[0].entries(0);
    assert.ok(entries[2] > Math.max(3, ...copies.map(({ stamp }) => stamp)), 'new stamps are above all that are there');
  });
}

check('reconciling: segments on one side only, and recorded at different points, are compared too', async () => {
  const bench = await new VolumeBench(PAIR, ([one, other]) => {
    put(one, 1, valid(5, 3));
    other.make(1);
    for (const member of [one, other]) member.put(2, 0, new Uint8Array(BLOCK).fill(1), BLOCK_VALID, 5, HIGH);
    other.mark(3, 9);
    other.put(2, 0, new Uint8Array(BLOCK).fill(2), BLOCK_VALID, 6, HIGH);
  }).start();
  const [one, other] = bench.members;
  assert.is(Buffer.compare(bench.image(one), bench.image(other)), 0);
  assert.equal([bench.image(one)[BLOCK], bench.image(one)[2 * SEGMENT]], [3, 2]);
  assert.equal([one.has(1), other.has(1)], [false, false], 'an empty slot on one side is given back');
  assert.ok(bench.engine.status().flushNumber > 9);
});

check('members remember the flush before a segment is given back, and the one before they become current', async () => {
  const bench = await new VolumeBench(PAIR).start();
  const marks = () => bench.members.map(({ flushed }) => flushed);
  const flush = async (tag: number) => {
    bench.flush(tag);
    await bench.world.drain();
    return { generation: 3, flushNumber: bench.engine.status().flushNumber };
  };
  const [atStart] = marks();
  assert.equal(marks(), [atStart, atStart]);
  bench.write(0, 0, SEGMENT, 1);
  await bench.world.drain();
  await flush(1);
  assert.equal(marks(), [atStart, atStart], 'a write leaves traces of its own');
  bench.discard(2, 0, SEGMENT);
  await bench.world.drain();
  const second = await flush(3);
  assert.equal(marks(), [second, second]);
  await flush(4);
  assert.equal(marks(), [second, second]);
  bench.members[1].fail = () => -5;
  bench.write(5, 0, BLOCK, 2);
  await bench.world.drain();
  bench.members[1].fail = () => undefined;
  bench.engine.attach(0, 1, bench.members[1]);
  await bench.world.drain();
  const { flushNumber } = bench.engine.status();
  const promoted = { generation: 3, flushNumber };
  assert.equal([bench.states(), marks()], [PAIR, [promoted, promoted]]);
});

check('reconciling: content that differs although stamp and checksum are equal becomes that of the first', async () => {
  const first = new Uint8Array(BLOCK).fill(7);
  const bench = await new VolumeBench(PAIR, (members) =>
    [first, collision(first)].forEach((content, position) => {
      members[position].put(0, 2, content, BLOCK_VALID, 5, HIGH);
      for (const segment of members[position].slots.values()) segment.dirty = true;
    }),
  ).start();
  for (const member of bench.members) assert.is(Buffer.compare(member.contentOf(0, 2) as Uint8Array, first), 0);
  assert.is(bench.engine.status().counters.reconciledBlocks, 1);
});

check(
  'reconciling: a segment that only a member behind has was given back; one that only others have was not',
  async () => {
    for (const late of [0, 1]) {
      const bench = await new VolumeBench(PAIR, (members) => {
        put(members[late], 1, valid(5, 3));
        members[1 - late].put(2, 0, new Uint8Array(BLOCK).fill(4), BLOCK_VALID, 5, HIGH);
        members.forEach((member, position) => {
          member.flushed = { generation: position === late ? 2 : 3, flushNumber: position === late ? 9 : 1 };
        });
      }).start();
      assertEqual(bench);
      assert.equal(
        bench.members.map((member) => [member.has(0), member.has(2)]),
        [
          [false, true],
          [false, true],
        ],
      );
      assert.is(bench.image(bench.members[0])[2 * SEGMENT], 4);
    }
  },
);

check(
  'reconciling: of a member behind everything since its flush is compared, though recorded at the same point',
  async () => {
    const bench = await new VolumeBench(PAIR, (members) =>
      members.forEach((member, position) => {
        member.flushed = { generation: 1, flushNumber: 5 + position };
        member.mark(1, 5);
        member.put(0, 1, new Uint8Array(BLOCK).fill(position), BLOCK_VALID, 5 + position, HIGH);
        member.mark(1, 4);
        member.put(1, 1, new Uint8Array(BLOCK).fill(position), BLOCK_VALID, 5 + position, HIGH);
      }),
    ).start();
    const [one, other] = bench.members.map((member) => bench.image(member));
    assert.equal([one[BLOCK], other[BLOCK]], [1, 1]);
    assert.equal([one[SEGMENT + BLOCK], other[SEGMENT + BLOCK]], [0, 1], 'what both agreed on before is left alone');
  },
);

run();
