/** A segment store on a simulated disk, with a model of what each of its sectors may hold. */

import { BLOCK_SUSPECT, ENTRY_FLAGS, ENTRY_WORDS } from '#strake/layout/block-entry.js';
import { type ReplicaMap, replicaOf } from '#strake/layout/replica-map.js';
import { NO_CLIENT, type VolumeMap } from '#strake/layout/volume-map.js';
import type { SegmentRequest } from '#strake/ports/segment-request.js';
import { SimDevice } from '#strake/sim/disk/device.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { SimLoop } from '#strake/sim/world/loop.js';
import { SimRandom } from '#strake/sim/world/random.js';
import type { Superblock } from '#strake/store/format/superblock.js';
import { formatDevice } from '#strake/store/opening/format-device.js';
import { type OpenedStore, openStore } from '#strake/store/opening/open-store.js';
import type { RecoveryReport } from '#strake/store/opening/recovery.js';
import { STORE_MEMORY_BYTES, type StoreBounds, type StoreHooks, type StorePorts } from '#strake/store/store-start.js';
import { DirectMember } from './direct-member.js';

export const BLOCK = 4096;
export const SECTOR = 512;
export const SLOT = 64 << 10;
export const SLOT_BLOCKS = SLOT / BLOCK;
export const DEVICE_ID = 'd'.repeat(32);
export const CLUSTER_ID = 'c'.repeat(32);
export const VOLUME_ID = 'a'.repeat(32);
/** Where operations find their payload. */
const PAYLOAD = STORE_MEMORY_BYTES;
const PAYLOADS = 64;
/**
 * Arenas for all stores of a test: clearing one costs less than a new one. A store never has that of the one before: what is left
 * of a store that was killed may go on until its promises are used up, as nothing of a process would.
 */
const arenas = [0, 1].map(() => new Uint8Array(new SharedArrayBuffer(PAYLOAD + PAYLOADS * SLOT)));
let stores = 0;

export function volumeOf(id = VOLUME_ID, deviceId = DEVICE_ID): VolumeMap {
  return {
    id,
    name: 'v',
    createdMs: 1,
    sizeBytes: 1 << 30,
    layout: 'single',
    copies: 1,
    segmentBytes: SLOT,
    versions: [1],
    generation: 1,
    holder: NO_CLIENT,
    lease: 'exclusive',
    headerVersion: 0,
    deleted: false,
    groups: [
      [
        {
          deviceId,
          state: 'in-sync',
          since: { generation: 0, flushNumber: 0 },
          incarnation: 0,
          flushNumber: 0,
          joined: 0,
        },
      ],
    ],
  };
}

/** The only group of that volume, of another version, or deleted. */
export function replicaMap(
  id = VOLUME_ID,
  changes: { readonly mapVersion?: number; readonly deleted?: boolean } = {},
  deviceId = DEVICE_ID,
): ReplicaMap {
  const { mapVersion = 1, deleted = false } = changes;
  return replicaOf({ ...volumeOf(id, deviceId), versions: [mapVersion], deleted }, 0);
}

/** A disk that holds so many slots, and a little more. */
export function diskOf(slots: number): SimDisk {
  return new SimDisk({ sizeBytes: (3 << 20) + slots * (SLOT + 2 * BLOCK) });
}

/** A store from its opening to the next crash or close. */
export class SimStore {
  readonly loop: SimLoop;
  readonly device: SimDevice;
  readonly ports: StorePorts;
  /** Whether the note of a deleted volume may go. */
  mayForget: StoreHooks['mayForget'] = () => false;
  readonly hooks: StoreHooks = { onDamage: () => {}, mayForget: (note) => this.mayForget(note) };
  opened!: OpenedStore;
  member!: DirectMember;
  /** Blocks that were suspect when the store was opened, by stripe * SLOT_BLOCKS + block. */
  readonly suspects: number[] = [];
  private readonly arena: Uint8Array;
  private readonly base: number;
  private readonly waiting: ((result: number) => void)[] = [];
  private readonly freePayloads: number[] = [];

  /** `turns`: see `SimLoopSettings`. */
  constructor(disk: SimDisk, seed: number, bounds?: StoreBounds, turns?: number) {
    stores += 1;
    this.arena = arenas[stores % arenas.length];
    const { arena } = this;
    this.loop = new SimLoop({ seed, arena, ...(turns === undefined ? {} : { turns }) });
    this.device = new SimDevice(this.loop, disk);
    const { loop, device } = this;
    this.ports = {
      completions: loop,
      memory: loop,
      device,
      memoryStart: 0,
      ...(bounds === undefined ? {} : { bounds }),
    };
    this.base = loop.register({ complete: (tag, result) => this.waiting[tag](result) });
    for (let index = PAYLOADS - 1; index >= 0; index -= 1) this.freePayloads.push(PAYLOAD + index * SLOT);
  }

  settle<T>(promise: Promise<T>): Promise<T> {
    return this.loop.settle(promise);
  }

  /** `directoryLevels`: 1 for an index of the directory, which small devices do not need. */
  format(slotBytes = SLOT, directoryLevels?: number): Promise<Superblock> {
    const levels = directoryLevels === undefined ? {} : { directoryLevels };
    const options = { deviceId: DEVICE_ID, clusterId: CLUSTER_ID, slotBytes, nowMs: 1_700_000_000_000, ...levels };
    return this.settle(formatDevice(this.ports, options));
  }

  /**
   * Opens the store and attaches the volume, accepting whatever is suspect, as a volume of one copy does. A volume that is not
   * there is put there, unless it is `expected` to be. `accepting`: false leaves what is suspect in doubt.
   */
  async open(expected = false, accepting = true): Promise<RecoveryReport> {
    this.opened = await this.settle(openStore(this.ports, { path: 'disk' }, this.hooks));
    const { store } = this.opened;
    let index = store.volumeTable.indexOf(VOLUME_ID, 0);
    if (index < 0 && expected) throw new Error('the volume is gone');
    if (index < 0) index = await this.settle(store.putReplica(replicaMap()));
    this.member = new DirectMember(this.loop, store, index);
    if (accepting) await this.settle(this.acceptAll());
    return this.opened.recovery;
  }

  private async acceptAll(): Promise<void> {
    for (const { stripe, dirty } of [...this.member.segments()]) {
      if (!dirty) continue;
      const entries = await this.member.entries(stripe);
      for (let block = 0; block < SLOT_BLOCKS; block += 1) {
        if ((entries[block * ENTRY_WORDS + ENTRY_FLAGS] & BLOCK_SUSPECT) === 0) continue;
        this.suspects.push(stripe * SLOT_BLOCKS + block);
        await this.member.acceptBlock(stripe, block, PAYLOAD);
      }
    }
    await this.member.reconciled();
  }

  async close(): Promise<void> {
    this.member.close();
    await this.settle(this.opened.checkpointer.close());
    this.opened.store.dispose();
  }

  start(begin: (token: number) => void): Promise<number> {
    return new Promise((resolve) => {
      begin(this.base + this.waiting.push(resolve) - 1);
    });
  }

  allocate(stripe: number): Promise<number> {
    return this.start((token) => this.member.allocate(stripe, token));
  }

  /** Writes blocks in which each sector holds `value` as a number, over and over; in each next block by `step` more. */
  async write(stripe: number, block: number, blocks: number, value: number, flags = 0, step = 0): Promise<number> {
    const memory = this.freePayloads.pop();
    if (memory === undefined) throw new Error('too many writes at once');
    // Every other payload lies elsewhere, and is to be copied.
    const source = value % 2 === 0 ? this.freePayloads.pop() : undefined;
    const words = new Uint32Array(this.arena.buffer, source ?? memory, (blocks * BLOCK) / 4);
    for (let index = 0; index < blocks; index += 1) {
      words.fill(value + index * step, (index * BLOCK) / 4, ((index + 1) * BLOCK) / 4);
    }
    const result = await this.start((token) =>
      this.member.write(stripe, block, blocks, memory, source ?? -1, value, 1, flags, token),
    );
    this.freePayloads.push(memory);
    if (source !== undefined) this.freePayloads.push(source);
    return result;
  }

  zero(stripe: number, block: number, blocks: number, release: boolean, stamp: number): Promise<number> {
    return this.start((token) => this.member.zero(stripe, block, blocks, release, stamp, 1, 0, token));
  }

  /**
   * Hands a request over as it is, with a token of its own. `value`: what its payload holds, in a place that lies apart from
   * where the device reads it.
   */
  async submit(request: SegmentRequest, value?: number): Promise<number> {
    const memory = this.freePayloads.pop();
    const source = this.freePayloads.pop();
    if (memory === undefined || source === undefined) throw new Error('too many requests at once');
    request.memory = memory;
    if (value !== undefined) {
      request.source = source;
      request.sourceBytes = request.blocks * BLOCK;
      new Uint32Array(this.arena.buffer, source, (request.blocks * BLOCK) / 4).fill(value);
    }
    const result = await this.start((token) => {
      request.token = token;
      this.member.submit(request);
      // The payload is the caller's again when the batch has been handed over.
      this.loop.defer(this.loop.register({ complete: () => this.arena.fill(0xee, source, source + SLOT) }), 0);
    });
    this.freePayloads.push(memory, source);
    return result;
  }

  flush(marked = false): Promise<number> {
    return this.start((token) => this.member.flush(token, marked));
  }

  /** A copy of what blocks hold. A number below 0 is an error. */
  async readBytes(stripe: number, block: number, blocks: number): Promise<Uint8Array | number> {
    const memory = this.freePayloads.pop();
    if (memory === undefined) throw new Error('too many reads at once');
    const result = await this.start((token) => this.member.read(stripe, block, blocks, memory, token));
    const bytes = this.arena.slice(memory, memory + blocks * BLOCK);
    this.freePayloads.push(memory);
    return result < 0 ? result : bytes;
  }

  /** The values of the sectors of a block; -1 for one that holds no single value. A number below 0 is an error. */
  async read(stripe: number, block: number): Promise<number[] | number> {
    const memory = this.freePayloads.pop();
    if (memory === undefined) throw new Error('too many reads at once');
    const result = await this.start((token) => this.member.read(stripe, block, 1, memory, token));
    const words = new Uint32Array(this.arena.buffer, memory, BLOCK / 4);
    const values: number[] = [];
    for (let at = 0; at < words.length; at += SECTOR / 4) {
      const same = words.subarray(at, at + SECTOR / 4).every((word) => word === words[at]);
      values.push(same ? words[at] : -1);
    }
    this.freePayloads.push(memory);
    return result < 0 ? result : values;
  }
}

/** One version of a block. 0 stands for zeroes; after a crash its sectors may be of several. */
interface Version {
  readonly value: number;
  readonly torn: readonly number[];
  acknowledged: boolean;
}

/** What a block may hold after a crash. */
export class BlockModel {
  /** In the order of their writes; the first is what a flush has covered. */
  private readonly versions = new Map<number, Version[]>();

  private of(key: number): Version[] {
    let list = this.versions.get(key);
    if (list === undefined) {
      list = [{ value: 0, torn: [], acknowledged: true }];
      this.versions.set(key, list);
    }
    return list;
  }

  begin(key: number, value: number): void {
    this.of(key).push({ value, torn: [], acknowledged: false });
  }

  acknowledge(key: number, value: number): void {
    const version = this.of(key).findLast((one) => one.value === value);
    if (version !== undefined) version.acknowledged = true;
  }

  /** What is acknowledged now; passed to `flushed` when a flush that began now has ended. */
  snapshot(): Map<number, number> {
    const last = new Map<number, number>();
    for (const [key, list] of this.versions)
      last.set(
        key,
        list.findLastIndex(({ acknowledged }) => acknowledged),
      );
    return last;
  }

  flushed(snapshot: ReadonlyMap<number, number>, base: ReadonlyMap<number, Version[]>): void {
    for (const [key, index] of snapshot) {
      const list = this.of(key);
      const version = base.get(key)?.[index];
      const at = version === undefined ? -1 : list.indexOf(version);
      if (at > 0) list.splice(0, at);
    }
  }

  /** The versions themselves, by which `flushed` finds what the snapshot meant. */
  copy(): Map<number, Version[]> {
    return new Map([...this.versions].map(([key, list]) => [key, [...list]]));
  }

  keys(): number[] {
    return [...this.versions.keys()];
  }

  /** Values that a sector may hold after the process was killed, or after the power was cut. */
  allowed(key: number, powerCut: boolean): number[] {
    const list = this.of(key);
    const from = powerCut ? 0 : list.findLastIndex(({ acknowledged }) => acknowledged);
    return list.slice(from).flatMap(({ value, torn }) => [value, ...torn]);
  }

  /** After a crash, what is there counts as durable only once it has been seen; torn sectors are kept as they are. */
  settle(key: number, values: readonly number[]): void {
    this.versions.set(key, [{ value: values[0], torn: values.slice(1), acknowledged: true }]);
  }

  /** What was acknowledged with this value is durable by itself, without a flush. */
  durable(key: number, value: number): void {
    const list = this.of(key);
    const at = list.findLastIndex((one) => one.value === value);
    if (at > 0) list.splice(0, at);
  }
}

export function randomOf(seed: number): SimRandom {
  return new SimRandom(seed);
}
