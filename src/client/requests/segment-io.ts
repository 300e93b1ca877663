/**
 * What happens to the content of a group's segments, whatever keeps it: copies now, parity beside them.
 *
 * Pieces come here when their blocks are theirs, and go back by `IoEnds` when what they asked for has ended. None ends within the
 * call that begins it.
 */

import type { Piece } from './piece.js';

export interface SegmentIo {
  /** Brings the piece's blocks to its memory; ends with `read`. */
  read(piece: Piece): void;
  /** Writes the piece's blocks from its memory, or from its source by way of that; ends with `modified`. */
  write(piece: Piece): void;
  /** Makes the piece's blocks zero; ends with `modified`. */
  zero(piece: Piece): void;
}

export interface IoEnds {
  /** A read has ended with a count of bytes or a negative errno; if that came from a member, `reader` says from which. */
  read(piece: Piece, result: number): void;
  /** A modification has been held for too long, and goes on. */
  gaveUp(piece: Piece): void;
  /** A piece has been held for too long, and nothing of it is under way. */
  expired(piece: Piece): void;
  /** A modification has ended, with 0 or a negative errno. */
  modified(piece: Piece, result: number): void;
  /** The same, in a later batch, of one that no member was asked for. */
  later(piece: Piece, result: number): void;
}
