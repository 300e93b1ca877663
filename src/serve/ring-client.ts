/**
 * The client's end of the rings to a shard, used by the thread that embeds Strake.
 *
 * Requests are cut into pieces that fit a buffer. A piece that finds no buffer, no tag or no room in the ring waits in a queue
 * here; the number of callers' requests is theirs to bound, and each waits with its own promise.
 */

import { BufferPool, type PooledBuffer } from '../core/buffer-pool.js';
import { check } from '../core/check.js';
import { ECANCELED, EINVAL, EIO } from '../core/errno.js';
import { BLOCK_BYTES, CLIENT_BUFFER_CLASSES, CLIENT_CHUNK_BYTES, CLIENT_REQUESTS_MAX } from '../core/limits.js';
import { alignDown } from '../core/units.js';
import { COMPLETION_ABANDONED } from '../ports/completion.js';
import { RingConsumer, RingProducer } from '../ring/spsc-ring.js';
import { REPLY_LATE, REQUEST_READ, REQUEST_WRITE } from './ring-protocol.js';

/** Where the client's side is tied to a shard. */
export interface RingClientOptions {
  readonly requests: SharedArrayBuffer;
  readonly replies: SharedArrayBuffer;
  /** Where in the shard's memory the client's buffers begin, and which there are; default `CLIENT_BUFFER_CLASSES`. */
  readonly memoryStart: number;
  readonly buffers?: typeof CLIENT_BUFFER_CLASSES;
  /** Requests at a time; default and most `CLIENT_REQUESTS_MAX`. */
  readonly requestsMax?: number;
  /** Copies to the shard's memory, and from there, at once. */
  readonly copyIn: (memory: number, bytes: Uint8Array, at: number, lengthBytes: number) => void;
  readonly copyOut: (bytes: Uint8Array, at: number, memory: number, lengthBytes: number) => void;
  /** Wakes the shard. */
  readonly wakeShard: () => void;
  /** Called when the first request is begun and when the last has ended. */
  readonly onBusy: (busy: boolean) => void;
}

/** One piece on its way. */
interface Flight {
  op: number;
  device: number;
  offset: number;
  length: number;
  span: number;
  flags: number;
  buffer: PooledBuffer | null;
  memory: number;
  /** The caller's bytes, and where in them the piece lies. */
  bytes: Uint8Array | null;
  at: number;
  /** Called with 0 or a negative errno. */
  done: (result: number) => void;
}

export class RingClient {
  private readonly options: RingClientOptions;
  private readonly requests: RingProducer;
  private readonly replies: RingConsumer;
  private readonly pool: BufferPool;
  private readonly flights: (Flight | undefined)[] = [];
  private readonly freeTags: number[] = [];
  private readonly queue: Flight[] = [];
  /** Buffers that the kernel may still use for an operation that was given up, until `releaseLate`. */
  private readonly abandoned = new Set<PooledBuffer>();
  private running = 0;
  private dead = false;

  constructor(options: RingClientOptions) {
    this.options = options;
    this.requests = new RingProducer(options.requests);
    this.replies = new RingConsumer(options.replies);
    this.pool = new BufferPool(options.memoryStart, options.buffers ?? CLIENT_BUFFER_CLASSES);
    for (let tag = (options.requestsMax ?? CLIENT_REQUESTS_MAX) - 1; tag >= 0; tag -= 1) this.freeTags.push(tag);
    this.replies.sleep();
  }

  /** Reads or writes `bytes` at `offset`. Resolves with 0 or the first negative errno. */
  transfer(write: boolean, device: number, offset: number, bytes: Uint8Array, flags: number): Promise<number> {
    if (bytes.length === 0) return Promise.resolve(0);
    const op = write ? REQUEST_WRITE : REQUEST_READ;
    const end = offset + bytes.length;
    const pieces = Math.ceil((end - alignDown(offset, CLIENT_CHUNK_BYTES)) / CLIENT_CHUNK_BYTES);
    return new Promise((resolve) => {
      const done = together(pieces + 1, resolve);
      for (let at = offset; at < end; ) {
        const stop = Math.min(end, alignDown(at, CLIENT_CHUNK_BYTES) + CLIENT_CHUNK_BYTES);
        this.begin({
          op,
          device,
          offset: at,
          length: stop - at,
          span: 0,
          flags,
          buffer: null,
          memory: 0,
          bytes,
          at: at - offset,
          done,
        });
        at = stop;
      }
      done(0);
    });
  }

  /** A flush, discard or zeroing. Resolves with 0 or a negative errno. */
  command(op: number, device: number, offset: number, span: number, flags: number): Promise<number> {
    return new Promise((done) => {
      const none = { length: 0, buffer: null, memory: 0, bytes: null, at: 0 };
      this.begin({ op, device, offset, span, flags, ...none, done });
    });
  }

  private begin(flight: Flight): void {
    if (this.dead) {
      flight.done(-ECANCELED);
      return;
    }
    this.running += 1;
    if (this.running === 1) this.options.onBusy(true);
    this.queue.push(flight);
    if (this.queue.length === 1) this.startQueued();
  }

  private startQueued(): void {
    while (this.queue.length > 0 && this.start(this.queue[0])) this.queue.shift();
  }

  /** Sends the first piece of the queue to the shard, or fails it. Returns false if it has to wait. */
  private start(flight: Flight): boolean {
    if (this.freeTags.length === 0) return false;
    const within = flight.offset % BLOCK_BYTES;
    if (flight.bytes !== null) {
      this.fitBuffers(flight, within);
      flight.buffer = this.pool.take(within + flight.length);
      if (flight.buffer === null) return this.failWithoutBuffers(flight);
      flight.memory = flight.buffer.memory + within;
      if (flight.op === REQUEST_WRITE && !this.copyIn(flight)) return true;
    }
    const word = this.requests.reserve();
    check(word >= 0, 'the request ring has fewer entries than there are tags');
    const tag = this.freeTags.pop() as number;
    this.flights[tag] = flight;
    const { words, floats } = this.requests;
    words[word] = flight.op;
    words[word + 1] = tag;
    words[word + 2] = flight.device;
    words[word + 3] = flight.length;
    floats[(word >> 1) + 2] = flight.offset;
    words[word + 6] = flight.memory;
    words[word + 7] = flight.flags;
    floats[(word >> 1) + 4] = flight.span;
    if (this.requests.publish()) this.options.wakeShard();
    return true;
  }

  /** A caller whose bytes cannot be copied, as they were given away, has an error of its own. Returns whether they were. */
  private copyIn(flight: Flight): boolean {
    try {
      this.options.copyIn(flight.memory, flight.bytes as Uint8Array, flight.at, flight.length);
      return true;
    } catch {
      this.pool.release(flight.buffer as PooledBuffer);
      this.finish(flight, -EINVAL);
      return false;
    }
  }

  private copyOut(flight: Flight): number {
    try {
      this.options.copyOut(flight.bytes as Uint8Array, flight.at, flight.memory, flight.length);
      return 0;
    } catch {
      return -EINVAL;
    }
  }

  /** Capacity of the largest buffer that is free, or will be. */
  private get largestBytes(): number {
    const { abandoned, pool } = this;
    if (abandoned.size === 0) return pool.largestBytes;
    return pool.buffers.reduce(
      (most, buffer) => (abandoned.has(buffer) ? most : Math.max(most, buffer.capacityBytes)),
      0,
    );
  }

  /**
   * Cuts the first piece of the queue where no buffer that is large enough may ever come back: with a device that never
   * answers, reads of another copy go on in smaller pieces.
   */
  private fitBuffers(flight: Flight, within: number): void {
    const most = this.largestBytes;
    if (most === 0 || within + flight.length <= most) return;
    const taken = most - within;
    const done = together(2, flight.done);
    const { offset, length, at } = flight;
    this.queue.splice(1, 0, { ...flight, offset: offset + taken, length: length - taken, at: at + taken, done });
    this.running += 1;
    flight.length = taken;
    flight.done = done;
  }

  /** Ends a piece if no buffer may ever come back. Returns whether that is so. */
  private failWithoutBuffers(flight: Flight): boolean {
    if (this.largestBytes > 0) return false;
    this.finish(flight, -EIO);
    return true;
  }

  /** Takes the shard's replies. Called when it has woken this thread. */
  drain(): void {
    const { replies } = this;
    const { words } = replies;
    do {
      for (let word = replies.next(); word >= 0; word = replies.next()) {
        if (words[word] === REPLY_LATE) this.releaseLate(words[word + 4]);
        else this.end(words[word + 1], words[word + 2], words[word + 3]);
      }
      replies.release();
    } while (!replies.sleep());
    this.startQueued();
  }

  private end(tag: number, result: number, flags: number): void {
    const flight = this.flights[tag];
    if (flight === undefined) return;
    this.flights[tag] = undefined;
    this.freeTags.push(tag);
    if (flight.buffer !== null && (flags & COMPLETION_ABANDONED) !== 0) {
      this.abandoned.add(flight.buffer);
      flight.buffer = null;
      if (flight.op === REQUEST_READ) {
        // The device that did not answer is asked for nothing any more; there may be another copy.
        this.queue.unshift(flight);
        return;
      }
    }
    const isFilled = flight.buffer !== null && result >= 0 && flight.op === REQUEST_READ;
    const copied = isFilled ? this.copyOut(flight) : 0;
    if (flight.buffer !== null) this.pool.release(flight.buffer);
    this.finish(flight, result < 0 ? result : copied);
  }

  private finish(flight: Flight, result: number): void {
    this.running -= 1;
    flight.done(result);
    if (this.running === 0) this.options.onBusy(false);
  }

  private releaseLate(memory: number): void {
    for (const buffer of this.abandoned) {
      if (memory < buffer.memory || memory >= buffer.memory + buffer.capacityBytes) continue;
      this.abandoned.delete(buffer);
      this.pool.release(buffer);
    }
  }

  /** The shard is gone: everything on its way fails, and so does what comes later. */
  abandon(): void {
    if (this.dead) return;
    this.dead = true;
    const doomed = [...this.flights.filter((flight) => flight !== undefined), ...this.queue.splice(0)];
    this.flights.length = 0;
    for (const flight of doomed) this.finish(flight, -ECANCELED);
  }
}

/** A function for `count` calls, of which the last passes the first negative result, or 0, to `done`. */
function together(count: number, done: (result: number) => void): (result: number) => void {
  let left = count;
  let worst = 0;
  return (result) => {
    if (result < 0 && worst === 0) worst = result;
    left -= 1;
    if (left === 0) done(worst);
  };
}
