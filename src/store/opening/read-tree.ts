/** Reading the tree: the root that counts, then volumes, directory and slots. What is damaged is told, and left out. */

import { check } from '../../core/check.js';
import { StrakeError } from '../../core/errors.js';
import { PageProblem } from '../../layout/fields.js';
import { type DirectoryKind, decodeDirectory } from '../format/directory.js';
import {
  DIRECTORY_ENTRIES,
  DIRECTORY_INDEX_MAGIC,
  DIRECTORY_MAGIC,
  type Layout,
  PAGE_BYTES,
  pageOffset,
  ROOT_BYTES,
  SLOT_ENTRIES,
  SLOT_FREE,
  VOLUME_DIRECTORY_MAGIC,
} from '../format/format.js';
import { absent, type Reference } from '../format/page.js';
import { decodeReplica, isReplicaPage } from '../format/replica-page.js';
import { decodeRoot, type Root } from '../format/root.js';
import { SlotOwners } from '../format/slot-owners.js';
import { decodeSlots } from '../format/slot-page.js';
import { hasGroups, type Superblock } from '../format/superblock.js';
import { decodeLegacy } from '../format/volume-page.js';
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

/** Where pages of references lie, and what they are called. */
function levelOf(kind: DirectoryKind, layout: Layout): { readonly what: ProblemKind; readonly region: number } {
  switch (kind) {
    case DIRECTORY_MAGIC:
      return { what: 'directory', region: layout.directoryOffset };
    case DIRECTORY_INDEX_MAGIC:
      return { what: 'directory index', region: layout.directoryIndexOffset };
    case VOLUME_DIRECTORY_MAGIC:
      return { what: 'volume directory', region: layout.volumeDirectoryOffset };
  }
}

export class TreeReader {
  readonly image: GrowingImage;
  private readonly reader: ImageReader;
  private readonly superblock: Superblock;
  private readonly layout: Layout;
  private readonly problem: OnProblem;
  private readonly groups: boolean;

  constructor(reader: ImageReader, superblock: Superblock, found: FoundRoot, problem: OnProblem) {
    const { root, place: rootPlace, lost } = found;
    this.reader = reader;
    this.superblock = superblock;
    this.layout = superblock.layout;
    this.problem = problem;
    this.groups = hasGroups(superblock.incompatible);
    const { slots, volumePages } = superblock.layout;
    this.image = {
      superblock,
      root,
      rootPlace,
      rootsLost: lost,
      slots: new SlotTable(slots, volumePages),
      slotPages: [],
      directory: [],
      directoryIndex: [],
      volumePages: [],
      volumeDirectory: [],
      replicas: new Array<undefined>(volumePages).fill(undefined),
      legacy: new Map(),
      owners: new SlotOwners(volumePages),
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
    const { image, layout } = this;
    const { volumes } = image.root;
    image.volumeDirectory = volumes.slice(0, layout.volumeDirectoryPages);
    if (layout.volumeDirectoryPages === 0) image.volumePages = volumes.slice(0, layout.volumePages);
    else image.volumePages = await this.below(VOLUME_DIRECTORY_MAGIC, image.volumeDirectory, layout.volumePages);
    for (const [index, reference] of image.volumePages.entries()) {
      if (!reference.present) continue;
      const page = await this.page(reference, layout.volumesOffset, index, 'volume');
      if (page !== undefined) this.setPage(index, page);
    }
  }

  /** The references of a level of pages to the `count` pages below it; nothing leads beyond those. */
  private async below(kind: DirectoryKind, pages: readonly Reference[], count: number): Promise<Reference[]> {
    check(
      count <= pages.length * DIRECTORY_ENTRIES,
      'a level of references does not lead to all pages below it',
      count,
    );
    const all = new Array<Reference>(count).fill(absent());
    for (const [index, reference] of pages.entries()) {
      if (!reference.present) continue;
      const first = index * DIRECTORY_ENTRIES;
      const references = await this.references(kind, reference, index);
      const wanted = Math.max(0, Math.min(references.length, count - first));
      for (let at = 0; at < wanted; at += 1) all[first + at] = references[at];
      this.demandAbsent(references.slice(wanted), kind, index);
    }
    return all;
  }

  /** The references of a page of them; if it is damaged, none leads anywhere. */
  private async references(kind: DirectoryKind, reference: Reference, index: number): Promise<Reference[]> {
    const { what, region } = levelOf(kind, this.layout);
    const offset = pageOffset(region, index, reference.place);
    const page = await this.page(reference, region, index, what);
    if (page === undefined) return [];
    const { deviceId } = this.superblock;
    return this.decode(what, index, offset, () => decodeDirectory(page, kind, index, deviceId)) ?? [];
  }

  /** Nothing leads to pages that do not exist, or that no feature here uses. */
  private demandAbsent(references: readonly Reference[], kind: DirectoryKind, index: number): void {
    if (!references.some(({ present }) => present)) return;
    const { what } = levelOf(kind, this.layout);
    const text = `page ${index} of the ${what} leads to pages beyond the last`;
    this.problem({ kind: what, text, harmless: false });
  }

  /** Takes a page of the volumes region, from the tree or the journal; one that is all zero leaves the page empty. */
  setPage(index: number, page: Uint8Array): void {
    const { deviceId } = this.superblock;
    const { image } = this;
    const offset = pageOffset(this.layout.volumesOffset, index, 0);
    image.replicas[index] = undefined;
    image.legacy.delete(index);
    image.owners.set(index, undefined);
    if (page.every((byte) => byte === 0)) return;
    this.decode('volume', index, offset, () => {
      if (isReplicaPage(page) && this.groups) {
        const record = decodeReplica(page, index, deviceId);
        image.replicas[index] = record;
        image.owners.set(index, { volumeId: record.map.volume.id, group: record.map.group + 1 });
        return;
      }
      const legacy = decodeLegacy(page, index, deviceId);
      image.legacy.set(index, legacy);
      image.owners.set(index, { volumeId: legacy.map.id, group: 0 });
    });
  }

  /**
   * No replica has two pages: nobody could tell which of them counts. Tree and journal have to be read: what the tree says
   * alone may be of different times.
   */
  checkOwners(): void {
    const { image, layout } = this;
    for (const [index, owner] of image.owners.list.entries()) {
      if (owner === undefined) continue;
      const { volumeId, group } = owner;
      // A page of the old form is that of the whole volume.
      const first = image.owners.pages(volumeId).find((page) => {
        const other = image.owners.list[page]?.group;
        return group === 0 || other === 0 || other === group;
      });
      check(first !== undefined, 'a page is not among those of its volume', index);
      if (first === index) continue;
      const what = group === 0 ? `volume ${volumeId}` : `group ${group - 1} of volume ${volumeId}`;
      const text = `pages ${first} and ${index} of the volumes both hold ${what}`;
      const offset = pageOffset(layout.volumesOffset, index, image.volumePages[index].place);
      this.problem({ kind: 'volume', text, offset, harmless: false });
    }
  }

  /** Reads directory and slots, from the index of the directory on; volumes have to be there. */
  async loadSlots(): Promise<void> {
    const { image, layout } = this;
    // Entries beyond the slots belong to features that are not set, so their pages are not there, and nothing is kept for them.
    const pages = Math.ceil(layout.slots / SLOT_ENTRIES);
    const { directory } = image.root;
    if (layout.directoryLevels === 0) image.directory = directory;
    else {
      image.directoryIndex = directory;
      image.directory = await this.below(DIRECTORY_INDEX_MAGIC, directory, layout.directoryPages);
    }
    image.slotPages = await this.below(DIRECTORY_MAGIC, image.directory, pages);
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
    for (let first = 0; first < image.slotPages.length; first += together) {
      const count = Math.min(together, image.slotPages.length - first);
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
      const { owners, slots } = this.image;
      const ownerOf = (words: Uint32Array, word: number, group: number) => owners.findWords(words, word, group);
      decodeSlots(page, index, slots, { deviceId: this.superblock.deviceId, groups: this.groups, ownerOf });
    });
  }
}
