/** What a volume does when members fail, in each phase, and what its requests leave on the members. */

import * as assert from 'uvu/assert';
import { MODIFICATIONS_MAX, PATCHES_MAX, VOLUME_REQUESTS_MAX } from '#strake/core/limits.js';
import { BLOCK_POISON } from '#strake/layout/block-entry.js';
import { COMPLETION_ABANDONED } from '#strake/ports/completion.js';
import { DEVICE_FUA, FENCE_ALL } from '#strake/ports/device.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { check, run } from '../support/check.js';
import { BLOCK, turn } from '../support/segment-world.js';
import { SEGMENT, SIZE, written } from '../support/volume-bench.js';

const PAIR = ['in-sync', 'in-sync'] as const;

check('two overlapping writes leave both copies equal in every order of completions', async () => {
  for (let order = 0; order < 24; order += 1) {
    const bench = await written();
    let rest = order;
    bench.write(0, 0, 2 * BLOCK, 10);
    bench.write(1, BLOCK, 2 * BLOCK, 20);
    assert.is(bench.kinds().length, 2, 'the second waits for the first on all members');
    await bench.world.drain((count) => {
      const choice = rest % count;
      rest = Math.floor(rest / count);
      return choice;
    });
    const [one, other] = bench.members.map((member) => bench.image(member));
    assert.is(Buffer.compare(one, other), 0);
    assert.equal([one[0], one[BLOCK], one[2 * BLOCK], one[3 * BLOCK]], [10, 20, 20, 1]);
  }
});

check('a write is summed once for all members that take its sums, and not for one alone', async () => {
  for (const taking of [0, 1, 2]) {
    const bench = await written();
    const asked: unknown[] = [];
    for (const [position, member] of bench.members.entries()) {
      Object.assign(member, { takesSums: position < taking });
      const submit = member.submit.bind(member);
      member.submit = (request) => {
        asked.push(request.proven ? [...(request.sums ?? [])].slice(0, request.blocks) : request.sums);
        submit(request);
      };
    }
    const { world } = bench;
    let summed = 0;
    const checksums = world.checksums.bind(world);
    world.checksums = (at, blocks, sums) => {
      summed += blocks;
      checksums(at, blocks, sums);
    };
    bench.write(0, 0, 2 * BLOCK, 7);
    await world.drain();
    assert.is(bench.results[0], 2 * BLOCK);
    const sum = crc32c(new Uint8Array(BLOCK).fill(7));
    const expected = taking === 2 ? [sum, sum] : null;
    assert.equal([summed, asked], [taking === 2 ? 2 : 0, [expected, expected]]);
  }
});

check('a read that overlaps a write in flight waits for it; other reads do not', async () => {
  const bench = await written();
  bench.write(0, 0, BLOCK, 2);
  bench.read(1, 0, BLOCK);
  bench.read(2, BLOCK, BLOCK);
  assert.equal(bench.kinds(), ['write', 'write', 'read']);
  await bench.world.end(bench.world.find('write'));
  await bench.world.end(bench.world.find('write'));
  await bench.world.drain();
  assert.equal([bench.payload(1, 0, 1)[0], bench.payload(2, BLOCK, 1)[0]], [2, 1]);
});

check('patches at all alignments change what they cover and nothing else', async () => {
  for (const from of [0, 1, 511, 512, BLOCK - 1, BLOCK, SEGMENT - BLOCK - 5, SEGMENT - 1]) {
    for (const length of [1, 512, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 17, SEGMENT + 3]) {
      for (const zero of [false, true]) {
        const bench = await written();
        if (zero) bench.zero(0, from, length);
        else bench.write(0, from, length, 7);
        await bench.world.drain();
        const expected = new Uint8Array(SIZE).fill(1, 0, SEGMENT).fill(zero ? 0 : 7, from, from + length);
        for (const member of bench.members) assert.is(Buffer.compare(bench.image(member), expected), 0);
        bench.read(1, from, length);
        await bench.world.drain();
        assert.is(bench.results[1], length);
        assert.is(Buffer.compare(bench.payload(1, from, length), expected.slice(from, from + length)), 0);
      }
    }
  }
});

check('a write that failed on a member is acknowledged only once the new map is durable', async () => {
  for (const failing of [0, 1]) {
    const bench = await written();
    let allow = () => {};
    bench.commit = () =>
      new Promise((resolve) => {
        allow = resolve;
      });
    bench.members[failing].fail = (kind) => (kind === 'write' ? -5 : undefined);
    bench.write(0, 0, BLOCK, 2);
    bench.read(1, 0, BLOCK);
    await bench.world.drain();
    assert.equal([bench.results[0], bench.results[1]], [undefined, undefined], 'neither answered nor read');
    bench.write(2, BLOCK, BLOCK, 3);
    await bench.world.drain();
    assert.is(bench.results[2], undefined, 'later failures wait for the same map');
    allow();
    await bench.world.drain();
    assert.equal([bench.results[0], bench.results[1], bench.results[2]], [BLOCK, BLOCK, BLOCK]);
    assert.is(bench.payload(1, 0, 1)[0], 2);
    assert.is(bench.states()[failing], 'offline');
    assert.is(bench.committed.length, 1);
    assert.is(bench.engine.status().state, 'degraded');
    bench.write(3, 0, BLOCK, 4);
    assert.equal(bench.kinds(), ['write'], 'writes no longer go to it');
  }
});

check('if a map cannot be committed the volume stops, and everything fails', async () => {
  const bench = await written();
  bench.commit = () => Promise.reject(new Error('no quorum'));
  bench.members[1].fail = (kind) => (kind === 'write' ? -5 : undefined);
  bench.write(0, 0, BLOCK, 2);
  bench.read(1, 0, BLOCK);
  await bench.world.drain();
  bench.read(2, 0, BLOCK);
  bench.flush(3);
  await bench.world.drain();
  assert.equal(bench.results.slice(0, 4), [-5, -5, -5, -5]);
  assert.is(bench.engine.status().state, 'failed');
  assert.match(bench.engine.status().reason, 'no quorum');
});

check('the last member never leaves: what fails on it fails', async () => {
  const bench = await written();
  for (const member of bench.members) member.fail = (kind) => (kind === 'write' ? -5 : undefined);
  bench.write(0, 0, BLOCK, 2);
  await bench.world.drain();
  assert.is(bench.results[0], -5);
  assert.equal(bench.states().filter((state) => state === 'in-sync').length, 1);
  bench.write(1, 0, BLOCK, 2);
  await bench.world.drain();
  assert.is(bench.results[1], -5);
  for (const member of bench.members) member.fail = () => undefined;
  bench.write(2, 0, BLOCK, 2);
  await bench.world.drain();
  assert.is(bench.results[2], BLOCK);
});

check('when two writes fail on different members, none that is lost is acknowledged', async () => {
  const bench = await written();
  bench.write(0, 0, BLOCK, 2);
  bench.write(1, BLOCK, BLOCK, 3);
  const operations = [...bench.world.pending];
  await bench.world.end(operations[0]);
  await bench.world.end(operations[3]);
  operations.splice(0, 4, operations[1], operations[2]);
  bench.commit = turn;
  for (const operation of operations) {
    bench.world.pending.splice(bench.world.pending.indexOf(operation), 1);
    operation.end(-5);
  }
  await bench.world.drain();
  await turn();
  await bench.world.drain();
  assert.equal(bench.states(), ['in-sync', 'offline']);
  assert.equal(bench.results.slice(0, 2), [BLOCK, -5]);
});

check('a new segment gets its slots on all members first; without space nothing changes', async () => {
  const bench = await written();
  bench.members[1].capacity = 1;
  bench.write(0, SEGMENT, BLOCK, 2);
  await turn();
  assert.equal(bench.kinds(), ['allocate', 'allocate']);
  bench.write(1, SEGMENT + BLOCK, BLOCK, 2);
  await bench.world.drain();
  assert.equal(bench.results.slice(0, 2), [-28, -28]);
  assert.equal(
    bench.members.map((member) => member.has(1)),
    [false, false],
    'the slot taken elsewhere was given back',
  );
  assert.equal(bench.states(), PAIR);
  assert.is(bench.committed.length, 0);
  bench.members[1].capacity = 2;
  bench.write(2, SEGMENT, BLOCK, 2);
  await bench.world.drain();
  assert.is(bench.results[2], BLOCK);
});

check('segments without slots read as zeroes without I/O, and are holes', async () => {
  const bench = await written();
  bench.world.bytes.fill(9, bench.memory(0, 0), bench.memory(0, 0) + SEGMENT);
  bench.read(0, SEGMENT, SEGMENT);
  assert.equal(bench.kinds(), ['nop']);
  await bench.world.drain();
  assert.ok(bench.payload(0, 0, SEGMENT).every((byte) => byte === 0));
  bench.zero(1, SEGMENT + 5, SEGMENT);
  await bench.world.drain();
  assert.is(bench.results[1], 0);
  assert.not(bench.members[0].has(1));
  assert.equal(bench.extents(2), [
    [SEGMENT, 0],
    [SIZE - SEGMENT, 3],
  ]);
});

check('a bad block is read from the other copy and mended with its stamp', async () => {
  for (const error of [-74, -5, -61]) {
    const bench = await written();
    for (const member of bench.members) member.put(0, 2, new Uint8Array(BLOCK).fill(5), 1, 77, 3 << 8);
    const [bad, good] = bench.members;
    if (error === -61) bad.put(0, 2, null, BLOCK_POISON, 70, 3 << 8);
    else bad.rot(0, 2);
    let left = error === -5 ? 2 : 0;
    bad.fail = (kind) => (kind === 'read' && left-- > 0 ? -5 : undefined);
    good.outstanding += 100;
    bench.read(0, 0, SEGMENT);
    await bench.world.drain();
    assert.is(bench.results[0], SEGMENT);
    assert.equal(
      [...bench.payload(0, 0, SEGMENT)].filter((_b, at) => at % BLOCK === 0),
      [1, 1, 5, 1],
    );
    assert.equal(await bad.entries(0), await good.entries(0));
    assert.is(bad.contentOf(0, 2)[0 as never], 5 as never);
    assert.ok(bench.engine.status().counters.repairedBlocks >= 1);
    assert.equal(bench.states(), PAIR);
  }
});

check('a copy that cannot be mended leaves the map, and one that is gone is not even tried', async () => {
  for (const gone of [false, true]) {
    const bench = await written();
    const [bad, good] = bench.members;
    bad.fail = () => -5;
    if (gone) bad.fenced = 2;
    good.outstanding += 100;
    bench.read(0, 0, BLOCK);
    await bench.world.drain();
    assert.is(bench.results[0], BLOCK);
    assert.equal(bench.states(), ['offline', 'in-sync']);
  }
});

check('what no copy holds is an error, after a second look, and never zeroes', async () => {
  for (const states of [PAIR, ['in-sync'] as const]) {
    const bench = await written(states);
    for (const member of bench.members) member.rot(0, 1);
    bench.read(0, 0, SEGMENT);
    await bench.world.drain();
    assert.is(bench.results[0], -5);
    assert.is(bench.engine.status().counters.unrecoverableBlocks, 1);
    bench.write(1, BLOCK, BLOCK, 9);
    bench.read(2, BLOCK, BLOCK);
    await bench.world.drain();
    assert.is(bench.payload(2, BLOCK, 1)[0], 9, 'written again it is good');
    let failures = 1;
    bench.members[0].fail = (kind) => (kind === 'read' && failures-- > 0 ? -74 : undefined);
    for (const member of bench.members.slice(1)) member.outstanding += 100;
    bench.read(3, BLOCK, BLOCK);
    await bench.world.drain();
    assert.is(bench.results[3], BLOCK, 'a mismatch that goes away is none');
  }
});

check('memory of a read that was given up is not read into again', async () => {
  const bench = await written();
  bench.read(0, 0, BLOCK);
  await bench.world.end(bench.world.find('read'), -5, COMPLETION_ABANDONED);
  await bench.world.drain();
  assert.equal([bench.results[0], bench.flags[0]], [-5, COMPLETION_ABANDONED]);
});

check('partial writes go on with another copy when a device hangs in all of them, and in other memory', async () => {
  const bench = await written();
  bench.write(0, 0, SIZE, 1);
  await bench.world.drain();
  const [first, second] = bench.members;
  second.outstanding += 100;
  for (let index = 0; index < PATCHES_MAX; index += 1) bench.write(1 + index, index * BLOCK, 16, 2);
  assert.equal(bench.kinds(), new Array(PATCHES_MAX).fill('read'));
  // It takes nothing any more, not even a flush.
  first.fail = () => -5;
  first.fenced = FENCE_ALL;
  for (const operation of [...bench.world.pending]) await bench.world.end(operation, -5, COMPLETION_ABANDONED);
  const given = new Set(bench.world.givenUp);
  assert.is(given.size, PATCHES_MAX);
  await bench.world.drain();
  assert.equal(bench.results.slice(1, 1 + PATCHES_MAX), new Array(PATCHES_MAX).fill(16));
  assert.equal(bench.states(), ['offline', 'in-sync']);
  const used = () => [...bench.world.used].filter((memory) => given.has(memory));
  bench.world.used.clear();
  const patchAll = async (tag: number) => {
    for (let index = 0; index < 3 * PATCHES_MAX; index += 1) bench.write(tag + index, index * 16, 16, 3);
    await bench.world.drain();
  };
  await patchAll(100);
  assert.equal(used(), [], 'the kernel may still write there');
  bench.world.endGivenUp();
  await patchAll(200);
  assert.ok(used().length > 0);
});

check(
  'a flush covers what ended before it, on all members, and one that fails costs its member the place',
  async () => {
    const bench = await written();
    const { flushNumber } = bench.engine.status();
    bench.flush(0);
    bench.flush(1);
    bench.flush(2);
    assert.equal(bench.kinds(), ['flush', 'flush']);
    await bench.world.end(bench.world.find('flush'));
    assert.is(bench.results[0], undefined);
    await bench.world.drain();
    assert.is(bench.engine.status().flushNumber, flushNumber + 2, 'the two that waited shared one');
    assert.equal(
      bench.members.map((member) => member.flushNumber),
      [flushNumber + 2, flushNumber + 2],
    );
    bench.flush(3);
    await bench.world.end(bench.world.find('flush', bench.members[1]), -5);
    assert.is(bench.results[3], undefined);
    await bench.world.drain();
    assert.is(bench.results[3], 0);
    assert.equal(bench.states(), ['in-sync', 'offline']);
    bench.flush(4);
    await bench.world.end(bench.world.find('flush'), -5);
    await bench.world.drain();
    assert.is(bench.results[4], -5, 'the last one has failed');
  },
);

check('a flush does not count on a device that was opened anew since', async () => {
  const bench = await written();
  bench.members[0].incarnation += 1;
  bench.flush(0);
  await bench.world.drain();
  assert.is(bench.results[0], 0);
  assert.equal(bench.states(), ['offline', 'in-sync']);
  bench.members[1].incarnation += 1;
  bench.flush(1);
  await bench.world.drain();
  assert.is(bench.results[1], -5, 'with a single copy the flush says that writes may be lost');
  bench.flush(2);
  await bench.world.drain();
  assert.is(bench.results[2], 0);
});

check('a write with FUA is one on every member', async () => {
  const bench = await written();
  bench.write(0, 0, BLOCK, 2, DEVICE_FUA);
  assert.equal(
    bench.world.pending.map(({ flags }) => flags & DEVICE_FUA),
    [DEVICE_FUA, DEVICE_FUA],
  );
});

check('reads that meet the same bad block mend it one after another', async () => {
  const bench = await written();
  const [bad, good] = bench.members;
  bad.rot(0, 1);
  good.outstanding += 100;
  bench.read(0, BLOCK, BLOCK);
  bench.read(1, BLOCK, BLOCK);
  // The double refuses two modifications of one block at the same time.
  await bench.world.drain();
  assert.equal(bench.results.slice(0, 2), [BLOCK, BLOCK]);
  assert.equal([bench.image(bad)[BLOCK], bench.image(good)[BLOCK]], [1, 1]);
  assert.is(bench.engine.status().counters.repairedBlocks, 1);
});

check('a payload that has to wait is brought in before its source is free', async () => {
  const bench = await written();
  const [source, memory] = [bench.memory(20, 0), bench.memory(21, 0)];
  bench.write(0, 0, BLOCK, 2);
  for (const [tag, offset] of [
    [1, 0],
    [2, SEGMENT],
  ] as const) {
    bench.world.bytes.fill(6 + tag, source, source + BLOCK);
    bench.writeFrom(tag, source, memory + tag * BLOCK, offset, BLOCK);
    bench.world.bytes.fill(99, source, source + BLOCK);
  }
  await bench.world.drain();
  const image = bench.image(bench.members[1]);
  assert.equal([image[0], image[SEGMENT]], [7, 8]);
});

check('requests beyond the bound are refused, and within it never', async () => {
  assert.ok(VOLUME_REQUESTS_MAX >= MODIFICATIONS_MAX);
  const bench = await written();
  for (let tag = 0; tag < VOLUME_REQUESTS_MAX; tag += 1) {
    if (tag % 3 === 0) bench.write(tag + 100, 0, BLOCK, 2);
    else if (tag % 3 === 1) bench.write(tag + 100, 100, 7, 2);
    else bench.zero(tag + 100, 50, SEGMENT);
  }
  const last = 100 + VOLUME_REQUESTS_MAX;
  bench.write(last, 0, BLOCK, 2);
  await bench.world.end(bench.world.find('nop'));
  assert.is(bench.results[last], -16);
  assert.is(bench.engine.status().counters.refused, 1);
});

check('a volume grows, does not shrink, and closes once all has ended', async () => {
  const bench = await written();
  await bench.engine.grow(2 * SIZE);
  assert.is(bench.engine.sizeBytes, 2 * SIZE);
  const failure = await bench.engine.grow(SIZE).catch((error) => error);
  assert.is(failure.code, 'ERR_STRAKE_INVALID_ARGUMENT');
  bench.write(0, SIZE, BLOCK, 2);
  const closed = bench.engine.close();
  bench.write(1, SIZE, BLOCK, 2);
  await bench.world.drain();
  await closed;
  assert.equal(bench.results.slice(0, 2), [BLOCK, -108]);
});

run();
