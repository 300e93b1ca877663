/**
 * Buffers that the kernel may still use, because an operation on them was given up as overdue.
 *
 * Such a buffer stays taken until that has ended, which may be never: a late device must not write into memory that serves
 * somebody else by then.
 */

import type { PooledBuffer } from '../core/buffer-pool.js';
import { BLOCK_BYTES } from '../core/limits.js';
import type { Memory } from '../ports/memory.js';

export class Quarantine {
  private readonly memory: Memory;
  private held = 0;

  constructor(memory: Memory) {
    this.memory = memory;
  }

  /** Buffers that are set aside now. */
  get count(): number {
    return this.held;
  }

  /** Sets a buffer aside; `done` is called when nothing uses it any more, perhaps at once, perhaps never. */
  hold(buffer: PooledBuffer, done: () => void): void {
    this.held += 1;
    // The last block of a payload may reach beyond the capacity, into the next buffer's header page.
    this.memory.whenFree(buffer.memory, buffer.capacityBytes + BLOCK_BYTES, () => {
      this.held -= 1;
      done();
    });
  }
}
