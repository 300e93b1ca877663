/**
 * The incoming side of a connection: where bytes are received in bulk, and parsed where they lie.
 *
 * ```text
 *   buffer            start             end          capacity
 *     │ parsed          │ to be parsed    │ to be received │
 * ```
 *
 * A connection owns a small buffer. A busy one receives into a large one, as long as there are any, and gives it back when it
 * is idle. At most one receive is in flight: into this buffer, or straight to where a payload is wanted.
 */

import { BULK_BUFFER_BYTES } from '../core/limits.js';
import { RECEIVE_POLL_FIRST, RECEIVE_WAIT_ALL } from '../ports/transport.js';
import type { ConnectionResources } from './connection-resources.js';

export class ReceiveBuffer {
  /** Whether a receive is in flight. */
  receiving = false;
  /** The socket held more than the last receive took. */
  more = false;
  private readonly resources: ConnectionResources;
  private readonly ownBuffer: number;
  private readonly headerBytes: number;
  private readonly token: number;
  private file = -1;
  private buffer: number;
  private capacity: number;
  private first = 0;
  private last = 0;
  /** The last receive filled the buffer: there is more where that came from. */
  private filled = false;

  /**
   * @param ownBuffer memory of as many bytes as a connection receives into
   * @param headerBytes what is parsed at a time, at least
   * @param token of all its receives
   */
  constructor(resources: ConnectionResources, ownBuffer: number, headerBytes: number, token: number) {
    this.resources = resources;
    this.ownBuffer = ownBuffer;
    this.headerBytes = headerBytes;
    this.token = token;
    this.buffer = ownBuffer;
    this.capacity = resources.sizes.receiveBytes;
  }

  /** Begins empty, with a new socket. */
  open(file: number): void {
    this.file = file;
    this.buffer = this.ownBuffer;
    this.capacity = this.resources.sizes.receiveBytes;
    this.first = 0;
    this.last = 0;
    this.more = false;
    this.filled = false;
  }

  /** Memory of the first byte that has not been parsed. */
  get start(): number {
    return this.buffer + this.first;
  }

  /** Memory behind the last byte that has been received. */
  get end(): number {
    return this.buffer + this.last;
  }

  /** Bytes that have been received and not been parsed. */
  get available(): number {
    return this.last - this.first;
  }

  /** Counts bytes as parsed. */
  take(bytes: number): void {
    this.first += bytes;
  }

  /** Counts bytes as received. */
  add(bytes: number): void {
    this.last += bytes;
  }

  /** Notes whether the buffer is full, in which case the next receive may be into a larger one. */
  noteFilled(): void {
    if (this.last === this.capacity) this.filled = true;
  }

  /**
   * Receives what comes next.
   *
   * @param idle nothing that was received before is in use: a large buffer may be given back
   * @param atMost bytes that are parsed next, if what follows them is wanted elsewhere: no more is received; else 0
   */
  receive(idle: boolean, atMost: number): void {
    if (this.receiving) return;
    if (this.first === this.last) {
      this.first = 0;
      this.last = 0;
      if (idle) this.useOwnBuffer();
    }
    if (this.filled) this.useBulkBuffer();
    let room = this.capacity - this.last;
    if (room < this.headerBytes || (this.first > 0 && room < this.capacity >> 2)) {
      this.moveTo(this.buffer);
      room = this.capacity - this.last;
    }
    if (this.available < atMost) room = Math.min(room, atMost - this.available);
    this.post(this.buffer + this.last, room, this.more ? 0 : RECEIVE_POLL_FIRST);
  }

  /** Empties the buffer, whose bytes have been taken, and receives exactly so many bytes to `memory`. */
  receiveTo(memory: number, bytes: number): void {
    this.first = 0;
    this.last = 0;
    this.post(memory, bytes, RECEIVE_WAIT_ALL);
  }

  private post(memory: number, bytes: number, flags: number): void {
    this.receiving = true;
    this.resources.counters.receives += 1;
    this.resources.transport.receive(this.file, memory, bytes, flags, this.token);
  }

  private moveTo(buffer: number): void {
    const { available } = this;
    this.resources.memory.copy(buffer, this.start, available);
    this.buffer = buffer;
    this.first = 0;
    this.last = available;
  }

  /** A busy connection receives more at a time, as long as there are large buffers. */
  private useBulkBuffer(): void {
    this.filled = false;
    const bulk = this.buffer === this.ownBuffer ? this.resources.takeBulk() : undefined;
    if (bulk === undefined) return;
    this.moveTo(bulk);
    this.capacity = BULK_BUFFER_BYTES;
  }

  /** Gives a large buffer back. */
  useOwnBuffer(): void {
    if (this.buffer === this.ownBuffer) return;
    this.resources.releaseBulk(this.buffer);
    this.buffer = this.ownBuffer;
    this.capacity = this.resources.sizes.receiveBytes;
  }
}
