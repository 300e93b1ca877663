/** A modification of a simulated disk, and what it does to an image. */

import { SECTOR_BYTES } from '../../core/limits.js';
import type { SimImage } from './image.js';

/** A modification of a disk, from its hand-over until it is durable or overwritten. */
export interface SimWrite {
  offset: number;
  readonly length: number;
  /** What is written, from the disk's `payloads`; null for zeroes. May be longer than the modification. */
  readonly data: Uint8Array | null;
  /** Whether zeroed pages stay allocated. */
  readonly allocated: boolean;
  /** One byte for each sector: whether it is changed; null if all are. */
  mask: Uint8Array | null;
  /** Whether it is durable, and stays listed to keep what it has overwritten from coming back. */
  durable: boolean;
  /** Whether a read may have seen some of it before its end: it cannot be undone then, except by a power cut. */
  seen: boolean;
  /** Counts the modifications of a disk, and of its clones. */
  number?: number;
}

/** Whether a crash keeps this sector (counted within the modification). */
export type Keep = (write: SimWrite, sector: number) => boolean;

/** Calls `change` for each run of sectors of `write` that its mask and `keep` let through. */
export function eachRun(write: SimWrite, keep: Keep | null, change: (at: number, bytes: number) => void): void {
  const { length, mask } = write;
  if (mask === null && keep === null) {
    change(0, length);
    return;
  }
  const sectors = length / SECTOR_BYTES;
  let start = 0;
  for (let sector = 0; sector <= sectors; sector += 1) {
    const taken = sector < sectors && (mask === null || mask[sector] !== 0) && (keep === null || keep(write, sector));
    if (taken) continue;
    if (sector > start) change(start * SECTOR_BYTES, (sector - start) * SECTOR_BYTES);
    start = sector + 1;
  }
}

/** Makes the modification in an image, of the sectors that its mask and `keep` let through. */
export function apply(image: SimImage, write: SimWrite, keep: Keep | null): void {
  // Nearly all are whole, and nothing is made for them.
  if (write.mask === null && keep === null) applyRun(image, write, 0, write.length);
  else eachRun(write, keep, (at, bytes) => applyRun(image, write, at, bytes));
}

function applyRun(image: SimImage, { data, offset, allocated }: SimWrite, at: number, lengthBytes: number): void {
  if (data === null) image.zero(offset + at, lengthBytes, allocated);
  else image.write(offset + at, lengthBytes, data, at);
}

/** Whether it touches this range. */
export function overlap(write: SimWrite, offset: number, length: number): boolean {
  return write.offset < offset + length && offset < write.offset + write.length;
}
