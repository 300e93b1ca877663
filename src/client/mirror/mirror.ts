/**
 * Copies: every member has all of its group's segments.
 *
 * A write is sent to every member that is in-sync or syncing and is done when all that are in-sync have it, or have left the map.
 * A read goes to one member; what to do if that fails is for whoever asked.
 *
 * Fault model: members fail in any phase, with any error, or have a newer map than this engine. Where the map has to change
 * before an answer is right, the piece is held, with its blocks. What a member did not do because of a newer map is sent there
 * again, under the same stamp, when that has taken effect.
 */

import { check } from '../../core/check.js';
import { EIO, ENOSPC, ESTALE } from '../../core/errno.js';
import { BLOCK_BYTES, GROUP_MEMBERS_MAX, PIECES_MAX } from '../../core/limits.js';
import { COMPLETION_ABANDONED, type CompletionPort } from '../../ports/completion.js';
import { FENCE_ALL } from '../../ports/device.js';
import type { GroupIndex, MemberPosition } from '../../ports/ids.js';
import type { Memory } from '../../ports/memory.js';
import {
  REQUEST_FUA,
  REQUEST_KEEP,
  REQUEST_NEWER,
  REQUEST_READ,
  REQUEST_WRITE,
  REQUEST_ZERO,
  type SegmentRequest,
} from '../../ports/segment-request.js';
import type { Holding } from '../requests/holding.js';
import { bringPayload, type Piece, reads, sumsOf } from '../requests/piece.js';
import type { PieceIo, PieceSource } from '../requests/piece-io.js';
import type { WriteStamps } from '../requests/write-stamps.js';
import { type Allocation, allocated, exists } from './allocation.js';
import { JUDGED_DONE, JUDGED_LATER, type MemberSlot, type Membership } from './membership.js';
import { ReadLeases } from './read-leases.js';

/** A tag is a piece's index and, in its lowest bits, a member's position. */
export const MEMBER_TAG_BITS = 6;
check(GROUP_MEMBERS_MAX <= 1 << MEMBER_TAG_BITS, 'positions have no room in a tag', GROUP_MEMBERS_MAX);
/** Bits of the tags of a volume's pieces at their members. */
export const PIECE_TAG_BITS = 20;
check(PIECES_MAX << MEMBER_TAG_BITS <= 1 << PIECE_TAG_BITS, 'pieces have no room in a tag', PIECES_MAX);

export interface MirrorParts extends PieceSource {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly membership: Membership;
  readonly allocation: Allocation;
  readonly stamps: WriteStamps;
  /** See `PiecesParts.holding`. */
  readonly holding: Holding | null;
}

/** A write that waits once: its piece may wait again, as another write, before the slots are there. */
interface Unallocated {
  readonly piece: Piece;
}

export class Mirror implements PieceIo {
  private readonly memory: Memory;
  private readonly membership: Membership;
  private readonly stamps: WriteStamps;
  private readonly parts: MirrorParts;
  private readonly token: number;
  private readonly leases: ReadLeases | null;
  /** Pieces whose answer depends on a change of the map. */
  private held: Piece[] = [];
  /** The same of those that read. */
  private heldReads: Piece[] = [];
  /** Writes that wait for slots of their segments, of which nothing has been sent. */
  private readonly unallocated = new Set<Unallocated>();

  constructor(parts: MirrorParts) {
    this.parts = parts;
    this.memory = parts.memory;
    this.membership = parts.membership;
    this.stamps = parts.stamps;
    const { holding, membership } = parts;
    this.leases = holding === null ? null : new ReadLeases(membership, { leased: () => this.resumeReads() });
    const complete = (tag: number, result: number, flags: number) => this.complete(tag, result, flags);
    this.token = parts.completions.register({ complete }, PIECE_TAG_BITS);
  }

  private complete(tag: number, result: number, flags: number): void {
    const piece = this.parts.pieceAt(tag >>> MEMBER_TAG_BITS);
    const position = tag & ((1 << MEMBER_TAG_BITS) - 1);
    check(piece.started, 'a member answers for a piece that is over', piece.index);
    if ((flags & COMPLETION_ABANDONED) !== 0) piece.resultFlags |= COMPLETION_ABANDONED;
    if (reads(piece)) this.endRead(piece, position, result);
    else this.endOne(piece, position, result);
  }

  read(piece: Piece): void {
    if (this.leases !== null && !this.leases.mayRead(piece.group)) {
      this.hold(this.heldReads, piece);
      this.leases.wait(piece.group);
      return;
    }
    const group = this.membership.groups[piece.group];
    const slot = this.membership.pickReader(group);
    if (slot === null) {
      this.parts.ends.later(piece, -EIO);
    } else if (!slot.segments.has(piece.stripe)) {
      this.memory.fill(piece.memory, piece.blocks * BLOCK_BYTES, 0);
      this.parts.ends.later(piece, 0);
    } else if (this.membership.isAwaited(slot)) this.hold(this.heldReads, piece);
    else {
      piece.effects = this.membership.effects;
      slot.present.submit(this.request(REQUEST_READ, piece, slot.position));
    }
  }

  /** A request for the blocks of a piece. */
  private request(kind: number, piece: Piece, position: MemberPosition): SegmentRequest {
    check(
      piece.started && position < this.membership.groups[piece.group].length,
      'a request goes to no member',
      position,
    );
    const request = piece.requestTo(position);
    request.begin(kind, piece.stripe, this.token + (piece.index << MEMBER_TAG_BITS) + position);
    request.block = piece.block;
    request.blocks = piece.blocks;
    request.memory = piece.memory;
    return request;
  }

  /** The same, with the piece's stamp. A write that is not newer than what a block has is answered, not applied. */
  private modification(kind: number, piece: Piece, position: MemberPosition): SegmentRequest {
    const request = this.request(kind, piece, position);
    request.stampLow = piece.stampLow;
    request.stampHigh = piece.stampHigh;
    request.generation = this.stamps.generation;
    request.flushNumber = piece.flushNumber;
    return request;
  }

  private stamp(piece: Piece): void {
    const { low, high } = this.stamps.next();
    piece.stampLow = low;
    piece.stampHigh = high;
  }

  private endRead(piece: Piece, position: MemberPosition, result: number): void {
    if (result === -ESTALE) {
      this.hold(this.heldReads, piece);
      if (this.membership.stopped !== null || this.membership.effects > piece.effects) this.resumeReads();
      return;
    }
    if (result < 0) {
      piece.reader = position;
      const slot = this.membership.groups[piece.group][position];
      check(slot !== undefined, 'a member has answered that there is not', position);
      if (this.membership.isAwaited(slot)) {
        this.hold(this.heldReads, piece);
        return;
      }
      if (slot.member?.fence() === FENCE_ALL) this.membership.expel(slot, 'the device is gone');
    }
    this.parts.ends.read(piece, result);
  }

  write(piece: Piece): void {
    const group = this.membership.groups[piece.group];
    if (!allocated(group, piece.stripe)) {
      bringPayload(this.memory, piece);
      this.writeOnceAllocated(piece);
      return;
    }
    this.aim(piece, false);
    this.stamp(piece);
    this.sendWrite(piece, piece.targets);
  }

  private sendWrite(piece: Piece, bits: number): void {
    const group = this.membership.groups[piece.group];
    const sums = this.sumsFor(piece, bits);
    let { source } = piece;
    for (let position = 0; position < group.length; position += 1) {
      const slot = group[position];
      if ((bits & slot.bit) === 0) continue;
      const request = this.modification(REQUEST_WRITE, piece, position);
      request.source = source;
      request.sourceBytes = piece.blocks * BLOCK_BYTES;
      request.flags = (piece.flags & REQUEST_FUA) | REQUEST_NEWER;
      request.sums = sums;
      request.proven = sums !== null;
      slot.present.submit(request);
      // The first member's operation brings the payload; the others find it in place.
      source = -1;
    }
    piece.source = -1;
  }

  /**
   * Sums of a payload, made once for all members that it goes to, if one of them sends them along or several would make them each
   * for itself; null otherwise.
   */
  private sumsFor(piece: Piece, bits: number): Uint32Array | null {
    let takers = 0;
    for (const slot of this.membership.groups[piece.group]) {
      // In other places there may be nobody.
      if ((bits & slot.bit) === 0) continue;
      if (slot.present.wantsSums === true) return sumsOf(this.memory, piece);
      if (slot.present.takesSums === true) takers += 1;
    }
    return takers > 1 ? sumsOf(this.memory, piece) : null;
  }

  private writeOnceAllocated(piece: Piece): void {
    const waiting = { piece };
    this.unallocated.add(waiting);
    this.noteHeld(piece);
    void this.parts.allocation.ensure(piece.stripe).then((result) => {
      // It was held for too long, and has ended.
      if (!this.unallocated.delete(waiting)) return;
      const failed = result < 0 || this.membership.stopped !== null;
      if (failed) this.parts.ends.modified(piece, result < 0 ? result : -EIO);
      else this.write(piece);
    });
  }

  /** Zeroes into a segment that is all zeroes change nothing. That they are durable is for the whole request to see to. */
  zero(piece: Piece): void {
    const group = this.membership.groups[piece.group];
    if (!exists(group, piece.stripe)) {
      this.parts.ends.later(piece, 0);
      return;
    }
    this.aim(piece, true);
    this.stamp(piece);
    this.sendZero(piece, piece.targets & ~piece.done);
  }

  private sendZero(piece: Piece, bits: number): void {
    const group = this.membership.groups[piece.group];
    for (let position = 0; position < group.length; position += 1) {
      const slot = group[position];
      if ((bits & slot.bit) === 0) continue;
      const request = this.modification(REQUEST_ZERO, piece, position);
      request.flags = (piece.flags & REQUEST_KEEP) | REQUEST_NEWER;
      slot.present.submit(request);
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
    piece.stale = 0;
    piece.pending = 0;
    piece.zeroes = zeroes;
    piece.effects = this.membership.effects;
    piece.flushNumber = this.stamps.flushNumber;
    for (const slot of group) {
      if (!slot.writable) continue;
      piece.targets |= slot.bit;
      if (zeroes && !slot.segments.has(piece.stripe)) piece.done |= slot.bit;
      else piece.pending += 1;
    }
    check(piece.pending > 0, 'a modification goes to no member', piece.stripe);
  }

  private endOne(piece: Piece, position: MemberPosition, result: number): void {
    const slot = this.membership.groups[piece.group][position];
    check(piece.pending > 0, 'a modification has ended on more members than it was sent to', piece.index);
    check((piece.targets & slot.bit) !== 0, 'a member answers that was not asked', position);
    check(((piece.done | piece.failed) & slot.bit) === 0, 'a member answers twice', position);
    if (result >= 0) {
      piece.done |= slot.bit;
      if (slot.written < piece.flushNumber) slot.written = piece.flushNumber;
    } else if (result === -ESTALE) piece.stale |= slot.bit;
    else {
      piece.failed |= slot.bit;
      if (result === -ENOSPC) piece.noSpace |= slot.bit;
    }
    piece.pending -= 1;
    if (piece.pending === 0) this.conclude(piece);
  }

  /** Every member has answered. Where the map has to change first, the piece is held, with its blocks. */
  private conclude(piece: Piece): void {
    if (piece.stale !== 0 && !this.sendAgain(piece)) return;
    const { targets, done, failed, noSpace } = piece;
    check((done | failed) === targets, 'a modification ends before all members have answered', piece.index);
    check((failed & noSpace) === noSpace, 'a member has no space and has not failed', piece.index);
    const { ends } = this.parts;
    // Nobody has it: the copies are still equal, and the map may stay as it is.
    if (noSpace !== 0 && done === 0 && failed === noSpace) {
      ends.modified(piece, -ENOSPC);
      return;
    }
    if (failed !== 0 || this.membership.stopped !== null) {
      const verdict = this.membership.judge(piece.group, targets, done, failed);
      if (verdict === JUDGED_LATER) this.hold(this.held, piece);
      else ends.modified(piece, verdict === JUDGED_DONE ? 0 : noSpace === 0 ? -EIO : -ENOSPC);
      return;
    }
    ends.modified(piece, 0);
  }

  /**
   * Sends what members with a newer map have not done to those that are still to do it, under the same stamp, if a newer map has
   * taken effect; otherwise the piece is held until one has. Returns whether all members have answered.
   */
  private sendAgain(piece: Piece): boolean {
    const { membership } = this;
    const { stale } = piece;
    if (membership.stopped === null && membership.effects === piece.effects) {
      this.hold(this.held, piece);
      return false;
    }
    check(piece.pending === 0, 'a piece is sent again that is under way', piece.index);
    check((stale & (piece.done | piece.failed)) === 0, 'a member is asked again that has answered', piece.index);
    let again = 0;
    for (const slot of membership.groups[piece.group]) {
      if ((stale & slot.bit) === 0 || !slot.writable || membership.stopped !== null) continue;
      again |= slot.bit;
      piece.pending += 1;
    }
    piece.stale = 0;
    // Who has left the map does not have it.
    piece.failed |= stale & ~again;
    piece.effects = membership.effects;
    if (again === 0) return true;
    if (piece.zeroes) this.sendZero(piece, again);
    else this.sendWrite(piece, again);
    return false;
  }

  private hold(held: Piece[], piece: Piece): void {
    check(!held.includes(piece), 'a piece is held twice', piece.index);
    held.push(piece);
    this.noteHeld(piece);
  }

  private noteHeld(piece: Piece): void {
    const { holding } = this.parts;
    if (holding !== null && piece.heldMs === 0) piece.heldMs = holding.begun();
  }

  get holds(): boolean {
    const waiting = this.heldReads.length + this.unallocated.size;
    return waiting > 0 || this.held.some(({ givenUp }) => !givenUp);
  }

  giveUp(beforeMs: number): void {
    const { ends } = this.parts;
    const late = this.heldReads.filter(({ heldMs }) => heldMs <= beforeMs);
    this.heldReads = this.heldReads.filter((piece) => !late.includes(piece));
    for (const piece of late) ends.expired(piece);
    for (const waiting of [...this.unallocated]) {
      if (waiting.piece.heldMs > beforeMs) continue;
      this.unallocated.delete(waiting);
      ends.expired(waiting.piece);
    }
    for (const piece of [...this.held]) if (!piece.givenUp && piece.heldMs <= beforeMs) ends.gaveUp(piece);
  }

  returned({ group, bit }: MemberSlot): void {
    for (const piece of this.held) {
      if (piece.group !== group || (piece.failed & bit) === 0) continue;
      check(piece.pending === 0, 'a piece is held that is under way', piece.index);
      piece.failed &= ~bit;
      piece.noSpace &= ~bit;
      piece.stale |= bit;
    }
  }

  resumeHeld(): void {
    const { held } = this;
    this.held = [];
    for (const piece of held) this.conclude(piece);
    this.resumeReads();
  }

  private resumeReads(): void {
    const { heldReads } = this;
    this.heldReads = [];
    for (const piece of heldReads) this.readAgain(piece);
  }

  private readAgain(piece: Piece): void {
    check(reads(piece) && piece.started, 'something begins to read again that does not read', piece.index);
    if (this.membership.stopped !== null) this.parts.ends.later(piece, -EIO);
    else this.read(piece);
  }

  mayTell(group: GroupIndex): boolean {
    return !this.membership.suspended && (this.leases === null || this.leases.mayRead(group));
  }

  close(): void {
    const held = this.held.length + this.heldReads.length + this.unallocated.size;
    check(held === 0, 'pieces are held when their volume is closed', held);
    this.parts.completions.unregister(this.token);
  }
}
