/**
 * What each sector of a volume may hold, by what was asked for and what was answered.
 *
 * Every write has a beginning and an end in a common order. A version is superseded by another that counts and that began
 * after it had ended; anything that is not superseded may be there, and nothing else. Which versions *count* depends on the
 * failure: what was acknowledged outlives a process, what a flush or FUA covers outlives a loss of power.
 *
 * Sectors describe themselves: volume, number, version and what is mixed of these, and so on to the end. One that was torn, is of
 * another place or of another volume is told from all versions of this one.
 */

import * as assert from 'uvu/assert';
import { crc32c } from '#strake/uring/checksum.js';

export const SECTOR = 512;
const WORDS = SECTOR / 4;

interface Version {
  /** 0 for zeroes. */
  readonly value: number;
  readonly began: number;
  /** When it was answered, well or not; infinite until then. */
  ended: number;
  acknowledged: boolean;
  durable: boolean;
  /** It may have done nothing although it was acknowledged. */
  readonly advice: boolean;
}

/** A modifying operation on a run of sectors. */
export interface Modification {
  readonly sector: number;
  readonly count: number;
  /** 0 for zeroes, else what the sectors are made of. */
  readonly value: number;
  readonly versions: readonly Version[];
}

export class SectorHistory {
  private readonly tag: number;
  private readonly sealed: boolean;
  private readonly sectors: Version[][];
  private now = 1;
  private lastValue = 0;

  /** `tag`: a number that no other volume has. `sealed`: each sector ends in its own CRC32C, so all have the same one. */
  constructor(tag: number, sizeBytes: number, sealed = false) {
    this.sealed = sealed;
    this.tag = tag;
    this.sectors = Array.from({ length: sizeBytes / SECTOR }, () => [settled(0)]);
  }

  get count(): number {
    return this.sectors.length;
  }

  /** The sector with this version as bytes. */
  private fill(target: Uint8Array, at: number, sector: number, value: number): void {
    if (value === 0) {
      target.fill(0, at, at + SECTOR);
      return;
    }
    const words = new Uint32Array(WORDS);
    let mixed = Math.imul(this.tag ^ Math.imul(sector, 0x9e3779b1), 0x85ebca6b) ^ value;
    for (let index = 0; index < WORDS; index += 4) {
      mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d) + index;
      words.set([this.tag, sector, value, mixed], index);
    }
    if (this.sealed) words[WORDS - 1] = crc32c(new Uint8Array(words.buffer, 0, SECTOR - 4));
    target.set(new Uint8Array(words.buffer), at);
  }

  /** Payload for a write. */
  payload({ sector, count, value }: Modification): Buffer {
    const bytes = Buffer.alloc(count * SECTOR);
    for (let index = 0; index < count; index += 1) this.fill(bytes, index * SECTOR, sector + index, value);
    return bytes;
  }

  /** A write, zeroing or discard begins. */
  begin(sector: number, count: number, kind: 'write' | 'zero' | 'trim'): Modification {
    if (kind === 'write') this.lastValue += 1;
    const value = kind === 'write' ? this.lastValue : 0;
    const began = this.now++;
    const advice = kind === 'trim';
    const versions = Array.from({ length: count }, (_, index) => {
      const version = { value, began, ended: Infinity, acknowledged: false, durable: false, advice };
      this.sectors[sector + index].push(version);
      return version;
    });
    return { sector, count, value, versions };
  }

  /** It has been answered. */
  end({ versions }: Modification, good: boolean, fua: boolean): void {
    const ended = this.now++;
    for (const version of versions) {
      version.ended = ended;
      version.acknowledged = good;
      version.durable = good && fua;
    }
  }

  /** A flush begins; hand the result to `flushed` if it succeeds. */
  flushBegins(): number {
    return this.now++;
  }

  flushed(began: number): void {
    for (const versions of this.sectors) {
      for (const version of versions) if (version.acknowledged && version.ended < began) version.durable = true;
    }
  }

  private allowed(sector: number, after: 'death' | 'power cut'): Version[] {
    const versions = this.sectors[sector];
    const counts = versions.filter(
      ({ acknowledged, durable, advice }) => !advice && (after === 'death' ? acknowledged : durable),
    );
    return versions.filter((version) => !counts.some(({ began }) => began > version.ended));
  }

  /**
   * Holds content against the history. What is found is what counts from now on: it must not change again by itself.
   * `began`: before the content was read, no modification may have been under way that still is.
   */
  check(content: Uint8Array, after: 'death' | 'power cut', what: string): void {
    const expected = Buffer.alloc(SECTOR);
    assert.is(content.length, this.sectors.length * SECTOR, what);
    for (let sector = 0; sector < this.sectors.length; sector += 1) {
      const found = content.subarray(sector * SECTOR, (sector + 1) * SECTOR);
      const allowed = this.allowed(sector, after);
      const match = allowed.find(({ value }) => {
        this.fill(expected, 0, sector, value);
        return expected.equals(found);
      });
      if (match === undefined) this.fail(sector, found, allowed, what);
      else this.sectors[sector] = [settled(match.value)];
    }
  }

  private fail(sector: number, found: Uint8Array, allowed: readonly Version[], what: string): never {
    const words = new Uint32Array(Uint8Array.from(found).buffer);
    const history = this.sectors[sector].map((one) => JSON.stringify({ ...one, allowed: allowed.includes(one) }));
    const holds = [...words.slice(0, 4), words[WORDS - 1]].map((word) => word.toString(16)).join(' ');
    const own = this.sectors[sector].find(({ value }) => {
      const expected = Buffer.alloc(SECTOR);
      this.fill(expected, 0, sector, value);
      return expected.equals(found);
    });
    const meaning = own === undefined ? 'no version of it' : `version ${own.value}`;
    throw new Error(`${what}: sector ${sector} holds ${meaning} (${holds}):\n${history.join('\n')}`);
  }
}

/** A version that was there before everything else. */
function settled(value: number): Version {
  return { value, began: 0, ended: 0, acknowledged: true, durable: true, advice: false };
}
