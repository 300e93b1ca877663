/**
 * Reads the content of a volume that another client may be writing: the pieces of an engine that has no right to write.
 *
 * ```text
 *   leases of all in-sync? ─┬─ yes ─► what is settled, at the member with the least to do ─┬─► done
 *        ▲                  └─ no: held                                                    ├─ not settled, or bad: AgreedRead
 *        └── a lease, a newer map, a member that is there again ◄──────────────────────────┴─ newer map, or gone: held
 * ```
 *
 * Invariants: nothing is written, and nothing mended. A read returns what was acknowledged before it began, or something later,
 * and nobody who reads after it has ended finds anything earlier, through whichever engine.
 *
 * Fault model: members fail, go and come back, and hold damaged blocks; another client attaches the volume, or dies. A read that
 * cannot be answered is held, and fails when it has been for too long.
 */

import type { Calls } from '../../core/calls.js';
import { check } from '../../core/check.js';
import { EBADF, EIO, ESTALE } from '../../core/errno.js';
import type { Clock } from '../../ports/clock.js';
import { COMPLETION_ABANDONED, type CompletionPort } from '../../ports/completion.js';
import { FENCE_ALL } from '../../ports/device.js';
import type { MemberPosition } from '../../ports/ids.js';
import type { Memory } from '../../ports/memory.js';
import type { SegmentMember } from '../../ports/segment-member.js';
import { REQUEST_READ, REQUEST_SETTLED } from '../../ports/segment-request.js';
import type { CopyBuffers } from '../jobs/copy-buffers.js';
import { MemberWork } from '../members/member-work.js';
import type { MemberSlot, Membership } from '../mirror/membership.js';
import { MEMBER_TAG_BITS, PIECE_TAG_BITS } from '../mirror/mirror.js';
import { ReadLeases } from '../mirror/read-leases.js';
import type { Holding } from '../requests/holding.js';
import type { Piece } from '../requests/piece.js';
import type { PieceIo, PieceSource } from '../requests/piece-io.js';
import { AgreedRead } from './agreed-read.js';

export interface ReaderIoParts extends PieceSource {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly clock: Clock;
  readonly membership: Membership;
  readonly holding: Holding;
  readonly calls: Calls;
  readonly buffers: CopyBuffers;
  /** For how long reads are held. */
  readonly holdMs: () => number;
  /** A member does not answer any more. */
  readonly onGone: () => void;
}

export class ReaderIo implements PieceIo {
  private readonly parts: ReaderIoParts;
  private readonly membership: Membership;
  private readonly leases: ReadLeases;
  private readonly agreed: AgreedRead;
  private readonly token: number;
  private held: Piece[] = [];

  constructor(parts: ReaderIoParts) {
    const { completions, memory, clock, membership, calls, buffers } = parts;
    this.parts = parts;
    this.membership = membership;
    this.leases = new ReadLeases(membership, { leased: () => this.resumeHeld() });
    this.agreed = new AgreedRead({
      ...{ memory, buffers },
      work: new MemberWork(calls, () => ({ generation: 0, flushNumber: 0 })),
      members: (piece) => this.membersOf(piece),
      isOver: (sinceMs) => membership.stopped !== null || clock.nowMs() - sinceMs >= parts.holdMs(),
      pause: (ms) => calls.call((token) => clock.after(ms, token)).then(() => {}),
    });
    const complete = (tag: number, result: number, flags: number) => this.ended(tag, result, flags);
    this.token = completions.register({ complete }, PIECE_TAG_BITS);
  }

  private membersOf({ group }: Piece): readonly SegmentMember[] | null {
    if (this.membership.stopped !== null || !this.leases.mayRead(group)) return null;
    const members = this.membership.groups[group].filter(({ readable }) => readable).map(({ present }) => present);
    return members.length > 0 ? members : null;
  }

  read(piece: Piece): void {
    const { membership } = this;
    const { group } = piece;
    if (!this.leases.mayRead(group)) {
      this.hold(piece);
      this.leases.wait(group);
      return;
    }
    const slots = membership.groups[group];
    const slot = this.pick(slots);
    if (slot === null) {
      this.hold(piece);
      return;
    }
    piece.effects = membership.effects;
    this.send(piece, slot, slots);
  }

  private pick(slots: readonly MemberSlot[]): MemberSlot | null {
    const slot = this.membership.pickReader(slots);
    if (slot?.present.fence() !== FENCE_ALL) return slot;
    const left = slots.filter(({ readable, member }) => readable && member?.fence() !== FENCE_ALL);
    return left.length > 0 ? this.membership.pickReader(left) : null;
  }

  private send(piece: Piece, slot: MemberSlot, slots: readonly MemberSlot[]): void {
    check(piece.started && slot.readable, 'a read goes to a member that is not in-sync', slot.position);
    const request = piece.requestTo(slot.position);
    request.begin(REQUEST_READ, piece.stripe, this.token + (piece.index << MEMBER_TAG_BITS) + slot.position);
    request.block = piece.block;
    request.blocks = piece.blocks;
    request.memory = piece.memory;
    // Of a single copy all that is there is everywhere.
    const others = slots.some((other) => other !== slot && other.readable);
    request.flags = others ? REQUEST_SETTLED : 0;
    slot.present.submit(request);
  }

  private ended(tag: number, result: number, flags: number): void {
    const piece = this.parts.pieceAt(tag >>> MEMBER_TAG_BITS);
    check(piece.started, 'a member answers for a read that is over', piece.index);
    piece.resultFlags |= flags & COMPLETION_ABANDONED;
    this.endRead(piece, tag & ((1 << MEMBER_TAG_BITS) - 1), result);
  }

  private endRead(piece: Piece, position: MemberPosition, result: number): void {
    const { parts, membership } = this;
    if (result >= 0 || (piece.resultFlags & COMPLETION_ABANDONED) !== 0) {
      // What was given up may still come to this memory, so that nothing else may be read there.
      parts.ends.read(piece, Math.min(0, result));
      return;
    }
    const gone = membership.groups[piece.group][position]?.member?.fence() === FENCE_ALL;
    if (gone) parts.onGone();
    if (membership.stopped !== null) parts.ends.later(piece, -EIO);
    else if (membership.effects > piece.effects || gone) this.read(piece);
    else if (result === -ESTALE) this.hold(piece);
    else void this.search(piece);
  }

  /** What is read may not be on all members, or is bad on the one that was asked. */
  private async search(piece: Piece): Promise<void> {
    const holder = { lost: false };
    this.noteHeld(piece);
    const found = await this.agreed.run(piece, holder);
    check(piece.started, 'a read has ended while it was searched for', piece.index);
    if (holder.lost) piece.resultFlags |= COMPLETION_ABANDONED;
    this.parts.ends.later(piece, found ? 0 : -EIO);
  }

  private hold(piece: Piece): void {
    check(!this.held.includes(piece), 'a read is held twice', piece.index);
    this.held.push(piece);
    this.noteHeld(piece);
  }

  /** Whatever it waits for, one thing after another, it does not wait for longer than it may be held. */
  private noteHeld(piece: Piece): void {
    if (piece.heldMs === 0) piece.heldMs = this.parts.holding.begun();
  }

  get holds(): boolean {
    return this.held.length > 0;
  }

  giveUp(beforeMs: number): void {
    const late = this.held.filter(({ heldMs }) => heldMs <= beforeMs);
    this.held = this.held.filter((piece) => !late.includes(piece));
    for (const piece of late) this.parts.ends.expired(piece);
    // Whatever has kept them, and was told to nobody, may be over.
    this.resumeHeld();
  }

  /** Leases have come, the map has changed, or the engine is at its end. */
  resumeHeld(): void {
    const { held } = this;
    this.held = [];
    for (const piece of held) {
      if (this.membership.stopped !== null) this.parts.ends.later(piece, -EIO);
      else this.read(piece);
    }
  }

  /** What is allocated changes without this engine. */
  mayTell(): boolean {
    return false;
  }

  returned(): void {}

  write(piece: Piece): void {
    this.refuse(piece);
  }

  zero(piece: Piece): void {
    this.refuse(piece);
  }

  /** Modifications are refused where they arrive. */
  private refuse(piece: Piece): void {
    check(false, 'an engine that only reads is to modify something', piece.kind);
    this.parts.ends.later(piece, -EBADF);
  }

  close(): void {
    check(this.held.length === 0, 'reads are held when their engine is closed', this.held.length);
    this.parts.completions.unregister(this.token);
  }
}
