/**
 * What all of a trial have in common: the world, its network, and how long whatever is waited for may take.
 *
 * The courses of several nodes go on side by side, so nobody runs the world but the trial itself: the others wait by promises.
 */

import { SimNetwork } from '../net/network.js';
import type { SimProcess } from '../world/process.js';
import { SimRandom } from '../world/random.js';
import type { SimChecksum, SimTimeline } from '../world/timeline.js';
import { SimTimers } from '../world/timers.js';
import { SimTrace } from '../world/trace.js';
import { SimWorld } from '../world/world.js';
import type { LoadPlan, SimPlan } from './plan.js';
import type { TrialMemory } from './trial-memory.js';

/** Time in which a volume has to be whole again once faults have stopped, in milliseconds. */
export const HEALING_MS = 600_000;
/** Steps in which whatever is waited for has to happen. */
const WAIT_STEPS = 2_000_000;
/** Steps of a whole trial. */
const TRIAL_STEPS = 50_000_000;

export interface TrialOptions {
  /** Memory for processes, `TRIAL_MEMORY_BYTES` of it. */
  readonly memory: TrialMemory;
  /** CRC32C of a part of memory, by whoever is fast at it; default: the simulator's own. */
  readonly checksum?: SimChecksum;
  /** As of a world. */
  readonly continuations?: () => number;
  /** Told of what happens, with the virtual time in microseconds. */
  readonly log?: (timeUs: number, text: string) => void;
  /** Whether each request and answer of clients is logged too. */
  readonly details?: boolean;
}

/** Something that must not happen has. */
export class SimViolation extends Error {}

/** Something that must end has not. */
export class SimEndless extends SimViolation {}

interface Wait {
  /** What is waited for, for people; empty if that is plain from the course. */
  readonly what: string;
  readonly sinceUs: number;
  readonly process: SimProcess | null;
  readonly untilUs: number;
  readonly untilStep: number;
}

export class TrialWorld<Plan extends LoadPlan = SimPlan> {
  readonly plan: Plan;
  readonly options: TrialOptions;
  readonly world: SimWorld;
  readonly time: SimTimeline;
  readonly network: SimNetwork;
  readonly timers: SimTimers;
  readonly random: SimRandom;
  /** Faults that have happened. */
  acted = 0;
  /** In which whatever is waited for has to happen: time in milliseconds, and steps. */
  protected readonly patience = { ms: HEALING_MS, steps: WAIT_STEPS };
  /** In which the whole of it has to come to its end. */
  protected readonly limit = { ms: Number.POSITIVE_INFINITY, steps: TRIAL_STEPS };
  /** In the order in which they have begun, and so of their limits. */
  private readonly waits = new Set<Wait>();

  constructor(plan: Plan, options: TrialOptions) {
    this.plan = plan;
    this.options = options;
    const { checksum, continuations } = options;
    const trace = new SimTrace({ contents: true });
    this.world = new SimWorld({
      seed: plan.seed,
      trace,
      ...(checksum === undefined ? {} : { checksum }),
      ...(continuations === undefined ? {} : { continuations }),
    });
    this.time = this.world.time;
    this.network = new SimNetwork(this.time, { latencyUs: plan.networkLatencyUs, loss: plan.networkLoss });
    this.timers = new SimTimers(this.time);
    this.random = new SimRandom(plan.seed).fork('trial');
  }

  get nowUs(): number {
    return this.time.nowUs;
  }

  /** Logs what happens. Details, which are many, come as functions. */
  log(text: string | (() => string)): void {
    const { details, log } = this.options;
    if (log === undefined || (typeof text === 'function' && details !== true)) return;
    log(this.time.nowUs, typeof text === 'function' ? text() : text);
  }

  /** Lets everything go on for so long. */
  pause(forUs: number): Promise<void> {
    return this.timers.pause(forUs);
  }

  /**
   * Waits for what has to happen in bounded time, unless the process dies that is to do it: then this never ends. `what` tells
   * people what that is.
   */
  async settle<Result>(promise: Promise<Result>, process: SimProcess | null = null, what = ''): Promise<Result> {
    const { nowUs } = this;
    const wait = {
      ...{ what, process, sinceUs: nowUs },
      untilUs: nowUs + 1000 * this.patience.ms,
      untilStep: this.world.steps + this.patience.steps,
    };
    this.waits.add(wait);
    try {
      return await promise;
    } finally {
      this.waits.delete(wait);
    }
  }

  /** Waits until this holds, likewise. */
  until(holds: () => boolean, process: SimProcess | null = null, what = ''): Promise<void> {
    return this.settle(this.world.until(holds), process, what);
  }

  /** What is waited for, the longest first, for people. */
  *waitedFor(): Iterable<string> {
    for (const { what, sinceUs } of this.waits) {
      if (what !== '') yield `${what}: not yet, since ${Math.floor(sinceUs / 1000)} ms`;
    }
  }

  /** Runs the world until a course has come to its end. */
  async run(course: Promise<void>): Promise<void> {
    let ended = false;
    const note = () => {
      ended = true;
    };
    course.then(note, note);
    await this.world.run(() => ended || this.isOverdue(), { batches: Number.POSITIVE_INFINITY });
    await course;
  }

  /** Throws if the trial, or something that is waited for, has not come to its end in time. Returns false. */
  private isOverdue(): boolean {
    const { limit } = this;
    if (this.world.steps >= limit.steps || this.nowUs > 1000 * limit.ms)
      throw new SimEndless(`the trial has not ended in ${limit.ms} ms, or ${limit.steps} steps`);
    for (const wait of this.waits) {
      if (wait.untilUs > this.time.nowUs && wait.untilStep > this.world.steps) return false;
      if (wait.process?.alive === false) {
        this.waits.delete(wait);
        continue;
      }
      const { ms, steps } = this.patience;
      const what = wait.what === '' ? 'what was waited for' : wait.what;
      throw new SimEndless(`${what} has not come to its end in ${ms} ms, or ${steps} steps`);
    }
    return false;
  }
}
