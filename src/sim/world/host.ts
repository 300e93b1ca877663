/**
 * A host: its clocks, the disks in it, and processes, which die alone or all at once with its power.
 *
 * What a killed process had sent goes on its way, and the other end learns of the death. A host without power says nothing: the
 * other end learns of it when it sends something to the host after it has started again.
 */

import type { SimDisk } from '../disk/disk.js';
import { SimClock } from './clock.js';
import { type SimMachine, SimProcess, type SimProcessSettings } from './process.js';
import type { SimRandom } from './random.js';
import type { SimTimeline } from './timeline.js';

export interface SimHostSettings {
  /** Milliseconds of its clocks in one of the world's; default 1. */
  readonly clockRate?: number;
  /** What every segment to or from it takes longer than elsewhere, in microseconds; default 0. */
  readonly delayUs?: number;
}

export class SimHost implements SimMachine {
  readonly name: string;
  readonly clock: SimClock;
  readonly delayUs: number;
  /** Disks that lose what is not durable with its power. */
  readonly disks = new Set<SimDisk>();
  up = true;
  private readonly time: SimTimeline;
  /** All processes of the world; those of this host are among them. */
  private readonly processes: SimProcess[];

  constructor(name: string, time: SimTimeline, processes: SimProcess[], settings: SimHostSettings = {}) {
    this.name = name;
    this.time = time;
    this.processes = processes;
    this.clock = new SimClock(time, settings.clockRate);
    this.delayUs = settings.delayUs ?? 0;
  }

  start(settings: SimProcessSettings): SimProcess {
    if (!this.up) throw new Error(`${this.name} has no power`);
    const process = new SimProcess(this.time, this, settings);
    this.processes.push(process);
    const stillUs = this.clock.stillUntilUs - this.time.nowUs;
    if (stillUs > 0) process.stall(stillUs);
    return process;
  }

  /**
   * It sleeps for so long from now on, or is a guest that is frozen: nothing happens in its processes, nor in those that are
   * started meanwhile, and its clocks show that or do not.
   */
  standStill(how: 'sleep' | 'freeze', forUs: number): void {
    if (how === 'sleep') this.clock.suspend(forUs);
    else this.clock.freeze(forUs);
    for (const process of this.processes) if (process.machine === this && process.alive) process.stall(forUs);
  }

  /** The power fails: all its processes die without a word, and its disks lose what is not durable, as `random` chooses. */
  powerOff(random: SimRandom): void {
    this.up = false;
    for (const process of this.processes) if (process.machine === this) process.kill();
    for (const disk of this.disks) disk.powerCut(random);
  }

  powerOn(): void {
    this.up = true;
    this.clock.restart();
  }
}
