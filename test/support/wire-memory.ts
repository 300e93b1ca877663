/** Memory for frames: as large as it is said to be, so that whoever looks beyond its end is seen; and frames in it. */

import { checksumsOneByOne } from '#strake/core/checksums.js';
import type { Memory } from '#strake/ports/memory.js';
import { crc32c } from '#strake/sim/world/crc32c.js';

export class WireMemory implements Memory {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(length: number) {
    this.bytes = new Uint8Array(length);
    this.view = new DataView(this.bytes.buffer);
  }

  copy(to: number, from: number, lengthBytes: number): void {
    this.bytes.copyWithin(to, from, from + lengthBytes);
  }

  fill(at: number, lengthBytes: number, value: number): void {
    this.bytes.fill(value, at, at + lengthBytes);
  }

  carryOut(): void {}

  checksum(at: number, lengthBytes: number): number {
    if (!(at >= 0 && lengthBytes >= 0 && at + lengthBytes <= this.bytes.length)) {
      throw new RangeError(`a sum of ${lengthBytes} bytes at ${at} of ${this.bytes.length}`);
    }
    return crc32c(this.bytes.subarray(at, at + lengthBytes));
  }

  lend(): void {
    throw new Error('nothing is in flight here');
  }

  takeBack(): void {
    throw new Error('nothing is in flight here');
  }

  checksums(at: number, blocks: number, sums: Uint32Array): void {
    checksumsOneByOne(this, at, blocks, sums);
  }

  whenFree(): void {
    throw new Error('nothing is in flight here');
  }

  /** A copy of what lies there. */
  slice(at: number, lengthBytes: number): Uint8Array {
    return this.bytes.slice(at, at + lengthBytes);
  }
}
