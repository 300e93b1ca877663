/** Checksums of several blocks, for memory that has no faster way. */

import type { Memory } from '../ports/memory.js';
import { BLOCK_BYTES } from './limits.js';

/** See `Memory.checksums`. */
export function checksumsOneByOne(memory: Memory, at: number, blocks: number, sums: Uint32Array): void {
  if (sums.length < blocks) throw new RangeError(`${sums.length} words for the sums of ${blocks} blocks`);
  for (let block = 0; block < blocks; block += 1) sums[block] = memory.checksum(at + block * BLOCK_BYTES, BLOCK_BYTES);
}
