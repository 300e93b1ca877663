/**
 * What a device holds as plain objects that JSON can carry, for people who look for what went wrong.
 *
 * It shows what is there, not what ought to be: what cannot be decoded is shown as a problem, and the rest is shown
 * still. Slots, volumes and tables are as recovery would see them, with the journal applied; `superblock` and `root`
 * show both copies as they lie. Nothing is written. A read that fails rejects with `ERR_STRAKE_IO`.
 */

import { StrakeError } from '../../core/errors.js';
import {
  ENTRY_CHECKSUM,
  ENTRY_FLAGS,
  ENTRY_STAMP_HIGH,
  ENTRY_STAMP_LOW,
  ENTRY_WORDS,
} from '../../layout/block-entry.js';
import { type Layout, PAGE_BYTES, pageOffset, ROOT_BYTES, SLOT_FREE, slotBlocks } from '../format/format.js';
import { type FoundBatch, JournalReader, readRecords } from '../format/journal-reader.js';
import { RECORD_FLAG_FIRST } from '../format/journal-records.js';
import type { Reference } from '../format/page.js';
import { decodeRoot } from '../format/root.js';
import { decodeSuperblock, hasGroups, type Superblock, SuperblockProblem } from '../format/superblock.js';
import { findSuperblock } from '../opening/find-superblock.js';
import { inDoubt, type StoreImage } from '../opening/image.js';
import type { ImageReader } from '../opening/image-reader.js';
import { loadImage } from '../opening/load-image.js';
import type { Problem } from '../opening/problems.js';
import { loadTable } from '../opening/table-image.js';
import { SLOT_FLAG_DOUBT, SLOT_FLAG_PLACE, SLOT_FLAG_TABLE } from '../running/slot-table.js';

/** What to show. */
export type DumpRequest =
  | { readonly what: 'superblock' | 'root' | 'volumes' | 'journal' }
  /** Slots from `from` on, `to` exclusive; default all. Free ones are left out. */
  | { readonly what: 'slots'; readonly from?: number; readonly to?: number }
  /** The block table of one slot. */
  | { readonly what: 'table'; readonly slot: number };

/** A value that JSON can carry. */
export type Plain = string | number | boolean | null | readonly Plain[] | { readonly [name: string]: Plain };
type PlainObject = { readonly [name: string]: Plain };

/** Whatever decoding throws, as text. */
function attempt(read: () => PlainObject): PlainObject {
  try {
    return read();
  } catch (error) {
    return { problem: (error as Error).message };
  }
}

/** An object of numbers, strings and others like it is plain already; this says so to the compiler. */
function plain(value: object): PlainObject {
  return { ...value } as unknown as PlainObject;
}

async function dumpSuperblocks(reader: ImageReader, layout: Layout | undefined): Promise<PlainObject> {
  const last = reader.sizeBytes - (reader.sizeBytes % PAGE_BYTES) - PAGE_BYTES;
  const copies: PlainObject[] = [];
  for (const offset of [0, layout?.copyOffset ?? last]) {
    if (offset + PAGE_BYTES > reader.sizeBytes) {
      copies.push({ offset, problem: 'the device ends before it' });
      continue;
    }
    const page = await reader.read(offset, PAGE_BYTES);
    const decoded = attempt(() => {
      const superblock = decodeSuperblock(page, reader.checksum);
      return { ...plain(superblock), layout: plain(superblock.layout) };
    });
    copies.push({ offset, ...decoded });
  }
  return { superblocks: copies };
}

/** The references that name a page, with its index and where it is. */
function dumpReferences(references: readonly Reference[], regionOffset: number): PlainObject[] {
  return references.flatMap(({ present, place, checksum }, index) =>
    present ? [{ index, place, offset: pageOffset(regionOffset, index, place), checksum }] : [],
  );
}

/** What the root refers to: the pages of the directory, or of its index. */
function dumpDirectoryReferences(layout: Layout, references: readonly Reference[]): PlainObject {
  if (layout.directoryLevels === 0) return { directory: dumpReferences(references, layout.directoryOffset) };
  return { directoryIndex: dumpReferences(references, layout.directoryIndexOffset) };
}

/** Likewise: the pages of the volumes, or of their directory. */
function dumpVolumeReferences(layout: Layout, references: readonly Reference[]): PlainObject {
  if (layout.volumeDirectoryPages === 0) return { volumes: dumpReferences(references, layout.volumesOffset) };
  return { volumeDirectory: dumpReferences(references, layout.volumeDirectoryOffset) };
}

async function dumpRoots(reader: ImageReader, { deviceId, layout }: Superblock): Promise<PlainObject> {
  const roots: PlainObject[] = [];
  for (const place of [0, 1]) {
    const offset = layout.rootOffset + place * ROOT_BYTES;
    if (offset + ROOT_BYTES > reader.sizeBytes) {
      roots.push({ place, offset, problem: 'the device ends before it' });
      continue;
    }
    const bytes = await reader.read(offset, ROOT_BYTES);
    const decoded = attempt(() => {
      const { directory, volumes, active, ...fields } = decodeRoot(bytes, deviceId, layout, reader.checksum);
      return {
        ...fields,
        ...dumpDirectoryReferences(layout, directory),
        ...dumpVolumeReferences(layout, volumes),
        active,
      };
    });
    roots.push({ place, offset, ...decoded });
  }
  return { roots };
}

/** The group that a slot's segment is in; null where that is not told. */
function groupOf({ owners, slots }: StoreImage, slot: number): number | null {
  const group = owners.list[slots.volumes[slot]]?.group ?? 0;
  return group === 0 ? null : group - 1;
}

function dumpSlot(image: StoreImage, slot: number): PlainObject {
  const { slots, superblock } = image;
  const { layout } = superblock;
  const flags = slots.flags[slot];
  const place = (flags & SLOT_FLAG_PLACE) !== 0 ? 1 : 0;
  const stored = (flags & SLOT_FLAG_TABLE) !== 0;
  return {
    slot,
    offset: layout.dataOffset + slot * layout.slotBytes,
    volume: image.owners.list[slots.volumes[slot]]?.volumeId ?? null,
    group: groupOf(image, slot),
    stripe: slots.stripes[slot],
    member: slots.members[slot],
    generation: slots.generations[slot],
    flushNumber: slots.flushNumbers[slot],
    active: image.active.has(slot),
    doubt: (flags & SLOT_FLAG_DOUBT) !== 0,
    table: stored
      ? { place, offset: pageOffset(layout.blockTableOffset, slot, place), checksum: slots.tableChecksums[slot] }
      : null,
  };
}

function dumpSlots(image: StoreImage, from: number, to: number): PlainObject {
  const { slots } = image;
  const list: PlainObject[] = [];
  for (let slot = from; slot < Math.min(to, slots.slots); slot += 1) {
    if (slots.states[slot] !== SLOT_FREE) list.push(dumpSlot(image, slot));
  }
  return { count: slots.slots, used: slots.usedSlots, slots: list };
}

async function dumpTable(
  reader: ImageReader,
  image: StoreImage,
  slot: number,
  problems: Problem[],
): Promise<PlainObject> {
  const { slots, superblock } = image;
  if (!Number.isInteger(slot) || slot < 0 || slot >= slots.slots) {
    throw new StrakeError('INVALID_ARGUMENT', `there is no slot ${slot}: slots are 0 to ${slots.slots - 1}`);
  }
  if (slots.states[slot] === SLOT_FREE) return { slot, free: true };
  const table = image.tables.get(slot) ?? (await loadTable(reader, image, slot, (problem) => problems.push(problem)));
  const blocks: PlainObject[] = [];
  for (let block = 0; block < slotBlocks(superblock.layout); block += 1) {
    const words = table.words.subarray(block * ENTRY_WORDS, (block + 1) * ENTRY_WORDS);
    if (words.every((word) => word === 0)) continue;
    blocks.push({
      block,
      flags: words[ENTRY_FLAGS],
      checksum: words[ENTRY_CHECKSUM],
      stampLow: words[ENTRY_STAMP_LOW],
      stampHigh: words[ENTRY_STAMP_HIGH],
      // The batch whose record made it valid for the first time; 0 if the journal has none.
      firstIn: table.firstIn[block],
    });
  }
  return { ...dumpSlot(image, slot), inDoubt: inDoubt(image, slot), damaged: table.damaged, blocks };
}

function dumpRecords(batch: FoundBatch, groups: boolean): PlainObject {
  const records: PlainObject[] = [];
  const count = readRecords(
    batch,
    {
      block: (slot, block, words, flags) =>
        records.push({ type: 'block', slot, block, first: (flags & RECORD_FLAG_FIRST) !== 0, words: [...words] }),
      allocate: (record) => records.push({ type: 'allocate', ...record }),
      free: (slot) => records.push({ type: 'free', slot }),
      intent: (slot) => records.push({ type: 'intent', slot }),
      stamp: (slot, generation, flushNumber) => records.push({ type: 'stamp', slot, generation, flushNumber }),
      flushed: (volume, mark) => records.push({ type: 'flushed', volume, ...mark }),
      settled: (page, settled) => records.push({ type: 'settled', page, ...settled }),
      zero: (slot, block, blocks, words) => records.push({ type: 'zero', slot, block, blocks, words: [...words] }),
      page: (index, offset, bytes) => records.push({ type: 'page', index, offset, bytes: bytes.length }),
    },
    groups,
  );
  return { list: records, readable: count === batch.records };
}

/** The batches that replaying meets, from where the root says, and how they end. */
async function dumpJournal(reader: ImageReader, image: StoreImage): Promise<PlainObject> {
  const { layout, deviceId, incompatible } = image.superblock;
  const groups = hasGroups(incompatible);
  const { journalPage, journalSequence } = image.root;
  const bytes = new Uint8Array(layout.journalPages * PAGE_BYTES);
  for (let at = 0; at < bytes.length; at += 1 << 20) {
    bytes.set(await reader.read(layout.journalOffset + at, Math.min(1 << 20, bytes.length - at)), at);
  }
  const batches: PlainObject[] = [];
  const journal = new JournalReader(bytes, layout, deviceId, reader.checksum);
  const note = (batch: FoundBatch) => {
    const { bytes: _, ...fields } = batch;
    const offset = layout.journalOffset + batch.page * PAGE_BYTES;
    batches.push({ ...fields, offset, contents: attempt(() => dumpRecords(batch, groups)) });
  };
  // A header that is sealed may still hold numbers that no version writes.
  const end = attempt(() => plain(journal.replay(journalPage, journalSequence, note)));
  return { page: journalPage, sequence: journalSequence, batches, end };
}

async function dumpImage(
  reader: ImageReader,
  image: StoreImage,
  request: DumpRequest,
  problems: Problem[],
): Promise<PlainObject> {
  switch (request.what) {
    case 'slots':
      return dumpSlots(image, request.from ?? 0, request.to ?? image.slots.slots);
    case 'table':
      return await dumpTable(reader, image, request.slot, problems);
    case 'journal':
      return await dumpJournal(reader, image);
    default:
      return {
        volumes: image.volumePages.flatMap((_, index) => dumpVolume(image, index)),
      };
  }
}

/** A page of the volumes region: a replica, or in the form of version 1 a whole volume. Nothing for one that is empty. */
function dumpVolume({ replicas, legacy, volumePages, superblock }: StoreImage, index: number): PlainObject[] {
  const { present, place } = volumePages[index];
  // One that only the journal has is nowhere yet.
  const offset = present ? pageOffset(superblock.layout.volumesOffset, index, place) : null;
  const page = { index, offset };
  const record = replicas[index];
  const old = legacy.get(index);
  if (record !== undefined) {
    const { volume, ...map } = record.map;
    return [{ ...page, form: 2, ...copyOf(volume), ...copyOf(map), own: copyOf(record.own) }];
  }
  return old === undefined ? [] : [{ ...page, form: 1, ...copyOf(old.map), own: { flushed: copyOf(old.flushed) } }];
}

function copyOf(value: object): PlainObject {
  return plain(JSON.parse(JSON.stringify(value)) as object);
}

/**
 * Shows a part of what a device holds. `problems` in the result are those that were met on the way to it. Rejects with
 * `ERR_STRAKE_IO`, and with `ERR_STRAKE_INVALID_ARGUMENT` for a slot that does not exist.
 */
export async function dumpDevice(reader: ImageReader, request: DumpRequest): Promise<PlainObject> {
  const problems: Problem[] = [];
  const found = await findSuperblock(reader, (problem) => problems.push(problem));
  const superblock = found instanceof SuperblockProblem ? undefined : found.superblock;
  const shown = () => ({ problems: problems.map(plain) });
  if (found instanceof SuperblockProblem) problems.push({ kind: 'superblock', text: found.message, harmless: false });
  if (request.what === 'superblock') return { ...(await dumpSuperblocks(reader, superblock?.layout)), ...shown() };
  if (superblock === undefined) return shown();
  if (request.what === 'root') return { ...(await dumpRoots(reader, superblock)), ...shown() };
  const image = await loadImage(reader, superblock, (problem) => problems.push(problem));
  if (image === undefined) return shown();
  const result = await dumpImage(reader, image, request, problems);
  return { ...result, ...shown() };
}
