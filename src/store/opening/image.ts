/**
 * Reading a device's structures into memory: superblock, root, tree, journal. Opening, `fsck` and `dump` all read through this.
 *
 * Nothing is written here. What is found to be wrong is reported to `problem`; a strict caller throws there, and one that
 * looks for damage goes on as far as there is something to go on with.
 */

import { StrakeError } from '../../core/errors.js';
import { BLOCK_POISON, ENTRY_FLAGS, ENTRY_WORDS } from '../../layout/block-entry.js';
import { type FlushId, NO_FLUSH } from '../../layout/flush-id.js';
import type { VolumeMap } from '../../layout/volume-map.js';
import {
  DIRECTORY_ENTRIES,
  type Layout,
  PAGE_BYTES,
  pageOffset,
  ROOT_BYTES,
  SLOT_FREE,
  slotBlocks,
  TABLE_ENTRIES,
  VOLUMES_MAX,
} from '../format/format.js';
import { type FoundBatch, type JournalEnd, JournalReader, readRecords } from '../format/journal-reader.js';
import { RECORD_FLAG_FIRST, RECORD_FLAG_POISON } from '../format/journal-records.js';
import {
  absent,
  decodeDirectory,
  decodeFlushed,
  decodeRoot,
  decodeSlots,
  decodeVolume,
  PageProblem,
  type Reference,
  type Root,
} from '../format/pages.js';
import { type Checksum, decodeSuperblock, type Superblock, SuperblockProblem } from '../format/superblock.js';
import { SLOT_FLAG_DOUBT, SLOT_FLAG_PLACE, SLOT_FLAG_TABLE, SlotTable } from '../running/slot-table.js';
import type { OnProblem, Problem, ProblemKind } from './problems.js';
import { BLOCK_FIRST_NONE, type TableImage } from './table-image.js';

/** Bytes of the journal that are read at a time. */
const JOURNAL_PIECE_BYTES = 1 << 20;

/** A device to read from. */
export interface ImageReader {
  readonly sizeBytes: number;
  /** Bytes that are valid until the next read. Offset and length are multiples of 4 KiB, the length at most 1 MiB. */
  read(offset: number, length: number): Promise<Uint8Array>;
  readonly checksum: Checksum;
  /** It will never answer again. */
  readonly lost?: boolean;
}

/** Both superblocks, and which one counts. */
export interface FoundSuperblock {
  readonly superblock: Superblock;
  /** Which of the copies are as they should be, and the newest. */
  readonly first: boolean;
  readonly second: boolean;
}

/** What a device holds. */
export interface StoreImage {
  readonly superblock: Superblock;
  readonly root: Root;
  /** Place of the root that was chosen. */
  readonly rootPlace: number;
  /** Places whose root cannot be believed, or read, this time. */
  readonly rootsLost: readonly number[];
  readonly slots: SlotTable;
  readonly directory: Reference[];
  readonly slotPages: Reference[];
  /** By index; undefined where there is none. */
  readonly volumes: (VolumeMap | undefined)[];
  readonly volumeIds: string[];
  /** By index of the volume: the last flush of it that is in the journal or the tree. */
  readonly flushed: FlushId[];
  /** Block tables that the journal has changed, by slot. */
  readonly tables: Map<number, TableImage>;
  /** The activity log as it was at the end. */
  readonly active: Set<number>;
  /** Slots, pages of slots and volumes that differ from what the tree on the device says. */
  readonly changedSlots: Set<number>;
  readonly changedVolumes: Set<number>;
  readonly journal: JournalEnd;
  /** Batches that were replayed, and their records. */
  readonly batches: number;
  readonly records: number;
  /** The highest durable sequence that any batch knew of. */
  readonly durableSequence: number;
  /** Whether the device was closed in order, so that the journal is not needed. */
  readonly clean: boolean;
}

async function tryDecode(reader: ImageReader, offset: number): Promise<Superblock | SuperblockProblem> {
  try {
    return decodeSuperblock(await reader.read(offset, PAGE_BYTES), reader.checksum);
  } catch (error) {
    if (error instanceof SuperblockProblem) return error;
    if (isReadError(error, reader)) return new SuperblockProblem(error.message, false, error);
    throw error;
  }
}

/**
 * Whether a part of a device cannot be read, which matters as little as damage there where it exists twice or is not needed. A
 * device that is gone as a whole is another thing, and nothing may be read to the same memory again.
 */
function isReadError(error: unknown, reader: ImageReader): error is StrakeError {
  return error instanceof StrakeError && error.code === 'ERR_STRAKE_IO' && reader.lost !== true;
}

/**
 * Finds the superblock. A device that has grown still has the copy where its old size put it; one that has become shorter
 * has only the first. Returns a `SuperblockProblem` if there is none that can be used; throws what reading has thrown if that is
 * why.
 */
export async function findSuperblock(
  reader: ImageReader,
  problem: OnProblem,
): Promise<FoundSuperblock | SuperblockProblem> {
  const first = await tryDecode(reader, 0);
  const lastPage = reader.sizeBytes - (reader.sizeBytes % PAGE_BYTES) - PAGE_BYTES;
  const usable = !(first instanceof SuperblockProblem);
  if (!usable && first.foreign) return first;
  const copyOffset = usable ? first.layout.copyOffset : lastPage;
  const second =
    copyOffset + PAGE_BYTES <= reader.sizeBytes
      ? await tryDecode(reader, copyOffset)
      : new SuperblockProblem('the device ends before it', false);
  if (second instanceof SuperblockProblem) {
    // Without either, nobody knows whether there is one.
    if (!usable && (first.cause ?? second.cause) !== undefined) throw first.cause ?? second.cause;
    if (!usable) return first;
    problem({
      kind: 'superblock',
      text: `the second superblock: ${second.message}`,
      offset: copyOffset,
      harmless: true,
    });
    return { superblock: first, first: true, second: false };
  }
  if (!usable) {
    problem({ kind: 'superblock', text: `the first superblock: ${first.message}`, offset: 0, harmless: true });
    return { superblock: second, first: false, second: true };
  }
  if (first.deviceId !== second.deviceId) {
    const text = `the superblocks name different devices, ${first.deviceId} and ${second.deviceId}`;
    problem({ kind: 'superblock', text, offset: copyOffset, harmless: true });
    return { superblock: first, first: true, second: false };
  }
  const newest = second.sequence > first.sequence ? second : first;
  return { superblock: newest, first: first.sequence === newest.sequence, second: second.sequence === newest.sequence };
}

/** Reads everything that a device says of itself. `problem` is told of damage; what it lets pass is left out. */
export async function loadImage(
  reader: ImageReader,
  superblock: Superblock,
  problem: OnProblem,
): Promise<StoreImage | undefined> {
  const { layout } = superblock;
  if (reader.sizeBytes < layout.sizeBytes) {
    const text = `the device has ${reader.sizeBytes} bytes, and was formatted with ${layout.sizeBytes}`;
    problem({ kind: 'size', text, harmless: false });
    // What describes the data lies before it, and may be there whole.
    if (reader.sizeBytes < layout.dataOffset) return undefined;
  }
  const found = await findRoot(reader, superblock, problem);
  if (found === undefined) return undefined;
  return await new ImageLoader(reader, superblock, found, problem).load();
}

/** The root that counts, where it is, and the places of those that were not believed. */
interface FoundRoot {
  readonly root: Root;
  readonly place: number;
  readonly lost: readonly number[];
}

async function findRoot(
  reader: ImageReader,
  superblock: Superblock,
  problem: OnProblem,
): Promise<FoundRoot | undefined> {
  const { layout, deviceId } = superblock;
  let best: { root: Root; place: number } | undefined;
  const sequences: number[] = [];
  const failures: Problem[] = [];
  const lost: number[] = [];
  let unread: StrakeError | undefined;
  for (const place of [0, 1]) {
    const offset = layout.rootOffset + place * ROOT_BYTES;
    try {
      const bytes = await reader.read(offset, ROOT_BYTES);
      // The second place is empty until the first checkpoint.
      if (bytes.every((byte) => byte === 0)) continue;
      const root = decodeRoot(bytes, deviceId, layout, reader.checksum);
      sequences.push(root.sequence);
      if (best === undefined || root.sequence > best.root.sequence) best = { root, place };
    } catch (error) {
      if (error instanceof StrakeError && !isReadError(error, reader)) throw error;
      if (error instanceof StrakeError) unread = error;
      lost.push(place);
      failures.push({ kind: 'root', text: `root ${place}: ${(error as Error).message}`, offset, harmless: true });
    }
  }
  if (best === undefined && unread !== undefined) throw unread;
  if (sequences.length === 2 && Math.abs(sequences[0] - sequences[1]) !== 1) {
    // They are written in turns, so one of them was lost. What it had, the journal may have: it tells.
    const text = `the roots have the numbers ${sequences.join(' and ')}, which do not follow each other`;
    problem({ kind: 'root', text, offset: layout.rootOffset, harmless: true });
  }
  // One that is not whole may be the last thing that a crash interrupted. Whether the other is the newest, the journal tells.
  for (const failure of failures) problem(best === undefined ? { ...failure, harmless: false } : failure);
  if (best === undefined && failures.length === 0) problem({ kind: 'root', text: 'there is no root', harmless: false });
  return best === undefined ? undefined : { ...best, lost };
}

class ImageLoader {
  private readonly reader: ImageReader;
  private readonly superblock: Superblock;
  private readonly layout: Layout;
  private readonly problem: OnProblem;
  private readonly image: {
    -readonly [Key in keyof StoreImage]: StoreImage[Key];
  };
  /** Parts of volume pages that the journal holds. */
  private readonly volumePages = new Map<number, Uint8Array>();
  private lastVolume = -1;
  /** Why a page of the journal could not be read. */
  private unread: StrakeError | undefined;
  private readonly idWords = new Uint32Array(VOLUMES_MAX * 4);

  constructor(reader: ImageReader, superblock: Superblock, found: FoundRoot, problem: OnProblem) {
    const { root, place: rootPlace, lost } = found;
    this.reader = reader;
    this.superblock = superblock;
    this.layout = superblock.layout;
    this.problem = problem;
    this.image = {
      superblock,
      root,
      rootPlace,
      rootsLost: lost,
      slots: new SlotTable(this.layout.slots),
      directory: root.directory,
      slotPages: [],
      volumes: new Array<VolumeMap | undefined>(VOLUMES_MAX).fill(undefined),
      volumeIds: new Array<string>(VOLUMES_MAX).fill(''),
      flushed: new Array<FlushId>(VOLUMES_MAX).fill(NO_FLUSH),
      tables: new Map(),
      active: new Set(root.active),
      changedSlots: new Set(),
      changedVolumes: new Set(),
      journal: { page: root.journalPage, sequenceMax: 0, torn: false, damage: '', strayDamage: 0, damagedPages: [] },
      batches: 0,
      records: 0,
      durableSequence: root.durableSequence,
      clean: false,
    };
  }

  async load(): Promise<StoreImage> {
    await this.loadVolumes();
    await this.loadSlots();
    await this.loadJournal();
    return this.image;
  }

  /** Reads the page that a reference names, and checks it. Returns undefined, and tells why, if it is not what it must be. */
  private async page(
    reference: Reference,
    region: number,
    index: number,
    kind: ProblemKind,
  ): Promise<Uint8Array | undefined> {
    const offset = pageOffset(region, index, reference.place);
    const bytes = await this.reader.read(offset, PAGE_BYTES);
    if (this.reader.checksum(bytes) === reference.checksum) return bytes;
    this.problem({ kind, text: `page ${index} of the ${kind} table is damaged`, offset, harmless: false });
    return undefined;
  }

  private decode<T>(kind: ProblemKind, index: number, offset: number, read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof PageProblem || error instanceof RangeError)) throw error;
      this.problem({ kind, text: `page ${index} of the ${kind} table: ${error.message}`, offset, harmless: false });
      return undefined;
    }
  }

  private async loadVolumes(): Promise<void> {
    const { root } = this.image;
    for (let index = 0; index < VOLUMES_MAX; index += 1) {
      const reference = root.volumes[index];
      if (!reference.present) continue;
      const page = await this.page(reference, this.layout.volumesOffset, index, 'volume');
      if (page !== undefined) this.setVolume(index, page);
    }
  }

  private setVolume(index: number, page: Uint8Array): void {
    const { deviceId } = this.superblock;
    const offset = pageOffset(this.layout.volumesOffset, index, 0);
    const found = this.decode('volume', index, offset, () => ({
      volume: decodeVolume(page, index, deviceId),
      flushed: decodeFlushed(page),
    }));
    if (found === undefined) return;
    const { volume, flushed } = found;
    this.image.volumes[index] = volume;
    this.image.flushed[index] = flushed;
    this.image.volumeIds[index] = volume.id;
    const id = new DataView(page.buffer, page.byteOffset + 32, 16);
    for (let word = 0; word < 4; word += 1) this.idWords[4 * index + word] = id.getUint32(4 * word, true);
  }

  /** The last one counts: where two histories of a volume have met, it may be lower than earlier ones. */
  private applyFlushed(batch: FoundBatch, index: number, mark: FlushId): void {
    this.takeVolumes();
    if (index >= VOLUMES_MAX || this.image.volumes[index] === undefined) {
      this.wrong(batch, `a record names volume ${index}, which does not exist`);
      return;
    }
    this.image.flushed[index] = mark;
    this.image.changedVolumes.add(index);
  }

  /** Index of the volume whose id is at `at`, or -1. Neighbouring slots mostly belong to the same one. */
  private volumeIndex(words: Uint32Array, word: number): number {
    if (this.lastVolume >= 0 && this.isVolume(this.lastVolume, words, word)) return this.lastVolume;
    this.lastVolume = -1;
    for (let index = 0; index < VOLUMES_MAX; index += 1) {
      if (this.image.volumeIds[index] !== '' && this.isVolume(index, words, word)) this.lastVolume = index;
    }
    return this.lastVolume;
  }

  private isVolume(index: number, words: Uint32Array, word: number): boolean {
    for (let at = 0; at < 4; at += 1) if (words[word + at] !== this.idWords[4 * index + at]) return false;
    return true;
  }

  private async loadSlots(): Promise<void> {
    const { image, layout } = this;
    for (let index = 0; index < layout.directoryPages; index += 1) {
      const reference = image.directory[index];
      let pages: Reference[] | undefined;
      if (reference.present) {
        const offset = pageOffset(layout.directoryOffset, index, reference.place);
        const page = await this.page(reference, layout.directoryOffset, index, 'directory');
        if (page !== undefined) {
          pages = this.decode('directory', index, offset, () => decodeDirectory(page, index, this.superblock.deviceId));
        }
      }
      pages ??= Array.from({ length: DIRECTORY_ENTRIES }, absent);
      const count = Math.min(DIRECTORY_ENTRIES, layout.slotPages - index * DIRECTORY_ENTRIES);
      for (let at = 0; at < count; at += 1) image.slotPages.push(pages[at]);
    }
    await this.loadSlotPages();
    this.checkSlots();
  }

  /** What the root says of the slots has to fit what their table says. */
  private checkSlots(): void {
    const { image } = this;
    const { usedSlots, active } = image.root;
    if (image.slots.usedSlots !== usedSlots) {
      const text = `the root counts ${usedSlots} used slots, the slot table has ${image.slots.usedSlots}`;
      this.problem({ kind: 'slots', text, harmless: false });
    }
    const free = active.filter((slot) => image.slots.states[slot] === SLOT_FREE).length;
    const twice = active.length - image.active.size;
    if (free === 0 && twice === 0) return;
    // It only makes recovery look at more than it has to.
    const text = `the activity log names ${free} slots that are free, and ${twice} slots twice`;
    this.problem({ kind: 'active', text, harmless: true });
  }

  /** Both places of many pages are read at once: large reads cost little more than small ones. */
  private async loadSlotPages(): Promise<void> {
    const { image, layout } = this;
    const together = (1 << 20) / (2 * PAGE_BYTES);
    for (let first = 0; first < layout.slotPages; first += together) {
      const count = Math.min(together, layout.slotPages - first);
      const wanted = image.slotPages.slice(first, first + count);
      if (!wanted.some(({ present }) => present)) continue;
      const offset = pageOffset(layout.slotTableOffset, first, 0);
      const bytes = await this.reader.read(offset, 2 * count * PAGE_BYTES);
      wanted.forEach((reference, at) => {
        if (!reference.present) return;
        const start = (2 * at + reference.place) * PAGE_BYTES;
        this.readSlots(first + at, bytes.subarray(start, start + PAGE_BYTES), reference, offset + start);
      });
    }
  }

  private readSlots(index: number, page: Uint8Array, reference: Reference, offset: number): void {
    if (this.reader.checksum(page) !== reference.checksum) {
      this.problem({ kind: 'slots', text: `page ${index} of the slot table is damaged`, offset, harmless: false });
      return;
    }
    this.decode('slots', index, offset, () => {
      const find = (words: Uint32Array, word: number) => this.volumeIndex(words, word);
      decodeSlots(page, index, this.superblock.deviceId, this.image.slots, find);
    });
  }

  private async loadJournal(): Promise<void> {
    const { layout, image } = this;
    const bytes = new Uint8Array(layout.journalPages * PAGE_BYTES);
    for (let at = 0; at < bytes.length; at += JOURNAL_PIECE_BYTES) {
      await this.readJournal(bytes.subarray(at, at + JOURNAL_PIECE_BYTES), layout.journalOffset + at);
    }
    const { deviceId } = this.superblock;
    const reader = new JournalReader(bytes, layout, deviceId, this.reader.checksum);
    const { root } = image;
    const batches: FoundBatch[] = [];
    const { journalPage: page, journalSequence: sequence } = root;
    const offset = layout.journalOffset + page * PAGE_BYTES;
    const end = this.decode('journal', page, offset, () =>
      reader.replay(page, sequence, (batch) => batches.push(batch)),
    );
    if (end !== undefined) image.journal = end;
    image.clean = this.superblock.state === 0 && batches.length === 0;
    // Nobody knows whether it is damaged.
    if (this.unread !== undefined && image.journal.damage !== '' && !this.isUnneeded) throw this.unread;
    this.reportJournal();
    for (const batch of batches) {
      image.durableSequence = Math.max(image.durableSequence, batch.durableSequence);
    }
    for (const batch of batches) await this.tryApply(batch);
    image.batches = batches.length;
    for (const slot of image.active) if (image.slots.states[slot] === SLOT_FREE) image.active.delete(slot);
  }

  /** Reads a part of the journal. A page that cannot be read is filled with what no batch holds. */
  private async readJournal(into: Uint8Array, offset: number): Promise<void> {
    try {
      into.set(await this.reader.read(offset, into.length));
    } catch (error) {
      if (!isReadError(error, this.reader)) throw error;
      if (into.length === PAGE_BYTES) {
        this.unread ??= error;
        into.fill(0xff);
        return;
      }
      for (let at = 0; at < into.length; at += PAGE_BYTES) {
        await this.readJournal(into.subarray(at, at + PAGE_BYTES), offset + at);
      }
    }
  }

  /** After an orderly end nothing of the journal is needed, unless the root that says so may be the one that is lost. */
  private get isUnneeded(): boolean {
    return this.image.clean && this.image.rootsLost.length === 0;
  }

  private reportJournal(): void {
    const { journal } = this.image;
    const offset = this.layout.journalOffset + journal.page * PAGE_BYTES;
    if (journal.damage !== '') {
      this.problem({
        kind: 'journal',
        text: `the journal is damaged: ${journal.damage}`,
        offset,
        harmless: this.isUnneeded,
      });
    } else if (journal.strayDamage > 0) {
      const text = `${journal.strayDamage} sectors of the journal that are not needed any more are damaged`;
      this.problem({ kind: 'journal-stray', text, harmless: true });
    }
  }

  /** A sealed record may still hold numbers that no version writes. */
  private async tryApply(batch: FoundBatch): Promise<void> {
    try {
      await this.apply(batch);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.wrong(batch, error.message);
    }
  }

  private async apply(batch: FoundBatch): Promise<void> {
    // Tables that records change are fetched first, as the records themselves are applied without waiting.
    const needed = new Set<number>();
    const ignore = () => {};
    const fresh = new Set<number>();
    const count = readRecords(batch, {
      block: (slot) => {
        if (!fresh.has(slot)) needed.add(slot);
      },
      allocate: (slot) => fresh.add(slot),
      free: ignore,
      intent: ignore,
      stamp: ignore,
      volume: ignore,
      flushed: ignore,
    });
    if (count !== batch.records) {
      const text = `batch ${batch.sequence} has ${batch.records} records, of which ${count} can be read`;
      this.problem({
        kind: 'record',
        text,
        offset: this.layout.journalOffset + batch.page * PAGE_BYTES,
        harmless: false,
      });
      return;
    }
    this.image.records += count;
    for (const slot of needed)
      if (slot < this.layout.slots && !this.image.tables.has(slot)) await this.fetchTable(slot);
    readRecords(batch, {
      block: (slot, block, words, flags) => this.applyBlock(batch, slot, block, words, flags),
      allocate: (slot, volumeId, member, stripe) => this.applyAllocate(batch, slot, volumeId, member, stripe),
      free: (slot) => this.applyFree(batch, slot),
      intent: (slot) => {
        if (this.usable(batch, slot)) this.image.active.add(slot);
      },
      stamp: (slot, generation, flushNumber) => {
        if (!this.usable(batch, slot)) return;
        this.image.slots.generations[slot] = generation;
        this.image.slots.flushNumbers[slot] = flushNumber;
        this.image.changedSlots.add(slot);
      },
      volume: (index, offset, bytes) => this.applyVolume(index, offset, bytes),
      flushed: (index, mark) => this.applyFlushed(batch, index, mark),
    });
    this.takeVolumes();
  }

  /** A volume's page is journaled whole, in one batch. */
  private takeVolumes(): void {
    for (const [index, page] of this.volumePages) this.setVolume(index, page);
    this.volumePages.clear();
  }

  private async fetchTable(slot: number): Promise<void> {
    this.image.tables.set(slot, await loadTable(this.reader, this.image, slot, this.problem));
  }

  private wrong(batch: FoundBatch, text: string): void {
    const offset = this.layout.journalOffset + batch.page * PAGE_BYTES;
    this.problem({ kind: 'record', text: `batch ${batch.sequence}: ${text}`, offset, harmless: false });
  }

  private usable(batch: FoundBatch, slot: number): boolean {
    if (slot < this.layout.slots && this.image.slots.states[slot] !== SLOT_FREE) return true;
    this.wrong(batch, `a record names slot ${slot}, which is free or does not exist`);
    return false;
  }

  private applyBlock(batch: FoundBatch, slot: number, block: number, words: Uint32Array, flags: number): void {
    if (!this.usable(batch, slot)) return;
    const table = this.image.tables.get(slot);
    if (table === undefined || block >= slotBlocks(this.layout)) {
      this.wrong(batch, `a record names block ${block} of slot ${slot}, which does not exist`);
      return;
    }
    table.words.set(words, block * ENTRY_WORDS);
    const sequence = (flags & RECORD_FLAG_POISON) !== 0 ? -batch.sequence : batch.sequence;
    table.firstIn[block] = (flags & RECORD_FLAG_FIRST) !== 0 ? sequence : BLOCK_FIRST_NONE;
    this.image.changedSlots.add(slot);
  }

  private applyAllocate(batch: FoundBatch, slot: number, volumeId: string, member: number, stripe: number): void {
    this.takeVolumes();
    const { image } = this;
    const volume = image.volumeIds.indexOf(volumeId);
    const taken = slot >= this.layout.slots || image.slots.states[slot] !== SLOT_FREE;
    if (taken || volume < 0 || image.slots.find(volume, stripe) >= 0) {
      this.wrong(batch, `segment ${stripe} of volume ${volumeId} cannot have been given slot ${slot}`);
      return;
    }
    image.slots.assign(slot, volume, stripe, member);
    image.tables.set(slot, emptyTable());
    image.changedSlots.add(slot);
    // A slot is given away with the intent to write to it.
    image.active.add(slot);
  }

  private applyFree(batch: FoundBatch, slot: number): void {
    if (!this.usable(batch, slot)) return;
    this.image.slots.free(slot);
    this.image.tables.delete(slot);
    this.image.active.delete(slot);
    this.image.changedSlots.add(slot);
  }

  private applyVolume(index: number, offset: number, bytes: Uint8Array): void {
    let page = this.volumePages.get(index);
    if (page === undefined) {
      page = new Uint8Array(PAGE_BYTES);
      this.volumePages.set(index, page);
    }
    if (offset + bytes.length <= PAGE_BYTES) page.set(bytes, offset);
    this.image.changedVolumes.add(index);
  }
}

export function emptyTable(): TableImage {
  return {
    words: new Uint32Array(TABLE_ENTRIES * ENTRY_WORDS),
    firstIn: new Float64Array(TABLE_ENTRIES),
    damaged: false,
  };
}

/** A slot's block table as the tree on the device has it. One that is damaged makes all its blocks unreadable. */
export async function loadTable(
  reader: ImageReader,
  { slots, superblock }: Pick<StoreImage, 'slots' | 'superblock'>,
  slot: number,
  problem: OnProblem,
): Promise<TableImage> {
  const table = emptyTable();
  const flags = slots.flags[slot];
  if (slots.states[slot] === SLOT_FREE || (flags & SLOT_FLAG_TABLE) === 0) return table;
  const { layout } = superblock;
  const offset = pageOffset(layout.blockTableOffset, slot, (flags & SLOT_FLAG_PLACE) !== 0 ? 1 : 0);
  const bytes = await reader.read(offset, PAGE_BYTES);
  if (reader.checksum(bytes) === slots.tableChecksums[slot]) {
    table.words.set(new Uint32Array(bytes.buffer, bytes.byteOffset, table.words.length));
    return table;
  }
  problem({ kind: 'table', text: `the block table of slot ${slot} is damaged`, offset, harmless: false });
  for (let block = 0; block < slotBlocks(layout); block += 1)
    table.words[block * ENTRY_WORDS + ENTRY_FLAGS] = BLOCK_POISON;
  return { ...table, damaged: true };
}

/** Whether a slot's content and entries may differ, because of a crash. */
export function inDoubt(image: Pick<StoreImage, 'slots' | 'active'>, slot: number): boolean {
  return image.active.has(slot) || (image.slots.flags[slot] & SLOT_FLAG_DOUBT) !== 0;
}
