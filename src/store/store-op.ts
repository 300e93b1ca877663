/**
 * Operations of a segment store, made once and used again.
 *
 * ```text
 *   begin ─┬─ read, entries ──────────► TABLE ─► transfer ─► checksums agree? ─► finish
 *          │
 *          └─ modification ─► admitted? ─┬─ allocate ─► free slot? ─► its record ─► INTENT ─► finish
 *                 ▲              │ no    │                 │ no
 *                 │            HELD      │               SPACE ─► free slot?
 *                 │              │       │
 *                 └─ checkpoint ◄┘       └─ any other ─► TABLE ─► young? ─► in the activity log? ─┬─ yes ─┐
 *                                                        ▲          │ yes        │ no             │       │
 *                                                        ├──────────┘            │                │       ▼
 *                                                        └──────────── INTENT ◄──┘                │  transfer, of content
 *                                                                                                 │       │
 *                                                                 zero, poison, release ◄─────────┴───────┤
 *                                                                           │                             ▼
 *                                                                           └──────► entries ─► RECORDS ─► FUA? ─► finish
 *                                                                                                           │ yes
 *                                                                                                         DURABLE ─► finish
 * ```
 *
 * In capitals what it waits for, and who resumes it: TABLE by `TableLoader`, HELD by `Admission`, INTENT, RECORDS, SPACE and
 * DURABLE by `JournalWriter` through `proceed`. Beside these, a transfer waits for a place for its checksums (`Transfers`), a
 * young block to become old (`YoungBlocks`), and whatever adds a record to a batch that is full for the next one
 * (`JournalRoom`). An operation that was overwritten in place, or has no record to wait for, passes RECORDS at once.
 */

import { check } from '../core/check.js';
import { NO_PAGE, NO_SLOT, type ReplicaPage } from '../core/ids.js';
import { BLOCK_BYTES } from '../core/limits.js';
import { ENTRY_STAMP_HIGH, ENTRY_STAMP_LOW, ENTRY_WORDS } from '../layout/block-entry.js';
import type { BlockCount, BlockIndex, ChunkIndex, FlushNumber, Generation } from '../ports/ids.js';
import type { Memory } from '../ports/memory.js';
import { REQUEST_COPY, REQUEST_READ, REQUEST_SAME, type SegmentRequest } from '../ports/segment-request.js';
import type { JournalWaiter } from './running/journal-writer.js';

/** What an operation waits for. */
export const WAIT_NOTHING = 0;
/** Its slot's intent, or allocation, to be durable. */
export const WAIT_INTENT = 1;
/** The journal to have its records: it ends then. */
export const WAIT_RECORDS = 2;
/** The journal to be durable. */
export const WAIT_DURABLE = 3;
/** Freed slots to be usable again. */
export const WAIT_SPACE = 4;
/** Room for the records by which those of a first write are taken back that has failed. */
export const WAIT_TAKEN_BACK = 5;

export class StoreOp implements JournalWaiter {
  readonly index: number;
  /** `REQUEST_*`. */
  kind = REQUEST_READ;
  volume: ReplicaPage = 0;
  stripe: ChunkIndex = 0;
  slot = NO_SLOT;
  block: BlockIndex = 0;
  blocks: BlockCount = 0;
  memory = 0;
  source = -1;
  /** Those of the request: expected ones, those of another copy, or where a copy of entries goes. */
  entries: Uint32Array | null = null;
  stampLow = 0;
  stampHigh = 0;
  /** What it is recorded under. */
  generation: Generation = 0;
  flushNumber: FlushNumber = 0;
  flags = 0;
  /** Those that its content is to have, one for each block; null if nobody has said so. */
  sums: Uint32Array | null = null;
  /** It has them: nobody has to sum the content again. */
  proven = false;
  /** Whose answer by block it fills. */
  request: SegmentRequest | null = null;
  /** Blocks that are left as they are because a condition does not hold for them. */
  left = 0;
  /** Whether it is in the list of decided modifications of its slot, and the indices of those before and after it there. */
  listed = false;
  before = -1;
  after = -1;
  /** The records of an overwrite have been sent along with its data. */
  early = false;
  /** The batch in which those of a first write were; 0 if they were not. */
  firstIn = 0;
  token = 0;
  /** Pinned page of the table cache, -1 for none. */
  page = NO_PAGE;
  /** Place for checksums, -1 for none. */
  area = -1;
  /** First and last plus one of the blocks that are read from the device. */
  from = 0;
  to = 0;
  waiting = WAIT_NOTHING;
  result = 0;
  resultFlags = 0;
  /** Next block whose record has not been written. */
  next = 0;
  /** Pages of the journal that it may fill. */
  pages = 0;
  /** Whether it counts as a modification in progress. */
  admitted = false;
  /** It has been begun, and not answered. */
  inFlight = false;
  private readonly handler: (op: StoreOp, result: number) => void;

  constructor(index: number, handler: (op: StoreOp, result: number) => void) {
    this.index = index;
    this.handler = handler;
  }

  /** Begins a request. What is needed of it is copied: an operation may be held until after its caller has gone on. */
  begin(volume: ReplicaPage, request: SegmentRequest): void {
    const { kind, flags } = request;
    check(!this.inFlight, 'an operation is begun twice', this.index);
    this.inFlight = true;
    this.kind = kind;
    this.volume = volume;
    this.stripe = request.chunk;
    this.slot = NO_SLOT;
    this.block = request.block;
    this.blocks = request.blocks;
    this.memory = request.memory;
    this.source = request.source;
    this.entries = request.entries;
    this.stampLow = request.stampLow;
    this.stampHigh = request.stampHigh;
    this.generation = request.generation;
    this.flushNumber = request.flushNumber;
    this.flags = flags;
    this.sums = request.sums;
    this.proven = request.proven;
    this.request = request;
    this.token = request.token;
    this.page = NO_PAGE;
    this.area = -1;
    this.left = 0;
    this.early = false;
    this.firstIn = 0;
    this.result = 0;
    this.resultFlags = 0;
    this.next = 0;
    this.admitted = false;
  }

  /** A block, by its position in the request, is left as it is. */
  leave(index: number): void {
    check(index < this.blocks && !this.isLeft(index), 'a block is left as it is twice, or is none', index);
    this.left += 1;
    this.request?.left.add(index);
  }

  isLeft(index: number): boolean {
    return this.left > 0 && this.request !== null && this.request.left.has(index);
  }

  /** Of a copy, the word from which the source's entry of a block is found in `entries`. Those expected come before. */
  copyAt(index: number): number {
    check(index < this.blocks, 'a copy is asked for a block that it has not', index);
    return (index + ((this.flags & REQUEST_SAME) !== 0 ? this.blocks : 0)) * ENTRY_WORDS;
  }

  /** The stamp that a block gets, which is that of the source where the operation copies. */
  stampLowOf(index: number): number {
    if ((this.flags & REQUEST_COPY) === 0 || this.entries === null) return this.stampLow;
    return this.entries[this.copyAt(index) + ENTRY_STAMP_LOW];
  }

  stampHighOf(index: number): number {
    if ((this.flags & REQUEST_COPY) === 0 || this.entries === null) return this.stampHigh;
    return this.entries[this.copyAt(index) + ENTRY_STAMP_HIGH];
  }

  proceed(result: number): void {
    check(this.inFlight, 'an operation goes on that has been answered', this.index);
    this.handler(this, result);
  }
}

/** The payload is the caller's again when the batch is submitted, so that of an operation that has to wait is copied now. */
export function saveSource(memory: Memory, op: StoreOp): void {
  if (op.source < 0) return;
  memory.copy(op.memory, op.source, op.blocks * BLOCK_BYTES);
  op.source = -1;
}
