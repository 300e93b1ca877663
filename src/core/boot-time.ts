/**
 * Time that leases are counted by: CLOCK_BOOTTIME, which goes on while the host sleeps. REALTIME is read beside it. A guest that
 * was paused may find its BOOTTIME where it was, and learns by REALTIME that it was away: from the moment on in which the
 * two move apart nothing counts that was promised before.
 */

import type { Clock } from '../ports/clock.js';
import { check } from './check.js';
import { CLOCKS_APART_MS } from './limits.js';

export class BootTime {
  /** How often the clocks have moved apart. What was promised under another count than now is void. */
  jumps = 0;
  private readonly clock: Clock;
  private apartMs: number;
  private lastMs: number;

  constructor(clock: Clock) {
    this.clock = clock;
    this.lastMs = clock.boottimeMs();
    this.apartMs = clock.realtimeMs() - this.lastMs;
  }

  /**
   * Milliseconds of BOOTTIME now. Whoever decides by them reads them after what it decides about has come, and keeps them for
   * nothing that comes later: the process may have stood still in between.
   */
  read(): number {
    const bootMs = this.clock.boottimeMs();
    const apartMs = this.clock.realtimeMs() - bootMs;
    check(bootMs >= this.lastMs, 'the time since the start of the host goes back', bootMs);
    // The clocks may drift apart slowly.
    if (Math.abs(apartMs - this.apartMs) >= CLOCKS_APART_MS) this.jumps += 1;
    this.apartMs = apartMs;
    this.lastMs = bootMs;
    return bootMs;
  }
}
