/** Which segments are compared: what lists and digests of members tell, and how little of them is asked for. */

import * as assert from 'uvu/assert';
import { BLOCK_VALID } from '#strake/layout/block-entry.js';
import type { MemberState } from '#strake/layout/volume-map.js';
import { DIGEST_CHUNKS } from '#strake/ports/limits.js';
import { LIST_ALL, LIST_DIGESTS, LIST_SINCE, LIST_ZERO, type SegmentList } from '#strake/ports/segment-list.js';
import { check, run } from '../support/check.js';
import type { ScriptedMember } from '../support/scripted-member.js';
import { BLOCK } from '../support/segment-world.js';
import { makeRecord, SEGMENT, VolumeBench } from '../support/volume-bench.js';

const PAIR: readonly MemberState[] = ['in-sync', 'in-sync'];
/** A stamp's high word, of a generation before that of the engine. */
const HIGH = 2 << 8;
/** Two segments of the first range, and one of each of the next two. */
const STRIPES = [0, 3, DIGEST_CHUNKS + 1, 2 * DIGEST_CHUNKS + 5];
/** All that there is has been settled long ago. */
const SETTLED = { generation: 2, flushNumber: 9 };
const WRITTEN = { generation: 2, flushNumber: 4 };

const NAMES: string[] = [];
NAMES[LIST_ALL] = 'all';
NAMES[LIST_SINCE] = 'since';
NAMES[LIST_DIGESTS] = 'digests';

const filled = (value: number) => new Uint8Array(BLOCK).fill(value);

/** Puts the same into all segments of both members. */
function alike(members: readonly ScriptedMember[]): void {
  for (const member of members) {
    member.mark(WRITTEN.generation, WRITTEN.flushNumber);
    for (const stripe of STRIPES) member.put(stripe, 1, filled(1), BLOCK_VALID, 5, HIGH);
    member.settled = SETTLED;
  }
}

/** A mirror of three ranges of segments. A member that is away has missed what came since what is settled. */
function mirror(prepare: (members: ScriptedMember[]) => void, states = PAIR): VolumeBench {
  const made = makeRecord(states);
  const groups = made.groups.map((members) =>
    members.map((member) => ({ ...member, ...(member.state === 'offline' ? { since: SETTLED, incarnation: 1 } : {}) })),
  );
  return new VolumeBench(states, prepare, { record: { ...made, groups, sizeBytes: 3 * DIGEST_CHUNKS * SEGMENT } });
}

/** The lists that members are asked for: their kinds, and the ranges of those that are no whole ones. */
function listsOf(members: readonly ScriptedMember[]): string[][] {
  return members.map((member) => {
    const lists: string[] = [];
    member.onList = ({ kind, firstChunk, endChunk }: SegmentList) => {
      const range = endChunk === Number.MAX_SAFE_INTEGER ? '' : ` ${firstChunk} to ${endChunk}`;
      if (kind !== LIST_ZERO) lists.push(`${NAMES[kind]}${range}`);
    };
    return lists;
  });
}

function valuesOf({ members }: VolumeBench, stripe: number): (number | undefined)[] {
  return members.map((member) => {
    const content = member.contentOf(stripe, 1);
    return typeof content === 'number' ? content : content[0];
  });
}

// The first list is that of what there is, which the engine has to know of each member.
check('a start lists no range of which the digests agree', async () => {
  const bench = mirror(alike);
  const lists = listsOf(bench.members);
  await bench.start();
  assert.equal(lists, [
    ['all', 'digests', 'since'],
    ['all', 'digests', 'since'],
  ]);
});

check('a start compares what differs below what is settled, and lists its range alone', async () => {
  const [, , stripe] = STRIPES;
  const ways: readonly ((member: ScriptedMember) => void)[] = [
    // A member has lost a segment, one that it was to give back has stayed, one is as it was some time before.
    (member) => member.slots.delete(stripe),
    (member) => member.put(stripe + 1, 1, filled(1), BLOCK_VALID, 5, HIGH),
    (member) => {
      member.mark(2, 3);
      member.put(stripe, 1, filled(2), BLOCK_VALID, 4, HIGH);
    },
  ];
  for (const [number, change] of ways.entries()) {
    for (const position of [0, 1]) {
      const bench = mirror((members) => {
        alike(members);
        change(members[position]);
      });
      const lists = listsOf(bench.members);
      await bench.start();
      const range = `all ${DIGEST_CHUNKS} to ${2 * DIGEST_CHUNKS}`;
      for (const asked of lists) assert.equal(asked, ['all', 'digests', 'since', range], `way ${number}`);
      for (const one of STRIPES) assert.equal(valuesOf(bench, one), [1, 1], `way ${number} of ${position}`);
      assert.equal(
        bench.members.map((member) => member.has(stripe + 1)),
        [number === 1, number === 1],
      );
    }
  }
});

check('what is in doubt, or not settled, is compared though digests agree', async () => {
  for (const unsettled of [false, true]) {
    const [first, , stripe] = STRIPES;
    const bench = mirror((members) => {
      alike(members);
      for (const member of members) {
        if (unsettled) member.settled = WRITTEN;
        const segment = member.slots.get(stripe);
        if (segment !== undefined) segment.dirty = !unsettled;
      }
      for (const one of [first, stripe]) {
        const { generation, flushNumber } = WRITTEN;
        members[1].put(one, 1, filled(2), BLOCK_VALID, 6, HIGH);
        assert.equal([members[1].generation, members[1].flushNumber], [generation, flushNumber]);
      }
    });
    const lists = listsOf(bench.members);
    await bench.start();
    for (const asked of lists) assert.equal(asked, ['all', 'digests', 'since']);
    // What nothing tells of is left alone: stamps of segments cannot tell what never was on a device that says so.
    assert.equal([valuesOf(bench, first), valuesOf(bench, stripe)], [unsettled ? [2, 2] : [1, 2], [2, 2]]);
  }
});

/** A mirror whose second member was away, and has another version of a segment that was not written meanwhile. */
function returned(stripe: number): VolumeBench {
  const prepare = (members: ScriptedMember[]) => {
    alike(members);
    members[1].mark(2, 3);
    members[1].put(stripe, 1, filled(7), BLOCK_VALID, 4, HIGH);
  };
  return mirror(prepare, ['in-sync', 'offline']);
}

check('a member that comes back is asked for what it has of the ranges that differ, and no other', async () => {
  const [, , stripe] = STRIPES;
  const bench = returned(stripe);
  const lists = listsOf(bench.members);
  await bench.start();
  await bench.world.drain();
  assert.equal(bench.states(), PAIR);
  const range = `all ${DIGEST_CHUNKS} to ${2 * DIGEST_CHUNKS}`;
  const single = `all ${stripe} to ${stripe + 1}`;
  // It learns again what the member has, as that may be another than at the start.
  assert.equal(lists[1], ['all', 'all', 'digests', 'since', range, single]);
  assert.equal(lists[0].slice(-4), ['digests', 'since', range, single]);
  for (const one of STRIPES) assert.equal(valuesOf(bench, one), [1, 1]);
});

check('a segment that clients write to between digests and lists is compared all the same', async () => {
  const [, , stripe] = STRIPES;
  const bench = returned(stripe);
  // What a client writes is on both, and recorded under the same flush: only other blocks of the segment tell.
  let asked = -1;
  let hasWritten = false;
  bench.members[1].onList = ({ kind }: SegmentList) => {
    if (kind === LIST_ALL || hasWritten) return;
    if (asked < 0) asked = kind;
    if (kind === asked) return;
    hasWritten = true;
    for (const member of bench.members) {
      member.mark(3, bench.engine.status().flushNumber);
      member.put(stripe, 2, filled(6), BLOCK_VALID, 1 << 20, 3 << 8);
    }
  };
  await bench.start();
  await bench.world.drain();
  assert.ok(hasWritten);
  assert.equal(bench.states(), PAIR);
  assert.equal(valuesOf(bench, stripe), [1, 1]);
});

run();
