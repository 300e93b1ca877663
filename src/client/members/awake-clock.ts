/**
 * The time during which this process could listen: by it, and not by the clock alone, others are told to be late. When a process
 * was stopped, or its host stood still, answers may have come that are still to be looked at, and so no time has passed for
 * whoever was to give them.
 */

import { check } from '../../core/check.js';
import type { Clock } from '../../ports/clock.js';
import { SESSION_TICK_MS } from '../limits.js';

export class AwakeClock {
  private readonly clock: Pick<Clock, 'nowMs'>;
  /** When the last tick came, or would have come. */
  private tickMs: number;
  /** Milliseconds that do not count. */
  private missedMs = 0;

  constructor(clock: Pick<Clock, 'nowMs'>) {
    this.clock = clock;
    this.tickMs = clock.nowMs();
  }

  /** Milliseconds; a gap between ticks counts as one tick. */
  nowMs(): number {
    const nowMs = this.clock.nowMs();
    const goneMs = nowMs - this.tickMs;
    check(goneMs >= 0, 'the clock of a session goes back behind its last tick', goneMs);
    if (goneMs > 2 * SESSION_TICK_MS) {
      this.missedMs += goneMs - SESSION_TICK_MS;
      this.tickMs = nowMs - SESSION_TICK_MS;
    }
    return nowMs - this.missedMs;
  }

  /**
   * A tick has come, as it does every `SESSION_TICK_MS` or more often. Returns whether the process was kept from listening before
   * it.
   */
  tick(): boolean {
    const { missedMs } = this;
    this.nowMs();
    this.tickMs = this.clock.nowMs();
    return this.missedMs > missedMs;
  }
}
