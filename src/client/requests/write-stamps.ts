/**
 * Numbers that order modifications: stamps of blocks, whose bits `src/layout/write-stamp.ts` draws, and the number of the
 * volume's flushes.
 */

import { check } from '../../core/check.js';
import { generationOf, type Stamp } from '../../layout/write-stamp.js';
import type { Generation } from '../../ports/ids.js';
import { SEQUENCE_MAX } from '../limits.js';

const LOW = 2 ** 32;

export class WriteStamps {
  /** The stamp given out last. */
  readonly current = { low: 0, high: 0 };
  /** Under which modifications are recorded now; counts flushes that have begun. */
  flushNumber = 1;
  /** Of all stamps that are given out now. */
  generation: Generation;
  private sequence = 0;

  constructor(generation: Generation) {
    this.generation = generation;
  }

  /** Gives out stamps of a later generation from now on, the first ones first. */
  restart(generation: Generation): void {
    check(generation > this.generation, 'stamps are given out again of a generation that was', generation);
    this.generation = generation;
    this.sequence = 0;
  }

  /** Makes later stamps higher than one that is on a member. */
  startAbove({ low, high }: Stamp): void {
    if (generationOf(high) !== this.generation) return;
    this.sequence = Math.max(this.sequence, (high & 0xff) * LOW + low);
  }

  /** The next stamp; the object is the same each time. */
  next(): Stamp {
    check(this.sequence < SEQUENCE_MAX, 'a generation has used up its sequence numbers', this.generation);
    this.sequence += 1;
    this.current.low = this.sequence >>> 0;
    this.current.high = ((this.generation << 8) | Math.floor(this.sequence / LOW)) >>> 0;
    check(generationOf(this.current.high) === this.generation, 'a generation has no room in a stamp', this.generation);
    return this.current;
  }
}
