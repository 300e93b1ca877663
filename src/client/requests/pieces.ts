/**
 * The life of pieces: from their turn at their blocks to the answer.
 *
 * ```text
 *   submit ── waits for its blocks ── begin ─┬─ read ──────────────┬─ finish
 *                                            ├─ modify ────────────┤
 *                                            └─ patch: read, modify┘
 * ```
 *
 * A piece never ends within `submit`. Its content is read and modified by `SegmentIo`. A read that fails on a member takes its
 * blocks for itself, and read repair looks for a good copy.
 *
 * Fault model: memory of operations that were given up belongs to the kernel until they end, so the answer carries
 * `COMPLETION_ABANDONED`, and such scratch memory is set aside for so long.
 */

import { check } from '../../core/check.js';
import { EIO } from '../../core/errno.js';
import { StrakeError } from '../../core/errors.js';
import { BLOCK_BYTES, PIECES_MAX, VOLUME_PARTS_MAX } from '../../core/limits.js';
import { Notify } from '../../core/notify.js';
import { groupOf } from '../../layout/volume-map.js';
import { COMPLETION_ABANDONED, type CompletionPort } from '../../ports/completion.js';
import type { BlockCount, BlockIndex, ChunkIndex, FlushNumber, GroupIndex } from '../../ports/ids.js';
import type { Memory } from '../../ports/memory.js';
import { VOLUME_TAG_BITS } from '../limits.js';
import { exists } from '../mirror/allocation.js';
import type { MemberSlot, Membership } from '../mirror/membership.js';
import type { VolumeCounters } from '../volume-events.js';
import { Barriers } from './barriers.js';
import { BlockOrder } from './block-order.js';
import { HeldRequests } from './held-requests.js';
import type { Holding } from './holding.js';
import { Patches } from './patches.js';
import { bringPayload, PIECE_LOCK, PIECE_PATCH, PIECE_READ, PIECE_WRITE, PIECE_ZERO, Piece } from './piece.js';
import type { PieceIo, PieceSource } from './piece-io.js';
import type { IoEnds } from './segment-io.js';

export interface PiecesParts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly membership: Membership;
  /** What reads and modifies the content of pieces. */
  readonly io: (pieces: PieceSource) => PieceIo;
  readonly counters: VolumeCounters;
  /** Start of `PATCH_SCRATCH_BYTES` of page-aligned memory. */
  readonly scratch: number;
  /** Repeats a read that failed on a member, alone with its blocks; ends with `endRepair`. */
  readonly repairRead: (piece: Piece) => void;
  /** A piece that was a part has ended, so that another one can be had. */
  readonly onPartFree: () => void;
  /** A modification of a segment has ended, on the members that it was sent to. */
  readonly onModified: (stripe: ChunkIndex) => void;
  /** For how long pieces are held that cannot end; null if they are for as long as it takes. */
  readonly holding: Holding | null;
  /** Blocks of a segment that has slots were discarded, under this flush number. */
  readonly onDiscarded: (group: GroupIndex, stripe: ChunkIndex, flushNumber: FlushNumber) => void;
}

export class Pieces implements IoEnds {
  inFlight = 0;
  private parts = 0;
  private locks = 0;
  private readonly needs: PiecesParts;
  private readonly membership: Membership;
  private readonly token: number;
  private readonly segmentBlocks: number;
  private readonly all: Piece[] = [];
  private readonly free: Piece[] = [];
  private readonly order = new BlockOrder();
  private readonly barriers = new Barriers();
  private readonly patches: Patches;
  private readonly io: PieceIo;
  /** Those of a volume that is suspended; null if it never is. */
  private readonly held: HeldRequests | null;
  private readonly lastEnded = new Notify();

  constructor(needs: PiecesParts) {
    const { completions, memory, membership, scratch } = needs;
    this.needs = needs;
    this.membership = membership;
    this.segmentBlocks = membership.record.segmentBytes / BLOCK_BYTES;
    const { holding } = needs;
    this.patches = new Patches({
      ...{ memory, scratch, holding, most: PIECES_MAX },
      begin: (piece) => this.carryOut(piece),
      fail: (piece) => this.expired(piece),
    });
    this.io = needs.io({ pieceAt: (index) => this.all[index], ends: this });
    holding?.add(this.io);
    this.held = holding === null ? null : new HeldRequests(holding, (piece) => this.expired(piece));
    this.token = completions.register({ complete: (tag) => this.endSelf(this.all[tag]) }, VOLUME_TAG_BITS);
  }

  /** A part to fill in, or null if there are too many. */
  takePart(): Piece | null {
    if (this.parts === VOLUME_PARTS_MAX) return null;
    this.parts += 1;
    return this.take(true);
  }

  /** A piece to fill in that is a whole request or a lock; the caller knows that there are not too many. */
  takeWhole(): Piece {
    return this.take(false);
  }

  private take(part: boolean): Piece {
    let piece = this.free.pop();
    if (piece === undefined) {
      check(this.all.length < PIECES_MAX, 'more pieces than requests and parts', PIECES_MAX);
      piece = new Piece(this.all.length);
      this.all.push(piece);
    }
    this.inFlight += 1;
    check(!piece.inUse, 'a piece is taken that is in use', piece.index);
    piece.inUse = true;
    piece.part = part;
    piece.resultFlags = 0;
    piece.targets = 0;
    piece.failed = 0;
    piece.noSpace = 0;
    piece.stale = 0;
    piece.heldMs = 0;
    piece.givenUp = false;
    piece.refused = false;
    piece.started = false;
    piece.repaired = false;
    piece.changed = false;
    piece.discards = false;
    piece.source = -1;
    return piece;
  }

  /** Lines a piece up; `kind`, `stripe`, `block`, `blocks`, `flags`, `token`, `answer` and memory have been filled in. */
  submit(piece: Piece): void {
    check(piece.inUse && !piece.started, 'a piece is submitted twice', piece.index);
    check(piece.blocks > 0 && piece.block >= 0, 'a piece has no blocks', piece.stripe);
    check(piece.block + piece.blocks <= this.segmentBlocks, 'a piece reaches beyond its segment', piece.stripe);
    piece.group = groupOf(this.membership.record, piece.stripe);
    piece.exclusive = piece.kind !== PIECE_READ;
    piece.firstHeld = piece.block;
    piece.endHeld = piece.block + piece.blocks;
    if (this.order.add(piece)) this.begin(piece);
    else {
      bringPayload(this.needs.memory, piece);
      if (this.needs.holding !== null && this.order.isBehindGivenUp(piece)) this.refuse(piece);
    }
  }

  private begin(piece: Piece): void {
    // It is about to end.
    if (piece.refused) return;
    check(piece.blockers === 0, 'a piece begins while others are in its way', piece.index);
    check(!piece.started, 'a piece begins twice', piece.index);
    piece.started = true;
    this.carryOut(piece);
  }

  private carryOut(piece: Piece): void {
    const { stopped, suspended } = this.membership;
    if (piece.kind === PIECE_LOCK) piece.onStart?.();
    else if (suspended) this.setAside(piece);
    else if (stopped !== null) this.later(piece, -EIO);
    else if (piece.repaired) this.needs.repairRead(piece);
    else if (piece.kind === PIECE_READ) this.io.read(piece);
    else if (piece.kind === PIECE_WRITE) this.io.write(piece);
    else if (piece.kind === PIECE_ZERO) this.io.zero(piece);
    else this.patch(piece);
  }

  /** Ends a step of a piece in a later batch. */
  later(piece: Piece, result: number): void {
    piece.outcome = result;
    this.needs.completions.defer(this.token + piece.index, 0);
  }

  private endSelf(piece: Piece): void {
    if (piece.refused) this.endRefused(piece);
    else if (piece.kind === PIECE_PATCH && !piece.changed && piece.outcome === 0) this.change(piece);
    else this.finish(piece, piece.outcome);
  }

  // Reading.

  read(piece: Piece, result: number): void {
    if (result >= 0) {
      if (piece.kind === PIECE_PATCH) this.change(piece);
      else this.finish(piece, 0);
      return;
    }
    if ((piece.resultFlags & COMPLETION_ABANDONED) !== 0) {
      // The member may still write to this memory, so another copy must not be read into it.
      if (piece.kind === PIECE_PATCH) this.patchAnew(piece);
      else this.finish(piece, -EIO);
      return;
    }
    this.needs.counters.retriedReads += 1;
    piece.repaired = true;
    if (piece.exclusive) {
      this.needs.repairRead(piece);
      return;
    }
    // Repairing modifies the blocks: the read lines up anew, to be alone with them.
    piece.started = false;
    this.order.remove(piece);
    piece.exclusive = true;
    if (this.order.add(piece)) this.begin(piece);
    this.beginReady();
  }

  /** Read repair has put the blocks into the piece's memory, or failed for good. */
  endRepair(piece: Piece, result: number, flags: number): void {
    check(piece.repaired, 'read repair has ended twice', piece.index);
    piece.repaired = false;
    piece.resultFlags |= flags;
    // The last copy may come back as it was: the blocks are read then.
    if (result < 0 && flags === 0 && this.membership.awaitsAny(piece.group)) {
      this.io.read(piece);
      return;
    }
    if (piece.kind === PIECE_PATCH && (flags & COMPLETION_ABANDONED) !== 0) this.patchAnew(piece);
    else if (result < 0 || piece.kind !== PIECE_PATCH) this.finish(piece, result);
    else this.change(piece);
  }

  // Patching.

  private patch(piece: Piece): void {
    if (!this.patches.take(piece)) {
      if (this.patches.exhausted) this.later(piece, -EIO);
      else this.patches.wait(piece);
      return;
    }
    const nothing = !exists(this.membership.groups[piece.group], piece.stripe);
    if (nothing && piece.payload < 0) {
      piece.changed = true;
      this.io.zero(piece);
    } else {
      this.io.read(piece);
    }
  }

  /** The patch's scratch block may still be used by an operation that was given up: it takes another one. */
  private patchAnew(piece: Piece): void {
    this.patches.giveBack(piece);
    this.patch(piece);
  }

  /** The block is in scratch memory: changes it, and writes it. */
  private change(piece: Piece): void {
    check(!piece.changed, 'a patch is changed twice', piece.index);
    piece.changed = true;
    this.patches.change(piece);
    this.io.write(piece);
  }

  // Ends.

  modified(piece: Piece, result: number): void {
    this.finish(piece, result);
  }

  /** Whether what is known of a group from memory is what whoever asks now may be told. */
  mayTell(group: GroupIndex): boolean {
    return this.io.mayTell(group);
  }

  /** The map has changed, or the volume has stopped. */
  resumeHeld(): void {
    this.io.resumeHeld();
    if (this.membership.suspended) this.refuseLocks();
    else if (this.membership.stopped !== null) this.held?.failAll();
  }

  private finish(piece: Piece, error: number): void {
    if (error < 0 && this.mayBeginAgain(piece)) this.setAside(piece);
    else this.end(piece, error);
  }

  private end(piece: Piece, error: number): void {
    const { token, part, answer } = piece;
    check(piece.started, 'a piece ends that has not begun', piece.index);
    if (piece.discards && piece.targets !== 0) {
      this.needs.onDiscarded(piece.group, piece.stripe, piece.flushNumber);
    }
    if (piece.targets !== 0) this.needs.onModified(piece.stripe);
    if (piece.scratch >= 0) this.patches.giveBack(piece);
    if (error === 0 && piece.exclusive && piece.kind !== PIECE_READ && this.degraded(piece)) {
      this.needs.counters.degradedWrites += 1;
    }
    const { resultFlags: flags, givenUp } = piece;
    this.order.remove(piece);
    this.putBack(piece);
    if (part) this.parts -= 1;
    check(this.parts >= 0, 'more parts have ended than were taken', this.parts);
    if (!givenUp) this.needs.completions.finish(token, error < 0 ? error : answer, flags);
    else if (piece.lent) this.needs.memory.takeBack(piece.memory);
    this.beginReady();
    if (part) this.needs.onPartFree();
    this.patches.serve();
  }

  // While the volume is suspended.

  /** Whether a piece that has failed is held, as its volume is suspended. */
  private mayBeginAgain(piece: Piece): boolean {
    if (!this.membership.suspended || piece.givenUp) return false;
    // Into such memory an older read may still be under way; that of a patch is set aside.
    return piece.kind !== PIECE_READ || (piece.resultFlags & COMPLETION_ABANDONED) === 0;
  }

  /** Holds a piece with its blocks until its volume goes on, or stops for good. */
  private setAside(piece: Piece): void {
    check(this.held !== null, 'a piece is held of a volume that is never suspended', piece.index);
    bringPayload(this.needs.memory, piece);
    const hadScratch = piece.scratch >= 0;
    if (hadScratch) this.patches.giveBack(piece);
    this.held.hold(piece);
    this.barriers.pass(piece);
    if (hadScratch) this.patches.serve();
  }

  /** Control work that waits for blocks fails: those that are held keep theirs. */
  private refuseLocks(): void {
    for (const piece of this.all) {
      if (piece.inUse && !piece.started && piece.kind === PIECE_LOCK) piece.onRefused?.();
    }
  }

  /** Resolves when nothing is under way any more: pieces are held, or wait for others that are. */
  async quiet(): Promise<void> {
    const busy = () => this.all.filter(({ inUse, started, held }) => inUse && started && !held);
    for (let pieces = busy(); pieces.length > 0; pieces = busy()) await this.barriers.wait(pieces);
  }

  /** The volume goes on: what is held begins again, modifications under new stamps. */
  goOn(): void {
    check(!this.membership.suspended && this.membership.stopped === null, 'pieces go on of a volume that does not');
    for (const piece of this.held?.takeAll() ?? []) {
      piece.targets = 0;
      piece.done = 0;
      piece.failed = 0;
      piece.noSpace = 0;
      piece.stale = 0;
      piece.changed = false;
      piece.repaired = false;
      piece.heldMs = 0;
      this.carryOut(piece);
    }
  }

  // Giving up.

  /** A modification has been held for too long: whoever asked for it is told, and so is who waits for its blocks. */
  gaveUp(piece: Piece): void {
    check(piece.started && !piece.givenUp, 'a piece is given up twice, or before it has begun', piece.index);
    piece.givenUp = true;
    // The scratch block of a patch is its own, and zeroes need no memory.
    piece.lent = piece.kind === PIECE_WRITE;
    if (piece.lent) this.needs.memory.lend(piece.memory);
    const flags = piece.lent ? COMPLETION_ABANDONED : 0;
    this.needs.completions.finish(piece.token, -EIO, piece.resultFlags | flags);
    for (const other of [...this.order.waitingFor(piece)]) this.refuse(other);
  }

  /** A piece of which nothing is under way has been held for too long: it ends, and who waits for its blocks in a later batch. */
  expired(piece: Piece): void {
    check(piece.started && piece.pending === 0, 'a piece is over that is under way', piece.index);
    for (const other of [...this.order.waitingFor(piece)]) this.refuse(other);
    this.end(piece, -EIO);
  }

  /** Ends a piece that waits for its blocks, in a later batch. Control work waits on. */
  private refuse(piece: Piece): void {
    if (piece.started || piece.refused || piece.kind === PIECE_LOCK) return;
    piece.refused = true;
    this.later(piece, -EIO);
  }

  private endRefused(piece: Piece): void {
    const { token, part } = piece;
    check(!piece.givenUp && piece.targets === 0, 'a piece is refused that was sent', piece.index);
    this.order.withdraw(piece);
    this.putBack(piece);
    if (part) this.parts -= 1;
    this.needs.completions.finish(token, -EIO, 0);
    this.beginReady();
    if (part) this.needs.onPartFree();
  }

  /** A member is back, in the same life, as which `slot` has it: what it was asked for and has not done is asked again. */
  returned(slot: MemberSlot): void {
    this.io.returned(slot);
  }

  private degraded(piece: Piece): boolean {
    return !this.membership.complete(this.membership.groups[piece.group]);
  }

  private putBack(piece: Piece): void {
    check(piece.inUse, 'a piece ends twice', piece.index);
    piece.inUse = false;
    piece.started = false;
    piece.onStart = null;
    piece.onRefused = null;
    this.free.push(piece);
    this.inFlight -= 1;
    this.barriers.pass(piece);
    if (this.inFlight === 0) this.lastEnded.tell();
  }

  private beginReady(): void {
    const { ready } = this.order;
    for (let piece = ready.shift(); piece !== undefined; piece = ready.shift()) this.begin(piece);
  }

  // Control work.

  /**
   * Runs `work` alone with these blocks, when their turn has come. Rejects with `ERR_STRAKE_UNAVAILABLE` if the volume is
   * suspended before.
   */
  async locked<T>(stripe: ChunkIndex, block: BlockIndex, blocks: BlockCount, work: () => Promise<T>): Promise<T> {
    if (this.membership.suspended) throw new StrakeError('UNAVAILABLE', 'the volume is suspended');
    const piece = this.takeWhole();
    this.locks += 1;
    piece.kind = PIECE_LOCK;
    piece.stripe = stripe;
    piece.block = block;
    piece.blocks = blocks;
    await new Promise<void>((resolve, reject) => {
      piece.onStart = resolve;
      piece.onRefused = () => {
        this.order.withdraw(piece);
        this.putBack(piece);
        this.locks -= 1;
        this.beginReady();
        reject(new StrakeError('UNAVAILABLE', 'the volume is suspended'));
      };
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

  /** Whether what comes is held. */
  get suspended(): boolean {
    return this.membership.suspended;
  }

  /** Whether nothing is in flight in a segment, waiting or not. */
  idle(stripe: ChunkIndex): boolean {
    return !this.order.holds(stripe);
  }

  /** Pieces that are whole requests. */
  get whole(): number {
    const whole = this.inFlight - this.parts - this.locks;
    check(whole >= 0, 'fewer requests are in flight than none', whole);
    return whole;
  }

  /** Resolves when all modifications of a group that are being carried out now have ended; those that are held are not. */
  drained(group: GroupIndex): Promise<void> {
    const goesOn = ({ started, held, exclusive, kind }: Piece) => started && !held && exclusive && kind !== PIECE_LOCK;
    return this.barriers.wait(this.all.filter((piece) => piece.group === group && goesOn(piece)));
  }

  /** The lowest flush number of a modification that is being carried out, or `otherwise`. */
  oldestFlushNumber(otherwise: number): number {
    let oldest = otherwise;
    for (const { started, exclusive, targets, flushNumber } of this.all) {
      if (started && exclusive && targets !== 0 && flushNumber < oldest) oldest = flushNumber;
    }
    return oldest;
  }

  /** Resolves when nothing is in flight, waiting or not. */
  ended(): Promise<void> {
    return this.inFlight === 0 ? Promise.resolve() : this.lastEnded.next();
  }

  /** Gives up the handler; nothing may be in flight. */
  close(): void {
    check(this.inFlight === 0, 'pieces are in flight when their volume is closed', this.inFlight);
    this.io.close();
    this.needs.completions.unregister(this.token);
  }
}
