/**
 * The on-disk format, version 1: where everything lies, and how fields are laid out. `docs/disk-format.md` describes it byte by
 * byte.
 *
 * ```text
 *   │ superblock │ roots │ volume directory │ volumes │ directory index │ directory │ slot table │ block tables │
 *   │ journal │ data ... │ copy │
 * ```
 *
 * All numbers are little-endian. Pages of `PAGE_BYTES` from the volumes to the block tables exist in two *places*; whoever
 * refers to a page says in which place its current version is, and what its CRC32C is. So a page is never written over while it
 * is needed, and a page that is torn, stale or somebody else's is known for it. The tree hangs on the root, which also
 * exists twice, has its own checksum and is chosen by its sequence number.
 *
 * Offsets derive from the sizes of what comes before; a superblock whose offsets do not is refused. Devices that were formatted
 * before the feature `groups` keep the layout of then: no volume directory, and as many entries as slots.
 */

import { check } from '../../core/check.js';
import { StrakeError } from '../../core/errors.js';
import { BLOCK_BYTES, SECTOR_BYTES } from '../../core/limits.js';
import { alignUp, formatBytes } from '../../core/units.js';
import {
  ACTIVE_SLOTS_MAX,
  BATCH_PAGES_MAX,
  DIRECTORY_PAGES_MAX,
  JOURNAL_PAGES_MAX,
  JOURNAL_PAGES_MIN,
  SLOT_BYTES_MIN,
  SLOT_ENTRIES_EACH_MAX,
  SLOTS_MAX,
  VOLUME_PAGES_MAX,
  VOLUME_PAGES_MIN,
} from '../limits.js';

/** Format versions. 1: the first. */
export const FORMAT_VERSION = 1;
export const PAGE_BYTES = BLOCK_BYTES;

/** "STRAKE" and a line end, which shows when a transfer has changed line ends. */
export const SUPERBLOCK_MAGIC: readonly number[] = [0x53, 0x54, 0x52, 0x41, 0x4b, 0x45, 0x0d, 0x0a];
/** "SRT1", "SDX1", "SDR1", "SST1", "SVD1", "SVL2", "SJB1" as they lie on disk; "SVL1" is what "SVL2" was before `groups`. */
export const ROOT_MAGIC = 0x31_54_52_53;
export const DIRECTORY_INDEX_MAGIC = 0x31_58_44_53;
export const DIRECTORY_MAGIC = 0x31_52_44_53;
export const SLOTS_MAGIC = 0x31_54_53_53;
export const VOLUME_DIRECTORY_MAGIC = 0x31_44_56_53;
export const REPLICA_MAGIC = 0x32_4c_56_53;
export const VOLUME_MAGIC = 0x31_4c_56_53;
export const JOURNAL_MAGIC = 0x31_42_4a_53;

/** The root: fixed fields, then three lists. */
export const ROOT_BYTES = 16 << 10;
export const ROOT_HEADER_BYTES = 128;
/** Pages that the root has references for: of the volume directory, or of the volumes where there is none. */
export const ROOT_VOLUMES = 256;
/** One page of the volumes region for so many slots that the device could have. */
const SLOTS_PER_VOLUME_PAGE = 16;
/** An entry of the slot table for each so many bytes of a slot, but not more than `SLOT_ENTRIES_EACH_MAX` a slot. */
const SLOT_BYTES_PER_ENTRY = 256 << 10;
/** A reference to a page: checksum, and where it is. */
export const REFERENCE_BYTES = 8;
/** In the second word of a reference. */
export const REFERENCE_PRESENT = 1;
export const REFERENCE_PLACE = 2;

export const PAGE_HEADER_BYTES = 32;
export const DIRECTORY_ENTRIES = (PAGE_BYTES - PAGE_HEADER_BYTES) / REFERENCE_BYTES;
export const SLOT_ENTRY_BYTES = 128;
export const SLOT_ENTRIES = PAGE_BYTES / SLOT_ENTRY_BYTES - 1;
export const ENTRY_BYTES = 16;
export const TABLE_ENTRIES = PAGE_BYTES / ENTRY_BYTES;

export const SLOT_BYTES_MAX = TABLE_ENTRIES * BLOCK_BYTES;
export const SLOT_BYTES_DEFAULT = SLOT_BYTES_MAX;

/** Journal: bytes of a sector that are payload; the rest is its seal, a tag and a checksum. */
export const SEALED_BYTES = SECTOR_BYTES - 8;
export const BATCH_HEADER_BYTES = 72;

/** Kinds of checksum. */
export const CHECKSUM_CRC32C = 1;

/** States of a slot. */
export const SLOT_FREE = 0;
export const SLOT_USED = 1;
/** Reserved: what was freed while a member was away. */
export const SLOT_TOMBSTONE = 2;

/** States of a device in its superblock. */
export const DEVICE_CLEAN = 0;
export const DEVICE_OPEN = 1;

/** Where things lie; offsets and sizes in bytes. */
export interface Layout {
  readonly sizeBytes: number;
  readonly slotBytes: number;
  readonly slots: number;
  /** T, entries of the slot table. The first `slots` of them own the slots of their numbers, others never own one. */
  readonly entries: number;
  readonly rootOffset: number;
  readonly volumeDirectoryOffset: number;
  /** 0: the root refers to the pages of the volumes itself. */
  readonly volumeDirectoryPages: number;
  readonly volumesOffset: number;
  /** V, pages of the volumes region. */
  readonly volumePages: number;
  /** Levels of pages of references between the root and the pages of the directory: 0, or 1 where the index is. */
  readonly directoryLevels: number;
  readonly directoryIndexOffset: number;
  /** 0 without such a level: the root refers to the pages of the directory itself. */
  readonly directoryIndexPages: number;
  readonly directoryOffset: number;
  readonly directoryPages: number;
  readonly slotTableOffset: number;
  readonly slotPages: number;
  readonly blockTableOffset: number;
  readonly journalOffset: number;
  readonly journalPages: number;
  readonly dataOffset: number;
  /** The second superblock. */
  readonly copyOffset: number;
}

/** Pages of the journal for so many slots: twice what a flush of everything that may be unflushed needs. */
function journalPagesFor(slots: number, slotBytes: number): number {
  const active = Math.min(slots, ACTIVE_SLOTS_MAX);
  const recordBytes = active * (slotBytes / BLOCK_BYTES) * 24;
  const pages = Math.ceil((2 * recordBytes) / (SEALED_BYTES * 7)) + JOURNAL_PAGES_MIN;
  return Math.min(JOURNAL_PAGES_MAX, pages);
}

/** How much there is of what does not follow from the number of slots alone. */
interface Tables {
  readonly volumePages: number;
  readonly volumeDirectoryPages: number;
  /** Entries of the slot table for each slot. */
  readonly entriesEach: number;
  readonly directoryLevels: number;
}

/** Of devices that were formatted before the feature `groups`. */
const FIRST_TABLES: Tables = {
  volumePages: ROOT_VOLUMES,
  volumeDirectoryPages: 0,
  entriesEach: 1,
  directoryLevels: 0,
};
/** The most entries that a root leads to without an index of the directory. */
export const ROOT_ENTRIES = DIRECTORY_PAGES_MAX * DIRECTORY_ENTRIES * SLOT_ENTRIES;

function clamp(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}

function tablesFor(sizeBytes: number, slotBytes: number, directoryLevels: number): Tables {
  const wanted = Math.floor(sizeBytes / slotBytes / SLOTS_PER_VOLUME_PAGE);
  const volumePages = clamp(wanted, VOLUME_PAGES_MIN, VOLUME_PAGES_MAX);
  const volumeDirectoryPages = Math.ceil(volumePages / DIRECTORY_ENTRIES);
  const entriesEach = clamp(slotBytes / SLOT_BYTES_PER_ENTRY, 1, SLOT_ENTRIES_EACH_MAX);
  return { volumePages, volumeDirectoryPages, entriesEach, directoryLevels };
}

function layoutFor(sizeBytes: number, slotBytes: number, slots: number, tables: Tables): Layout {
  const { volumePages, volumeDirectoryPages, entriesEach, directoryLevels } = tables;
  const entries = slots * entriesEach;
  const slotPages = Math.ceil(entries / SLOT_ENTRIES);
  const directoryPages = Math.ceil(slotPages / DIRECTORY_ENTRIES);
  const directoryIndexPages = directoryLevels === 0 ? 0 : Math.ceil(directoryPages / DIRECTORY_ENTRIES);
  const journalPages = journalPagesFor(slots, slotBytes);
  const rootOffset = PAGE_BYTES;
  const volumeDirectoryOffset = rootOffset + 2 * ROOT_BYTES;
  const volumesOffset = volumeDirectoryOffset + 2 * volumeDirectoryPages * PAGE_BYTES;
  const directoryIndexOffset = volumesOffset + 2 * volumePages * PAGE_BYTES;
  const directoryOffset = directoryIndexOffset + 2 * directoryIndexPages * PAGE_BYTES;
  const slotTableOffset = directoryOffset + 2 * directoryPages * PAGE_BYTES;
  const blockTableOffset = slotTableOffset + 2 * slotPages * PAGE_BYTES;
  const journalOffset = blockTableOffset + 2 * entries * PAGE_BYTES;
  // Slots begin where a device's own units of erasure are likely to begin.
  const dataOffset = alignUp(journalOffset + journalPages * PAGE_BYTES, slotBytes);
  const copyOffset = sizeBytes - (sizeBytes % PAGE_BYTES) - PAGE_BYTES;
  return {
    sizeBytes,
    slotBytes,
    slots,
    entries,
    rootOffset,
    volumeDirectoryOffset,
    volumeDirectoryPages,
    volumesOffset,
    volumePages,
    directoryLevels,
    directoryIndexOffset,
    directoryIndexPages,
    directoryOffset,
    directoryPages,
    slotTableOffset,
    slotPages,
    blockTableOffset,
    journalOffset,
    journalPages,
    dataOffset,
    copyOffset,
  };
}

function fits(layout: Layout): boolean {
  return layout.dataOffset + layout.slots * layout.slotBytes <= layout.copyOffset;
}

/** The smallest device that holds one slot. */
export function deviceBytesMin(slotBytes: number): number {
  return bytesMin(slotBytes, tablesFor(0, slotBytes, 0));
}

function bytesMin(slotBytes: number, tables: Tables): number {
  const { dataOffset } = layoutFor(0, slotBytes, 1, tables);
  return dataOffset + slotBytes + PAGE_BYTES;
}

/**
 * The layout of a device of `sizeBytes` with slots of `slotBytes`, a power of two from 64 KiB to 1 MiB. `directoryLevels`: 0 or
 * 1, as its superblock has it; without it as few as the device needs, with which it is formatted. Throws
 * `ERR_STRAKE_INVALID_ARGUMENT` for other slots, `ERR_STRAKE_TOO_SMALL` and `ERR_STRAKE_TOO_LARGE` for other devices, the latter
 * for those too that have more entries than so many levels lead to.
 */
export function computeLayout(sizeBytes: number, slotBytes: number, directoryLevels?: number): Layout {
  checkSlotBytes(slotBytes);
  const layout = layoutWith(sizeBytes, slotBytes, tablesFor(sizeBytes, slotBytes, directoryLevels ?? 0));
  if (layout.directoryLevels > 0 || layout.entries <= ROOT_ENTRIES) return layout;
  if (directoryLevels === undefined) return layoutWith(sizeBytes, slotBytes, tablesFor(sizeBytes, slotBytes, 1));
  throw tooLarge(sizeBytes, `${ROOT_ENTRIES} entries that a directory without an index leads to`);
}

/** The same of a device that was formatted before the feature `groups`. */
export function computeFirstLayout(sizeBytes: number, slotBytes: number): Layout {
  checkSlotBytes(slotBytes);
  const layout = layoutWith(sizeBytes, slotBytes, FIRST_TABLES);
  if (layout.entries > ROOT_ENTRIES) throw tooLarge(sizeBytes, `${ROOT_ENTRIES} slots of a device from before groups`);
  return layout;
}

function tooLarge(sizeBytes: number, most: string): StrakeError {
  return new StrakeError('TOO_LARGE', `${formatBytes(sizeBytes)} are more than the ${most}`);
}

function checkSlotBytes(slotBytes: number): void {
  const power = slotBytes > 0 && (slotBytes & (slotBytes - 1)) === 0;
  if (power && slotBytes >= SLOT_BYTES_MIN && slotBytes <= SLOT_BYTES_MAX) return;
  const bounds = `a power of two from ${formatBytes(SLOT_BYTES_MIN)} to ${formatBytes(SLOT_BYTES_MAX)}`;
  throw new StrakeError('INVALID_ARGUMENT', `a slot of ${slotBytes} bytes: it has to be ${bounds}`);
}

function layoutWith(sizeBytes: number, slotBytes: number, tables: Tables): Layout {
  const smallest = bytesMin(slotBytes, tables);
  if (sizeBytes < smallest) {
    const need = `at least ${formatBytes(smallest)} are needed`;
    throw new StrakeError('TOO_SMALL', `${formatBytes(sizeBytes)} do not hold one slot: ${need}`);
  }
  if (sizeBytes / slotBytes > SLOTS_MAX) {
    throw tooLarge(sizeBytes, `${formatBytes(SLOTS_MAX * slotBytes)} of this slot size`);
  }
  // What the tables take depends on the number of slots, so that is found by halving.
  let low = 1;
  let high = Math.floor(sizeBytes / slotBytes);
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(layoutFor(sizeBytes, slotBytes, middle, tables))) low = middle;
    else high = middle - 1;
  }
  const layout = layoutFor(sizeBytes, slotBytes, low, tables);
  check(fits(layout), 'a layout does not fit its device', sizeBytes);
  check(layout.dataOffset % slotBytes === 0, 'slots do not begin at a multiple of their size', layout.dataOffset);
  check(layout.journalPages > 2 * BATCH_PAGES_MAX, 'a journal has no room for two batches', layout.journalPages);
  check(
    layout.directoryIndexPages <= DIRECTORY_PAGES_MAX,
    'a root has too few references for the index of a directory',
    layout.directoryIndexPages,
  );
  return layout;
}

/** Offset of a page in its region: each has two places, side by side. */
export function pageOffset(regionOffset: number, page: number, place: number): number {
  check(place === 0 || place === 1, 'a page is at neither of its two places', place);
  return regionOffset + (2 * page + place) * PAGE_BYTES;
}

/** Blocks of a slot. */
export function slotBlocks(layout: Layout): number {
  return layout.slotBytes / BLOCK_BYTES;
}
