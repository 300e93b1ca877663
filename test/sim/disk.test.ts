/** What a simulated disk promises, and all that it does not: durability, order, crashes. */

import * as assert from 'uvu/assert';
import { DEVICE_FUA } from '#strake/ports/device.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { check, run } from '../support/check.js';
import { BLOCK, rejects, SECTOR, SimBench, sectors, sectorsOn } from '../support/sim.js';

const all = (value: number) => new Array(8).fill(value);

check('only a sync, or FUA, makes a write durable', async () => {
  const bench = new SimBench({ seed: 1 });
  await bench.all(bench.write(0, 1), bench.write(1, 2, DEVICE_FUA));
  assert.equal(sectorsOn(bench.disk, 0), all(1));
  assert.equal(sectors(bench.disk.peekDurable(0, BLOCK)), all(0));
  assert.equal(sectors(bench.disk.peekDurable(BLOCK, BLOCK)), all(2));
  assert.is(bench.disk.volatileSectors().size, 8);
  await bench.all(bench.sync());
  assert.equal(sectors(bench.disk.peekDurable(0, BLOCK)), all(1));
  assert.is(bench.disk.volatileSectors().size, 0);
});

check('a sync does not cover what had not completed when it was started', async () => {
  const slowSync = { latencyUs: [10, 20], syncLatencyUs: [9000, 9000] } as const;
  const bench = new SimBench({ seed: 1 }, undefined, slowSync);
  const sync = bench.sync();
  await bench.all(bench.write(0, 1));
  await bench.all(sync);
  assert.equal(sectors(bench.disk.peekDurable(0, BLOCK)), all(0));
});

check('what a durable write has overwritten does not come back', async () => {
  for (let seed = 0; seed < 100; seed += 1) {
    const bench = new SimBench({ seed }, undefined, { latencyUs: [10, 20], syncLatencyUs: [2000, 3000] });
    await bench.all(bench.write(0, 1));
    const sync = bench.sync();
    await bench.all(bench.write(0, 2, DEVICE_FUA));
    const early = bench.disk.sample(new SimRandom(seed));
    assert.equal(sectorsOn(early, 0), all(2));
    await bench.all(sync);
    assert.equal(sectors(bench.disk.peekDurable(0, BLOCK)), all(2));
    for (const image of bench.disk.crashImages()) assert.equal(sectorsOn(image, 0), all(2));
  }
});

check('a power cut leaves old or new sectors, and all that was synced', async () => {
  const outcomes = new Set<string>();
  for (let seed = 0; seed < 300; seed += 1) {
    const bench = new SimBench({ seed });
    await bench.all(bench.write(0, 1), bench.write(1, 1), bench.write(2, 9));
    await bench.all(bench.sync());
    await bench.all(bench.write(0, 2));
    await bench.all(bench.write(0, 3));
    const flying = bench.write(1, 4);
    bench.loop.handOver();
    bench.disk.powerCut(new SimRandom(seed));
    assert.is(bench.disk.inFlight, 0);
    assert.is(bench.disk.volatileSectors().size, 0, 'what is there now is durable');
    assert.equal(sectorsOn(bench.disk, 2), all(9));
    for (const value of sectorsOn(bench.disk, 0)) {
      assert.ok([1, 2, 3].includes(value));
      outcomes.add(`0:${value}`);
    }
    for (const value of sectorsOn(bench.disk, 1)) {
      assert.ok([1, 4].includes(value));
      outcomes.add(`1:${value}`);
    }
    await rejects(bench.all(flying), /deadlock/);
  }
  assert.equal([...outcomes].sort(), ['0:1', '0:2', '0:3', '1:1', '1:4']);
});

check('writes that are not synced may survive in any order, whole or torn', async () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 200; seed += 1) {
    const bench = new SimBench({ seed });
    await bench.all(bench.write(0, 1));
    await bench.all(bench.write(1, 1));
    bench.disk.powerCut(new SimRandom(seed));
    const state = (block: number) => {
      const kept = sectorsOn(bench.disk, block).filter((value) => value === 1).length;
      return kept === 0 ? 'old' : kept === 8 ? 'new' : 'torn';
    };
    seen.add(`${state(0)} ${state(1)}`);
  }
  for (const outcome of ['old old', 'new new', 'new old', 'old new', 'torn torn'])
    assert.ok(seen.has(outcome), outcome);
});

check('writes in flight complete in any order, and reads see them in part', async () => {
  const orders = new Set<string>();
  const views = new Set<string>();
  for (let seed = 0; seed < 200; seed += 1) {
    const bench = new SimBench({ seed });
    const order: number[] = [];
    const note = (name: number) => () => order.push(name);
    const read = bench
      .start((token) => bench.device.read(8 * BLOCK, BLOCK, 0, token))
      .then(() => {
        const kept = bench.sectorsOf(8);
        views.add(new Set(kept).size > 1 ? 'mixed' : String(kept[0]));
        return 0;
      });
    await bench.all(bench.write(0, 1).then(note(0)), bench.write(1, 1).then(note(1)), read);
    orders.add(order.join());
    assert.equal(sectorsOn(bench.disk, 0), all(1));
  }
  assert.is(orders.size, 2);
  assert.equal([...views].sort(), ['0', '1', 'mixed']);
});

check('what was read before is not read again after the end of a later write', async () => {
  for (let seed = 0; seed < 50; seed += 1) {
    const bench = new SimBench({ seed });
    await bench.all(bench.write(0, 1), bench.write(0, 2));
    const [before] = sectorsOn(bench.disk, 0);
    await bench.all(bench.read(0));
    assert.equal(bench.sectorsOf(0), all(before), 'settled once both have ended');
    await bench.all(bench.sync());
    assert.equal(sectors(bench.disk.peekDurable(0, BLOCK)), all(before));
  }
});

check('a kill keeps what completed, and of the rest whole operations', async () => {
  const seen = new Set<number>();
  for (let seed = 0; seed < 40; seed += 1) {
    const first = new SimBench({ seed });
    await first.all(first.write(0, 1));
    first.write(1, 2);
    first.loop.handOver();
    first.disk.kill(new SimRandom(seed));
    const second = new SimBench({ seed }, first.disk);
    await second.all(second.read(0), second.read(1));
    assert.equal(second.sectorsOf(0), all(1));
    const [value] = second.sectorsOf(1);
    assert.equal(second.sectorsOf(1), all(value));
    seen.add(value);
    assert.equal(sectors(first.disk.peekDurable(0, BLOCK)), all(0), 'not durable by that');
    await second.all(second.sync());
    assert.equal(sectors(first.disk.peekDurable(0, BLOCK)), all(1));
  }
  assert.equal([...seen].sort(), [0, 2]);
});

check('what continuations of a dead process begin never happens, and disturbs nobody', async () => {
  for (const alive of [false, true]) {
    const bench = new SimBench({ seed: 1 });
    await bench.all(bench.write(0, 1), bench.write(1, 1));
    let ended = 0;
    const count = () => {
      ended += 1;
    };
    // What is queued when the disk loses its connection, what is begun afterwards in a slot of before, and in a new one.
    bench.sync().then(count);
    if (!alive) bench.loop.kill();
    bench.disk.kill(new SimRandom(1));
    bench.write(0, 2).then(count);
    bench.sync().then(count);
    await rejects(
      bench.loop.run(() => false),
      /nothing is left to happen/,
    );
    assert.is(ended, 0);
    assert.is(bench.disk.inFlight, 0);
    assert.equal(sectorsOn(bench.disk, 0), all(1));
  }
});

check('crash images are all subsets, and all tears of single writes', async () => {
  const bench = new SimBench({ seed: 1 });
  await bench.all(bench.write(0, 1));
  await bench.all(bench.sync());
  for (const value of [2, 3, 4]) await bench.all(bench.write(value, value));
  await bench.all(bench.write(0, 5));
  const whole = new Set<string>();
  const origins = new Set<string>();
  let torn = 0;
  for (const image of bench.disk.crashImages()) {
    assert.not(origins.has(image.origin), image.origin);
    origins.add(image.origin);
    const content = [0, 2, 3, 4].map((block) => sectorsOn(image, block));
    if (content.some((values) => new Set(values).size > 1)) torn += 1;
    else whole.add(content.map(([value]) => value).join());
    assert.ok([1, 5].includes(content[0][0]));
  }
  assert.is(whole.size, 16);
  // With those before, and, but for the last, with all others.
  assert.is(torn, 7 * 254);
  assert.is([...bench.disk.crashImages({ limit: 7 })].length, 7);
  assert.equal(sectorsOn(bench.disk, 0), all(5), 'the disk is as it was');
});

check('with many writes crash images are a choice', async () => {
  const bench = new SimBench({ seed: 1 });
  for (let block = 0; block < 13; block += 1) await bench.all(bench.write(block, 1));
  await bench.all(bench.write(40, 1, 0, 4));
  const images = [...bench.disk.crashImages({ limit: 8000, random: new SimRandom(1) })];
  assert.is(images.length, 8000);
  assert.ok(images[7999].origin.startsWith('random'));
});

check('of a long write each block is torn in every way', async () => {
  const bench = new SimBench({ seed: 1 });
  await bench.all(bench.write(3, 1), bench.write(8, 2, 0, 3));
  const masks = [8, 9, 10].map(() => new Set<string>());
  for (const image of bench.disk.crashImages()) {
    for (const [index, found] of masks.entries()) found.add(sectorsOn(image, 8 + index).join(''));
  }
  for (const found of masks) assert.is(found.size, 256);
});

check('what a crash keeps has a key, and what a disk holds a digest', async () => {
  const bench = new SimBench({ seed: 1 });
  await bench.all(bench.write(0, 1), bench.write(1, 1), bench.write(0, 2));
  const found = new Map<string, number>();
  for (const crash of bench.disk.crashes()) found.set(crash.key ?? '', crash.disk().digest());
  await bench.all(bench.write(2, 7));
  let known = 0;
  for (const crash of bench.disk.clone().crashes()) {
    const before = found.get(crash.key ?? '');
    if (before === undefined) continue;
    known += 1;
    assert.is(crash.disk().digest(), before, crash.origin);
  }
  // Tears of two modifications had gone along with all others of then, of which there is one more now.
  assert.is(known, found.size - 2 * 254);
  const contents = new Map<number, string>();
  for (const crash of bench.disk.crashes()) {
    const disk = crash.disk();
    const content = [0, 1, 2].map((block) => sectorsOn(disk, block).join('')).join();
    assert.is(contents.get(disk.digest()) ?? content, content);
    contents.set(disk.digest(), content);
  }
  assert.is(new Set(contents.values()).size, contents.size);
  const disk = new SimDisk({ sizeBytes: 16 * BLOCK });
  const empty = disk.digest();
  disk.poke(5 * BLOCK, new Uint8Array(BLOCK).fill(1));
  const full = disk.digest();
  assert.is.not(full, empty);
  disk.poke(5 * BLOCK, new Uint8Array(BLOCK));
  assert.is(disk.digest(), empty, 'zeroes are as good as nothing');
  disk.poke(6 * BLOCK, new Uint8Array(BLOCK).fill(1));
  assert.is.not(disk.digest(), full, 'the place counts');
});

check('a copy of a disk and the disk do not see each other', async () => {
  const bench = new SimBench({ seed: 1 }, new SimDisk({ sizeBytes: 3 << 20 }));
  await bench.all(bench.write(0, 1), bench.write(1, 1));
  const copy = bench.disk.clone();
  await bench.all(bench.write(0, 2), bench.sync());
  await bench.all(bench.sync());
  assert.equal(sectorsOn(copy, 0), all(1));
  copy.poke(BLOCK, new Uint8Array(SECTOR).fill(7));
  copy.poke((2 << 20) + 100, new Uint8Array(5000).fill(7));
  assert.equal(sectorsOn(bench.disk, 1), all(1));
  assert.is(bench.disk.peek((2 << 20) + 200, 1)[0], 0);
  assert.equal([...copy.peek((2 << 20) + 99, 5002)], [0, ...new Array(5000).fill(7), 0]);
  assert.equal(sectors(copy.peekDurable(0, BLOCK)), all(0));
  assert.is(copy.volatileSectors().size, 16);
});

check('zeroing zeroes, discarding may, and extents tell what is allocated', async () => {
  const outcomes = new Set<string>();
  for (let seed = 0; seed < 60; seed += 1) {
    const bench = new SimBench({ seed }, new SimDisk({ sizeBytes: 16 * BLOCK }));
    const { device, loop } = bench;
    await bench.all(bench.write(0, 1, 0, 4));
    const zero = bench.start((token) => device.zero(BLOCK, BLOCK, DEVICE_FUA, token));
    const part = bench.start((token) => device.zero(2 * BLOCK, SECTOR, 0, token));
    const fast = bench.start((token) => device.zero(0, BLOCK, 4, token));
    assert.equal(await bench.all(zero, part, fast), [0, 0, -95]);
    assert.equal(sectorsOn(bench.disk, 2), [0, 1, 1, 1, 1, 1, 1, 1]);
    const [count] = await bench.all(bench.start((token) => device.extents(SECTOR, 10 * BLOCK, 0, 160, token)));
    const listed = Array.from({ length: 2 * count }, (_, index) => loop.view.getFloat64(index * 8, true));
    assert.equal(listed, [BLOCK - SECTOR, 0, BLOCK, 3, 2 * BLOCK, 0, 6 * BLOCK + SECTOR, 3]);
    await bench.all(bench.start((token) => device.discard(3 * BLOCK, BLOCK, 0, token)));
    const left = sectorsOn(bench.disk, 3);
    outcomes.add(new Set(left).size > 1 ? 'mixed' : String(left[0]));
  }
  assert.equal([...outcomes].sort(), ['0', '1', 'mixed']);
});

run();
