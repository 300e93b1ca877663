/**
 * One NBD connection: its life, and its incoming side.
 *
 * ```text
 *   free ──► handshake ──► serving ──► draining ──► closing ──► free
 *                 └────────────┴───────────┴───────────┘  by error, end of stream, time-out
 * ```
 *
 * Requests are received in bulk and parsed where they lie. A small payload is copied out by the engine when its write is
 * submitted; what is missing of a payload is received straight to where the device will write it from. After a large write
 * only a header is asked for, so that the next payload too lands in place.
 *
 * A connection that cannot go on for want of a buffer or a request stops parsing, and so stops reading its socket: the
 * client is slowed by its own transport. What a connection may hold is bounded, so none can take everything.
 *
 * *Draining*: no new requests; those in flight are finished and answered. *Closing*: the socket is shut; memory that the
 * kernel still uses is waited for.
 */

import {
  BLOCK_BYTES,
  CONNECTION_RECEIVE_BYTES,
  CONNECTION_REQUESTS_MAX,
  CONNECTION_STAGING_BYTES,
  LARGE_PAYLOAD_BYTES,
} from '../core/limits.js';
import type { ConnectionResources, ResourceUser } from '../net/connection-resources.js';
import { ReceiveBuffer } from '../net/receive-buffer.js';
import { SendQueue } from '../net/send-queue.js';
import { Writer } from '../net/writer.js';
import { COMPLETION_MORE } from '../ports/completion.js';
import type { Volume } from '../ports/volume.js';
import type { NbdExport } from './export.js';
import { Handshake, type Offer } from './handshake.js';
import { needsPiece, Operations } from './operations.js';
import { CMD_DISC, CMD_WRITE, REQUEST_HEADER_BYTES, REQUEST_MAGIC } from './protocol.js';
import { requestError } from './request-error.js';
import type { NbdRequest, Piece, RequestConnection, RequestPool } from './requests.js';

export type ConnectionState = 'free' | 'handshake' | 'serving' | 'draining' | 'closing';

/** What a shard's NBD service provides to its connections. */
export interface ConnectionOwner {
  readonly resources: ConnectionResources;
  readonly pool: RequestPool;
  readonly operations: Operations;
  readonly receiveToken: number;
  readonly sendToken: number;
  /** The handshake is over. */
  onServing(connection: Connection): void;
  /** Nothing is left of it; it can be used again. */
  onFree(connection: Connection): void;
}

const NO_REASON = '';

export class Connection implements RequestConnection, ResourceUser {
  readonly index: number;
  state: ConnectionState = 'free';
  structured = false;
  target: NbdExport | null = null;
  /** When it began, for the time limit of the handshake. */
  sinceMs = 0;
  /** Completions of receives and sends, as a sign of life. */
  progress = 0;
  /** Why it ended. */
  reason = NO_REASON;
  private readonly owner: ConnectionOwner;
  private readonly resources: ConnectionResources;
  private readonly pool: RequestPool;
  private readonly operations: Operations;
  private readonly input: ReceiveBuffer;
  private readonly sender: SendQueue<NbdRequest, Piece>;
  private readonly writer: Writer;
  private file = -1;
  private handshake: Handshake | null = null;
  allocationContext = false;
  /** The receive in flight goes to the piece, not to the buffer. */
  private receivingPiece = false;
  private headerOnly = false;
  private waiting = false;
  private dirty = false;
  /** The write whose payload is being received, and its current piece. */
  private writing: NbdRequest | null = null;
  private piece: Piece | null = null;
  /** Payload of a refused write that is still to be read past. */
  private skipBytes = 0;
  private requests = 0;
  private heldBytes = 0;
  private heldPieces = 0;
  private readonly streams: { request: NbdRequest; piece: Piece }[] = [];
  private readonly readyPieces: Piece[] = [];

  constructor(owner: ConnectionOwner, index: number) {
    this.owner = owner;
    this.index = index;
    this.resources = owner.resources;
    this.pool = owner.pool;
    this.operations = owner.operations;
    const memory = this.resources.connectionMemory(index);
    this.input = new ReceiveBuffer(this.resources, memory, REQUEST_HEADER_BYTES, owner.receiveToken + index);
    const staging = memory + CONNECTION_RECEIVE_BYTES;
    this.sender = new SendQueue(this.resources, this.operations, [staging, staging + CONNECTION_STAGING_BYTES]);
    this.writer = new Writer(this.resources.memory);
  }

  get closing(): boolean {
    return this.state === 'closing';
  }

  get volume(): Volume {
    return (this.target as NbdExport).volume;
  }

  /** Whether it holds anything that others may wait for. */
  get holdsBuffers(): boolean {
    return this.heldPieces > 0 || this.requests > 0;
  }

  /** Whether it depends on the peer to go on: to take replies, or to send the rest of a payload. */
  get dependsOnPeer(): boolean {
    return this.sender.sending || (this.receivingPiece && this.input.receiving);
  }

  /** Begins with a new socket. */
  open(file: number, nowMs: number, offer: Offer): void {
    this.file = file;
    this.state = 'handshake';
    this.sinceMs = nowMs;
    this.progress = 0;
    this.reason = NO_REASON;
    this.structured = false;
    this.allocationContext = false;
    this.target = null;
    this.handshake = new Handshake(this.resources.memory, offer);
    this.input.open(file);
    this.headerOnly = false;
    this.writer.open(this.sender.stagingMemory, CONNECTION_STAGING_BYTES);
    Handshake.greet(this.writer);
    this.sendWritten();
    this.receive();
  }

  private sendWritten(): void {
    this.sender.sendStaged(this.file, this.writer.length, this.owner.sendToken + this.index);
  }

  // ---- receiving ----

  private receive(): void {
    if (this.input.receiving) return;
    this.receivingPiece = false;
    this.input.receive(this.requests === 0, this.headerOnly);
  }

  onReceived(result: number, flags: number): void {
    this.input.receiving = false;
    this.progress += 1;
    if (this.closing) {
      this.freeIfDone();
      return;
    }
    if (result <= 0) {
      this.end(result === 0 ? NO_REASON : 'the connection broke');
      return;
    }
    this.input.more = (flags & COMPLETION_MORE) !== 0;
    if (this.receivingPiece) this.receivedPiece(result);
    else this.input.add(result);
    if (!this.closing) this.process();
  }

  private receivedPiece(result: number): void {
    const piece = this.piece as Piece;
    piece.received += result;
    this.receivingPiece = false;
    if (piece.received < piece.length) this.end('the stream ended within a payload');
    else this.finishPiece(piece, -1);
  }

  /** Goes on with what has been received, and receives more. */
  private process(): void {
    if (this.state === 'handshake') this.shakeHands();
    if (this.state !== 'serving' && this.state !== 'handshake') return;
    if (this.state === 'serving') {
      this.input.noteFilled();
      this.parse();
      if (this.state !== 'serving' || this.waiting || this.input.receiving) return;
    }
    if (this.state === 'handshake' && this.sender.sending) return;
    this.receive();
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
      const bytes = error === 0 ? Operations.bufferBytes(type, offset, length) : BLOCK_BYTES;
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
    else if (piece !== null) this.operations.beginRead(request, this.volume, piece);
    else if (type === CMD_WRITE) this.writing = request;
    else this.operations.beginOther(request, this.volume);
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
    else this.operations.reject(this, request, piece);
  }

  // ---- payloads ----

  /** Takes what has been received of a write's payload. False if more has to come, or a buffer is missing. */
  private takePayload(request: NbdRequest): boolean {
    let piece = this.piece;
    if (piece === null) {
      const length = Operations.pieceLength(request.next, request.end);
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
    this.receivingPiece = true;
    this.input.receiveTo(piece.memory + piece.received, piece.length - piece.received);
    return false;
  }

  /** All payload of a piece is there: at `source`, or in its buffer if that is -1. */
  private finishPiece(piece: Piece, source: number): void {
    const request = piece.request as NbdRequest;
    this.piece = null;
    request.next = piece.offset + piece.length;
    if (request.next === request.end) this.writing = null;
    this.operations.writePiece(request, this.volume, piece, source);
  }

  // ---- resources ----

  /** A piece for `request`, or null if there is no buffer, or this connection holds too many. */
  takePiece(bytes: number, request: NbdRequest): Piece | null {
    if (this.heldBytes + bytes > this.resources.connectionBytesMax) return null;
    const piece = this.pool.takePiece(bytes);
    if (piece === null) return null;
    this.heldBytes += piece.buffer.capacityBytes;
    this.heldPieces += 1;
    piece.connection = this;
    piece.request = request;
    return piece;
  }

  releasePiece(piece: Piece): void {
    this.forget(piece);
    this.pool.releasePiece(piece);
    if (this.closing) this.freeIfDone();
  }

  /** Sets a piece aside whose memory the kernel may still use. */
  quarantine(piece: Piece): void {
    this.forget(piece);
    this.pool.quarantinePiece(piece);
  }

  private forget(piece: Piece): void {
    this.heldBytes -= piece.buffer.capacityBytes;
    this.heldPieces -= 1;
  }

  endRequest(request: NbdRequest): void {
    this.requests -= 1;
    this.pool.releaseRequest(request);
    if (this.closing) this.freeIfDone();
  }

  private wait(): boolean {
    this.waiting = true;
    this.resources.wait(this);
    return false;
  }

  /** Something was given back: tries again. */
  resume(): void {
    this.waiting = false;
    if (this.state === 'serving' && !this.input.receiving) this.process();
    else if (this.closing) this.freeIfDone();
  }

  // ---- replies ----

  queueReply(request: NbdRequest): void {
    this.sender.queueReply(request);
    this.markDirty();
  }

  queuePiece(piece: Piece): void {
    this.sender.queuePart(piece);
    this.markDirty();
  }

  /** Makes `request` the one whose reply is streamed. False if another is; then it is begun after that. */
  claimStream(request: NbdRequest, piece: Piece): boolean {
    if (this.sender.stream === null) {
      this.sender.stream = request;
      return true;
    }
    this.streams.push({ request, piece });
    return false;
  }

  /** A piece of the stream has been read; queues it, and those after it that were waiting for it. */
  queueReady(request: NbdRequest, piece: Piece): void {
    this.readyPieces.push(piece);
    for (;;) {
      const at = this.readyPieces.findIndex((ready) => ready.offset === request.queued);
      if (at < 0) return;
      const [next] = this.readyPieces.splice(at, 1);
      request.queued += next.length;
      this.sender.queueStreamed(next);
      this.markDirty();
    }
  }

  private markDirty(): void {
    if (this.dirty) return;
    this.dirty = true;
    this.resources.markDirty(this);
  }

  /** Sends what is queued. Called once at the end of a batch. */
  flush(): void {
    this.dirty = false;
    if (this.closing) {
      this.freeIfDone();
      return;
    }
    this.sender.flush(this.file, this.owner.sendToken + this.index);
    if (this.state === 'draining') this.endIfDrained();
  }

  onSent(result: number): void {
    this.sender.sending = false;
    this.progress += 1;
    for (let piece = this.sender.takeSent(); piece !== null; piece = this.sender.takeSent()) {
      this.operations.sent(this, piece);
    }
    if (this.closing) {
      this.freeIfDone();
      return;
    }
    if (result < 0) {
      this.end('the connection broke');
      return;
    }
    if (this.sender.stream === null) this.nextStream();
    if (this.state === 'handshake') {
      if (!this.input.receiving) this.process();
      return;
    }
    this.sender.flush(this.file, this.owner.sendToken + this.index);
    if (this.state === 'draining') this.endIfDrained();
    else if (!this.input.receiving && !this.waiting) this.process();
  }

  private nextStream(): void {
    const next = this.streams.shift();
    if (next === undefined) return;
    this.sender.stream = next.request;
    this.operations.beginSeveral(next.request, this.volume, next.piece);
  }

  // ---- the end ----

  /** Takes no more requests; ends when those in flight have been answered. */
  drain(): void {
    if (this.state === 'handshake') {
      this.end('the server is closing');
      return;
    }
    if (this.state !== 'serving') return;
    this.state = 'draining';
    // A payload that has not arrived whole will not be waited for: its write was not acknowledged.
    if (this.writing !== null) this.end('the server is closing');
    else this.endIfDrained();
  }

  private endIfDrained(): void {
    if (this.requests === 0 && this.sender.idle) this.end(NO_REASON);
  }

  /** Ends the connection now. */
  end(reason: string): void {
    if (this.state === 'closing' || this.state === 'free') return;
    this.state = 'closing';
    this.reason = reason;
    const { transport } = this.resources;
    transport.shutdown(this.file);
    transport.close(this.file);
    const { operations } = this;
    this.sender.discard(
      (piece) => operations.dropQueued(this, piece),
      (request) => this.endRequest(request),
    );
    for (const piece of this.readyPieces.splice(0)) operations.dropQueued(this, piece);
    for (const { piece } of this.streams.splice(0)) operations.dropQueued(this, piece);
    this.endWriting();
    this.freeIfDone();
  }

  /** A write whose payload will not come: what has arrived of it may be written, and is not acknowledged. */
  private endWriting(): void {
    const { writing, piece } = this;
    if (writing === null || (piece !== null && this.input.receiving)) return;
    this.writing = null;
    this.piece = null;
    if (piece !== null) this.releasePiece(piece);
    writing.next = writing.end;
    this.operations.endWriteIfDone(this, writing);
  }

  private freeIfDone(): void {
    if (!this.closing || this.input.receiving || this.sender.sending) return;
    this.endWriting();
    // With its last write it may have become free already; it must not be given back twice.
    if (!this.closing) return;
    if (this.requests > 0 || this.heldPieces > 0 || this.waiting || this.dirty) return;
    this.state = 'free';
    this.input.useOwnBuffer();
    this.handshake = null;
    this.target = null;
    this.skipBytes = 0;
    this.file = -1;
    this.owner.onFree(this);
  }
}
