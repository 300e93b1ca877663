/**
 * Memory of trials, of which one after another uses the same. What a trial finds in it hangs on its seed alone, and on nothing
 * that one before it has left there.
 *
 * Each page has a pattern of its own, which is made once; where a trial's memory begins hangs on its seed. A trial uses a
 * small part of what it could use, so only pages that somebody has used since are given their pattern again. The ports of a
 * process tell which those are: whatever comes into memory, or leaves it, passes a port, and what product code writes there
 * for itself lies on the same pages. There is one exception, of which `touchJournals` knows. `test/sim/trial-memory.test.ts`
 * compares all pages.
 */

import { BLOCK_BYTES } from '../../core/limits.js';
import { JOURNAL_WRITER_BYTES } from '../../store/running/journal-writer.js';
import { placesFrom, STORE_OWN_BYTES } from '../../store/store-start.js';
import { SimRandom } from '../world/random.js';

/** Pages repeat after so many: a prime, so that no structure of the product has the same pattern in each of its parts. */
const PATTERNS = 61;
/** A part lies up to so much behind its start. */
export const PART_SLACK_BYTES = (PATTERNS - 1) * BLOCK_BYTES;

/** A store clears the memory of its journal when it is opened: of `stores` stores, whose memory begins at `start` of a part. */
export function touchJournals({ touched }: MemoryPart, start: number, stores: number): void {
  for (let store = 0; store < stores; store += 1) {
    const { journal } = placesFrom(start + store * STORE_OWN_BYTES);
    touched.fill(1, Math.floor(journal / BLOCK_BYTES), Math.ceil((journal + JOURNAL_WRITER_BYTES) / BLOCK_BYTES));
  }
}

/** A part of it for processes. */
export interface MemoryPart {
  readonly bytes: Uint8Array;
  /** Of each page: 1 if it may hold anything, 0 if it is as the seed wants it. */
  readonly touched: Uint8Array;
}

export class TrialMemory {
  private readonly bytes: Uint8Array;
  private readonly touched: Uint8Array;
  private readonly patterns: readonly Uint8Array[];

  /** In whole pages, with `PART_SLACK_BYTES` behind what is used. `before` is what it holds to begin with: it does not matter. */
  constructor(lengthBytes: number, before = 0) {
    const pages = lengthBytes / BLOCK_BYTES;
    this.bytes = new Uint8Array(lengthBytes);
    if (before !== 0) this.bytes.fill(before);
    this.touched = new Uint8Array(pages).fill(1);
    const random = new SimRandom(0).fork('memory');
    this.patterns = Array.from({ length: PATTERNS }, () => {
      const words = Uint32Array.from({ length: BLOCK_BYTES / 4 }, () => random.next());
      return new Uint8Array(words.buffer);
    });
  }

  /** So many bytes behind `start`, both in whole pages: where exactly, `seed` decides. `fill` makes them what they should be. */
  part(seed: number, start: number, lengthBytes: number): MemoryPart {
    const first = ((seed >>> 0) % PATTERNS) + start / BLOCK_BYTES;
    const end = first + lengthBytes / BLOCK_BYTES;
    const bytes = this.bytes.subarray(first * BLOCK_BYTES, end * BLOCK_BYTES);
    return { bytes, touched: this.touched.subarray(first, end) };
  }

  /** Gives each page from `start` to `end` of a part its pattern. */
  fill(part: MemoryPart, start: number, end: number): void {
    const base = part.touched.byteOffset;
    const [from, to] = [base + start / BLOCK_BYTES, base + end / BLOCK_BYTES];
    for (let page = this.touched.indexOf(1, from); page >= 0 && page < to; page = this.touched.indexOf(1, page + 1)) {
      this.bytes.set(this.patterns[page % PATTERNS], page * BLOCK_BYTES);
      this.touched[page] = 0;
    }
  }

  /** The first page that is not as it should be though it counts as untouched; -1 if there is none. */
  findStray(): number {
    const words = new Uint32Array(this.bytes.buffer);
    const patterns = this.patterns.map(({ buffer }) => new Uint32Array(buffer));
    const count = BLOCK_BYTES / 4;
    for (let page = 0; page < this.touched.length; page += 1) {
      if (this.touched[page] !== 0) continue;
      const pattern = patterns[page % PATTERNS];
      for (let word = 0; word < count; word += 1) if (words[page * count + word] !== pattern[word]) return page;
    }
    return -1;
  }
}
