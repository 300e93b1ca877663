/**
 * A simulated world: hosts with processes on them, and one queue of events, which happen in an order that a seed decides.
 *
 * A step moves time on to the next event, lets happen what is due within a few microseconds, and gives each process in which
 * something happened a batch. Time moves on by one microsecond in each step at least.
 *
 * Promises: between two steps `run` lets continuations run for `turns` turns of the microtask queue. What hangs on a
 * promise that a completion resolves runs before the next step as long as it is at most that many `await`s long; a longer
 * chain goes on between later steps, at the same place in every run with the seed. Product code must wait for nothing
 * else (timers, threads, files): that would not be repeated by the seed.
 *
 * Whoever plays a part in a world without being product code waits by promises, too: `until` for a condition, `SimTimers` for a
 * time. Only one runs the world, so parts go on side by side.
 */

import type { SimEvent } from './events.js';
import { SimHost, type SimHostSettings } from './host.js';
import type { SimProcess } from './process.js';
import type { SimRandom } from './random.js';
import { SimTimeline, type TimelineSettings } from './timeline.js';

/** Turns before a run without events counts as stuck. */
const LAST_TURNS = 1000;

const RESOLVED = Promise.resolve();

export interface SimWorldSettings extends TimelineSettings {
  /** Turns of the microtask queue after each step; default 24. */
  readonly turns?: number;
  /** How many continuations of promises have run in this thread: by that, turns in which nothing would happen are left out. */
  readonly continuations?: () => number;
  /** Probability that a batch's submissions are handed over before continuations run; default 1/4. */
  readonly earlyHandOver?: number;
  /** How much later than the first event of a step its last may be, in microseconds; default 8. */
  readonly batchSpreadUs?: number;
}

/** What a run may use up before it counts as endless. */
export interface SimLimits {
  /** Steps; default 1e6. */
  readonly batches?: number;
  /** Virtual time from now on, in milliseconds; default one day. */
  readonly virtualMs?: number;
}

interface Condition {
  readonly holds: () => boolean;
  readonly resolve: () => void;
}

function holdsNow({ holds }: Condition): boolean {
  return holds();
}

export class SimWorld {
  readonly time: SimTimeline;
  /** Those that live, and some that have died lately. */
  readonly processes: SimProcess[] = [];
  /** Steps taken. */
  steps = 0;
  private readonly settings: SimWorldSettings;
  private readonly order: SimRandom;
  private conditions: Condition[] = [];

  constructor(settings: SimWorldSettings) {
    this.settings = settings;
    this.time = new SimTimeline(settings);
    this.order = this.time.random.fork('loop');
  }

  addHost(name: string, settings: SimHostSettings = {}): SimHost {
    return new SimHost(name, this.time, this.processes, settings);
  }

  /** Resolves once this holds; it is asked after every step. */
  until(holds: () => boolean): Promise<void> {
    if (holds()) return RESOLVED;
    return new Promise((resolve) => this.conditions.push({ holds, resolve }));
  }

  /**
   * Hands over what is queued, moves time on to the next event and delivers one batch to each process that has one. Returns
   * false, and does nothing, if no event is left. Continuations of promises do not run within it: callback-only code can be run
   * by calling this.
   */
  step(): boolean {
    const { time } = this;
    const ready = this.handOver();
    if (time.events.length === 0 && !ready) return false;
    this.steps += 1;
    time.nowUs += 1;
    if (!ready) time.nowUs = Math.max(time.nowUs, time.events.nextUs());
    const untilUs = time.nowUs + this.order.below((this.settings.batchSpreadUs ?? 8) + 1);
    while (time.events.length > 0 && time.events.nextUs() <= untilUs) this.fire(time.events.pop());
    this.deliver();
    return true;
  }

  /** Lets every process hand over what it has queued. Returns whether one has completions. */
  private handOver(): boolean {
    const { processes } = this;
    let ready = false;
    for (let index = 0; index < processes.length; index += 1) {
      const process = processes[index];
      if (!process.alive) {
        processes.splice(index, 1);
        index -= 1;
        continue;
      }
      if (!process.stalled) process.handOver();
      if (process.hasReady) ready = true;
    }
    return ready;
  }

  private fire(event: SimEvent): void {
    const { time } = this;
    const { owner, source, target, result, flags, origin } = event;
    time.nowUs = Math.max(time.nowUs, event.timeUs);
    if (owner !== null) {
      if (owner.alive && owner.stalledUntilUs > time.nowUs) {
        time.events.put(event, owner.stalledUntilUs);
        return;
      }
      owner.awake = true;
    }
    time.events.release(event);
    if (owner !== null && !owner.alive) return;
    if (source !== null) source.fire(target);
    else owner?.complete(target, result, flags, origin);
  }

  /** Where several processes have something, any may come first. */
  private deliver(): void {
    const { processes } = this;
    const count = processes.length;
    const first = count > 1 ? this.order.below(count) : 0;
    for (let turn = 0; turn < count; turn += 1) {
      const process = processes[(first + turn) % count];
      if (process.due) process.deliver();
    }
  }

  /** `step` for code without promises, until `until` holds. Throws as `run` does. */
  runSync(until: () => boolean, limits: SimLimits = {}): void {
    const check = this.limiter(limits);
    while (!until()) {
      check();
      if (!this.step() && !until()) throw this.stuck();
    }
  }

  /**
   * Takes steps until `until` holds. Throws if nothing is left that could happen, or if a limit is exceeded.
   */
  run(until: () => boolean, limits: SimLimits = {}): Promise<void> {
    const check = this.limiter(limits);
    const { continuations, earlyHandOver: early = 0.25, turns = 24 } = this.settings;
    // Steps are far more than anything else here, and all turns of all of them are one function: an `await` for each would
    // allocate more than the step itself.
    return new Promise((resolve, reject) => {
      let left = turns + 1;
      let before = continuations?.() ?? 0;
      let happened = true;
      let last = false;
      /** What follows the turns: returns how many come next, or 0 at the end. */
      const advance = (): number => {
        if (last) {
          last = false;
          const goesOn = until() || this.lookAtConditions() || this.handOver() || this.time.events.length > 0;
          if (!goesOn) throw this.stuck();
        } else if (!happened && !until()) {
          last = true;
          return LAST_TURNS;
        }
        if (until()) return 0;
        check();
        happened = this.step();
        if (this.conditions.length > 0) this.lookAtConditions();
        if (early > 0 && this.order.chance(early)) this.handOver();
        return turns;
      };
      const turn = () => {
        left -= 1;
        if (continuations !== undefined) {
          const now = continuations();
          // If no other has run since this was queued, none is left in the queue.
          if (now === before + 1) left = 0;
          before = now;
        }
        if (left === 0) {
          try {
            left = advance();
          } catch (error) {
            reject(error);
            return;
          }
          if (left === 0) {
            resolve();
            return;
          }
          left += 1;
          before = continuations?.() ?? 0;
        }
        RESOLVED.then(turn);
      };
      RESOLVED.then(turn);
    });
  }

  /** Runs until `promise` is settled, and returns or throws what it does. */
  async settle<Result>(promise: Promise<Result>, limits: SimLimits = {}): Promise<Result> {
    let settled = false;
    const note = () => {
      settled = true;
    };
    promise.then(note, note);
    await this.run(() => settled, limits);
    return promise;
  }

  /** Returns whether one holds. */
  private lookAtConditions(): boolean {
    // Mostly none does, and this is asked after every step.
    if (!this.conditions.some(holdsNow)) return false;
    const held = this.conditions.filter(holdsNow);
    this.conditions = this.conditions.filter((condition) => !held.includes(condition));
    for (const { resolve } of held) resolve();
    return true;
  }

  private limiter(limits: SimLimits): () => void {
    const lastStep = this.steps + (limits.batches ?? 1e6);
    const lastUs = this.time.nowUs + (limits.virtualMs ?? 86_400_000) * 1000;
    return () => {
      if (this.steps >= lastStep) throw new Error(`no end after ${limits.batches ?? 1e6} batches ${this.where()}`);
      if (this.time.nowUs > lastUs)
        throw new Error(`no end after ${limits.virtualMs ?? 86_400_000} ms ${this.where()}`);
    };
  }

  private stuck(): Error {
    return new Error(`deadlock: nothing is left to happen ${this.where()}`);
  }

  private where(): string {
    return `(seed ${this.time.seed}, batch ${this.steps}, ${this.time.nowUs} us)`;
  }
}
