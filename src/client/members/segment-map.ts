/**
 * Which segments have a slot on a member: what the engine knows of that, so that no request has to ask.
 *
 * It is filled from the member's list when the member is taken in, and follows what the engine asks for: nobody else gives
 * slots to a volume's segments or takes them back. A byte for each segment, in pages that exist where any segment of theirs has
 * a slot, so that a sparse volume costs little however large it is.
 */

import { check } from '../../core/check.js';
import { SEGMENT_MAP_PAGE } from '../../core/limits.js';
import type { ChunkIndex } from '../../ports/ids.js';

const ABSENT = 0;
const PRESENT = 1;

export class SegmentMap {
  /** Segments that have a slot. */
  size = 0;
  private pages: (Uint8Array | undefined)[] = [];
  private readonly counts: number[] = [];

  has(stripe: ChunkIndex): boolean {
    const page = this.pages[Math.floor(stripe / SEGMENT_MAP_PAGE)];
    return page !== undefined && page[stripe % SEGMENT_MAP_PAGE] === PRESENT;
  }

  add(stripe: ChunkIndex): void {
    const number = Math.floor(stripe / SEGMENT_MAP_PAGE);
    let page = this.pages[number];
    if (page === undefined) {
      page = new Uint8Array(SEGMENT_MAP_PAGE);
      this.pages[number] = page;
      this.counts[number] = 0;
    }
    if (page[stripe % SEGMENT_MAP_PAGE] === PRESENT) return;
    page[stripe % SEGMENT_MAP_PAGE] = PRESENT;
    this.counts[number] += 1;
    check(this.counts[number] <= SEGMENT_MAP_PAGE, 'a page has more segments than fit', number);
    this.size += 1;
  }

  delete(stripe: ChunkIndex): void {
    if (!this.has(stripe)) return;
    const number = Math.floor(stripe / SEGMENT_MAP_PAGE);
    const page = this.pages[number];
    check(page !== undefined && this.counts[number] > 0, 'a segment goes from a page that has none', number);
    page[stripe % SEGMENT_MAP_PAGE] = ABSENT;
    this.size -= 1;
    check(this.size >= 0, 'more segments have gone than there were', this.size);
    this.counts[number] -= 1;
    if (this.counts[number] === 0) this.pages[number] = undefined;
  }

  clear(): void {
    this.pages = [];
    this.size = 0;
  }

  /** All segments that have a slot, in order. */
  *stripes(): Iterable<number> {
    for (const [number, page] of Object.entries(this.pages)) {
      if (page === undefined) continue;
      for (let at = 0; at < SEGMENT_MAP_PAGE; at += 1) {
        if (page[at] === PRESENT) yield Number(number) * SEGMENT_MAP_PAGE + at;
      }
    }
  }
}
