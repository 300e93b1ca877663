/** A process that is alone in its world: for whoever simulates no more than that. */

import { SimProcess } from './process.js';
import { type SimLimits, SimWorld, type SimWorldSettings } from './world.js';

export interface SimLoopSettings extends SimWorldSettings {
  /** Size of the memory, if `arena` is not given. */
  readonly arenaBytes?: number;
  /** Memory to use again. It is left as it is, so a run repeats only if it starts with the same content. */
  readonly arena?: Uint8Array;
}

export class SimLoop extends SimProcess {
  readonly world: SimWorld;

  constructor(settings: SimLoopSettings) {
    const world = new SimWorld(settings);
    const arena = settings.arena ?? new Uint8Array(settings.arenaBytes ?? 1 << 20);
    super(world.time, world.addHost('host'), { seed: settings.seed, arena });
    this.world = world;
    world.processes.push(this);
  }

  step(): boolean {
    return this.world.step();
  }

  runSync(until: () => boolean, limits?: SimLimits): void {
    this.world.runSync(until, limits);
  }

  run(until: () => boolean, limits?: SimLimits): Promise<void> {
    return this.world.run(until, limits);
  }

  settle<Result>(promise: Promise<Result>, limits?: SimLimits): Promise<Result> {
    return this.world.settle(promise, limits);
  }
}
