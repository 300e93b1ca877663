/**
 * Requests and their pieces, made once and used again.
 *
 * A request with payload is carried out in *pieces* of at most `CHUNK_BYTES`, each in a buffer of its own. A piece exists as
 * long as its buffer is taken: from the moment it is read or received into, until its reply is sent or it is written.
 * Only a request of several pieces lives as long as they do; any other ends with its device operation.
 */

import type { PooledBuffer } from '../core/buffer-pool.js';
import { BLOCK_BYTES, CHUNK_BYTES, NBD_EXTENTS_MAX, SHARD_REQUESTS_MAX } from '../core/limits.js';
import { alignDown } from '../core/units.js';
import type { ConnectionResources } from '../net/connection-resources.js';
import type { SendPart } from '../net/send-queue.js';
import { LISTED_EXTENT_BYTES } from '../ports/device.js';
import type { Volume } from '../ports/volume.js';
import { CMD_BLOCK_STATUS, CMD_READ } from './protocol.js';

/** The connection that requests came by, as those who carry them out see it. */
export interface RequestConnection {
  /** Nothing is answered any more. */
  readonly closing: boolean;
  /** Whether structured replies were negotiated. */
  readonly structured: boolean;
  readonly volume: Volume;
  /** A piece for `request`, or null if there is no buffer, or this connection holds too many. */
  takePiece(bytes: number, request: NbdRequest): Piece | null;
  releasePiece(piece: Piece): void;
  /** Sets a piece aside whose memory the kernel may still use. */
  quarantine(piece: Piece): void;
  endRequest(request: NbdRequest): void;
  /** Queues a reply without payload. */
  queueReply(request: NbdRequest): void;
  /** Queues a reply with payload, or a chunk of one. */
  queuePiece(piece: Piece): void;
  /** Makes `request` the one whose reply is streamed. False if another is; then it is begun after that. */
  claimStream(request: NbdRequest, piece: Piece): boolean;
  /** A piece of the stream has been read; queues it, and those after it that were waiting for it. */
  queueReady(request: NbdRequest, piece: Piece): void;
  /** Ends the connection now. */
  end(reason: string): void;
}

export class NbdRequest {
  readonly index: number;
  connection: RequestConnection | null = null;
  type = 0;
  flags = 0;
  cookieHigh = 0;
  cookieLow = 0;
  offset = 0;
  length = 0;
  /** NBD error, 0 for none. */
  error = 0;
  /** First byte that has no piece yet. */
  next = 0;
  /** Pieces whose device operation has not ended. */
  running = 0;
  /** Pieces that hold a buffer, in a request of several. */
  held = 0;
  /** Whether there are several pieces. */
  several = false;
  /** Whether its reply is one run of bytes that nothing may interrupt. */
  inOrder = false;
  /** In such a reply: first byte that has not been queued for sending. */
  queued = 0;

  constructor(index: number) {
    this.index = index;
  }

  get end(): number {
    return this.offset + this.length;
  }
}

export class Piece implements SendPart {
  readonly buffer: PooledBuffer;
  connection: RequestConnection | null = null;
  request: NbdRequest | null = null;
  offset = 0;
  length = 0;
  /** Where the payload is. */
  memory = 0;
  /** Payload bytes received so far. */
  received = 0;
  /** What is sent for it. */
  sendMemory = 0;
  sendLength = 0;
  /** Whether its device operation has ended. */
  ready = false;
  /** Whether it ends a reply that nothing may interrupt. */
  last = false;
  /** Next in the list that it is in. */
  following: Piece | null = null;

  constructor(buffer: PooledBuffer) {
    this.buffer = buffer;
  }
}

/** The requests and pieces of a shard. */
export class RequestPool {
  /** By index of their buffers; made when those are first used, as most never are. */
  readonly pieces: Piece[];
  private readonly resources: ConnectionResources;
  private readonly free: NbdRequest[] = [];
  private made = 0;

  constructor(resources: ConnectionResources) {
    this.resources = resources;
    this.pieces = new Array(resources.pool.buffers.length);
  }

  /** Requests that are taken. */
  get requestsInUse(): number {
    return this.made - this.free.length;
  }

  takeRequest(): NbdRequest | undefined {
    const request = this.free.pop();
    if (request !== undefined || this.made === SHARD_REQUESTS_MAX) return request;
    this.made += 1;
    return new NbdRequest(this.made - 1);
  }

  releaseRequest(request: NbdRequest): void {
    request.connection = null;
    this.free.push(request);
    this.resources.noteReleased();
  }

  /** A piece with a buffer of at least `bytes`, or null if none is free. */
  takePiece(bytes: number): Piece | null {
    const buffer = this.resources.takeBuffer(bytes);
    if (buffer === null) return null;
    this.pieces[buffer.index] ??= new Piece(buffer);
    return this.pieces[buffer.index];
  }

  releasePiece(piece: Piece): void {
    piece.connection = null;
    piece.request = null;
    this.resources.releaseBuffer(piece.buffer);
  }

  /** The kernel may still use this piece's memory. Its buffer stays taken until that has ended. */
  quarantinePiece(piece: Piece): void {
    piece.connection = null;
    piece.request = null;
    this.resources.quarantineBuffer(piece.buffer);
  }
}

/** Whether a request's reply needs a buffer. */
export function needsPiece(type: number): boolean {
  return type === CMD_READ || type === CMD_BLOCK_STATUS;
}

/** Bytes of buffer that the first piece of a request needs; 0 if it needs none. */
export function bufferBytes(type: number, offset: number, length: number): number {
  if (type === CMD_BLOCK_STATUS) return NBD_EXTENTS_MAX * LISTED_EXTENT_BYTES;
  const first = pieceLength(offset, offset + length);
  // The buffer of a first piece, however short, serves whole ones after it.
  return first < length ? CHUNK_BYTES : (offset % BLOCK_BYTES) + first;
}

/** Pieces end at multiples of the chunk, so that only the first and the last can be unaligned. */
export function pieceLength(offset: number, end: number): number {
  const limit = alignDown(offset, CHUNK_BYTES) + CHUNK_BYTES;
  return (end < limit ? end : limit) - offset;
}
