/**
 * Admission of modifications, and the turns of checkpoints.
 *
 * A modification is admitted when the journal has room for all that it may write, and the activity log for its slot. Otherwise it
 * is held, and a checkpoint makes room: it runs when no modification is in progress, and those who are held go on after it.
 * Maps of volumes go before any other modification: those may be so many that they begin the next checkpoint at once.
 */

import { check } from '../../core/check.js';
import { ENOENT } from '../../core/errno.js';
import type { SlotIndex } from '../../core/ids.js';
import { STORE_CALLS_MAX, STORE_OPERATIONS_MAX } from '../../core/limits.js';
import { Waiting } from '../../core/waiting.js';
import type { Memory } from '../../ports/memory.js';
import { REQUEST_ALLOCATE, REQUEST_RELEASE, REQUEST_ZERO } from '../../ports/segment-request.js';
import { type StoreOp, saveSource } from '../store-op.js';
import type { ActivityLog } from './activity-log.js';
import { type JournalRoom, pagesOf, SPARE_PAGES, SPARE_PAGES_LOW } from './journal-room.js';
import type { SlotTable } from './slot-table.js';

/** Pages of a volume's map in the journal, with what lies in a batch before it. */
const MAP_PAGES = 4;

/** What admission needs of its store. */
export interface AdmissionParts {
  readonly memory: Memory;
  readonly slots: SlotTable;
  readonly log: ActivityLog;
  readonly room: JournalRoom;
  /** Whether no more modifications are taken. */
  readonly failed: () => boolean;
  /** Admits an operation again that has been held. */
  readonly retry: (op: StoreOp) => void;
  /** An allocation is admitted. */
  readonly allocate: (op: StoreOp) => void;
  /** Any other modification is admitted, and has its slot. */
  readonly load: (op: StoreOp) => void;
  readonly finish: (op: StoreOp, result: number) => void;
  /** Brings the tree up to date. */
  readonly checkpoint: (evict: 'half' | 'all') => Promise<void>;
  /** A checkpoint has ended, and those who were held have been admitted. */
  readonly onReleased: () => void;
}

export class Admission {
  private readonly parts: AdmissionParts;
  /** Modifications in progress, by slot and together. */
  private readonly busy: Uint16Array;
  private modifying = 0;
  private readonly held = new Waiting<StoreOp>('modifications that wait for a checkpoint', STORE_OPERATIONS_MAX);
  private readonly maps = new Waiting<() => void>('maps that wait to be admitted', STORE_CALLS_MAX);
  private holding = false;
  private closed = false;
  /** Checkpoints that run or wait, and the last of them. */
  private checkpointsAsked = 0;
  private checkpoints: Promise<void> = Promise.resolve();
  private onQuiet: (() => void) | null = null;

  constructor(parts: AdmissionParts) {
    this.parts = parts;
    this.busy = new Uint16Array(parts.slots.slots);
  }

  /** Admits a modification, or holds it while a checkpoint runs. */
  modify(op: StoreOp): void {
    if (this.holding || this.mustCheckpoint(op)) this.hold(op);
    else this.admit(op);
  }

  private hold(op: StoreOp): void {
    check(!op.admitted, 'a modification is held that is in progress', op.index);
    saveSource(this.parts.memory, op);
    this.held.push(op);
    if (!this.holding) this.beginCheckpoint();
  }

  private mustCheckpoint(op: StoreOp): boolean {
    const { slots, log, room } = this.parts;
    const slot = slots.find(op.volume, op.stripe);
    if (log.inUse >= log.max && (slot < 0 || !log.covers(slot))) return true;
    op.pages = pagesOf(op, slot >= 0 && log.has(slot));
    return room.sparePages < op.pages + SPARE_PAGES;
  }

  private admit(op: StoreOp): void {
    const { slots, log, room } = this.parts;
    check(!op.admitted, 'a modification is admitted twice', op.index);
    op.admitted = true;
    this.modifying += 1;
    room.reserve(op.pages);
    if (op.kind === REQUEST_ALLOCATE) {
      log.expected += 1;
      this.parts.allocate(op);
      return;
    }
    op.slot = slots.find(op.volume, op.stripe);
    if (op.slot < 0) {
      this.parts.finish(op, op.kind === REQUEST_ZERO || op.kind === REQUEST_RELEASE ? 0 : -ENOENT);
      return;
    }
    this.busy[op.slot] += 1;
    log.claim(op.slot);
    this.parts.load(op);
  }

  /** An allocation that is in progress has a slot now. */
  occupy(slot: SlotIndex): void {
    this.busy[slot] += 1;
  }

  /** Whether an operation is the only modification of its slot. */
  isAlone(op: StoreOp): boolean {
    check(this.busy[op.slot] > 0, 'an operation is alone in a slot in which it is not', op.slot);
    return this.busy[op.slot] === 1;
  }

  /** Whether no modification of a slot is in progress. */
  isIdle(slot: SlotIndex): boolean {
    return this.busy[slot] === 0;
  }

  /** Holds a modification that has changed nothing yet, and has no page any more. */
  putBack(op: StoreOp): void {
    this.leave(op);
    this.hold(op);
    this.endModification();
  }

  /** A modification is in progress no more. `endModification` has to follow. */
  leave(op: StoreOp): void {
    const { log, room } = this.parts;
    check(op.admitted, 'a modification leaves that was not admitted', op.index);
    check(op.slot < 0 || this.busy[op.slot] > 0, 'a slot has fewer modifications than none', op.slot);
    if (op.slot >= 0) this.busy[op.slot] -= 1;
    if (op.kind === REQUEST_ALLOCATE) log.expected -= 1;
    else log.endClaim(op.slot);
    check(log.expected >= 0, 'more allocations have ended than were admitted', log.expected);
    room.giveBack(op.pages);
    op.admitted = false;
  }

  /** Lets a checkpoint go on if nothing is in progress now. */
  endModification(): void {
    this.modifying -= 1;
    check(this.modifying >= 0, 'more modifications have ended than were admitted', this.modifying);
    if (this.modifying > 0 || this.onQuiet === null) return;
    const resolve = this.onQuiet;
    this.onQuiet = null;
    resolve();
  }

  /** Waits until a map is admitted, which counts as a modification until `endMap`. */
  beginMap(): Promise<void> {
    return new Promise((resolve) => {
      this.maps.push(resolve);
      if (!this.holding) this.admitMaps();
    });
  }

  endMap(): void {
    this.parts.room.giveBack(MAP_PAGES);
    this.endModification();
  }

  private admitMaps(): void {
    const { room, failed } = this.parts;
    while (this.maps.size > 0) {
      // A checkpoint that has failed makes no room, and the next one would not either.
      if (room.sparePages < MAP_PAGES + SPARE_PAGES_LOW && !failed()) {
        this.beginCheckpoint();
        return;
      }
      this.modifying += 1;
      room.reserve(MAP_PAGES);
      this.maps.take()?.();
    }
  }

  /** Has a checkpoint made soon, unless one is on its way. */
  askCheckpoint(): void {
    if (!this.holding) this.beginCheckpoint();
  }

  private beginCheckpoint(): void {
    this.holding = true;
    if (this.checkpointsAsked > 0) return;
    void this.runCheckpoint('half').catch((error: unknown) => {
      throw error;
    });
  }

  /** Brings the tree up to date, with everything held; after any other that runs. */
  runCheckpoint(evict: 'half' | 'all'): Promise<void> {
    this.holding = true;
    this.checkpointsAsked += 1;
    const result = this.checkpoints.then(() => this.checkpointNow(evict));
    this.checkpoints = result.catch(() => {});
    return result;
  }

  private async checkpointNow(evict: 'half' | 'all'): Promise<void> {
    if (this.modifying > 0) {
      check(this.onQuiet === null, 'two checkpoints wait for modifications to end');
      await new Promise<void>((resolve) => {
        this.onQuiet = resolve;
      });
    }
    check(this.holding, 'a checkpoint runs while modifications are admitted');
    check(this.modifying === 0, 'a checkpoint begins while modifications are in progress', this.modifying);
    await this.parts.checkpoint(evict);
    check(this.modifying === 0, 'modifications were admitted during a checkpoint', this.modifying);
    this.checkpointsAsked -= 1;
    if (this.closed || this.checkpointsAsked > 0) return;
    this.holding = false;
    this.admitMaps();
    for (const op of this.held.takeAll()) this.parts.retry(op);
    this.parts.onReleased();
  }

  /** Modifications that are held; they are the caller's now. */
  takeHeld(): StoreOp[] {
    return this.held.takeAll();
  }

  /** Admits nothing more. */
  close(): void {
    check(this.modifying === 0, 'modifications are in progress when their store is given up', this.modifying);
    this.closed = true;
    this.holding = true;
  }
}
