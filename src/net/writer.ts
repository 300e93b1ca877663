/** Writes big-endian fields into a bounded area of shared memory. */

import { check } from '../core/check.js';
import type { Memory } from '../ports/memory.js';

export class Writer {
  private readonly memory: Memory;
  private start = 0;
  private limit = 0;
  private at = 0;

  constructor(memory: Memory) {
    this.memory = memory;
  }

  /** Begins at `start`, with room for `bytes`. */
  open(start: number, bytes: number): void {
    this.start = start;
    this.at = start;
    this.limit = start + bytes;
  }

  /** Bytes written. */
  get length(): number {
    return this.at - this.start;
  }

  /** Bytes of room left. */
  get room(): number {
    return this.limit - this.at;
  }

  private claim(bytes: number): number {
    const at = this.at;
    check(at + bytes <= this.limit, 'a reply is larger than the area it is written to', bytes);
    this.at = at + bytes;
    return at;
  }

  u16(value: number): this {
    this.memory.view.setUint16(this.claim(2), value);
    return this;
  }

  u32(value: number): this {
    this.memory.view.setUint32(this.claim(4), value);
    return this;
  }

  /** A whole number up to 2^53. */
  u64(value: number): this {
    return this.u32(Math.floor(value / 2 ** 32)).u32(value % 2 ** 32);
  }

  bytes(value: Uint8Array): this {
    this.memory.bytes.set(value, this.claim(value.length));
    return this;
  }

  zeroes(count: number): this {
    const at = this.claim(count);
    this.memory.bytes.fill(0, at, at + count);
    return this;
  }
}
