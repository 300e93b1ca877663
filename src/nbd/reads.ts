/**
 * Requests that are answered with payload, reads and block status: from a validated header to the volume, and from its completion
 * to a reply.
 */

import { BLOCK_BYTES, CHUNK_BYTES, CHUNKS_IN_FLIGHT, NBD_EXTENTS_MAX } from '../core/limits.js';
import type { ConnectionResources } from '../net/connection-resources.js';
import { COMPLETION_ABANDONED } from '../ports/completion.js';
import { LISTED_EXTENT_BYTES } from '../ports/device.js';
import type { Volume } from '../ports/volume.js';
import { CMD_BLOCK_STATUS, CMD_FLAG_DF, CMD_FLAG_REQ_ONE, NBD_EIO } from './protocol.js';
import { nbdError, type Replies } from './replies.js';
import { type NbdRequest, type Piece, pieceLength, type RequestConnection, type RequestPool } from './requests.js';

export class Reads {
  private readonly resources: ConnectionResources;
  private readonly pool: RequestPool;
  private readonly replies: Replies;
  private readonly readToken: number;
  private readonly statusToken: number;

  constructor(resources: ConnectionResources, pool: RequestPool, replies: Replies) {
    this.resources = resources;
    this.pool = pool;
    this.replies = replies;
    const { completions } = resources.ports;
    this.readToken = completions.register({ complete: (tag, result, flags) => this.endRead(tag, result, flags) });
    this.statusToken = completions.register({ complete: (tag, result, flags) => this.endStatus(tag, result, flags) });
  }

  close(): void {
    for (const token of [this.readToken, this.statusToken]) this.resources.ports.completions.unregister(token);
  }

  /** Begins a request that needs `piece` for its reply. */
  begin(request: NbdRequest, volume: Volume, piece: Piece): void {
    if (request.type === CMD_BLOCK_STATUS) {
      this.beginStatus(request, volume, piece);
      return;
    }
    this.resources.counters.bytesRead += request.length;
    const connection = piece.connection as RequestConnection;
    request.several = pieceLength(request.offset, request.end) < request.length;
    request.inOrder = !connection.structured || (request.flags & CMD_FLAG_DF) !== 0;
    if (!request.several) {
      this.readPiece(request, volume, piece);
      return;
    }
    request.held = 1;
    request.queued = request.offset;
    if (!request.inOrder || connection.claimStream(request, piece)) this.beginSeveral(request, volume, piece);
  }

  /** Begins as many pieces as there are buffers to be had; from then on each buffer serves one after another. */
  beginSeveral(request: NbdRequest, volume: Volume, first: Piece): void {
    this.readPiece(request, volume, first);
    const connection = first.connection as RequestConnection;
    while (request.held < CHUNKS_IN_FLIGHT && request.next < request.end) {
      const piece = connection.takePiece(CHUNK_BYTES, request);
      if (piece === null) return;
      request.held += 1;
      this.readPiece(request, volume, piece);
    }
  }

  private readPiece(request: NbdRequest, volume: Volume, piece: Piece): void {
    const offset = request.next;
    const length = pieceLength(offset, request.end);
    request.next = offset + length;
    request.running += 1;
    piece.offset = offset;
    piece.length = length;
    piece.ready = false;
    this.read(volume, piece);
  }

  private read(volume: Volume, piece: Piece): void {
    const { offset, length } = piece;
    piece.memory = piece.buffer.memory + (offset % BLOCK_BYTES);
    volume.read(piece.memory, length, offset, this.readToken + piece.buffer.index);
  }

  private endRead(index: number, result: number, flags: number): void {
    let piece = this.pool.pieces[index];
    const connection = piece.connection as RequestConnection;
    const request = piece.request as NbdRequest;
    if ((flags & COMPLETION_ABANDONED) !== 0) {
      piece = this.replace(piece);
      if (!connection.closing) {
        // The device that did not answer is asked for nothing any more; there may be another copy.
        this.read(connection.volume, piece);
        return;
      }
    }
    request.running -= 1;
    if (connection.closing) {
      this.dropPiece(connection, request, piece);
      return;
    }
    const error = result < 0 ? nbdError(result) : 0;
    if (request.inOrder && request.several) this.endStreamed(connection, request, piece, error);
    else if (connection.structured) this.replyStructured(connection, request, piece, error);
    else this.replySimple(connection, request, piece, error);
  }

  /** A buffer that the kernel may still write to is set aside; the request goes on in another one, or not at all. */
  private replace(piece: Piece): Piece {
    const connection = piece.connection as RequestConnection;
    const request = piece.request as NbdRequest;
    const { offset, length } = piece;
    const { capacityBytes } = piece.buffer;
    connection.quarantine(piece);
    // As large as the lost one: the buffer of a long read serves one piece after another.
    const other = connection.takePiece(capacityBytes, request);
    if (other === null) {
      connection.end('a device did not answer');
      return piece;
    }
    other.offset = offset;
    other.length = length;
    other.ready = false;
    return other;
  }

  /** The connection is over, and with it a piece whose operation has ended. */
  private dropPiece(connection: RequestConnection, request: NbdRequest, piece: Piece): void {
    if (piece.connection !== null) connection.releasePiece(piece);
    if (request.several) request.held -= 1;
    if (!request.several || request.held === 0) connection.endRequest(request);
  }

  /** Likewise for one that waited to be sent: a request of one piece has ended by then. */
  dropQueued(connection: RequestConnection, piece: Piece): void {
    const { request } = piece;
    connection.releasePiece(piece);
    if (request === null) return;
    request.held -= 1;
    if (request.held === 0) connection.endRequest(request);
  }

  private replySimple(connection: RequestConnection, request: NbdRequest, piece: Piece, error: number): void {
    if (error !== 0) {
      request.error = error;
      connection.releasePiece(piece);
      connection.queueReply(request);
      return;
    }
    this.replies.putSimple(request, piece);
    this.finishSingle(connection, request, piece);
  }

  /** A request of one piece ends when its reply is queued; the piece lives on until that is sent. */
  private finishSingle(connection: RequestConnection, request: NbdRequest, piece: Piece): void {
    piece.request = null;
    connection.endRequest(request);
    connection.queuePiece(piece);
  }

  private replyStructured(connection: RequestConnection, request: NbdRequest, piece: Piece, error: number): void {
    const done = request.next >= request.end && request.running === 0;
    if (error !== 0) {
      this.resources.counters.errors += 1;
      this.replies.putErrorChunk(request, piece, done, error);
    } else {
      this.replies.putDataChunk(request, piece, done);
    }
    if (request.several) connection.queuePiece(piece);
    else this.finishSingle(connection, request, piece);
  }

  /**
   * A reply that must not be interrupted: its pieces are queued in order as they become ready. The header, which promises
   * success, goes out with the first; after that an error can only be told by closing.
   */
  private endStreamed(connection: RequestConnection, request: NbdRequest, piece: Piece, error: number): void {
    if (error !== 0) {
      connection.end('reading failed in the middle of a reply');
      this.dropPiece(connection, request, piece);
      return;
    }
    piece.ready = true;
    this.replies.putStreamed(connection.structured, request, piece);
    piece.last = piece.offset + piece.length === request.end;
    connection.queueReady(request, piece);
  }

  /** A piece has been sent. Its buffer serves the next piece of its request, or is given back. */
  sent(connection: RequestConnection, piece: Piece): void {
    const request = piece.request;
    if (request === null) {
      connection.releasePiece(piece);
      return;
    }
    if (!connection.closing && request.next < request.end) {
      this.readPiece(request, connection.volume, piece);
      return;
    }
    connection.releasePiece(piece);
    request.held -= 1;
    if (request.held === 0) connection.endRequest(request);
  }

  /** Answers a request that validation refused, where the protocol wants a chunk. */
  reject(connection: RequestConnection, request: NbdRequest, piece: Piece): void {
    this.replies.putErrorChunk(request, piece, true, request.error);
    this.finishSingle(connection, request, piece);
  }

  private beginStatus(request: NbdRequest, volume: Volume, piece: Piece): void {
    const one = (request.flags & CMD_FLAG_REQ_ONE) !== 0;
    const room = (one ? 1 : NBD_EXTENTS_MAX) * LISTED_EXTENT_BYTES;
    request.next = request.end;
    request.running = 1;
    const token = this.statusToken + piece.buffer.index;
    volume.extents(request.offset, request.length, piece.buffer.memory, room, token);
  }

  private endStatus(index: number, result: number, flags: number): void {
    let piece = this.pool.pieces[index];
    const connection = piece.connection as RequestConnection;
    const request = piece.request as NbdRequest;
    request.running -= 1;
    if ((flags & COMPLETION_ABANDONED) !== 0) piece = this.replace(piece);
    if (connection.closing) {
      this.dropPiece(connection, request, piece);
      return;
    }
    if (result > 0) this.replies.putExtents(request, piece, result);
    else this.replies.putErrorChunk(request, piece, true, result === 0 ? NBD_EIO : nbdError(result));
    this.finishSingle(connection, request, piece);
  }
}
