/**
 * A load that a shard puts on a device or a volume by itself, to measure what is below without a protocol in between.
 *
 * It keeps `depth` operations in flight until the time is over. Random offsets come from a seeded generator, so that two
 * runs ask for the same. What is written is a pattern, not zeroes, in case the device takes short cuts for those.
 */

import type { PooledBuffer } from '../core/buffer-pool.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Memory } from '../ports/memory.js';
import type { LoadMessage, LoadResult } from './messages.js';

/** Latencies are counted in buckets of a relative width of about 1/16. */
const BUCKETS_PER_OCTAVE = 16;
const BUCKETS = 40 * BUCKETS_PER_OCTAVE;
/** Of a mixed load, the share of reads. */
const MIXED_READ_SHARE = 0.7;

/** xorshift32 (Marsaglia, "Xorshift RNGs", 2003). */
export class Random32 {
  private state: number;

  constructor(seed: number) {
    this.state = seed | 0 || 1;
  }

  /** The next number from 0 to 2^32 - 1. */
  next(): number {
    let state = this.state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.state = state;
    return state >>> 0;
  }
}

/** What a load is put on. Memory is page-aligned, and offsets are multiples of the block. */
export interface LoadTarget {
  readonly sizeBytes: number;
  read(memory: number, bytes: number, offset: number, token: number): void;
  write(memory: number, bytes: number, offset: number, token: number): void;
  /** Makes durable what has been written. */
  sync(token: number): void;
}

/** Where the buffers of a load come from. */
export interface LoadBuffers<Buffer extends Pick<PooledBuffer, 'memory'> = Pick<PooledBuffer, 'memory'>> {
  /** One of at least so many bytes; null if there is none. */
  take(bytes: number): Buffer | null;
  release(buffer: Buffer): void;
}

export class Load<Buffer extends Pick<PooledBuffer, 'memory'> = Pick<PooledBuffer, 'memory'>> {
  private readonly target: LoadTarget;
  private readonly pool: LoadBuffers<Buffer>;
  private readonly message: LoadMessage;
  private readonly done: (result: LoadResult) => void;
  private readonly completions: CompletionPort;
  private readonly token: number;
  private readonly buffers: Buffer[] = [];
  private readonly random: Random32;
  private readonly blocks: number;
  private readonly started: number;
  private readonly deadline: number;
  private readonly begun: Float64Array;
  private readonly syncing: boolean[];
  private readonly histogram = new Uint32Array(BUCKETS);
  private next = 0;
  private running = 0;
  private operations = 0;
  private errors = 0;
  private latencySumMs = 0;

  /** Begins at once; `done` is called when the time is over and nothing is in flight. Throws if buffers are short. */
  constructor(
    completions: CompletionPort,
    memory: Memory,
    pool: LoadBuffers<Buffer>,
    target: LoadTarget,
    message: LoadMessage,
    done: (result: LoadResult) => void,
  ) {
    this.completions = completions;
    this.target = target;
    this.pool = pool;
    this.message = message;
    this.done = done;
    this.random = new Random32(message.seed);
    this.blocks = Math.floor(target.sizeBytes / message.blockBytes);
    this.begun = new Float64Array(message.depth);
    this.syncing = new Array<boolean>(message.depth).fill(false);
    this.token = completions.register({ complete: (tag, result) => this.end(tag, result) });
    for (let index = 0; index < message.depth; index += 1) {
      const buffer = pool.take(message.blockBytes);
      if (buffer === null) throw new Error('there are not enough buffers for this depth');
      memory.fill(buffer.memory, message.blockBytes, 0xa5 ^ (index & 0xff));
      this.buffers.push(buffer);
    }
    this.started = performance.now();
    this.deadline = this.started + message.milliseconds;
    for (let index = 0; index < message.depth; index += 1) this.start(index, this.started);
  }

  private start(index: number, now: number): void {
    const { pattern, blockBytes } = this.message;
    const { target } = this;
    const token = this.token + index;
    this.running += 1;
    this.begun[index] = now;
    if (pattern === 'sync' && this.syncing[index]) {
      target.sync(token);
      return;
    }
    const sequential = pattern === 'read' || pattern === 'write';
    const block = sequential ? this.next++ % this.blocks : this.random.next() % this.blocks;
    const read =
      pattern === 'read' ||
      pattern === 'randread' ||
      (pattern === 'mixed' && this.random.next() < MIXED_READ_SHARE * 2 ** 32);
    const { memory } = this.buffers[index];
    if (read) target.read(memory, blockBytes, block * blockBytes, token);
    else target.write(memory, blockBytes, block * blockBytes, token);
  }

  private end(index: number, result: number): void {
    const now = performance.now();
    this.running -= 1;
    if (result < 0) this.errors += 1;
    const { pattern } = this.message;
    if (pattern === 'sync') this.syncing[index] = !this.syncing[index];
    // A write and its sync are one operation, timed from the beginning of the write.
    if (pattern === 'sync' && this.syncing[index] && result >= 0) {
      this.start(index, this.begun[index]);
      return;
    }
    this.count(now - this.begun[index]);
    if (now < this.deadline && this.errors === 0) this.start(index, now);
    else if (this.running === 0) this.finish(now);
  }

  private count(latencyMs: number): void {
    this.operations += 1;
    this.latencySumMs += latencyMs;
    const bucket = Math.floor(Math.log2(Math.max(1, latencyMs * 1e6)) * BUCKETS_PER_OCTAVE);
    this.histogram[Math.min(BUCKETS - 1, bucket)] += 1;
  }

  private percentileUs(share: number): number {
    let left = this.operations * share;
    for (let bucket = 0; bucket < BUCKETS; bucket += 1) {
      left -= this.histogram[bucket];
      if (left <= 0) return 2 ** ((bucket + 1) / BUCKETS_PER_OCTAVE) / 1000;
    }
    return 0;
  }

  private finish(now: number): void {
    for (const buffer of this.buffers) this.pool.release(buffer);
    this.completions.unregister(this.token);
    this.done({
      operations: this.operations,
      bytes: this.operations * this.message.blockBytes,
      errors: this.errors,
      seconds: (now - this.started) / 1000,
      latencyUsMean: (this.latencySumMs * 1000) / Math.max(1, this.operations),
      latencyUsP50: this.percentileUs(0.5),
      latencyUsP99: this.percentileUs(0.99),
      latencyUsP999: this.percentileUs(0.999),
    });
  }
}
