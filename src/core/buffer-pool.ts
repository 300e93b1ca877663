/**
 * Fixed buffers by size class, carved from one region of memory.
 *
 * ```text
 *   │ header page │ buffer ......│ header page │ buffer ......│
 *            └─ the last bytes of a header page lie immediately before its buffer: a reply's header and payload are one
 *               piece of memory, and leave in one vector
 * ```
 *
 * Buffers are page-aligned. A buffer is taken from the smallest class that fits, or a larger one when that is empty.
 * Nothing waits here: the caller keeps what cannot be served and tries again when `onRelease` tells it to.
 */

import { check } from './check.js';
import { BLOCK_BYTES } from './limits.js';

/** One buffer; made once, taken and released many times. */
export class PooledBuffer {
  /** Position in the pool, 0 to `pool.buffers.length - 1`. */
  readonly index: number;
  /** Offset of the buffer in memory. */
  readonly memory: number;
  readonly capacityBytes: number;
  readonly sizeClass: number;
  taken = false;

  constructor(index: number, memory: number, capacityBytes: number, sizeClass: number) {
    this.index = index;
    this.memory = memory;
    this.capacityBytes = capacityBytes;
    this.sizeClass = sizeClass;
  }
}

/** Sizes and numbers of buffers, smallest first. */
export type BufferClasses = readonly { readonly bytes: number; readonly count: number }[];

export class BufferPool {
  readonly buffers: PooledBuffer[] = [];
  readonly largestBytes: number;
  readonly totalBytes: number;
  private readonly classes: BufferClasses;
  private readonly free: PooledBuffer[][] = [];
  private freeCount = 0;

  /** Memory that the classes need, starting at a page. */
  static regionBytes(classes: BufferClasses): number {
    return classes.reduce((sum, { bytes, count }) => sum + count * (bytes + BLOCK_BYTES), 0);
  }

  /** Carves the classes from memory at `start`, which is page-aligned. */
  constructor(start: number, classes: BufferClasses) {
    this.classes = classes;
    this.largestBytes = classes.at(-1)?.bytes ?? 0;
    this.totalBytes = classes.reduce((sum, { bytes, count }) => sum + count * bytes, 0);
    let at = start;
    for (const [sizeClass, { bytes, count }] of classes.entries()) {
      const list: PooledBuffer[] = [];
      for (let number = 0; number < count; number += 1) {
        const buffer = new PooledBuffer(this.buffers.length, at + BLOCK_BYTES, bytes, sizeClass);
        this.buffers.push(buffer);
        list.push(buffer);
        at += bytes + BLOCK_BYTES;
      }
      this.free.push(list.reverse());
      this.freeCount += count;
    }
  }

  /** A buffer of at least `bytes`, or null if none is free. */
  take(bytes: number): PooledBuffer | null {
    for (let sizeClass = 0; sizeClass < this.classes.length; sizeClass += 1) {
      if (this.classes[sizeClass].bytes < bytes) continue;
      const buffer = this.free[sizeClass].pop();
      if (buffer !== undefined) {
        buffer.taken = true;
        this.freeCount -= 1;
        return buffer;
      }
    }
    return null;
  }

  release(buffer: PooledBuffer): void {
    check(buffer.taken, 'a buffer was released twice', buffer.index);
    buffer.taken = false;
    this.free[buffer.sizeClass].push(buffer);
    this.freeCount += 1;
  }

  /** Free buffers of all classes. */
  get available(): number {
    return this.freeCount;
  }
}
