/**
 * Formatting a device, and opening it: reading what it says of itself, recovery after a crash, and the first checkpoint.
 *
 * Recovery, in steps; a crash in any of them leaves a device on which the same recovery succeeds again:
 *
 * 1. the superblocks get a new incarnation
 * 2. tree and journal are read into memory
 * 3. the blocks of slots in doubt are read and compared with their entries. A first write that no flush is known to have
 *    covered, and whose content does not match, never happened. Any other mismatch makes its block suspect.
 * 4. a checkpoint makes the result the tree. Slots in doubt stay marked until their copies have been reconciled.
 */

import { EIO } from '../../core/errno.js';
import { StrakeError } from '../../core/errors.js';
import { BLOCK_BYTES, SECTOR_BYTES } from '../../core/limits.js';
import {
  BLOCK_POISON,
  BLOCK_SUSPECT,
  BLOCK_VALID,
  ENTRY_CHECKSUM,
  ENTRY_FLAGS,
  ENTRY_WORDS,
} from '../../layout/block-entry.js';
import { FENCE_ALL } from '../../ports/device.js';
import type { Memory } from '../../ports/memory.js';
import {
  computeLayout,
  DEVICE_CLEAN,
  DEVICE_OPEN,
  PAGE_BYTES,
  ROOT_BYTES,
  SLOT_BYTES_DEFAULT,
  SLOT_FREE,
  slotBlocks,
  VOLUMES_MAX,
} from '../format/format.js';
import { absent, encodeRoot } from '../format/pages.js';
import { checkFeatures, type Superblock, SuperblockProblem } from '../format/superblock.js';
import { arenaChecksum, Checkpointer, writeSuperblocks } from '../running/checkpoint.js';
import { ControlIo } from '../running/control-io.js';
import { SLOT_FLAG_DOUBT } from '../running/slot-table.js';
import { SegmentStore } from '../segment-store.js';
import { CONTROL_PIECE_BYTES, CONTROL_PIECES, type StorePorts, type StoreStart } from '../store-start.js';
import {
  type FoundSuperblock,
  findSuperblock,
  type ImageReader,
  inDoubt,
  loadImage,
  loadTable,
  type StoreImage,
} from './image.js';
import type { Problem } from './problems.js';
import type { TableImage } from './table-image.js';

/** Reads a device through its port, by way of one piece of memory. */
export class DeviceReader implements ImageReader {
  readonly sizeBytes: number;
  readonly checksum: (bytes: Uint8Array) => number;
  private readonly io: ControlIo;
  private readonly memory: Memory;
  private readonly at: number;

  /** `at`: a piece of `CONTROL_PIECE_BYTES`, and after it a page for checksums. */
  constructor(io: ControlIo, memory: Memory, at: number) {
    this.io = io;
    this.memory = memory;
    this.at = at;
    this.sizeBytes = io.device.geometry.sizeBytes;
    this.checksum = arenaChecksum({ memory }, at + CONTROL_PIECE_BYTES);
  }

  get lost(): boolean {
    return this.io.device.fence() === FENCE_ALL;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const result = await this.io.read(this.at, length, offset);
    if (result < 0) throw new StrakeError('IO', `reading ${length} bytes at ${offset} failed`, { errno: -result });
    return this.memory.bytes.subarray(this.at, this.at + length);
  }
}

/** Bytes that formatting writes at a time; it needs so much memory, and two pages more. */
const CLEAR_BYTES = 32 << 10;

/** What a device is to become. */
export interface FormatOptions {
  readonly deviceId: string;
  readonly clusterId: string;
  /** At most 63 bytes. */
  readonly label?: string;
  readonly slotBytes?: number;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
}

/**
 * Formats a device; what it held is lost. Throws `ERR_STRAKE_TOO_SMALL`, `ERR_STRAKE_TOO_LARGE`, `ERR_STRAKE_IO`.
 *
 * The old superblocks go first and the new ones come last, so a device that was interrupted is not formatted.
 */
export async function formatDevice(ports: StorePorts, options: FormatOptions): Promise<Superblock> {
  const { completions, memory, device, memoryStart } = ports;
  const { geometry } = device;
  const layout = computeLayout(geometry.sizeBytes, options.slotBytes ?? SLOT_BYTES_DEFAULT);
  const superblock: Superblock = {
    sequence: 1,
    deviceId: options.deviceId,
    clusterId: options.clusterId,
    label: options.label ?? '',
    incompatible: 0,
    readOnlyCompatible: 0,
    compatible: 0,
    logicalBlockBytes: geometry.logicalBlockBytes,
    physicalBlockBytes: geometry.physicalBlockBytes,
    atomicWriteBytes: SECTOR_BYTES,
    incarnation: 0,
    state: DEVICE_CLEAN,
    formattedMs: options.nowMs,
    layout,
  };
  const io = new ControlIo(completions, device);
  const demand = async (what: string, operation: Promise<number>) => {
    const result = await operation;
    if (result < 0) throw new StrakeError('IO', `formatting failed while ${what}`, { errno: -result });
  };
  try {
    memory.bytes.fill(0, memoryStart, memoryStart + ROOT_BYTES);
    const erase = (offset: number) => demand('erasing the superblocks', io.write(memoryStart, PAGE_BYTES, offset));
    await erase(0);
    await erase(layout.copyOffset);
    await demand('erasing the superblocks', io.sync());
    if (geometry.discard) await demand('discarding', io.discard(layout.dataOffset, layout.slots * layout.slotBytes));
    // Written, not merely zeroed: space that a file system has yet to find would make each flush wait for that.
    memory.bytes.fill(0, memoryStart, memoryStart + CLEAR_BYTES);
    const journalEnd = layout.journalOffset + layout.journalPages * PAGE_BYTES;
    for (let at = layout.journalOffset; at < journalEnd; at += CLEAR_BYTES) {
      const length = Math.min(CLEAR_BYTES, journalEnd - at);
      await demand('clearing the journal', io.write(memoryStart, length, at));
    }
    // Other formats' magic numbers lie in the first megabytes, and would make the device look like theirs.
    await demand('clearing the tables', io.zero(0, layout.blockTableOffset));
    const root = {
      sequence: 1,
      journalPage: 0,
      journalSequence: 1,
      durableSequence: 0,
      usedSlots: 0,
      directory: Array.from({ length: layout.directoryPages }, absent),
      volumes: Array.from({ length: VOLUMES_MAX }, absent),
      active: [],
    };
    const bytes = memory.bytes.subarray(memoryStart, memoryStart + ROOT_BYTES);
    encodeRoot(root, options.deviceId, bytes, arenaChecksum({ memory }, memoryStart + ROOT_BYTES));
    await demand('writing the root', io.write(memoryStart, ROOT_BYTES, layout.rootOffset));
    await demand('making it durable', io.sync());
    const result = await writeSuperblocks({ memory, io }, memoryStart, superblock);
    if (result < 0) throw new StrakeError('IO', 'formatting failed while writing superblocks', { errno: -result });
    return superblock;
  } finally {
    io.close();
  }
}

/** What recovery found. */
export interface RecoveryReport {
  /** The device was not closed in order. */
  readonly crashed: boolean;
  readonly slotsInDoubt: number;
  /** Blocks whose content does not match their entry. */
  readonly suspectBlocks: number;
  /** First writes that never reached the device. */
  readonly droppedBlocks: number;
  /** Entries differ from what tree and journal say. */
  readonly changed: boolean;
  /** Harmless damage that was met. */
  readonly problems: readonly Problem[];
}

/** A store that is open, with what recovery found. */
export interface OpenedStore {
  readonly store: SegmentStore;
  readonly checkpointer: Checkpointer;
  readonly recovery: RecoveryReport;
}

/** What a device is expected to be. */
export interface Expectations {
  /** For messages. */
  readonly path: string;
  readonly clusterId?: string;
  readonly deviceId?: string;
  /** Throws if the device is not wanted; nothing has been written to it then. */
  readonly refuse?: (superblock: Superblock) => void;
}

/** A problem that keeps a device from being opened, as an error. */
function refusal(path: string, problem: Problem): StrakeError {
  return new StrakeError('DAMAGED', `${path}: ${problem.text}`);
}

/** Finds a device's superblock. Throws `ERR_STRAKE_NOT_FORMATTED` and others of the table. */
export async function demandSuperblock(
  reader: ImageReader,
  expected: Expectations,
  readOnly: boolean,
  problem: (problem: Problem) => void,
): Promise<FoundSuperblock> {
  const { path, clusterId, deviceId } = expected;
  const found = await findSuperblock(reader, problem);
  if (found instanceof SuperblockProblem) {
    if (found.foreign) throw new StrakeError('UNKNOWN_FEATURE', `${path}: ${found.message}`);
    throw new StrakeError('NOT_FORMATTED', `${path}: ${found.message}`);
  }
  const { superblock } = found;
  checkFeatures(superblock, readOnly, path);
  if (clusterId !== undefined && superblock.clusterId !== clusterId) {
    throw new StrakeError('WRONG_DEVICE', `${path} belongs to cluster ${superblock.clusterId}, not to ${clusterId}`);
  }
  if (deviceId !== undefined && superblock.deviceId !== deviceId) {
    throw new StrakeError('WRONG_DEVICE', `${path} is device ${superblock.deviceId}, not ${deviceId}`);
  }
  return found;
}

/**
 * Opens a formatted device for writing, and recovers it. Throws `ERR_STRAKE_NOT_FORMATTED`, `ERR_STRAKE_UNKNOWN_FEATURE`,
 * `ERR_STRAKE_WRONG_DEVICE`, `ERR_STRAKE_DAMAGED`, `ERR_STRAKE_IO`; the device is as it was then, or as recoverable.
 */
export async function openStore(ports: StorePorts, expected: Expectations): Promise<OpenedStore> {
  const { completions, memory, device, memoryStart } = ports;
  const io = new ControlIo(completions, device);
  try {
    const reader = new DeviceReader(io, memory, memoryStart);
    const problems: Problem[] = [];
    const note = (problem: Problem) => {
      // Of a table that is lost, the slot's blocks are unreadable, here as while serving; the rest is as good as ever.
      if (!problem.harmless && problem.kind !== 'table') throw refusal(expected.path, problem);
      problems.push(problem);
    };
    const { superblock: found } = await demandSuperblock(reader, expected, false, note);
    expected.refuse?.(found);
    const image = await loadImage(reader, found, note);
    if (image === undefined) throw new StrakeError('DAMAGED', `${expected.path} cannot be read`);
    const report = await new Recovery(reader, image, io, memory, memoryStart + 2 * CONTROL_PIECE_BYTES).run(note);
    await forgetRoots(io, memory, memoryStart, image, expected.path);
    const superblock: Superblock = {
      ...found,
      sequence: found.sequence + 1,
      incarnation: found.incarnation + 1,
      state: DEVICE_OPEN,
    };
    const written = await writeSuperblocks({ memory, io }, memoryStart, superblock);
    if (written < 0) throw new StrakeError('IO', `${expected.path}: writing superblocks failed`, { errno: -written });
    const opened = await assemble(ports, image, superblock, { ...report, problems });
    await emptyDamagedPages(opened.store, memory, image);
    return opened;
  } finally {
    io.close();
  }
}

/**
 * Empties the places of roots that were not believed. One of them may be the newest, and be whole the next time it is read; by
 * then what it leads to has been written over.
 */
async function forgetRoots(
  io: ControlIo,
  memory: Memory,
  at: number,
  { rootsLost, superblock }: StoreImage,
  path: string,
): Promise<void> {
  for (const place of rootsLost) {
    memory.bytes.fill(0, at, at + ROOT_BYTES);
    const written = await io.write(at, ROOT_BYTES, superblock.layout.rootOffset + place * ROOT_BYTES);
    const result = written < 0 ? written : await io.sync();
    if (result < 0) throw new StrakeError('IO', `${path}: emptying a damaged root failed`, { errno: -result });
  }
}

/**
 * Empties the pages of the journal that are damaged and not needed. When the journal came round to them, and ended there in a
 * crash, nobody could tell them from a batch that is missing. What cannot be written shows again when it is to hold a batch.
 *
 * Only now: the older of the two roots is the one that was replayed from, which does not need them. The one before may, and an
 * empty page would be an ordinary end to it. Nothing has been written to the journal since.
 */
async function emptyDamagedPages(store: SegmentStore, memory: Memory, image: StoreImage): Promise<void> {
  const { journalOffset } = image.superblock.layout;
  const at = store.controlMemory(0);
  for (const page of image.journal.damagedPages) {
    memory.bytes.fill(0, at, at + PAGE_BYTES);
    await store.io.write(at, PAGE_BYTES, journalOffset + page * PAGE_BYTES);
  }
}

async function assemble(
  ports: StorePorts,
  image: StoreImage,
  superblock: Superblock,
  recovery: RecoveryReport,
): Promise<OpenedStore> {
  const { journal, slots, root } = image;
  const start: StoreStart = {
    superblock,
    slots,
    directory: image.directory,
    slotPages: image.slotPages,
    volumePages: root.volumes,
    volumes: image.volumes,
    flushed: image.flushed,
    rootPlace: image.rootPlace,
    rootSequence: root.sequence,
    // Numbers of batches that were begun and not finished are not used again: nothing of theirs can be mistaken for
    // ours. What recovery decides is in no record, so the journal must not be replayed across it from an older root:
    // leaving a number out sees to that.
    journal: { page: journal.page, sequence: journal.sequenceMax + (recovery.changed ? 2 : 1) },
  };
  const store = new SegmentStore(ports, start);
  const checkpointer = new Checkpointer(store);
  store.volumes.forEach((volume, index) => {
    if (volume !== undefined) store.volumeTable.marks[index] = { generation: volume.generation, flushNumber: 0 };
  });
  store.counters.suspects = recovery.suspectBlocks;
  store.counters.dropped = recovery.droppedBlocks;
  store.counters.tablesDamaged = recovery.problems.filter(({ kind }) => kind === 'table').length;
  await takeOver(store, checkpointer, image);
  await store.runCheckpoint('all');
  if (store.failed) {
    store.dispose();
    throw new StrakeError('IO', 'the checkpoint after recovery failed', { errno: EIO });
  }
  return { store, checkpointer, recovery };
}

/**
 * Hands what the journal and recovery have changed to the store. What its cache cannot hold goes to the other places of the
 * tables at once, to which only the checkpoint's root will lead.
 */
async function takeOver(store: SegmentStore, checkpointer: Checkpointer, image: StoreImage): Promise<void> {
  for (const slot of image.changedSlots) store.changedSlots.add(slot);
  for (const index of image.changedVolumes) store.volumeTable.changed.add(index);
  for (const [slot, table] of image.tables) {
    if (image.slots.states[slot] === SLOT_FREE) continue;
    let page = store.tables.take(slot);
    if (page < 0) {
      await checkpointer.writeTables();
      page = store.tables.take(slot);
    }
    store.tables.words.set(table.words, store.tables.wordOf(page, 0));
    store.tables.setChanged(page);
  }
}

class Recovery {
  private readonly reader: ImageReader;
  private readonly image: StoreImage;
  private readonly io: ControlIo;
  private readonly memory: Memory;
  private readonly scratch: number;
  private suspectBlocks = 0;
  private droppedBlocks = 0;
  private changed = false;

  /** `scratch`: memory for slots that are compared, `CONTROL_PIECES` - 1 pieces and one for checksums. */
  constructor(reader: ImageReader, image: StoreImage, io: ControlIo, memory: Memory, scratch: number) {
    this.reader = reader;
    this.image = image;
    this.io = io;
    this.memory = memory;
    this.scratch = scratch;
  }

  async run(note: (problem: Problem) => void): Promise<Omit<RecoveryReport, 'problems'>> {
    const { image } = this;
    const { slots } = image;
    const doubtful: number[] = [];
    for (let slot = 0; slot < slots.slots; slot += 1) {
      if (slots.states[slot] !== SLOT_FREE && inDoubt(image, slot)) doubtful.push(slot);
    }
    const crashed = !image.clean && image.superblock.incarnation > 0;
    for (const slot of doubtful) {
      if (!image.tables.has(slot)) image.tables.set(slot, await loadTable(this.reader, image, slot, note));
      slots.flags[slot] |= SLOT_FLAG_DOUBT;
      image.changedSlots.add(slot);
    }
    await this.compareAll(doubtful);
    const { suspectBlocks, droppedBlocks, changed } = this;
    return { crashed, slotsInDoubt: doubtful.length, suspectBlocks, droppedBlocks, changed };
  }

  /** Compares several slots at once, each in a piece of memory of its own. */
  private async compareAll(doubtful: readonly number[]): Promise<void> {
    let next = 0;
    const worker = async (piece: number): Promise<void> => {
      while (next < doubtful.length) {
        const slot = doubtful[next];
        next += 1;
        await this.compare(slot, piece);
      }
    };
    await Promise.all(Array.from({ length: CONTROL_PIECES - 2 }, (_, piece) => worker(piece)));
  }

  private async compare(slot: number, piece: number): Promise<void> {
    const { layout } = this.image.superblock;
    const table = this.image.tables.get(slot) as TableImage;
    const valid = (block: number) => (table.words[block * ENTRY_WORDS + ENTRY_FLAGS] & BLOCK_VALID) !== 0;
    const blocks = slotBlocks(layout);
    let from = 0;
    while (from < blocks && !valid(from)) from += 1;
    let to = blocks;
    while (to > from && !valid(to - 1)) to -= 1;
    if (from === to) return;
    if (await this.compareRange(slot, table, piece, from, to)) return;
    // Somewhere in there is a block that cannot be read: the others are still worth comparing.
    for (let block = from; block < to; block += 1) {
      if (!valid(block) || (await this.compareRange(slot, table, piece, block, block + 1))) continue;
      this.unreadable(table, block);
    }
  }

  /** Reads blocks and compares the valid ones. Returns false if they cannot be read. */
  private async compareRange(
    slot: number,
    { words, firstIn }: TableImage,
    piece: number,
    from: number,
    to: number,
  ): Promise<boolean> {
    const { layout } = this.image.superblock;
    const memory = this.scratch + piece * CONTROL_PIECE_BYTES;
    const checksums = this.scratch + (CONTROL_PIECES - 2) * CONTROL_PIECE_BYTES + piece * PAGE_BYTES;
    const offset = layout.dataOffset + slot * layout.slotBytes + from * BLOCK_BYTES;
    const result = await this.io.read(memory, (to - from) * BLOCK_BYTES, offset, checksums);
    if (result < 0) return false;
    const found = new Uint32Array(this.memory.bytes.buffer, this.memory.bytes.byteOffset + checksums, to - from);
    for (let block = from; block < to; block += 1) {
      const word = block * ENTRY_WORDS;
      if ((words[word + ENTRY_FLAGS] & BLOCK_VALID) === 0) continue;
      if (found[block - from] !== words[word + ENTRY_CHECKSUM]) this.mismatch(words, firstIn, block);
    }
    return true;
  }

  /**
   * A block that cannot be read may be what its entry says, so its first write must not be taken for one that never
   * happened. Nor may its content be accepted later, unseen: it may be another volume's.
   */
  private unreadable({ words, firstIn }: TableImage, block: number): void {
    const young = Math.abs(firstIn[block]) > this.image.durableSequence;
    words[block * ENTRY_WORDS + ENTRY_FLAGS] = young ? BLOCK_POISON : BLOCK_VALID | BLOCK_SUSPECT;
    if (young) words[block * ENTRY_WORDS + ENTRY_CHECKSUM] = 0;
    else this.suspectBlocks += 1;
    this.changed = true;
  }

  private mismatch(words: Uint32Array, firstIn: Float64Array, block: number): void {
    const word = block * ENTRY_WORDS;
    this.changed = true;
    if (Math.abs(firstIn[block]) > this.image.durableSequence) {
      // Its first write was under way, and nobody was promised that it stays.
      words.fill(0, word, word + ENTRY_WORDS);
      if (firstIn[block] < 0) words[word + ENTRY_FLAGS] = BLOCK_POISON;
      this.droppedBlocks += 1;
    } else {
      words[word + ENTRY_FLAGS] |= BLOCK_SUSPECT;
      this.suspectBlocks += 1;
    }
  }
}
