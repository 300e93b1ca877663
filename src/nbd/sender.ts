/**
 * The outgoing side of a connection: replies wait here, and leave in one gathered send at a time.
 *
 * A send takes pieces until it holds `SEND_BYTES_MAX` of payload; the last one may pass it. More would be cheaper per byte and worse in sum: the client would get
 * nothing for long, then everything, and meanwhile the device would idle.
 *
 * Replies without payload are written next to each other into a staging area; there are two, so that one can be filled
 * while the other is on its way. A reply with payload is sent from the buffer that the device read into. Replies may
 * leave in any order, but a *stream*, one reply of several pieces in order, is never interrupted.
 */

import { CONNECTION_STAGING_BYTES, SEND_BYTES_MAX, SEND_VECTORS_MAX } from '../core/limits.js';
import type { Hub } from './hub.js';
import { SIMPLE_REPLY_BYTES, SIMPLE_REPLY_MAGIC } from './protocol.js';
import type { NbdRequest, Piece } from './requests.js';

/** A list of pieces, linked through themselves. */
class PieceList {
  head: Piece | null = null;
  private tail: Piece | null = null;

  push(piece: Piece): void {
    piece.following = null;
    if (this.tail === null) this.head = piece;
    else this.tail.following = piece;
    this.tail = piece;
  }

  shift(): Piece | null {
    const piece = this.head;
    if (piece === null) return null;
    this.head = piece.following;
    if (this.head === null) this.tail = null;
    piece.following = null;
    return piece;
  }
}

export class Sender {
  /** Whether a send is in flight. */
  sending = false;
  /** The request whose reply is being streamed. */
  stream: NbdRequest | null = null;
  private readonly hub: Hub;
  private readonly stagings: readonly [number, number];
  private staging = 0;
  private replies: NbdRequest[] = [];
  private readonly pieces = new PieceList();
  private readonly streamed = new PieceList();
  private readonly onTheWay = new PieceList();

  constructor(hub: Hub, stagings: readonly [number, number]) {
    this.hub = hub;
    this.stagings = stagings;
  }

  /** A reply without payload: the request ends when it is written. */
  queueReply(request: NbdRequest): void {
    this.replies.push(request);
  }

  /** A reply, or a chunk of one, that can be sent in any order. */
  queuePiece(piece: Piece): void {
    this.pieces.push(piece);
  }

  /** The next piece of the stream. */
  queueStreamed(piece: Piece): void {
    this.streamed.push(piece);
  }

  get idle(): boolean {
    return !this.sending && this.stream === null && this.replies.length === 0 && this.pieces.head === null;
  }

  /** The staging area to write into by hand, in the handshake. */
  get stagingMemory(): number {
    return this.stagings[this.staging];
  }

  /** Sends `bytes` of the staging area. */
  sendStaged(file: number, bytes: number, token: number): void {
    this.hub.transport.addPiece(this.stagings[this.staging], bytes);
    this.post(file, token);
  }

  private post(file: number, token: number): void {
    this.sending = true;
    this.staging ^= 1;
    this.hub.counters.sends += 1;
    this.hub.transport.send(file, token);
  }

  /** Puts a send together from what is queued, if none is in flight. */
  flush(file: number, token: number): void {
    if (this.sending) return;
    const { transport } = this.hub;
    let vectors = 0;
    let bytes = 0;
    const streaming = this.stream !== null;
    if (!streaming && this.replies.length > 0) {
      bytes = this.writeReplies();
      transport.addPiece(this.stagings[this.staging], bytes);
      vectors = 1;
    }
    const list = streaming ? this.streamed : this.pieces;
    while (list.head !== null && bytes < SEND_BYTES_MAX && vectors < SEND_VECTORS_MAX) {
      const piece = list.shift() as Piece;
      transport.addPiece(piece.sendMemory, piece.sendLength);
      bytes += piece.sendLength;
      vectors += 1;
      this.hub.counters.replies += 1;
      const ends = streaming && piece.last;
      this.onTheWay.push(piece);
      if (ends) {
        this.stream = null;
        break;
      }
    }
    if (vectors > 0) this.post(file, token);
  }

  /** Writes replies into the staging area as long as there is room. Returns the bytes written. */
  private writeReplies(): number {
    const { view } = this.hub.memory;
    const count = Math.min(this.replies.length, CONNECTION_STAGING_BYTES / SIMPLE_REPLY_BYTES);
    let at = this.stagings[this.staging];
    for (let index = 0; index < count; index += 1) {
      const request = this.replies[index];
      view.setUint32(at, SIMPLE_REPLY_MAGIC);
      view.setUint32(at + 4, request.error);
      view.setUint32(at + 8, request.cookieHigh);
      view.setUint32(at + 12, request.cookieLow);
      at += SIMPLE_REPLY_BYTES;
      request.connection?.endRequest(request);
    }
    if (count === this.replies.length) this.replies.length = 0;
    else this.replies = this.replies.slice(count);
    this.hub.counters.replies += count;
    return count * SIMPLE_REPLY_BYTES;
  }

  /** The next piece whose send has ended; null when there are no more. */
  takeSent(): Piece | null {
    return this.onTheWay.shift();
  }

  /** Takes out what is queued and not on its way: the connection is over. */
  discard(onPiece: (piece: Piece) => void, onReply: (request: NbdRequest) => void): void {
    for (const list of [this.pieces, this.streamed]) {
      for (let piece = list.shift(); piece !== null; piece = list.shift()) onPiece(piece);
    }
    const replies = this.replies;
    this.replies = [];
    for (const request of replies) onReply(request);
    this.stream = null;
  }
}
