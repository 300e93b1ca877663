/**
 * Memory that is set aside because an operation on it was given up as overdue: a late device may still write there, and must not
 * write into what serves somebody else by then.
 *
 * It comes back when that operation has ended, which may be never. Whoever takes memory from a pool asks how much of it is set
 * aside, so as to fail rather than wait for it.
 */

import type { Memory } from '../ports/memory.js';
import { check } from './check.js';

export class SetAside {
  private readonly memory: Memory;
  private readonly most: number;
  private held = 0;

  /** `most`: how many pieces of memory the pool has. */
  constructor(memory: Memory, most: number) {
    this.memory = memory;
    this.most = most;
  }

  /** Pieces that are set aside now. */
  get count(): number {
    return this.held;
  }

  /** Whether that is the whole pool. */
  get all(): boolean {
    return this.held === this.most;
  }

  /**
   * Sets a piece aside; `done` is called when nothing uses it any more, perhaps at once, perhaps never. The range has to hold the
   * operations that were given up whole.
   */
  hold(start: number, lengthBytes: number, done: () => void): void {
    this.held += 1;
    check(this.held <= this.most, 'more memory is set aside than there is', this.held);
    this.memory.whenFree(start, lengthBytes, () => {
      this.held -= 1;
      check(this.held >= 0, 'memory comes back that was not set aside', start);
      done();
    });
  }
}
