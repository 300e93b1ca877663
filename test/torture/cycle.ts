/** One kind of fault: what it needs, and how it is brought about. A cycle is such a fault and the judgement after it. */

import type { Need } from '../support/check.js';
import type { Medium } from './disks.js';
import type { World } from './world.js';

export interface CycleKind {
  /** As it is chosen and reported. */
  readonly name: string;
  /** How often it is chosen among the others that a world allows. */
  readonly weight: number;
  /** On which disks it can be done. */
  readonly media: readonly Medium[];
  /** The fewest and the most copies that a volume must have; default 1 to 3. */
  readonly copiesMin?: number;
  readonly copiesMax?: number;
  /** What it needs of the machine, besides its disks. */
  readonly needs?: readonly Need[];
  /**
   * Brings the fault about under load. Leaves a node that serves, or that has died, on disks that can be opened; the world
   * is settled afterwards.
   */
  run(world: World): Promise<void>;
}

export const EVERYWHERE: readonly Medium[] = ['file', 'loop', 'power', 'evil'];

export function allows({ media, copiesMin = 1, copiesMax = 3 }: CycleKind, medium: Medium, copies: number): boolean {
  return media.includes(medium) && copies >= copiesMin && copies <= copiesMax;
}
