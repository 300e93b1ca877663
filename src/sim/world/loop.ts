/**
 * A simulated engine: the ports for completions, memory and time, in which nothing happens but what a seed decides.
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
 * seed decides, also before they run, so that nobody can rely on the one or the other. `finish` calls at once.
 *
 * Time is virtual and in microseconds. It moves on to the next event, and by one microsecond in each batch. Events of the
 * same microsecond come in an order that the seed decides, among them deferred completions: the port promises no order.
 *
 * Promises: between two batches `run` lets continuations run for `turns` turns of the microtask queue. What hangs on a
 * promise that a completion resolves runs before the next batch as long as it is at most that many `await`s long; a longer
 * chain goes on between later batches, at the same place in every run with the seed. Product code must wait for nothing
 * else (timers, threads, files): that would not be repeated by the seed.
 *
 * Fault model: what the production engine answers with an error because the caller is wrong (memory outside of the arena)
 * throws here. What a handler throws comes out of `run` or `step`.
 */

import { AbandonedMemory } from '../../core/abandoned-memory.js';
import { SUBMISSIONS } from '../../core/limits.js';
import type { Clock } from '../../ports/clock.js';
import { type CompletionHandler, type CompletionPort, HANDLERS_MAX, TAG_BITS } from '../../ports/completion.js';
import type { Memory } from '../../ports/memory.js';
import { crc32c } from './crc32c.js';
import { type SimEvent, SimEvents, type SimSource } from './events.js';
import { SimRandom } from './random.js';
import { SimTrace } from './trace.js';

const TAG_MASK = (1 << TAG_BITS) - 1;
/** The most completions in one batch. */
const BATCH_MAX = 1024;
/** Turns before a run without events counts as stuck. */
const LAST_TURNS = 1000;

const RESOLVED = Promise.resolve();

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

/** CRC32C of bytes, an unsigned number. */
export type SimChecksum = (bytes: Uint8Array, at: number, lengthBytes: number) => number;

export interface SimLoopSettings {
  readonly seed: number;
  /** Size of the memory, if `arena` is not given. */
  readonly arenaBytes?: number;
  /** Memory to use again. It is left as it is, so a run repeats only if it starts with the same content. */
  readonly arena?: Uint8Array;
  /** What it is to be added to; a new trace by default. */
  readonly trace?: SimTrace;
  /** When it begins; default 0. */
  readonly nowUs?: number;
  /** Default: one in JavaScript. */
  readonly checksum?: SimChecksum;
  /** Turns of the microtask queue after each batch; default 24. */
  readonly turns?: number;
  /** Probability that a batch's submissions are handed over before continuations run; default 1/4. */
  readonly earlyHandOver?: number;
  /** How much later than the first event of a batch its last may be, in microseconds; default 8. */
  readonly batchSpreadUs?: number;
}

/** What a run may use up before it counts as endless. */
export interface SimLimits {
  /** Batches; default 1e6. */
  readonly batches?: number;
  /** Virtual time from now on, in milliseconds; default one day. */
  readonly virtualMs?: number;
}

export class SimLoop implements CompletionPort, Memory, Clock {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** For whoever simulates something on this loop; fork it. */
  readonly random: SimRandom;
  readonly trace: SimTrace;
  readonly crc32c: SimChecksum;
  /** Virtual time, in microseconds. */
  nowUs: number;
  /** Batches delivered. */
  batches = 0;
  /** Devices, connections and lanes that have been made on this loop; each has its number in the trace. */
  private parties = 0;
  private readonly order: SimRandom;
  private readonly settings: SimLoopSettings;
  private readonly handlers: (CompletionHandler | undefined)[] = [];
  private readonly batchEnds: (() => void)[] = [];
  private readonly queue: Submission[] = [];
  private queued = 0;
  private readonly events: SimEvents;
  private readonly abandoned = new AbandonedMemory();
  /** Where devices may still write for operations that were given up. */
  private readonly held: { readonly start: number; readonly end: number }[] = [];
  private misuse: Error | null = null;
  private readonly tokens = new Int32Array(BATCH_MAX);
  private readonly results = new Float64Array(BATCH_MAX);
  private readonly flags = new Int32Array(BATCH_MAX);
  private readonly origins = new Int32Array(BATCH_MAX);
  private ready = 0;
  private stalledUntilUs = 0;
  private halted = false;
  private haltBatch = Number.POSITIVE_INFINITY;
  private onHalt: () => void = () => {};

  constructor(settings: SimLoopSettings) {
    this.settings = settings;
    this.crc32c = settings.checksum ?? crc32c;
    this.trace = settings.trace ?? new SimTrace();
    this.nowUs = settings.nowUs ?? 0;
    this.bytes = settings.arena ?? new Uint8Array(settings.arenaBytes ?? 1 << 20);
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
    this.random = new SimRandom(settings.seed);
    this.order = this.random.fork('loop');
    this.events = new SimEvents(this.random.fork('events'));
  }

  register(handler: CompletionHandler): number {
    let number = 0;
    while (this.handlers[number] !== undefined) number += 1;
    if (number > HANDLERS_MAX) throw new Error('too many completion handlers');
    this.handlers[number] = handler;
    return (number << TAG_BITS) | 0;
  }

  unregister(baseToken: number): void {
    this.handlers[baseToken >>> TAG_BITS] = undefined;
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
    this.handlers[token >>> TAG_BITS]?.complete(token & TAG_MASK, result, flags);
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

  /** CRC32C of the bytes as they are now: of what is queued it sees nothing. */
  checksum(at: number, lengthBytes: number): number {
    this.checkRange(at, lengthBytes);
    return this.crc32c(this.bytes, at, lengthBytes);
  }

  whenFree(at: number, lengthBytes: number, done: () => void): void {
    this.abandoned.whenFree(at, lengthBytes, done);
  }

  defer(token: number, result: number): void {
    this.entry(OP_DEFER, token, result);
  }

  nowMs(): number {
    return this.nowUs / 1000;
  }

  after(delayMs: number, token: number): void {
    this.entry(OP_AFTER, token, 0).delayUs = Math.max(1, Math.ceil(delayMs)) * 1000;
  }

  /**
   * Nothing is delivered for so long, while disks and connections go on: the process has been stopped, or its host stood still.
   */
  stall(forUs: number): void {
    this.stalledUntilUs = this.nowUs + forUs;
  }

  /** Nothing happens any more: whoever runs the loop is never answered, as the process that it belongs to is dead. */
  halt(): void {
    this.halted = true;
    this.onHalt();
  }

  /** Halts after so many more batches; resolves then. */
  haltAfter(batches: number): Promise<void> {
    this.haltBatch = this.batches + batches;
    return new Promise((resolve) => {
      this.onHalt = resolve;
    });
  }

  /** Queues an operation of `source`, which is told when it is handed over. */
  submit(source: SimSource, slot: number): void {
    this.entry(OP_START, 0, slot).source = source;
  }

  /** Lets `source` know when `delayUs` microseconds have gone by. */
  schedule(source: SimSource, slot: number, delayUs: number): void {
    this.events.push(this.nowUs + delayUs, source, slot, 0, 0);
  }

  /**
   * Adds a completion to the batch that is being put together; for sources, from `fire` and `start`. `origin` is the number in
   * the trace of what it completes; 0 if that is not traced.
   */
  complete(token: number, result: number, flags: number, origin = 0): void {
    if (this.ready === BATCH_MAX) {
      this.events.push(this.nowUs, null, token, result, flags, origin);
      return;
    }
    const at = this.ready;
    this.ready += 1;
    this.tokens[at] = token;
    this.results[at] = result;
    this.flags[at] = flags;
    this.origins[at] = origin;
  }

  /** The number in the trace of a device, connection or lane that is being made. */
  nextParty(): number {
    this.parties += 1;
    return this.parties;
  }

  /** Lets the trace cover these bytes, if it covers contents. */
  traceBytes(bytes: Uint8Array, at: number, lengthBytes: number): void {
    if (this.trace.contents && lengthBytes > 0) this.trace.note(this.crc32c(bytes, at, lengthBytes));
  }

  /** Throws unless the range is in the memory. */
  checkRange(at: number, lengthBytes: number): void {
    if (this.held.length > 0) this.checkHeld(at, lengthBytes);
    if (Number.isInteger(at) && at >= 0 && lengthBytes >= 0 && at + lengthBytes <= this.bytes.length) return;
    throw new Error(`memory ${at} + ${lengthBytes} is outside of the arena of ${this.bytes.length} bytes`);
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

  /** What has come of it, `step` tells: whoever is told here may take it for a failure of something else. */
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
  }

  private handOverOne(entry: Submission): void {
    const { bytes, events, nowUs, trace } = this;
    switch (entry.op) {
      case OP_COPY:
        bytes.copyWithin(entry.target, entry.from, entry.from + entry.length);
        break;
      case OP_FILL:
        bytes.fill(entry.target, entry.from, entry.from + entry.length);
        break;
      case OP_DEFER:
        events.push(nowUs, null, entry.token, entry.target, 0, trace.add('defer', nowUs, entry.token, entry.target, 0));
        break;
      case OP_AFTER:
        this.startTimer(entry);
        break;
      default:
        entry.source?.start(entry.target);
    }
  }

  private startTimer({ token, delayUs }: Submission): void {
    const { events, nowUs, trace } = this;
    events.push(nowUs + delayUs, null, token, 0, 0, trace.add('after', nowUs, token, delayUs, 0));
  }

  /**
   * Hands over what is queued, moves time on to the next event and delivers one batch. Returns false, and does nothing, if
   * no event is left. Continuations of promises do not run within it: callback-only code can be run by calling this.
   */
  step(): boolean {
    this.handOver();
    if (this.misuse !== null) throw this.misuse;
    if (this.events.length === 0 && this.ready === 0) return false;
    this.batches += 1;
    this.nowUs += 1;
    if (this.ready === 0) this.nowUs = Math.max(this.nowUs, this.events.nextUs());
    if (this.stalledUntilUs > this.nowUs) this.nowUs = this.stalledUntilUs;
    const untilUs = this.nowUs + this.order.below((this.settings.batchSpreadUs ?? 8) + 1);
    while (this.ready < BATCH_MAX && this.events.length > 0 && this.events.nextUs() <= untilUs) {
      this.fire(this.events.pop());
    }
    this.deliver();
    return true;
  }

  private fire(event: SimEvent): void {
    const { source, target, result, flags, origin } = event;
    this.nowUs = Math.max(this.nowUs, event.timeUs);
    this.events.release(event);
    if (source === null) this.complete(target, result, flags, origin);
    else source.fire(target);
  }

  private deliver(): void {
    const { tokens, results, flags, origins, handlers, trace, nowUs } = this;
    const count = this.ready;
    for (let index = 0; index < count; index += 1) {
      const token = tokens[index];
      trace.add('complete', nowUs, token, results[index], flags[index]);
      trace.note(origins[index]);
      const handler = handlers[token >>> TAG_BITS];
      if (handler !== undefined) handler.complete(token & TAG_MASK, results[index], flags[index]);
    }
    // A full queue may have been handed over meanwhile, and what ended at once then belongs to the next batch.
    const left = this.ready - count;
    for (const column of [tokens, results, flags, origins]) if (left > 0) column.copyWithin(0, count, this.ready);
    this.ready = left;
    for (const callback of this.batchEnds) callback();
  }

  /** `step` for code without promises, until `until` holds. Throws as `run` does. */
  runSync(until: () => boolean, limits: SimLimits = {}): void {
    const check = this.limiter(limits);
    while (!until()) {
      check();
      if (!this.step() && !until()) throw this.stuck();
    }
  }

  /**
   * Delivers batches until `until` holds. Throws if nothing is left that could happen, or if a limit is exceeded.
   */
  async run(until: () => boolean, limits: SimLimits = {}): Promise<void> {
    const check = this.limiter(limits);
    const turns = this.settings.turns ?? 24;
    const early = this.settings.earlyHandOver ?? 0.25;
    await this.takeTurns(turns);
    while (!until()) {
      if (this.batches >= this.haltBatch) this.halt();
      if (this.halted) break;
      check();
      const happened = this.step();
      if (early > 0 && this.order.chance(early)) this.handOver();
      await this.takeTurns(turns);
      if (happened || until()) continue;
      await this.takeTurns(LAST_TURNS);
      if (!until() && this.queued === 0 && this.ready === 0 && this.events.length === 0) throw this.stuck();
    }
    if (this.halted) await new Promise(() => {});
  }

  /** Runs until `promise` is settled, and returns or throws what it does. */
  async settle<Result>(promise: Promise<Result>, limits: SimLimits = {}): Promise<Result> {
    let settled = false;
    const note = () => {
      settled = true;
    };
    promise.then(note, note);
    await this.run(() => settled, limits);
    return promise;
  }

  /** A turn is a continuation of a resolved promise: an `await` would do, but allocates more than twice as much. */
  private takeTurns(turns: number): Promise<void> {
    return new Promise((resolve) => {
      let left = turns;
      const turn = () => {
        left -= 1;
        if (left > 0) RESOLVED.then(turn);
        else resolve();
      };
      RESOLVED.then(turn);
    });
  }

  private limiter(limits: SimLimits): () => void {
    const lastBatch = this.batches + (limits.batches ?? 1e6);
    const lastUs = this.nowUs + (limits.virtualMs ?? 86_400_000) * 1000;
    return () => {
      if (this.batches >= lastBatch) throw new Error(`no end after ${limits.batches ?? 1e6} batches ${this.where()}`);
      if (this.nowUs > lastUs) throw new Error(`no end after ${limits.virtualMs ?? 86_400_000} ms ${this.where()}`);
    };
  }

  private stuck(): Error {
    return new Error(`deadlock: nothing is left to happen ${this.where()}`);
  }

  private where(): string {
    return `(seed ${this.settings.seed}, batch ${this.batches}, ${this.nowUs} us)`;
  }
}
