/** What a shard has open under a number, as the rings to programs name it: a raw device, or a volume of the node. */

import type { Volume } from '../ports/volume.js';
import type { RawVolume } from '../raw/raw-volume.js';
import type { UringDevice } from '../uring/device.js';
import type { ServedVolume } from '../volumes/hosted-volume.js';

export interface RawTarget {
  readonly device: UringDevice;
  readonly volume: RawVolume;
  readonly scratch: number;
  fence: number;
}

export interface VolumeTarget {
  readonly volume: ServedVolume;
  readonly name: string;
}

export type Target = RawTarget | VolumeTarget;

export function isRaw(target: Target): target is RawTarget {
  return !('name' in target);
}

export class Targets {
  /** None is given again: what still waits in the rings for one that is gone must not reach another. */
  private readonly targets = new Map<number, Target>();
  private next = 0;

  /** Gives something a number, which it has until it is deleted here or is at its end. */
  add(target: Target): number {
    const number = this.next;
    this.next += 1;
    this.targets.set(number, target);
    target.volume.onFence(() => this.targets.delete(number));
    return number;
  }

  get(number: number): Target | undefined {
    return this.targets.get(number);
  }

  delete(number: number): void {
    this.targets.delete(number);
  }

  numberOf(volume: Volume): number | undefined {
    for (const [number, target] of this.targets) if (target.volume === volume) return number;
    return undefined;
  }

  /** Raw devices, each with its number. */
  *raw(): Generator<[number, RawTarget]> {
    for (const [number, target] of this.targets) if (isRaw(target)) yield [number, target];
  }
}
