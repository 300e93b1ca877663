/** A world of completions, memory and time in which members are scripted: what is pending ends when the test says so. */

import type { Clock } from '#strake/ports/clock.js';
import type { SegmentMember } from '#strake/ports/segment-member.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { WorldWithoutEngine } from './world-without-engine.js';

export const BLOCK = 4096;

export interface PendingSegmentOperation {
  readonly kind: 'read' | 'write' | 'zero' | 'allocate' | 'release' | 'flush' | 'accept' | 'poison' | 'restamp' | 'nop';
  readonly member: SegmentMember | null;
  readonly stripe: number;
  readonly block: number;
  readonly blocks: number;
  readonly flags: number;
  end(result?: number, flags?: number): void;
}

/** With time, which passes as operations end. */
export class SegmentWorld extends WorldWithoutEngine implements Clock {
  readonly pending: PendingSegmentOperation[] = [];
  /** Memory of all reads and writes. */
  readonly used = new Set<number>();
  timeMs = 0;

  checksum(at: number, lengthBytes: number): number {
    return crc32c(this.bytes, at, lengthBytes);
  }

  defer(token: number, result: number): void {
    this.after(0, token, result);
  }

  after(delayMs: number, token: number, result = 0): void {
    const dueMs = this.timeMs + delayMs;
    const end = () => {
      this.timeMs = Math.max(this.timeMs, dueMs);
      this.finish(token, result, 0);
    };
    this.pending.push({ kind: 'nop', member: null, stripe: 0, block: 0, blocks: 0, flags: 0, end });
  }

  boottimeMs(): number {
    return this.timeMs;
  }

  realtimeMs(): number {
    return this.timeMs;
  }

  nowMs(): number {
    return this.timeMs;
  }

  /** Ends a pending operation, and lets promises run. */
  async end(operation: PendingSegmentOperation | undefined, result?: number, flags?: number): Promise<void> {
    if (operation === undefined) throw new Error('there is no such operation');
    this.pending.splice(this.pending.indexOf(operation), 1);
    operation.end(result, flags);
    await turn();
  }

  /** Ends operations, in the order that `choose` gives, until none is left or `until` holds. */
  async drain(choose: (count: number) => number = () => 0, until: () => boolean = () => false): Promise<void> {
    await turn();
    while (this.pending.length > 0 && !until()) await this.end(this.pending[choose(this.pending.length)]);
  }

  find(kind: PendingSegmentOperation['kind'], member?: SegmentMember): PendingSegmentOperation | undefined {
    return this.pending.find((each) => each.kind === kind && (member === undefined || each.member === member));
  }
}

/** Lets everything that hangs on promises happen. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
