/** The simulated engine: one course for each seed, and the order of what is queued. */

import * as assert from 'uvu/assert';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { SimLoop } from '#strake/sim/world/loop.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { check, run } from '../support/check.js';
import { BLOCK, rejects, SimBench } from '../support/sim.js';

check('CRC32C has the values of RFC 3720, at any alignment', () => {
  const vectors: [Uint8Array, number][] = [
    [new Uint8Array(32), 0x8a9136aa],
    [new Uint8Array(32).fill(255), 0x62a8ab43],
    [Uint8Array.from({ length: 32 }, (_, index) => index), 0x46dd794e],
    [Uint8Array.from({ length: 32 }, (_, index) => 31 - index), 0x113fdb5c],
    [new TextEncoder().encode('123456789'), 0xe3069283],
    [new Uint8Array(0), 0],
  ];
  for (const [bytes, expected] of vectors) {
    for (let shift = 0; shift < 9; shift += 1) {
      const moved = new Uint8Array(bytes.length + 20).fill(7);
      moved.set(bytes, shift);
      assert.is(crc32c(moved, shift, bytes.length), expected);
    }
  }
});

check('random numbers repeat, are spread evenly, and forks do not depend on each other', () => {
  const one = new SimRandom(7);
  const other = new SimRandom(7);
  assert.equal([one.next(), one.next()], [other.next(), other.next()]);
  assert.is.not(new SimRandom(1).next(), new SimRandom(2).next());
  const counts = new Array(10).fill(0);
  for (let draw = 0; draw < 10_000; draw += 1) counts[one.below(10)] += 1;
  assert.ok(Math.min(...counts) > 850 && Math.max(...counts) < 1150, counts.join());
  const fork = other.fork('a');
  const again = new SimRandom(7);
  again.next();
  again.next();
  assert.is(again.fork('a').next(), fork.next());
  assert.is.not(new SimRandom(7).fork('a').next(), new SimRandom(7).fork('b').next());
  for (let draw = 0; draw < 100; draw += 1) assert.ok([3, 4].includes(one.between(3, 4)));
});

async function course(seed: number): Promise<SimBench> {
  const bench = new SimBench({ seed });
  bench.loop.trace.events = [];
  const client = async (first: number) => {
    for (let round = 0; round < 10; round += 1) {
      await bench.write(first + round, round);
      if (round % 3 === 0) await bench.sync();
      await bench.read(first + round);
      await bench.start((token) => bench.loop.after(1, token));
    }
    return 0;
  };
  await bench.all(client(0), client(10), client(20));
  return bench;
}

check('a seed decides the course', async () => {
  const first = await course(1);
  const second = await course(1);
  const other = await course(2);
  assert.is(first.loop.trace.hash, second.loop.trace.hash);
  assert.equal(first.loop.trace.events, second.loop.trace.events);
  assert.is.not(first.loop.trace.hash, other.loop.trace.hash);
  const hashes = new Set<number>();
  for (let seed = 0; seed < 20; seed += 1) hashes.add((await course(seed)).loop.trace.hash);
  assert.is(hashes.size, 20);
});

check('copies and fills are carried out at the hand-over, in order with operations', async () => {
  const bench = new SimBench({ seed: 3 });
  const { loop, device, disk } = bench;
  loop.bytes.fill(1, 0, BLOCK);
  loop.copy(BLOCK, 0, BLOCK);
  assert.is(loop.bytes[BLOCK], 0, 'not at the call');
  const first = bench.start((token) => device.write(BLOCK, BLOCK, 0, 0, token));
  loop.fill(BLOCK, BLOCK, 2);
  const second = bench.start((token) => device.write(BLOCK, BLOCK, BLOCK, 0, token));
  loop.fill(0, BLOCK, 3);
  const third = bench.start((token) => device.writeFrom(0, BLOCK, BLOCK, 2 * BLOCK, 0, token));
  assert.is(loop.checksum(BLOCK, BLOCK), crc32c(new Uint8Array(BLOCK)), 'a checksum is of now');
  await bench.all(first, second, third);
  for (const block of [0, 1, 2]) assert.is(disk.peek(block * BLOCK, 1)[0], block + 1);
});

check('a payload is taken at the hand-over, not at the call, and not later', async () => {
  const bench = new SimBench({ seed: 3 });
  const written = bench.write(0, 1);
  bench.loop.bytes.fill(2, 0, BLOCK);
  bench.loop.handOver();
  bench.loop.bytes.fill(3, 0, BLOCK);
  await bench.all(written);
  assert.is(bench.disk.peek(0, 1)[0], 2);
});

check('a full queue is handed over at once', () => {
  const loop = new SimLoop({ seed: 1, arenaBytes: BLOCK });
  loop.fill(0, 1, 9);
  for (let count = 0; count < 1023; count += 1) loop.fill(1, 1, 9);
  assert.is(loop.bytes[0], 0);
  loop.fill(1, 1, 9);
  assert.is(loop.bytes[0], 9);
});

check('completions come in batches, batch ends after each, deferred ones in a later batch', () => {
  const loop = new SimLoop({ seed: 1 });
  const seen: string[] = [];
  const base = loop.register({
    complete: (tag, result) => {
      seen.push(`${tag}:${result}@${loop.batches}`);
      if (tag === 0) loop.defer(base + 5, -7);
      if (tag === 0) loop.finish(base + 6, 1, 0);
    },
  });
  const end = () => seen.push('end');
  loop.onBatchEnd(end);
  loop.defer(base, 4);
  loop.runSync(() => seen.includes('5:-7@2'));
  assert.equal(seen, ['0:4@1', '6:1@1', 'end', '5:-7@2', 'end']);
  loop.offBatchEnd(end);
  loop.unregister(base);
  assert.is(loop.register({ complete: () => {} }), base, 'a number that has come free is given out again');
});

check('time is virtual, and more than one batch of completions fits one moment', () => {
  const loop = new SimLoop({ seed: 1 });
  let ended = 0;
  const base = loop.register({ complete: () => (ended += 1) });
  loop.after(3_600_000, base);
  loop.runSync(() => ended === 1);
  assert.ok(loop.nowMs() >= 3_600_000 && loop.nowMs() < 3_600_001);
  for (let tag = 0; tag < 3000; tag += 1) loop.defer(base + tag, 0);
  loop.runSync(() => ended === 3001);
});

check('a run that cannot end says so', async () => {
  const loop = new SimLoop({ seed: 5 });
  await rejects(
    loop.run(() => false),
    /deadlock.*seed 5/,
  );
  assert.throws(() => loop.runSync(() => false), /deadlock/);
  const base = loop.register({ complete: () => loop.after(1000, base) });
  loop.defer(base, 0);
  await rejects(
    loop.run(() => false, { batches: 10 }),
    /no end after 10 batches/,
  );
  await rejects(
    loop.run(() => false, { virtualMs: 5000 }),
    /no end after 5000 ms/,
  );
  assert.throws(() => loop.copy(0, 1 << 20, 1), /outside/);
});

check('continuations run before the next batch', async () => {
  const bench = new SimBench({ seed: 9 });
  const batches: number[] = [];
  const chain = async () => {
    for (let round = 0; round < 5; round += 1) {
      await bench.start((token) => bench.loop.defer(token, 0));
      const { batches: before } = bench.loop;
      for (let link = 0; link < 10; link += 1) await undefined;
      batches.push(bench.loop.batches - before);
    }
    return 0;
  };
  await bench.all(chain(), chain());
  assert.equal(batches, new Array(10).fill(0));
});

run();
