/** What a segment store keeps when the process dies or the power fails, at any instant of random work. */

import * as assert from 'uvu/assert';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import type { StoreBounds } from '#strake/store/store-start.js';
import { check, repetitions, run } from '../support/check.js';
import { BlockModel, diskOf, randomOf, SimStore, SLOT_BLOCKS } from '../support/sim-store.js';
import { StoreWorker } from '../support/store-worker.js';

const SLOTS = 6;
const STRIPES = 8;

async function verify(store: SimStore, model: BlockModel, powerCut: boolean, what: string): Promise<void> {
  for (const key of model.keys()) {
    const values = await store.settle(store.read(Math.floor(key / SLOT_BLOCKS), key % SLOT_BLOCKS));
    if (typeof values === 'number') throw new Error(`${what}: block ${key} cannot be read: ${values}`);
    const allowed = model.allowed(key, powerCut);
    for (const value of values) {
      if (!allowed.includes(value)) {
        throw new Error(`${what}: block ${key} holds ${values.join(' ')}, allowed are ${allowed.join(' ')}`);
      }
    }
    model.settle(key, values);
  }
}

/** One life after another on the same disk, each ended by a crash. */
async function live(seed: number, lives: number, bounds?: StoreBounds): Promise<void> {
  const random = randomOf(seed);
  const disk: SimDisk = diskOf(SLOTS);
  const model = new BlockModel();
  let value = 0;
  let store = new SimStore(disk, seed, bounds);
  await store.format();
  for (let life = 0; life < lives; life += 1) {
    await store.open();
    const what = `seed ${seed}, life ${life}`;
    const worker = new StoreWorker(store, random, { blocks: model, value, stripes: STRIPES });
    let begun = 0;
    const until = random.below(60);
    while (worker.ended < until) {
      while (begun - worker.ended < 8) {
        worker.begin(1);
        begun += 1;
      }
      const seen = worker.ended;
      await store.loop.run(() => worker.ended > seen, {});
      if (worker.failure !== null) throw new Error(`${what}: ${String(worker.failure)}`);
    }
    const steps = random.below(20);
    for (let step = 0; step < steps; step += 1) await store.loop.settle(Promise.resolve());
    const powerCut = random.chance(0.6);
    if (powerCut) disk.powerCut(random);
    else disk.kill(random);
    value = worker.lastValue;
    store = new SimStore(disk, seed + life * 7919, bounds);
    // Recovery itself is interrupted now and then.
    if (random.chance(0.3)) {
      const attempt = store.open().catch(() => {});
      let turns = random.below(40);
      const passed = () => {
        turns -= 1;
        return turns < 0;
      };
      await store.loop.run(passed).catch(() => {});
      void attempt;
      if (powerCut) disk.powerCut(random);
      else disk.kill(random);
      store = new SimStore(disk, seed + life * 104729, bounds);
    }
    await store.open();
    await verify(store, model, powerCut, what);
    // What has been seen must stay: it is flushed before the next crash.
    assert.is(await store.settle(store.flush()), 0);
    await store.close();
    store = new SimStore(disk, seed + life * 15485863, bounds);
  }
}

check(
  'C5 F2 acknowledged writes survive kills, flushed ones power cuts; other sectors are old or new',
  [],
  async () => {
    const seeds = Number(process.env.STRAKE_SEEDS ?? repetitions(150, 20));
    const first = Number(process.env.STRAKE_SEED ?? 1);
    for (let seed = first; seed < first + seeds; seed += 1) await live(seed, 6);
  },
);

check('so they do when activity log and cache are so small that everything is evicted all the time', [], async () => {
  const seeds = Number(process.env.STRAKE_SEEDS ?? repetitions(100, 12));
  const first = Number(process.env.STRAKE_SEED ?? 1);
  for (let seed = first; seed < first + seeds; seed += 1) await live(seed, 4, { activeSlots: 2, tablePages: 4 });
});

run();
