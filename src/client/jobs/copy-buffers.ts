/**
 * Buffers to copy and compare with, shared by all volumes of a node: for control work, never for a client's reads and writes.
 *
 * Whoever has one waits for no other. A buffer that a member may still use after an operation was given up is set aside until
 * that has ended.
 */

import { check } from '../../core/check.js';
import { StrakeError } from '../../core/errors.js';
import { BLOCK_BYTES, COPY_BUFFERS, COPY_BYTES } from '../../core/limits.js';
import { SetAside } from '../../core/set-aside.js';
import type { Memory } from '../../ports/memory.js';

export interface CopyBuffer {
  readonly memory: number;
  /** An operation that was given up may still use it. */
  lost: boolean;
}

/** Memory for the buffers, starting at a page. */
export const COPY_SCRATCH_BYTES = COPY_BUFFERS * COPY_BYTES;

/** A page of a buffer; what is lost of it is the buffer. */
export class BufferPage implements CopyBuffer {
  readonly memory: number;
  private readonly buffer: CopyBuffer;

  constructor(buffer: CopyBuffer, index: number) {
    check(index >= 0 && index < COPY_BYTES / BLOCK_BYTES, 'a page is beyond its buffer', index);
    this.buffer = buffer;
    this.memory = buffer.memory + index * BLOCK_BYTES;
  }

  get lost(): boolean {
    return this.buffer.lost;
  }

  set lost(lost: boolean) {
    this.buffer.lost = lost;
  }
}

/** Somebody who may lose interest. */
export interface BufferWaiter {
  onCancel(callback: () => void): () => void;
}

interface BufferWait {
  resolve(buffer: CopyBuffer): void;
  reject(error: Error): void;
}

export class CopyBuffers {
  private readonly buffers: CopyBuffer[] = [];
  private readonly waiting: BufferWait[] = [];
  private readonly aside: SetAside;

  /** `scratch`: start of `COPY_SCRATCH_BYTES` of page-aligned memory. */
  constructor(memory: Memory, scratch: number) {
    this.aside = new SetAside(memory, COPY_BUFFERS);
    for (let index = 0; index < COPY_BUFFERS; index += 1) {
      this.buffers.push({ memory: scratch + index * COPY_BYTES, lost: false });
    }
  }

  /**
   * Runs `work` with a buffer of `COPY_BYTES`, when one is free. Rejects if all are set aside, or `waiter` is cancelled before
   * there is one.
   */
  async withBuffer<T>(work: (buffer: CopyBuffer) => Promise<T>, waiter?: BufferWaiter): Promise<T> {
    const buffer = await this.takeBuffer(waiter);
    check(!buffer.lost, 'a buffer for copying is given out that may still be used', buffer.memory);
    try {
      return await work(buffer);
    } finally {
      this.giveBack(buffer);
    }
  }

  private async takeBuffer(waiter: BufferWaiter | undefined): Promise<CopyBuffer> {
    const buffer = this.buffers.pop();
    if (buffer !== undefined) return buffer;
    if (this.aside.all) throw noBuffers();
    let callOff = () => {};
    try {
      return await new Promise<CopyBuffer>((resolve, reject) => {
        const wait = { resolve, reject };
        this.waiting.push(wait);
        callOff = waiter?.onCancel(() => this.giveUp(wait)) ?? callOff;
      });
    } finally {
      callOff();
    }
  }

  private giveUp(wait: BufferWait): void {
    const at = this.waiting.indexOf(wait);
    // It may have been given a buffer, and does not know yet.
    if (at < 0) return;
    this.waiting.splice(at, 1);
    wait.reject(new StrakeError('ABORTED', 'the job was cancelled'));
  }

  private giveBack(buffer: CopyBuffer): void {
    check(!this.buffers.includes(buffer), 'a buffer for copying is given back twice', buffer.memory);
    if (buffer.lost) {
      this.setAside(buffer);
      return;
    }
    const wait = this.waiting.shift();
    if (wait === undefined) this.buffers.push(buffer);
    else wait.resolve(buffer);
    const here = this.buffers.length + this.aside.count;
    check(here <= COPY_BUFFERS, 'there are more buffers for copying than were made', here);
  }

  private setAside(buffer: CopyBuffer): void {
    this.aside.hold(buffer.memory, COPY_BYTES, () => {
      buffer.lost = false;
      this.giveBack(buffer);
    });
    if (this.aside.all) for (const wait of this.waiting.splice(0)) wait.reject(noBuffers());
  }
}

function noBuffers(): StrakeError {
  return new StrakeError('IO', 'all buffers for copying belong to operations of devices that do not answer');
}
