/**
 * Operations on members as promises, and buffers to copy with: for control work, never for a client's reads and writes.
 *
 * A buffer that a member may still use after an operation was given up is never used again.
 */

import { StrakeError } from '../core/errors.js';
import { CONTROL_CALLS_MAX, COPY_BUFFERS, COPY_BYTES } from '../core/limits.js';
import { COMPLETION_ABANDONED, type CompletionPort } from '../ports/completion.js';

export interface CopyBuffer {
  readonly memory: number;
  lost: boolean;
}

/** Memory for the buffers, starting at a page. */
export const COPY_SCRATCH_BYTES = COPY_BUFFERS * COPY_BYTES;

interface Call {
  resolve(result: number): void;
  readonly holder: { lost: boolean } | null;
}

interface BufferWait {
  resolve(buffer: CopyBuffer): void;
  reject(error: Error): void;
}

export class MemberCalls {
  private readonly completions: CompletionPort;
  private readonly token: number;
  private readonly calls: (Call | null)[] = [];
  private readonly free: number[] = [];
  private readonly buffers: CopyBuffer[] = [];
  private readonly waiting: BufferWait[] = [];
  private lostBuffers = 0;
  /** Operations in flight. */
  running = 0;

  constructor(completions: CompletionPort, scratch: number) {
    this.completions = completions;
    this.token = completions.register({ complete: (tag, result, flags) => this.end(tag, result, flags) });
    for (let index = 0; index < COPY_BUFFERS; index += 1) {
      this.buffers.push({ memory: scratch + index * COPY_BYTES, lost: false });
    }
  }

  /** Starts an operation; resolves to its result. `holder` owns the memory, and is told if that must not be used again. */
  call(start: (token: number) => void, holder: { lost: boolean } | null = null): Promise<number> {
    if (this.free.length === 0 && this.calls.length === CONTROL_CALLS_MAX) {
      throw new StrakeError('BUSY', 'too many operations of control work in flight');
    }
    const index = this.free.pop() ?? this.calls.push(null) - 1;
    this.running += 1;
    return new Promise((resolve) => {
      this.calls[index] = { resolve, holder };
      start(this.token + index);
    });
  }

  private end(index: number, result: number, flags: number): void {
    const call = this.calls[index];
    if (call === null || call === undefined) throw new Error(`operation ${index} of control work ended twice`);
    this.calls[index] = null;
    this.free.push(index);
    this.running -= 1;
    if ((flags & COMPLETION_ABANDONED) !== 0 && call.holder !== null) call.holder.lost = true;
    call.resolve(result);
  }

  /** Runs `work` with a buffer of `COPY_BYTES`, when one is free. Rejects if all have been lost. */
  async withBuffer<T>(work: (buffer: CopyBuffer) => Promise<T>): Promise<T> {
    const buffer = await this.takeBuffer();
    try {
      return await work(buffer);
    } finally {
      this.giveBack(buffer);
    }
  }

  private takeBuffer(): Promise<CopyBuffer> {
    const buffer = this.buffers.pop();
    if (buffer !== undefined) return Promise.resolve(buffer);
    if (this.lostBuffers === COPY_BUFFERS) return Promise.reject(noBuffers());
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }

  private giveBack(buffer: CopyBuffer): void {
    if (buffer.lost) {
      this.lostBuffers += 1;
      if (this.lostBuffers === COPY_BUFFERS) for (const wait of this.waiting.splice(0)) wait.reject(noBuffers());
      return;
    }
    const wait = this.waiting.shift();
    if (wait === undefined) this.buffers.push(buffer);
    else wait.resolve(buffer);
  }

  /** Whether a member may still write to the scratch memory, so that it must never be used again. */
  get scratchLost(): boolean {
    return this.lostBuffers > 0;
  }

  /** Gives up the handler; nothing may be in flight. */
  close(): void {
    this.completions.unregister(this.token);
  }
}

function noBuffers(): StrakeError {
  return new StrakeError('IO', 'all buffers for copying belong to operations that never ended');
}
