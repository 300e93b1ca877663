/**
 * Turns of control operations: who has to wait for whom.
 *
 * An operation says at its beginning what it works on, all of it at once, by keys. It is carried out when no earlier operation
 * with a key in common is left, waiting or not; those with other keys go on meanwhile.
 *
 * ```text
 *   take ── waits for earlier ones with a common key ── work ── ended: those that waited for it alone begin
 *     └─ after close: refused                └─ close: refused
 * ```
 *
 * Invariants: operations with a common key are carried out one by one, in the order in which they were asked for. Nobody
 * waits for a later one, so nothing can wait in a circle, and nobody is passed over for ever. That holds as long as no work
 * takes a second turn of the same object; with two objects, as long as all take theirs in the same order.
 */

import { check } from '../core/check.js';
import { Notify } from '../core/notify.js';

interface Turn {
  readonly keys: readonly string[];
  /** Null once it has begun. */
  waiting: { begin(): void; refuse(error: Error): void } | null;
}

export class Turns {
  /** In order of arrival. */
  private readonly turns: Turn[] = [];
  private refusal: Error | null = null;
  private readonly lastEnded = new Notify();

  /** Carries out `work` in its turn, at once if nothing is in the way. Rejects as `work` does, or with the error of `close`. */
  async take<T>(keys: readonly string[], work: () => Promise<T>): Promise<T> {
    if (this.refusal !== null) throw this.refusal;
    const turn: Turn = { keys, waiting: null };
    const free = this.mayBegin(turn, this.turns.length);
    this.turns.push(turn);
    if (!free) {
      await new Promise<void>((resolve, reject) => {
        turn.waiting = { begin: resolve, refuse: reject };
      });
    }
    const at = this.turns.indexOf(turn);
    check(at >= 0 && turn.waiting === null, 'an operation begins that has no turn', at);
    check(this.mayBegin(turn, at), 'an operation begins before an earlier one that it has to wait for', at);
    try {
      return await work();
    } finally {
      const place = this.turns.indexOf(turn);
      check(place >= 0, 'the turn of an operation has ended before it', place);
      this.turns.splice(place, 1);
      this.goOn();
    }
  }

  /** Whether none of the first `earlier` turns has a key of this one. */
  private mayBegin({ keys }: Turn, earlier: number): boolean {
    for (let at = 0; at < earlier; at += 1) {
      for (const key of this.turns[at].keys) if (keys.includes(key)) return false;
    }
    return true;
  }

  private goOn(): void {
    for (const [at, turn] of this.turns.entries()) {
      if (turn.waiting === null || !this.mayBegin(turn, at)) continue;
      turn.waiting.begin();
      turn.waiting = null;
    }
    if (this.turns.length === 0) this.lastEnded.tell();
  }

  /** Refuses what waits and what will be asked for. What is being carried out goes on. */
  close(error: Error): void {
    this.refusal ??= error;
    for (const turn of this.turns.filter(({ waiting }) => waiting !== null)) {
      this.turns.splice(this.turns.indexOf(turn), 1);
      turn.waiting?.refuse(error);
    }
  }

  /** Resolves when nothing is being carried out, and nothing waits. */
  ended(): Promise<void> {
    return this.turns.length === 0 ? Promise.resolve() : this.lastEnded.next();
  }
}
