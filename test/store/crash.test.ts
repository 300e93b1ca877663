/** What a segment store keeps when the process dies or the power fails, at any instant of random work. */

import * as assert from 'uvu/assert';
import type { SimDisk } from '#strake/sim/disk.js';
import type { SimRandom } from '#strake/sim/random.js';
import type { StoreBounds } from '#strake/store/segment-store.js';
import { check, run } from '../support/check.js';
import { BlockModel, diskOf, randomOf, SimStore, SLOT_BLOCKS } from '../support/sim-store.js';

const SLOTS = 6;
const STRIPES = 8;

/** Random modifications and flushes, several at once, never two on one block. */
class Worker {
  private readonly store: SimStore;
  private readonly model: BlockModel;
  private readonly random: SimRandom;
  private readonly locked = new Set<number>();
  private value: number;
  /** What went wrong in an operation that nobody waits for. */
  failure: unknown = null;
  ended = 0;

  constructor(store: SimStore, model: BlockModel, random: SimRandom, value: number) {
    this.store = store;
    this.model = model;
    this.random = random;
    this.value = value;
  }

  get lastValue(): number {
    return this.value;
  }

  /** Begins `count` operations, each when it may. */
  begin(count: number): void {
    for (let index = 0; index < count; index += 1) {
      this.one().then(
        () => {
          this.ended += 1;
        },
        (error: unknown) => {
          this.failure ??= error;
          this.ended += 1;
        },
      );
    }
  }

  private async one(): Promise<void> {
    const kind = this.random.below(10);
    if (kind === 0) {
      await this.flush();
      return;
    }
    const stripe = this.random.below(STRIPES);
    const block = this.random.below(SLOT_BLOCKS);
    const blocks = 1 + this.random.below(Math.min(4, SLOT_BLOCKS - block));
    const whole = kind === 2 && this.random.chance(0.5);
    const range = whole ? { block: 0, blocks: SLOT_BLOCKS } : { block, blocks };
    const release = kind <= 2 && this.random.chance(0.7);
    const keysOf = (first: number, count: number) =>
      Array.from({ length: count }, (_, at) => stripe * SLOT_BLOCKS + first + at);
    const keys = keysOf(range.block, range.blocks);
    // What may give the slot back has the segment to itself.
    const owned = release ? keysOf(0, SLOT_BLOCKS) : keys;
    if (owned.some((key) => this.locked.has(key))) return;
    for (const key of owned) this.locked.add(key);
    if (kind <= 2) await this.zero(stripe, range.block, range.blocks, keys, release);
    else await this.write(stripe, range.block, range.blocks, keys, kind === 3 ? 1 : 0);
    for (const key of owned) this.locked.delete(key);
  }

  private async write(stripe: number, block: number, blocks: number, keys: number[], flags: number): Promise<void> {
    if (!this.store.member.has(stripe)) {
      const result = await this.store.allocate(stripe);
      if (result === -28) return;
      assert.is(result, 0);
      if (!this.store.member.has(stripe)) return;
    }
    this.value += 1;
    const { value } = this;
    for (const key of keys) this.model.begin(key, value);
    const before = { snapshot: this.model.snapshot(), base: this.model.copy() };
    const result = await this.store.write(stripe, block, blocks, value, flags);
    assert.is(result, blocks * 4096);
    for (const key of keys) this.model.acknowledge(key, value);
    if (flags !== 1) return;
    this.model.flushed(before.snapshot, before.base);
    const now = this.model.copy();
    const own = new Map(keys.map((key) => [key, now.get(key)?.findLastIndex((one) => one.value === value) ?? 0]));
    this.model.flushed(own, now);
  }

  private async zero(stripe: number, block: number, blocks: number, keys: number[], release: boolean): Promise<void> {
    if (!this.store.member.has(stripe)) return;
    for (const key of keys) this.model.begin(key, 0);
    this.value += 1;
    assert.is(await this.store.zero(stripe, block, blocks, release, this.value), 0);
    for (const key of keys) this.model.acknowledge(key, 0);
  }

  private async flush(): Promise<void> {
    const snapshot = this.model.snapshot();
    const base = this.model.copy();
    assert.is(await this.store.flush(), 0);
    this.model.flushed(snapshot, base);
  }
}

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
    const worker = new Worker(store, model, random, value);
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
    const seeds = Number(process.env.STRAKE_SEEDS ?? 150);
    const first = Number(process.env.STRAKE_SEED ?? 1);
    for (let seed = first; seed < first + seeds; seed += 1) await live(seed, 6);
  },
);

check('so they do when activity log and cache are so small that everything is evicted all the time', [], async () => {
  const seeds = Number(process.env.STRAKE_SEEDS ?? 100);
  const first = Number(process.env.STRAKE_SEED ?? 1);
  for (let seed = first; seed < first + seeds; seed += 1) await live(seed, 4, { activeSlots: 2, tablePages: 4 });
});

run();
