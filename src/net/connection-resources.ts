/**
 * What all connections of a shard share, whatever their protocol: memory, buffers, and who waits for them.
 *
 * Everything is allocated here, once. When something runs out, the connection that needs it stops reading its socket and is
 * put on the waiting list; at the end of each batch that gave something back, all that wait are tried again, the longest
 * waiting first.
 */

import { type BufferClasses, BufferPool, type PooledBuffer } from '../core/buffer-pool.js';
import { check } from '../core/check.js';
import {
  BLOCK_BYTES,
  BUFFER_CLASSES,
  BULK_BUFFER_BYTES,
  BULK_BUFFERS,
  CONNECTION_BUFFERS_SHARE,
  CONNECTION_RECEIVE_BYTES,
  CONNECTION_STAGING_BYTES,
  CONNECTIONS_MAX,
  SEND_BYTES_MAX,
} from '../core/limits.js';
import { SetAside } from '../core/set-aside.js';
import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Memory } from '../ports/memory.js';
import type { Transport } from '../ports/transport.js';

/** The ports that a server works on. */
export interface NetPorts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly transport: Transport;
  readonly clock: Clock;
}

/** A connection, as far as it is told of what it shares. */
export interface ResourceUser {
  /** Something was given back: tries again. Called at the end of a batch, after `wait`. */
  resume(): void;
  /** Sends what is queued. Called at the end of a batch, after `markDirty`. */
  flush(): void;
}

/** How much of everything there is. */
export interface NetSizes {
  readonly connections: number;
  /** Of the receive buffer that each connection owns. */
  readonly receiveBytes: number;
  /** Larger receive buffers for busy connections. */
  readonly bulkBuffers: number;
  readonly classes: BufferClasses;
  /** Payload that is gathered into one send: enough to be cheap, little enough that the other end is not kept waiting for it. */
  readonly sendBytesMax: number;
}

/** Of a server that anybody may connect to. */
export const SERVER_SIZES: NetSizes = {
  connections: CONNECTIONS_MAX,
  receiveBytes: CONNECTION_RECEIVE_BYTES,
  bulkBuffers: BULK_BUFFERS,
  classes: BUFFER_CLASSES,
  sendBytesMax: SEND_BYTES_MAX,
};

function connectionBytes({ receiveBytes }: NetSizes): number {
  return receiveBytes + 2 * CONNECTION_STAGING_BYTES;
}

/** Counters, for metrics and tests. */
export class ConnectionCounters {
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

export class ConnectionResources {
  readonly ports: NetPorts;
  readonly memory: Memory;
  readonly transport: Transport;
  readonly pool: BufferPool;
  readonly counters = new ConnectionCounters();
  /** Bytes of buffers that one connection may hold. */
  readonly connectionBytesMax: number;
  readonly sizes: NetSizes;
  private readonly start: number;
  private readonly bulkStart: number;
  private readonly freeBulk: number[] = [];
  private waiting: ResourceUser[] = [];
  private dirty: ResourceUser[] = [];
  private gaveBack = false;
  private readonly quarantine: SetAside;
  /** Of a batch that comes for nothing but its end. */
  private readonly token: number;
  private turns = 0;
  private closed = false;
  private readonly batchEnd = () => {
    if (this.gaveBack || this.dirty.length > 0) this.endBatch();
  };

  /** Bytes of page-aligned memory that all of it needs. */
  static regionBytes(sizes = SERVER_SIZES): number {
    const connections = sizes.connections * connectionBytes(sizes);
    return connections + sizes.bulkBuffers * BULK_BUFFER_BYTES + BufferPool.regionBytes(sizes.classes);
  }

  constructor(ports: NetPorts, start: number, sizes = SERVER_SIZES) {
    const { connections, bulkBuffers, classes } = sizes;
    check(connectionBytes(sizes) % BLOCK_BYTES === 0, 'connections are carved in whole pages', sizes.receiveBytes);
    this.sizes = sizes;
    this.ports = ports;
    this.memory = ports.memory;
    this.transport = ports.transport;
    this.start = start;
    this.bulkStart = start + connections * connectionBytes(sizes);
    for (let number = bulkBuffers - 1; number >= 0; number -= 1) {
      this.freeBulk.push(this.bulkStart + number * BULK_BUFFER_BYTES);
    }
    this.pool = new BufferPool(this.bulkStart + bulkBuffers * BULK_BUFFER_BYTES, classes);
    this.quarantine = new SetAside(ports.memory, this.pool.buffers.length);
    this.connectionBytesMax = this.pool.totalBytes * CONNECTION_BUFFERS_SHARE;
    ports.completions.onBatchEnd(this.batchEnd);
    this.token = ports.completions.register({ complete: () => this.turn() });
  }

  /** First byte of what the connection with this index owns: its receive buffer, then two staging areas. */
  connectionMemory(index: number): number {
    check(index < this.sizes.connections, 'there is no memory for such a connection', index);
    return this.start + index * connectionBytes(this.sizes);
  }

  takeBulk(): number | undefined {
    return this.freeBulk.pop();
  }

  releaseBulk(memory: number): void {
    this.freeBulk.push(memory);
  }

  /** A buffer of at least `bytes`, or null if none is free. */
  takeBuffer(bytes: number): PooledBuffer | null {
    return this.pool.take(bytes);
  }

  releaseBuffer(buffer: PooledBuffer): void {
    this.pool.release(buffer);
    this.noteReleased();
  }

  /** The kernel may still use this buffer's memory. It stays taken until that has ended. */
  quarantineBuffer(buffer: PooledBuffer): void {
    // The last block of a payload may reach beyond the capacity, into the next buffer's header page.
    this.quarantine.hold(buffer.memory, buffer.capacityBytes + BLOCK_BYTES, () => this.releaseBuffer(buffer));
  }

  /** Something that connections wait for has been given back: they are tried again at the end of the batch. */
  noteReleased(): void {
    this.gaveBack = true;
    if (this.waiting.length > 0) this.demandBatch();
  }

  /** Asks for `flush` of this connection's replies at the end of the batch. */
  markDirty(connection: ResourceUser): void {
    this.dirty.push(connection);
    this.demandBatch();
  }

  /** What is done behind an `await` is done between two batches, and the next one might be long in coming. */
  private demandBatch(): void {
    const { completions } = this.ports;
    if (completions.inBatch || this.turns > 0 || this.closed) return;
    this.turns += 1;
    completions.defer(this.token, 0);
  }

  private turn(): void {
    this.turns -= 1;
    this.unregister();
  }

  /** What has been deferred would go to whoever registers under the same number next. */
  private unregister(): void {
    if (this.closed && this.turns === 0) this.ports.completions.unregister(this.token);
  }

  /** Puts a connection on the waiting list. */
  wait(connection: ResourceUser): void {
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
  usage(): { buffers: number; quarantined: number; bulk: number } {
    return {
      buffers: this.pool.buffers.length - this.pool.available,
      quarantined: this.quarantine.count,
      bulk: this.sizes.bulkBuffers - this.freeBulk.length,
    };
  }

  close(): void {
    this.ports.completions.offBatchEnd(this.batchEnd);
    this.closed = true;
    this.unregister();
  }
}
