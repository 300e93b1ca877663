/**
 * The unit of a volume's work: an operation on a run of blocks within one segment, from its arrival to its end. Records
 * are made once and used again; a piece holds its blocks (alone, or together with reads) until it ends.
 */

import { check } from '../../core/check.js';
import { BLOCK_BYTES } from '../../core/limits.js';
import type { BlockCount, BlockIndex, ChunkIndex, FlushNumber, GroupIndex, MemberPosition } from '../../ports/ids.js';
import { CHUNK_BLOCKS_MAX } from '../../ports/limits.js';
import type { Memory } from '../../ports/memory.js';
import { SegmentRequest } from '../../ports/segment-request.js';

export const PIECE_READ = 0;
export const PIECE_WRITE = 1;
export const PIECE_ZERO = 2;
/** Read, change and write of a part of one block. */
export const PIECE_PATCH = 3;
/** Holds blocks for control work. */
export const PIECE_LOCK = 4;

export class Piece {
  readonly index: number;
  kind = PIECE_READ;
  stripe: ChunkIndex = 0;
  group: GroupIndex = 0;
  block: BlockIndex = 0;
  blocks: BlockCount = 0;
  /** The blocks it holds: its own. */
  firstHeld = 0;
  endHeld = 0;
  /** Whether it shares its blocks with nothing. */
  exclusive = false;
  /** Whole blocks: what is read or written. */
  memory = 0;
  /** Where the payload is to be copied from first; -1 if it is in place. */
  source = -1;
  flags = 0;
  token = 0;
  /** What to answer in case of success. */
  answer = 0;
  /** Whether it is a part of a split request. */
  part = false;

  /** Of a patch: first byte within the block and number of bytes that change; where they are, or -1 for zeroes. */
  from = 0;
  length = 0;
  payload = -1;
  /** Of a patch: index of its scratch block, -1 while it has none; whether it has been read and changed. */
  scratch = -1;
  changed = false;

  /** It has been taken, and has not ended. */
  inUse = false;
  /** Its blocks are its own. */
  started = false;
  /** A read that has failed on one member, and goes through read repair. */
  repaired = false;
  /** Position of the member on which it failed. */
  reader: MemberPosition = 0;
  /** It zeroes what need not keep its space. */
  discards = false;
  /** Members, a bit for each position: those it was sent to, those that have done it, failed, or had no space. */
  targets = 0;
  done = 0;
  failed = 0;
  noSpace = 0;
  /** Those that had a newer map, and have not done it: they are asked again. */
  stale = 0;
  /** Since when it is held; 0 while it never was. */
  heldMs = 0;
  /** It is set aside while its volume is suspended. */
  held = false;
  /** Whoever asked for it was told that it has failed, and it goes on; or it never began, and is to end. */
  givenUp = false;
  refused = false;
  /** Its memory stays its own though whoever asked was told. */
  lent = false;
  /** What is sent makes its blocks zero. */
  zeroes = false;
  /** How many maps had taken effect when it was sent. */
  effects = 0;
  /** Under which a modification was sent, to all members and each time. */
  stampLow = 0;
  stampHigh = 0;
  /** Operations in flight. */
  pending = 0;
  resultFlags = 0;
  /** Result of a step that ends by itself. */
  outcome = 0;
  /** Flush number under which it was sent. */
  flushNumber: FlushNumber = 0;

  /** Earlier pieces in its way. */
  blockers = 0;
  previous: Piece | null = null;
  next: Piece | null = null;
  onStart: (() => void) | null = null;
  /** Of control work: its volume is suspended, so that nobody knows when it could begin. */
  onRefused: (() => void) | null = null;
  private sumWords: Uint32Array | null = null;
  /** What was asked of each member, by position. */
  private readonly requests: SegmentRequest[] = [];

  constructor(index: number) {
    this.index = index;
  }

  /** Room for the sums of its blocks. */
  get sums(): Uint32Array {
    this.sumWords ??= new Uint32Array(CHUNK_BLOCKS_MAX);
    return this.sumWords;
  }

  /** The record for what is asked of the member at a position. */
  requestTo(position: MemberPosition): SegmentRequest {
    let request = this.requests[position];
    if (request === undefined) {
      request = new SegmentRequest();
      this.requests[position] = request;
    }
    return request;
  }
}

/** Whether what is in flight for a piece are reads, and not modifications. */
export function reads({ kind, changed }: Piece): boolean {
  return kind === PIECE_READ || (kind === PIECE_PATCH && !changed);
}

/** Sums of a piece's payload, wherever that is now. They are the piece's until it ends. */
export function sumsOf(memory: Memory, piece: Piece): Uint32Array {
  const { source, blocks, sums } = piece;
  check(piece.started, 'a piece is summed that has not its blocks', piece.index);
  // What has been asked to be copied there may not be there yet.
  if (source < 0) memory.carryOut();
  memory.checksums(source < 0 ? piece.memory : source, blocks, sums);
  return sums;
}

/** The caller's source is free after this batch, so what cannot be sent yet is copied now. */
export function bringPayload(memory: Memory, piece: Piece): void {
  if (piece.source < 0) return;
  memory.copy(piece.memory, piece.source, piece.blocks * BLOCK_BYTES);
  piece.source = -1;
}
