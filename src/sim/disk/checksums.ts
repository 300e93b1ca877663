/** Checksums of what reads and writes of a simulated device carry: 32 bits, little-endian, for each 4 KiB. */

import { BLOCK_BYTES } from '../../core/limits.js';
import type { SimProcess } from '../world/process.js';

const SPAN_BYTES = BLOCK_BYTES;

/** Bytes of memory, and where their checksums are. */
export interface Summed {
  readonly memory: number;
  readonly length: number;
  readonly checksums: number;
}

function checksumAt({ bytes, crc32c }: SimProcess, { memory, length }: Summed, done: number): number {
  return crc32c(bytes, memory + done, Math.min(SPAN_BYTES, length - done));
}

/** Bytes of the checksums of so many bytes. */
export function checksumBytes(length: number): number {
  return Math.ceil(length / SPAN_BYTES) * 4;
}

export function storeChecksums(process: SimProcess, summed: Summed): void {
  for (let done = 0, at = summed.checksums; done < summed.length; done += SPAN_BYTES, at += 4) {
    process.view.setUint32(at, checksumAt(process, summed, done), true);
  }
}

/** Whether bytes have the checksums that are there. */
export function hasChecksums(process: SimProcess, summed: Summed): boolean {
  for (let done = 0, at = summed.checksums; done < summed.length; done += SPAN_BYTES, at += 4) {
    if (process.view.getUint32(at, true) !== checksumAt(process, summed, done)) return false;
  }
  return true;
}
