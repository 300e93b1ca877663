/**
 * Checking a device: everything that can be known to be wrong with it, found by reading alone.
 *
 * It reads through `loadImage`, as opening does, and goes on where opening stops. On top of that it looks at what
 * opening puts off: the block table of each used slot, the volumes' records against each other, and, if asked, each
 * valid block.
 *
 * What a crash leaves is not damage: a torn tail of the journal, superblocks of which one is older, and blocks of slots
 * *in doubt* that differ from their entries. The next opening recovers from those.
 *
 * Fault model: the device may return anything, and may fail any read. A read that fails is told as a problem, and what
 * it should have returned counts as zeroes, so it is met again as damage of whatever it belongs to.
 *
 * Nobody may write to the device meanwhile.
 */

import { check } from '../../core/check.js';
import { StrakeError } from '../../core/errors.js';
import { BLOCK_BYTES } from '../../core/limits.js';
import {
  BLOCK_POISON,
  BLOCK_SUSPECT,
  BLOCK_VALID,
  BLOCK_ZERO,
  ENTRY_CHECKSUM,
  ENTRY_FLAGS,
  ENTRY_WORDS,
  ZERO_KEPT,
} from '../../layout/block-entry.js';
import { checkReplica, namesDevice, type ReplicaMap } from '../../layout/replica-map.js';
import { doubledDevice, type VolumeMap } from '../../layout/volume-map.js';
import type { BlockIndex } from '../../ports/ids.js';
import { type Layout, PAGE_BYTES, pageOffset, SLOT_FREE, slotBlocks, TABLE_ENTRIES } from '../format/format.js';
import { checkFeatures, hasGroups, type Superblock, SuperblockProblem } from '../format/superblock.js';
import { findSuperblock } from '../opening/find-superblock.js';
import { inDoubt, type StoreImage } from '../opening/image.js';
import type { ImageReader } from '../opening/image-reader.js';
import { loadImage } from '../opening/load-image.js';
import type { OnProblem, Problem } from '../opening/problems.js';
import { isStray } from '../opening/strays.js';
import type { TableImage } from '../opening/table-image.js';
import { loadTable } from '../opening/table-image.js';
import { SLOT_FLAG_PLACE } from '../running/slot-table.js';

/**
 * `clean`: nothing is wrong. `recoverable`: the next opening mends all there is, or it costs nothing. `damaged`:
 * something is lost, or cannot be told.
 */
export type FsckVerdict = 'clean' | 'recoverable' | 'damaged';

/** What was met on the way; blocks are those that slots in use have. */
export interface FsckCounts {
  slots: number;
  usedSlots: number;
  volumes: number;
  /** Batches of the journal that are not in the tree yet, and their records. */
  batches: number;
  records: number;
  /** Slots whose content may differ from their entries because of a crash. */
  slotsInDoubt: number;
  validBlocks: number;
  zeroBlocks: number;
  /** Known to be lost, or to need to be reconciled, since before this check. */
  poisonedBlocks: number;
  suspectBlocks: number;
  /** With `data`: blocks compared with their checksums, those that differ in slots in doubt, and others that differ. */
  checkedBlocks: number;
  inDoubt: number;
  badBlocks: number;
}

export interface FsckReport {
  readonly verdict: FsckVerdict;
  /** Undefined if there is no superblock that can be used. */
  readonly superblock: Superblock | undefined;
  /** The device was not closed in order: the next opening recovers. */
  readonly crashed: boolean;
  /** The journal ends with a batch that is not whole, and was never promised. */
  readonly torn: boolean;
  readonly counts: FsckCounts;
  readonly problems: readonly Problem[];
}

export interface FsckOptions {
  /** Read every valid block as well, and compare it with its checksum. */
  readonly data?: boolean;
  /** Told after each slot how many of the slots have been looked at. */
  readonly onProgress?: (done: number, slots: number) => void;
}

/** All flags that an entry may have, together. Suspect is only what was valid. */
const ENTRY_FLAGS_KNOWN: readonly number[] = [0, BLOCK_VALID, BLOCK_VALID | BLOCK_SUSPECT, BLOCK_ZERO, BLOCK_POISON];

/** Reads on where the device fails. */
class TolerantReader implements ImageReader {
  readonly sizeBytes: number;
  readonly checksum: ImageReader['checksum'];
  private readonly reader: ImageReader;
  private readonly problem: OnProblem;

  constructor(reader: ImageReader, problem: OnProblem) {
    this.reader = reader;
    this.problem = problem;
    this.sizeBytes = reader.sizeBytes;
    this.checksum = reader.checksum;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    try {
      return await this.reader.read(offset, length);
    } catch (error) {
      if (!(error instanceof StrakeError)) throw error;
      if (length > PAGE_BYTES) return await this.readPages(offset, length);
      this.problem({ kind: 'read', text: error.message, offset, harmless: false });
      return new Uint8Array(length);
    }
  }

  private async readPages(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at += PAGE_BYTES) bytes.set(await this.read(offset + at, PAGE_BYTES), at);
    return bytes;
  }
}

class Checker {
  readonly problems: Problem[] = [];
  readonly counts: FsckCounts = {
    slots: 0,
    usedSlots: 0,
    volumes: 0,
    batches: 0,
    records: 0,
    slotsInDoubt: 0,
    validBlocks: 0,
    zeroBlocks: 0,
    poisonedBlocks: 0,
    suspectBlocks: 0,
    checkedBlocks: 0,
    inDoubt: 0,
    badBlocks: 0,
  };
  private readonly reader: ImageReader;
  private readonly options: FsckOptions;
  private readonly note: OnProblem = (problem) => this.problems.push(problem);
  private superblock: Superblock | undefined;
  private image: StoreImage | undefined;

  constructor(reader: ImageReader, options: FsckOptions) {
    this.reader = new TolerantReader(reader, this.note);
    this.options = options;
  }

  async run(): Promise<FsckReport> {
    this.superblock = await this.findSuperblock();
    if (this.superblock !== undefined) this.image = await loadImage(this.reader, this.superblock, this.note);
    if (this.image !== undefined) await this.checkImage(this.image);
    const { problems, counts, superblock, image } = this;
    const crashed = image !== undefined && !image.clean && image.superblock.incarnation > 0;
    const torn = image?.journal.torn ?? false;
    const recoverable = crashed || torn || problems.length > 0;
    const damaged = image === undefined || problems.some(({ harmless }) => !harmless);
    const verdict = damaged ? 'damaged' : recoverable ? 'recoverable' : 'clean';
    return { verdict, superblock, crashed, torn, counts, problems };
  }

  private async findSuperblock(): Promise<Superblock | undefined> {
    const found = await findSuperblock(this.reader, this.note);
    const unusable = (text: string) => this.note({ kind: 'superblock', text, offset: 0, harmless: false });
    if (found instanceof SuperblockProblem) {
      unusable(`there is no superblock that can be used: ${found.message}`);
      return undefined;
    }
    const { superblock } = found;
    try {
      checkFeatures(superblock, true, 'the device');
    } catch (error) {
      unusable((error as Error).message);
      return undefined;
    }
    const whole = this.problems.length === 0;
    if (whole && !(found.first && found.second)) {
      const text = `the ${found.first ? 'second' : 'first'} superblock is older than the other`;
      const offset = found.first ? superblock.layout.copyOffset : 0;
      this.note({ kind: 'superblock', text, offset, harmless: true });
    }
    const { sizeBytes } = superblock.layout;
    if (this.reader.sizeBytes > sizeBytes) {
      const text = `the device has ${this.reader.sizeBytes} bytes, and was formatted with ${sizeBytes}`;
      this.note({ kind: 'size', text, harmless: true });
    }
    return superblock;
  }

  private async checkImage(image: StoreImage): Promise<void> {
    const { counts } = this;
    const { slots } = image;
    counts.slots = slots.slots;
    counts.usedSlots = slots.usedSlots;
    counts.batches = image.batches;
    counts.records = image.records;
    image.replicas.forEach((record, index) => {
      if (record !== undefined) this.checkReplica(image, record.map, index);
    });
    for (const [index, { map }] of image.legacy) this.checkVolume(image, map, index);
    let looked = 0;
    for (let slot = 0; slot < slots.slots; slot += 1) {
      if (slots.states[slot] === SLOT_FREE) continue;
      looked += 1;
      await this.checkSlot(image, slot);
      this.options.onProgress?.(slot + 1, slots.slots);
    }
    const blocks = counts.validBlocks + counts.zeroBlocks + counts.poisonedBlocks + counts.suspectBlocks;
    check(blocks <= looked * TABLE_ENTRIES, 'more blocks are counted than there are', blocks);
    check(looked === slots.usedSlots, 'slots in use were not looked at', looked);
    check(
      counts.badBlocks + counts.inDoubt <= counts.checkedBlocks,
      'more blocks differ than were read',
      counts.badBlocks,
    );
  }

  /** Tells what is wrong with a page of the volumes. */
  private wrongPage(image: StoreImage, index: number, id: string): (what: string) => void {
    const { layout } = image.superblock;
    const offset = pageOffset(layout.volumesOffset, index, image.volumePages[index].place);
    return (what) => this.note({ kind: 'volume', text: `volume ${id}: ${what}`, offset, harmless: false });
  }

  private checkReplica(image: StoreImage, map: ReplicaMap, index: number): void {
    this.counts.volumes += 1;
    const { deviceId, layout } = image.superblock;
    const { volume, group } = map;
    const wrong = this.wrongPage(image, index, volume.id);
    if (!namesDevice(map, deviceId) && !volume.deleted)
      wrong(`none of the members of its group ${group} is this device`);
    checkChunks(volume.segmentBytes, layout, wrong);
    try {
      checkReplica(map);
    } catch (error) {
      if (!(error instanceof StrakeError)) throw error;
      wrong(error.message);
    }
  }

  /** A page in the form of version 1: the device has not been opened for writing since, or is none of the volume's any more. */
  private checkVolume(image: StoreImage, volume: VolumeMap, index: number): void {
    this.counts.volumes += 1;
    const { deviceId, incompatible, layout } = image.superblock;
    const wrong = this.wrongPage(image, index, volume.id);
    const doubled = doubledDevice(volume.groups);
    if (doubled !== null && !volume.deleted)
      wrong(`a group of it names device ${doubled} twice, and has one copy there`);
    const own = volume.groups.flat().some((member) => member.deviceId === deviceId);
    if (!own && !volume.deleted && !hasGroups(incompatible)) wrong('none of its members is this device');
    checkChunks(volume.segmentBytes, layout, wrong);
  }

  private async checkSlot(image: StoreImage, slot: number): Promise<void> {
    const { slots } = image;
    const page = slots.volumes[slot];
    const copies = image.replicas[page]?.map.volume.copies ?? image.legacy.get(page)?.map.copies;
    if (copies !== undefined && slots.members[slot] >= copies) {
      const text = `slot ${slot} is member ${slots.members[slot]} of a volume with ${copies} copies`;
      this.note({ kind: 'slots', text, harmless: false });
    }
    if (isStray(image, slot)) {
      const text = `slot ${slot} holds segment ${slots.stripes[slot]} of a group that the device has left`;
      this.note({ kind: 'slots', text, harmless: true });
    }
    if (inDoubt(image, slot)) this.counts.slotsInDoubt += 1;
    const table = image.tables.get(slot) ?? (await loadTable(this.reader, image, slot, this.note));
    if (!table.damaged) this.checkEntries(image, slot, table);
    if (this.options.data === true) await this.checkData(image, slot, table);
  }

  private checkEntries(image: StoreImage, slot: number, { words }: TableImage): void {
    const { counts } = this;
    const { layout } = image.superblock;
    const place = (image.slots.flags[slot] & SLOT_FLAG_PLACE) !== 0 ? 1 : 0;
    const offset = pageOffset(layout.blockTableOffset, slot, place);
    const blocks = slotBlocks(layout);
    for (let block = 0; block < TABLE_ENTRIES; block += 1) {
      const entry = words.subarray(block * ENTRY_WORDS, (block + 1) * ENTRY_WORDS);
      const flags = entry[ENTRY_FLAGS];
      const why = block < blocks ? entryProblem(entry) : beyondProblem(entry);
      if (why !== '') {
        const text = `block ${block} of slot ${slot}: ${why}`;
        this.note({ kind: 'entry', text, offset: offset + block * ENTRY_WORDS * 4, harmless: false });
      }
      if ((flags & BLOCK_SUSPECT) !== 0) counts.suspectBlocks += 1;
      else if ((flags & BLOCK_VALID) !== 0) counts.validBlocks += 1;
      else if ((flags & BLOCK_POISON) !== 0) counts.poisonedBlocks += 1;
      else if ((flags & BLOCK_ZERO) !== 0) counts.zeroBlocks += 1;
    }
  }

  /** Reads from the first valid block of a slot to the last, and compares the valid ones. */
  private async checkData(image: StoreImage, slot: number, { words }: TableImage): Promise<void> {
    const { counts } = this;
    const { layout } = image.superblock;
    // Suspect blocks may differ.
    const valid = (block: BlockIndex) => words[block * ENTRY_WORDS + ENTRY_FLAGS] === BLOCK_VALID;
    const wanted = Array.from({ length: slotBlocks(layout) }, (_, block) => block).filter(valid);
    if (wanted.length === 0) return;
    const [from, to] = [wanted[0], wanted[wanted.length - 1] + 1];
    const offset = layout.dataOffset + slot * layout.slotBytes + from * BLOCK_BYTES;
    const bytes = await this.readData(offset, (to - from) * BLOCK_BYTES);
    const bad = wanted.filter((block) => {
      const at = (block - from) * BLOCK_BYTES;
      const found = this.reader.checksum(bytes.subarray(at, at + BLOCK_BYTES));
      return found !== words[block * ENTRY_WORDS + ENTRY_CHECKSUM];
    });
    counts.checkedBlocks += wanted.length;
    if (inDoubt(image, slot)) counts.inDoubt += bad.length;
    else this.noteBad(slot, bad, offset - from * BLOCK_BYTES);
  }

  /** What lies beyond the end of a device that was cut short counts as zeroes: the size was told already. */
  private async readData(offset: number, length: number): Promise<Uint8Array> {
    const there = Math.max(0, Math.min(length, this.reader.sizeBytes - offset));
    const whole = there - (there % BLOCK_BYTES);
    if (whole === length) return await this.reader.read(offset, length);
    const bytes = new Uint8Array(length);
    if (whole > 0) bytes.set(await this.reader.read(offset, whole));
    return bytes;
  }

  /** One problem for each run of blocks, so that a lost device does not give one for each of its blocks. */
  private noteBad(slot: number, bad: readonly number[], slotOffset: number): void {
    this.counts.badBlocks += bad.length;
    bad.forEach((block, at) => {
      if (at > 0 && bad[at - 1] === block - 1) return;
      let last = at;
      while (bad[last + 1] === bad[last] + 1) last += 1;
      const which = last === at ? `block ${block}` : `blocks ${block} to ${bad[last]}`;
      const text = `${which} of slot ${slot}: the content does not match its checksum`;
      this.note({ kind: 'data', text, offset: slotOffset + block * BLOCK_BYTES, harmless: false });
    });
  }
}

function checkChunks(segmentBytes: number, { slotBytes }: Layout, wrong: (what: string) => void): void {
  if (segmentBytes !== slotBytes) wrong(`its segments have ${segmentBytes} bytes, and slots have ${slotBytes}`);
}

/** Why an entry cannot have been written by this version; empty if it can. */
function entryProblem(entry: Uint32Array): string {
  const flags = entry[ENTRY_FLAGS];
  if (!ENTRY_FLAGS_KNOWN.includes(flags)) return `its entry has the impossible flags ${flags}`;
  if (flags === 0 && entry.some((word) => word !== 0)) return 'it was never written, and its entry is not empty';
  const content = (flags & BLOCK_VALID) !== 0;
  const kept = flags === BLOCK_ZERO && entry[ENTRY_CHECKSUM] === ZERO_KEPT;
  return content || kept || entry[ENTRY_CHECKSUM] === 0 ? '' : 'it has a checksum, and no content';
}

function beyondProblem(entry: Uint32Array): string {
  return entry.some((word) => word !== 0) ? 'its entry is not empty, and the slot has no such block' : '';
}

/**
 * Checks a device without writing to it. What is wrong is in the report; rejects only with what is no `StrakeError`,
 * that is with bugs.
 */
export function checkDevice(reader: ImageReader, options: FsckOptions = {}): Promise<FsckReport> {
  return new Checker(reader, options).run();
}
