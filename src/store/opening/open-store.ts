/**
 * Opening a device: reading what it says of itself, recovery after a crash, and the first checkpoint.
 *
 * Recovery, in steps; a crash in any of them leaves a device on which the same recovery succeeds again:
 *
 * 1. the superblocks get a new incarnation, and with it the feature `groups`, if the device is from before it (`migrate.ts`)
 * 2. tree and journal are read into memory
 * 3. the blocks of slots in doubt are read and compared with their entries. A first write that no flush is known to have
 *    covered, and whose content does not match, never happened. Any other mismatch makes its block suspect.
 * 4. a checkpoint makes the result the tree. Slots in doubt stay marked until their copies have been reconciled.
 */

import { check } from '../../core/check.js';
import { EIO } from '../../core/errno.js';
import { StrakeError } from '../../core/errors.js';
import type { SlotIndex } from '../../core/ids.js';
import type { Memory } from '../../ports/memory.js';
import { DEVICE_OPEN, PAGE_BYTES, ROOT_BYTES, SLOT_FREE } from '../format/format.js';
import { checkFeatures, type Superblock, SuperblockProblem, withGroups } from '../format/superblock.js';
import { type Checkpointer, writeSuperblocks } from '../running/checkpoint.js';
import { ControlIo } from '../running/control-io.js';
import { SegmentStore } from '../segment-store.js';
import { CONTROL_PIECE_BYTES, type StoreHooks, type StorePorts, type StoreStart } from '../store-start.js';
import { DeviceReader } from './device-reader.js';
import { type FoundSuperblock, findSuperblock } from './find-superblock.js';
import type { StoreImage } from './image.js';
import type { ImageReader } from './image-reader.js';
import { loadImage } from './load-image.js';
import { migrate } from './migrate.js';
import type { Problem } from './problems.js';
import { Recovery, type RecoveryReport } from './recovery.js';
import { takeBackStrays } from './strays.js';

/** A store that is open, with what recovery found. */
export interface OpenedStore {
  readonly store: SegmentStore;
  readonly checkpointer: Checkpointer;
  readonly recovery: RecoveryReport;
  /** The longest lease in ms that this life of the device grants to other processes; 0 for none. */
  readonly leaseMs: number;
  /** So long after opening leases may go on that former lives of the device have granted, in ms. */
  readonly formerLeaseMs: number;
}

/** What a device is expected to be. */
export interface Expectations {
  /** For messages. */
  readonly path: string;
  readonly clusterId?: string;
  readonly deviceId?: string;
  /** The longest lease in ms that this life of the device will grant to other processes; none if it is absent. */
  readonly leaseMs?: number;
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
export async function openStore(ports: StorePorts, expected: Expectations, hooks: StoreHooks): Promise<OpenedStore> {
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
    const migrated = migrate(image, expected.path);
    const strays = takeBackStrays(image);
    const report = await new Recovery(reader, image, io, memory, memoryStart + 2 * CONTROL_PIECE_BYTES).run(note);
    await forgetRoots(io, memory, memoryStart, image, expected.path);
    const superblock: Superblock = {
      ...found,
      incompatible: withGroups(found.incompatible),
      // A life that ends soon leaves what the one before has granted.
      leaseMs: Math.max(expected.leaseMs ?? 0, found.leaseMs),
      sequence: found.sequence + 1,
      incarnation: found.incarnation + 1,
      state: DEVICE_OPEN,
    };
    const written = await writeSuperblocks({ memory, io }, memoryStart, superblock);
    if (written < 0) throw new StrakeError('IO', `${expected.path}: writing superblocks failed`, { errno: -written });
    const opened = await assemble({
      ports,
      hooks,
      image,
      superblock,
      recovery: { ...report, problems, changed: report.changed || migrated || strays > 0 },
      leaseMs: expected.leaseMs ?? 0,
      formerLeaseMs: found.leaseMs,
    });
    await emptyDamagedPages(opened.store, memory, image);
    return opened;
  } finally {
    // Slots are compared side by side: where one cannot be, others are still being read.
    await io.idle();
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
  { rootsLost, rootPlace, superblock }: StoreImage,
  path: string,
): Promise<void> {
  for (const place of rootsLost) {
    check(place !== rootPlace, 'the root that counts is emptied', place);
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
  const { journalOffset, journalPages } = image.superblock.layout;
  const at = store.controlMemory(0);
  for (const page of image.journal.damagedPages) {
    check(page < journalPages, 'a page is emptied that is none of the journal', page);
    memory.bytes.fill(0, at, at + PAGE_BYTES);
    await store.io.write(at, PAGE_BYTES, journalOffset + page * PAGE_BYTES);
  }
}

/** Of what a store is assembled. */
interface StoreOf {
  readonly ports: StorePorts;
  readonly hooks: StoreHooks;
  readonly image: StoreImage;
  readonly superblock: Superblock;
  readonly recovery: RecoveryReport;
  readonly leaseMs: number;
  readonly formerLeaseMs: number;
}

async function assemble(parts: StoreOf): Promise<OpenedStore> {
  const { ports, hooks, image, superblock, recovery, leaseMs, formerLeaseMs } = parts;
  const { journal, slots, root } = image;
  const start: StoreStart = {
    superblock,
    slots,
    slotPages: image.slotPages,
    directory: image.directory,
    directoryIndex: image.directoryIndex,
    volumePages: image.volumePages,
    volumeDirectory: image.volumeDirectory,
    replicas: image.replicas,
    legacy: image.legacy,
    owners: image.owners,
    rootPlace: image.rootPlace,
    rootSequence: root.sequence,
    // Numbers of batches that were begun and not finished are not used again: nothing of theirs can be mistaken for
    // ours. What recovery and migration decide is in no record, so the journal must not be replayed across it from an older root:
    // leaving a number out sees to that.
    journal: { page: journal.page, sequence: journal.sequenceMax + (recovery.changed ? 2 : 1) },
  };
  check(
    start.journal.sequence > journal.sequenceMax,
    'a batch would have a number that has been',
    start.journal.sequence,
  );
  check(superblock.incarnation > image.superblock.incarnation, 'a device is opened under a life that has been');
  const store = new SegmentStore(ports, start, hooks);
  const { checkpointer } = store;
  store.counters.suspects = recovery.suspectBlocks;
  store.counters.dropped = recovery.droppedBlocks;
  store.counters.tablesDamaged = recovery.problems.filter(({ kind }) => kind === 'table').length;
  try {
    await takeOver(store, checkpointer, image);
    await store.runCheckpoint('all');
    if (store.failed) throw new StrakeError('IO', 'the checkpoint after recovery failed', { errno: EIO });
  } catch (error) {
    await store.quiet();
    store.dispose();
    throw error;
  }
  return { store, checkpointer, recovery, leaseMs, formerLeaseMs };
}

/**
 * Hands what the journal and recovery have changed to the store. What its cache cannot hold goes to the other places of the
 * tables at once, to which only the checkpoint's root will lead.
 */
async function takeOver(store: SegmentStore, checkpointer: Checkpointer, image: StoreImage): Promise<void> {
  for (const slot of image.changedSlots) store.changedSlots.add(slot);
  for (const index of image.changedVolumes) store.volumeTable.changed.add(index);
  for (const [number, table] of image.tables) {
    const slot = number as SlotIndex;
    if (image.slots.states[slot] === SLOT_FREE) continue;
    let page = store.tables.take(slot);
    if (page < 0) {
      await checkpointer.writeTables();
      page = store.tables.take(slot);
    }
    check(page >= 0, 'a block table finds no page though all are in the tree', slot);
    store.tables.words.set(table.words, store.tables.wordOf(page, 0));
    store.tables.setChanged(page);
  }
}
