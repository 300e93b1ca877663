/** Operations on members as promises: for control work, never for a client's reads and writes. */

import { StrakeError } from '../core/errors.js';
import { CONTROL_CALLS_MAX } from '../core/limits.js';
import { COMPLETION_ABANDONED, type CompletionPort } from '../ports/completion.js';

interface Call {
  resolve(result: number): void;
  readonly holder: { lost: boolean } | null;
}

export class MemberCalls {
  private readonly completions: CompletionPort;
  private readonly token: number;
  private readonly calls: (Call | null)[] = [];
  private readonly free: number[] = [];
  /** Operations in flight. */
  running = 0;

  constructor(completions: CompletionPort) {
    this.completions = completions;
    this.token = completions.register({ complete: (tag, result, flags) => this.end(tag, result, flags) });
  }

  /** Starts an operation; resolves to its result. `holder` owns the memory, and is told if an operation that was given up may still use it. */
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

  /** Gives up the handler; nothing may be in flight. */
  close(): void {
    this.completions.unregister(this.token);
  }
}
