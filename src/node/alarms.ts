/** Times at which whoever waits looks again, of one thread. */

import { check } from '../core/check.js';
import type { Notify } from '../core/notify.js';
import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';

export class Alarms {
  private readonly completions: CompletionPort;
  private readonly clock: Clock;
  private token = -1;
  private readonly waiting: (Notify | undefined)[] = [];

  constructor(completions: CompletionPort, clock: Clock) {
    this.completions = completions;
    this.clock = clock;
  }

  /** Tells in so many milliseconds, or sooner: when the engine is closed. */
  ring(afterMs: number, notify: Notify): void {
    check(afterMs >= 0, 'somebody waits for a time that is over', afterMs);
    // Few shards ever wait for anything.
    if (this.token === -1) this.token = this.completions.register({ complete: (tag) => this.rung(tag) });
    const free = this.waiting.indexOf(undefined);
    const tag = free < 0 ? this.waiting.length : free;
    this.waiting[tag] = notify;
    this.clock.after(afterMs, this.token + tag);
  }

  private rung(tag: number): void {
    const notify = this.waiting[tag];
    check(notify !== undefined, 'a time comes that nobody waits for', tag);
    this.waiting[tag] = undefined;
    notify.tell();
  }
}
