/**
 * Requests and their pieces, made once and used again.
 *
 * A request with payload is carried out in *pieces* of at most `CHUNK_BYTES`, each in a buffer of its own. A piece exists as
 * long as its buffer is taken: from the moment it is read or received into, until its reply is sent or it is written.
 * Only a request of several pieces lives as long as they do; any other ends with its device operation.
 */

import type { PooledBuffer } from '../core/buffer-pool.js';
import type { Connection } from './connection.js';

export class NbdRequest {
  readonly index: number;
  connection: Connection | null = null;
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

export class Piece {
  readonly buffer: PooledBuffer;
  connection: Connection | null = null;
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
