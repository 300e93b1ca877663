/**
 * Since when a node has said nothing. That counts only while it is asked whether it is there, and from a tick before; and anew
 * when this process itself was kept from listening, as what has come meanwhile is still to be looked at.
 */

import { check } from '../../core/check.js';
import type { TimesHeard } from '../../core/cluster-times.js';
import { SESSION_ALERT_TICK_MS, SESSION_TICK_MS } from '../limits.js';

export class Silence {
  private readonly times: TimesHeard;
  private tickMs: number;
  private heardMs: number;
  private askedMs: number;
  private isAsked = false;
  /** What had been received when it was looked at last. */
  private received = 0;

  constructor(nowMs: number, times: TimesHeard) {
    this.times = times;
    this.tickMs = nowMs;
    this.heardMs = nowMs;
    this.askedMs = nowMs;
  }

  /** It is time to look: `received` counts what has been received on the connection. */
  tick(nowMs: number, received: number): void {
    check(nowMs >= this.tickMs, 'the clock of a session goes back', nowMs);
    const late = nowMs - this.tickMs > 2 * SESSION_TICK_MS;
    this.tickMs = nowMs;
    if (late || received !== this.received) this.heardMs = nowMs;
    this.received = received;
  }

  /** Whether something had come since the tick before when it was looked at, which has been now. */
  isHeard(nowMs: number): boolean {
    return this.heardMs === nowMs;
  }

  /** There is a new connection. */
  heard(nowMs: number): void {
    this.heardMs = nowMs;
  }

  /** The node is asked whether it is there. */
  asked(nowMs: number): void {
    check(!this.isAsked, 'a node is asked twice whether it is there', nowMs);
    this.isAsked = true;
    this.askedMs = nowMs;
  }

  /** Whether it has not answered that yet. */
  get isWaiting(): boolean {
    return this.isAsked;
  }

  /** When to look again, in milliseconds from now: sooner, if it has not answered since it was looked at last. */
  pauseMs(nowMs: number): number {
    return this.isAsked && nowMs - this.askedMs >= SESSION_TICK_MS ? SESSION_ALERT_TICK_MS : SESSION_TICK_MS;
  }

  /** It has answered that, or nobody waits for it any more. */
  answered(): void {
    this.isAsked = false;
  }

  isPingDue(nowMs: number): boolean {
    return !this.isAsked && nowMs - this.askedMs >= this.times.now.pingMs;
  }

  /**
   * Whether the node is to be given up. The tick before it was asked counts too: a node at work is asked up to `pingMs` after it
   * has said something, and its clients wait meanwhile.
   */
  tooLong(nowMs: number): boolean {
    const { silenceMs } = this.times.now;
    return this.isAsked && nowMs - Math.max(this.heardMs, this.askedMs - SESSION_TICK_MS) >= silenceMs;
  }
}
