/**
 * Content that describes itself, so that every sector read tells which write it saw.
 *
 * ```text
 *   word   0      1       2 …                              126  127
 *        ┌──────┬───────┬─────────────────────────────────────┬──────┐
 *        │value │sector │ start, start + step, start + 2 step,│…     │  512 bytes, little-endian
 *        └──────┴───────┴─────────────────────────────────────┴──────┘
 * ```
 *
 * `start` and `step` are mixed of the value, the sector's address and the volume's tag. Zeroes have the value 0. A sector of
 * another place or volume, one that is torn anywhere, and garbage are no value: they are told from every value by all of
 * their words. Sealed content ends in the CRC32C of the rest of its sector instead, so that all sectors, and so
 * all blocks, have the same CRC32C, and no checksum tells one write from another.
 */

import { crc32c } from '../world/crc32c.js';

/** The unit of atomicity. */
export const SECTOR_BYTES = 512;
const WORDS = SECTOR_BYTES / 4;
/** What a sector that no write has produced is identified as. */
export const GARBAGE = -1;

export interface PayloadOptions {
  /** Tells volumes apart; default 0. */
  readonly tag?: number;
  readonly sealed?: boolean;
}

function mix(word: number): number {
  let mixed = Math.imul(word ^ (word >>> 16), 0x7feb_352d);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x846c_a68b);
  return mixed ^ (mixed >>> 16);
}

export class Payload {
  private readonly tag: number;
  private readonly sealed: boolean;
  /** What `words` is a view of. */
  private viewed: Uint8Array | null = null;
  private words: Int32Array = new Int32Array(0);
  /** For bytes that are not aligned to words. */
  private readonly copy = new Uint8Array(SECTOR_BYTES);
  private readonly copyWords = new Int32Array(this.copy.buffer);

  constructor({ tag = 0, sealed = false }: PayloadOptions = {}) {
    this.tag = mix(tag ^ 0x5472_616b);
    this.sealed = sealed;
  }

  /** Fills `count` sectors from `bytes[at]` on with what a write of `value` puts from `firstSector` on. */
  fill(bytes: Uint8Array, at: number, firstSector: number, count: number, value: number): void {
    if (value === 0) {
      bytes.fill(0, at, at + count * SECTOR_BYTES);
      return;
    }
    const aligned = this.view(bytes, at);
    for (let index = 0; index < count; index += 1) {
      const from = at + index * SECTOR_BYTES;
      if (aligned) this.fillWords(this.words, from >> 2, firstSector + index, value);
      else {
        this.fillWords(this.copyWords, 0, firstSector + index, value);
        bytes.set(this.copy, from);
      }
    }
  }

  /** The value of the sector at `bytes[at]`, which was read from `sector`: 0 for zeroes, or `GARBAGE`. */
  identify(bytes: Uint8Array, at: number, sector: number): number {
    if (this.view(bytes, at)) return this.identifyWords(this.words, at >> 2, sector);
    this.copy.set(bytes.subarray(at, at + SECTOR_BYTES));
    return this.identifyWords(this.copyWords, 0, sector);
  }

  /** Whether all of these sectors are of this value. */
  matches(bytes: Uint8Array, at: number, firstSector: number, count: number, value: number): boolean {
    if (!this.view(bytes, at)) {
      for (let index = 0; index < count; index += 1) {
        if (this.identify(bytes, at + index * SECTOR_BYTES, firstSector + index) !== value) return false;
      }
      return true;
    }
    if (value === 0) return isZero(this.words, at >> 2, count * WORDS);
    for (let index = 0; index < count; index += 1) {
      if (!this.matchWords(this.words, (at >> 2) + index * WORDS, firstSector + index, value)) return false;
    }
    return true;
  }

  /** What is in a sector, for people. */
  describe(bytes: Uint8Array, at: number, sector: number): string {
    const value = this.identify(bytes, at, sector);
    if (value === 0) return 'zeroes';
    if (value !== GARBAGE) return `write ${value}`;
    const words = new Int32Array(bytes.slice(at, at + SECTOR_BYTES).buffer);
    if (words[0] > 0 && this.matchWords(words, 0, words[1], words[0])) {
      return `sector ${words[1]} of write ${words[0]}, which belongs elsewhere`;
    }
    const expected = new Int32Array(WORDS);
    if (words[0] > 0) this.fillWords(expected, 0, sector, words[0]);
    const same = words.filter((word, index) => word === expected[index]).length;
    const begin = Array.from(words.subarray(0, 4), (word) => (word >>> 0).toString(16).padStart(8, '0')).join(' ');
    return `no value (${same} of ${WORDS} words are of ${words[0] > 0 ? `write ${words[0]}` : 'zeroes'}; begins ${begin})`;
  }

  /** Sets `words` to a view of all words of `bytes`, unless `at` is not aligned. */
  private view(bytes: Uint8Array, at: number): boolean {
    if (((bytes.byteOffset + at) & 3) !== 0) return false;
    if (this.viewed === bytes) return true;
    // A view begins where the bytes do, so those have to be aligned as well.
    if ((bytes.byteOffset & 3) !== 0) return false;
    this.words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
    this.viewed = bytes;
    return true;
  }

  private start(sector: number, value: number): number {
    return mix(mix(value ^ this.tag) ^ Math.imul(sector, 0x9e37_79b1));
  }

  private fillWords(words: Int32Array, at: number, sector: number, value: number): void {
    let word = this.start(sector, value);
    const step = word | 1;
    const end = at + WORDS;
    words[at] = value;
    words[at + 1] = sector;
    for (let index = at + 2; index < end; index += 1) {
      words[index] = word;
      word = (word + step) | 0;
    }
    if (this.sealed) words[end - 1] = this.seal(words, at);
  }

  private matchWords(words: Int32Array, at: number, sector: number, value: number): boolean {
    let word = this.start(sector, value);
    const step = word | 1;
    const end = at + WORDS;
    let wrong = (words[at] ^ value) | (words[at + 1] ^ sector);
    for (let index = at + 2; index < end - 2; index += 4) {
      const second = (word + step) | 0;
      const third = (second + step) | 0;
      const fourth = (third + step) | 0;
      wrong |= (words[index] ^ word) | (words[index + 1] ^ second);
      wrong |= (words[index + 2] ^ third) | (words[index + 3] ^ fourth);
      word = (fourth + step) | 0;
    }
    wrong |= words[end - 2] ^ word;
    const last = this.sealed ? this.seal(words, at) : (word + step) | 0;
    return (wrong | (words[end - 1] ^ last)) === 0;
  }

  private identifyWords(words: Int32Array, at: number, sector: number): number {
    const value = words[at];
    if (value === 0) return isZero(words, at, WORDS) ? 0 : GARBAGE;
    return value > 0 && this.matchWords(words, at, sector, value) ? value : GARBAGE;
  }

  private seal(words: Int32Array, at: number): number {
    return crc32c(new Uint8Array(words.buffer, words.byteOffset + at * 4, SECTOR_BYTES - 4)) | 0;
  }
}

function isZero(words: Int32Array, at: number, count: number): boolean {
  let some = 0;
  const end = at + count;
  for (let index = at; index < end; index += 4) {
    some |= words[index] | words[index + 1] | words[index + 2] | words[index + 3];
  }
  return some === 0;
}
