/**
 * The engine of one thread: what TypeScript writes and reads of the rings that it shares with the addon.
 *
 * ```text
 *   submissions   1024 entries of 16 words; an entry is filled here and copied by the addon at the next flush
 *   vectors       pieces of gathered sends: offset, length
 *   completions   1024 entries of 4 words: token, result, flags, extra; valid during the callback
 *   control       word 0: submissions written; 1: vectors written; 2: batches delivered
 * ```
 *
 * Submissions written at any time are handed over by the addon: after each batch of completions, and before the event loop
 * sleeps. Nothing has to be flushed by hand.
 *
 * Entry, by word: 0 operation, 1 token, 2 file, 3 length, 4-5 offset (float64), 6 memory, 7 flags, 8-9 span (float64),
 * 10 copy from, 11 copy length, 12 first vector, 13 vectors, 14 aux, 15 where checksums go.
 * The Rust side is `request.rs`.
 */

import { AbandonedMemory } from '../core/abandoned-memory.js';
import { check } from '../core/check.js';
import { ECANCELED } from '../core/errno.js';
import { Handlers } from '../core/handlers.js';
import {
  ADDRESSED_BYTES_MAX,
  BLOCK_BYTES,
  COMPLETIONS,
  ENGINE_THREADS,
  LOCKED_SHARE,
  SEND_VECTORS_MAX,
  SUBMISSIONS,
  VECTORS,
} from '../core/limits.js';
import type { Clock } from '../ports/clock.js';
import {
  COMPLETION_ABANDONED,
  COMPLETION_LATE,
  type CompletionHandler,
  type CompletionPort,
} from '../ports/completion.js';
import type { Memory } from '../ports/memory.js';
import { type NativeEngine, native, nativeError } from './native.js';

/** Which engine does the work. */
export type EngineKind = 'io_uring' | 'threads';

export const OP_READ = 1;
export const OP_WRITE = 2;
export const OP_SYNC = 3;
export const OP_DISCARD = 4;
export const OP_ZERO = 5;
export const OP_EXTENTS = 6;
export const OP_ACCEPT = 7;
export const OP_RECEIVE = 8;
export const OP_SEND = 9;
export const OP_TIMEOUT = 10;
export const OP_WAKE = 11;
export const OP_COPY = 12;
export const OP_FILL = 13;
export const OP_NOP = 14;

const NO_COPY = -1;
/** Of an operation that has none. */
const NO_MEMORY = -1;
const GIVEN_UP = COMPLETION_ABANDONED | COMPLETION_LATE;
const WORD_SUBMISSIONS = 0;
const WORD_VECTORS = 1;
const WORD_BATCHES = 2;

/** Sizes of an engine, and what it is for. */
export interface EngineSettings {
  readonly kind: EngineKind;
  /** Whether the thread does nothing but serve, so that the engine may sleep in place of its event loop. */
  readonly blocking: boolean;
  readonly arenaBytes: number;
  /** The arena of another engine of the process, which devices of this one read to and write from: see `guestStart`. */
  readonly guest?: Uint8Array;
  /** Bytes from the start of the arena that are worth registering where locked memory is limited; all if absent. */
  readonly payloadBytes?: number;
  /** The most bytes from the start of the arena to register in any case, which makes them resident; all if absent. */
  readonly registeredBytesMax?: number;
  readonly operationsMax: number;
  readonly filesMax: number;
  /** Engines of this process that share the limit of locked memory. */
  readonly engines: number;
  /** Threads for device operations, of an engine that has no io_uring. */
  readonly threads?: number;
  /** Called when another thread has woken this one. */
  readonly onWake: () => void;
}

/** A page-aligned view of shared memory: SharedArrayBuffers are aligned to 16 bytes only. */
function allocateArena(bytes: number): Uint8Array {
  const buffer = new SharedArrayBuffer(bytes + BLOCK_BYTES);
  const misalignment = native().addressOf(new Uint8Array(buffer)) % BLOCK_BYTES;
  return new Uint8Array(buffer, misalignment === 0 ? 0 : BLOCK_BYTES - misalignment, bytes);
}

export class Engine implements CompletionPort, Memory, Clock {
  readonly kind: EngineKind;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly native: NativeEngine;
  /** By which other threads wake this one. */
  readonly id: number;
  /** Where the guest's memory begins, as this engine addresses it: behind its own. */
  readonly guestStart: number;
  /** Submission entries; see `entry`. */
  readonly words: Int32Array;
  readonly floats: Float64Array;
  private readonly control: Int32Array;
  private readonly vectors: Int32Array;
  private readonly completions: Int32Array;
  private readonly handlers = new Handlers();
  private readonly abandoned = new AbandonedMemory();
  private readonly batchEnds: (() => void)[] = [];
  private readonly guest: Uint8Array | undefined;
  private delivering = false;
  private pieces = 0;
  private firstPiece = 0;

  constructor(settings: EngineSettings) {
    this.kind = settings.kind;
    this.bytes = allocateArena(settings.arenaBytes);
    this.guest = settings.guest;
    this.guestStart = this.bytes.length;
    const addressed = this.guestStart + (settings.guest?.length ?? 0);
    check(addressed <= ADDRESSED_BYTES_MAX, 'an engine is to address more memory than it can', addressed);
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
    const submissions = new SharedArrayBuffer(SUBMISSIONS * 64);
    this.words = new Int32Array(submissions);
    this.floats = new Float64Array(submissions);
    this.control = new Int32Array(new SharedArrayBuffer(64));
    this.vectors = new Int32Array(new SharedArrayBuffer(VECTORS * 8));
    this.completions = new Int32Array(new SharedArrayBuffer(COMPLETIONS * 16));
    const wakeToken = this.register({ complete: () => settings.onWake() });
    const options = {
      kind: settings.kind,
      blocking: settings.blocking,
      operationsMax: settings.operationsMax,
      filesMax: settings.filesMax,
      threads: settings.threads ?? ENGINE_THREADS,
      wakeToken,
      lockedBytesMax: Math.min(
        native().memlockLimitBytes() * (LOCKED_SHARE / settings.engines),
        settings.payloadBytes ?? settings.arenaBytes,
      ),
      registeredBytesMax: settings.registeredBytesMax ?? settings.arenaBytes,
    };
    const views = {
      control: this.control,
      submissions: this.words,
      vectors: this.vectors,
      completions: this.completions,
      arena: this.bytes,
      ...(settings.guest === undefined ? {} : { guest: settings.guest }),
    };
    try {
      this.native = new (native().NativeEngine)(options, views, (count) => this.deliver(count));
    } catch (error) {
      throw nativeError(error, 'NO_ENGINE');
    }
    this.id = this.native.id;
  }

  private deliver(count: number): void {
    const { completions, handlers } = this;
    this.delivering = true;
    for (let index = 0; index < count; index += 1) {
      const word = index << 2;
      const token = completions[word];
      const flags = completions[word + 2];
      if ((flags & GIVEN_UP) !== 0 && this.noteGivenUp(flags, completions[word + 3])) continue;
      handlers.complete(token, completions[word + 1], flags);
    }
    this.delivering = false;
    for (const callback of this.batchEnds) callback();
  }

  get inBatch(): boolean {
    return this.delivering;
  }

  /** Keeps track of memory. Returns whether the operation has been answered before. */
  private noteGivenUp(flags: number, memory: number): boolean {
    const late = (flags & COMPLETION_LATE) !== 0;
    if (memory !== NO_MEMORY && late) this.abandoned.remove(memory);
    else if (memory !== NO_MEMORY) this.abandoned.add(memory);
    return late;
  }

  /** Somebody has given up an operation, such as one of another engine, that may still use memory that begins here. */
  lend(memory: number): void {
    this.abandoned.add(memory);
  }

  /** That operation has ended. */
  takeBack(memory: number): void {
    this.abandoned.remove(memory);
  }

  whenFree(at: number, lengthBytes: number, done: () => void): void {
    this.abandoned.whenFree(at, lengthBytes, done);
  }

  finish(token: number, result: number, flags: number): void {
    this.handlers.complete(token, result, flags);
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

  /** First word of a new submission entry with these fields set; the caller sets the others that its operation has. */
  entry(op: number, token: number, file: number): number {
    let tail = this.control[WORD_SUBMISSIONS];
    if (tail === SUBMISSIONS) {
      this.native.flush();
      tail = 0;
    }
    this.control[WORD_SUBMISSIONS] = tail + 1;
    const word = tail << 4;
    this.words[word] = op;
    this.words[word + 1] = token;
    this.words[word + 2] = file;
    return word;
  }

  /**
   * First word of a new entry for a device. Entries are used again, so that each field that a device operation looks at is
   * set here, but for those that only go with `copy from`.
   */
  transfer(
    op: number,
    token: number,
    file: number,
    memory: number,
    lengthBytes: number,
    offset: number,
    checksums: number,
  ): number {
    const word = this.entry(op, token, file);
    this.words[word + 3] = lengthBytes;
    this.floats[(word >> 1) + 2] = offset;
    this.words[word + 6] = memory;
    this.words[word + 7] = 0;
    this.floats[(word >> 1) + 4] = 0;
    this.words[word + 10] = NO_COPY;
    this.words[word + 15] = checksums;
    return word;
  }

  copy(to: number, from: number, lengthBytes: number): void {
    const word = this.entry(OP_COPY, 0, 0);
    this.words[word + 3] = lengthBytes;
    this.words[word + 6] = to;
    this.words[word + 10] = from;
  }

  fill(at: number, lengthBytes: number, value: number): void {
    const word = this.entry(OP_FILL, 0, 0);
    this.words[word + 3] = lengthBytes;
    this.words[word + 6] = at;
    this.words[word + 14] = value;
  }

  carryOut(): void {
    check(this.pieces === 0, 'memory is to be copied between the pieces of a send', this.pieces);
    // What goes to the kernel waits for the end of the batch: a call of it each time would cost more than what it brings.
    this.native.take();
  }

  checksum(at: number, lengthBytes: number): number {
    const { guest, guestStart } = this;
    if (guest !== undefined && at >= guestStart) return native().crc32c(guest, at - guestStart, lengthBytes);
    return native().crc32c(this.bytes, at, lengthBytes);
  }

  checksums(at: number, blocks: number, sums: Uint32Array): void {
    const { guest, guestStart } = this;
    if (guest !== undefined && at >= guestStart) native().blockSums(guest, at - guestStart, blocks, sums);
    else native().blockSums(this.bytes, at, blocks, sums);
  }

  defer(token: number, result: number): void {
    const word = this.entry(OP_NOP, token, 0);
    this.words[word + 14] = result;
  }

  nowMs(): number {
    return performance.now();
  }

  boottimeMs(): number {
    return native().boottimeMs();
  }

  realtimeMs(): number {
    return Date.now();
  }

  after(delayMs: number, token: number): void {
    const word = this.entry(OP_TIMEOUT, token, 0);
    this.floats[(word >> 1) + 2] = Math.max(1, Math.ceil(delayMs));
  }

  /** Wakes the engine with this identifier. */
  wake(id: number): void {
    this.entry(OP_WAKE, 0, id);
  }

  /** Adds a piece to the next send, of at most `SEND_VECTORS_MAX`; nothing else may be submitted before it is sent. */
  addPiece(memory: number, lengthBytes: number): void {
    if (this.pieces === 0) this.makeRoomForSend();
    const tail = this.control[WORD_VECTORS];
    this.vectors[tail << 1] = memory;
    this.vectors[(tail << 1) + 1] = lengthBytes;
    this.control[WORD_VECTORS] = tail + 1;
    this.pieces += 1;
  }

  /** A flush between a send's pieces and its entry would lose the pieces, so it happens before the first. */
  private makeRoomForSend(): void {
    const full = this.control[WORD_VECTORS] + SEND_VECTORS_MAX > VECTORS;
    if (full || this.control[WORD_SUBMISSIONS] === SUBMISSIONS) this.native.flush();
    this.firstPiece = this.control[WORD_VECTORS];
  }

  /** Sends the pieces added since the last send. */
  sendPieces(file: number, token: number): void {
    const word = this.entry(OP_SEND, token, file);
    this.words[word + 12] = this.firstPiece;
    this.words[word + 13] = this.pieces;
    this.pieces = 0;
  }

  /** Batches of completions delivered so far. */
  get batches(): number {
    return this.control[WORD_BATCHES];
  }

  /** Whether a result means that the engine is being closed. */
  static isClosing(result: number): boolean {
    return result === -ECANCELED;
  }

  /** Ends everything, waiting at most `graceMs`. Returns the operations that have not ended. */
  close(graceMs: number): number {
    return this.native.close(graceMs);
  }
}
