/**
 * The clocks of a host: they run at one rate, and show different times.
 *
 * The monotonic clock begins when the host starts. BOOTTIME counts also what the host has slept, so it may be ahead of it.
 * REALTIME is what somebody has set. Jumps of these two are what a suspended guest, or a corrected clock, looks like to a
 * process.
 */

import type { SimTimeline } from './timeline.js';

/** REALTIME at the beginning of a world, in milliseconds: some day, with digits that are no power of two. */
const EPOCH_MS = 1_700_000_000_000;

export class SimClock {
  /** Milliseconds of this clock in one of the world's. */
  readonly rate: number;
  private readonly time: SimTimeline;
  /** Until then it stands still, as its host does. */
  stillUntilUs = 0;
  private startedUs = 0;
  private boottimeAheadMs = 0;
  private realtimeAheadMs = EPOCH_MS;

  constructor(time: SimTimeline, rate = 1) {
    this.time = time;
    this.rate = rate;
  }

  monotonicMs(): number {
    return ((Math.max(this.time.nowUs, this.stillUntilUs) - this.startedUs) / 1000) * this.rate;
  }

  boottimeMs(): number {
    return this.monotonicMs() + this.boottimeAheadMs;
  }

  realtimeMs(): number {
    return (this.time.nowUs / 1000) * this.rate + this.realtimeAheadMs;
  }

  /** The host has slept for so long, in milliseconds: BOOTTIME and REALTIME are ahead by that, the monotonic clock is not. */
  sleep(forMs: number): void {
    this.boottimeAheadMs += forMs;
    this.realtimeAheadMs += forMs;
  }

  /** The host is a guest that is frozen for so long from now on: REALTIME counts that, its other clocks do not. */
  freeze(forUs: number): void {
    this.standStill(forUs);
  }

  /** The host sleeps for so long from now on, of which its monotonic clock counts nothing. */
  suspend(forUs: number): void {
    this.boottimeAheadMs += (this.standStill(forUs) / 1000) * this.rate;
  }

  /** Returns how much longer it stands still than it would have anyway. */
  private standStill(forUs: number): number {
    const { nowUs } = this.time;
    const fromUs = Math.max(nowUs, this.stillUntilUs);
    const moreUs = Math.max(0, nowUs + forUs - fromUs);
    this.startedUs += moreUs;
    this.stillUntilUs = fromUs + moreUs;
    return moreUs;
  }

  /** Somebody sets REALTIME forward, or back, by so many milliseconds. */
  setRealtime(byMs: number): void {
    this.realtimeAheadMs += byMs;
  }

  /** The host starts anew. REALTIME goes on. */
  restart(): void {
    this.startedUs = this.time.nowUs;
    this.stillUntilUs = 0;
    this.boottimeAheadMs = 0;
  }
}
