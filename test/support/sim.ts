/** A simulated disk with a device on it, and its operations as promises of their results. */

import * as assert from 'uvu/assert';
import { SimDevice, type SimDeviceSettings } from '#strake/sim/disk/device.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { SimLoop, type SimLoopSettings } from '#strake/sim/world/loop.js';

export const BLOCK = 4096;
export const SECTOR = 512;

export class SimBench {
  readonly loop: SimLoop;
  readonly disk: SimDisk;
  readonly device: SimDevice;
  private readonly base: number;
  private readonly waiting: ((result: number) => void)[] = [];

  constructor(settings: SimLoopSettings, disk = new SimDisk({ sizeBytes: 64 * BLOCK }), device?: SimDeviceSettings) {
    this.loop = new SimLoop({ arenaBytes: 64 * BLOCK, ...settings });
    this.disk = disk;
    this.device = new SimDevice(this.loop, disk, device);
    this.base = this.loop.register({ complete: (tag, result) => this.waiting[tag](result) });
  }

  /** Starts something that completes a token; resolves to its result. */
  start(begin: (token: number) => void): Promise<number> {
    return new Promise((resolve) => {
      begin(this.base + this.waiting.push(resolve) - 1);
    });
  }

  /** Writes blocks full of `value` from block `block` on, from memory at the same place. */
  write(block: number, value: number, flags = 0, blocks = 1): Promise<number> {
    this.loop.bytes.fill(value, block * BLOCK, (block + blocks) * BLOCK);
    return this.start((token) => this.device.write(block * BLOCK, blocks * BLOCK, block * BLOCK, flags, token));
  }

  /** Reads a block to the same place. */
  read(block: number): Promise<number> {
    return this.start((token) => this.device.read(block * BLOCK, BLOCK, block * BLOCK, token));
  }

  sync(): Promise<number> {
    return this.start((token) => this.device.sync(token));
  }

  /** Runs until all of these have ended. */
  all(...promises: Promise<number>[]): Promise<number[]> {
    return this.loop.settle(Promise.all(promises));
  }

  /** The first byte of each sector of a block in memory. */
  sectorsOf(block: number): number[] {
    return sectors(this.loop.bytes.subarray(block * BLOCK, (block + 1) * BLOCK));
  }
}

/** The value of each sector, which has to be the same in all of its bytes. */
export function sectors(bytes: Uint8Array): number[] {
  const values = [];
  for (let at = 0; at < bytes.length; at += SECTOR) {
    if (bytes.subarray(at, at + SECTOR).some((byte) => byte !== bytes[at])) throw new Error('a sector is torn');
    values.push(bytes[at]);
  }
  return values;
}

/** Checks that a promise is rejected with a message like this. */
export async function rejects(promise: Promise<unknown>, message: RegExp): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (reason: Error) => reason,
  );
  assert.match(error?.message ?? 'no error', message);
}

/** The sectors of a block of a disk, as it can be read. */
export function sectorsOn(disk: SimDisk, block: number): number[] {
  return sectors(disk.peek(block * BLOCK, BLOCK));
}
