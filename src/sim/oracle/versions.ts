/**
 * What may be in each block of a volume: lists of versions, in typed arrays.
 *
 * A version is a value in some sectors of a block, from one write: with the zone of that write and of the reads that saw it
 * (see `linearizability.ts`). A block without a list has settled: each of its sectors has one value, which a failure cannot
 * change. A block with a list has everything in it, also what it had before.
 */

import { larger } from './linearizability.js';
import { type Operations, STATE_ACKNOWLEDGED } from './operations.js';

export const BLOCK_SECTORS = 8;
export const WHOLE = 0xff;

/** It was there when the list began. */
export const VERSION_INITIAL = 1;
/** A read has seen it. */
export const VERSION_READ = 2;
/** No version: a read of a value that several versions have. Its zone is when it was under way. */
export const VERSION_OPEN_READ = 4;

const CAPACITY = 1024;
const NONE = -1;

export class Versions {
  readonly blocks: number;
  /** First version of each block's list, the newest, or -1. */
  readonly head: Int32Array;
  /** By sector, where the block has no list. */
  readonly settled: Int32Array;
  /** By block: whether its sectors may differ in what happens to them. */
  readonly split: Uint8Array;
  /** By block: whether anything has been added since it was checked. */
  readonly touched: Uint8Array;
  /** Versions in use. */
  length = 0;

  next = new Int32Array(CAPACITY);
  /** Slot of the operation, or -1. */
  operation = new Int32Array(CAPACITY);
  value = new Int32Array(CAPACITY);
  /** Sectors of the block, a bit for each. */
  mask = new Uint8Array(CAPACITY);
  flags = new Uint8Array(CAPACITY);
  /** Latest start of its write and of the reads that saw it. */
  start = new Float64Array(CAPACITY);
  /** Earliest end of the reads that saw it; for what was there at the beginning, also that beginning. */
  end = new Float64Array(CAPACITY);

  private readonly operations: Operations;
  /** Blocks that have a list, and some that have had one. */
  private listed: Int32Array;
  private readonly isListed: Uint8Array;
  private listedCount = 0;
  private spare = NONE;
  private used = 0;

  constructor(operations: Operations, sectors: number) {
    if (sectors <= 0 || sectors % BLOCK_SECTORS !== 0) throw new Error(`${sectors} sectors are no whole blocks`);
    this.operations = operations;
    this.blocks = sectors / BLOCK_SECTORS;
    this.head = new Int32Array(this.blocks).fill(NONE);
    this.settled = new Int32Array(sectors);
    this.split = new Uint8Array(this.blocks);
    this.touched = new Uint8Array(this.blocks);
    this.listed = new Int32Array(this.blocks);
    this.isListed = new Uint8Array(this.blocks);
  }

  /** Adds a version as the newest; `setTimes` says when it was. */
  add(block: number, operation: number, value: number, mask: number, flags: number): number {
    if (this.head[block] === NONE && (flags & VERSION_INITIAL) === 0) this.addInitial(block);
    const version = this.take();
    this.operation[version] = operation;
    this.value[version] = value;
    this.mask[version] = mask;
    this.flags[version] = flags;
    this.next[version] = this.head[block];
    this.head[block] = version;
    this.touched[block] = 1;
    if (operation >= 0) this.operations.references[operation] += 1;
    if (this.isListed[block] === 0) {
      this.isListed[block] = 1;
      this.listed[this.listedCount] = block;
      this.listedCount += 1;
    }
    return version;
  }

  /** From when on it may have been there, and until when it may have come to be. Returns the version. */
  setTimes(version: number, start: number, end: number): number {
    this.start[version] = start;
    this.end[version] = end;
    return version;
  }

  /** Divides a version into one for `mask`, which is returned, and one for its other sectors. */
  divide(block: number, version: number, mask: number): number {
    const own = this.mask[version] & mask;
    if (own === this.mask[version]) return version;
    this.mask[version] ^= own;
    const { operation, value, flags, start, end } = this;
    const part = this.add(block, operation[version], value[version], own, flags[version]);
    return this.setTimes(part, start[version], end[version]);
  }

  /** When the version was there for certain, if it ever was, or could no longer come to be. */
  endOf(version: number): number {
    const operation = this.operation[version];
    if ((this.flags[version] & (VERSION_INITIAL | VERSION_OPEN_READ)) !== 0 || operation < 0) return this.end[version];
    return Math.min(this.end[version], this.operations.ended[operation]);
  }

  /** Whether its write is known to have taken effect. */
  happened(version: number): boolean {
    if ((this.flags[version] & VERSION_READ) !== 0) return true;
    if ((this.flags[version] & VERSION_INITIAL) !== 0) return false;
    return this.operations.state[this.operation[version]] === STATE_ACKNOWLEDGED;
  }

  /** Calls for each block with a list; forgets those that have none any more. */
  forEachListed(visit: (block: number) => void): void {
    let kept = 0;
    for (let index = 0; index < this.listedCount; index += 1) {
      const block = this.listed[index];
      visit(block);
      if (this.head[block] === NONE) this.isListed[block] = 0;
      else this.listed[kept++] = block;
    }
    this.listedCount = kept;
  }

  /**
   * Removes versions whose mask has become empty; where one value is left for each sector, and no failure changes it, settles.
   */
  sweep(block: number, isFinal: (version: number) => boolean): void {
    let [version, kept] = [this.head[block], NONE];
    let [covered, final, same] = [0, true, true];
    while (version !== NONE) {
      const following = this.next[version];
      const mask = this.mask[version];
      if (mask === 0) this.release(version);
      else {
        final &&= (covered & mask) === 0 && isFinal(version);
        same &&= mask === WHOLE;
        covered |= mask;
        this.next[version] = kept;
        kept = version;
      }
      version = following;
    }
    this.head[block] = this.reverse(kept);
    if (final && covered === WHOLE) this.settle(block);
    else if (same && this.isWholeAgain(block)) this.split[block] = 0;
  }

  /** Frees the whole list of a block. */
  clear(block: number): void {
    for (let version = this.head[block]; version !== NONE; ) {
      const following = this.next[version];
      this.release(version);
      version = following;
    }
    this.head[block] = NONE;
  }

  private reverse(first: number): number {
    let [version, reversed] = [first, NONE];
    while (version !== NONE) {
      const following = this.next[version];
      this.next[version] = reversed;
      reversed = version;
      version = following;
    }
    return reversed;
  }

  /** Whether nothing in the list can have been done in part. */
  private isWholeAgain(block: number): boolean {
    let initials = 0;
    for (let version = this.head[block]; version !== NONE; version = this.next[version]) {
      const state = this.flags[version] & VERSION_INITIAL ? 0 : this.operations.state[this.operation[version]];
      if (state > STATE_ACKNOWLEDGED) return false;
      if (state === 0) initials += 1;
    }
    return initials <= 1;
  }

  private settle(block: number): void {
    const first = block * BLOCK_SECTORS;
    for (let version = this.head[block]; version !== NONE; version = this.next[version]) {
      for (let bit = 0; bit < BLOCK_SECTORS; bit += 1) {
        if ((this.mask[version] >> bit) & 1) this.settled[first + bit] = this.value[version];
      }
    }
    this.clear(block);
    this.split[block] = this.isUniform(block) ? 0 : 1;
  }

  private isUniform(block: number): boolean {
    const first = block * BLOCK_SECTORS;
    for (let bit = 1; bit < BLOCK_SECTORS; bit += 1) {
      if (this.settled[first + bit] !== this.settled[first]) return false;
    }
    return true;
  }

  /** Lists what has settled, before something is added to it. */
  private addInitial(block: number): void {
    const first = block * BLOCK_SECTORS;
    let rest = WHOLE;
    for (let bit = 0; bit < BLOCK_SECTORS; bit += 1) {
      if (((rest >> bit) & 1) === 0) continue;
      const value = this.settled[first + bit];
      let mask = 0;
      for (let other = bit; other < BLOCK_SECTORS; other += 1) {
        if (this.settled[first + other] === value) mask |= 1 << other;
      }
      rest &= ~mask;
      const before = Number.NEGATIVE_INFINITY;
      const version = this.add(block, NONE, value, mask, VERSION_INITIAL | VERSION_READ);
      this.setTimes(version, before, before);
    }
  }

  private take(): number {
    this.length += 1;
    const version = this.spare;
    if (version !== NONE) {
      this.spare = this.next[version];
      return version;
    }
    if (this.used === this.next.length) this.grow();
    this.used += 1;
    return this.used - 1;
  }

  private release(version: number): void {
    const operation = this.operation[version];
    if (operation >= 0) this.operations.references[operation] -= 1;
    this.length -= 1;
    this.next[version] = this.spare;
    this.spare = version;
  }

  private grow(): void {
    const length = 2 * this.next.length;
    this.next = larger(this.next, new Int32Array(length));
    this.operation = larger(this.operation, new Int32Array(length));
    this.value = larger(this.value, new Int32Array(length));
    this.mask = larger(this.mask, new Uint8Array(length));
    this.flags = larger(this.flags, new Uint8Array(length));
    this.start = larger(this.start, new Float64Array(length));
    this.end = larger(this.end, new Float64Array(length));
  }
}
