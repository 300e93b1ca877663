/** Timers of whoever plays a part in a simulation without being product code: clients, and those who make faults. */

import type { SimOwner, SimSource } from './events.js';
import type { SimTimeline } from './timeline.js';

export class SimTimers implements SimSource {
  private readonly time: SimTimeline;
  private readonly owner: SimOwner | null;
  private readonly waiting: ((() => void) | undefined)[] = [];
  private readonly free: number[] = [];

  /** With an `owner`, nothing happens once that process is dead. */
  constructor(time: SimTimeline, owner: SimOwner | null = null) {
    this.time = time;
    this.owner = owner;
  }

  /** Calls `work` when so many microseconds have gone by. */
  after(delayUs: number, work: () => void): void {
    const slot = this.free.pop() ?? this.waiting.length;
    this.waiting[slot] = work;
    this.time.schedule(this.owner, this, slot, Math.max(0, Math.round(delayUs)));
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
    this.time.trace.add('timer', this.time.nowUs, 0, 0, 0);
    work?.();
  }
}
