/** A storage node on simulated disks. */

import type { VolumeEngine } from '#strake/client/volume-engine.js';
import { Watch } from '#strake/core/watch.js';
import { deviceHostBytes } from '#strake/node/device-host.js';
import { SimDevice, type SimDeviceSettings } from '#strake/sim/disk/device.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { SimLoop } from '#strake/sim/world/loop.js';
import { formatDevice } from '#strake/store/opening/format-device.js';
import type { StorageEvent } from '#strake/volumes/storage-events.js';
import { nodeMemoryBytes, StorageNode } from '#strake/volumes/storage-node.js';
import { SimShard } from './sim-shard.js';
import { BLOCK, CLUSTER_ID, SLOT } from './sim-store.js';

const STORES = 4;
const PAYLOAD = nodeMemoryBytes(STORES);
/** Room for the payloads of requests at the same time, each of at most `AREA_BYTES`. */
export const AREAS = 24;
export const AREA_BYTES = 4 * SLOT;
/** Memory of stores that are on another shard. */
const AWAY = PAYLOAD + AREAS * AREA_BYTES;
const arena = new Uint8Array(new SharedArrayBuffer(AWAY + deviceHostBytes(STORES)));

/** All processes have the same: one at a time uses the disks. */
const CLIENT_ID = 'e'.repeat(32);

export const VOLUME_NAME = 'v';

export function deviceIdOf(number: number): string {
  return String(number + 1).repeat(32);
}

export function numberOf(deviceId: string): number {
  return Number(deviceId[0]) - 1;
}

/** A node from its start to the death of its process. */
export class SimNode {
  readonly loop: SimLoop;
  readonly node: StorageNode;
  /** The volume that is used, by its name or id. */
  volume = VOLUME_NAME;
  /** What the node has told. */
  readonly events: StorageEvent[] = [];
  /** How often volumes have begun to serve that another one's name had kept from it. */
  resolved = 0;
  /** Another shard of it, made for the first device that is opened there. */
  private other: SimShard | null = null;
  private readonly base: number;
  private readonly waiting: ((result: number) => void)[] = [];

  constructor(seed: number) {
    this.loop = new SimLoop({ seed, arena });
    const { loop } = this;
    const watch = new Watch(loop, loop);
    const common = { completions: loop, memory: loop, clock: loop, watch };
    const ports = { ...common, clientId: CLIENT_ID, memoryStart: 0, storesMax: STORES };
    this.node = new StorageNode(ports, {
      onEvent: (event) => this.events.push(event),
      onResolved: () => {
        this.resolved += 1;
      },
    });
    this.base = loop.register({ complete: (tag, result) => this.waiting[tag](result) });
  }

  settle<T>(promise: Promise<T>): Promise<T> {
    return this.loop.settle(promise);
  }

  /** Formats a disk as the device with this number. */
  async format(disk: SimDisk, number: number): Promise<void> {
    const device = new SimDevice(this.loop, disk);
    const ports = { completions: this.loop, memory: this.loop, device, memoryStart: 0 };
    const options = { deviceId: deviceIdOf(number), clusterId: CLUSTER_ID, slotBytes: SLOT, nowMs: 1 };
    await this.settle(formatDevice(ports, options));
    device.close();
  }

  open(disk: SimDisk, settings: SimDeviceSettings = {}) {
    return this.settle(this.node.open(new SimDevice(this.loop, disk, settings), { path: 'disk' }));
  }

  /** The shard that devices are on which are opened away from the volumes. */
  get shard(): SimShard {
    const place = { memoryStart: AWAY, storesMax: STORES };
    this.other ??= new SimShard(this.loop, this.node, place, (event) => this.events.push(event));
    return this.other;
  }

  /** The other shard dies; the next device that is opened away is on its successor. */
  loseShard(): Promise<void> {
    const { shard } = this;
    this.other = null;
    return this.settle(shard.die());
  }

  /** Opens a device with this number on another shard. */
  openAway(disk: SimDisk, number: number, settings: SimDeviceSettings = {}) {
    const found = { deviceId: deviceIdOf(number), clusterId: CLUSTER_ID };
    return this.settle(this.shard.open(new SimDevice(this.loop, disk, settings), found));
  }

  assemble(without: readonly string[] = []): Promise<void> {
    return this.settle(this.node.assemble(new Map([[VOLUME_NAME, without]])));
  }

  createMirror(copies = 2, stripes = 64) {
    const spec = { id: 'a'.repeat(32), name: VOLUME_NAME, layout: 'mirror', copies, createdMs: 1 } as const;
    return this.settle(this.node.create({ ...spec, sizeBytes: stripes * SLOT }));
  }

  get engine(): VolumeEngine {
    return this.node.engine(this.volume) as VolumeEngine;
  }

  /** States of the members of the first group. */
  states(): string[] {
    return this.engine.status().groups[0].map(({ state }) => state);
  }

  /** Lets resyncs come to their ends. */
  jobsEnded(): Promise<void> {
    return this.loop.run(() => this.engine.status().jobs.every(({ state }) => state !== 'running'));
  }

  /** Memory for a request's payload. */
  area(index: number): number {
    return PAYLOAD + index * AREA_BYTES;
  }

  /** Begins an operation of the engine. */
  begin(operation: (token: number) => void): Promise<number> {
    return new Promise((resolve) => operation(this.base + this.waiting.push(resolve) - 1));
  }

  private start(operation: (token: number) => void): Promise<number> {
    return this.settle(this.begin(operation));
  }

  write(stripe: number, block: number, value: number): Promise<number> {
    new Uint32Array(arena.buffer, PAYLOAD, BLOCK / 4).fill(value);
    return this.start((token) => this.engine.write(PAYLOAD, BLOCK, stripe * SLOT + block * BLOCK, 0, token));
  }

  flush(): Promise<number> {
    return this.start((token) => this.engine.flush(token));
  }

  /** The first word of a block, or a negative errno. */
  async read(stripe: number, block: number): Promise<number> {
    const offset = stripe * SLOT + block * BLOCK;
    const result = await this.start((token) => this.engine.read(PAYLOAD, BLOCK, offset, token));
    return result < 0 ? result : new Uint32Array(arena.buffer, PAYLOAD, 1)[0];
  }
}
