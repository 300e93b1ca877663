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

interface Wait {
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

  /** Waits for what has to happen in bounded time, unless the process dies that is to do it: then this never ends. */
  async settle<Result>(promise: Promise<Result>, process: SimProcess | null = null): Promise<Result> {
    const wait = {
      process,
      untilUs: this.time.nowUs + 1000 * this.patience.ms,
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
  until(holds: () => boolean, process: SimProcess | null = null): Promise<void> {
    return this.settle(this.world.until(holds), process);
  }

  /** Runs the world until a course has come to its end. */
  async run(course: Promise<void>): Promise<void> {
    let ended = false;
    const note = () => {
      ended = true;
    };
    course.then(note, note);
    await this.world.run(() => ended || this.isOverdue(), { batches: TRIAL_STEPS });
    await course;
  }

  private isOverdue(): boolean {
    for (const wait of this.waits) {
      if (wait.untilUs > this.time.nowUs && wait.untilStep > this.world.steps) return false;
      if (wait.process?.alive === false) {
        this.waits.delete(wait);
        continue;
      }
      const { ms, steps } = this.patience;
      throw new SimViolation(`what was waited for has not happened in ${ms} ms, or ${steps} steps`);
    }
    return false;
  }
}
