/**
 * The journal: batches of records, written one after another around a ring of pages.
 *
 * ```text
 *   batch    1 to 16 pages, each of 8 sectors
 *   sector   504 bytes of payload │ tag: sequence of the batch, 24 bits; number of the sector in it, 8 bits │ CRC32C of the rest
 *   payload  of the first sector: header, records; of the others: records. No record crosses a sector; type 0 ends a sector.
 * ```
 *
 * Every sector that the journal ever wrote is sealed, and the device writes whole sectors. So a power cut in the middle of a
 * batch leaves sectors that are sealed, some by an older batch: a *torn* tail, which was never promised to anybody. A sector
 * that is not sealed can only have been changed afterwards: that is *damage*, and so is a batch that is missing although a
 * later one says that it was durable.
 *
 * When fewer than `BATCH_PAGES_MAX` pages are left before the end of the ring, the next batch begins at its start.
 */

import { check } from '../../core/check.js';
import { SECTOR_BYTES } from '../../core/limits.js';
import type { ChunkIndex } from '../../ports/ids.js';
import { BATCH_PAGES_MAX } from '../limits.js';
import { BATCH_HEADER_BYTES, type Layout, PAGE_BYTES, SEALED_BYTES } from './format.js';

/** The entry of one block. */
export const RECORD_BLOCK = 1;
/** A slot is given to a segment. */
export const RECORD_ALLOCATE = 2;
/** A slot is taken back. */
export const RECORD_FREE = 3;
/** A slot may be written to from now on: it enters the activity log. */
export const RECORD_INTENT = 4;
/** Generation and flush number of a segment's last modification. */
export const RECORD_STAMP = 5;
/** A part of one of the first 256 pages of volumes: only devices from before `RECORD_PAGE` have it. */
export const RECORD_VOLUME = 6;
/** This flush of a volume has begun; what it has to make durable stands before. */
export const RECORD_FLUSHED = 7;
/** A part of any page of the volumes region; in place of `RECORD_VOLUME`. */
export const RECORD_PAGE = 8;
/** What is settled of a volume. */
export const RECORD_SETTLED = 9;
/** Blocks become zero, with a stamp. */
export const RECORD_ZERO = 10;

/** The block had no content before: it is valid only if its content matches, until a flush has covered it. */
export const RECORD_FLAG_FIRST = 1;
/** With the former: the block was poison before, and stays so if its content does not match. */
export const RECORD_FLAG_POISON = 2;
/** With the first: the block was zero before, and becomes that zero again, with its stamp, if its content does not match. */
export const RECORD_FLAG_ZERO = 4;
/** All flags. */
export const RECORD_FLAGS = 7;

export const BLOCK_RECORD_BYTES = 24;
export const ALLOCATE_RECORD_BYTES = 56;
export const FREE_RECORD_BYTES = 8;
export const INTENT_RECORD_BYTES = 8;
export const STAMP_RECORD_BYTES = 24;
export const FLUSHED_RECORD_BYTES = 24;
export const SETTLED_RECORD_BYTES = 24;
export const ZERO_RECORD_BYTES = 24;
/** Bytes of a page of the volumes region in one record, so that a page takes ten of them. */
export const VOLUME_CHUNK_BYTES = 416;
export const VOLUME_RECORD_HEADER_BYTES = 8;
/** Bytes of a record by its type; of a part of a page its header. The entry at 0 is never used: that type ends a sector. */
export const RECORD_BYTES: readonly number[] = [
  0,
  BLOCK_RECORD_BYTES,
  ALLOCATE_RECORD_BYTES,
  FREE_RECORD_BYTES,
  INTENT_RECORD_BYTES,
  STAMP_RECORD_BYTES,
  VOLUME_RECORD_HEADER_BYTES,
  FLUSHED_RECORD_BYTES,
  VOLUME_RECORD_HEADER_BYTES,
  SETTLED_RECORD_BYTES,
  ZERO_RECORD_BYTES,
];

/** What the record of an allocation says. */
export interface AllocateRecord {
  readonly slot: number;
  /** 32 hexadecimal digits. */
  readonly volumeId: string;
  /** Place of the device in its group. */
  readonly member: number;
  readonly stripe: ChunkIndex;
  /** Epoch in which the segment is written, from 1 on; 0 counts as 1. */
  readonly epoch: number;
  /** Number of the placement group, plus 1; 0 where the device has only one of the volume. */
  readonly group: number;
}

/** Sectors of a page. */
export const PAGE_SECTORS = PAGE_BYTES / SECTOR_BYTES;
/** The fewest records of blocks that a page holds. */
export const PAGE_BLOCK_RECORDS = Math.floor((SEALED_BYTES - BATCH_HEADER_BYTES) / BLOCK_RECORD_BYTES) + 7 * 21;

/** The tag of a sector: by it a sector is known for a part of its batch. */
export function tagOf(sequence: number, sector: number): number {
  check(sector < 256, 'a sector has no room in its tag', sector);
  return ((sequence % 2 ** 24) * 256 + sector) >>> 0;
}

/** The page at which the batch after one of `pages` pages at `page` begins. */
export function nextBatchPage(layout: Layout, page: number, pages: number): number {
  const next = page + pages;
  check(next <= layout.journalPages, 'a batch ends beyond the journal', next);
  return next + BATCH_PAGES_MAX > layout.journalPages ? 0 : next;
}
