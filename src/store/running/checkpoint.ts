/**
 * Checkpoints: what the journal holds goes into the tree, and the journal starts again.
 *
 * The steps, with what a crash between them leaves; modifications are held, and none is in flight:
 *
 * 1. flush: entries to the journal, one sync. The old tree and the journal say everything. Batches of flushes that are
 *    asked for meanwhile come after the place from which the new tree needs the journal.
 * 2. changed block tables, pages of slots, of the directory, of its index and of volumes to their other places. Nobody refers to
 *    them yet.
 * 3. sync.
 * 4. the root, to its other place. If it is not whole, the old one counts, and its journal is still there.
 * 5. sync. From now on the journal before this point may be written over.
 */

import { check } from '../../core/check.js';
import { EIO } from '../../core/errno.js';
import type { Memory } from '../../ports/memory.js';
import { type DirectoryKind, encodeDirectory } from '../format/directory.js';
import {
  DEVICE_CLEAN,
  DIRECTORY_ENTRIES,
  DIRECTORY_INDEX_MAGIC,
  DIRECTORY_MAGIC,
  PAGE_BYTES,
  pageOffset,
  ROOT_BYTES,
  SLOT_ENTRIES,
  SLOT_FREE,
  SLOT_USED,
  VOLUME_DIRECTORY_MAGIC,
} from '../format/format.js';
import type { Reference } from '../format/page.js';
import { encodeReplica } from '../format/replica-page.js';
import { encodeRoot, type Root, rootDirectoryPages } from '../format/root.js';
import { encodeSlots } from '../format/slot-page.js';
import { type Checksum, encodeSuperblock, type Superblock } from '../format/superblock.js';
import { BATCH_PAGES_MAX } from '../limits.js';
import { CONTROL_PIECE_BYTES, type StoreCounters, type StoreStart } from '../store-start.js';
import type { ActivityLog } from './activity-log.js';
import type { ControlIo } from './control-io.js';
import type { JournalPosition, JournalWriter } from './journal-writer.js';
import { SLOT_FLAG_PLACE, SLOT_FLAG_TABLE, type SlotTable } from './slot-table.js';
import type { TableCache } from './table-cache.js';
import type { VolumeTable } from './volume-table.js';
import type { YoungBlocks } from './young-blocks.js';

/** What a checkpoint needs of its store. */
export interface CheckpointedStore {
  readonly start: StoreStart;
  readonly superblock: Superblock;
  readonly memory: Memory;
  readonly io: ControlIo;
  readonly slots: SlotTable;
  readonly tables: TableCache;
  readonly journal: JournalWriter;
  readonly volumeTable: VolumeTable;
  readonly steps: { readonly log: ActivityLog; readonly young: YoungBlocks };
  /** Slots whose entries in the tree are not up to date. */
  readonly changedSlots: Set<number>;
  readonly counters: StoreCounters;
  /** Whether modifications have been refused since a failure. */
  readonly failed: boolean;
  controlMemory(piece: number): number;
  /** Makes durable what has ended, and writes to the journal how far it is. Both resolve with 0 or a negative errno. */
  flushed(): Promise<number>;
  noted(): Promise<number>;
  runCheckpoint(evict: 'half' | 'all'): Promise<void>;
  fail(result: number): void;
}

/** A device operation of a checkpoint has failed; a negative errno. */
class CheckpointFailure extends Error {
  readonly result: number;

  constructor(result: number) {
    super(`a checkpoint failed with ${result}`);
    this.result = result;
  }
}

function demand(result: number): void {
  if (result < 0) throw new CheckpointFailure(result);
}

/** The checksum of bytes of the arena, or of others by way of a page of it. */
export function arenaChecksum(store: Pick<CheckpointedStore, 'memory'>, scratch: number): Checksum {
  const { memory } = store;
  return (bytes) => {
    if (bytes.buffer === memory.bytes.buffer) {
      return memory.checksum(bytes.byteOffset - memory.bytes.byteOffset, bytes.length);
    }
    memory.bytes.set(bytes, scratch);
    return memory.checksum(scratch, bytes.length);
  };
}

/** A level of pages of references, with those that they hold; no pages where a device has no such level. */
interface Level {
  readonly kind: DirectoryKind;
  readonly region: number;
  readonly pages: Reference[];
  readonly below: readonly Reference[];
}

export class Checkpointer {
  private readonly store: CheckpointedStore;
  private readonly slotPages: Reference[];
  private readonly directory: Reference[];
  private readonly directoryIndex: Reference[];
  private readonly volumePages: Reference[];
  private readonly volumeDirectory: Reference[];
  private rootPlace: number;
  private sequence: number;
  /** As it is on the device. */
  private superblock: Superblock;
  /** The longest lease that is to be on record. */
  private wantedLeaseMs = 0;
  /** Next page of scratch memory; a piece is written when it is full. */
  private staged: { memory: number; offset: number }[] = [];

  constructor(store: CheckpointedStore) {
    const { start } = store;
    this.store = store;
    this.superblock = store.superblock;
    this.slotPages = start.slotPages;
    this.directory = start.directory;
    this.directoryIndex = start.directoryIndex;
    this.volumePages = start.volumePages;
    this.volumeDirectory = start.volumeDirectory;
    this.rootPlace = start.rootPlace;
    this.sequence = start.rootSequence;
  }

  /** Brings the tree up to date. Nothing may be modified meanwhile. A failure is told to the store, which ends with it. */
  async run(evict: 'half' | 'all'): Promise<void> {
    try {
      await this.write(evict);
    } catch (error) {
      if (!(error instanceof CheckpointFailure)) throw error;
      this.store.fail(error.result);
    }
  }

  private async write(evict: 'half' | 'all'): Promise<void> {
    const { store } = this;
    demand(await store.flushed());
    const { position } = store.journal;
    const sequence = this.sequence + 1;
    // Slots that stay in the activity log are written to without another batch. Where the new root is lost later, recovery
    // from the one before has to know that their first writes are durable. The number of this batch is no surprise to it:
    // a recovery, which may leave numbers out, keeps no slots.
    const noted = evict === 'half' ? store.noted() : Promise.resolve(0);
    await this.writeTables();
    await this.writeDirectory(sequence, await this.writeSlotPages(sequence));
    await this.writeVolumeDirectory(sequence, await this.writeVolumes(sequence));
    demand(await noted);
    demand(await store.io.sync());
    store.steps.log.evict(evict);
    await this.writeRoot(sequence, position);
    demand(await store.io.sync());
    check(this.sequence === sequence - 1, 'two checkpoints run at once', sequence);
    this.sequence = sequence;
    await this.writeLease();
    store.journal.releaseBefore(position);
    store.steps.young.forgetAll();
    store.counters.checkpoints += 1;
  }

  /**
   * Writes changed tables to their other places, from where they are: nothing changes them meanwhile. Until there is a root
   * that leads to them, this changes nothing. Throws `CheckpointFailure`.
   */
  async writeTables(): Promise<void> {
    const { store } = this;
    const { tables, slots } = store;
    const { layout } = store.superblock;
    const writes: Promise<number>[] = [];
    const pages = tables.changedPages();
    for (const page of pages) {
      const slot = tables.slotAt(page);
      if (slots.states[slot] === SLOT_FREE) continue;
      const memory = tables.memoryOf(page);
      slots.flags[slot] = (slots.flags[slot] | SLOT_FLAG_TABLE) ^ SLOT_FLAG_PLACE;
      slots.tableChecksums[slot] = store.memory.checksum(memory, PAGE_BYTES);
      store.changedSlots.add(slot);
      const place = (slots.flags[slot] & SLOT_FLAG_PLACE) !== 0 ? 1 : 0;
      writes.push(store.io.write(memory, PAGE_BYTES, pageOffset(layout.blockTableOffset, slot, place)));
    }
    for (const result of await Promise.all(writes)) demand(result);
    for (const page of pages) tables.setClean(page);
  }

  /** A page of scratch memory for what goes to `offset`; full pieces are written first. */
  private async stage(offset: number): Promise<Uint8Array> {
    if (this.staged.length * PAGE_BYTES === CONTROL_PIECE_BYTES) await this.writeStaged();
    const memory = this.store.controlMemory(0) + this.staged.length * PAGE_BYTES;
    const { layout } = this.store.superblock;
    const inTree = offset >= layout.volumeDirectoryOffset && offset + PAGE_BYTES <= layout.blockTableOffset;
    check(inTree, 'a page of the tree is written elsewhere', offset);
    this.staged.push({ memory, offset });
    return this.store.memory.bytes.subarray(memory, memory + PAGE_BYTES);
  }

  private async writeStaged(): Promise<void> {
    const staged = this.staged;
    this.staged = [];
    const { io } = this.store;
    const results = await Promise.all(staged.map(({ memory, offset }) => io.write(memory, PAGE_BYTES, offset)));
    for (const result of results) demand(result);
  }

  private referenceTo(page: Uint8Array, place: number): Reference {
    const { bytes } = this.store.memory;
    check(page.buffer === bytes.buffer, 'a page is referred to that is not in the arena');
    return {
      present: true,
      place,
      checksum: this.store.memory.checksum(page.byteOffset - bytes.byteOffset, PAGE_BYTES),
    };
  }

  private async writeSlotPages(sequence: number): Promise<Set<number>> {
    const { store } = this;
    const { layout, deviceId } = store.superblock;
    const changed = new Set<number>();
    for (const slot of store.changedSlots) changed.add(Math.floor(slot / SLOT_ENTRIES));
    store.changedSlots.clear();
    for (const index of changed) {
      check(index < this.slotPages.length, 'there is no such page of slots', index);
      const place = this.slotPages[index].place ^ 1;
      const page = await this.stage(pageOffset(layout.slotTableOffset, index, place));
      encodeSlots(page, { index, deviceId, sequence }, store.slots, store.volumeTable.owners.list);
      this.slotPages[index] = this.referenceTo(page, place);
    }
    await this.writeStaged();
    return changed;
  }

  /** Writes the pages of the directory, and of its index, that lead to pages of slots which have changed. */
  private async writeDirectory(sequence: number, slotPages: ReadonlySet<number>): Promise<void> {
    const { directory, directoryIndex, slotPages: below } = this;
    const { directoryOffset, directoryIndexOffset } = this.store.superblock.layout;
    const level: Level = { kind: DIRECTORY_MAGIC, region: directoryOffset, pages: directory, below };
    const changed = await this.writeLevel(level, sequence, slotPages);
    if (directoryIndex.length === 0) return;
    const upper = { region: directoryIndexOffset, pages: directoryIndex, below: directory };
    await this.writeLevel({ kind: DIRECTORY_INDEX_MAGIC, ...upper }, sequence, changed);
  }

  /** Likewise for volumes; without a volume directory the root refers to them. */
  private async writeVolumeDirectory(sequence: number, volumePages: ReadonlySet<number>): Promise<void> {
    const { volumeDirectory: pages, volumePages: below } = this;
    if (pages.length === 0) return;
    const region = this.store.superblock.layout.volumeDirectoryOffset;
    await this.writeLevel({ kind: VOLUME_DIRECTORY_MAGIC, region, pages, below }, sequence, volumePages);
  }

  /** Writes the pages of a level that lead to these pages below it. Returns which they are. */
  private async writeLevel(level: Level, sequence: number, changedBelow: ReadonlySet<number>): Promise<Set<number>> {
    const { deviceId } = this.store.superblock;
    const { kind, region, pages, below } = level;
    const changed = new Set([...changedBelow].map((index) => Math.floor(index / DIRECTORY_ENTRIES)));
    for (const index of changed) {
      check(index < pages.length, 'there is no such page of references', index);
      const reference = pages[index];
      check(reference !== undefined, 'pages have changed that no page of the directory leads to', index);
      const place = reference.place ^ 1;
      const page = await this.stage(pageOffset(region, index, place));
      const first = index * DIRECTORY_ENTRIES;
      const references = below.slice(first, first + DIRECTORY_ENTRIES);
      encodeDirectory(page, kind, { index, deviceId, sequence }, references);
      pages[index] = this.referenceTo(page, place);
    }
    await this.writeStaged();
    return changed;
  }

  private async writeVolumes(sequence: number): Promise<Set<number>> {
    const { store } = this;
    const { layout, deviceId } = store.superblock;
    const { volumeTable } = store;
    const changed = new Set(volumeTable.changed);
    // What changes from now on is for the next checkpoint, too.
    volumeTable.changed.clear();
    for (const index of changed) {
      check(index < this.volumePages.length, 'there is no such page of a volume', index);
      const reference = this.volumePages[index];
      const record = volumeTable.recordOf(index);
      const legacy = volumeTable.legacy.get(index);
      if (record === undefined && legacy === undefined) {
        this.volumePages[index] = { ...reference, present: false, checksum: 0 };
        continue;
      }
      const place = reference.place ^ 1;
      const page = await this.stage(pageOffset(layout.volumesOffset, index, place));
      if (record !== undefined) encodeReplica(page, { index, deviceId, sequence }, record);
      else if (legacy !== undefined) page.set(legacy.bytes);
      this.volumePages[index] = this.referenceTo(page, place);
    }
    await this.writeStaged();
    return changed;
  }

  private async writeRoot(sequence: number, position: JournalPosition): Promise<void> {
    const { store } = this;
    const { layout, deviceId } = store.superblock;
    const memory = store.controlMemory(0);
    const bytes = store.memory.bytes.subarray(memory, memory + ROOT_BYTES);
    const root: Root = {
      sequence,
      journalPage: position.page,
      journalSequence: position.sequence,
      durableSequence: position.sequence - 1,
      usedSlots: store.slots.usedSlots,
      directory: layout.directoryLevels === 0 ? this.directory : this.directoryIndex,
      volumes: layout.volumeDirectoryPages === 0 ? this.volumePages : this.volumeDirectory,
      active: [...store.steps.log.active],
    };
    const { completedSequence } = store.journal;
    check(this.staged.length === 0, 'a root is written before what it refers to', this.staged.length);
    check(
      completedSequence >= root.durableSequence,
      'a root counts batches as durable that are on their way',
      completedSequence,
    );
    const { length } = root.directory;
    check(length === rootDirectoryPages(layout), 'a root has a part of the directory', length);
    // Who reads the root refuses the first, and counts the second as damage: the device would be damaged by its own writer.
    check(position.page + BATCH_PAGES_MAX <= layout.journalPages, 'a root points beyond the journal', position.page);
    const free = root.active.find((slot) => store.slots.states[slot] !== SLOT_USED);
    check(free === undefined, 'a root lists an active slot that is not in use', free);
    encodeRoot(root, deviceId, bytes, arenaChecksum(store, memory + ROOT_BYTES));
    this.rootPlace ^= 1;
    demand(await store.io.write(memory, ROOT_BYTES, layout.rootOffset + this.rootPlace * ROOT_BYTES));
  }

  /**
   * Writes both superblocks, one after the other with a sync between. Throws `CheckpointFailure`. They change when the device
   * is opened, when it is closed in order, and when longer leases are granted.
   */
  async writeSuperblock(superblock: Superblock): Promise<void> {
    const { store } = this;
    check(
      superblock.sequence > this.superblock.sequence,
      'a superblock is not newer than the last',
      superblock.sequence,
    );
    const result = await writeSuperblocks(store, store.controlMemory(0), superblock);
    if (result < 0) throw new CheckpointFailure(result);
    this.superblock = superblock;
  }

  /** Longer leases are to be granted than the device has on record. */
  private async writeLease(): Promise<void> {
    const { superblock, wantedLeaseMs: leaseMs } = this;
    if (leaseMs <= superblock.leaseMs) return;
    await this.writeSuperblock({ ...superblock, sequence: superblock.sequence + 1, leaseMs });
  }

  /** The longest lease that is on record. */
  get leaseMs(): number {
    return this.superblock.leaseMs;
  }

  /**
   * Makes durable that leases are granted of at most this length: with a checkpoint, whose memory is used. A crash amid it leaves
   * one of two superblocks that has it, or none, and then none was granted. Returns 0 or a negative errno.
   */
  async raiseLease(leaseMs: number): Promise<number> {
    const { store } = this;
    this.wantedLeaseMs = Math.max(this.wantedLeaseMs, leaseMs);
    await store.runCheckpoint('half');
    if (store.failed) return -EIO;
    check(this.leaseMs >= leaseMs, 'a checkpoint has not put a lease on record', leaseMs);
    return 0;
  }

  /**
   * Closes the device in order: nothing has to be recovered the next time. `leaseMs`: the longest lease that may go on. Returns 0
   * or a negative errno.
   */
  async close(leaseMs = this.leaseMs): Promise<number> {
    const { store } = this;
    await store.runCheckpoint('all');
    if (store.failed) return -EIO;
    try {
      const { superblock } = this;
      const sequence = superblock.sequence + 1;
      await this.writeSuperblock({ ...superblock, sequence, leaseMs, state: DEVICE_CLEAN });
      return 0;
    } catch (error) {
      if (error instanceof CheckpointFailure) return error.result;
      throw error;
    }
  }
}

/** Writes the copy, then the first superblock, each followed by a sync. Returns 0 or a negative errno. */
export async function writeSuperblocks(
  store: Pick<CheckpointedStore, 'memory' | 'io'>,
  memory: number,
  superblock: Superblock,
): Promise<number> {
  const page = store.memory.bytes.subarray(memory, memory + PAGE_BYTES);
  encodeSuperblock(superblock, page, arenaChecksum(store, memory + PAGE_BYTES));
  for (const offset of [superblock.layout.copyOffset, 0]) {
    const written = await store.io.write(memory, PAGE_BYTES, offset);
    const result = written < 0 ? written : await store.io.sync();
    if (result < 0) return result;
  }
  return 0;
}
