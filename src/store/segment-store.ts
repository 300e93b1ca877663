/**
 * The segment store of one device: the only one that writes to it.
 *
 * ```text
 *   write   table in memory? ─► intent durable? ─► data, of a first write its record in the journal beside it ─► entry ─► reply
 *   flush   changed entries to the journal ─► complete ─► one sync of the device ─► reply
 *   read    table in memory? ─► data ─► checksums agree? ─► reply
 * ```
 *
 * What a crash between two steps leaves:
 *
 * 1. Before a slot is written to for the first time since it was clean, a durable *intent* says so. After a crash all blocks of
 *    such slots, and no others, may differ from their entries.
 * 2. A block's first write puts its entry into the journal before it is acknowledged, so it survives the death of the
 *    process. Until a sync has covered entry and content, and a durable batch says so, recovery believes it only if the content
 *    matches: what a new slot holds may be another volume's. Such a block is *young*; it is not written again before it is old.
 *    Both are sent at the same time, so either may be there without the other.
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

import { check } from '../core/check.js';
import { EAGAIN, EBUSY, EIO } from '../core/errno.js';
import type { ReplicaPage, SlotIndex } from '../core/ids.js';
import { type FlushId, isBefore } from '../layout/flush-id.js';
import type { ReplicaMap, ReplicaOwn } from '../layout/replica-map.js';
import type { CompletionPort } from '../ports/completion.js';
import { type Device, FENCE_WRITES } from '../ports/device.js';
import type { ChunkIndex } from '../ports/ids.js';
import type { Memory } from '../ports/memory.js';
import {
  REQUEST_ENTRIES,
  REQUEST_FLUSH,
  REQUEST_READ,
  REQUEST_RESTAMP,
  REQUEST_SETTLED,
  type SegmentRequest,
} from '../ports/segment-request.js';
import { PAGE_BYTES } from './format/format.js';
import type { Batch } from './format/journal-batch.js';
import type { Superblock } from './format/superblock.js';
import { ACTIVE_SLOTS_MAX } from './limits.js';
import { Checkpointer } from './running/checkpoint.js';
import { ControlIo } from './running/control-io.js';
import { JournalWriter } from './running/journal-writer.js';
import { MapWriter } from './running/map-writer.js';
import { OpPool } from './running/op-pool.js';
import { OpSteps } from './running/op-steps.js';
import { SLOT_FLAG_DOUBT, type SlotTable } from './running/slot-table.js';
import { TableCache } from './running/table-cache.js';
import { TableMemory } from './running/table-memory.js';
import { VolumeTable } from './running/volume-table.js';
import { type StoreOp, saveSource } from './store-op.js';
import {
  CONTROL_PIECE_BYTES,
  CONTROL_PIECES,
  noCounts,
  placesFrom,
  type StoreHooks,
  type StorePorts,
  type StoreStart,
  TABLE_PAGES,
} from './store-start.js';

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
  readonly counters = noCounts();
  /** Brings the tree up to date, and closes the device. @internal */
  readonly checkpointer: Checkpointer;
  /** @internal */
  readonly start: StoreStart;
  private readonly hooks: StoreHooks;
  private readonly completions: CompletionPort;
  private readonly controlStart: number;
  private readonly pool = new OpPool((op, result) => this.steps.proceed(op, result));
  /** @internal */
  readonly steps: OpSteps;
  private readonly maps: MapWriter;
  /** Whether the caller of an operation is still on the stack, so that its end has to wait. */
  private entered = 0;
  private failure = 0;
  /** It is being given up: members begin nothing more. */
  private ended = false;

  constructor(ports: StorePorts, start: StoreStart, hooks: StoreHooks) {
    const { completions, memory, device, memoryStart } = ports;
    const { superblock, slots } = start;
    const { layout } = superblock;
    this.start = start;
    this.hooks = hooks;
    this.superblock = superblock;
    this.completions = completions;
    this.memory = memory;
    this.device = device;
    this.slots = slots;
    const { changedSlots } = this;
    this.volumeTable = new VolumeTable({
      ...start,
      changedSlots,
      mayForget: hooks.mayForget,
      pages: ports.bounds?.volumes,
    });
    const { activeSlots, tablePages } = ports.bounds ?? { activeSlots: ACTIVE_SLOTS_MAX, tablePages: TABLE_PAGES };
    const places = placesFrom(memoryStart);
    const least = Math.min(tablePages, layout.slots);
    const bytes = least * PAGE_BYTES;
    const alone = { memoryStart: places.tables, bytes, budgetBytes: bytes };
    // Before anything is registered, as there may be no memory for them.
    this.tables = new TableCache(ports.tables ?? new TableMemory(memory, alone), least, layout.slots);
    this.io = new ControlIo(completions, device);
    const journalParts = {
      ...{ completions, memory, device, superblock, memoryStart: places.journal },
      onSubmit: (batch: Batch) => this.volumeTable.settled.write(batch),
      onRoom: () => this.steps.useRoom(),
      onFailure: (result: number) => this.fail(result),
    };
    this.journal = new JournalWriter(journalParts, start.journal);
    this.controlStart = places.control;
    const { journal, volumeTable: volumes } = this;
    const failure = () => this.failure;
    this.steps = new OpSteps({
      ...{ completions, memory, device, superblock, io: this.io, slots, tables: this.tables, journal, volumes },
      changedSlots,
      activeSlots,
      areasStart: places.areas,
      opAt: (index) => this.pool.at(index),
      finish: (op, result) => this.finish(op, result),
      finishLater: (op, result) => this.finishLater(op, result),
      modify: (op) => this.enter(op),
      failure,
      checkpoint: (evict) => this.checkpointer.run(evict),
      onMismatch: () => {
        this.counters.checksumErrors += 1;
      },
      onDamagedTable: (slot) => this.noteDamagedTable(slot),
    });
    const { admission, room } = this.steps;
    this.maps = new MapWriter({ admission, room, journal, volumes, deviceId: superblock.deviceId, failure });
    this.checkpointer = new Checkpointer(this);
  }

  private noteDamagedTable(slot: SlotIndex): void {
    this.counters.tablesDamaged += 1;
    this.tellDamage(`the block table of slot ${slot} is damaged: its blocks are unreadable`);
  }

  private tellDamage(text: string): void {
    this.hooks.onDamage(this.superblock.deviceId, text);
  }

  /** Memory for control work. */
  controlMemory(piece: number): number {
    check(piece >= 0 && piece < CONTROL_PIECES, 'there is no such piece of control memory', piece);
    return this.controlStart + piece * CONTROL_PIECE_BYTES;
  }

  /** Maps of replicas by number of their page. @internal */
  get replicas(): readonly (ReplicaMap | undefined)[] {
    return this.volumeTable.replicas;
  }

  /** Operations in flight. */
  get outstanding(): number {
    return this.pool.running;
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

  has(volume: ReplicaPage, chunk: ChunkIndex): boolean {
    const slot = this.slots.find(volume, chunk);
    return slot >= 0 && !this.steps.allocation.isAllocating(slot);
  }

  // ---------------------------------------------------------------- requests

  /** Begins a request of a volume, which has been checked (`LocalMember`). Its token never ends within the call. */
  submit(volume: ReplicaPage, request: SegmentRequest): void {
    if (this.ended) {
      request.bring(this.memory);
      this.completions.defer(request.token, -EIO);
      return;
    }
    if (request.kind === REQUEST_FLUSH) {
      this.steps.flush(volume, request);
      return;
    }
    if (request.kind === REQUEST_RESTAMP) {
      this.restamp(volume, request);
      return;
    }
    const op = this.pool.take();
    if (op === null) {
      request.bring(this.memory);
      this.completions.defer(request.token, -EBUSY);
      return;
    }
    check(this.volumeTable.owners.list[volume] !== undefined, 'a request is of a replica that is not here', volume);
    op.begin(volume, request);
    this.enter(op);
  }

  /** Nothing has to be read or waited for. */
  private restamp(volume: ReplicaPage, { chunk, generation, flushNumber, token }: SegmentRequest): void {
    let result = this.failure;
    if (result === 0 && this.has(volume, chunk)) {
      const slot = this.slots.find(volume, chunk);
      // Its end may set another stamp, or leave other content.
      if (this.steps.admission.isIdle(slot)) this.steps.restamp(slot, { generation, flushNumber });
      else result = -EBUSY;
    }
    this.completions.defer(token, result);
  }

  /** Begins an operation, or one again that was held. A modification is held while a checkpoint runs. */
  private enter(op: StoreOp): void {
    this.entered += 1;
    if (op.kind === REQUEST_READ || op.kind === REQUEST_ENTRIES) this.steps.look(op);
    else if (this.failure !== 0) this.finish(op, this.failure);
    else this.steps.admission.modify(op);
    this.entered -= 1;
  }

  /** What is filled is so when the batch is handed over, and only then may anybody be told. */
  private finishLater(op: StoreOp, result: number): void {
    this.entered += 1;
    this.finish(op, result);
    this.entered -= 1;
    check(this.entered >= 0, 'more calls have returned than were made', this.entered);
  }

  /**
   * The copies that are current agree on a slot. The stamp of its last modification may have been lost in a crash, so the slot
   * counts as modified at the point that is given: a copy that is away has to be compared with it. @internal
   */
  endDoubt(slot: SlotIndex, at: FlushId): void {
    this.steps.restamp(slot, at);
  }

  // ---------------------------------------------------------------- control work

  /** Makes durable what has ended. Resolves with 0 or a negative errno. */
  flushed(): Promise<number> {
    return new Promise((resolve) => this.steps.flushes.flushWith(resolve));
  }

  /** Writes to the journal how far it is durable. Resolves with 0 or a negative errno. @internal */
  noted(): Promise<number> {
    return new Promise((proceed) => this.journal.whenNoted({ proceed }));
  }

  /**
   * Stores the map of a replica durably, with what this device is to know of it beside that. A map of another version than the
   * one that is there counts as not answered, unless `own` says so. Resolves with the number of its page, by which the store
   * calls the replica, with `-ENOSPC` if there is no page for it, or another errno.
   */
  putReplica(map: ReplicaMap, own?: Partial<Pick<ReplicaOwn, 'servedGeneration' | 'answered'>>): Promise<ReplicaPage> {
    return this.maps.put(map, own);
  }

  /**
   * Empties a page durably, of a replica or in the old form. Resolves with its number, `-EBUSY` if slots belong to it, or another
   * errno.
   */
  forgetReplica(page: ReplicaPage): Promise<number> {
    return this.maps.forget(page);
  }

  /** Brings the tree up to date, with everything held; after any other that runs. @internal */
  runCheckpoint(evict: 'half' | 'all'): Promise<void> {
    return this.steps.admission.runCheckpoint(evict);
  }

  /** A device that cannot keep its promises takes no more modifications. @internal */
  fail(result: number): void {
    if (this.failure !== 0) return;
    this.failure = result < 0 ? result : -EIO;
    this.tellDamage('a flush or a write of the journal has failed: the device takes no more writes');
    this.steps.fail(this.failure);
  }

  // ---------------------------------------------------------------- ends

  private finish(op: StoreOp, found: number): void {
    const { token, resultFlags, admitted } = op;
    const result = found >= 0 && (op.flags & REQUEST_SETTLED) !== 0 && !this.isSettled(op) ? -EAGAIN : found;
    // It was refused, or nothing of it was to be written: other members find the payload in place all the same.
    saveSource(this.memory, op);
    this.steps.end(op);
    this.pool.giveBack(op);
    if (this.entered > 0 && resultFlags === 0) this.completions.defer(token, result);
    else this.completions.finish(token, result, resultFlags);
    this.steps.resumeOthers(admitted);
    this.pool.noteIdle();
  }

  /** Whether all that a read may have found is on every member in-sync. What has no slot is zeroes there, or came later. */
  private isSettled({ volume, stripe, slot }: StoreOp): boolean {
    if (slot < 0) return true;
    const { slots } = this;
    check(slot < slots.slots, 'a read has ended in a slot that there is not', slot);
    // It may have been given back meanwhile, and be another chunk's by now.
    if (slots.find(volume, stripe) !== slot || (slots.flags[slot] & SLOT_FLAG_DOUBT) !== 0) return false;
    const recorded = { generation: slots.generations[slot], flushNumber: slots.flushNumbers[slot] };
    return isBefore(recorded, this.volumeTable.settled.of(volume));
  }

  /** Whether modifications have been refused since a failure. */
  get failed(): boolean {
    return this.failure !== 0;
  }

  /**
   * Waits for operations in flight and for what the store does of itself, and begins no more of that. Whoever still holds a
   * member, as read repair does that was amid it when the device was let go of, is refused from now on. @internal
   */
  async quiet(): Promise<void> {
    this.ended = true;
    this.steps.allocation.stop();
    while (this.pool.running > 0 || this.io.busy || this.journal.busy) {
      if (this.pool.running > 0) await this.pool.idle();
      await this.io.idle();
      await this.journal.idle();
    }
  }

  /** Gives up the handlers and the device; nothing may be in flight. @internal */
  dispose(): void {
    check(this.pool.running === 0, 'operations are in flight when their store is given up', this.pool.running);
    check(!this.io.busy, 'control work is in flight when its store is given up');
    this.steps.close();
    this.journal.close();
    this.io.close();
    this.device.close();
    this.tables.leave();
  }
}
