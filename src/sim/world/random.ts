/**
 * Pseudo-random numbers from a seed: what happens in a simulation is a function of its seed and of nothing else.
 *
 * The generator is sfc32 of Chris Doty-Humphrey's PractRand 0.94 (http://pracrand.sourceforge.net): 96 bits of chaotic
 * state and a counter, so the period is at least 2^32 from any seed. It is not for secrets.
 *
 * Parts that draw numbers independently of each other get forks, so that one more draw in one part does not change what
 * the others draw.
 */

/** What PractRand discards after seeding, so that similar seeds give unrelated numbers. */
const WARM_UP = 12;
const TWO_32 = 0x1_0000_0000;

/** FNV-1a (draft-eastlake-fnv) of the UTF-16 code units of `text`, as an unsigned 32-bit number. */
function hashOf(text: string): number {
  let hash = 0x811c_9dc5;
  for (let index = 0; index < text.length; index += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x0100_0193);
  }
  return hash >>> 0;
}

export class SimRandom {
  private a = 0;
  private b = 0;
  private c = 0;
  private counter = 1;

  /** `seed` and `stream` are used as 32-bit integers; streams of one seed are unrelated. */
  constructor(seed: number, stream = 0) {
    this.b = seed | 0;
    this.c = stream | 0;
    for (let round = 0; round < WARM_UP; round += 1) this.next();
  }

  /** The next number, 0 to 2^32 - 1. */
  next(): number {
    const result = (this.a + this.b + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (((this.c << 21) | (this.c >>> 11)) + result) | 0;
    return result >>> 0;
  }

  /** A number from 0 to `count` - 1. `count` is 1 to 2^32; the bias is below `count` / 2^32. */
  below(count: number): number {
    return Math.floor((this.next() / TWO_32) * count);
  }

  /** A number from `least` to `most`, both included. */
  between(least: number, most: number): number {
    return least + this.below(most - least + 1);
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.next() < probability * TWO_32;
  }

  /** One of `items`, of which there must be one. */
  pick<Item>(items: readonly Item[]): Item {
    if (items.length === 0) throw new Error('nothing to pick from');
    return items[this.below(items.length)];
  }

  /** A generator of its own. It depends on what was drawn from this one before, and on the label; it draws one number. */
  fork(label: string): SimRandom {
    return new SimRandom(this.next(), hashOf(label));
  }
}
