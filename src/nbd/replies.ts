/**
 * Replies as they are sent. The header of a payload is written immediately before it, so that both are one piece of memory.
 */

import { EDQUOT, ENOSPC, EOPNOTSUPP, EPERM, EROFS } from '../core/errno.js';
import { CONNECTION_STAGING_BYTES } from '../core/limits.js';
import type { ReplyFormat } from '../net/send-queue.js';
import { LISTED_EXTENT_BYTES } from '../ports/device.js';
import type { Memory } from '../ports/memory.js';
import {
  BASE_ALLOCATION_ID,
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
import type { NbdRequest, Piece } from './requests.js';

/** Bytes of one extent as it is sent. */
const SENT_EXTENT_BYTES = 8;

export class Replies implements ReplyFormat<NbdRequest> {
  readonly replyBytes = SIMPLE_REPLY_BYTES;
  readonly headBytes = 0;
  readonly repliesMost = Math.floor(CONNECTION_STAGING_BYTES / SIMPLE_REPLY_BYTES);
  private readonly memory: Memory;

  constructor(memory: Memory) {
    this.memory = memory;
  }

  /** Nothing stands before replies. */
  writeHead(): void {}

  writeReply(request: NbdRequest, at: number): void {
    this.putSimpleHeader(request, at, request.error);
    request.connection?.endRequest(request);
  }

  /** Makes a piece, whose payload is there, the whole reply to a request. */
  putSimple(request: NbdRequest, piece: Piece): void {
    this.putSimpleHeader(request, piece.memory - SIMPLE_REPLY_BYTES, 0);
    piece.sendMemory = piece.memory - SIMPLE_REPLY_BYTES;
    piece.sendLength = piece.length + SIMPLE_REPLY_BYTES;
  }

  /** Makes a piece, whose payload is there, a chunk of a reply. `done`: nothing comes after it. */
  putDataChunk(request: NbdRequest, piece: Piece, done: boolean): void {
    const at = piece.memory - STRUCTURED_HEADER_BYTES - 8;
    this.putChunkHeader(request, at, done, REPLY_TYPE_OFFSET_DATA, piece.length + 8);
    this.putOffset(at + STRUCTURED_HEADER_BYTES, piece.offset);
    piece.sendMemory = at;
    piece.sendLength = piece.length + STRUCTURED_HEADER_BYTES + 8;
  }

  /** Makes a piece a chunk with an error. `done`: nothing comes after it. */
  putErrorChunk(request: NbdRequest, piece: Piece, done: boolean, error: number): void {
    const at = piece.buffer.memory;
    const { view } = this.memory;
    const type = request.several ? REPLY_TYPE_ERROR_OFFSET : REPLY_TYPE_ERROR;
    const length = request.several ? 14 : 6;
    this.putChunkHeader(request, at, done, type, length);
    view.setUint32(at + STRUCTURED_HEADER_BYTES, error);
    view.setUint16(at + STRUCTURED_HEADER_BYTES + 4, 0);
    if (request.several) this.putOffset(at + STRUCTURED_HEADER_BYTES + 6, piece.offset);
    piece.sendMemory = at;
    piece.sendLength = STRUCTURED_HEADER_BYTES + length;
  }

  /** Makes a piece a part of a reply that is one run of bytes; its first part has the header. */
  putStreamed(structured: boolean, request: NbdRequest, piece: Piece): void {
    piece.sendMemory = piece.memory;
    piece.sendLength = piece.length;
    if (piece.offset === request.offset) this.putStreamHeader(structured, request, piece);
  }

  private putStreamHeader(structured: boolean, request: NbdRequest, piece: Piece): void {
    let bytes = SIMPLE_REPLY_BYTES;
    if (structured) {
      bytes = STRUCTURED_HEADER_BYTES + 8;
      const at = piece.memory - bytes;
      this.putChunkHeader(request, at, true, REPLY_TYPE_OFFSET_DATA, request.length + 8);
      this.putOffset(at + STRUCTURED_HEADER_BYTES, request.offset);
    } else {
      this.putSimpleHeader(request, piece.memory - bytes, 0);
    }
    piece.sendMemory -= bytes;
    piece.sendLength += bytes;
  }

  /** Makes a piece, whose buffer lists `count` extents, the reply. The protocol's list is shorter, and written in place. */
  putExtents(request: NbdRequest, piece: Piece, count: number): void {
    const { memory } = piece.buffer;
    const { view } = this.memory;
    const littleEndian = true;
    for (let extent = 0; extent < count; extent += 1) {
      const from = memory + extent * LISTED_EXTENT_BYTES;
      const length = view.getFloat64(from, littleEndian);
      const kind = view.getFloat64(from + 8, littleEndian);
      const to = memory + extent * SENT_EXTENT_BYTES;
      // A request is shorter than 2^32 bytes, so its extents are too.
      view.setUint32(to, length);
      view.setUint32(to + 4, kind);
    }
    const at = memory - STRUCTURED_HEADER_BYTES - 4;
    const bytes = count * SENT_EXTENT_BYTES + 4;
    this.putChunkHeader(request, at, true, REPLY_TYPE_BLOCK_STATUS, bytes);
    view.setUint32(at + STRUCTURED_HEADER_BYTES, BASE_ALLOCATION_ID);
    piece.sendMemory = at;
    piece.sendLength = STRUCTURED_HEADER_BYTES + bytes;
  }

  private putSimpleHeader(request: NbdRequest, at: number, error: number): void {
    const { view } = this.memory;
    view.setUint32(at, SIMPLE_REPLY_MAGIC);
    view.setUint32(at + 4, error);
    view.setUint32(at + 8, request.cookieHigh);
    view.setUint32(at + 12, request.cookieLow);
  }

  private putChunkHeader(request: NbdRequest, at: number, done: boolean, type: number, length: number): void {
    const { view } = this.memory;
    view.setUint32(at, STRUCTURED_REPLY_MAGIC);
    view.setUint16(at + 4, done ? REPLY_FLAG_DONE : 0);
    view.setUint16(at + 6, type);
    view.setUint32(at + 8, request.cookieHigh);
    view.setUint32(at + 12, request.cookieLow);
    view.setUint32(at + 16, length);
  }

  private putOffset(at: number, offset: number): void {
    const { view } = this.memory;
    view.setUint32(at, Math.floor(offset / 2 ** 32));
    view.setUint32(at + 4, offset % 2 ** 32);
  }
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
