/**
 * Giving slots to segments, and taking them back.
 *
 * An allocation is answered when its record is durable; others for the same segment wait with it. A slot that is given back can
 * be given away again only when the record of that is durable, and no read still looks at its last owner's entries.
 */

import { check } from '../../core/check.js';
import { ENOSPC } from '../../core/errno.js';
import { NO_PAGE, type SlotIndex, type TablePage } from '../../core/ids.js';
import { STORE_OPERATIONS_MAX } from '../../core/limits.js';
import { Waiting } from '../../core/waiting.js';
import { EPOCH_FIRST } from '../../layout/map-codec.js';
import { SLOT_FREE } from '../format/format.js';
import { RECORD_FREE } from '../format/journal-records.js';
import type { Superblock } from '../format/superblock.js';
import { type StoreOp, WAIT_INTENT, WAIT_RECORDS, WAIT_SPACE } from '../store-op.js';
import type { ActivityLog } from './activity-log.js';
import type { ControlIo } from './control-io.js';
import { FreedSlots } from './freed-slots.js';
import type { JournalWriter } from './journal-writer.js';
import type { PendingEntries } from './pending-entries.js';
import type { SlotTable } from './slot-table.js';
import type { TableCache } from './table-cache.js';
import type { VolumeTable } from './volume-table.js';
import type { YoungBlocks } from './young-blocks.js';

/** What the allocation of slots needs of its store. */
export interface SlotAllocationParts {
  readonly superblock: Superblock;
  readonly io: ControlIo;
  readonly slots: SlotTable;
  readonly tables: TableCache;
  readonly journal: JournalWriter;
  readonly volumes: VolumeTable;
  readonly log: ActivityLog;
  readonly pending: PendingEntries;
  readonly young: YoungBlocks;
  /** Slots whose entries in the tree are not up to date. */
  readonly changedSlots: Set<number>;
  readonly finish: (op: StoreOp, result: number) => void;
  /** The batch is full: the operation is to come here again when there is another. */
  readonly waitForRoom: (op: StoreOp) => void;
  /** No page in memory is free: the operation is to come here again when one may be. */
  readonly awaitPage: (op: StoreOp) => void;
  /** Unpins the page of a slot that has been given back. */
  readonly letGo: (page: TablePage) => void;
  /** A modification is in progress in a slot that has just been given to its segment. */
  readonly occupy: (slot: SlotIndex) => void;
}

export class SlotAllocation {
  private readonly parts: SlotAllocationParts;
  /** By slot that is being given away: those who wait until that is durable, the first of which has begun it. */
  private readonly allocations = new Map<number, StoreOp[]>();
  private readonly freed: FreedSlots;
  /** Allocations for which no slot is free before something has been discarded. */
  private readonly waiting = new Waiting<StoreOp>('allocations that wait for a free slot', STORE_OPERATIONS_MAX);
  private ended = false;

  constructor(parts: SlotAllocationParts) {
    this.parts = parts;
    this.freed = new FreedSlots({
      discard: parts.io.device.geometry.discard ? (slot) => this.discard(slot) : null,
      onFree: () => this.resume(),
    });
  }

  /** Whether a slot is just being given to a segment. */
  isAllocating(slot: SlotIndex): boolean {
    return this.allocations.has(slot);
  }

  /** Gives an operation's segment a slot, if it has none. */
  begin(op: StoreOp): void {
    const { slots, tables, volumes } = this.parts;
    const existing = slots.find(op.volume, op.stripe);
    if (existing >= 0) {
      const waiting = this.allocations.get(existing);
      if (waiting === undefined) this.parts.finish(op, 0);
      else waiting.push(op);
      return;
    }
    check(volumes.replicas[op.volume] !== undefined, 'an allocation is for a replica that is not here', op.volume);
    check(slots.freeSlots >= this.freed.size, 'more slots were given back than are free', this.freed.size);
    if (slots.freeSlots === this.freed.size) {
      this.waitForSpace(op);
      return;
    }
    // A page that a read still holds shows its old owner's entries.
    const slot = slots.findFree((free) => !this.freed.has(free) && tables.find(free) < 0);
    // Slots may be free, but for a read that still looks at the table of their last owner.
    const page = slot < 0 ? NO_PAGE : tables.take(slot);
    if (page < 0) this.parts.awaitPage(op);
    else this.assign(op, slot, page);
  }

  private assign(op: StoreOp, slot: SlotIndex, page: TablePage): void {
    const { superblock, slots, tables, journal, volumes, changedSlots } = this.parts;
    const replica = volumes.replicas[op.volume];
    check(replica !== undefined, 'a slot is allocated for a replica that is not here', op.volume);
    check(!this.parts.log.has(slot), 'a free slot is in the activity log', slot);
    check(tables.slotAt(page) === slot, 'a slot is given away with the block table of another', slot);
    op.waiting = WAIT_INTENT;
    const { volume, members } = replica;
    const member = members.find(({ deviceId }) => deviceId === superblock.deviceId)?.place ?? 0;
    const owner = { volumeId: volume.id, group: replica.group + 1 };
    if (!journal.batch.addAllocate({ ...owner, slot, member, stripe: op.stripe, epoch: EPOCH_FIRST })) {
      // With a page that shows nothing of its own the slot would be passed by the next time, for ever if it is the last.
      tables.forget(slot);
      this.parts.waitForRoom(op);
      return;
    }
    slots.assign(slot, op.volume, op.stripe, member);
    tables.clear(page);
    tables.pin(page);
    tables.setChanged(page);
    this.parts.occupy(slot);
    op.slot = slot;
    op.page = page;
    changedSlots.add(slot);
    this.allocations.set(slot, [op]);
    journal.whenSynced(journal.batch.sequence, op);
  }

  /** The record of an allocation is durable (0), or nothing will be any more. */
  end(op: StoreOp, result: number): void {
    const waiting = this.allocations.get(op.slot);
    check(waiting !== undefined, 'an allocation has ended twice, or was not begun', op.slot);
    this.allocations.delete(op.slot);
    if (result === 0) this.parts.log.add(op.slot);
    for (const other of waiting) this.parts.finish(other, result);
  }

  /** No slot is free. Those that were given back are, once the record of that is durable. */
  private waitForSpace(op: StoreOp): void {
    const { journal } = this.parts;
    if (this.freed.size === 0) {
      this.parts.finish(op, -ENOSPC);
      return;
    }
    op.waiting = WAIT_SPACE;
    journal.whenSynced(journal.lastSequence, op);
  }

  /** The records of slots that were given back are durable: an operation that has waited for that has its turn. */
  haveSpace(op: StoreOp): void {
    this.sweep();
    if (this.freed.discarding) this.waiting.push(op);
    else this.begin(op);
  }

  /** Slots whose records are durable become free for use. */
  sweep(): void {
    if (!this.ended) this.freed.advance(this.parts.journal.durableSequence);
  }

  private discard(slot: SlotIndex): Promise<number> {
    const { superblock, slots } = this.parts;
    const { layout } = superblock;
    check(slots.states[slot] === SLOT_FREE, 'a slot that is in use is discarded', slot);
    return this.parts.io.discard(layout.dataOffset + slot * layout.slotBytes, layout.slotBytes);
  }

  private resume(): void {
    for (const op of this.waiting.takeAll()) this.begin(op);
  }

  /** Takes the slot of an operation back; the operation proceeds when the journal has that. */
  free(op: StoreOp): void {
    const { journal, slots, tables, pending, young, log, changedSlots } = this.parts;
    const { slot, page } = op;
    check(!this.allocations.has(slot), 'a slot is given back while it is given away', slot);
    check(tables.slotAt(page) === slot, 'a slot is given back with the block table of another', slot);
    op.waiting = WAIT_RECORDS;
    if (!journal.batch.addSlot(RECORD_FREE, slot)) {
      this.parts.waitForRoom(op);
      return;
    }
    pending.forget(slot, page);
    young.forget(slot);
    log.remove(slot);
    slots.free(slot);
    tables.setClean(page);
    this.parts.letGo(page);
    op.page = NO_PAGE;
    changedSlots.add(slot);
    this.freed.add(slot, journal.batch.sequence);
    journal.whenComplete(op);
  }

  /** Begins no more discards. */
  stop(): void {
    this.freed.stop();
  }

  /** The device takes no more modifications. Returns the operations that wait; they are the caller's now. */
  fail(): StoreOp[] {
    this.ended = true;
    return this.waiting.takeAll();
  }
}
