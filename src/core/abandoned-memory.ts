/**
 * Memory of operations that were given up as overdue. The kernel cannot be made to forget them: until they end, a late read
 * may still land there.
 *
 * Each operation is known by where its memory begins. Several may share memory (a block on its way to two copies), or lie
 * in one buffer (a request in parts): the buffer is free when the last of them has ended.
 */

import { check } from './check.js';

interface Waiter {
  readonly start: number;
  readonly end: number;
  readonly done: () => void;
}

export class AbandonedMemory {
  /** Where the memory of each operation begins. */
  private readonly starts: number[] = [];
  private waiting: Waiter[] = [];

  /** An operation is given up whose memory begins here. */
  add(start: number): void {
    this.starts.push(start);
  }

  /** One that was given up has ended. */
  remove(start: number): void {
    const at = this.starts.indexOf(start);
    check(at >= 0, 'no operation was given up that uses this memory', start);
    this.starts.splice(at, 1);
    const free = this.waiting.filter(
      (range) => start >= range.start && start < range.end && !this.uses(range.start, range.end),
    );
    if (free.length === 0) return;
    this.waiting = this.waiting.filter((range) => !free.includes(range));
    for (const { done } of free) done();
  }

  /** See `Memory.whenFree`. */
  whenFree(start: number, lengthBytes: number, done: () => void): void {
    const end = start + lengthBytes;
    if (this.uses(start, end)) this.waiting.push({ start, end, done });
    else done();
  }

  private uses(start: number, end: number): boolean {
    return this.starts.some((one) => one >= start && one < end);
  }
}
