/**
 * Requests of a volume on their arrival: which are refused, which are one piece, and which are split.
 */

import { EBUSY, EINVAL, EIO, EROFS, ESHUTDOWN } from '../../core/errno.js';
import { BLOCK_BYTES, VOLUME_REQUESTS_MAX } from '../../core/limits.js';
import { alignDown, alignUp } from '../../core/units.js';
import type { CompletionPort } from '../../ports/completion.js';
import type { Memory } from '../../ports/memory.js';
import type { Membership } from '../mirror/membership.js';
import type { VolumeCounters } from '../volume-events.js';
import { PIECE_READ, PIECE_WRITE, PIECE_ZERO, type Piece } from './piece.js';
import type { Pieces } from './pieces.js';
import type { SplitRequests } from './split-requests.js';
import { unknownExtents, volumeExtents } from './volume-extents.js';
import type { VolumeFlush } from './volume-flush.js';

export interface VolumeRequestsParts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly membership: Membership;
  readonly pieces: Pieces;
  readonly split: SplitRequests;
  readonly flushes: Pick<VolumeFlush, 'flush'>;
  readonly counters: VolumeCounters;
  readonly readOnly: boolean;
  /** Whether requests are accepted. */
  readonly serving: () => boolean;
}

export class VolumeRequests {
  private readonly parts: VolumeRequestsParts;
  private readonly pieces: Pieces;
  private readonly split: SplitRequests;
  private readonly segmentBytes: number;

  constructor(parts: VolumeRequestsParts) {
    this.parts = parts;
    this.pieces = parts.pieces;
    this.split = parts.split;
    this.segmentBytes = parts.membership.record.segmentBytes;
  }

  /** How many are in flight. */
  get inFlight(): number {
    return this.pieces.whole + this.split.inFlight;
  }

  private get hasStopped(): boolean {
    const { stopped, suspended } = this.parts.membership;
    return stopped !== null && !suspended;
  }

  /** Whether the request can be accepted; answers it if not. */
  private admit(lengthBytes: number, offsetBytes: number, modifies: boolean, token: number): boolean {
    let error = 0;
    // What comes while it is suspended is held.
    if (this.hasStopped) error = -EIO;
    else if (!this.parts.serving()) error = -ESHUTDOWN;
    else if (modifies && this.parts.readOnly) error = -EROFS;
    else if (lengthBytes < 0 || offsetBytes < 0 || offsetBytes + lengthBytes > this.parts.membership.record.sizeBytes)
      error = -EINVAL;
    else if (this.inFlight >= VOLUME_REQUESTS_MAX) error = -EBUSY;
    if (error === 0 && lengthBytes > 0) return true;
    if (error === -EBUSY) this.parts.counters.refused += 1;
    this.parts.completions.defer(token, error);
    return false;
  }

  /** Whether the range is whole blocks of one segment. */
  private isPiece(lengthBytes: number, offsetBytes: number): boolean {
    return (
      offsetBytes % BLOCK_BYTES === 0 &&
      lengthBytes % BLOCK_BYTES === 0 &&
      (offsetBytes % this.segmentBytes) + lengthBytes <= this.segmentBytes
    );
  }

  /** A piece for a request that is one: its blocks are set, and what it answers is all of them. */
  private takePiece(kind: number, memory: number, lengthBytes: number, offsetBytes: number, token: number): Piece {
    const piece = this.pieces.takeWhole();
    const inSegment = offsetBytes % this.segmentBytes;
    piece.kind = kind;
    piece.stripe = (offsetBytes - inSegment) / this.segmentBytes;
    piece.block = inSegment / BLOCK_BYTES;
    piece.blocks = lengthBytes / BLOCK_BYTES;
    piece.memory = memory;
    piece.flags = 0;
    piece.token = token;
    piece.answer = lengthBytes;
    return piece;
  }

  read(memory: number, lengthBytes: number, offsetBytes: number, token: number): void {
    if (!this.admit(lengthBytes, offsetBytes, false, token)) return;
    const before = offsetBytes % BLOCK_BYTES;
    const span = alignUp(before + lengthBytes, BLOCK_BYTES);
    const start = offsetBytes - before;
    if (this.isPiece(span, start)) {
      const piece = this.takePiece(PIECE_READ, memory - before, span, start, token);
      piece.answer = lengthBytes;
      this.pieces.submit(piece);
    } else {
      this.split.start(PIECE_READ, memory, lengthBytes, offsetBytes, 0, token);
    }
  }

  /** As `Volume.writeFrom`; `source` is -1 if the payload is in place. */
  writeFrom(
    source: number,
    memory: number,
    lengthBytes: number,
    offsetBytes: number,
    flags: number,
    token: number,
  ): void {
    if (!this.admit(lengthBytes, offsetBytes, true, token)) return;
    if (this.isPiece(lengthBytes, offsetBytes)) {
      const piece = this.takePiece(PIECE_WRITE, memory, lengthBytes, offsetBytes, token);
      piece.source = source;
      piece.flags = flags;
      this.pieces.submit(piece);
      return;
    }
    if (source >= 0) this.parts.memory.copy(memory, source, lengthBytes);
    this.split.start(PIECE_WRITE, memory, lengthBytes, offsetBytes, flags, token);
  }

  zero(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    if (!this.admit(spanBytes, offsetBytes, true, token)) return;
    this.split.start(PIECE_ZERO, 0, spanBytes, offsetBytes, flags, token);
  }

  /** Zeroes the whole blocks within the range and frees what that empties; the rest keeps its content. */
  discardRange(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    if (!this.admit(spanBytes, offsetBytes, true, token)) return;
    const start = alignUp(offsetBytes, BLOCK_BYTES);
    const end = alignDown(offsetBytes + spanBytes, BLOCK_BYTES);
    if (end <= start) this.parts.completions.defer(token, 0);
    else this.split.start(PIECE_ZERO, 0, end - start, start, flags, token);
  }

  flush(token: number): void {
    if (this.hasStopped || !this.parts.serving()) {
      this.parts.completions.defer(token, this.parts.serving() ? -EIO : -ESHUTDOWN);
    } else if (this.parts.readOnly) {
      this.parts.completions.defer(token, 0);
    } else {
      this.parts.flushes.flush(token);
    }
  }

  extents(offsetBytes: number, spanBytes: number, memory: number, roomBytes: number, token: number): void {
    if (!this.admit(spanBytes, offsetBytes, false, token)) return;
    const { membership, memory: arena, completions } = this.parts;
    // What looks like a hole here may have been written to by the next holder.
    const count = membership.groups.every((_, group) => this.pieces.mayTell(group))
      ? volumeExtents(membership, offsetBytes, spanBytes, arena.view, memory, roomBytes)
      : unknownExtents(spanBytes, arena.view, memory, roomBytes);
    completions.defer(token, count);
  }
}
