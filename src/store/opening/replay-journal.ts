/**
 * Replaying the journal over the tree: the batches since the root, in order, each with all its records. A record that cannot
 * be is told, and left out.
 */

import { check } from '../../core/check.js';
import type { StrakeError } from '../../core/errors.js';
import type { ReplicaPage, SlotIndex, SlotNumber } from '../../core/ids.js';
import { BLOCK_POISON, BLOCK_ZERO, ENTRY_FLAGS, ENTRY_WORDS } from '../../layout/block-entry.js';
import type { FlushId } from '../../layout/flush-id.js';
import type { ReplicaOwn } from '../../layout/replica-map.js';
import type { BlockCount, BlockIndex } from '../../ports/ids.js';
import { type Layout, PAGE_BYTES, SLOT_FREE, slotBlocks } from '../format/format.js';
import { type FoundBatch, JournalReader, readRecords } from '../format/journal-reader.js';
import {
  type AllocateRecord,
  RECORD_FLAG_FIRST,
  RECORD_FLAG_POISON,
  RECORD_FLAG_ZERO,
} from '../format/journal-records.js';
import { hasGroups } from '../format/superblock.js';
import { withFlushed } from '../format/volume-page.js';
import type { GrowingImage } from './image.js';
import { type ImageReader, isReadError } from './image-reader.js';
import type { OnProblem } from './problems.js';
import type { TreeReader } from './read-tree.js';
import { BLOCK_FIRST_NONE, emptyTable, loadTable, type TableImage } from './table-image.js';

/** Bytes of the journal that are read at a time. */
const JOURNAL_PIECE_BYTES = 1 << 20;

export class JournalReplay {
  private readonly reader: ImageReader;
  private readonly tree: TreeReader;
  private readonly image: GrowingImage;
  private readonly layout: Layout;
  private readonly groups: boolean;
  private readonly problem: OnProblem;
  /** Parts of volume pages that the journal holds. */
  private readonly volumePages = new Map<number, Uint8Array>();
  /** Why a page of the journal could not be read. */
  private unread: StrakeError | undefined;

  /** `tree`: as it was read; its image is brought up to date. */
  constructor(reader: ImageReader, tree: TreeReader, problem: OnProblem) {
    this.reader = reader;
    this.tree = tree;
    this.image = tree.image;
    this.layout = tree.image.superblock.layout;
    this.groups = hasGroups(tree.image.superblock.incompatible);
    this.problem = problem;
  }

  async load(): Promise<void> {
    const { layout, image } = this;
    const bytes = new Uint8Array(layout.journalPages * PAGE_BYTES);
    for (let at = 0; at < bytes.length; at += JOURNAL_PIECE_BYTES) {
      await this.readJournal(bytes.subarray(at, at + JOURNAL_PIECE_BYTES), layout.journalOffset + at);
    }
    const { deviceId } = image.superblock;
    const reader = new JournalReader(bytes, layout, deviceId, this.reader.checksum);
    const { root } = image;
    const batches: FoundBatch[] = [];
    const { journalPage: page, journalSequence: sequence } = root;
    const offset = layout.journalOffset + page * PAGE_BYTES;
    const end = this.tree.decode('journal', page, offset, () =>
      reader.replay(page, sequence, (batch) => batches.push(batch)),
    );
    if (end !== undefined) image.journal = end;
    image.clean = image.superblock.state === 0 && batches.length === 0;
    // Nobody knows whether it is damaged.
    if (this.unread !== undefined && image.journal.damage !== '' && !this.isUnneeded) throw this.unread;
    this.reportJournal();
    for (const batch of batches) {
      image.durableSequence = Math.max(image.durableSequence, batch.durableSequence);
    }
    batches.forEach((batch, at) => {
      check(batch.sequence === sequence + at, 'batches are replayed out of their order', batch.sequence);
    });
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
    const count = readRecords(
      batch,
      {
        block: (slot) => {
          if (!fresh.has(slot)) needed.add(slot);
        },
        allocate: ({ slot }) => fresh.add(slot),
        free: ignore,
        intent: ignore,
        stamp: ignore,
        page: ignore,
        flushed: ignore,
        settled: ignore,
        zero: (slot) => {
          if (!fresh.has(slot)) needed.add(slot);
        },
      },
      this.groups,
    );
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
    readRecords(
      batch,
      {
        block: (slot, block, words, flags) => this.applyBlock(batch, slot, block, words, flags),
        allocate: (record) => this.applyAllocate(batch, record),
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
        page: (index, offset, bytes) => this.applyPage(batch, index, offset, bytes),
        flushed: (index, mark) => this.applyFlushed(batch, index, mark),
        settled: (index, settled) => this.applyOwn(batch, index, { settled }),
        zero: (slot, block, count, words) => this.applyZero(batch, slot, block, count, words),
      },
      this.groups,
    );
    this.takePages();
  }

  /** A volume's page is journaled whole, in one batch. */
  private takePages(): void {
    for (const [index, page] of this.volumePages) {
      this.tree.setPage(index, page);
      this.renewEntries(index);
    }
    this.volumePages.clear();
  }

  /**
   * Entries from before groups were told belong to the only replica of their volume. When there is a second one, all of them are
   * to be written with their group in the same checkpoint.
   */
  private renewEntries(index: number): void {
    const { owners, slots, changedSlots } = this.image;
    const id = owners.list[index]?.volumeId;
    const others = id === undefined ? [] : owners.pages(id).filter((page) => page !== index);
    if (others.length === 0) return;
    for (let slot = 0; slot < slots.slots; slot += 1) {
      if (slots.states[slot] !== SLOT_FREE && others.includes(slots.volumes[slot])) changedSlots.add(slot);
    }
  }

  private async fetchTable(slot: SlotNumber): Promise<void> {
    this.image.tables.set(slot, await loadTable(this.reader, this.image, slot, this.problem));
  }

  private wrong(batch: FoundBatch, text: string): void {
    const offset = this.layout.journalOffset + batch.page * PAGE_BYTES;
    this.problem({ kind: 'record', text: `batch ${batch.sequence}: ${text}`, offset, harmless: false });
  }

  private usable(batch: FoundBatch, slot: SlotNumber): boolean {
    if (slot < this.layout.slots && this.image.slots.states[slot] !== SLOT_FREE) return true;
    this.wrong(batch, `a record names slot ${slot}, which is free or does not exist`);
    return false;
  }

  /** The table of blocks that a record names; undefined, and told, if they do not exist. */
  private tableOf(batch: FoundBatch, slot: SlotNumber, block: BlockIndex, count: BlockCount): TableImage | undefined {
    if (!this.usable(batch, slot)) return undefined;
    const table = this.image.tables.get(slot);
    if (table !== undefined && count > 0 && block + count <= slotBlocks(this.layout)) return table;
    this.wrong(batch, `a record names ${count} blocks from ${block} on of slot ${slot}, which do not exist`);
    return undefined;
  }

  private applyBlock(batch: FoundBatch, slot: SlotNumber, block: BlockIndex, words: Uint32Array, flags: number): void {
    const table = this.tableOf(batch, slot, block, 1);
    if (table === undefined) return;
    const word = block * ENTRY_WORDS;
    table.firstIn[block] = BLOCK_FIRST_NONE;
    if ((flags & RECORD_FLAG_FIRST) !== 0) {
      table.firstIn[block] = batch.sequence;
      table.before.fill(0, word, word + ENTRY_WORDS);
      if ((flags & RECORD_FLAG_POISON) !== 0) table.before[word + ENTRY_FLAGS] = BLOCK_POISON;
      else if ((flags & RECORD_FLAG_ZERO) !== 0) this.keepZero(batch, table, slot, block);
    }
    table.words.set(words, word);
    this.image.changedSlots.add(slot);
  }

  /** A block that is written for the first time was zero: what was known of it stands in the table, or in a record before. */
  private keepZero(batch: FoundBatch, { words, before }: TableImage, slot: SlotNumber, block: BlockIndex): void {
    const word = block * ENTRY_WORDS;
    if (words[word + ENTRY_FLAGS] !== BLOCK_ZERO) {
      this.wrong(batch, `a record says that block ${block} of slot ${slot} was zero before it, which it was not`);
      return;
    }
    before.set(words.subarray(word, word + ENTRY_WORDS), word);
  }

  private applyZero(
    batch: FoundBatch,
    slot: SlotNumber,
    block: BlockIndex,
    count: BlockCount,
    words: Uint32Array,
  ): void {
    const blocks = count === 0 ? slotBlocks(this.layout) : count;
    const table = this.tableOf(batch, slot, block, blocks);
    if (table === undefined) return;
    for (let at = block; at < block + blocks; at += 1) {
      table.words.set(words, at * ENTRY_WORDS);
      table.firstIn[at] = BLOCK_FIRST_NONE;
    }
    this.image.changedSlots.add(slot);
  }

  private applyAllocate(batch: FoundBatch, { slot, volumeId, member, stripe, group }: AllocateRecord): void {
    this.takePages();
    const { image } = this;
    const volume = image.owners.find(volumeId, group);
    const taken = slot >= this.layout.slots || image.slots.states[slot] !== SLOT_FREE;
    if (taken || volume < 0 || image.slots.find(volume, stripe) >= 0) {
      this.wrong(batch, `segment ${stripe} of volume ${volumeId} cannot have been given slot ${slot}`);
      return;
    }
    image.slots.assign(slot as SlotIndex, volume, stripe, member);
    image.tables.set(slot, emptyTable());
    image.changedSlots.add(slot);
    // A slot is given away with the intent to write to it.
    image.active.add(slot);
  }

  private applyFree(batch: FoundBatch, slot: SlotNumber): void {
    if (!this.usable(batch, slot)) return;
    this.image.slots.free(slot as SlotIndex);
    this.image.tables.delete(slot);
    this.image.active.delete(slot);
    this.image.changedSlots.add(slot);
  }

  /** The last one counts: where two histories of a volume have met, it may be lower than earlier ones. */
  private applyFlushed(batch: FoundBatch, index: ReplicaPage, flushed: FlushId): void {
    this.takePages();
    const legacy = this.image.legacy.get(index);
    if (legacy === undefined) {
      this.applyOwn(batch, index, { flushed });
      return;
    }
    this.image.legacy.set(index, withFlushed(legacy, flushed));
    this.image.changedVolumes.add(index);
  }

  /** What the device knows of a replica beside its map. */
  private applyOwn(batch: FoundBatch, index: ReplicaPage, own: Partial<ReplicaOwn>): void {
    this.takePages();
    const record = this.image.replicas[index];
    if (record === undefined) {
      this.wrong(batch, `a record names page ${index} of the volumes, which is empty or does not exist`);
      return;
    }
    this.image.replicas[index] = { ...record, own: { ...record.own, ...own } };
    this.image.changedVolumes.add(index);
  }

  private applyPage(batch: FoundBatch, index: ReplicaPage, offset: number, bytes: Uint8Array): void {
    if (index >= this.layout.volumePages) {
      this.wrong(batch, `a record names page ${index} of the volumes, which does not exist`);
      return;
    }
    let page = this.volumePages.get(index);
    if (page === undefined) {
      page = new Uint8Array(PAGE_BYTES);
      this.volumePages.set(index, page);
    }
    if (offset + bytes.length <= PAGE_BYTES) page.set(bytes, offset);
    this.image.changedVolumes.add(index);
  }
}
