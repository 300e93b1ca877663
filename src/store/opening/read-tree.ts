/** Reading the tree: the root that counts, then volumes, directory and slots. What is damaged is told, and left out. */

import { check } from '../../core/check.js';
import { StrakeError } from '../../core/errors.js';
import { type FlushId, NO_FLUSH } from '../../layout/flush-id.js';
import type { VolumeMap } from '../../layout/volume-map.js';
import { decodeDirectory } from '../format/directory.js';
import {
  DIRECTORY_ENTRIES,
  type Layout,
  PAGE_BYTES,
  pageOffset,
  ROOT_BYTES,
  SLOT_FREE,
  VOLUMES_MAX,
} from '../format/format.js';
import { absent, PageProblem, type Reference } from '../format/page.js';
import { decodeRoot, type Root } from '../format/root.js';
import { decodeSlots } from '../format/slot-page.js';
import type { Superblock } from '../format/superblock.js';
import { decodeFlushed, decodeVolume } from '../format/volume-page.js';
import { SlotTable } from '../running/slot-table.js';
import type { GrowingImage } from './image.js';
import { type ImageReader, isReadError } from './image-reader.js';
import type { OnProblem, Problem, ProblemKind } from './problems.js';

/** The root that counts, where it is, and the places of those that were not believed. */
export interface FoundRoot {
  readonly root: Root;
  readonly place: number;
  readonly lost: readonly number[];
}

export async function findRoot(
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
  if (best === undefined) return undefined;
  check(best.root.sequence === Math.max(...sequences), 'an older root counts', best.root.sequence);
  check(!lost.includes(best.place), 'a root counts that is not believed', best.place);
  return { ...best, lost };
}

export class TreeReader {
  readonly image: GrowingImage;
  private readonly reader: ImageReader;
  private readonly superblock: Superblock;
  private readonly layout: Layout;
  private readonly problem: OnProblem;
  private lastVolume = -1;
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
      settled: new Array<FlushId>(VOLUMES_MAX).fill(NO_FLUSH),
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

  /** What `read` returns; undefined, and told why, if it meets what no version writes. */
  decode<T>(kind: ProblemKind, index: number, offset: number, read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof PageProblem || error instanceof RangeError)) throw error;
      this.problem({ kind, text: `page ${index} of the ${kind} table: ${error.message}`, offset, harmless: false });
      return undefined;
    }
  }

  async loadVolumes(): Promise<void> {
    const { root } = this.image;
    for (let index = 0; index < VOLUMES_MAX; index += 1) {
      const reference = root.volumes[index];
      if (!reference.present) continue;
      const page = await this.page(reference, this.layout.volumesOffset, index, 'volume');
      if (page !== undefined) this.setVolume(index, page);
    }
  }

  /** Takes a volume's page, from the tree or the journal. */
  setVolume(index: number, page: Uint8Array): void {
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

  /** Reads directory and slots; volumes have to be there. */
  async loadSlots(): Promise<void> {
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
    check(image.slotPages.length === layout.slotPages, 'the directory was read in part', image.slotPages.length);
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
}
