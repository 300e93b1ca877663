/** Completions and memory without an engine, for worlds in which operations end when the test says so. */

import { AbandonedMemory } from '#strake/core/abandoned-memory.js';
import { checksumsOneByOne } from '#strake/core/checksums.js';
import { type CompletionHandler, type CompletionPort, TAG_BITS } from '#strake/ports/completion.js';
import type { Memory } from '#strake/ports/memory.js';

export abstract class WorldWithoutEngine implements CompletionPort, Memory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Memory of operations that were given up, until it is taken out of here. */
  readonly abandoned = new AbandonedMemory();
  readonly givenUp: number[] = [];
  private readonly handlers: CompletionHandler[] = [];

  constructor(memoryBytes: number) {
    this.bytes = new Uint8Array(memoryBytes);
    this.view = new DataView(this.bytes.buffer);
  }

  readonly inBatch = false;

  abstract defer(token: number, result: number): void;
  abstract checksum(at: number, lengthBytes: number): number;

  register(handler: CompletionHandler): number {
    return (this.handlers.push(handler) - 1) << TAG_BITS;
  }

  unregister(): void {}
  onBatchEnd(): void {}
  offBatchEnd(): void {}

  finish(token: number, result: number, flags: number): void {
    this.handlers[token >>> TAG_BITS].complete(token & ((1 << TAG_BITS) - 1), result, flags);
  }

  copy(to: number, from: number, lengthBytes: number): void {
    this.bytes.copyWithin(to, from, from + lengthBytes);
  }

  fill(at: number, lengthBytes: number, value: number): void {
    this.bytes.fill(value, at, at + lengthBytes);
  }

  carryOut(): void {}

  lend(at: number): void {
    this.abandoned.add(at);
  }

  takeBack(at: number): void {
    this.abandoned.remove(at);
  }

  checksums(at: number, blocks: number, sums: Uint32Array): void {
    checksumsOneByOne(this, at, blocks, sums);
  }

  whenFree(at: number, lengthBytes: number, done: () => void): void {
    this.abandoned.whenFree(at, lengthBytes, done);
  }

  /** Ends all operations that were given up. */
  endGivenUp(): void {
    for (const memory of this.givenUp.splice(0)) this.abandoned.remove(memory);
  }
}
