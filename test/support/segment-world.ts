/** A world of completions, memory and time in which members are scripted: what is pending ends when the test says so. */

import { AbandonedMemory } from '#strake/core/abandoned-memory.js';
import type { Clock } from '#strake/ports/clock.js';
import { type CompletionHandler, type CompletionPort, TAG_BITS } from '#strake/ports/completion.js';
import type { Memory } from '#strake/ports/memory.js';
import type { SegmentMember } from '#strake/ports/segment-member.js';
import { crc32c } from '#strake/sim/world/crc32c.js';

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

/** Completions, memory and time without an engine. */
export class SegmentWorld implements CompletionPort, Memory, Clock {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly pending: PendingSegmentOperation[] = [];
  /** Memory of operations that were given up, until it is taken out of here. */
  readonly abandoned = new AbandonedMemory();
  readonly givenUp: number[] = [];
  /** Memory of all reads and writes. */
  readonly used = new Set<number>();
  timeMs = 0;
  private readonly handlers: CompletionHandler[] = [];

  constructor(memoryBytes: number) {
    this.bytes = new Uint8Array(memoryBytes);
    this.view = new DataView(this.bytes.buffer);
  }

  whenFree(at: number, lengthBytes: number, done: () => void): void {
    this.abandoned.whenFree(at, lengthBytes, done);
  }

  /** Ends all operations that were given up. */
  endGivenUp(): void {
    for (const memory of this.givenUp.splice(0)) this.abandoned.remove(memory);
  }

  checksum(at: number, lengthBytes: number): number {
    return crc32c(this.bytes, at, lengthBytes);
  }

  register(handler: CompletionHandler): number {
    return (this.handlers.push(handler) - 1) << TAG_BITS;
  }

  unregister(): void {}
  onBatchEnd(): void {}
  offBatchEnd(): void {}

  finish(token: number, result: number, flags: number): void {
    this.handlers[token >>> TAG_BITS].complete(token & ((1 << TAG_BITS) - 1), result, flags);
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

  nowMs(): number {
    return this.timeMs;
  }

  copy(to: number, from: number, lengthBytes: number): void {
    this.bytes.copyWithin(to, from, from + lengthBytes);
  }

  fill(at: number, lengthBytes: number, value: number): void {
    this.bytes.fill(value, at, at + lengthBytes);
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
