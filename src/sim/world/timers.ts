/** Timers of whoever plays a part in a simulation without being product code: clients, and those who make faults. */

import type { SimSource } from './events.js';
import type { SimLoop } from './loop.js';

export class SimTimers implements SimSource {
  private readonly loop: SimLoop;
  private readonly waiting: ((() => void) | undefined)[] = [];
  private readonly free: number[] = [];

  constructor(loop: SimLoop) {
    this.loop = loop;
  }

  /** Calls `work` when so many microseconds have gone by. */
  after(delayUs: number, work: () => void): void {
    const slot = this.free.pop() ?? this.waiting.length;
    this.waiting[slot] = work;
    this.loop.schedule(this, slot, Math.max(0, Math.round(delayUs)));
  }

  /** Resolves when so many microseconds have gone by. */
  pause(delayUs: number): Promise<void> {
    return new Promise((resolve) => this.after(delayUs, resolve));
  }

  start(): void {}

  fire(slot: number): void {
    const work = this.waiting[slot];
    this.waiting[slot] = undefined;
    this.free.push(slot);
    this.loop.trace.add('timer', this.loop.nowUs, 0, 0, 0);
    work?.();
  }
}
