/**
 * Carries pieces out: from their turn at their blocks, over the members, to the answer.
 *
 * ```text
 *   submit ── waits for its blocks ── begin ─┬─ read ──────────────┬─ finish
 *                                            ├─ [slots] ─ modify ──┤   (a failed member: the map first)
 *                                            └─ patch: read, modify┘
 * ```
 *
 * A piece never ends within `submit`. A write is sent to every member that is in-sync or syncing and is answered when all
 * that are in-sync have it, or have left the map. A read goes to one member; if that fails, the read takes its blocks for
 * itself and `CarefulRead` looks for a good copy.
 *
 * Fault model: members fail in any phase, with any error; memory of operations that were given up belongs to the kernel until
 * they end, so the answer carries `COMPLETION_ABANDONED`, and such scratch memory is set aside for so long.
 */

import { check } from '../core/check.js';
import { EIO, ENOSPC } from '../core/errno.js';
import { BLOCK_BYTES, COPIES_MAX, PATCHES_MAX, VOLUME_PARTS_MAX, VOLUME_REQUESTS_MAX } from '../core/limits.js';
import { Waiting } from '../core/waiting.js';
import { groupOf } from '../layout/volume-map.js';
import { COMPLETION_ABANDONED, type CompletionPort } from '../ports/completion.js';
import { FENCE_ALL } from '../ports/device.js';
import type { Memory } from '../ports/memory.js';
import { SEGMENT_FUA, SEGMENT_KEEP } from '../ports/segments.js';
import { type Allocation, allocated, exists } from './allocation.js';
import { Barriers } from './barriers.js';
import { BlockOrder } from './block-order.js';
import { type Membership, SETTLED_LATER, SETTLED_OK } from './membership.js';
import { PIECE_LOCK, PIECE_PATCH, PIECE_READ, PIECE_WRITE, PIECE_ZERO, Piece } from './piece.js';
import type { VolumeCounters } from './volume-events.js';
import type { WriteStamps } from './write-stamps.js';

/** A tag is a piece's index and a member's position, or this for steps that end by themselves. */
const TAG_SHIFT = 2;
const SELF = COPIES_MAX;

/** Of the requests of a volume, of their parts, and of jobs. */
const PIECES_MAX = VOLUME_REQUESTS_MAX + 2 * VOLUME_PARTS_MAX;
/** Should a device hang, all blocks that are in use may be set aside; then the other copies still have to be changed. */
const PATCH_BLOCKS = COPIES_MAX * PATCHES_MAX;
/** Memory for patches, starting at a page. */
export const PATCH_SCRATCH_BYTES = PATCH_BLOCKS * BLOCK_BYTES;

export class Pieces {
  /** Repeats a read that failed on a member, alone with its blocks; ends with `endCareful`. */
  readCarefully: (piece: Piece) => void = () => {};
  /** A piece that was a part has ended, so that another one can be had. */
  onPartFree: () => void = () => {};
  /** A segment may have been given back. */
  onRelease: () => void = () => {};
  /** A segment may have been discarded whose slot is to be given back, which its discard could not do. */
  onUnreleased: (group: number, stripe: number) => void = () => {};
  inFlight = 0;
  private parts = 0;
  private locks = 0;
  private readonly completions: CompletionPort;
  private readonly memory: Memory;
  private readonly membership: Membership;
  private readonly allocation: Allocation;
  private readonly stamps: WriteStamps;
  private readonly counters: VolumeCounters;
  private readonly token: number;
  private readonly all: Piece[] = [];
  private readonly free: Piece[] = [];
  private readonly order = new BlockOrder();
  /** Pieces whose answer depends on a change of the map. */
  private held: Piece[] = [];
  private readonly scratch: number;
  private readonly freeScratch: number[] = [];
  private readonly wantScratch = new Waiting<Piece>('pieces that wait for scratch blocks', PIECES_MAX);
  /** Patches that have a scratch block, and scratch blocks that are set aside. */
  private patching = 0;
  private asideScratch = 0;
  private readonly barriers = new Barriers();

  constructor(
    completions: CompletionPort,
    memory: Memory,
    membership: Membership,
    allocation: Allocation,
    stamps: WriteStamps,
    counters: VolumeCounters,
    scratch: number,
  ) {
    this.completions = completions;
    this.memory = memory;
    this.membership = membership;
    this.allocation = allocation;
    this.stamps = stamps;
    this.counters = counters;
    this.scratch = scratch;
    for (let index = PATCH_BLOCKS - 1; index >= 0; index -= 1) this.freeScratch.push(index);
    this.token = completions.register({ complete: (tag, result, flags) => this.complete(tag, result, flags) });
  }

  /** A piece to fill in, or null if there are too many parts. Of whole requests the caller knows that there are not. */
  take(part: boolean): Piece | null {
    if (part && this.parts === VOLUME_PARTS_MAX) return null;
    let piece = this.free.pop();
    if (piece === undefined) {
      check(this.all.length < PIECES_MAX, 'more pieces than requests and parts', PIECES_MAX);
      piece = new Piece(this.all.length);
      this.all.push(piece);
    }
    if (part) this.parts += 1;
    this.inFlight += 1;
    piece.part = part;
    piece.resultFlags = 0;
    piece.targets = 0;
    piece.failed = 0;
    piece.noSpace = 0;
    piece.started = false;
    piece.careful = false;
    piece.changed = false;
    piece.release = false;
    piece.discards = false;
    piece.source = -1;
    return piece;
  }

  /** Lines a piece up; `kind`, `stripe`, `block`, `blocks`, `flags`, `token`, `answer` and memory have been filled in. */
  submit(piece: Piece): void {
    piece.group = groupOf(this.membership.record, piece.stripe);
    piece.exclusive = piece.kind !== PIECE_READ;
    if (piece.release) {
      // While a slot may become free nothing else must happen in the segment.
      piece.firstHeld = 0;
      piece.endHeld = Number.MAX_SAFE_INTEGER;
    } else {
      piece.firstHeld = piece.block;
      piece.endHeld = piece.block + piece.blocks;
    }
    if (this.order.add(piece)) this.begin(piece);
    else this.bringPayload(piece);
  }

  /** The caller's source is free after this batch, so what cannot be sent yet is copied now. */
  private bringPayload(piece: Piece): void {
    if (piece.source < 0) return;
    this.memory.copy(piece.memory, piece.source, piece.blocks * BLOCK_BYTES);
    piece.source = -1;
  }

  private begin(piece: Piece): void {
    piece.started = true;
    if (this.membership.stopped !== null && piece.kind !== PIECE_LOCK) this.endLater(piece, -EIO);
    else if (piece.careful) this.readCarefully(piece);
    else if (piece.kind === PIECE_READ) this.read(piece);
    else if (piece.kind === PIECE_WRITE) this.write(piece);
    else if (piece.kind === PIECE_ZERO) this.zero(piece);
    else if (piece.kind === PIECE_PATCH) this.patch(piece);
    else piece.onStart?.();
  }

  /** Ends a piece in a later batch. */
  private endLater(piece: Piece, result: number): void {
    piece.outcome = result;
    this.completions.defer(this.token + (piece.index << TAG_SHIFT) + SELF, 0);
  }

  private complete(tag: number, result: number, flags: number): void {
    const piece = this.all[tag >>> TAG_SHIFT];
    const position = tag & ((1 << TAG_SHIFT) - 1);
    if ((flags & COMPLETION_ABANDONED) !== 0) piece.resultFlags |= COMPLETION_ABANDONED;
    if (position === SELF) this.endSelf(piece);
    else if (piece.kind === PIECE_READ || (piece.kind === PIECE_PATCH && !piece.changed)) {
      this.endRead(piece, position, result);
    } else this.endOne(piece, position, result);
  }

  private endSelf(piece: Piece): void {
    if (piece.kind === PIECE_PATCH && !piece.changed && piece.outcome === 0) this.change(piece);
    else this.finish(piece, piece.outcome);
  }

  // Reading.

  private read(piece: Piece): void {
    const group = this.membership.groups[piece.group];
    const slot = this.membership.pickReader(group);
    if (slot === null) {
      this.endLater(piece, -EIO);
    } else if (!slot.present.has(piece.stripe)) {
      this.memory.fill(piece.memory, piece.blocks * BLOCK_BYTES, 0);
      this.endLater(piece, 0);
    } else {
      const token = this.token + (piece.index << TAG_SHIFT) + slot.position;
      slot.present.read(piece.stripe, piece.block, piece.blocks, piece.memory, token);
    }
  }

  private endRead(piece: Piece, position: number, result: number): void {
    if (result >= 0) {
      if (piece.kind === PIECE_PATCH) this.change(piece);
      else this.finish(piece, 0);
      return;
    }
    piece.reader = position;
    const slot = this.membership.groups[piece.group][position];
    if (slot.member?.fence() === FENCE_ALL) this.membership.expel(slot, 'the device is gone');
    if ((piece.resultFlags & COMPLETION_ABANDONED) !== 0) {
      // The member may still write to this memory, so another copy must not be read into it.
      if (piece.kind === PIECE_PATCH) {
        this.returnScratch(piece);
        this.patch(piece);
      } else this.finish(piece, -EIO);
      return;
    }
    this.counters.retriedReads += 1;
    piece.careful = true;
    if (piece.exclusive) {
      this.readCarefully(piece);
      return;
    }
    // Repairing modifies the blocks: the read lines up anew, to be alone with them.
    piece.started = false;
    this.order.remove(piece);
    piece.exclusive = true;
    if (this.order.add(piece)) this.begin(piece);
    this.beginReady();
  }

  /** A careful read has put its blocks into the piece's memory, or failed for good. */
  endCareful(piece: Piece, result: number, flags: number): void {
    piece.careful = false;
    piece.resultFlags |= flags;
    if (piece.kind === PIECE_PATCH && (flags & COMPLETION_ABANDONED) !== 0) {
      this.returnScratch(piece);
      this.patch(piece);
    } else if (result < 0 || piece.kind !== PIECE_PATCH) this.finish(piece, result);
    else this.change(piece);
  }

  // Patching.

  private patch(piece: Piece): void {
    const index = this.patching < PATCHES_MAX ? this.freeScratch.pop() : undefined;
    if (index === undefined) {
      if (this.asideScratch === PATCH_BLOCKS) this.endLater(piece, -EIO);
      else this.wantScratch.push(piece);
      return;
    }
    this.patching += 1;
    piece.scratch = index;
    piece.memory = this.scratch + index * BLOCK_BYTES;
    const nothing = !exists(this.membership.groups[piece.group], piece.stripe);
    if (nothing && piece.payload < 0) {
      piece.changed = true;
      this.zero(piece);
    } else {
      this.read(piece);
    }
  }

  /** The block is in scratch memory: changes it, and writes it. */
  private change(piece: Piece): void {
    piece.changed = true;
    const at = piece.memory + piece.from;
    if (piece.payload < 0) this.memory.fill(at, piece.length, 0);
    else this.memory.copy(at, piece.payload, piece.length);
    this.write(piece);
  }

  private returnScratch(piece: Piece): void {
    const index = piece.scratch;
    piece.scratch = -1;
    this.patching -= 1;
    if ((piece.resultFlags & COMPLETION_ABANDONED) === 0) {
      this.freeScratch.push(index);
      return;
    }
    // It is the scratch block that the member may still use, not the caller's memory.
    piece.resultFlags &= ~COMPLETION_ABANDONED;
    this.asideScratch += 1;
    this.memory.whenFree(this.scratch + index * BLOCK_BYTES, BLOCK_BYTES, () => {
      this.asideScratch -= 1;
      this.freeScratch.push(index);
      this.servePatches();
    });
  }

  private servePatches(): void {
    this.wantScratch.resume(
      (piece) => this.patch(piece),
      () => (this.patching < PATCHES_MAX && this.freeScratch.length > 0) || this.asideScratch === PATCH_BLOCKS,
    );
  }

  // Modifying.

  private write(piece: Piece): void {
    const group = this.membership.groups[piece.group];
    if (!allocated(group, piece.stripe)) {
      this.bringPayload(piece);
      this.writeOnceAllocated(piece);
      return;
    }
    this.aim(piece, false);
    const { stripe, block, blocks, memory } = piece;
    const flags = piece.flags & SEGMENT_FUA;
    const { low, high } = this.stamps.next();
    let { source } = piece;
    for (let position = 0; position < group.length; position += 1) {
      const slot = group[position];
      if ((piece.targets & slot.bit) === 0) continue;
      const token = this.token + (piece.index << TAG_SHIFT) + position;
      slot.present.write(stripe, block, blocks, memory, source, low, high, flags, token);
      // The first member's operation brings the payload; the others find it in place.
      source = -1;
    }
  }

  private writeOnceAllocated(piece: Piece): void {
    this.allocation.ensure(piece.stripe).then((result) => {
      if (result < 0 || this.membership.stopped !== null) this.finish(piece, result < 0 ? result : -EIO);
      else this.write(piece);
    });
  }

  /** Zeroes into a segment that is all zeroes change nothing. That they are durable is for the whole request to see to. */
  private zero(piece: Piece): void {
    const group = this.membership.groups[piece.group];
    if (!exists(group, piece.stripe)) {
      this.endLater(piece, 0);
      return;
    }
    this.aim(piece, true);
    // A member that comes back learns from the entries what was zeroed; a freed slot would tell it nothing.
    const release = piece.release && this.membership.complete(group);
    const { stripe, block, blocks } = piece;
    const flags = piece.flags & SEGMENT_KEEP;
    const { low, high } = this.stamps.next();
    for (let position = 0; position < group.length; position += 1) {
      const slot = group[position];
      if ((piece.targets & ~piece.done & slot.bit) === 0) continue;
      const token = this.token + (piece.index << TAG_SHIFT) + position;
      slot.present.zero(stripe, block, blocks, release, low, high, flags, token);
    }
  }

  /**
   * Chooses the members that a modification goes to, and counts its operations before the first begins. What zeroes does
   * nothing where the segment has no slot, so there it is done: should the others leave, that copy is still right.
   */
  private aim(piece: Piece, zeroes: boolean): void {
    const group = this.membership.groups[piece.group];
    piece.targets = 0;
    piece.done = 0;
    piece.failed = 0;
    piece.noSpace = 0;
    piece.pending = 0;
    piece.flushNumber = this.stamps.flushNumber;
    for (const slot of group) {
      if (!slot.writable) continue;
      piece.targets |= slot.bit;
      if (zeroes && !slot.present.has(piece.stripe)) piece.done |= slot.bit;
      else piece.pending += 1;
    }
  }

  private endOne(piece: Piece, position: number, result: number): void {
    const slot = this.membership.groups[piece.group][position];
    if (result >= 0) {
      piece.done |= slot.bit;
      if (slot.written < piece.flushNumber) slot.written = piece.flushNumber;
    } else {
      piece.failed |= slot.bit;
      if (result === -ENOSPC) piece.noSpace |= slot.bit;
    }
    piece.pending -= 1;
    if (piece.pending === 0) this.settle(piece);
  }

  /** Every member has answered. Where the map has to change first, the piece is held, with its blocks. */
  private settle(piece: Piece): void {
    const { targets, done, failed, noSpace } = piece;
    // Nobody has it: the copies are still equal, and the map may stay as it is.
    if (noSpace !== 0 && done === 0 && failed === noSpace) {
      this.finish(piece, -ENOSPC);
      return;
    }
    if (failed !== 0 || this.membership.stopped !== null) {
      const verdict = this.membership.settle(piece.group, targets, done, failed);
      if (verdict === SETTLED_LATER) this.held.push(piece);
      else this.finish(piece, verdict === SETTLED_OK ? 0 : noSpace === 0 ? -EIO : -ENOSPC);
      return;
    }
    this.finish(piece, 0);
  }

  /** The map has changed, or the volume has stopped. */
  resumeHeld(): void {
    const { held } = this;
    this.held = [];
    for (const piece of held) this.settle(piece);
  }

  // Ends.

  private finish(piece: Piece, error: number): void {
    const { token, part, answer } = piece;
    if (piece.release && this.lacking(piece)) this.onRelease();
    // It was cut while a member was away, which has become current before it ended.
    if (piece.discards && !piece.release && !this.degraded(piece)) this.onUnreleased(piece.group, piece.stripe);
    if (piece.scratch >= 0) this.returnScratch(piece);
    if (error === 0 && piece.exclusive && piece.kind !== PIECE_READ && this.degraded(piece)) {
      this.counters.degradedWrites += 1;
    }
    const flags = piece.resultFlags;
    this.order.remove(piece);
    this.putBack(piece);
    if (part) this.parts -= 1;
    this.completions.finish(token, error < 0 ? error : answer, flags);
    this.beginReady();
    if (part) this.onPartFree();
    this.servePatches();
  }

  /** Whether a member has no slot for the segment of a piece, perhaps no longer. */
  private lacking({ group, stripe }: Piece): boolean {
    return this.membership.groups[group].some((slot) => slot.writable && !slot.present.has(stripe));
  }

  private degraded(piece: Piece): boolean {
    return !this.membership.complete(this.membership.groups[piece.group]);
  }

  private putBack(piece: Piece): void {
    piece.started = false;
    piece.onStart = null;
    this.free.push(piece);
    this.inFlight -= 1;
    this.barriers.pass(piece);
  }

  private beginReady(): void {
    const { ready } = this.order;
    for (let piece = ready.shift(); piece !== undefined; piece = ready.shift()) this.begin(piece);
  }

  // Control work.

  /** Runs `work` alone with these blocks, when their turn has come. */
  async locked<T>(stripe: number, block: number, blocks: number, work: () => Promise<T>): Promise<T> {
    const piece = this.take(false);
    if (piece === null) throw new Error('a piece that is no part is always there');
    this.locks += 1;
    piece.kind = PIECE_LOCK;
    piece.stripe = stripe;
    piece.block = block;
    piece.blocks = blocks;
    await new Promise<void>((resolve) => {
      piece.onStart = resolve;
      this.submit(piece);
    });
    try {
      return await work();
    } finally {
      this.order.remove(piece);
      this.putBack(piece);
      this.locks -= 1;
      this.beginReady();
    }
  }

  /** Whether nothing is in flight in a segment, waiting or not. */
  idle(stripe: number): boolean {
    return !this.order.holds(stripe);
  }

  /** Pieces that are whole requests. */
  get whole(): number {
    return this.inFlight - this.parts - this.locks;
  }

  /** Resolves when all modifications of a group that are being carried out now have ended. */
  drained(group: number): Promise<void> {
    return this.barriers.wait(
      this.all.filter(
        (piece) => piece.started && piece.exclusive && piece.group === group && piece.kind !== PIECE_LOCK,
      ),
    );
  }

  /** The lowest flush number of a modification that is being carried out, or `otherwise`. */
  oldestFlushNumber(otherwise: number): number {
    let oldest = otherwise;
    for (const { started, exclusive, targets, flushNumber } of this.all) {
      if (started && exclusive && targets !== 0 && flushNumber < oldest) oldest = flushNumber;
    }
    return oldest;
  }

  /** Gives up the handler; nothing may be in flight. */
  close(): void {
    this.completions.unregister(this.token);
  }
}
