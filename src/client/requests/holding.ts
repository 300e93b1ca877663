/**
 * How long requests of a managed volume are held: for a manager that is to decide, for a last copy that is to come back, for
 * leases. Who has waited for so long is told that it has failed.
 *
 * A modification that was told so goes on: it keeps its stamp, its blocks and its memory, and is sent until every member has it
 * or has left. What it has written may be on some copies and not on others, so its blocks answer errors until then, and nothing
 * that is recorded under its flush is settled.
 */

import { check } from '../../core/check.js';
import type { Watch, Watched } from '../../core/watch.js';
import type { Clock } from '../../ports/clock.js';

/** What holds requests. */
export interface Holder {
  /** Whether it holds any that have not been told to have failed. */
  readonly holds: boolean;
  /** Tells those that were held at `beforeMs` or earlier. */
  giveUp(beforeMs: number): void;
}

export class Holding implements Watched {
  private readonly clock: Clock;
  private readonly watch: Watch;
  private readonly holdMs: () => number;
  private readonly holders: Holder[] = [];

  /** `holdMs`: for how long, at any time. */
  constructor(clock: Clock, watch: Watch, holdMs: () => number) {
    this.clock = clock;
    this.watch = watch;
    this.holdMs = holdMs;
    watch.add(this);
  }

  add(holder: Holder): void {
    this.holders.push(holder);
  }

  /** Something is held from now on. Returns the time. */
  begun(): number {
    check(this.holders.length > 0, 'something is held by nobody who could be told', this.holders.length);
    this.watch.start();
    return this.clock.nowMs();
  }

  get busy(): boolean {
    return this.holders.some(({ holds }) => holds);
  }

  tick(nowMs: number): void {
    for (const holder of this.holders) if (holder.holds) holder.giveUp(nowMs - this.holdMs());
  }

  close(): void {
    check(!this.busy, 'requests are held when their volume is closed', this.holders.length);
    this.watch.remove(this);
  }
}
