/**
 * The steps of operations: which part of the store an operation goes to when it has what it waited for. `store-op` draws them.
 *
 * The parts are made here. Each knows this file by a few functions only, and none of the other parts that operations come
 * from or go to.
 */

import { check } from '../../core/check.js';
import { NO_PAGE, type ReplicaPage, type SlotIndex } from '../../core/ids.js';
import { BLOCK_BYTES } from '../../core/limits.js';
import { ENTRY_WORDS } from '../../layout/block-entry.js';
import type { FlushId } from '../../layout/flush-id.js';
import type { CompletionPort } from '../../ports/completion.js';
import type { Device } from '../../ports/device.js';
import type { BlockCount } from '../../ports/ids.js';
import type { Memory } from '../../ports/memory.js';
import {
  REQUEST_ACCEPT,
  REQUEST_ALLOCATE,
  REQUEST_ENTRIES,
  REQUEST_FUA,
  REQUEST_MARKED,
  REQUEST_READ,
  REQUEST_RELEASE,
  REQUEST_RELEASE_ZERO,
  REQUEST_WRITE,
  type SegmentRequest,
} from '../../ports/segment-request.js';
import { slotBlocks } from '../format/format.js';
import { hasGroups, type Superblock } from '../format/superblock.js';
import {
  type StoreOp,
  saveSource,
  WAIT_DURABLE,
  WAIT_INTENT,
  WAIT_RECORDS,
  WAIT_SPACE,
  WAIT_TAKEN_BACK,
} from '../store-op.js';
import { ActivityLog } from './activity-log.js';
import { Admission } from './admission.js';
import { Conditions } from './conditions.js';
import type { ControlIo } from './control-io.js';
import { EntryUpdates } from './entry-updates.js';
import { Intents } from './intents.js';
import { JournalRoom, SPARE_PAGES, SPARE_PAGES_LOW } from './journal-room.js';
import type { JournalWriter } from './journal-writer.js';
import { PendingEntries } from './pending-entries.js';
import { SlotAllocation } from './slot-allocation.js';
import type { SlotTable } from './slot-table.js';
import { StoreFlush } from './store-flush.js';
import type { TableCache } from './table-cache.js';
import { TableLoader } from './table-loader.js';
import { Transfers } from './transfers.js';
import type { VolumeTable } from './volume-table.js';
import { YoungBlocks } from './young-blocks.js';

/** What the steps of operations need of their store. */
export interface OpStepsParts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly device: Device;
  readonly superblock: Superblock;
  readonly io: ControlIo;
  readonly slots: SlotTable;
  readonly tables: TableCache;
  readonly journal: JournalWriter;
  readonly volumes: VolumeTable;
  /** Slots whose entries in the tree are not up to date. */
  readonly changedSlots: Set<number>;
  /** Slots in the activity log. */
  readonly activeSlots: number;
  /** Start of `TRANSFER_AREAS_BYTES`. */
  readonly areasStart: number;
  /** The operation of an index. */
  readonly opAt: (index: number) => StoreOp;
  /** Answers an operation, at once or, if something was filled for it, with the batch that does so. */
  readonly finish: (op: StoreOp, result: number) => void;
  readonly finishLater: (op: StoreOp, result: number) => void;
  /** Admits a modification again that has been held. */
  readonly modify: (op: StoreOp) => void;
  /** 0, or the errno of what has ended all modifications. */
  readonly failure: () => number;
  /** Brings the tree up to date. */
  readonly checkpoint: (evict: 'half' | 'all') => Promise<void>;
  /** Content that was read does not match its entry. */
  readonly onMismatch: () => void;
  /** The block table of a slot is damaged. */
  readonly onDamagedTable: (slot: SlotIndex) => void;
}

export class OpSteps {
  readonly log: ActivityLog;
  readonly young: YoungBlocks;
  readonly flushes: StoreFlush;
  readonly room: JournalRoom;
  readonly admission: Admission;
  readonly transfers: Transfers;
  readonly updates: EntryUpdates;
  readonly allocation: SlotAllocation;
  readonly loader: TableLoader;
  readonly conditions: Conditions;
  private readonly parts: OpStepsParts;
  private readonly memory: Memory;
  private readonly tables: TableCache;
  private readonly intents: Intents;
  private readonly pending: PendingEntries;
  private readonly blocks: BlockCount;
  private readonly finish: (op: StoreOp, result: number) => void;

  constructor(parts: OpStepsParts) {
    const { completions, slots, tables, journal, volumes } = parts;
    const { layout } = parts.superblock;
    this.parts = parts;
    this.memory = parts.memory;
    this.tables = tables;
    this.blocks = slotBlocks(layout);
    this.finish = parts.finish;
    this.log = new ActivityLog(layout.slots, parts.activeSlots);
    this.intents = new Intents(this.log, slots, journal, (slot) => this.allocation.isAllocating(slot));
    this.young = new YoungBlocks(tables, journal, (op, result) => this.endAging(op, result));
    this.pending = new PendingEntries(tables, slots, journal);
    this.flushes = new StoreFlush({
      completions,
      journal,
      slots,
      pending: this.pending,
      volumes,
      sparePages: () => this.room.sparePages,
      makeRoom: () => this.admission.runCheckpoint('half'),
      failure: parts.failure,
      onDurable: () => this.allocation.sweep(),
    });
    this.room = new JournalRoom({
      journal,
      pending: this.pending,
      young: this.young,
      resume: (op) => this.haveRoom(op),
      onFailed: (op, failure) => this.endWithoutRoom(op, failure),
    });
    this.transfers = this.newTransfers();
    this.admission = this.newAdmission();
    this.updates = this.newUpdates();
    this.allocation = this.newAllocation();
    this.loader = this.newLoader();
    this.conditions = new Conditions({
      tables,
      slots: layout.slots,
      generationOf: (volume) => parts.volumes.replicas[volume]?.generation ?? 0,
      opAt: parts.opAt,
      resume: (op) => this.haveTable(op),
    });
  }

  private newTransfers(): Transfers {
    const { finish, finishLater, opAt, onMismatch, areasStart, changedSlots } = this.parts;
    const { completions, memory, device, tables, superblock } = this.parts;
    return new Transfers({
      completions,
      memory,
      device,
      layout: superblock.layout,
      tables,
      pending: this.pending,
      log: this.log,
      changedSlots,
      areasStart,
      opAt,
      finish,
      finishLater,
      onMismatch,
      onWrite: (op) => this.updates.sendAlong(op),
      onFailed: (op) => this.updates.takeBack(op),
      transferred: (op) => this.updates.set(op),
    });
  }

  private newAdmission(): Admission {
    return new Admission({
      memory: this.memory,
      slots: this.parts.slots,
      log: this.log,
      room: this.room,
      failed: () => this.parts.failure() !== 0,
      retry: this.parts.modify,
      allocate: (op) => this.allocation.begin(op),
      load: (op) => this.loader.load(op),
      finish: this.finish,
      checkpoint: this.parts.checkpoint,
      onReleased: () => this.loader.retry(),
    });
  }

  private newUpdates(): EntryUpdates {
    return new EntryUpdates({
      memory: this.memory,
      slots: this.parts.slots,
      tables: this.tables,
      journal: this.parts.journal,
      pending: this.pending,
      young: this.young,
      flushes: this.flushes,
      log: this.log,
      checksums: this.transfers.checksums,
      provenSums: this.transfers.provenSums,
      changedSlots: this.parts.changedSlots,
      blocks: this.blocks,
      groups: hasGroups(this.parts.superblock.incompatible),
      waitForRoom: (op) => this.room.wait(op),
      recorded: (op) => this.endRecords(op),
      failed: (op) => this.finish(op, op.result),
    });
  }

  private newAllocation(): SlotAllocation {
    return new SlotAllocation({
      superblock: this.parts.superblock,
      io: this.parts.io,
      slots: this.parts.slots,
      tables: this.tables,
      journal: this.parts.journal,
      volumes: this.parts.volumes,
      log: this.log,
      pending: this.pending,
      young: this.young,
      changedSlots: this.parts.changedSlots,
      finish: this.finish,
      waitForRoom: (op) => this.room.wait(op),
      awaitPage: (op) => this.loader.awaitPage(op),
      letGo: (page) => this.loader.letGo(page),
      occupy: (slot) => this.admission.occupy(slot),
    });
  }

  private newLoader(): TableLoader {
    return new TableLoader({
      completions: this.parts.completions,
      memory: this.memory,
      device: this.parts.device,
      layout: this.parts.superblock.layout,
      slots: this.parts.slots,
      tables: this.tables,
      onWait: (op) => saveSource(this.memory, op),
      onReady: (op) => this.haveTable(op),
      onFailed: this.finish,
      onPage: (op) => this.havePage(op),
      onDamage: this.parts.onDamagedTable,
    });
  }

  /** Begins what changes nothing. */
  look(op: StoreOp): void {
    op.slot = this.parts.slots.find(op.volume, op.stripe);
    if (op.slot >= 0) this.loader.load(op);
    else if (op.kind === REQUEST_READ) this.transfers.endZeroes(op);
    else this.parts.finish(op, 0);
  }

  /** Makes durable what has ended. */
  flush(volume: ReplicaPage, { token, flags, generation, flushNumber }: SegmentRequest): void {
    if ((flags & REQUEST_MARKED) === 0) {
      this.flushes.flush(token, null);
      return;
    }
    this.flushes.flush(token, { volume, flush: { generation, flushNumber } });
  }

  /** There may be a page for an operation that has waited for one. */
  private havePage(op: StoreOp): void {
    if (op.kind === REQUEST_ALLOCATE) this.allocation.begin(op);
    else this.loader.load(op);
  }

  private haveTable(op: StoreOp): void {
    check(this.tables.slotAt(op.page) === op.slot, 'an operation has the block table of another slot', op.slot);
    if (op.kind === REQUEST_READ) {
      this.transfers.read(op);
      return;
    }
    if (op.kind === REQUEST_ENTRIES) {
      const start = this.tables.wordOf(op.page, op.block);
      op.entries?.set(this.tables.words.subarray(start, start + op.blocks * ENTRY_WORDS));
      this.parts.finish(op, 0);
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
    op.page = NO_PAGE;
    this.admission.putBack(op);
  }

  private endAging(op: StoreOp, result: number): void {
    if (result < 0) this.parts.finish(op, result);
    else this.haveTable(op);
  }

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
      if (result < 0) {
        this.finish(other, result);
        continue;
      }
      check(this.log.has(other.slot), 'an intent is durable of a slot that is not in the activity log', other.slot);
      this.haveTable(other);
    }
  }

  private haveIntent(op: StoreOp): void {
    if (!this.conditions.begin(op)) {
      saveSource(this.memory, op);
      return;
    }
    if (op.blocks > 0 && op.left === op.blocks) {
      this.endRecords(op);
      return;
    }
    switch (op.kind) {
      case REQUEST_WRITE:
      case REQUEST_ACCEPT:
        this.transfers.start(op);
        break;
      case REQUEST_RELEASE:
        this.release(op);
        break;
      default:
        this.updates.set(op);
    }
  }

  /** Gives the slot back, unless that is only to be done if nothing in it is stored or kept. */
  private release(op: StoreOp): void {
    const needed =
      (op.flags & REQUEST_RELEASE_ZERO) !== 0 && !(this.admission.isAlone(op) && this.updates.emptyBut(op));
    if (needed) {
      op.request?.left.add(0);
      this.parts.finish(op, 0);
    } else this.allocation.free(op);
  }

  private endRecords(op: StoreOp): void {
    // One that has given its slot back has no block table any more; one that leaves all blocks as they are sets no entries.
    const entered = op.page < 0 || op.next === op.blocks || op.left === op.blocks;
    check(entered, 'a modification ends before all its entries are set', op.index);
    const bytes = op.kind === REQUEST_WRITE || op.kind === REQUEST_ACCEPT ? op.blocks * BLOCK_BYTES : 0;
    if ((op.flags & REQUEST_FUA) === 0) {
      this.parts.finish(op, bytes);
      return;
    }
    op.waiting = WAIT_DURABLE;
    op.result = bytes;
    this.flushes.flushWith((result) => this.proceed(op, result));
  }

  /** The journal, a sync or room in the batch lets an operation go on. */
  proceed(op: StoreOp, result: number): void {
    const { waiting } = op;
    op.waiting = 0;
    switch (waiting) {
      case WAIT_INTENT:
        if (op.kind === REQUEST_ALLOCATE) this.allocation.end(op, result);
        else this.endIntent(op, result);
        break;
      case WAIT_RECORDS:
        if (result < 0) this.parts.finish(op, result);
        else this.endRecords(op);
        break;
      case WAIT_SPACE:
        if (result < 0) this.parts.finish(op, result);
        else this.allocation.haveSpace(op);
        break;
      default:
        check(waiting === WAIT_DURABLE, 'an operation goes on that waits for nothing', op.index);
        this.parts.finish(op, result < 0 ? result : op.result);
    }
  }

  /** There will be no room any more. Others may wait for the intent that this operation was to write. */
  private endWithoutRoom(op: StoreOp, failure: number): void {
    if (op.waiting === WAIT_INTENT && op.kind !== REQUEST_ALLOCATE) this.proceed(op, failure);
    else this.parts.finish(op, failure);
  }

  /** An operation that found the last batch full has an empty one. */
  private haveRoom(op: StoreOp): void {
    if (op.kind === REQUEST_ALLOCATE) this.allocation.begin(op);
    else if (op.waiting === WAIT_INTENT) this.writeIntent(op);
    else if (op.kind === REQUEST_RELEASE) this.release(op);
    else if (op.waiting === WAIT_TAKEN_BACK) this.updates.takeBack(op);
    else {
      check(op.waiting === WAIT_RECORDS, 'an operation has room that it did not wait for', op.index);
      this.updates.set(op);
    }
  }

  /** A slot holds what other copies hold that are recorded under this flush. */
  restamp(slot: SlotIndex, at: FlushId): void {
    const hasRoom = this.room.sparePages >= SPARE_PAGES;
    if (!hasRoom) this.admission.askCheckpoint();
    this.updates.restamp(slot, at, hasRoom);
  }

  /** An operation has ended: takes back what it had. */
  end(op: StoreOp): void {
    // Other members write what the first one brings, also if that one fails.
    saveSource(this.memory, op);
    if (op.page >= 0) this.loader.letGo(op.page);
    this.transfers.release(op);
    if (op.admitted) this.admission.leave(op);
    this.conditions.end(op);
  }

  /** An operation has been answered: those go on that have waited for what it had. */
  resumeOthers(modification: boolean): void {
    this.conditions.resume();
    this.transfers.resume();
    this.loader.retry();
    if (modification) this.admission.endModification();
  }

  /** The journal has an empty batch. */
  useRoom(): void {
    this.room.resume();
    this.flushes.useRoom();
    this.room.resumeCalls();
  }

  /** The device takes no more modifications: nobody waits for what would let one go on. */
  fail(failure: number): void {
    this.room.close(failure);
    const stuck = [...this.admission.takeHeld(), ...this.young.takeHeld(), ...this.allocation.fail()];
    for (const op of stuck) this.parts.finish(op, failure);
    this.room.end(failure);
    this.flushes.fail(failure);
  }

  /** Gives up the handlers; nothing may be in flight. */
  close(): void {
    this.room.checkAtRest();
    this.admission.close();
    this.loader.close();
    this.transfers.close();
  }
}
