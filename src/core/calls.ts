/**
 * Operations that end by a token, as promises: for control work, never for a client's reads and writes.
 *
 * Each call has a tag of its own while it is in flight. A call that ends twice, or that nobody has begun, is a contradiction of
 * this program: its token may already belong to somebody else.
 */

import { COMPLETION_ABANDONED, type CompletionPort } from '../ports/completion.js';
import { check } from './check.js';
import { StrakeError } from './errors.js';
import { CONTROL_CALLS_MAX } from './limits.js';
import { Notify } from './notify.js';

/** Who lends memory to an operation; told if one that was given up may still use it. */
export interface MemoryHolder {
  lost: boolean;
}

/** What decides whether an operation that has ended without having been done is begun again. */
export interface CallRetry {
  /** Whether it is to be, if the time comes. */
  isRetried(result: number): boolean;
  /** What is noted when an operation is begun. */
  mark(): number;
  /** Resolves when one that was begun at a mark may be begun again; to false if it never may be. */
  next(mark: number): Promise<boolean>;
}

/** Bits of a call's tag. */
const CALL_TAG_BITS = 16;
check(CONTROL_CALLS_MAX <= 1 << CALL_TAG_BITS, 'calls have no room in a tag', CONTROL_CALLS_MAX);

interface Call {
  resolve(result: number): void;
  readonly start: (token: number) => void;
  readonly holder: MemoryHolder | null;
  mark: number;
}

export class Calls {
  private readonly completions: CompletionPort;
  private readonly retry: CallRetry | null;
  private readonly token: number;
  private readonly calls: (Call | null)[] = [];
  private readonly free: number[] = [];
  private readonly lastEnded = new Notify();

  constructor(completions: CompletionPort, retry: CallRetry | null = null) {
    this.completions = completions;
    this.retry = retry;
    const complete = (tag: number, result: number, flags: number) => this.end(tag, result, flags);
    this.token = completions.register({ complete }, CALL_TAG_BITS);
  }

  /** Operations in flight. */
  get running(): number {
    return this.calls.length - this.free.length;
  }

  /**
   * Starts an operation with a token; resolves to its result, a count or a negative errno. `holder` owns the memory that the
   * operation uses. Throws `ERR_STRAKE_BUSY` if `CONTROL_CALLS_MAX` are in flight. Rejects with what `start` throws, which
   * then has begun nothing.
   */
  call(start: (token: number) => void, holder: MemoryHolder | null = null): Promise<number> {
    if (this.free.length === 0 && this.calls.length === CONTROL_CALLS_MAX) {
      throw new StrakeError('BUSY', 'too many operations of control work in flight');
    }
    const tag = this.free.pop() ?? this.calls.push(null) - 1;
    return new Promise((resolve, reject) => {
      this.calls[tag] = { resolve, start, holder, mark: this.retry?.mark() ?? 0 };
      try {
        start(this.token + tag);
      } catch (error) {
        this.take(tag);
        reject(error);
        this.noteEnd();
      }
    });
  }

  /** Ends a call, whose tag is free from now on. */
  private take(tag: number): Call {
    const call = this.calls[tag] ?? null;
    check(call !== null, 'an operation of control work has ended twice, or was never begun', tag);
    this.calls[tag] = null;
    this.free.push(tag);
    return call;
  }

  private noteEnd(): void {
    if (this.running === 0) this.lastEnded.tell();
  }

  private end(tag: number, result: number, flags: number): void {
    if (this.retry?.isRetried(result)) void this.beginAgain(tag, result, this.retry);
    else this.conclude(tag, result, flags);
  }

  private async beginAgain(tag: number, result: number, retry: CallRetry): Promise<void> {
    const call = this.calls[tag] ?? null;
    check(call !== null, 'an operation of control work is begun again that has ended', tag);
    if (!(await retry.next(call.mark))) {
      this.conclude(tag, result, 0);
      return;
    }
    call.mark = retry.mark();
    call.start(this.token + tag);
  }

  private conclude(tag: number, result: number, flags: number): void {
    const call = this.take(tag);
    if ((flags & COMPLETION_ABANDONED) !== 0 && call.holder !== null) call.holder.lost = true;
    call.resolve(result);
    this.noteEnd();
  }

  /** Resolves when nothing is in flight. */
  idle(): Promise<void> {
    return this.running === 0 ? Promise.resolve() : this.lastEnded.next();
  }

  /** Gives up the handler; nothing may be in flight. */
  close(): void {
    check(this.running === 0, 'operations of control work are in flight when their handler is given up', this.running);
    this.completions.unregister(this.token);
  }
}
