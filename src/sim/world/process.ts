/**
 * A process in a simulation: the ports for completions, memory and time, in which nothing happens but what a seed decides.
 *
 * ```text
 *   product code ── copy, fill, defer, after, device operations ──► queue ── hand-over ──► memory, disks
 *        ▲                                                                                       │
 *        └──── a batch of completions, then batch ends ◄──── events by virtual time ◄────────────┘
 * ```
 *
 * As in the production engine (`src/uring/engine.ts`), what product code submits is queued, at most 1024 entries, and
 * handed over in the order of submission: copies and fills are carried out then, and a write's payload is taken then. The
 * queue is handed over when it is full, and after each batch once the continuations of promises have run; sometimes, as the
 * seed decides, also before they run, so that nobody can rely on the one or the other. `finish` calls at once. Deferred
 * completions come at any place among others of their time: the port promises no order.
 *
 * A process is killed alone: what it has queued is gone, nothing more happens in it, and what it has begun in disks and on lines
 * goes on there. Its memory may be given to the next.
 *
 * Fault model: what the production engine answers with an error because the caller is wrong (memory outside of the arena)
 * throws here. What a handler throws comes out of the world's step.
 */

import { AbandonedMemory } from '../../core/abandoned-memory.js';
import { checksumsOneByOne } from '../../core/checksums.js';
import { Handlers } from '../../core/handlers.js';
import { BLOCK_BYTES, SUBMISSIONS } from '../../core/limits.js';
import type { Clock } from '../../ports/clock.js';
import type { CompletionHandler, CompletionPort } from '../../ports/completion.js';
import type { Memory } from '../../ports/memory.js';
import type { SimClock } from './clock.js';
import type { SimOwner, SimSource } from './events.js';
import { SimRandom } from './random.js';
import type { SimChecksum, SimTimeline } from './timeline.js';
import type { SimTrace } from './trace.js';

/** The most completions in one batch. */
const BATCH_MAX = 1024;

const OP_COPY = 0;
const OP_FILL = 1;
const OP_DEFER = 2;
const OP_AFTER = 3;
const OP_START = 4;

/** An entry of the queue. */
class Submission {
  op = OP_COPY;
  token = 0;
  /** To; value to fill with; result; slot. */
  target = 0;
  from = 0;
  length = 0;
  delayUs = 0;
  source: SimSource | null = null;
}

/** The host of a process, as far as the process sees it. */
export interface SimMachine {
  /** Whether it has power. */
  readonly up: boolean;
  readonly clock: SimClock;
}

export interface SimProcessSettings {
  /** Where chance in it, and in what it opens, comes from. */
  readonly seed: number;
  /** Its memory. It is left as it is: whoever wants another content fills it first. */
  readonly arena: Uint8Array;
  /** Of each of its pages: set to 1 once a port has been given a range of it. */
  readonly touched?: Uint8Array;
}

export class SimProcess implements CompletionPort, Memory, Clock, SimOwner {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  private readonly touched: Uint8Array | null;
  /** For whoever simulates something of this process; fork it. */
  readonly random: SimRandom;
  readonly time: SimTimeline;
  readonly machine: SimMachine;
  readonly trace: SimTrace;
  readonly crc32c: SimChecksum;
  alive = true;
  awake = false;
  stalledUntilUs = 0;
  /** Batches delivered. */
  batches = 0;
  inBatch = false;
  private readonly handlers = new Handlers();
  private readonly batchEnds: (() => void)[] = [];
  private readonly deaths: (() => void)[] = [];
  private readonly queue: Submission[] = [];
  private queued = 0;
  private readonly abandoned = new AbandonedMemory();
  /** Where devices may still write for operations that were given up. */
  private readonly held: { readonly start: number; readonly end: number }[] = [];
  private misuse: Error | null = null;
  private readonly tokens: number[] = [];
  private readonly results: number[] = [];
  private readonly flags: number[] = [];
  private readonly origins: number[] = [];
  /** Completions of the next batches. */
  private ready = 0;
  /** Completions until the process is to stand still within a batch, and for how long; -1 if it is not. */
  private interruptAfter = -1;
  private interruptUs = 0;
  /** Of a batch in which it stands still: completions told, and all. */
  private told = 0;
  private interrupted = 0;

  constructor(time: SimTimeline, machine: SimMachine, settings: SimProcessSettings) {
    this.time = time;
    this.machine = machine;
    this.trace = time.trace;
    this.crc32c = time.crc32c;
    this.bytes = settings.arena;
    this.touched = settings.touched ?? null;
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
    this.random = new SimRandom(settings.seed);
  }

  /** Virtual time of the world, in microseconds. */
  get nowUs(): number {
    return this.time.nowUs;
  }

  register(handler: CompletionHandler, tagBits?: number): number {
    return this.handlers.register(handler, tagBits);
  }

  unregister(baseToken: number): void {
    this.handlers.unregister(baseToken);
  }

  onBatchEnd(callback: () => void): void {
    this.batchEnds.push(callback);
  }

  offBatchEnd(callback: () => void): void {
    const at = this.batchEnds.indexOf(callback);
    if (at >= 0) this.batchEnds.splice(at, 1);
  }

  finish(token: number, result: number, flags: number): void {
    this.trace.add('finish', this.nowUs, token, result, flags);
    this.handlers.complete(token, result, flags);
  }

  copy(to: number, from: number, lengthBytes: number): void {
    this.checkRange(to, lengthBytes);
    this.checkRange(from, lengthBytes);
    const entry = this.entry(OP_COPY, 0, to);
    entry.from = from;
    entry.length = lengthBytes;
  }

  fill(at: number, lengthBytes: number, value: number): void {
    this.checkRange(at, lengthBytes);
    const entry = this.entry(OP_FILL, 0, value & 255);
    entry.from = at;
    entry.length = lengthBytes;
  }

  carryOut(): void {
    this.handOver();
  }

  /** CRC32C of the bytes as they are now: of what is queued it sees nothing. */
  checksum(at: number, lengthBytes: number): number {
    this.checkRange(at, lengthBytes);
    return this.crc32c(this.bytes, at, lengthBytes);
  }

  lend(at: number): void {
    this.abandoned.add(at);
  }

  takeBack(at: number): void {
    this.abandoned.remove(at);
  }

  checksums(at: number, blocks: number, sums: Uint32Array): void {
    checksumsOneByOne(this, at, blocks, sums);
  }

  whenFree(at: number, lengthBytes: number, done: () => void): void {
    this.abandoned.whenFree(at, lengthBytes, done);
  }

  defer(token: number, result: number): void {
    this.entry(OP_DEFER, token, result);
  }

  /** The monotonic clock of its host. */
  nowMs(): number {
    return this.machine.clock.monotonicMs();
  }

  boottimeMs(): number {
    return this.machine.clock.boottimeMs();
  }

  realtimeMs(): number {
    return this.machine.clock.realtimeMs();
  }

  after(delayMs: number, token: number): void {
    const worldMs = delayMs / this.machine.clock.rate;
    this.entry(OP_AFTER, token, 0).delayUs = Math.max(1, Math.ceil(worldMs)) * 1000;
  }

  /**
   * Nothing happens in it for so long at least, while disks and connections go on: it has been stopped, or its host stands still.
   */
  stall(forUs: number): void {
    this.stalledUntilUs = Math.max(this.stalledUntilUs, this.nowUs + forUs);
    // Whatever has been completed meanwhile is delivered then.
    this.time.events.push(this.stalledUntilUs, this, WAKE, 0);
  }

  /** The same in the middle of a batch: once it has been told of so many completions from now on, at least one. */
  stallWithin(completions: number, forUs: number): void {
    this.interruptAfter = completions;
    this.interruptUs = forUs;
  }

  /** Whether it stands still now. */
  get stalled(): boolean {
    return this.stalledUntilUs > this.time.nowUs;
  }

  /** Nothing happens in it any more: whoever waits for it is never answered. */
  kill(): void {
    if (!this.alive) return;
    this.alive = false;
    this.queued = 0;
    this.ready = 0;
    for (const die of this.deaths) die();
  }

  /** Calls `die` when it is killed. */
  atDeath(die: () => void): void {
    this.deaths.push(die);
  }

  /** Queues an operation of `source`, which is told when it is handed over. */
  submit(source: SimSource, slot: number): void {
    this.entry(OP_START, 0, slot).source = source;
  }

  /** Lets `source` know, in this process, when `delayUs` microseconds have gone by. */
  schedule(source: SimSource, slot: number, delayUs: number): void {
    this.time.schedule(this, source, slot, delayUs);
  }

  /**
   * Adds a completion to the batch that is being put together; for sources, from `fire` and `start`. `origin` is the number in
   * the trace of what it completes; 0 if that is not traced.
   */
  complete(token: number, result: number, flags: number, origin = 0): void {
    if (!this.alive) return;
    const at = this.ready;
    this.ready += 1;
    this.tokens[at] = token;
    this.results[at] = result;
    this.flags[at] = flags;
    this.origins[at] = origin;
  }

  /** Throws unless the range is in the memory. */
  checkRange(at: number, lengthBytes: number): void {
    if (this.held.length > 0) this.checkHeld(at, lengthBytes);
    if (!Number.isInteger(at) || at < 0 || lengthBytes < 0 || at + lengthBytes > this.bytes.length)
      throw new Error(`memory ${at} + ${lengthBytes} is outside of the arena of ${this.bytes.length} bytes`);
    if (this.touched !== null) touch(this.touched, at, lengthBytes);
  }

  /** For what comes from elsewhere: stores bytes at once. */
  put(bytes: Uint8Array, at: number): void {
    this.checkRange(at, bytes.length);
    this.bytes.set(bytes, at);
  }

  /** A device operation was given up, and still has this memory; with `written`, it may still write there. */
  abandon(start: number, lengthBytes: number, written: boolean): void {
    this.abandoned.add(start);
    if (written) this.held.push({ start, end: start + lengthBytes });
  }

  /** It has ended. */
  endAbandoned(start: number, lengthBytes: number, written: boolean): void {
    const end = start + lengthBytes;
    const at = this.held.findIndex((range) => range.start === start && range.end === end);
    if (written) this.held.splice(at, 1);
    this.abandoned.remove(start);
  }

  /** What has come of it, the next step tells: whoever is told here may take it for a failure of something else. */
  private checkHeld(at: number, lengthBytes: number): void {
    const range = this.held.find(({ start, end }) => at < end && at + lengthBytes > start);
    if (range === undefined) return;
    this.misuse ??= new Error(
      `memory ${at} + ${lengthBytes} is used, while a device that was given up may write to it`,
    );
  }

  private entry(op: number, token: number, target: number): Submission {
    if (this.queued === SUBMISSIONS) this.handOver();
    if (this.queued === this.queue.length) this.queue.push(new Submission());
    const entry = this.queue[this.queued];
    this.queued += 1;
    entry.op = op;
    entry.token = token;
    entry.target = target;
    return entry;
  }

  /** Carries out and starts what is queued, in order. */
  handOver(): void {
    for (let index = 0; index < this.queued; index += 1) this.handOverOne(this.queue[index]);
    this.queued = 0;
    if (this.misuse !== null) throw this.misuse;
  }

  private handOverOne(entry: Submission): void {
    const { bytes, time, trace } = this;
    const { nowUs } = time;
    switch (entry.op) {
      case OP_COPY:
        bytes.copyWithin(entry.target, entry.from, entry.from + entry.length);
        break;
      case OP_FILL:
        bytes.fill(entry.target, entry.from, entry.from + entry.length);
        break;
      case OP_DEFER: {
        const event = time.events.push(nowUs, this, null, entry.token);
        event.result = entry.target;
        event.origin = trace.add('defer', nowUs, entry.token, entry.target, 0);
        break;
      }
      case OP_AFTER: {
        const event = time.events.push(nowUs + entry.delayUs, this, null, entry.token);
        event.origin = trace.add('after', nowUs, entry.token, entry.delayUs, 0);
        break;
      }
      default:
        entry.source?.start(entry.target);
    }
  }

  /** Whether its turn comes in this step. */
  get due(): boolean {
    return this.alive && (this.awake || this.ready > 0) && !this.stalled;
  }

  /** Whether completions are there that could be delivered now. */
  get hasReady(): boolean {
    return this.ready > 0 && !this.stalled;
  }

  /** Delivers a batch, and tells of its end. */
  deliver(): void {
    const { tokens, results, flags, origins, handlers, trace, nowUs } = this;
    this.awake = false;
    this.batches += 1;
    const count = this.interrupted > 0 ? this.interrupted : Math.min(this.ready, BATCH_MAX);
    const first = this.told;
    this.told = 0;
    this.interrupted = 0;
    this.inBatch = true;
    for (let index = first; index < count && this.alive; index += 1) {
      const token = tokens[index];
      trace.add('complete', nowUs, token, results[index], flags[index]);
      trace.note(origins[index]);
      handlers.complete(token, results[index], flags[index]);
      if (this.interrupts(index + 1, count)) return;
    }
    this.inBatch = false;
    if (!this.alive) return;
    // A full queue may have been handed over meanwhile, and what ended at once then belongs to the next batch.
    if (this.ready > count)
      for (const column of [tokens, results, flags, origins]) column.copyWithin(0, count, this.ready);
    this.ready -= count;
    for (const callback of this.batchEnds) callback();
  }

  /** Whether it stands still now, after so many completions of a batch. */
  private interrupts(told: number, count: number): boolean {
    if (this.interruptAfter < 0 || !this.alive) return false;
    this.interruptAfter -= 1;
    if (this.interruptAfter > 0) return false;
    this.interruptAfter = -1;
    this.told = told;
    this.interrupted = count;
    this.stall(this.interruptUs);
    return true;
  }
}

function touch(pages: Uint8Array, at: number, lengthBytes: number): void {
  const end = at + lengthBytes;
  for (let page = Math.floor(at / BLOCK_BYTES); page * BLOCK_BYTES < end; page += 1) pages[page] = 1;
}

/** Lets a process have its turn. */
const WAKE: SimSource = { start: () => {}, fire: () => {} };
