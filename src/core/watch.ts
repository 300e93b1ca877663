/**
 * One coarse timer for all deadlines of a shard: handshakes, stalled peers, overdue device operations.
 *
 * It runs only while somebody has something to watch, so an idle shard sleeps.
 */

import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';
import { WATCH_MS } from './limits.js';

/** Something with deadlines. */
export interface Watched {
  /** Whether it has any at the moment. */
  readonly busy: boolean;
  /** Looks at them; once more when it is no longer busy, for what the last of them has left. */
  tick(nowMs: number): void;
}

/** What it needs of a clock. */
export type WatchClock = Pick<Clock, 'nowMs' | 'after'>;

export class Watch {
  private readonly clock: WatchClock;
  private readonly token: number;
  private readonly watched = new Set<Watched>();
  private running = false;

  constructor(completions: CompletionPort, clock: WatchClock) {
    this.clock = clock;
    this.token = completions.register({ complete: (_tag, result) => this.expire(result) });
  }

  add(watched: Watched): void {
    this.watched.add(watched);
  }

  remove(watched: Watched): void {
    this.watched.delete(watched);
  }

  /** Called by whoever has become busy. */
  start(): void {
    if (this.running) return;
    this.running = true;
    this.clock.after(WATCH_MS, this.token);
  }

  private expire(result: number): void {
    this.running = false;
    // A negative result means that the engine is closing.
    if (result < 0) return;
    const nowMs = this.clock.nowMs();
    for (const watched of this.watched) watched.tick(nowMs);
    for (const watched of this.watched) if (watched.busy) this.start();
  }
}
