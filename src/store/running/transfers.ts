/**
 * Transfers of content between memory and the slots of a device, each with a place for the checksums of its blocks.
 *
 * Reads are answered here: a block whose content does not match its entry is an error, and one that was never written is
 * zeroes, whatever the slot holds there. Of a write, what follows is the entries' (`transferred`).
 */

import { check } from '../../core/check.js';
import { EBADMSG, EIO, ENODATA } from '../../core/errno.js';
import { BLOCK_BYTES, STORE_OPERATIONS_MAX, STORE_TRANSFERS_MAX } from '../../core/limits.js';
import { Waiting } from '../../core/waiting.js';
import {
  BLOCK_POISON,
  BLOCK_SUSPECT,
  BLOCK_VALID,
  ENTRY_FLAGS,
  ZERO_BLOCK_CHECKSUM,
} from '../../layout/block-entry.js';
import { COMPLETION_ABANDONED, COMPLETION_MISMATCH, type CompletionPort } from '../../ports/completion.js';
import { DEVICE_SUMMED, type Device } from '../../ports/device.js';
import type { BlockIndex } from '../../ports/ids.js';
import type { Memory } from '../../ports/memory.js';
import { REQUEST_ACCEPT, REQUEST_READ, REQUEST_WRITE } from '../../ports/segment-request.js';
import { type Layout, TABLE_ENTRIES } from '../format/format.js';
import { type StoreOp, saveSource } from '../store-op.js';
import type { ActivityLog } from './activity-log.js';
import type { PendingEntries } from './pending-entries.js';
import type { TableCache } from './table-cache.js';

const AREA_BYTES = TABLE_ENTRIES * 4;
/** The device need not sum what is written. */
const NO_SUMS = 0;
/** Memory for the checksums of transfers in flight. */
export const TRANSFER_AREAS_BYTES = STORE_TRANSFERS_MAX * AREA_BYTES;

/** What transfers need of their store. */
export interface TransfersParts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly device: Device;
  readonly layout: Layout;
  readonly tables: TableCache;
  readonly pending: PendingEntries;
  readonly log: ActivityLog;
  /** Slots whose entries in the tree are not up to date. */
  readonly changedSlots: Set<number>;
  /** Start of `TRANSFER_AREAS_BYTES`. */
  readonly areasStart: number;
  /** The operation of an index. */
  readonly opAt: (index: number) => StoreOp;
  readonly finish: (op: StoreOp, result: number) => void;
  /** What is filled is so when the batch is handed over, and only then may anybody be told. */
  readonly finishLater: (op: StoreOp, result: number) => void;
  /** Content that was read does not match its entry. */
  readonly onMismatch: () => void;
  /** A write of all its blocks is about to be handed over; its place for checksums holds those that came along. */
  readonly onWrite: (op: StoreOp) => void;
  /** A write has failed, which suspects what it has overwritten; it ends with its result. */
  readonly onFailed: (op: StoreOp) => void;
  /** A modification's content has been written, or read, and its checksums are there. */
  readonly transferred: (op: StoreOp) => void;
}

export class Transfers {
  /** Checksums of transfers: that of the first block of area `a` is at `a * TABLE_ENTRIES`. */
  readonly checksums: Uint32Array;
  /** Those of writes that are proven, likewise: no device sees them. */
  readonly provenSums = new Uint32Array(STORE_TRANSFERS_MAX * TABLE_ENTRIES);
  private readonly parts: TransfersParts;
  private readonly memory: Memory;
  private readonly device: Device;
  private readonly tables: TableCache;
  private readonly layout: Layout;
  private readonly areasStart: number;
  private readonly token: number;
  private readonly freeAreas: number[] = [];
  /** Sums of content that is compared. */
  private readonly found = new Uint32Array(TABLE_ENTRIES);
  private readonly waiting = new Waiting<StoreOp>('operations that wait for a transfer', STORE_OPERATIONS_MAX);

  constructor(parts: TransfersParts) {
    const { completions, memory, device, tables, layout, areasStart } = parts;
    this.parts = parts;
    this.memory = memory;
    this.device = device;
    this.tables = tables;
    this.layout = layout;
    this.areasStart = areasStart;
    const { buffer, byteOffset } = memory.bytes;
    this.checksums = new Uint32Array(buffer, byteOffset + areasStart, TRANSFER_AREAS_BYTES / 4);
    for (let area = STORE_TRANSFERS_MAX - 1; area >= 0; area -= 1) this.freeAreas.push(area);
    this.token = completions.register({ complete: (tag, result, flags) => this.end(tag, result, flags) });
  }

  /** Reads the content of a read whose block table is there. */
  read(op: StoreOp): void {
    const { words } = this.tables;
    let from = -1;
    let to = -1;
    let result = 0;
    for (let block = op.block; block < op.block + op.blocks; block += 1) {
      const flags = words[this.tables.wordOf(op.page, block) + ENTRY_FLAGS];
      if ((flags & (BLOCK_POISON | BLOCK_SUSPECT)) !== 0) {
        op.request?.bad.add(block - op.block);
        if (result === 0) result = (flags & BLOCK_POISON) !== 0 ? -ENODATA : -EBADMSG;
      }
      if ((flags & BLOCK_VALID) === 0) continue;
      if (from < 0) from = block;
      to = block + 1;
    }
    if (result < 0) {
      this.parts.finish(op, result);
      return;
    }
    if (from < 0) {
      this.endZeroes(op);
      return;
    }
    op.from = from;
    op.to = to;
    this.start(op);
  }

  /** Ends a read of blocks that were never written. */
  endZeroes(op: StoreOp): void {
    const bytes = op.blocks * BLOCK_BYTES;
    check(op.kind === REQUEST_READ, 'zeroes answer what is no read', op.kind);
    this.memory.fill(op.memory, bytes, 0);
    const { request } = op;
    if (request !== null && request.sums !== null) {
      request.sums.fill(ZERO_BLOCK_CHECKSUM, 0, op.blocks);
      request.summed = true;
    }
    this.parts.finishLater(op, bytes);
  }

  /** Begins the transfer of an operation, or lets it wait for a place for its checksums. */
  start(op: StoreOp): void {
    if (this.freeAreas.length === 0) {
      saveSource(this.memory, op);
      this.waiting.push(op);
      return;
    }
    const { layout, device } = this;
    this.checkPlace(op);
    const area = this.freeAreas.pop() as number;
    op.area = area;
    const start = layout.dataOffset + op.slot * layout.slotBytes;
    const token = this.token + op.index;
    const checksums = this.areasStart + area * AREA_BYTES;
    if (op.kind === REQUEST_READ) {
      const skipped = (op.from - op.block) * BLOCK_BYTES;
      const bytes = (op.to - op.from) * BLOCK_BYTES;
      device.read(op.memory + skipped, bytes, start + op.from * BLOCK_BYTES, token, checksums);
      return;
    }
    const offset = start + op.block * BLOCK_BYTES;
    const bytes = op.blocks * BLOCK_BYTES;
    if (op.kind === REQUEST_ACCEPT) {
      device.read(op.memory, bytes, offset, token, checksums);
      return;
    }
    this.bringSums(op);
    if (op.left > 0) {
      this.startRuns(op);
      return;
    }
    this.parts.onWrite(op);
    const { source } = op;
    const [flags, sums] = [this.flagsOf(op), op.proven ? NO_SUMS : checksums];
    op.source = -1;
    if (source >= 0) device.writeFrom(source, op.memory, bytes, offset, flags, token, sums);
    else device.write(op.memory, bytes, offset, flags, token, sums);
  }

  /** Puts the sums that a write is to have where those of its transfer would go. */
  private bringSums({ sums, proven, area, blocks }: StoreOp): void {
    if (sums === null) return;
    check(sums.length >= blocks, 'a write has fewer sums than blocks', sums.length);
    const into = proven ? this.provenSums : this.checksums;
    for (let index = 0; index < blocks; index += 1) into[area * TABLE_ENTRIES + index] = sums[index];
  }

  private flagsOf({ sums, proven }: StoreOp): number {
    return sums !== null && !proven ? DEVICE_SUMMED : 0;
  }

  /** Begins a write of which some blocks are left as they are. Of one that has not its sums no run may be written. */
  private startRuns(op: StoreOp): void {
    saveSource(this.memory, op);
    if (op.sums !== null && !op.proven && !this.hasSums(op, op.sums)) {
      this.parts.finishLater(op, -EBADMSG);
      return;
    }
    op.proven = op.sums !== null;
    this.bringSums(op);
    check(this.writeRun(op, op.block), 'a write goes to none of its blocks', op.index);
  }

  private hasSums(op: StoreOp, sums: Uint32Array): boolean {
    const { memory, found } = this;
    memory.carryOut();
    memory.checksums(op.memory, op.blocks, found);
    for (let index = 0; index < op.blocks; index += 1) if (found[index] !== sums[index]) return false;
    return true;
  }

  /** Writes the next blocks from `block` on that are not left as they are. Returns false if there are none. */
  private writeRun(op: StoreOp, block: BlockIndex): boolean {
    check(op.area >= 0, 'blocks are written that have no place for checksums', op.index);
    const end = op.block + op.blocks;
    let from = block;
    while (from < end && op.isLeft(from - op.block)) from += 1;
    let to = from;
    while (to < end && !op.isLeft(to - op.block)) to += 1;
    if (from === to) return false;
    op.from = from;
    op.to = to;
    const { layout } = this;
    const offset = layout.dataOffset + op.slot * layout.slotBytes + from * BLOCK_BYTES;
    const skipped = from - op.block;
    const checksums = op.proven ? NO_SUMS : this.areasStart + op.area * AREA_BYTES + 4 * skipped;
    const memory = op.memory + skipped * BLOCK_BYTES;
    this.device.write(memory, (to - from) * BLOCK_BYTES, offset, 0, this.token + op.index, checksums);
    return true;
  }

  /** A transfer at a wrong place would destroy, or show, what belongs to others. */
  private checkPlace(op: StoreOp): void {
    const { layout } = this;
    check(op.slot >= 0 && op.slot < layout.slots, 'a transfer is of no slot', op.slot);
    check((op.block + op.blocks) * BLOCK_BYTES <= layout.slotBytes, 'a transfer reaches beyond its slot', op.slot);
    check(op.area < 0, 'an operation begins a second transfer', op.index);
    if (op.kind === REQUEST_WRITE) {
      check(this.parts.log.has(op.slot), 'a slot is written to that is not in the activity log', op.slot);
    }
  }

  private end(index: number, result: number, flags: number): void {
    const op = this.parts.opAt(index);
    check(op.area >= 0, 'a transfer has ended twice, or was not begun', index);
    check(this.tables.pinned(op.page), 'a transfer has ended without its block table', index);
    op.resultFlags |= flags & COMPLETION_ABANDONED;
    if (op.kind === REQUEST_READ) {
      this.endRead(op, result);
    } else if ((flags & COMPLETION_MISMATCH) !== 0) {
      // The device has not seen it.
      this.parts.finish(op, -EBADMSG);
    } else if (result < 0) {
      // What a device says is not taken for what has been found of the content.
      op.result = result === -EBADMSG ? -EIO : result;
      op.next = 0;
      if (op.kind === REQUEST_WRITE) {
        this.suspectRange(op);
        this.parts.onFailed(op);
      } else this.parts.finish(op, op.result);
    } else if (op.left === 0 || !this.writeRun(op, op.to)) {
      op.next = 0;
      this.parts.transferred(op);
    }
  }

  private endRead(op: StoreOp, result: number): void {
    if (result < 0) {
      this.parts.finish(op, result);
      return;
    }
    const { tables, checksums } = this;
    const { words } = tables;
    check(op.to > op.from && op.from >= op.block, 'a read has ended that has read nothing', op.index);
    const area = op.area * TABLE_ENTRIES;
    let bad = 0;
    for (let block = op.from; block < op.to; block += 1) {
      const word = tables.wordOf(op.page, block);
      if (words[word + ENTRY_FLAGS] === BLOCK_VALID && words[word] === checksums[area + block - op.from]) continue;
      if ((words[word + ENTRY_FLAGS] & BLOCK_VALID) === 0) continue;
      op.request?.bad.add(block - op.block);
      bad += 1;
    }
    if (bad > 0) {
      this.parts.onMismatch();
      this.parts.finish(op, -EBADMSG);
      return;
    }
    this.tellSums(op);
    const bytes = op.blocks * BLOCK_BYTES;
    if (this.fillUnwritten(op)) this.parts.finishLater(op, bytes);
    else this.parts.finish(op, bytes);
  }

  /** Tells whoever wants to know the sums of what has been read: they have just been compared. */
  private tellSums({ request, block, blocks, from, to, area, page }: StoreOp): void {
    if (request === null || request.sums === null) return;
    const { words } = this.tables;
    for (let index = 0; index < blocks; index += 1) {
      const at = block + index;
      const stored = at >= from && at < to && (words[this.tables.wordOf(page, at) + ENTRY_FLAGS] & BLOCK_VALID) !== 0;
      request.sums[index] = stored ? this.checksums[area * TABLE_ENTRIES + at - from] : ZERO_BLOCK_CHECKSUM;
    }
    request.summed = true;
  }

  /** What was never written reads as zeroes, whatever the slot holds there. Returns whether anything was filled. */
  private fillUnwritten(op: StoreOp): boolean {
    const { words } = this.tables;
    let filled = false;
    for (let block = op.block; block < op.block + op.blocks; block += 1) {
      // One that came to be written meanwhile, outside of what was read, counts as it was at the beginning.
      const read = block >= op.from && block < op.to;
      if (read && (words[this.tables.wordOf(op.page, block) + ENTRY_FLAGS] & BLOCK_VALID) !== 0) continue;
      this.memory.fill(op.memory + (block - op.block) * BLOCK_BYTES, BLOCK_BYTES, 0);
      filled = true;
    }
    return filled;
  }

  /** A write has failed: nobody knows what its blocks hold. */
  private suspectRange(op: StoreOp): void {
    const { pending, changedSlots } = this.parts;
    const { words } = this.tables;
    for (let block = op.block; block < op.block + op.blocks; block += 1) {
      if (op.isLeft(block - op.block)) continue;
      const word = this.tables.wordOf(op.page, block);
      // What was never valid stays so: it reads as zeroes, and the slot's old content stays hidden.
      if ((words[word + ENTRY_FLAGS] & BLOCK_VALID) === 0) continue;
      words[word + ENTRY_FLAGS] |= BLOCK_SUSPECT;
      pending.add(op.slot, op.page, block);
    }
    this.tables.setChanged(op.page);
    changedSlots.add(op.slot);
  }

  /** Takes back what an operation that has ended had for its transfer. */
  release(op: StoreOp): void {
    if (op.area < 0) return;
    this.freeAreas.push(op.area);
    op.area = -1;
    check(this.freeAreas.length <= STORE_TRANSFERS_MAX, 'a place for checksums is given back twice', op.index);
  }

  /** An operation has ended: the one that has waited longest has its turn. */
  resume(): void {
    if (this.waiting.size > 0 && this.freeAreas.length > 0) this.start(this.waiting.take() as StoreOp);
  }

  /** Gives up the handler; nothing may be in flight. */
  close(): void {
    check(this.freeAreas.length === STORE_TRANSFERS_MAX, 'transfers are in flight when their store is given up');
    check(this.waiting.size === 0, 'transfers wait when their store is given up', this.waiting.size);
    this.parts.completions.unregister(this.token);
  }
}
