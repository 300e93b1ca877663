/**
 * What requests do: from a validated header to the volume, and from its completion to a reply.
 */

import { EDQUOT, ENOSPC, EOPNOTSUPP, EPERM, EROFS } from '../core/errno.js';
import { BLOCK_BYTES, CHUNK_BYTES, CHUNKS_IN_FLIGHT, NBD_EXTENTS_MAX } from '../core/limits.js';
import { alignDown } from '../core/units.js';
import type { ConnectionResources } from '../net/connection-resources.js';
import type { ReplyFormat } from '../net/send-queue.js';
import { COMPLETION_ABANDONED } from '../ports/completion.js';
import { DEVICE_FAST_ONLY, DEVICE_FUA, DEVICE_KEEP_ALLOCATED } from '../ports/device.js';
import type { Volume } from '../ports/volume.js';
import {
  BASE_ALLOCATION_ID,
  CMD_BLOCK_STATUS,
  CMD_CACHE,
  CMD_FLAG_DF,
  CMD_FLAG_FAST_ZERO,
  CMD_FLAG_FUA,
  CMD_FLAG_NO_HOLE,
  CMD_FLAG_REQ_ONE,
  CMD_FLUSH,
  CMD_READ,
  CMD_TRIM,
  CMD_WRITE_ZEROES,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_ENOTSUP,
  NBD_EPERM,
  REPLY_FLAG_DONE,
  REPLY_TYPE_BLOCK_STATUS,
  REPLY_TYPE_ERROR,
  REPLY_TYPE_ERROR_OFFSET,
  REPLY_TYPE_OFFSET_DATA,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_HEADER_BYTES,
  STRUCTURED_REPLY_MAGIC,
} from './protocol.js';
import type { NbdRequest, Piece, RequestConnection, RequestPool } from './requests.js';

/** Bytes of one extent as the engine lists it, and as it is sent. */
const LISTED_EXTENT_BYTES = 16;
const SENT_EXTENT_BYTES = 8;

export class Operations implements ReplyFormat<NbdRequest> {
  readonly replyBytes = SIMPLE_REPLY_BYTES;
  private readonly resources: ConnectionResources;
  private readonly pool: RequestPool;
  private readonly readToken: number;
  private readonly writeToken: number;
  private readonly statusToken: number;
  private readonly otherToken: number;
  /** By index; a request is found here when its operation ends. */
  private readonly others: (NbdRequest | undefined)[] = [];

  constructor(resources: ConnectionResources, pool: RequestPool) {
    this.resources = resources;
    this.pool = pool;
    const { completions } = resources.ports;
    this.readToken = completions.register({ complete: (tag, result, flags) => this.endRead(tag, result, flags) });
    this.writeToken = completions.register({ complete: (tag, result, flags) => this.endWrite(tag, result, flags) });
    this.statusToken = completions.register({ complete: (tag, result, flags) => this.endStatus(tag, result, flags) });
    this.otherToken = completions.register({ complete: (tag, result) => this.endOther(tag, result) });
  }

  close(): void {
    const tokens = [this.readToken, this.writeToken, this.statusToken, this.otherToken];
    for (const token of tokens) this.resources.ports.completions.unregister(token);
  }

  /** Bytes of buffer that the first piece of a request needs; 0 if it needs none. */
  static bufferBytes(type: number, offset: number, length: number): number {
    if (type === CMD_BLOCK_STATUS) return NBD_EXTENTS_MAX * LISTED_EXTENT_BYTES;
    const first = Operations.pieceLength(offset, offset + length);
    // The buffer of a first piece, however short, serves whole ones after it.
    return first < length ? CHUNK_BYTES : (offset % BLOCK_BYTES) + first;
  }

  /** Pieces end at multiples of the chunk, so that only the first and the last can be unaligned. */
  static pieceLength(offset: number, end: number): number {
    const limit = alignDown(offset, CHUNK_BYTES) + CHUNK_BYTES;
    return (end < limit ? end : limit) - offset;
  }

  /** Begins a request that needs `piece` for its reply. */
  beginRead(request: NbdRequest, volume: Volume, piece: Piece): void {
    if (request.type === CMD_BLOCK_STATUS) {
      this.beginStatus(request, volume, piece);
      return;
    }
    this.resources.counters.bytesRead += request.length;
    const connection = piece.connection as RequestConnection;
    request.several = Operations.pieceLength(request.offset, request.end) < request.length;
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
    const length = Operations.pieceLength(offset, request.end);
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
    this.putSimpleHeader(request, piece.memory - SIMPLE_REPLY_BYTES, 0);
    piece.sendMemory = piece.memory - SIMPLE_REPLY_BYTES;
    piece.sendLength = piece.length + SIMPLE_REPLY_BYTES;
    this.finishSingle(connection, request, piece);
  }

  /** A request of one piece ends when its reply is queued; the piece lives on until that is sent. */
  private finishSingle(connection: RequestConnection, request: NbdRequest, piece: Piece): void {
    piece.request = null;
    connection.endRequest(request);
    connection.queuePiece(piece);
  }

  writeReply(request: NbdRequest, at: number): void {
    this.putSimpleHeader(request, at, request.error);
    request.connection?.endRequest(request);
  }

  private putSimpleHeader(request: NbdRequest, at: number, error: number): void {
    const { view } = this.resources.memory;
    view.setUint32(at, SIMPLE_REPLY_MAGIC);
    view.setUint32(at + 4, error);
    view.setUint32(at + 8, request.cookieHigh);
    view.setUint32(at + 12, request.cookieLow);
  }

  private putChunkHeader(request: NbdRequest, at: number, flags: number, type: number, length: number): void {
    const { view } = this.resources.memory;
    view.setUint32(at, STRUCTURED_REPLY_MAGIC);
    view.setUint16(at + 4, flags);
    view.setUint16(at + 6, type);
    view.setUint32(at + 8, request.cookieHigh);
    view.setUint32(at + 12, request.cookieLow);
    view.setUint32(at + 16, length);
  }

  private putOffset(at: number, offset: number): void {
    const { view } = this.resources.memory;
    view.setUint32(at, Math.floor(offset / 2 ** 32));
    view.setUint32(at + 4, offset % 2 ** 32);
  }

  private replyStructured(connection: RequestConnection, request: NbdRequest, piece: Piece, error: number): void {
    const done = request.next >= request.end && request.running === 0 ? REPLY_FLAG_DONE : 0;
    if (error !== 0) {
      this.resources.counters.errors += 1;
      this.putErrorChunk(request, piece, done, error);
    } else {
      const at = piece.memory - STRUCTURED_HEADER_BYTES - 8;
      this.putChunkHeader(request, at, done, REPLY_TYPE_OFFSET_DATA, piece.length + 8);
      this.putOffset(at + STRUCTURED_HEADER_BYTES, piece.offset);
      piece.sendMemory = at;
      piece.sendLength = piece.length + STRUCTURED_HEADER_BYTES + 8;
    }
    if (request.several) connection.queuePiece(piece);
    else this.finishSingle(connection, request, piece);
  }

  private putErrorChunk(request: NbdRequest, piece: Piece, done: number, error: number): void {
    const at = piece.buffer.memory;
    const { view } = this.resources.memory;
    const type = request.several ? REPLY_TYPE_ERROR_OFFSET : REPLY_TYPE_ERROR;
    const length = request.several ? 14 : 6;
    this.putChunkHeader(request, at, done, type, length);
    view.setUint32(at + STRUCTURED_HEADER_BYTES, error);
    view.setUint16(at + STRUCTURED_HEADER_BYTES + 4, 0);
    if (request.several) this.putOffset(at + STRUCTURED_HEADER_BYTES + 6, piece.offset);
    piece.sendMemory = at;
    piece.sendLength = STRUCTURED_HEADER_BYTES + length;
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
    piece.sendMemory = piece.memory;
    piece.sendLength = piece.length;
    if (piece.offset === request.offset) this.putStreamHeader(connection, request, piece);
    piece.last = piece.offset + piece.length === request.end;
    connection.queueReady(request, piece);
  }

  private putStreamHeader(connection: RequestConnection, request: NbdRequest, piece: Piece): void {
    let bytes = SIMPLE_REPLY_BYTES;
    if (connection.structured) {
      bytes = STRUCTURED_HEADER_BYTES + 8;
      const at = piece.memory - bytes;
      this.putChunkHeader(request, at, REPLY_FLAG_DONE, REPLY_TYPE_OFFSET_DATA, request.length + 8);
      this.putOffset(at + STRUCTURED_HEADER_BYTES, request.offset);
    } else {
      this.putSimpleHeader(request, piece.memory - bytes, 0);
    }
    piece.sendMemory -= bytes;
    piece.sendLength += bytes;
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

  /** Begins to write a piece whose payload lies at `source`, or already in its buffer if that is -1. */
  writePiece(request: NbdRequest, volume: Volume, piece: Piece, source: number): void {
    request.running += 1;
    const flags = (request.flags & CMD_FLAG_FUA) !== 0 ? DEVICE_FUA : 0;
    const token = this.writeToken + piece.buffer.index;
    this.resources.counters.bytesWritten += piece.length;
    if (source >= 0) volume.writeFrom(source, piece.memory, piece.length, piece.offset, flags, token);
    else volume.write(piece.memory, piece.length, piece.offset, flags, token);
  }

  private endWrite(index: number, result: number, flags: number): void {
    const piece = this.pool.pieces[index];
    const connection = piece.connection as RequestConnection;
    const request = piece.request as NbdRequest;
    request.running -= 1;
    if (result < 0 && request.error === 0) request.error = nbdError(result);
    if ((flags & COMPLETION_ABANDONED) !== 0) connection.quarantine(piece);
    else connection.releasePiece(piece);
    this.endWriteIfDone(connection, request);
  }

  /** Replies once all payload has arrived and been dealt with. */
  endWriteIfDone(connection: RequestConnection, request: NbdRequest): void {
    if (request.running > 0 || request.next < request.end) return;
    if (connection.closing) connection.endRequest(request);
    else connection.queueReply(request);
  }

  /** Answers a request that validation refused, where the protocol wants a chunk. */
  reject(connection: RequestConnection, request: NbdRequest, piece: Piece): void {
    this.putErrorChunk(request, piece, REPLY_FLAG_DONE, request.error);
    this.finishSingle(connection, request, piece);
  }

  /** Begins a request without payload. */
  beginOther(request: NbdRequest, volume: Volume): void {
    const token = this.otherToken + request.index;
    this.others[request.index] = request;
    const fua = (request.flags & CMD_FLAG_FUA) !== 0 ? DEVICE_FUA : 0;
    switch (request.type) {
      case CMD_FLUSH:
        volume.flush(token);
        break;
      case CMD_TRIM:
        volume.discardRange(request.offset, request.length, fua, token);
        break;
      case CMD_WRITE_ZEROES: {
        const keep = (request.flags & CMD_FLAG_NO_HOLE) !== 0 ? DEVICE_KEEP_ALLOCATED : 0;
        const fast = (request.flags & CMD_FLAG_FAST_ZERO) !== 0 ? DEVICE_FAST_ONLY : 0;
        volume.zero(request.offset, request.length, fua | keep | fast, token);
        break;
      }
      default:
        // CACHE is advice, and there is no cache: I/O is direct.
        this.resources.ports.completions.defer(token, request.type === CMD_CACHE ? 0 : -EPERM);
    }
  }

  private endOther(index: number, result: number): void {
    const request = this.others[index] as NbdRequest;
    this.others[index] = undefined;
    const connection = request.connection as RequestConnection;
    if (result < 0) request.error = nbdError(result);
    if (connection.closing) connection.endRequest(request);
    else connection.queueReply(request);
  }

  private beginStatus(request: NbdRequest, volume: Volume, piece: Piece): void {
    const one = (request.flags & CMD_FLAG_REQ_ONE) !== 0;
    const room = (one ? 1 : NBD_EXTENTS_MAX) * LISTED_EXTENT_BYTES;
    request.next = request.end;
    request.running = 1;
    const token = this.statusToken + piece.buffer.index;
    volume.extents(request.offset, request.length, piece.buffer.memory, room, token);
  }

  /** The engine's list becomes the protocol's in place, which is shorter. */
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
    if (result <= 0) {
      this.putErrorChunk(request, piece, REPLY_FLAG_DONE, result === 0 ? NBD_EIO : nbdError(result));
    } else {
      const { memory, view } = { memory: piece.buffer.memory, view: this.resources.memory.view };
      const littleEndian = true;
      for (let extent = 0; extent < result; extent += 1) {
        const from = memory + extent * LISTED_EXTENT_BYTES;
        const length = view.getFloat64(from, littleEndian);
        const kind = view.getFloat64(from + 8, littleEndian);
        const to = memory + extent * SENT_EXTENT_BYTES;
        // A request is shorter than 2^32 bytes, so its extents are too.
        view.setUint32(to, length);
        view.setUint32(to + 4, kind);
      }
      const at = memory - STRUCTURED_HEADER_BYTES - 4;
      const bytes = result * SENT_EXTENT_BYTES + 4;
      this.putChunkHeader(request, at, REPLY_FLAG_DONE, REPLY_TYPE_BLOCK_STATUS, bytes);
      view.setUint32(at + STRUCTURED_HEADER_BYTES, BASE_ALLOCATION_ID);
      piece.sendMemory = at;
      piece.sendLength = STRUCTURED_HEADER_BYTES + bytes;
    }
    this.finishSingle(connection, request, piece);
  }
}

/** Whether a request's reply needs a buffer. */
export function needsPiece(type: number): boolean {
  return type === CMD_READ || type === CMD_BLOCK_STATUS;
}

/** An engine's negative errno as an error of the protocol. */
export function nbdError(result: number): number {
  switch (-result) {
    case ENOSPC:
    case EDQUOT:
      return NBD_ENOSPC;
    case EOPNOTSUPP:
      return NBD_ENOTSUP;
    case EPERM:
    case EROFS:
      return NBD_EPERM;
    default:
      return NBD_EIO;
  }
}
