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

import { EBUSY, EIO, ENOSPC } from '../core/errno.js';
import { BLOCK_BYTES, STORE_CALLS_MAX, STORE_OPERATIONS_MAX } from '../core/limits.js';
import { Waiting } from '../core/waiting.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { CompletionPort } from '../ports/completion.js';
import { type Device, FENCE_WRITES } from '../ports/device.js';
import type { Memory } from '../ports/memory.js';
import { ENTRY_WORDS, SEGMENT_FUA } from '../ports/segments.js';
import { ActivityLog } from './activity-log.js';
import { Admission } from './admission.js';
import { ControlIo } from './control-io.js';
import { EntryUpdates } from './entry-updates.js';
import { ACTIVE_SLOTS_MAX, PAGE_BYTES, slotBlocks } from './format.js';
import { Intents } from './intents.js';
import { VOLUME_CHUNK_BYTES } from './journal.js';
import { JournalRoom, SPARE_PAGES, SPARE_PAGES_LOW } from './journal-room.js';
import { JOURNAL_WRITER_BYTES, JournalWriter } from './journal-writer.js';
import { encodeVolume } from './pages.js';
import { PendingEntries } from './pending-entries.js';
import { SlotAllocation } from './slot-allocation.js';
import type { SlotTable } from './slot-table.js';
import { StoreFlush } from './store-flush.js';
import {
  OP_ACCEPT,
  OP_ACCEPT_RANGE,
  OP_ALLOCATE,
  OP_ENTRIES,
  type OP_POISON,
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
import type { StoreStart } from './store-start.js';
import type { Superblock } from './superblock.js';
import { TableCache } from './table-cache.js';
import { TableLoader } from './table-loader.js';
import { TRANSFER_AREAS_BYTES, Transfers } from './transfers.js';
import { VolumeTable } from './volume-table.js';
import { YoungBlocks } from './young-blocks.js';

/** Block tables in memory. */
const TABLE_PAGES = ACTIVE_SLOTS_MAX + 256;
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

/** A flush of a volume that is to be remembered. */
interface MarkedFlush {
  readonly token: number;
  readonly volume: number;
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
  private running = 0;
  private readonly log: ActivityLog;
  private readonly intents: Intents;
  private readonly allocation: SlotAllocation;
  private readonly pending: PendingEntries;
  private readonly flushes: StoreFlush;
  private readonly young: YoungBlocks;
  private readonly updates: EntryUpdates;
  private readonly room: JournalRoom;
  private readonly admission: Admission;
  private onIdle: (() => void) | null = null;
  /** Flushes that are to be remembered, which wait for room in the journal. */
  private readonly marks = new Waiting<MarkedFlush>('flushes that wait for a checkpoint', STORE_CALLS_MAX);
  /** Whether the caller of an operation is still on the stack, so that its end has to wait. */
  private entered = 0;
  private failure = 0;

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
    const { activeSlots, tablePages } = ports.bounds ?? { activeSlots: ACTIVE_SLOTS_MAX, tablePages: TABLE_PAGES };
    this.log = new ActivityLog(layout.slots, activeSlots);
    const pages = Math.min(tablePages, layout.slots);
    this.tables = new TableCache(memory, memoryStart, pages, layout.slots);
    const journalStart = memoryStart + TableCache.memoryBytes(TABLE_PAGES);
    this.journal = new JournalWriter(completions, memory, device, layout, superblock, journalStart, start.journal);
    this.journal.onRoom = () => this.useRoom();
    this.journal.onFailure = (result) => this.fail(result);
    this.intents = new Intents(this.log, slots, this.journal, (slot) => this.allocation.isAllocating(slot));
    this.young = new YoungBlocks(this.tables, this.journal, (op, result) => this.endAging(op, result));
    this.pending = new PendingEntries(this.tables, slots, this.journal);
    this.flushes = new StoreFlush({
      completions,
      journal: this.journal,
      slots,
      pending: this.pending,
      volumes: this.volumeTable,
      onDurable: () => this.allocation.sweep(),
    });
    const areasStart = journalStart + JOURNAL_WRITER_BYTES;
    this.controlStart = areasStart + TRANSFER_AREAS_BYTES;
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
      onWrite: (op) => this.updates.sendEarly(op),
      transferred: (op) => this.updates.set(op),
    });
    this.room = new JournalRoom({
      journal: this.journal,
      pending: this.pending,
      young: this.young,
      resume: (op) => this.haveRoom(op),
      onFailed: (op, failure) => this.endWithoutRoom(op, failure),
    });
    this.admission = this.newAdmission();
    this.updates = this.newUpdates();
    this.allocation = this.newAllocation();
    this.loader = this.newLoader();
  }

  private newAdmission(): Admission {
    return new Admission({
      memory: this.memory,
      slots: this.slots,
      log: this.log,
      room: this.room,
      failed: () => this.failure !== 0,
      retry: (op) => this.modify(op),
      allocate: (op) => this.allocation.begin(op),
      load: (op) => this.loader.load(op),
      finish: (op, result) => this.finish(op, result),
      checkpoint: (evict) => this.checkpoint(evict),
      onReleased: () => this.loader.retry(),
    });
  }

  private newUpdates(): EntryUpdates {
    return new EntryUpdates({
      memory: this.memory,
      slots: this.slots,
      tables: this.tables,
      journal: this.journal,
      volumes: this.volumeTable,
      pending: this.pending,
      young: this.young,
      flushes: this.flushes,
      checksums: this.transfers.checksums,
      changedSlots: this.changedSlots,
      blocks: this.blocks,
      waitForRoom: (op) => this.room.wait(op),
      recorded: (op) => this.endRecords(op),
    });
  }

  private newAllocation(): SlotAllocation {
    return new SlotAllocation({
      superblock: this.superblock,
      io: this.io,
      slots: this.slots,
      tables: this.tables,
      journal: this.journal,
      volumes: this.volumeTable,
      log: this.log,
      pending: this.pending,
      young: this.young,
      changedSlots: this.changedSlots,
      finish: (op, result) => this.finish(op, result),
      waitForRoom: (op) => this.room.wait(op),
      awaitPage: (op) => this.loader.awaitPage(op),
      letGo: (page) => this.loader.letGo(page),
      occupy: (slot) => this.admission.occupy(slot),
    });
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
  get volumes(): readonly (VolumeMap | undefined)[] {
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
    return slot >= 0 && !this.allocation.isAllocating(slot);
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
    else this.admission.modify(op);
    this.entered -= 1;
  }

  // ---------------------------------------------------------------- block tables

  private noteDamagedTable(slot: number): void {
    this.counters.tablesDamaged += 1;
    this.onDamage(`the block table of slot ${slot} is damaged: its blocks are unreadable`);
  }

  /** There may be a page for an operation that has waited for one. */
  private havePage(op: StoreOp): void {
    if (op.kind === OP_ALLOCATE) this.allocation.begin(op);
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
      if (this.room.sparePages < SPARE_PAGES_LOW) this.putBack(op);
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
    this.admission.putBack(op);
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
    if (!this.intents.write(op)) this.room.wait(op);
  }

  private endIntent(op: StoreOp, result: number): void {
    for (const other of this.intents.end(op.slot, result)) {
      if (result < 0) this.finish(other, result);
      else this.haveTable(other);
    }
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
        this.allocation.free(op);
        break;
      default:
        this.updates.set(op);
    }
  }

  /** What is filled is so when the batch is handed over, and only then may anybody be told. */
  private finishLater(op: StoreOp, result: number): void {
    this.entered += 1;
    this.finish(op, result);
    this.entered -= 1;
  }

  // ---------------------------------------------------------------- entries

  /** The copies that are current agree on a slot. @internal */
  endDoubt(slot: number): void {
    const hasRoom = this.room.sparePages >= SPARE_PAGES;
    if (!hasRoom) this.admission.askCheckpoint();
    this.updates.endDoubt(slot, hasRoom);
  }

  private endZero(op: StoreOp): void {
    if (op.release && this.admission.isAlone(op) && this.updates.emptyBut(op)) {
      this.allocation.free(op);
    } else if (op.blocks === 0) this.finish(op, 0);
    else this.updates.set(op);
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
        if (op.kind === OP_ALLOCATE) this.allocation.end(op, result);
        else this.endIntent(op, result);
        break;
      case WAIT_RECORDS:
        if (result < 0) this.finish(op, result);
        else this.endRecords(op);
        break;
      case WAIT_SPACE:
        if (result < 0) this.finish(op, result);
        else this.allocation.haveSpace(op);
        break;
      default:
        this.finish(op, result < 0 ? result : op.result);
    }
  }

  /** There will be no room any more. Others may wait for the intent that this operation was to write. */
  private endWithoutRoom(op: StoreOp, failure: number): void {
    if (op.waiting === WAIT_INTENT && op.kind !== OP_ALLOCATE) this.proceed(op, failure);
    else this.finish(op, failure);
  }

  /** An operation that found the last batch full has an empty one. */
  private haveRoom(op: StoreOp): void {
    if (op.kind === OP_ALLOCATE) this.allocation.begin(op);
    else if (op.waiting === WAIT_INTENT) this.writeIntent(op);
    else if (op.kind === OP_RELEASE) this.allocation.free(op);
    else if (op.kind === OP_ZERO && op.next === 0) this.endZero(op);
    else this.updates.set(op);
  }

  private useRoom(): void {
    this.room.resume();
    this.flushes.useRoom();
    this.room.resumeCalls();
  }

  // ---------------------------------------------------------------- flush

  /** Makes durable what has ended. `volume`: whose current flush this is, to be remembered; -1 for none. */
  flush(token: number, volume: number): void {
    if (this.failure !== 0) {
      this.completions.defer(token, this.failure);
      return;
    }
    if (volume >= 0 && this.room.sparePages < SPARE_PAGES_LOW) {
      // Its mark takes room that no modification has asked for.
      this.marks.push({ token, volume });
      if (this.marks.size === 1) void this.runCheckpoint('half').then(() => this.flushMarked());
      return;
    }
    this.flushes.flush(token, volume);
  }

  private flushMarked(): void {
    for (const { token, volume } of this.marks.takeAll()) this.flush(token, volume);
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
  async putVolume(volume: VolumeMap): Promise<number> {
    await this.admission.beginMap();
    try {
      if (this.failure !== 0) return this.failure;
      const sectors = Math.ceil(PAGE_BYTES / VOLUME_CHUNK_BYTES) + 1;
      while (this.journal.batch.sectorsLeft < sectors) {
        if (this.failure !== 0) return this.failure;
        // There may be room at once.
        await new Promise<void>((resolve) => this.room.whenRoom(resolve));
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
      this.admission.endMap();
    }
  }

  // ---------------------------------------------------------------- checkpoints

  /** Brings the tree up to date, with everything held; after any other that runs. @internal */
  runCheckpoint(evict: 'half' | 'all'): Promise<void> {
    return this.admission.runCheckpoint(evict);
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
    this.room.close(this.failure);
    const stuck = [...this.admission.takeHeld(), ...this.young.takeHeld(), ...this.allocation.fail()];
    for (const op of stuck) this.finish(op, this.failure);
    this.room.end(this.failure);
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
    if (admitted) this.admission.leave(op);
    this.running -= 1;
    this.freeOps.push(op);
    if (this.entered > 0 && resultFlags === 0) this.completions.defer(token, result);
    else this.completions.finish(token, result, resultFlags);
    this.transfers.resume();
    this.loader.retry();
    if (admitted) this.admission.endModification();
    if (this.running === 0 && this.onIdle !== null) this.endIdle();
  }

  /** Lets `quiet` go on. */
  private endIdle(): void {
    this.onIdle?.();
    this.onIdle = null;
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
    this.allocation.stop();
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
    this.admission.close();
    this.journal.close();
    this.io.close();
    this.loader.close();
    this.transfers.close();
    this.device.close();
  }
}
