/**
 * One NBD connection: its handshake, and its incoming side.
 *
 * Requests are received in bulk and parsed where they lie. A small payload is copied out by the engine when its write is
 * submitted; what is missing of a payload is received straight to where the device will write it from. After a large write
 * only a header is asked for, so that the next payload too lands in place.
 */

import { BLOCK_BYTES, CONNECTION_REQUESTS_MAX, CONNECTION_STAGING_BYTES, LARGE_PAYLOAD_BYTES } from '../core/limits.js';
import type { ConnectionResources } from '../net/connection-resources.js';
import { StreamConnection } from '../net/stream-connection.js';
import type { Volume } from '../ports/volume.js';
import type { NbdExport } from './export.js';
import { Handshake, type Offer } from './handshake.js';
import { CMD_DISC, CMD_WRITE, REQUEST_HEADER_BYTES, REQUEST_MAGIC } from './protocol.js';
import type { Reads } from './reads.js';
import type { Replies } from './replies.js';
import { requestError } from './request-error.js';
import {
  bufferBytes,
  type NbdRequest,
  needsPiece,
  type Piece,
  pieceLength,
  type RequestConnection,
  type RequestPool,
} from './requests.js';
import type { Writes } from './writes.js';

/** What a shard's NBD service provides to its connections. */
export interface ConnectionOwner {
  readonly resources: ConnectionResources;
  readonly pool: RequestPool;
  readonly replies: Replies;
  readonly reads: Reads;
  readonly writes: Writes;
  readonly receiveToken: number;
  readonly sendToken: number;
  /** The handshake is over. */
  onServing(connection: Connection): void;
  /** Nothing is left of it; it can be used again. */
  onFree(connection: Connection): void;
}

export class Connection extends StreamConnection<NbdRequest, Piece> implements RequestConnection {
  structured = false;
  allocationContext = false;
  target: NbdExport | null = null;
  private readonly owner: ConnectionOwner;
  private readonly pool: RequestPool;
  private readonly reads: Reads;
  private readonly writes: Writes;
  private handshake: Handshake | null = null;
  private headerOnly = false;
  /** The write whose payload is being received, and its current piece. */
  private writing: NbdRequest | null = null;
  private piece: Piece | null = null;
  /** Payload of a refused write that is still to be read past. */
  private skipBytes = 0;

  constructor(owner: ConnectionOwner, index: number) {
    const { resources, replies } = owner;
    const tokens = { receiveToken: owner.receiveToken + index, sendToken: owner.sendToken + index };
    super({ resources, replies, headerBytes: REQUEST_HEADER_BYTES, ...tokens }, index);
    this.owner = owner;
    this.pool = owner.pool;
    this.reads = owner.reads;
    this.writes = owner.writes;
  }

  get volume(): Volume {
    return (this.target as NbdExport).volume;
  }

  /** Begins with a new socket. */
  open(file: number, nowMs: number, offer: Offer): void {
    this.begin(file, nowMs);
    this.structured = false;
    this.allocationContext = false;
    this.target = null;
    this.handshake = new Handshake(this.resources.memory, offer);
    this.headerOnly = false;
    this.writer.open(this.sender.stagingMemory, CONNECTION_STAGING_BYTES);
    Handshake.greet(this.writer);
    this.sendWritten();
    this.receive();
  }

  protected process(): void {
    if (this.state === 'handshake') this.shakeHands();
    if (this.state !== 'serving' && this.state !== 'handshake') return;
    if (this.state === 'serving') {
      this.input.noteFilled();
      this.parse();
      if (this.state !== 'serving' || this.waiting || this.input.receiving) return;
    }
    if (this.state === 'handshake' && this.sender.sending) return;
    this.receive(this.headerOnly ? REQUEST_HEADER_BYTES : 0);
  }

  // ---- handshake ----

  private shakeHands(): void {
    const handshake = this.handshake as Handshake;
    while (this.state === 'handshake' && !this.sender.sending) {
      this.writer.open(this.sender.stagingMemory, CONNECTION_STAGING_BYTES);
      const step = handshake.step(this.input.start, this.input.end, this.writer);
      this.input.take(handshake.used);
      if (this.writer.length > 0) this.sendWritten();
      if (step === 'serve') this.serve(handshake);
      else if (step === 'close' && this.sender.sending) this.state = 'draining';
      else if (step === 'close') this.end('the handshake failed');
      else if (step === 'more') return;
    }
  }

  private serve(handshake: Handshake): void {
    this.state = 'serving';
    this.target = handshake.chosen;
    this.structured = handshake.structured;
    this.allocationContext = handshake.allocationContext;
    this.handshake = null;
    this.owner.onServing(this);
  }

  // ---- requests ----

  private parse(): void {
    while (this.state === 'serving') {
      if (this.skipBytes > 0) {
        const skipped = Math.min(this.skipBytes, this.input.available);
        this.skipBytes -= skipped;
        this.input.take(skipped);
        if (this.skipBytes > 0) return;
      }
      if (this.writing !== null) {
        if (!this.takePayload(this.writing)) return;
        continue;
      }
      if (this.input.available < REQUEST_HEADER_BYTES || !this.takeRequest()) return;
    }
  }

  /** Takes one request from the buffer. False if it has to wait for something; then nothing has been taken. */
  private takeRequest(): boolean {
    const { view } = this.resources.memory;
    const at = this.input.start;
    if (view.getUint32(at) !== REQUEST_MAGIC) {
      this.end('a request does not begin with its magic number');
      return false;
    }
    const type = view.getUint16(at + 6);
    if (type === CMD_DISC) {
      this.input.take(REQUEST_HEADER_BYTES);
      this.drain();
      return false;
    }
    const flags = view.getUint16(at + 4);
    const offset = view.getUint32(at + 16) * 2 ** 32 + view.getUint32(at + 20);
    const length = view.getUint32(at + 24);
    const error = requestError(this, type, flags, offset, length);
    let piece: Piece | null = null;
    if (this.requests >= CONNECTION_REQUESTS_MAX) return this.wait();
    const request = this.pool.takeRequest();
    if (request === undefined) return this.wait();
    if (needsPiece(type) && (error === 0 || this.structured)) {
      const bytes = error === 0 ? bufferBytes(type, offset, length) : BLOCK_BYTES;
      piece = this.takePiece(bytes, request);
      if (piece === null) {
        this.pool.releaseRequest(request);
        return this.wait();
      }
    }
    this.input.take(REQUEST_HEADER_BYTES);
    this.requests += 1;
    this.resources.counters.requests += 1;
    request.connection = this;
    request.type = type;
    request.flags = flags;
    request.cookieHigh = view.getUint32(at + 8);
    request.cookieLow = view.getUint32(at + 12);
    request.offset = offset;
    request.length = length;
    request.error = error;
    request.next = offset;
    request.running = 0;
    request.several = false;
    this.headerOnly = type === CMD_WRITE && length >= LARGE_PAYLOAD_BYTES;
    if (error !== 0) this.refuse(request, piece);
    else if (piece !== null) this.reads.begin(request, this.volume, piece);
    else if (type === CMD_WRITE) this.writing = request;
    else this.writes.beginOther(request, this.volume);
    return true;
  }

  /** Answers with the error found; the payload of a write is read past. */
  private refuse(request: NbdRequest, piece: Piece | null): void {
    this.resources.counters.errors += 1;
    if (request.type === CMD_WRITE) {
      this.skipBytes = request.length;
      this.headerOnly = false;
    }
    if (piece === null) this.queueReply(request);
    else this.reads.reject(this, request, piece);
  }

  // ---- payloads ----

  /** Takes what has been received of a write's payload. False if more has to come, or a buffer is missing. */
  private takePayload(request: NbdRequest): boolean {
    let piece = this.piece;
    if (piece === null) {
      const length = pieceLength(request.next, request.end);
      const before = request.next % BLOCK_BYTES;
      piece = this.takePiece(before + length, request);
      if (piece === null) return this.wait();
      piece.offset = request.next;
      piece.length = length;
      piece.memory = piece.buffer.memory + before;
      piece.received = 0;
      this.piece = piece;
    }
    const { available } = this.input;
    const from = this.input.start;
    if (available >= piece.length && piece.received === 0) {
      this.input.take(piece.length);
      this.finishPiece(piece, from);
      return true;
    }
    if (available > 0) {
      this.resources.memory.copy(piece.memory, from, available);
      piece.received = available;
      this.input.take(available);
    }
    this.receivingPayload = true;
    this.input.receiveTo(piece.memory + piece.received, piece.length - piece.received);
    return false;
  }

  /** All payload of a piece is there: at `source`, or in its buffer if that is -1. */
  private finishPiece(piece: Piece, source: number): void {
    const request = piece.request as NbdRequest;
    this.piece = null;
    request.next = piece.offset + piece.length;
    if (request.next === request.end) this.writing = null;
    this.writes.writePiece(request, this.volume, piece, source);
  }

  protected receivedPayload(bytes: number): void {
    const piece = this.piece as Piece;
    piece.received += bytes;
    if (piece.received < piece.length) this.end('the stream ended within a payload');
    else this.finishPiece(piece, -1);
  }

  protected get expectsPayload(): boolean {
    return this.writing !== null;
  }

  /** What has arrived of the write may be written, and is not acknowledged. */
  protected endPayload(): void {
    const { writing, piece } = this;
    if (writing === null || (piece !== null && this.input.receiving)) return;
    this.writing = null;
    this.piece = null;
    if (piece !== null) this.releasePiece(piece);
    writing.next = writing.end;
    this.writes.endIfDone(this, writing);
  }

  // ---- requests and their pieces ----

  takePiece(bytes: number, request: NbdRequest): Piece | null {
    if (!this.mayHold(bytes)) return null;
    const piece = this.pool.takePiece(bytes);
    if (piece === null) return null;
    this.hold(piece.buffer);
    piece.connection = this;
    piece.request = request;
    return piece;
  }

  releasePiece(piece: Piece): void {
    this.holdNoMore(piece.buffer);
    this.pool.releasePiece(piece);
    if (this.closing) this.freeIfDone();
  }

  quarantine(piece: Piece): void {
    this.holdNoMore(piece.buffer);
    this.pool.quarantinePiece(piece);
  }

  endRequest(request: NbdRequest): void {
    this.requests -= 1;
    this.pool.releaseRequest(request);
    if (this.closing) this.freeIfDone();
  }

  protected sent(piece: Piece): void {
    this.reads.sent(this, piece);
  }

  protected dropPart(piece: Piece): void {
    this.reads.dropQueued(this, piece);
  }

  protected beginStream(request: NbdRequest, piece: Piece): void {
    this.reads.beginSeveral(request, this.volume, piece);
  }

  protected onFree(): void {
    this.handshake = null;
    this.target = null;
    this.skipBytes = 0;
    this.owner.onFree(this);
  }
}
