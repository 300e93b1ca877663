/**
 * A block's entry: what a member knows of the block's content, and how two copies of a block compare. Pure functions over entries
 * as members hand them out.
 */

import type { BlockCount, BlockIndex } from '../ports/ids.js';
import { REQUEST_KEEP } from '../ports/segment-request.js';
import { compareStamps, type Stamp } from './write-stamp.js';

/** Words of an entry. Two copies of a block are equal when checksum and stamp are. */
export const ENTRY_WORDS = 4;
/** What is in which of them. */
export const ENTRY_CHECKSUM = 0;
export const ENTRY_FLAGS = 1;
export const ENTRY_STAMP_LOW = 2;
export const ENTRY_STAMP_HIGH = 3;
/** Flags of an entry; an entry without flags is of a block that was never written, and reads as zeroes. */
export const BLOCK_VALID = 1;
/** It is known to be all zeroes, and no bytes are stored. */
export const BLOCK_ZERO = 2;
/** It was lost: reading it is an error. */
export const BLOCK_POISON = 4;
/** Its content may be any of several versions; it has to be reconciled before it is read. */
export const BLOCK_SUSPECT = 8;

/** In place of a checksum, of a block that is zero: its space was asked to be kept, so that its slot is not given back. */
export const ZERO_KEPT = 1;

/** CRC32C of a block of zeroes. */
export const ZERO_BLOCK_CHECKSUM = 0x98f94189;

/** Whether the block whose entry begins at a word needs no slot: it was never written, or is zero and not kept. */
export function isVacant(words: Uint32Array, word: number): boolean {
  const flags = words[word + ENTRY_FLAGS];
  const zero = flags === 0 || ((flags & BLOCK_ZERO) !== 0 && (flags & (BLOCK_POISON | BLOCK_SUSPECT)) === 0);
  return zero && words[word + ENTRY_CHECKSUM] !== ZERO_KEPT;
}

/** Entries of a segment that a member does not have. */
export function noEntries(blocks: BlockCount): Uint32Array {
  return new Uint32Array(blocks * ENTRY_WORDS);
}

function flagsOf(entries: Uint32Array, block: BlockIndex): number {
  return entries[block * ENTRY_WORDS + ENTRY_FLAGS];
}

export function stampOf(entries: Uint32Array, block: BlockIndex): Stamp {
  const at = block * ENTRY_WORDS;
  return { low: entries[at + ENTRY_STAMP_LOW], high: entries[at + ENTRY_STAMP_HIGH] };
}

export function isSuspect(entries: Uint32Array, block: BlockIndex): boolean {
  return (flagsOf(entries, block) & BLOCK_SUSPECT) !== 0;
}

export function isPoison(entries: Uint32Array, block: BlockIndex): boolean {
  return (flagsOf(entries, block) & BLOCK_POISON) !== 0;
}

/** Whether bytes are stored for it. */
export function isStored(entries: Uint32Array, block: BlockIndex): boolean {
  return (flagsOf(entries, block) & (BLOCK_VALID | BLOCK_ZERO | BLOCK_POISON)) === BLOCK_VALID;
}

/** Whether it reads as zeroes: known to be zero, or never written. */
export function isZero(entries: Uint32Array, block: BlockIndex): boolean {
  const flags = flagsOf(entries, block) & ~BLOCK_SUSPECT;
  return flags === 0 || ((flags & BLOCK_ZERO) !== 0 && (flags & BLOCK_POISON) === 0);
}

/**
 * Whether two copies are known to be the same. A block that was never written equals one that was zeroed at the same stamp;
 * nothing equals a copy in doubt.
 */
export function sameBlock(one: Uint32Array, other: Uint32Array, block: BlockIndex): boolean {
  if (isSuspect(one, block) || isSuspect(other, block)) return false;
  if (compareStamps(stampOf(one, block), stampOf(other, block)) !== 0) return false;
  if (isPoison(one, block) || isPoison(other, block)) return isPoison(one, block) === isPoison(other, block);
  if (isZero(one, block) || isZero(other, block)) return isZero(one, block) === isZero(other, block);
  const at = block * ENTRY_WORDS + ENTRY_CHECKSUM;
  return one[at] === other[at];
}

/** Whether all blocks read as zeroes, beyond doubt. */
export function allZero(entries: Uint32Array): boolean {
  for (let block = 0; block < entries.length / ENTRY_WORDS; block += 1) {
    if (!isZero(entries, block) || isSuspect(entries, block)) return false;
  }
  return true;
}

/** Whether no block needs the segment's slot. */
export function allVacant(entries: Uint32Array): boolean {
  for (let word = 0; word < entries.length; word += ENTRY_WORDS) if (!isVacant(entries, word)) return false;
  return true;
}

/** The flags with which a zero is copied: its space is kept where it was asked to be. */
export function zeroFlags(entries: Uint32Array, block: BlockIndex): number {
  const kept =
    (flagsOf(entries, block) & BLOCK_ZERO) !== 0 && entries[block * ENTRY_WORDS + ENTRY_CHECKSUM] === ZERO_KEPT;
  return kept ? REQUEST_KEEP : 0;
}

/** Whether one operation can bring both blocks to what these entries say: both stored, or zero alike. Poison is put singly. */
export function alike(entries: Uint32Array, one: number, other: number): boolean {
  if (isPoison(entries, one) || isPoison(entries, other)) return false;
  if (isStored(entries, one) !== isStored(entries, other)) return false;
  // What is stored keeps the stamp of each block; zeroes take one for all.
  if (isStored(entries, one)) return true;
  if (zeroFlags(entries, one) !== zeroFlags(entries, other)) return false;
  return compareStamps(stampOf(entries, one), stampOf(entries, other)) === 0;
}
