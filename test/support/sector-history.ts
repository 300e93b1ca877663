/**
 * The oracle of the simulator (`src/sim/oracle/history.ts`) for volumes of real processes: what their clients ask for and are
 * answered, in real time, and what is found after a failure.
 */

import * as assert from 'uvu/assert';
import { VolumeHistory } from '#strake/sim/oracle/history.js';
import { Payload, SECTOR_BYTES } from '#strake/sim/oracle/payload.js';

export const SECTOR = SECTOR_BYTES;

/** A modifying operation on a run of sectors. */
export interface Modification {
  readonly operation: number;
  readonly count: number;
}

/** A read or a flush that is under way. */
export interface Pending {
  readonly operation: number;
}

export class SectorHistory {
  readonly count: number;
  private readonly oracle: VolumeHistory;

  /** `tag`: a number that no other volume has. `sealed`: each sector ends in its own CRC32C, so all have the same one. */
  constructor(tag: number, sizeBytes: number, sealed = false) {
    this.count = sizeBytes / SECTOR;
    this.oracle = new VolumeHistory({ sectors: this.count, payload: new Payload({ tag, sealed }) });
  }

  /** Payload for a write. */
  payload({ operation, count }: Modification): Buffer {
    const bytes = Buffer.alloc(count * SECTOR);
    this.oracle.fill(operation, bytes, 0);
    return bytes;
  }

  /** A write, zeroing or discard begins. */
  begin(sector: number, count: number, kind: 'write' | 'zero' | 'trim', fua = false): Modification {
    const { oracle } = this;
    if (kind === 'write') return { operation: oracle.beginWrite(sector, count, fua, now()), count };
    if (kind === 'zero') return { operation: oracle.beginZero(sector, count, fua, now()), count };
    return { operation: oracle.beginTrim(sector, count, fua, now()), count };
  }

  /** It, or a flush, has been answered. */
  end({ operation }: Pending, good: boolean): void {
    this.oracle.end(operation, good, now());
  }

  beginFlush(): Pending {
    return { operation: this.oracle.beginFlush(now()) };
  }

  beginRead(sector: number, count: number): Pending {
    return { operation: this.oracle.beginRead(sector, count, now()) };
  }

  /** A read has been answered: null for an error. */
  endRead({ operation }: Pending, content: Uint8Array | null): void {
    if (content === null) this.oracle.failRead(operation, now());
    else this.oracle.endRead(operation, content, 0, now());
  }

  /**
   * Holds content against the history. What is found is what counts from now on: it must not change again by itself. What
   * has no answer yet will get none any more: whoever it was asked of has gone. `unreadable`: sectors of which nothing is
   * known, as reading them failed.
   */
  check(
    content: Uint8Array,
    after: 'death' | 'power cut',
    what: string,
    unreadable: ReadonlySet<number> = new Set(),
  ): void {
    assert.is(content.length, this.count * SECTOR, what);
    try {
      if (after === 'death') this.oracle.killed(now());
      else this.oracle.powerCut(now());
      this.checkRuns(content, unreadable);
      this.oracle.checkpoint();
    } catch (error) {
      throw new Error(`${what}: ${(error as Error).message}`, { cause: error });
    }
  }

  /** Holds each run of sectors that could be read against the history. */
  private checkRuns(content: Uint8Array, unreadable: ReadonlySet<number>): void {
    for (let from = 0; from < this.count; ) {
      let to = from;
      while (to < this.count && !unreadable.has(to)) to += 1;
      if (to > from) this.endRead(this.beginRead(from, to - from), content.subarray(from * SECTOR, to * SECTOR));
      from = to + 1;
    }
  }
}

/** Microseconds of a clock that does not go back. */
function now(): number {
  return performance.now() * 1000;
}
