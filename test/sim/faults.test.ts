/** Each fault of a simulated disk, fencing, and checksums. */

import * as assert from 'uvu/assert';
import { COMPLETION_ABANDONED } from '#strake/ports/completion.js';
import { DEVICE_FUA, FENCE_ALL, FENCE_OPEN, FENCE_WRITES } from '#strake/ports/device.js';
import { SimDevice } from '#strake/sim/disk/device.js';
import type { FaultAction } from '#strake/sim/disk/faults.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { check, run } from '../support/check.js';
import { BLOCK, SECTOR, SimBench, sectors, sectorsOn } from '../support/sim.js';

const EIO = 5;
const error: FaultAction = { kind: 'error', errno: EIO };
const all = (value: number) => new Array(8).fill(value);

function differences(one: Uint8Array, other: Uint8Array): number {
  let bits = 0;
  for (const [at, byte] of one.entries()) {
    for (let rest = byte ^ other[at]; rest !== 0; rest &= rest - 1) bits += 1;
  }
  return bits;
}

check('errors come once, always, in a range, after some, or by chance', async () => {
  const bench = new SimBench({ seed: 1 });
  const { faults } = bench.disk;
  faults.add({ ops: ['read'], count: 1, skip: 1, action: error });
  const results: number[] = [];
  for (let round = 0; round < 4; round += 1) results.push(...(await bench.all(bench.read(0))));
  assert.equal(results, [BLOCK, -EIO, BLOCK, BLOCK]);
  const remove = faults.add({ start: BLOCK, end: 2 * BLOCK, action: error });
  assert.equal(await bench.all(bench.read(0), bench.read(1), bench.read(1), bench.read(2)), [BLOCK, -EIO, -EIO, BLOCK]);
  remove();
  assert.equal(await bench.all(bench.read(1)), [BLOCK]);
  faults.add({ ops: ['read'], probability: 0.5, action: error });
  const many = await bench.all(...Array.from({ length: 60 }, (_, block) => bench.read(block)));
  const failed = many.filter((result) => result < 0).length;
  assert.ok(failed > 10 && failed < 50, String(failed));
  assert.is(faults.acted, 3 + failed);
});

check('a failed write leaves old or new sectors', async () => {
  const seen = new Set<number>();
  for (let seed = 0; seed < 60; seed += 1) {
    const bench = new SimBench({ seed });
    await bench.all(bench.write(0, 1));
    bench.disk.faults.add({ ops: ['write'], action: error });
    assert.equal(await bench.all(bench.write(0, 2)), [-EIO]);
    assert.is(bench.device.fence(), FENCE_OPEN);
    seen.add(sectorsOn(bench.disk, 0).filter((value) => value === 2).length);
  }
  assert.ok(seen.has(0) && seen.has(8) && seen.size > 3);
});

check('whatever fails or is killed, a sync at rest makes durable exactly what can be read', async () => {
  for (let seed = 0; seed < 150; seed += 1) {
    const random = new SimRandom(seed);
    const first = new SimBench({ seed });
    first.disk.faults.add({ ops: ['write', 'discard', 'zero'], probability: 0.2, action: error });
    const operation = (_: unknown, index: number): Promise<number> => {
      const block = random.below(4);
      const kind = random.below(4);
      const at = (20 + index) * BLOCK;
      if (kind === 0) return first.start((token) => first.device.read(at, BLOCK, block * BLOCK, token));
      if (kind === 1) return first.start((token) => first.device.discard(block * BLOCK, BLOCK, 0, token));
      return first.start((token) => {
        first.loop.fill(at, BLOCK, index + 1);
        first.device.write(at, BLOCK, block * BLOCK, 0, token);
      });
    };
    const promises = Array.from({ length: 40 }, operation);
    const stop = random.below(60);
    for (let batch = 0; batch < stop && first.loop.step(); batch += 1);
    if (stop === 59) await first.all(...promises);
    first.disk.kill(random);
    first.disk.faults.clear();
    const second = new SimBench({ seed }, first.disk);
    assert.equal(await second.all(second.sync()), [0]);
    assert.equal(sectors(first.disk.peekDurable(0, 4 * BLOCK)), sectors(first.disk.peek(0, 4 * BLOCK)));
    assert.is(first.disk.volatileSectors().size, 0);
  }
});

check('a failed sync makes nothing durable and fences against writes; so does a failed FUA write', async () => {
  for (const promise of ['sync', 'fua']) {
    const bench = new SimBench({ seed: 1 });
    await bench.all(bench.write(0, 1));
    const remove = bench.disk.faults.add({ ops: ['sync', 'write'], count: 1, action: error });
    assert.equal(await bench.all(promise === 'sync' ? bench.sync() : bench.write(1, 1, DEVICE_FUA)), [-EIO]);
    remove();
    assert.is(bench.device.fence(), FENCE_WRITES);
    assert.equal(sectors(bench.disk.peekDurable(0, BLOCK)), all(0));
    assert.equal(await bench.all(bench.write(2, 1), bench.sync(), bench.read(0)), [-EIO, -EIO, BLOCK]);
    assert.equal(sectorsOn(bench.disk, 2), all(0));
  }
});

check('a bit flips in memory, in what is written, or at rest', async () => {
  const bench = new SimBench({ seed: 1 });
  const expected = new Uint8Array(BLOCK).fill(1);
  await bench.all(bench.write(0, 1));
  const once = bench.disk.faults.add({ ops: ['read'], action: { kind: 'corrupt' } });
  await bench.all(bench.read(0));
  assert.is(differences(bench.loop.bytes.subarray(0, BLOCK), expected), 1);
  assert.equal(bench.disk.peek(0, BLOCK), expected);
  once();
  bench.disk.flipBit(77, 3);
  await bench.all(bench.read(0));
  assert.is(bench.loop.bytes[77], 1 ^ 8);
  bench.disk.faults.add({ ops: ['write'], action: { kind: 'corrupt' } });
  await bench.all(bench.write(0, 1));
  assert.is(differences(bench.disk.peek(0, BLOCK), expected), 1);
});

check('writes are lost, or land elsewhere', async () => {
  const bench = new SimBench({ seed: 1 });
  bench.disk.faults.add({ start: 0, end: BLOCK, action: { kind: 'lose' } });
  bench.disk.faults.add({
    ops: ['write'],
    start: BLOCK,
    end: 2 * BLOCK,
    action: { kind: 'misdirect', toOffsetBytes: 9 * BLOCK },
  });
  assert.equal(await bench.all(bench.write(0, 1), bench.write(1, 2)), [BLOCK, BLOCK]);
  assert.equal(await bench.all(bench.sync()), [0]);
  for (const [block, value] of [
    [0, 0],
    [1, 0],
    [9, 2],
  ])
    assert.equal(sectorsOn(bench.disk, block), all(value));
});

check('a lying disk loses what it said was durable', async () => {
  const bench = new SimBench({ seed: 1 });
  bench.disk.faults.add({ ops: ['sync', 'write'], action: { kind: 'lie' } });
  await bench.all(bench.write(0, 1), bench.write(1, 1, DEVICE_FUA));
  assert.equal(await bench.all(bench.sync()), [0]);
  assert.is(bench.disk.volatileSectors().size, 16);
});

check('operations are slow, or never end and are given up', async () => {
  const bench = new SimBench({ seed: 1 });
  const { loop, device, disk } = bench;
  disk.faults.add({ ops: ['read'], start: 0, end: BLOCK, action: { kind: 'slow', byUs: 2_000_000 } });
  disk.faults.add({ ops: ['write'], count: 1, action: { kind: 'stick' } });
  const flags: number[] = [];
  const base = loop.register({ complete: (_tag, result, flag) => flags.push(result, flag) });
  device.read(BLOCK, BLOCK, 0, base);
  device.write(2 * BLOCK, BLOCK, 0, 0, base + 1);
  await bench.all(bench.start((token) => loop.after(1000, token)));
  assert.is(device.giveUpOverdue(1500), 0);
  assert.is(device.giveUpOverdue(900), 2);
  await loop.run(() => flags.length === 4);
  assert.equal(flags, [-EIO, COMPLETION_ABANDONED, -EIO, COMPLETION_ABANDONED]);
  assert.is(device.fence(), FENCE_ALL);
  assert.equal(await bench.all(bench.read(3)), [-EIO]);
  const free: number[] = [];
  for (const memory of [BLOCK, 2 * BLOCK]) loop.whenFree(memory, BLOCK, () => free.push(memory));
  assert.equal(free, []);
  await loop.run(() => free.length === 1);
  assert.equal(free, [BLOCK]);
  assert.is(device.inFlight, 1, 'the one that never ends');
});

check('a disk that has vanished fails everything, in flight too', async () => {
  const bench = new SimBench({ seed: 1 });
  bench.disk.faults.add({ ops: ['sync'], action: { kind: 'vanish' } });
  assert.equal(await bench.all(bench.read(0), bench.write(1, 1), bench.sync()), [-EIO, -EIO, -EIO]);
  assert.equal(await bench.all(bench.read(0)), [-EIO]);
});

check('checksums are stored: of a write at its hand-over, of a read at its end, of what was really read', async () => {
  const bench = new SimBench({ seed: 1 });
  const { loop, device } = bench;
  const table = 20 * BLOCK;
  const length = 2 * BLOCK + SECTOR;
  for (let at = 0; at < length; at += 1) loop.bytes[at] = at * 7;
  const expected = [0, BLOCK, 2 * BLOCK].map((at) => crc32c(loop.bytes, at, Math.min(BLOCK, length - at)));
  const stored = (at: number) => [0, 4, 8].map((word) => loop.view.getUint32(at + word, true));
  const write = bench.start((token) => device.writeFrom(0, 4 * BLOCK, length, 0, 0, token, table));
  assert.equal(stored(table), [0, 0, 0]);
  loop.handOver();
  assert.equal(stored(table), expected);
  await bench.all(write);
  await bench.all(bench.start((token) => device.read(8 * BLOCK, length, 0, token, table + 64)));
  assert.equal(stored(table + 64), expected);
  bench.disk.faults.add({ ops: ['read'], action: { kind: 'corrupt' } });
  await bench.all(bench.start((token) => device.read(8 * BLOCK, length, 0, token, table + 128)));
  assert.is(stored(table + 128).filter((word, index) => word !== expected[index]).length, 1);
});

check('a disk has one device at a time, and a closed one takes nothing', async () => {
  const bench = new SimBench({ seed: 1 });
  const { device, loop, disk } = bench;
  assert.throws(() => new SimDevice(loop, disk), /in use/);
  const written = bench.write(0, 1);
  loop.handOver();
  device.close();
  assert.throws(() => new SimDevice(loop, disk), /in use/);
  assert.equal(await bench.all(written, bench.read(0)), [BLOCK, -9]);
  const next = new SimDevice(loop, disk);
  assert.is(next.fence(), FENCE_OPEN);
  disk.powerCut(new SimRandom(1));
  new SimDevice(loop, disk);
  next.sync(0);
  loop.handOver();
  assert.is(loop.step(), false, 'the device of before the cut is dead');
});

check('a caller that breaks the rules meets an exception', () => {
  const { device } = new SimBench({ seed: 1 });
  assert.throws(() => device.read(0, 100, 0, 0), /do not suit/);
  assert.throws(() => device.read(0, SECTOR, 64 * BLOCK, 0), /do not suit/);
  assert.throws(() => device.write(3, SECTOR, 0, 0, 0), /not aligned/);
  assert.throws(() => device.read(64 * BLOCK, SECTOR, 0, 0), /outside/);
  assert.throws(() => device.read(0, SECTOR, 0, 0, 2), /not aligned/);
});

run();
