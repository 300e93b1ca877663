/**
 * Modifications of a segment store, each noted in a model of what the device may hold after a crash: directed or random,
 * several at once, never two on one block.
 */

import * as assert from 'uvu/assert';
import type { SimRandom } from '#strake/sim/world/random.js';
import { BLOCK, BlockModel, replicaMap, type SimStore, SLOT_BLOCKS } from './sim-store.js';

const ENOSPC = 28;
const FUA = 1;

export interface StoreWorkerSettings {
  /** What each block may hold, by stripe * SLOT_BLOCKS + block. */
  readonly blocks: BlockModel;
  /** Whether each stripe has a slot (1) or not (0). */
  readonly segments?: BlockModel;
  /** The map version of each volume, by its place in `volumeIds`; 0 if it is not there. */
  readonly volumes?: BlockModel;
  readonly volumeIds?: readonly string[];
  /** The last value that was written. */
  readonly value?: number;
  /** For random work: stripes, and blocks of each that are used. */
  readonly stripes: number;
  readonly blocksUsed?: number;
}

export class StoreWorker {
  private readonly store: SimStore;
  private readonly blocks: BlockModel;
  private readonly segments: BlockModel;
  private readonly volumes: BlockModel;
  private readonly volumeIds: readonly string[];
  private readonly random: SimRandom;
  private readonly stripes: number;
  private readonly blocksUsed: number;
  private readonly locked = new Set<number>();
  private value: number;
  /** What went wrong in an operation that nobody waits for. */
  failure: unknown = null;
  ended = 0;

  constructor(store: SimStore, random: SimRandom, settings: StoreWorkerSettings) {
    this.store = store;
    this.random = random;
    this.blocks = settings.blocks;
    this.segments = settings.segments ?? new BlockModel();
    this.volumes = settings.volumes ?? new BlockModel();
    this.volumeIds = settings.volumeIds ?? [];
    this.stripes = settings.stripes;
    this.blocksUsed = settings.blocksUsed ?? SLOT_BLOCKS;
    this.value = settings.value ?? 0;
  }

  get lastValue(): number {
    return this.value;
  }

  /** Lets later values be those that nobody has used. */
  skipValues(count: number): void {
    this.value += count;
  }

  /** Begins `count` random operations, each when it may. */
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

  /** A random operation; nothing if another holds one of its blocks. */
  async one(): Promise<void> {
    const { blocksUsed } = this;
    const kind = this.random.below(10);
    if (kind === 0) {
      await this.flush();
      return;
    }
    const stripe = this.random.below(this.stripes);
    const block = this.random.below(blocksUsed);
    const blocks = 1 + this.random.below(Math.min(4, blocksUsed - block));
    const whole = kind === 2 && this.random.chance(0.5);
    const range = whole ? { block: 0, blocks: SLOT_BLOCKS } : { block, blocks };
    const release = kind <= 2 && this.random.chance(0.7);
    // What may give the slot back has the segment to itself.
    const owned = release ? keysOf(stripe, 0, SLOT_BLOCKS) : keysOf(stripe, range.block, range.blocks);
    if (owned.some((key) => this.locked.has(key))) return;
    for (const key of owned) this.locked.add(key);
    if (kind <= 2) await this.zero(stripe, range.block, range.blocks, release);
    else await this.write(stripe, range.block, range.blocks, kind === 3 ? FUA : 0);
    for (const key of owned) this.locked.delete(key);
  }

  /** Gives a stripe a slot. Returns false if none is free. */
  async allocate(stripe: number): Promise<boolean> {
    this.segments.begin(stripe, 1);
    const result = await this.store.allocate(stripe);
    if (result === -ENOSPC) return false;
    assert.is(result, 0);
    this.segments.acknowledge(stripe, 1);
    this.segments.durable(stripe, 1);
    return this.store.member.has(stripe);
  }

  /** Writes blocks, each with a value of its own; the stripe gets a slot if it has none and one is free. */
  async write(stripe: number, block: number, blocks = 1, flags = 0): Promise<void> {
    if (!this.store.member.has(stripe) && !(await this.allocate(stripe))) return;
    const value = this.value + 1;
    this.value += blocks;
    const keys = keysOf(stripe, block, blocks);
    for (const [index, key] of keys.entries()) this.blocks.begin(key, value + index);
    const before = { snapshot: this.blocks.snapshot(), base: this.blocks.copy() };
    const result = await this.store.write(stripe, block, blocks, value, flags, 1);
    assert.is(result, blocks * BLOCK);
    for (const [index, key] of keys.entries()) this.blocks.acknowledge(key, value + index);
    if (flags !== FUA) return;
    // It flushes everything.
    this.blocks.flushed(before.snapshot, before.base);
    for (const [index, key] of keys.entries()) this.blocks.durable(key, value + index);
  }

  /** Zeroes blocks. With `release` nothing else may go on in the stripe. */
  async zero(stripe: number, block: number, blocks: number, release: boolean): Promise<void> {
    const { member } = this.store;
    if (!member.has(stripe)) return;
    const keys = keysOf(stripe, block, blocks);
    for (const key of keys) this.blocks.begin(key, 0);
    if (release) this.segments.begin(stripe, 0);
    this.value += 1;
    assert.is(await this.store.zero(stripe, block, blocks, release, this.value), 0);
    for (const key of keys) this.blocks.acknowledge(key, 0);
    if (!release) return;
    const left = member.has(stripe) ? 1 : 0;
    if (left === 1) this.segments.begin(stripe, 1);
    this.segments.acknowledge(stripe, left);
  }

  async flush(): Promise<void> {
    const models = [this.blocks, this.segments].map((model) => ({
      model,
      snapshot: model.snapshot(),
      base: model.copy(),
    }));
    assert.is(await this.store.flush(), 0);
    for (const { model, snapshot, base } of models) model.flushed(snapshot, base);
  }

  /**
   * Stores the map of a volume, by its place in `volumeIds`; the version is negative if it is deleted. `over`: the deleted
   * volume whose page it takes.
   */
  async putVolume(place: number, version: number, over = -1): Promise<void> {
    const changes: (readonly [number, number])[] = [[place, version]];
    if (over >= 0) changes.push([over, 0]);
    for (const [at, value] of changes) this.volumes.begin(at, value);
    const map = replicaMap(this.volumeIds[place], { mapVersion: Math.abs(version), deleted: version < 0 });
    const index = await this.store.opened.store.putReplica(map);
    assert.ok(index >= 0, `putting the map ended with ${index}`);
    for (const [at, value] of changes) {
      this.volumes.acknowledge(at, value);
      this.volumes.durable(at, value);
    }
  }
}

function keysOf(stripe: number, first: number, count: number): number[] {
  return Array.from({ length: count }, (_, at) => stripe * SLOT_BLOCKS + first + at);
}
