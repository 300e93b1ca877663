/**
 * A segment store at work, with the instants at which the power might fail: at the end of each batch of completions, and before
 * each sync or FUA makes something durable, since most is undecided then. An instant is a copy of the disk, and what each
 * block, segment and volume may be on any of the images that a power cut then leaves.
 */

import * as assert from 'uvu/assert';
import { SimDisk } from '#strake/sim/disk/disk.js';
import type { SimRandom } from '#strake/sim/world/random.js';
import { computeLayout, deviceBytesMin, SLOT_FREE } from '#strake/store/format/format.js';
import type { StoreBounds } from '#strake/store/store-start.js';
import { BLOCK, BlockModel, SECTOR, SimStore, SLOT, SLOT_BLOCKS, VOLUME_ID } from './sim-store.js';
import { StoreWorker } from './store-worker.js';

export const SLOTS = 4;
/** More than there are slots, so that they are given back and used again. */
export const STRIPES = 6;
/** Blocks of each stripe that are used, beside those that are zeroed. */
const BLOCKS_USED = 5;
/** Further volumes may be put there. */
export const VOLUME_IDS: readonly string[] = [VOLUME_ID, 'b'.repeat(32), 'c'.repeat(32)];
/** Shorter than usual: what the store waits for hangs on few promises. */
const TURNS = 10;

/** So many values have certainly not been written yet. */
const VALUES_SKIPPED = 1_000_000;

/** What a store may hold, each with its choices. What is in no map is zero. */
export interface Expected {
  readonly blocks: ReadonlyMap<number, readonly number[]>;
  readonly segments: ReadonlyMap<number, readonly number[]>;
  readonly volumes: ReadonlyMap<number, readonly number[]>;
}

/** What a store was found to hold; zeroes are left out. */
export interface Found {
  /** The values of the sectors, by block. */
  readonly blocks: ReadonlyMap<number, readonly number[]>;
  readonly segments: ReadonlyMap<number, readonly number[]>;
  /** Versions of maps; negative if the volume is deleted. */
  readonly volumes: ReadonlyMap<number, readonly number[]>;
  /** Blocks that were suspect after recovery. */
  readonly suspects: readonly number[];
  /** All of this but what was suspect, as text. */
  readonly text: string;
}

export interface Instant {
  readonly disk: SimDisk;
  readonly expected: Expected;
  /** `expected` as text. */
  readonly meaning: string;
}

/** A disk with few slots. */
function smallDisk({ discard, directoryLevels }: LifeSettings): SimDisk {
  let sizeBytes = deviceBytesMin(SLOT) + SLOT;
  while (computeLayout(sizeBytes, SLOT, directoryLevels).slots < SLOTS) sizeBytes += SLOT;
  return new SimDisk({ sizeBytes, discard: discard ?? true });
}

/** Opens a store on a disk that has the volume. */
export async function openOn(
  disk: SimDisk,
  seed: number,
  bounds?: StoreBounds,
  record?: () => void,
): Promise<SimStore> {
  const store = new SimStore(disk, seed, bounds, TURNS);
  if (record !== undefined) store.loop.onBatchEnd(record);
  await store.open(true);
  return store;
}

function textOf(map: ReadonlyMap<number, readonly number[]>): string {
  return [...map].map(([key, values]) => `${key}=${values.join()}`).join(' ');
}

/** The values of the sectors of a block: one if all are the same. Throws if one holds no single value. */
function valuesOf(words: Uint32Array, key: number): number[] {
  const values: number[] = [];
  const step = SECTOR / 4;
  for (let at = 0; at < words.length; at += step) {
    const value = words[at];
    for (let word = at + 1; word < at + step; word += 1) {
      if (words[word] !== value) throw new Error(`block ${key}: sector ${at / step} holds ${value} and ${words[word]}`);
    }
    values.push(value);
  }
  return values.every((value) => value === values[0]) ? [values[0]] : values;
}

/** Slots that are used: each by another segment, as many as are counted, each found by its segment. */
function checkSlots(store: SimStore): void {
  const { slots, replicas, volumeTable } = store.opened.store;
  const owners = new Set<string>();
  let used = 0;
  for (let slot = 0; slot < slots.slots; slot += 1) {
    if (slots.states[slot] === SLOT_FREE) continue;
    used += 1;
    const [volume, stripe] = [slots.volumes[slot], slots.stripes[slot]];
    if (slots.find(volume, stripe) !== slot) throw new Error(`slot ${slot} is not found by segment ${stripe}`);
    if (owners.has(`${volume} ${stripe}`)) throw new Error(`segment ${stripe} of volume ${volume} has two slots`);
    owners.add(`${volume} ${stripe}`);
  }
  const segments = replicas.reduce((sum, _, index) => sum + volumeTable.segmentsOf(index), 0);
  const counts = [used, slots.usedSlots, slots.slots - slots.freeSlots, segments];
  if (new Set(counts).size > 1) throw new Error(`used slots: ${counts.join(', ')} by state, count, free and segments`);
}

/** Reads all that a store holds. */
export async function contentOf(store: SimStore): Promise<Found> {
  checkSlots(store);
  const blocks = new Map<number, number[]>();
  const stripes = [...store.member.segments()].map(({ stripe }) => stripe).sort((one, other) => one - other);
  const contents = await store.settle(Promise.all(stripes.map((stripe) => store.readBytes(stripe, 0, SLOT_BLOCKS))));
  contents.forEach((bytes, index) => {
    const stripe = stripes[index];
    if (typeof bytes === 'number') throw new Error(`stripe ${stripe} cannot be read: ${bytes}`);
    for (let block = 0; block < SLOT_BLOCKS; block += 1) {
      const key = stripe * SLOT_BLOCKS + block;
      const values = valuesOf(new Uint32Array(bytes.buffer, bytes.byteOffset + block * BLOCK, BLOCK / 4), key);
      if (values.length > 1 || values[0] !== 0) blocks.set(key, values);
    }
  });
  const volumes = new Map<number, number[]>();
  for (const map of store.opened.store.replicas) {
    if (map === undefined) continue;
    const { id, deleted } = map.volume;
    volumes.set(VOLUME_IDS.indexOf(id), [deleted ? -map.mapVersion : map.mapVersion]);
  }
  const segments = new Map(stripes.map((stripe) => [stripe, [1]]));
  return {
    blocks,
    segments,
    volumes,
    suspects: store.suspects,
    text: [blocks, segments, volumes].map(textOf).join('; '),
  };
}

const KINDS = ['blocks', 'segments', 'volumes'] as const;
const ZERO: readonly number[] = [0];

/** What is wrong with what was found; empty if nothing is. */
export function judge(found: Found, expected: Expected): string {
  for (const kind of KINDS) {
    for (const key of new Set([...found[kind].keys(), ...expected[kind].keys()])) {
      const values = found[kind].get(key) ?? ZERO;
      const allowed = expected[kind].get(key) ?? ZERO;
      const wrong = values.some((value) => !allowed.includes(value));
      if (wrong) return `${kind}: ${key} holds ${values.join(' ')}, allowed are ${allowed.join(' ')}`;
    }
  }
  // What nobody has modified since a flush has covered it is not even doubtful.
  const key = found.suspects.find((suspect) => (expected.blocks.get(suspect) ?? ZERO).length === 1);
  return key === undefined ? '' : `block ${key} is suspect, and can only be ${expected.blocks.get(key) ?? ZERO}`;
}

export interface LifeSettings {
  readonly bounds?: StoreBounds;
  /** Whether the device can discard. Without that a slot holds what its last owner left. Default true. */
  readonly discard?: boolean;
  /** 1: the directory has an index. Default 0. */
  readonly directoryLevels?: number;
}

/** A device from its formatting on. */
export class Life {
  readonly disk: SimDisk;
  readonly random: SimRandom;
  readonly instants: Instant[] = [];
  store!: SimStore;
  worker!: StoreWorker;
  /** Whether instants are noted. */
  recording = false;
  private readonly models = { blocks: new BlockModel(), segments: new BlockModel(), volumes: new BlockModel() };
  private readonly seed: number;
  private readonly bounds: StoreBounds | undefined;
  private readonly directoryLevels: number;
  private readonly record = () => this.note();
  private openings = 0;
  private last = '';

  constructor(seed: number, random: SimRandom, settings: LifeSettings, disk = smallDisk(settings)) {
    const { bounds, directoryLevels } = settings;
    this.disk = disk;
    this.directoryLevels = directoryLevels ?? 0;
    this.seed = seed;
    this.random = random;
    this.bounds = bounds;
    this.disk.onDurable = this.record;
    this.models.volumes.settle(0, [1]);
  }

  /** The life that goes on with a disk that is recovered by that, and holds this. */
  static async after(
    disk: SimDisk,
    seed: number,
    random: SimRandom,
    found: Found,
    settings: LifeSettings,
  ): Promise<Life> {
    const life = new Life(seed, random, settings, disk);
    for (const kind of KINDS) for (const [key, values] of found[kind]) life.models[kind].settle(key, values);
    await life.open();
    life.worker.skipValues(VALUES_SKIPPED);
    return life;
  }

  /** Formats the disk, and opens it. */
  async begin(): Promise<void> {
    const store = new SimStore(this.disk, this.seed);
    await store.format(SLOT, this.directoryLevels);
    await store.open();
    await store.close();
    await this.open();
    const { slots } = this.store.opened.store;
    assert.is(slots.slots, SLOTS);
  }

  async open(): Promise<void> {
    this.openings += 1;
    this.store = await openOn(this.disk, this.seed + this.openings, this.bounds, this.record);
    const { blocks, segments, volumes } = this.models;
    this.worker = new StoreWorker(this.store, this.random, {
      blocks,
      segments,
      volumes,
      volumeIds: VOLUME_IDS,
      value: this.worker?.lastValue ?? 0,
      stripes: STRIPES,
      blocksUsed: BLOCKS_USED,
    });
  }

  close(): Promise<void> {
    return this.store.close();
  }

  /** Reads everything; throws if something is not what it may be. */
  async check(): Promise<Found> {
    const found = await contentOf(this.store);
    const wrong = judge(found, this.expected());
    if (wrong !== '') throw new Error(wrong);
    return found;
  }

  /** The power fails, and comes back. What is found then is what counts. */
  async cutPower(): Promise<void> {
    this.disk.powerCut(this.random);
    await this.open();
    const found = await this.check();
    for (const kind of KINDS) {
      for (const key of this.models[kind].keys()) this.models[kind].settle(key, found[kind].get(key) ?? ZERO);
    }
    await this.all(this.worker.flush());
  }

  /** Runs until all of these have ended. */
  async all(...promises: Promise<unknown>[]): Promise<void> {
    await this.store.settle(Promise.all(promises));
    this.note();
  }

  private expected(): Expected {
    const allowed = (model: BlockModel) =>
      new Map(model.keys().map((key) => [key, [...new Set(model.allowed(key, true))]] as const));
    const { blocks, segments, volumes } = this.models;
    return { blocks: allowed(blocks), segments: allowed(segments), volumes: allowed(volumes) };
  }

  private note(): void {
    if (!this.recording) return;
    const expected = this.expected();
    const meaning = KINDS.map((kind) => textOf(expected[kind])).join('; ');
    const state = `${this.disk.digest()} ${this.disk.undurableKey} ${meaning}`;
    if (state === this.last) return;
    this.last = state;
    this.instants.push({ disk: this.disk.clone(), expected, meaning });
  }
}
