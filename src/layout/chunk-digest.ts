/**
 * The digest of a range of chunks: a sum of hashes over number and stamp of each, so that it does not depend on their order. Two
 * members whose digests of a range agree have the same chunks there, with the same stamps; by chance that happens once in 2^64.
 */

import type { ChunkIndex, FlushNumber, Generation } from '../ports/ids.js';

/** Two words of 32 bits. */
export interface ChunkDigest {
  low: number;
  high: number;
}

/** Adds a chunk, which was last modified at this flush, to the digest of its range. */
export function addToDigest(
  digest: ChunkDigest,
  chunk: ChunkIndex,
  generation: Generation,
  flushNumber: FlushNumber,
): void {
  // MurmurHash3 (Appleby), its mixing of 32-bit words and its finalizer, over the words of the three numbers.
  let low = 0x9747b28c;
  let high = 0x5bd1e995;
  for (const number of [chunk, generation, flushNumber]) {
    for (const word of [number % 2 ** 32, Math.floor(number / 2 ** 32)]) {
      low = mix(low, word, 0xcc9e2d51, 0x1b873593);
      high = mix(high, word, 0x85ebca6b, 0xc2b2ae35);
    }
  }
  digest.low = (digest.low + finish(low)) >>> 0;
  digest.high = (digest.high + finish(high)) >>> 0;
}

function mix(hash: number, word: number, first: number, second: number): number {
  let mixed = Math.imul(word | 0, first);
  mixed = Math.imul((mixed << 15) | (mixed >>> 17), second);
  const turned = hash ^ mixed;
  return (Math.imul((turned << 13) | (turned >>> 19), 5) + 0xe6546b64) | 0;
}

function finish(hash: number): number {
  let mixed = hash ^ (hash >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
