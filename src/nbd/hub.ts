/**
 * What all connections of a server share: memory, buffers, requests, and who waits for them.
 *
 * Everything is allocated here, once. When something runs out, the connection that needs it stops reading its socket and is
 * put on the waiting list; at the end of each batch that gave something back, all that wait are tried again, the longest
 * waiting first.
 */

import { BufferPool } from '../core/buffer-pool.js';
import {
  BLOCK_BYTES,
  BUFFER_CLASSES,
  BULK_BUFFER_BYTES,
  BULK_BUFFERS,
  CONNECTION_BUFFERS_SHARE,
  CONNECTION_RECEIVE_BYTES,
  CONNECTION_STAGING_BYTES,
  CONNECTIONS_MAX,
  SHARD_REQUESTS_MAX,
} from '../core/limits.js';
import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Memory } from '../ports/memory.js';
import type { Transport } from '../ports/transport.js';
import type { Connection } from './connection.js';
import { NbdRequest, Piece } from './requests.js';

/** The ports that a server works on. */
export interface HubPorts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly transport: Transport;
  readonly clock: Clock;
}

const CONNECTION_BYTES = CONNECTION_RECEIVE_BYTES + 2 * CONNECTION_STAGING_BYTES;

/** Counters, for metrics and tests. */
export class HubCounters {
  requests = 0;
  replies = 0;
  sends = 0;
  receives = 0;
  bytesRead = 0;
  bytesWritten = 0;
  errors = 0;
  /** Times that a connection had to wait for a buffer or a request. */
  pauses = 0;
  accepted = 0;
  refused = 0;
  stalled = 0;
}

export class Hub {
  readonly ports: HubPorts;
  readonly memory: Memory;
  readonly transport: Transport;
  readonly pool: BufferPool;
  readonly pieces: Piece[];
  readonly counters = new HubCounters();
  /** Bytes of buffers that one connection may hold. */
  readonly connectionBytesMax: number;
  private readonly start: number;
  private readonly bulkStart: number;
  private readonly freeBulk: number[] = [];
  private readonly freeRequests: NbdRequest[] = [];
  private requestsMade = 0;
  private waiting: Connection[] = [];
  private dirty: Connection[] = [];
  private gaveBack = false;
  private quarantined = 0;
  private readonly batchEnd = () => this.endBatch();

  /** Bytes of page-aligned memory that a hub needs. */
  static regionBytes(): number {
    const connections = CONNECTIONS_MAX * CONNECTION_BYTES;
    return connections + BULK_BUFFERS * BULK_BUFFER_BYTES + BufferPool.regionBytes(BUFFER_CLASSES);
  }

  constructor(ports: HubPorts, start: number) {
    this.ports = ports;
    this.memory = ports.memory;
    this.transport = ports.transport;
    this.start = start;
    this.bulkStart = start + CONNECTIONS_MAX * CONNECTION_BYTES;
    for (let number = BULK_BUFFERS - 1; number >= 0; number -= 1) {
      this.freeBulk.push(this.bulkStart + number * BULK_BUFFER_BYTES);
    }
    this.pool = new BufferPool(this.bulkStart + BULK_BUFFERS * BULK_BUFFER_BYTES, BUFFER_CLASSES);
    this.pieces = this.pool.buffers.map((buffer) => new Piece(buffer));
    this.connectionBytesMax = this.pool.totalBytes * CONNECTION_BUFFERS_SHARE;
    ports.completions.onBatchEnd(this.batchEnd);
  }

  /** First byte of what the connection with this index owns: its receive buffer, then two staging areas. */
  connectionMemory(index: number): number {
    return this.start + index * CONNECTION_BYTES;
  }

  takeBulk(): number | undefined {
    return this.freeBulk.pop();
  }

  releaseBulk(memory: number): void {
    this.freeBulk.push(memory);
  }

  takeRequest(): NbdRequest | undefined {
    const request = this.freeRequests.pop();
    if (request !== undefined || this.requestsMade === SHARD_REQUESTS_MAX) return request;
    this.requestsMade += 1;
    return new NbdRequest(this.requestsMade - 1);
  }

  releaseRequest(request: NbdRequest): void {
    request.connection = null;
    this.freeRequests.push(request);
    this.gaveBack = true;
  }

  /** A piece with a buffer of at least `bytes`, or null if none is free. */
  takePiece(bytes: number): Piece | null {
    const buffer = this.pool.take(bytes);
    return buffer === null ? null : this.pieces[buffer.index];
  }

  releasePiece(piece: Piece): void {
    piece.connection = null;
    piece.request = null;
    this.pool.release(piece.buffer);
    this.gaveBack = true;
  }

  /** The kernel may still use this piece's memory. Its buffer stays taken until that has ended. */
  quarantinePiece(piece: Piece): void {
    const { memory, capacityBytes } = piece.buffer;
    piece.connection = null;
    piece.request = null;
    this.quarantined += 1;
    // The last block of a payload may reach beyond the capacity, into the next buffer's header page.
    this.memory.whenFree(memory, capacityBytes + BLOCK_BYTES, () => {
      this.quarantined -= 1;
      this.releasePiece(piece);
    });
  }

  /** Asks for `flush` of this connection's replies at the end of the batch. */
  markDirty(connection: Connection): void {
    this.dirty.push(connection);
  }

  /** Puts a connection on the waiting list. */
  wait(connection: Connection): void {
    this.counters.pauses += 1;
    this.waiting.push(connection);
  }

  /** Whether any connection waits for something. */
  get contended(): boolean {
    return this.waiting.length > 0;
  }

  private endBatch(): void {
    if (this.gaveBack && this.waiting.length > 0) {
      const waiting = this.waiting;
      this.waiting = [];
      for (const connection of waiting) connection.resume();
    }
    this.gaveBack = false;
    if (this.dirty.length === 0) return;
    const dirty = this.dirty;
    this.dirty = [];
    for (const connection of dirty) connection.flush();
  }

  /** What is in use, for tests of leaks. */
  usage(): { buffers: number; quarantined: number; requests: number; bulk: number } {
    return {
      buffers: this.pool.buffers.length - this.pool.available,
      quarantined: this.quarantined,
      requests: this.requestsMade - this.freeRequests.length,
      bulk: BULK_BUFFERS - this.freeBulk.length,
    };
  }

  close(): void {
    this.ports.completions.offBatchEnd(this.batchEnd);
  }
}

if (CONNECTION_BYTES % BLOCK_BYTES !== 0) throw new Error('connections are carved in whole pages');
