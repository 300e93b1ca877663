/**
 * The segment store of one device: the only one that writes to it.
 *
 * ```text
 *   write   table in memory? ─► intent durable? ─► data ─► entry ─► first write: its record in the journal ─► reply
 *   flush   changed entries to the journal ─► complete ─► one sync of the device ─► reply
 *   read    table in memory? ─► data ─► checksums agree? ─► reply
 * ```
 *
 * What a crash between two steps leaves:
 *
 * 1. Before a slot is written to for the first time since it was clean, a durable *intent* says so. After a crash all blocks of
 *    such slots, and no others, may differ from their entries.
 * 2. A block's first write puts its entry into the journal before it is acknowledged, so it survives the death of the
 *    process. Until a sync has covered it, and a durable batch says so, recovery believes it only if the content matches: what
 *    a new slot holds may be another volume's. Such a block is *young*; it is not written again before it is old.
 * 3. A later write changes content and, in memory, entry. The journal gets the entry at the next flush. After a crash the
 *    content may match no entry: then it is *suspect*, and is compared with other copies or accepted.
 * 4. A slot that is given back can be given away again only when the record of that is durable.
 *
 * Checkpoints bring the tree up to date, and make room in the journal and in the activity log. Modifications are held meanwhile;
 * reads are not.
 *
 * Fault model: the device may fail any operation, lose what no sync covered, tear writes at sectors, and return anything on
 * reads. A failed sync, or a failed write of the journal or the tree, ends all modifications for good.
 */

import { EBUSY, EIO, ENOENT, ENOSPC } from '../core/errno.js';
import { BLOCK_BYTES, STORE_EARLY_BLOCKS_MAX, STORE_OPERATIONS_MAX } from '../core/limits.js';
import type { CompletionPort } from '../ports/completion.js';
import { type Device, FENCE_WRITES } from '../ports/device.js';
import type { Memory } from '../ports/memory.js';
import {
  BLOCK_POISON,
  BLOCK_SUSPECT,
  BLOCK_VALID,
  BLOCK_ZERO,
  ENTRY_CHECKSUM,
  ENTRY_FLAGS,
  ENTRY_STAMP_HIGH,
  ENTRY_STAMP_LOW,
  ENTRY_WORDS,
  type FlushMark,
  isVacant,
  SEGMENT_FUA,
  SEGMENT_KEEP,
  ZERO_KEPT,
} from '../ports/segments.js';
import { ActivityLog } from './activity-log.js';
import { ControlIo } from './control-io.js';
import { ACTIVE_SLOTS_MAX, PAGE_BYTES, slotBlocks, TABLE_ENTRIES } from './format.js';
import { FreedSlots } from './freed-slots.js';
import { Intents } from './intents.js';
import {
  PAGE_BLOCK_RECORDS,
  RECORD_FLAG_FIRST,
  RECORD_FLAG_POISON,
  RECORD_FREE,
  VOLUME_CHUNK_BYTES,
} from './journal.js';
import { JOURNAL_WRITER_BYTES, type JournalPosition, JournalWriter } from './journal-writer.js';
import { encodeVolume, memberOf, type Reference, type StoredVolume } from './pages.js';
import { PendingEntries } from './pending-entries.js';
import { SLOT_FLAG_DOUBT, type SlotTable } from './slot-table.js';
import { StoreFlush } from './store-flush.js';
import {
  OP_ACCEPT,
  OP_ACCEPT_RANGE,
  OP_ALLOCATE,
  OP_ENTRIES,
  OP_POISON,
  OP_READ,
  OP_RELEASE,
  OP_WRITE,
  OP_ZERO,
  StoreOp,
  saveSource,
  WAIT_DURABLE,
  WAIT_INTENT,
  WAIT_RECORDS,
  WAIT_SPACE,
} from './store-op.js';
import type { Superblock } from './superblock.js';
import { inSet, TableCache } from './table-cache.js';
import { TableLoader } from './table-loader.js';
import { TRANSFER_AREAS_BYTES, Transfers } from './transfers.js';
import { VolumeTable } from './volume-table.js';
import { YoungBlocks } from './young-blocks.js';

/** Block tables in memory. */
const TABLE_PAGES = ACTIVE_SLOTS_MAX + 256;
/**
 * Pages of the journal beyond what is reserved: admitted modifications leave so many for marks of flushes and for notes, and
 * these leave some for a checkpoint, which makes room.
 */
const SPARE_PAGES = 12;
const SPARE_PAGES_LOW = 8;
/** Pages of a volume's map in the journal, with what lies in a batch before it. */
const MAP_PAGES = 4;
/** Memory for opening, checkpoints and scrubbing. */
export const CONTROL_PIECES = 4;
export const CONTROL_PIECE_BYTES = 1 << 20;
/** Memory of one store in the arena, from a page on. */
export const STORE_MEMORY_BYTES =
  TableCache.memoryBytes(TABLE_PAGES) +
  JOURNAL_WRITER_BYTES +
  TRANSFER_AREAS_BYTES +
  (1 + CONTROL_PIECES) * CONTROL_PIECE_BYTES;

/** Counts since the device was opened. */
export interface StoreCounters {
  checkpoints: number;
  batches: number;
  checksumErrors: number;
  tablesDamaged: number;
  suspects: number;
  dropped: number;
}

/** The state with which a store begins: what was read from the device, and recovered. */
export interface StoreStart {
  readonly superblock: Superblock;
  readonly slots: SlotTable;
  readonly directory: Reference[];
  readonly slotPages: Reference[];
  readonly volumePages: Reference[];
  readonly volumes: (StoredVolume | undefined)[];
  readonly flushed: FlushMark[];
  readonly rootPlace: number;
  readonly rootSequence: number;
  readonly journal: JournalPosition;
}

/** Ports and memory of a store. */
export interface StorePorts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly device: Device;
  /** Start of `STORE_MEMORY_BYTES`. */
  readonly memoryStart: number;
  /** Smaller bounds than the usual ones, for tests of what happens at them. */
  readonly bounds?: StoreBounds;
}

/** Slots in the activity log, block tables in memory, which have to be more, and volumes. */
export interface StoreBounds {
  readonly activeSlots: number;
  readonly tablePages: number;
  readonly volumes?: number;
}

export class SegmentStore {
  readonly superblock: Superblock;
  readonly device: Device;
  readonly io: ControlIo;
  /** @internal */
  readonly memory: Memory;
  /** @internal */
  readonly slots: SlotTable;
  /** @internal */
  readonly tables: TableCache;
  /** @internal */
  readonly journal: JournalWriter;
  /** @internal */
  readonly volumeTable: VolumeTable;
  /** Slots whose entries in the tree are not up to date. @internal */
  readonly changedSlots = new Set<number>();
  readonly counters: StoreCounters = {
    checkpoints: 0,
    batches: 0,
    checksumErrors: 0,
    tablesDamaged: 0,
    suspects: 0,
    dropped: 0,
  };
  /** Told of damage that was met while serving. */
  onDamage: (text: string) => void = () => {};
  /** Brings the tree up to date; set by whoever assembles the store. @internal */
  checkpoint: (evict: 'half' | 'all') => Promise<void> = () => Promise.resolve();
  /** @internal */
  readonly start: StoreStart;
  private readonly completions: CompletionPort;
  private readonly blocks: number;
  private readonly controlStart: number;
  private readonly ops: StoreOp[] = [];
  private readonly freeOps: StoreOp[] = [];
  private readonly transfers: Transfers;
  private readonly loader: TableLoader;
  /** Modifications in progress, by slot and together. */
  private readonly busy: Uint16Array;
  private modifying = 0;
  /** Pages of the journal that modifications in progress may still fill. */
  private reservedPages = 0;
  private running = 0;
  private readonly log: ActivityLog;
  private readonly intents: Intents;
  private readonly allocations = new Map<number, StoreOp[]>();
  private readonly freed: FreedSlots;
  /** Allocations for which no slot is free before something has been discarded. */
  private readonly waitingForSweep: StoreOp[] = [];
  private readonly pending: PendingEntries;
  private readonly flushes: StoreFlush;
  private readonly young: YoungBlocks;
  private readonly earlyWords = new Uint32Array(ENTRY_WORDS);
  private readonly held: StoreOp[] = [];
  private holding = false;
  /** Checkpoints that run or wait, and the last of them. */
  private checkpointsAsked = 0;
  private checkpoints: Promise<void> = Promise.resolve();
  private onQuiet: (() => void) | null = null;
  private onIdle: (() => void) | null = null;
  private readonly waitingForRoom: StoreOp[] = [];
  private readonly waitingMaps: (() => void)[] = [];
  private readonly waitingMarks: { readonly token: number; readonly volume: number }[] = [];
  private roomCallbacks: (() => void)[] = [];
  /** Whether the caller of an operation is still on the stack, so that its end has to wait. */
  private entered = 0;
  private failure = 0;
  private closed = false;

  constructor(ports: StorePorts, start: StoreStart) {
    const { completions, memory, device, memoryStart } = ports;
    const { superblock, slots } = start;
    const { layout } = superblock;
    this.start = start;
    this.superblock = superblock;
    this.completions = completions;
    this.memory = memory;
    this.device = device;
    this.slots = slots;
    this.volumeTable = new VolumeTable(start.volumes, start.flushed, slots, ports.bounds?.volumes);
    this.blocks = slotBlocks(layout);
    this.io = new ControlIo(completions, device);
    this.freed = new FreedSlots({
      discard: device.geometry.discard ? (slot) => this.discardSlot(slot) : null,
      onFree: () => this.resumeAllocations(),
    });
    const { activeSlots, tablePages } = ports.bounds ?? { activeSlots: ACTIVE_SLOTS_MAX, tablePages: TABLE_PAGES };
    this.log = new ActivityLog(layout.slots, activeSlots);
    const pages = Math.min(tablePages, layout.slots);
    this.tables = new TableCache(memory, memoryStart, pages, layout.slots);
    const journalStart = memoryStart + TableCache.memoryBytes(TABLE_PAGES);
    this.journal = new JournalWriter(completions, memory, device, layout, superblock, journalStart, start.journal);
    this.journal.onRoom = () => this.useRoom();
    this.journal.onFailure = (result) => this.fail(result);
    this.intents = new Intents(this.log, slots, this.journal, (slot) => this.allocations.has(slot));
    this.young = new YoungBlocks(this.tables, this.journal, (op, result) => this.endAging(op, result));
    this.pending = new PendingEntries(this.tables, slots, this.journal);
    this.flushes = new StoreFlush({
      completions,
      journal: this.journal,
      slots,
      pending: this.pending,
      volumes: this.volumeTable,
      onDurable: () => this.sweepFreed(),
    });
    const areasStart = journalStart + JOURNAL_WRITER_BYTES;
    this.controlStart = areasStart + TRANSFER_AREAS_BYTES;
    this.busy = new Uint16Array(layout.slots);
    this.transfers = new Transfers({
      completions,
      memory,
      device,
      layout,
      tables: this.tables,
      pending: this.pending,
      changedSlots: this.changedSlots,
      areasStart,
      acceptedStart: this.controlStart + CONTROL_PIECES * CONTROL_PIECE_BYTES,
      opAt: (index) => this.ops[index],
      finish: (op, result) => this.finish(op, result),
      finishLater: (op, result) => this.finishLater(op, result),
      onMismatch: () => {
        this.counters.checksumErrors += 1;
      },
      onWrite: (op) => {
        if (this.flushes.eager && op.blocks <= STORE_EARLY_BLOCKS_MAX) this.journalEarly(op);
      },
      transferred: (op) => this.setEntries(op),
    });
    this.loader = this.newLoader();
  }

  private newLoader(): TableLoader {
    return new TableLoader({
      completions: this.completions,
      memory: this.memory,
      device: this.device,
      layout: this.superblock.layout,
      slots: this.slots,
      tables: this.tables,
      onWait: (op) => saveSource(this.memory, op),
      onReady: (op) => this.haveTable(op),
      onFailed: (op, result) => this.finish(op, result),
      onPage: (op) => this.havePage(op),
      onDamage: (slot) => this.noteDamagedTable(slot),
    });
  }

  /** Memory for control work. */
  controlMemory(piece: number): number {
    return this.controlStart + piece * CONTROL_PIECE_BYTES;
  }

  /** Volumes by index. @internal */
  get volumes(): readonly (StoredVolume | undefined)[] {
    return this.volumeTable.volumes;
  }

  /** Operations in flight. */
  get outstanding(): number {
    return this.running;
  }

  /** `FENCE_*`. */
  fence(): number {
    const fence = this.device.fence();
    return this.failure !== 0 ? Math.max(fence, FENCE_WRITES) : fence;
  }

  /** Free slots, those that are about to be usable included. */
  get freeSlots(): number {
    return this.slots.freeSlots;
  }

  /** Slots that may be written to without another intent. @internal */
  get active(): readonly number[] {
    return this.log.active;
  }

  // ---------------------------------------------------------------- beginnings

  /** An operation with its common fields set. */
  private begin(kind: number, volume: number, stripe: number, token: number): StoreOp | null {
    const op = this.freeOps.pop() ?? this.newOp();
    if (op === null) {
      this.completions.defer(token, -EBUSY);
      return null;
    }
    op.kind = kind;
    op.volume = volume;
    op.stripe = stripe;
    op.slot = -1;
    op.block = 0;
    op.blocks = 0;
    op.token = token;
    op.page = -1;
    op.area = -1;
    op.flags = 0;
    op.release = false;
    op.source = -1;
    op.stamps = null;
    op.early = false;
    op.result = 0;
    op.resultFlags = 0;
    op.next = 0;
    op.admitted = false;
    this.running += 1;
    return op;
  }

  private newOp(): StoreOp | null {
    if (this.ops.length === STORE_OPERATIONS_MAX) return null;
    const op = new StoreOp(this.ops.length, (one, result) => this.proceed(one, result));
    this.ops.push(op);
    return op;
  }

  has(volume: number, stripe: number): boolean {
    const slot = this.slots.find(volume, stripe);
    return slot >= 0 && !this.allocations.has(slot);
  }

  read(volume: number, stripe: number, block: number, blocks: number, memory: number, token: number): void {
    const op = this.begin(OP_READ, volume, stripe, token);
    if (op === null) return;
    op.block = block;
    op.blocks = blocks;
    op.memory = memory;
    this.entered += 1;
    op.slot = this.slots.find(volume, stripe);
    if (op.slot < 0) this.transfers.endZeroes(op);
    else this.loader.load(op);
    this.entered -= 1;
  }

  /** Copies the entries of a segment to `words`; none are set for a segment without a slot. */
  entries(volume: number, stripe: number, words: Uint32Array, token: number): void {
    const op = this.begin(OP_ENTRIES, volume, stripe, token);
    if (op === null) return;
    op.target = words;
    this.entered += 1;
    op.slot = this.slots.find(volume, stripe);
    if (op.slot < 0) this.finish(op, 0);
    else this.loader.load(op);
    this.entered -= 1;
  }

  write(
    volume: number,
    stripe: number,
    block: number,
    blocks: number,
    memory: number,
    source: number,
    stampLow: number,
    stampHigh: number,
    flags: number,
    token: number,
    stamps: Uint32Array | null = null,
  ): void {
    const op = this.begin(OP_WRITE, volume, stripe, token);
    if (op === null) {
      if (source >= 0) this.memory.copy(memory, source, blocks * BLOCK_BYTES);
      return;
    }
    op.stamps = stamps;
    op.block = block;
    op.blocks = blocks;
    op.memory = memory;
    op.source = source;
    op.stampLow = stampLow;
    op.stampHigh = stampHigh;
    op.flags = flags;
    this.modify(op);
  }

  zero(
    volume: number,
    stripe: number,
    block: number,
    blocks: number,
    release: boolean,
    stampLow: number,
    stampHigh: number,
    flags: number,
    token: number,
  ): void {
    const op = this.begin(OP_ZERO, volume, stripe, token);
    if (op === null) return;
    op.block = block;
    op.blocks = blocks;
    op.release = release;
    op.stampLow = stampLow;
    op.stampHigh = stampHigh;
    op.flags = flags;
    this.modify(op);
  }

  allocate(volume: number, stripe: number, token: number): void {
    const op = this.begin(OP_ALLOCATE, volume, stripe, token);
    if (op !== null) this.modify(op);
  }

  /** Ends doubt about a block. `kind`: `OP_ACCEPT` or `OP_POISON`. @internal */
  settle(
    kind: typeof OP_ACCEPT | typeof OP_POISON,
    volume: number,
    stripe: number,
    block: number,
    stampLow: number,
    stampHigh: number,
    token: number,
  ): void {
    const op = this.begin(kind, volume, stripe, token);
    if (op === null) return;
    op.block = block;
    op.blocks = 1;
    op.stampLow = stampLow;
    op.stampHigh = stampHigh;
    this.modify(op);
  }

  /** Takes the content of all suspect blocks of a range as it is, by way of `memory`. */
  accept(volume: number, stripe: number, block: number, blocks: number, memory: number, token: number): void {
    const op = this.begin(OP_ACCEPT_RANGE, volume, stripe, token);
    if (op === null) return;
    op.block = block;
    op.blocks = blocks;
    op.memory = memory;
    this.modify(op);
  }

  release(volume: number, stripe: number, token: number): void {
    const op = this.begin(OP_RELEASE, volume, stripe, token);
    if (op !== null) this.modify(op);
  }

  /** Admits a modification, or holds it while a checkpoint runs. */
  private modify(op: StoreOp): void {
    this.entered += 1;
    if (this.failure !== 0) this.finish(op, this.failure);
    else if (this.holding || this.mustCheckpoint(op)) this.hold(op);
    else this.admit(op);
    this.entered -= 1;
  }

  private hold(op: StoreOp): void {
    saveSource(this.memory, op);
    this.held.push(op);
    if (!this.holding) this.beginCheckpoint();
  }

  /**
   * Pages of the journal that nothing under way may need. Whatever is begun has its room: in the middle of an operation it is
   * too late for a checkpoint, which waits until none is in progress.
   */
  private get sparePages(): number {
    return this.journal.freePages - this.reservedPages - this.pending.pages - this.young.pages;
  }

  private mustCheckpoint(op: StoreOp): boolean {
    const slot = this.slots.find(op.volume, op.stripe);
    if (this.log.inUse >= this.log.max && (slot < 0 || !this.log.covers(slot))) return true;
    // Its records, a stamp and the intent of its slot may each go in a batch of their own.
    const intent = slot >= 0 && this.log.has(slot) ? 0 : 1;
    op.pages = Math.ceil((op.blocks + 1) / PAGE_BLOCK_RECORDS) + 1 + intent;
    return this.sparePages < op.pages + SPARE_PAGES;
  }

  private admit(op: StoreOp): void {
    op.admitted = true;
    this.modifying += 1;
    this.reservedPages += op.pages;
    if (op.kind === OP_ALLOCATE) {
      this.log.expected += 1;
      this.beginAllocation(op);
      return;
    }
    op.slot = this.slots.find(op.volume, op.stripe);
    if (op.slot < 0) {
      this.finish(op, op.kind === OP_ZERO || op.kind === OP_RELEASE ? 0 : -ENOENT);
      return;
    }
    this.busy[op.slot] += 1;
    this.log.claim(op.slot);
    this.loader.load(op);
  }

  // ---------------------------------------------------------------- block tables

  private noteDamagedTable(slot: number): void {
    this.counters.tablesDamaged += 1;
    this.onDamage(`the block table of slot ${slot} is damaged: its blocks are unreadable`);
  }

  /** There may be a page for an operation that has waited for one. */
  private havePage(op: StoreOp): void {
    if (op.kind === OP_ALLOCATE) this.beginAllocation(op);
    else this.loader.load(op);
  }

  private haveTable(op: StoreOp): void {
    if (op.kind === OP_READ) {
      this.transfers.read(op);
      return;
    }
    if (op.kind === OP_ENTRIES) {
      const start = this.tables.wordOf(op.page, 0);
      op.target?.set(this.tables.words.subarray(start, start + this.blocks * ENTRY_WORDS));
      op.target = null;
      this.finish(op, 0);
      return;
    }
    if (this.young.meets(op)) {
      saveSource(this.memory, op);
      // A checkpoint makes everything old as well.
      if (this.sparePages < SPARE_PAGES_LOW) this.putBack(op);
      else this.young.hold(op);
      return;
    }
    if (this.log.has(op.slot)) {
      this.log.touch(op.slot);
      this.haveIntent(op);
    } else {
      this.beginIntent(op);
    }
  }

  /** Holds a modification that has changed nothing yet. */
  private putBack(op: StoreOp): void {
    this.loader.letGo(op.page);
    op.page = -1;
    this.leave(op);
    this.hold(op);
    this.endModification();
  }

  private endAging(op: StoreOp, result: number): void {
    if (result < 0) this.finish(op, result);
    else this.haveTable(op);
  }

  // ---------------------------------------------------------------- intents and allocation

  private beginIntent(op: StoreOp): void {
    saveSource(this.memory, op);
    if (this.intents.join(op)) this.writeIntent(op);
  }

  private writeIntent(op: StoreOp): void {
    op.waiting = WAIT_INTENT;
    if (!this.intents.write(op)) this.waitForRoom(op);
  }

  private endIntent(op: StoreOp, result: number): void {
    for (const other of this.intents.end(op.slot, result)) {
      if (result < 0) this.finish(other, result);
      else this.haveTable(other);
    }
  }

  private endAllocation(op: StoreOp, result: number): void {
    const waiting = this.allocations.get(op.slot) ?? [];
    this.allocations.delete(op.slot);
    if (result === 0) this.log.add(op.slot);
    for (const other of waiting) this.finish(other, result);
  }

  private beginAllocation(op: StoreOp): void {
    const { slots, tables, journal } = this;
    const existing = slots.find(op.volume, op.stripe);
    if (existing >= 0) {
      const waiting = this.allocations.get(existing);
      if (waiting === undefined) this.finish(op, 0);
      else waiting.push(op);
      return;
    }
    const volume = this.volumes[op.volume];
    if (volume === undefined) throw new Error('an allocation for a volume that is not here');
    // A page that a read still holds shows its old owner's entries.
    if (slots.freeSlots === this.freed.size) {
      this.waitForSpace(op);
      return;
    }
    const slot = slots.findFree((free) => !this.freed.has(free) && tables.find(free) < 0);
    if (slot < 0) {
      // Slots that are free, but for a read that still looks at the table of their last owner.
      this.loader.awaitPage(op);
      return;
    }
    const page = tables.take(slot);
    if (page < 0) {
      this.loader.awaitPage(op);
      return;
    }
    op.waiting = WAIT_INTENT;
    const member = memberOf(volume, this.superblock.deviceId);
    if (!journal.batch.addAllocate(slot, volume.id, member, op.stripe)) {
      this.waitForRoom(op);
      return;
    }
    slots.assign(slot, op.volume, op.stripe, member);
    tables.clear(page);
    tables.pin(page);
    tables.setChanged(page);
    this.busy[slot] += 1;
    op.slot = slot;
    op.page = page;
    this.changedSlots.add(slot);
    this.allocations.set(slot, [op]);
    journal.whenSynced(journal.batch.sequence, op);
  }

  /** No slot is free. Those that were given back are, once the record of that is durable. */
  private waitForSpace(op: StoreOp): void {
    if (this.freed.size === 0) {
      this.finish(op, -ENOSPC);
      return;
    }
    op.waiting = WAIT_SPACE;
    this.journal.whenSynced(this.journal.lastSequence, op);
  }

  /** Slots whose records are durable become free for use. */
  private sweepFreed(): void {
    if (this.failure === 0) this.freed.advance(this.journal.durableSequence);
  }

  private discardSlot(slot: number): Promise<number> {
    const { layout } = this.superblock;
    return this.io.discard(layout.dataOffset + slot * layout.slotBytes, layout.slotBytes);
  }

  private resumeAllocations(): void {
    if (this.closed) return;
    const waiting = this.waitingForSweep.splice(0);
    for (const op of waiting) this.beginAllocation(op);
  }

  private haveIntent(op: StoreOp): void {
    switch (op.kind) {
      case OP_WRITE:
      case OP_ACCEPT:
      case OP_ACCEPT_RANGE:
        this.transfers.start(op);
        break;
      case OP_ZERO:
        this.endZero(op);
        break;
      case OP_RELEASE:
        this.freeSlot(op);
        break;
      default:
        this.setEntries(op);
    }
  }

  /** What is filled is so when the batch is handed over, and only then may anybody be told. */
  private finishLater(op: StoreOp, result: number): void {
    this.entered += 1;
    this.finish(op, result);
    this.entered -= 1;
  }

  // ---------------------------------------------------------------- entries

  /**
   * Enters what an operation has done. A block that was valid before gets its record with the next flush; any other at
   * once, and the operation ends when the journal has it.
   */
  private setEntries(op: StoreOp): void {
    const { tables, journal } = this;
    const { words } = tables;
    for (; op.next < op.blocks; op.next += 1) {
      const block = op.block + op.next;
      const word = tables.wordOf(op.page, block);
      if (op.kind === OP_ACCEPT_RANGE && !isDoubtful(words[word + ENTRY_FLAGS])) continue;
      const later = op.kind === OP_WRITE && words[word + ENTRY_FLAGS] === BLOCK_VALID;
      // Not before the batch has room: nothing must be seen in memory that a checkpoint could not find in the journal.
      if (!later && journal.batch.sectorsLeft < 1) {
        op.waiting = WAIT_RECORDS;
        this.waitForRoom(op);
        return;
      }
      const first = op.kind === OP_WRITE && (words[word + ENTRY_FLAGS] & BLOCK_VALID) === 0;
      const poison = (words[word + ENTRY_FLAGS] & BLOCK_POISON) !== 0 ? RECORD_FLAG_POISON : 0;
      this.setEntry(op, word);
      if (later) {
        if (!op.early) this.pending.add(op.slot, op.page, block);
        continue;
      }
      journal.batch.addBlock(op.slot, block, words, word, first ? RECORD_FLAG_FIRST | poison : 0);
      if (first) this.young.add(op.slot, op.page, block);
      op.waiting = WAIT_RECORDS;
    }
    this.noteChange(op);
    if (op.waiting === WAIT_RECORDS) {
      journal.whenComplete(op);
      return;
    }
    if (this.flushes.eager && !op.early) this.flushes.journalEagerly();
    this.endRecords(op);
  }

  /**
   * Sends the records of an overwrite along with its data, so that a flush finds both done. If a crash leaves the one without
   * the other, content and entry differ, as they may for all slots in the activity log. The payload has to be where the
   * caller said, and not in a copy that is still to be made.
   */
  private journalEarly(op: StoreOp): void {
    const { tables, journal } = this;
    for (let block = op.block; block < op.block + op.blocks; block += 1) {
      if (tables.words[tables.wordOf(op.page, block) + ENTRY_FLAGS] !== BLOCK_VALID) return;
      // A flush that comes before the data is written would put the older entry behind this one.
      if (inSet(tables.pending, op.page, block)) return;
    }
    if (journal.batch.sectorsLeft < 2) return;
    const { earlyWords } = this;
    for (let index = 0; index < op.blocks; index += 1) {
      earlyWords[ENTRY_CHECKSUM] = this.memory.checksum(op.source + index * BLOCK_BYTES, BLOCK_BYTES);
      earlyWords[ENTRY_FLAGS] = BLOCK_VALID;
      earlyWords[ENTRY_STAMP_LOW] = op.stampLow;
      earlyWords[ENTRY_STAMP_HIGH] = op.stampHigh;
      journal.batch.addBlock(op.slot, op.block + index, earlyWords, 0, 0);
    }
    this.stamp(op.slot, op.volume);
    this.pending.writeStamp(op.slot);
    op.early = true;
    this.flushes.countEager(op.blocks);
    journal.makeRoom();
  }

  private setEntry(op: StoreOp, word: number): void {
    const { words } = this.tables;
    switch (op.kind) {
      case OP_ZERO:
        words[word + ENTRY_CHECKSUM] = (op.flags & SEGMENT_KEEP) !== 0 ? ZERO_KEPT : 0;
        words[word + ENTRY_FLAGS] = BLOCK_ZERO;
        break;
      case OP_POISON:
        words[word + ENTRY_CHECKSUM] = 0;
        words[word + ENTRY_FLAGS] = BLOCK_POISON;
        break;
      default:
        words[word + ENTRY_CHECKSUM] = this.transfers.checksums[op.area * TABLE_ENTRIES + op.next];
        words[word + ENTRY_FLAGS] = BLOCK_VALID;
    }
    if (op.kind === OP_ACCEPT_RANGE) return;
    const { stamps } = op;
    const at = op.next * ENTRY_WORDS;
    words[word + ENTRY_STAMP_LOW] = stamps === null ? op.stampLow : stamps[at + ENTRY_STAMP_LOW];
    words[word + ENTRY_STAMP_HIGH] = stamps === null ? op.stampHigh : stamps[at + ENTRY_STAMP_HIGH];
  }

  private noteChange(op: StoreOp): void {
    this.tables.setChanged(op.page);
    this.stamp(op.slot, op.volume);
  }

  private stamp(slot: number, volume: number): void {
    const { slots } = this;
    this.changedSlots.add(slot);
    const { generation, flushNumber } = this.volumeTable.marks[volume];
    if (slots.generations[slot] === generation && slots.flushNumbers[slot] === flushNumber) return;
    slots.generations[slot] = generation;
    slots.flushNumbers[slot] = flushNumber;
    this.pending.addStamp(slot);
  }

  /**
   * The copies that are current agree on a slot. The stamp of its last modification may have been lost in the crash, so the slot
   * counts as modified now: a copy that is away has to be compared with it.
   * @internal
   */
  endDoubt(slot: number): void {
    const { slots } = this;
    slots.flags[slot] &= ~SLOT_FLAG_DOUBT;
    const { generation, flushNumber } = this.volumeTable.marks[slots.volumes[slot]];
    // Without room for its record it comes with the checkpoint, which ends the doubt on the device as well.
    if (this.sparePages >= SPARE_PAGES) this.stamp(slot, slots.volumes[slot]);
    else if (!this.holding) this.beginCheckpoint();
    slots.generations[slot] = generation;
    slots.flushNumbers[slot] = flushNumber;
    this.changedSlots.add(slot);
  }

  private endZero(op: StoreOp): void {
    if (op.release && this.busy[op.slot] === 1 && this.emptyBut(op)) {
      this.freeSlot(op);
    } else if (op.blocks === 0) this.finish(op, 0);
    else this.setEntries(op);
  }

  /** Whether nothing but what is about to be zeroed is stored or kept in the slot. */
  private emptyBut(op: StoreOp): boolean {
    if ((op.flags & SEGMENT_KEEP) !== 0) return false;
    for (let block = 0; block < this.blocks; block += 1) {
      if (block >= op.block && block < op.block + op.blocks) continue;
      if (!isVacant(this.tables.words, this.tables.wordOf(op.page, block))) return false;
    }
    return true;
  }

  private freeSlot(op: StoreOp): void {
    const { journal, slots, tables } = this;
    const { slot, page } = op;
    op.waiting = WAIT_RECORDS;
    if (!journal.batch.addSlot(RECORD_FREE, slot)) {
      this.waitForRoom(op);
      return;
    }
    this.pending.forget(slot, page);
    this.young.forget(slot);
    this.log.remove(slot);
    slots.free(slot);
    tables.setClean(page);
    this.loader.letGo(page);
    op.page = -1;
    this.changedSlots.add(slot);
    this.freed.add(slot, journal.batch.sequence);
    journal.whenComplete(op);
  }

  private endRecords(op: StoreOp): void {
    const bytes = op.kind === OP_WRITE || op.kind === OP_ACCEPT_RANGE ? op.blocks * BLOCK_BYTES : 0;
    if ((op.flags & SEGMENT_FUA) === 0) {
      this.finish(op, bytes);
      return;
    }
    op.waiting = WAIT_DURABLE;
    op.result = bytes;
    this.flushWith((result) => this.proceed(op, result));
  }

  /** The journal, a sync or room in the batch lets an operation go on. */
  private proceed(op: StoreOp, result: number): void {
    const { waiting } = op;
    op.waiting = 0;
    switch (waiting) {
      case WAIT_INTENT:
        if (op.kind === OP_ALLOCATE) this.endAllocation(op, result);
        else this.endIntent(op, result);
        break;
      case WAIT_RECORDS:
        if (result < 0) this.finish(op, result);
        else this.endRecords(op);
        break;
      case WAIT_SPACE:
        if (result < 0) this.finish(op, result);
        else this.afterSpace(op);
        break;
      default:
        this.finish(op, result < 0 ? result : op.result);
    }
  }

  private afterSpace(op: StoreOp): void {
    this.sweepFreed();
    if (this.freed.discarding) this.waitingForSweep.push(op);
    else this.beginAllocation(op);
  }

  private waitForRoom(op: StoreOp): void {
    if (this.failure !== 0) {
      this.endWithoutRoom(op);
      return;
    }
    this.waitingForRoom.push(op);
    this.journal.makeRoom();
  }

  /** There will be no room any more. Others may wait for the intent that this operation was to write. */
  private endWithoutRoom(op: StoreOp): void {
    if (op.waiting === WAIT_INTENT && op.kind !== OP_ALLOCATE) this.proceed(op, this.failure);
    else this.finish(op, this.failure);
  }

  /** The journal has an empty batch: those who found the last one full go on, in order. */
  private useRoom(): void {
    const waiting = this.waitingForRoom.splice(0);
    for (const op of waiting) {
      if (op.kind === OP_ALLOCATE) this.beginAllocation(op);
      else if (op.waiting === WAIT_INTENT) this.writeIntent(op);
      else if (op.kind === OP_RELEASE) this.freeSlot(op);
      else if (op.kind === OP_ZERO && op.next === 0) this.endZero(op);
      else this.setEntries(op);
    }
    this.flushes.useRoom();
    const callbacks = this.roomCallbacks.splice(0);
    for (const callback of callbacks) callback();
  }

  // ---------------------------------------------------------------- flush

  /** Makes durable what has ended. `volume`: whose current flush this is, to be remembered; -1 for none. */
  flush(token: number, volume: number): void {
    if (this.failure !== 0) {
      this.completions.defer(token, this.failure);
      return;
    }
    if (volume >= 0 && this.sparePages < SPARE_PAGES_LOW) {
      // Its mark takes room that no modification has asked for.
      if (this.waitingMarks.push({ token, volume }) === 1)
        void this.runCheckpoint('half').then(() => this.flushMarked());
      return;
    }
    this.flushes.flush(token, volume);
  }

  private flushMarked(): void {
    for (const { token, volume } of this.waitingMarks.splice(0)) this.flush(token, volume);
  }

  private flushWith(callback: (result: number) => void): void {
    if (this.failure !== 0) callback(this.failure);
    else this.flushes.flushWith(callback);
  }

  /** The same for control work. Resolves with 0 or a negative errno. */
  flushed(): Promise<number> {
    return new Promise((resolve) => this.flushWith(resolve));
  }

  /** Writes to the journal how far it is durable. Resolves with 0 or a negative errno. @internal */
  noted(): Promise<number> {
    return new Promise((proceed) => this.journal.whenNoted({ proceed }));
  }

  // ---------------------------------------------------------------- volumes

  /** Stores a volume's map durably. Resolves with its index here, `-ENOSPC` if there is no page for it, or another errno. */
  async putVolume(volume: StoredVolume): Promise<number> {
    await this.admission();
    try {
      if (this.failure !== 0) return this.failure;
      const sectors = Math.ceil(PAGE_BYTES / VOLUME_CHUNK_BYTES) + 1;
      while (this.journal.batch.sectorsLeft < sectors) {
        if (this.failure !== 0) return this.failure;
        // There may be room at once.
        await new Promise<void>((resolve) => {
          this.roomCallbacks.push(resolve);
          this.journal.submit();
        });
      }
      const { journal, volumeTable } = this;
      const page = new Uint8Array(PAGE_BYTES);
      // Not before: a flush that was remembered while this waited for room comes before the page, and others may have put
      // volumes meanwhile.
      const index = volumeTable.put(volume);
      if (index < 0) return -ENOSPC;
      const mark = volumeTable.flushedMarks[index];
      encodeVolume(page, index, this.superblock.deviceId, journal.lastSequence, volume, mark);
      for (let at = 0; at < PAGE_BYTES; at += VOLUME_CHUNK_BYTES) journal.batch.addVolume(index, page, at);
      const result = await new Promise<number>((proceed) => {
        journal.whenSynced(journal.batch.sequence, { proceed });
        journal.submit();
      });
      if (result < 0) return result;
      volumeTable.settle(index, volume);
      return index;
    } finally {
      this.reservedPages -= MAP_PAGES;
      this.endModification();
    }
  }

  /** Waits until modifications are admitted, and counts as one. */
  private admission(): Promise<void> {
    return new Promise((resolve) => {
      this.waitingMaps.push(resolve);
      if (!this.holding) this.admitMaps();
    });
  }

  /** Before any other modification: those may be so many that they begin the next checkpoint at once. */
  private admitMaps(): void {
    while (this.waitingMaps.length > 0) {
      // A checkpoint that has failed makes no room, and the next one would not either.
      if (this.sparePages < MAP_PAGES + SPARE_PAGES_LOW && this.failure === 0) {
        this.beginCheckpoint();
        return;
      }
      this.modifying += 1;
      this.reservedPages += MAP_PAGES;
      this.waitingMaps.shift()?.();
    }
  }

  // ---------------------------------------------------------------- checkpoints

  private beginCheckpoint(): void {
    this.holding = true;
    if (this.checkpointsAsked > 0) return;
    void this.runCheckpoint('half').catch((error: unknown) => {
      throw error;
    });
  }

  /** Brings the tree up to date, with everything held; after any other that runs. @internal */
  runCheckpoint(evict: 'half' | 'all'): Promise<void> {
    this.holding = true;
    this.checkpointsAsked += 1;
    const result = this.checkpoints.then(() => this.checkpointNow(evict));
    this.checkpoints = result.catch(() => {});
    return result;
  }

  private async checkpointNow(evict: 'half' | 'all'): Promise<void> {
    if (this.modifying > 0) {
      await new Promise<void>((resolve) => {
        this.onQuiet = resolve;
      });
    }
    await this.checkpoint(evict);
    this.checkpointsAsked -= 1;
    if (this.closed || this.checkpointsAsked > 0) return;
    this.holding = false;
    this.admitMaps();
    this.releaseHeld();
    this.loader.retry();
  }

  private releaseHeld(): void {
    const held = this.held.splice(0);
    for (const op of held) this.modify(op);
  }

  /** Takes slots out of the activity log. @internal */
  evict(which: 'half' | 'all'): void {
    this.log.evict(which);
  }

  /** Everything that was young is in the tree, which a sync has covered. @internal */
  forgetYoung(): void {
    this.young.forgetAll();
  }

  /** A device that cannot keep its promises takes no more modifications. @internal */
  fail(result: number): void {
    if (this.failure !== 0) return;
    this.failure = result < 0 ? result : -EIO;
    this.onDamage('a flush or a write of the journal has failed: the device takes no more writes');
    const stuck = [...this.held.splice(0), ...this.young.takeHeld(), ...this.waitingForSweep.splice(0)];
    for (const op of stuck) this.finish(op, this.failure);
    for (const op of this.waitingForRoom.splice(0)) this.endWithoutRoom(op);
    // There will be no room any more: who waits for it has to look again.
    for (const callback of this.roomCallbacks.splice(0)) callback();
    this.flushes.fail(this.failure);
  }

  // ---------------------------------------------------------------- ends

  private finish(op: StoreOp, result: number): void {
    const { token, resultFlags } = op;
    // Other members write what the first one brings, also if that one fails.
    saveSource(this.memory, op);
    if (op.page >= 0) this.loader.letGo(op.page);
    this.transfers.release(op);
    const { admitted } = op;
    if (admitted) this.leave(op);
    this.running -= 1;
    this.freeOps.push(op);
    if (this.entered > 0 && resultFlags === 0) this.completions.defer(token, result);
    else this.completions.finish(token, result, resultFlags);
    this.transfers.resume();
    this.loader.retry();
    if (admitted) this.endModification();
    if (this.running === 0 && this.onIdle !== null) this.endIdle();
  }

  /** A modification is in progress no more. */
  private leave(op: StoreOp): void {
    if (op.slot >= 0) this.busy[op.slot] -= 1;
    if (op.kind === OP_ALLOCATE) this.log.expected -= 1;
    else this.log.endClaim(op.slot);
    this.reservedPages -= op.pages;
    op.admitted = false;
  }

  /** Lets `quiet` go on. */
  private endIdle(): void {
    this.onIdle?.();
    this.onIdle = null;
  }

  private endModification(): void {
    this.modifying -= 1;
    if (this.modifying > 0 || this.onQuiet === null) return;
    const resolve = this.onQuiet;
    this.onQuiet = null;
    resolve();
  }

  /** Whether modifications have been refused since a failure. */
  get failed(): boolean {
    return this.failure !== 0;
  }

  /**
   * Waits for operations in flight and for what the store does of itself, and begins no more of that. Nobody may begin
   * another operation. @internal
   */
  async quiet(): Promise<void> {
    this.freed.stop();
    while (this.running > 0 || this.io.busy || this.journal.busy) {
      if (this.running > 0) {
        await new Promise<void>((resolve) => {
          this.onIdle = resolve;
        });
      }
      await this.io.idle();
      await this.journal.idle();
    }
  }

  /** Gives up the handlers and the device; nothing may be in flight. @internal */
  dispose(): void {
    this.closed = true;
    this.holding = true;
    this.journal.close();
    this.io.close();
    this.loader.close();
    this.transfers.close();
    this.device.close();
  }
}

/** Whether a block's content is stored, and may be any of several versions. */
function isDoubtful(flags: number): boolean {
  return (flags & (BLOCK_VALID | BLOCK_SUSPECT | BLOCK_POISON)) === (BLOCK_VALID | BLOCK_SUSPECT);
}
