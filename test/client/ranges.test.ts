/** Copies are read and rewritten in ranges: how many requests it takes to mend a segment, and to bring one up to date. */

import * as assert from 'uvu/assert';
import { readRuns, runsOf } from '#strake/client/mirror/read-runs.js';
import { BLOCK_VALID } from '#strake/layout/block-entry.js';
import { check, run } from '../support/check.js';
import { BLOCK } from '../support/segment-world.js';
import { written } from '../support/volume-bench.js';

/** A reader of blocks of which some are bad, that notes what it is asked for. */
function reader(bad: ReadonlySet<number>, named: boolean) {
  const asked: string[] = [];
  const read = async ({ block, blocks }: { block: number; blocks: number }, memory: number, found: Set<number>) => {
    asked.push(`${block}+${blocks}`);
    assert.is(memory, 1000 + (block - 2) * BLOCK);
    let failed = false;
    for (let at = block; at < block + blocks; at += 1) {
      if (!bad.has(at)) continue;
      failed = true;
      if (named) found.add(at);
    }
    return failed ? -74 : blocks * BLOCK;
  };
  return { asked, read };
}

const AT = { first: 2, memory: 1000, lost: () => false };
const blocksFrom = (first: number, count: number) => Array.from({ length: count }, (_, index) => first + index);

check('what an error does not name is read again in the runs that are left', async () => {
  const { asked, read } = reader(new Set([5, 6, 200]), true);
  const failed = await readRuns(read, 0, blocksFrom(2, 256), AT);
  assert.equal([...failed.keys()], [5, 6, 200]);
  assert.equal(asked, ['2+256', '201+57', '7+193', '2+3']);
});

check('where an error names nothing, halves are tried', async () => {
  const { asked, read } = reader(new Set([9]), false);
  const failed = await readRuns(read, 0, blocksFrom(2, 256), AT);
  assert.equal([...failed.entries()], [[9, 74]]);
  assert.is(asked.length, 17, 'two for each time that a run is halved, and the first');
});

check('nothing is read into memory that has been given up', async () => {
  const { asked, read } = reader(new Set([5]), true);
  await readRuns(read, 0, blocksFrom(2, 8), { ...AT, lost: () => asked.length > 0 });
  assert.equal(asked, ['2+8']);
});

check('runs are neighbours that go together', [], () => {
  assert.equal(runsOf([]), []);
  assert.equal(runsOf([1, 2, 4, 5, 6, 9]), [[1, 2], [4, 5, 6], [9]]);
  assert.equal(
    runsOf([1, 2, 3, 4], (one, other) => one % 2 === other % 2 || other === 2),
    [[1, 2, 3], [4]],
  );
});

check('a segment that has rotted is mended by one read of the other copy and one write', async () => {
  const bench = await written();
  const [one, other] = bench.members;
  for (const block of [0, 1, 2, 3]) one.rot(0, block);
  const begun: string[] = [];
  for (const [number, member] of [one, other].entries()) {
    member.fail = (kind, _stripe, block) => {
      begun.push(`${number} ${kind} ${block}`);
      return undefined;
    };
  }
  // Reads take turns.
  for (const tag of [0, 1]) bench.read(tag, 0, 4 * BLOCK);
  await bench.world.drain();
  assert.equal([bench.results[0], bench.results[1]], [4 * BLOCK, 4 * BLOCK]);
  assert.is(bench.engine.status().counters.repairedBlocks, 4);
  assert.is(begun.filter((each) => each.includes('write')).length, 1);
  assert.ok(begun.filter((each) => each.includes('read')).length <= 5, begun.join(', '));
  for (const member of [one, other]) assert.is((member.contentOf(0, 3) as Uint8Array)[0], 1);
});

check('what came to one block of a range that is mended stays, and the others are mended', async () => {
  const bench = await written();
  const [one, other] = bench.members;
  for (const block of [0, 1, 2]) one.rot(0, block);
  for (const tag of [0, 1]) bench.read(tag, 0, 4 * BLOCK);
  const mending = () => bench.world.pending.find(({ kind, member }) => kind === 'write' && member === one);
  await bench.world.drain(undefined, () => mending() !== undefined);
  assert.is(mending()?.blocks, 3);
  one.put(0, 1, new Uint8Array(BLOCK).fill(9), BLOCK_VALID, 6, 2 << 8);
  await bench.world.drain();
  const values = [one, other].map((member) => [0, 1, 2].map((block) => (member.contentOf(0, block) as Uint8Array)[0]));
  assert.equal(values, [
    [1, 9, 1],
    [1, 1, 1],
  ]);
  assert.is(bench.engine.status().counters.repairedBlocks, 2);
  assert.equal(
    bench.events.flatMap((event) => (event.kind === 'repaired' ? [event.block] : [])),
    [0, 2],
  );
});

check('of blocks that are bad here and there each comes from a copy that has it', async () => {
  const bench = await written(['in-sync', 'in-sync', 'in-sync']);
  const [one, two, three] = bench.members;
  for (const block of [0, 1, 2]) one.rot(0, block);
  for (const block of [1, 3]) two.rot(0, block);
  three.rot(0, 2);
  for (const tag of [0, 1, 2, 3, 4, 5]) {
    bench.read(tag, 0, 4 * BLOCK);
    await bench.world.drain();
    assert.is(bench.results[tag], 4 * BLOCK);
    assert.equal([...bench.payload(tag, 0, 4 * BLOCK)].filter((byte) => byte !== 1).length, 0);
  }
  for (const member of [one, two, three]) {
    for (const block of [0, 1, 2, 3]) assert.is((member.contentOf(0, block) as Uint8Array)[0], 1);
  }
});

check('blocks that differ here and there are read together when a copy is brought up to date', async () => {
  const bench = await written();
  const [one, other] = bench.members;
  other.fail = () => -5;
  for (const block of [0, 2, 3]) {
    bench.write(block, block * BLOCK, BLOCK, 2 + block);
    await bench.world.drain();
  }
  assert.equal(bench.states(), ['in-sync', 'offline']);
  const begun: string[] = [];
  const note = (name: string) => (kind: string, _stripe: number, block: number) => {
    if (kind === 'read' || kind === 'write') begun.push(`${name} ${kind} ${block}`);
    return undefined;
  };
  one.fail = note('source');
  other.fail = note('target');
  bench.engine.attach(0, 1, other);
  await bench.world.drain();
  assert.equal(bench.states(), ['in-sync', 'in-sync']);
  assert.equal(begun, ['source read 0', 'target write 0', 'target write 2']);
  assert.is(bench.engine.status().jobs[0].bytesCopied, 3 * BLOCK);
  assert.equal(
    [0, 1, 2, 3].map((block) => (other.contentOf(0, block) as Uint8Array)[0]),
    [2, 1, 4, 5],
  );
});

check('of a source that is bad here and there the rest is read again in runs', async () => {
  const bench = await written();
  const [one, other] = bench.members;
  other.fail = () => -5;
  bench.write(0, 0, 4 * BLOCK, 2);
  await bench.world.drain();
  one.rot(0, 1);
  let reads = 0;
  one.fail = (kind) => {
    if (kind === 'read') reads += 1;
    return undefined;
  };
  other.fail = () => undefined;
  bench.engine.attach(0, 1, other);
  await bench.world.drain();
  // The whole, the whole again for what is wanted, and the two runs beside the block that is bad.
  assert.is(reads, 4);
  assert.equal(
    [0, 1, 2, 3]
      .map((block) => other.contentOf(0, block))
      .map((found) => (typeof found === 'number' ? found : found[0])),
    [2, -61, 2, 2],
  );
});

run();
