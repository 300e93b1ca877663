/** The operations of a store: as many as can be in flight, made when they are first needed and used again. */

import { check } from '../../core/check.js';
import { STORE_OPERATIONS_MAX } from '../../core/limits.js';
import { StoreOp } from '../store-op.js';

export class OpPool {
  private readonly ops: StoreOp[] = [];
  private readonly free: StoreOp[] = [];
  private onIdle: (() => void) | null = null;
  private readonly proceed: (op: StoreOp, result: number) => void;

  /** `proceed`: what an operation has waited for is there. */
  constructor(proceed: (op: StoreOp, result: number) => void) {
    this.proceed = proceed;
  }

  /** How many are in flight. */
  get running(): number {
    return this.ops.length - this.free.length;
  }

  /** The operation of an index. */
  at(index: number): StoreOp {
    check(index < this.ops.length, 'an operation has ended that was never made', index);
    return this.ops[index];
  }

  /** An operation that is the caller's until it is given back; null if there are too many. */
  take(): StoreOp | null {
    const op = this.free.pop();
    check(op === undefined || !op.inFlight, 'an operation is given out that is in flight', op?.index);
    if (op !== undefined) return op;
    if (this.ops.length === STORE_OPERATIONS_MAX) return null;
    const made = new StoreOp(this.ops.length, this.proceed);
    this.ops.push(made);
    return made;
  }

  /** Takes back an operation that has been answered. */
  giveBack(op: StoreOp): void {
    check(op.inFlight, 'an operation is answered twice', op.token);
    op.inFlight = false;
    this.free.push(op);
  }

  /** Resolves when none is in flight. Nobody else may wait for that. */
  idle(): Promise<void> {
    check(this.onIdle === null, 'two wait for a store to have nothing in flight');
    return new Promise((resolve) => {
      this.onIdle = resolve;
    });
  }

  /** An operation has ended, with everything that it had to do: lets the one go on who waits for the last. */
  noteIdle(): void {
    if (this.running > 0 || this.onIdle === null) return;
    const resolve = this.onIdle;
    this.onIdle = null;
    resolve();
  }
}
