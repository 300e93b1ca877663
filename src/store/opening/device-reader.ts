/** Reading a device that nothing else uses yet, for opening it. */

import { check } from '../../core/check.js';
import { StrakeError } from '../../core/errors.js';
import { FENCE_ALL } from '../../ports/device.js';
import type { Memory } from '../../ports/memory.js';
import { arenaChecksum } from '../running/checkpoint.js';
import type { ControlIo } from '../running/control-io.js';
import { CONTROL_PIECE_BYTES } from '../store-start.js';
import type { ImageReader } from './image-reader.js';

/** Reads a device through its port, by way of one piece of memory. */
export class DeviceReader implements ImageReader {
  readonly sizeBytes: number;
  readonly checksum: (bytes: Uint8Array) => number;
  private readonly io: ControlIo;
  private readonly memory: Memory;
  private readonly at: number;

  /** `at`: a piece of `CONTROL_PIECE_BYTES`, and after it a page for checksums. */
  constructor(io: ControlIo, memory: Memory, at: number) {
    this.io = io;
    this.memory = memory;
    this.at = at;
    this.sizeBytes = io.device.geometry.sizeBytes;
    this.checksum = arenaChecksum({ memory }, at + CONTROL_PIECE_BYTES);
  }

  get lost(): boolean {
    return this.io.device.fence() === FENCE_ALL;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    check(length <= CONTROL_PIECE_BYTES, 'more is read than there is memory for', length);
    const result = await this.io.read(this.at, length, offset);
    if (result < 0) throw new StrakeError('IO', `reading ${length} bytes at ${offset} failed`, { errno: -result });
    return this.memory.bytes.subarray(this.at, this.at + length);
  }
}
