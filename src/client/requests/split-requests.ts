/**
 * Split requests are no single piece: they cross segments or cover blocks in part.
 *
 * Such a request is carried out part by part, in order of address, a few at a time. A part that covers a block in part is a
 * patch, the others are whole blocks of one segment. If there are too many parts, the request waits for one to end; as
 * parts never wait for requests, that always happens; in a managed volume it may last for as long as parts are held, so that what
 * waits for them fails in its time. The first error ends the request when its parts in flight have ended.
 */

import { check } from '../../core/check.js';
import { EIO } from '../../core/errno.js';
import { BLOCK_BYTES, REQUEST_PARTS, REQUEST_SKIPS, VOLUME_REQUESTS_MAX } from '../../core/limits.js';
import { Notify } from '../../core/notify.js';
import { alignDown, alignUp } from '../../core/units.js';
import { Waiting } from '../../core/waiting.js';
import type { CompletionPort } from '../../ports/completion.js';
import { REQUEST_FUA, REQUEST_KEEP } from '../../ports/segment-request.js';
import { VOLUME_TAG_BITS } from '../limits.js';
import { exists } from '../mirror/allocation.js';
import type { Membership } from '../mirror/membership.js';
import type { Holder, Holding } from './holding.js';
import { PIECE_PATCH, PIECE_READ, PIECE_WRITE, PIECE_ZERO, type Piece } from './piece.js';
import type { Pieces } from './pieces.js';

class SplitRequest {
  readonly index: number;
  kind = PIECE_READ;
  /** Of byte `origin` of the volume. */
  memory = 0;
  origin = 0;
  flags = 0;
  release = false;
  token = 0;
  answer = 0;
  next = 0;
  end = 0;
  running = 0;
  error = 0;
  resultFlags = 0;
  starved = false;
  /** Since when it is, in a managed volume. */
  starvedMs = 0;
  /**
   * It ends with a flush of the volume. Copies have to remember together that a segment was given back; and of segments that
   * are all zeroes already, the discard that has made them so need not be durable.
   */
  flushed = false;

  constructor(index: number) {
    this.index = index;
  }
}

export interface SplitRequestsParts {
  readonly completions: CompletionPort;
  readonly membership: Membership;
  readonly pieces: Pieces;
  /** See `PiecesParts.holding`. */
  readonly holding: Holding | null;
  /** Makes everything durable that has ended, and ends the token that it is given. */
  readonly flush: (token: number) => void;
}

export class SplitRequests implements Holder {
  private readonly completions: CompletionPort;
  private readonly membership: Membership;
  private readonly pieces: Pieces;
  private readonly token: number;
  private readonly all: SplitRequest[] = [];
  private readonly free: SplitRequest[] = [];
  /** Requests that wait for parts. */
  private readonly starved = new Waiting<SplitRequest>('split requests that wait for parts', VOLUME_REQUESTS_MAX);
  private readonly segmentBytes: number;
  private readonly lastEnded = new Notify();
  private readonly flush: (token: number) => void;
  private readonly holding: Holding | null;

  constructor({ completions, membership, pieces, holding, flush }: SplitRequestsParts) {
    this.flush = flush;
    this.holding = holding;
    holding?.add(this);
    this.completions = completions;
    this.membership = membership;
    this.pieces = pieces;
    this.segmentBytes = membership.record.segmentBytes;
    const complete = (tag: number, result: number, flags: number) => this.endPart(tag, result, flags);
    this.token = completions.register({ complete }, VOLUME_TAG_BITS);
  }

  /**
   * Starts a request of `PIECE_READ`, `PIECE_WRITE` or `PIECE_ZERO`; `memory` is the place of its first byte. Reads take in
   * the blocks that they cover in part. Zeroing gives back what it empties, unless that is to be kept.
   */
  start(kind: number, memory: number, length: number, offset: number, flags: number, token: number): void {
    const request = this.take();
    request.kind = kind;
    request.memory = memory;
    request.origin = offset;
    request.flushed = kind === PIECE_ZERO && (flags & REQUEST_FUA) !== 0;
    request.flags = request.flushed ? flags & ~REQUEST_FUA : flags;
    request.release = kind === PIECE_ZERO && (flags & REQUEST_KEEP) === 0;
    request.token = token;
    request.answer = kind === PIECE_ZERO ? 0 : length;
    request.next = kind === PIECE_READ ? alignDown(offset, BLOCK_BYTES) : offset;
    request.end = kind === PIECE_READ ? alignUp(offset + length, BLOCK_BYTES) : offset + length;
    request.running = 0;
    request.error = 0;
    request.resultFlags = 0;
    this.advance(request);
  }

  /** Requests in flight. */
  get inFlight(): number {
    return this.all.length - this.free.length;
  }

  private take(): SplitRequest {
    const request = this.free.pop();
    if (request !== undefined) {
      check(request.running === 0 && !request.starved, 'a split request is used again before its end', request.index);
      return request;
    }
    check(this.all.length < VOLUME_REQUESTS_MAX, 'more split requests than requests', VOLUME_REQUESTS_MAX);
    const made = new SplitRequest(this.all.length);
    this.all.push(made);
    return made;
  }

  /** Starts parts as far as bounds allow. A request without any goes on in a later batch. */
  private advance(request: SplitRequest): void {
    let skips = 0;
    while (request.next < request.end && request.running < REQUEST_PARTS && !request.starved) {
      if (request.kind === PIECE_ZERO && this.skip(request)) {
        skips += 1;
        if (skips === REQUEST_SKIPS) break;
      } else {
        this.startPart(request);
      }
    }
    if (request.running > 0 || request.starved) return;
    request.running = 1;
    this.completions.defer(this.token + request.index, 0);
  }

  /** Passes over the rest of a segment that is all zeroes already, and not only because a discard of it is under way. */
  private skip(request: SplitRequest): boolean {
    const stripe = Math.floor(request.next / this.segmentBytes);
    // While the volume is suspended somebody else may have written there.
    if (this.pieces.suspended || !this.pieces.idle(stripe)) return false;
    if (exists(this.membership.groupOf(stripe), stripe)) return false;
    request.next = Math.min(request.end, (stripe + 1) * this.segmentBytes);
    return true;
  }

  private startPart(request: SplitRequest): void {
    const piece = this.pieces.takePart();
    if (piece === null) {
      request.starved = true;
      request.starvedMs = this.holding?.begun() ?? 0;
      this.starved.push(request);
      return;
    }
    const { next, end, kind } = request;
    const stripe = Math.floor(next / this.segmentBytes);
    const inBlock = next % BLOCK_BYTES;
    const blockEnd = next - inBlock + BLOCK_BYTES;
    piece.stripe = stripe;
    piece.block = (next - inBlock - stripe * this.segmentBytes) / BLOCK_BYTES;
    piece.flags = request.flags;
    piece.token = this.token + request.index;
    piece.answer = 0;
    if (inBlock !== 0 || end < blockEnd) this.fillPatch(request, piece, inBlock, Math.min(end, blockEnd));
    else {
      const stop = Math.min(alignDown(end, BLOCK_BYTES), (stripe + 1) * this.segmentBytes);
      piece.kind = kind;
      piece.blocks = (stop - next) / BLOCK_BYTES;
      piece.memory = request.memory + (next - request.origin);
      piece.discards = request.release;
      request.next = stop;
    }
    check(request.next > next && request.next <= end, 'a part is not the next of its request', request.index);
    request.running += 1;
    this.pieces.submit(piece);
  }

  private fillPatch(request: SplitRequest, piece: Piece, inBlock: number, stop: number): void {
    piece.kind = PIECE_PATCH;
    piece.blocks = 1;
    piece.from = inBlock;
    piece.length = stop - request.next;
    piece.payload = request.kind === PIECE_WRITE ? request.memory + (request.next - request.origin) : -1;
    request.next = stop;
  }

  private endPart(index: number, result: number, flags: number): void {
    const request = this.all[index];
    check(request.running > 0, 'more parts of a request have ended than were begun', index);
    request.running -= 1;
    request.resultFlags |= flags;
    if (result < 0 && request.error === 0) {
      request.error = result;
      request.end = request.next;
    }
    if (request.next < request.end) {
      this.advance(request);
      return;
    }
    if (request.running > 0 || request.starved) return;
    this.free.push(request);
    const answer = request.error < 0 ? request.error : request.answer;
    if (answer === 0 && request.flushed) this.flush(request.token);
    else this.completions.finish(request.token, answer, request.resultFlags);
    if (this.inFlight === 0) this.lastEnded.tell();
  }

  /** A part has ended: a request that waits for one may go on. */
  feedStarved(): void {
    const request = this.starved.take();
    if (request === undefined) return;
    check(request.starved, 'a request is fed that waits for no part', request.index);
    request.starved = false;
    this.advance(request);
  }

  get holds(): boolean {
    return this.starved.size > 0;
  }

  /** Requests that have waited for too long get no other parts, and fail in a later batch when those that they have end. */
  giveUp(beforeMs: number): void {
    for (const request of this.starved.takeAll()) {
      if (request.starvedMs > beforeMs) this.starved.push(request);
      else this.fail(request);
    }
  }

  private fail(request: SplitRequest): void {
    const { starved, index } = request;
    check(starved, 'a request fails as if it waited for parts', index);
    request.starved = false;
    if (request.error === 0) request.error = -EIO;
    request.end = request.next;
    // It ends as if it had one part more.
    request.running += 1;
    this.completions.defer(this.token + index, -EIO);
  }

  /** Resolves when none is in flight. */
  ended(): Promise<void> {
    return this.inFlight === 0 ? Promise.resolve() : this.lastEnded.next();
  }

  /** Gives up the handler; nothing may be in flight. */
  close(): void {
    check(this.inFlight === 0, 'split requests are in flight when their volume is closed', this.inFlight);
    this.completions.unregister(this.token);
  }
}
