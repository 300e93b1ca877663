/** What carries out the content of pieces, as the pieces of a volume use it: a mirror, or what only reads one. */

import type { GroupIndex } from '../../ports/ids.js';
import type { MemberSlot } from '../mirror/membership.js';
import type { Holder } from './holding.js';
import type { Piece } from './piece.js';
import type { IoEnds, SegmentIo } from './segment-io.js';

/** Where it gets the pieces from, and gives them back. */
export interface PieceSource {
  /** The piece of an index. */
  readonly pieceAt: (index: number) => Piece;
  readonly ends: IoEnds;
}

export interface PieceIo extends SegmentIo, Holder {
  /** Whether what is known of a group from memory is what whoever asks now may be told. */
  mayTell(group: GroupIndex): boolean;
  /** The map has changed, or the volume has stopped. */
  resumeHeld(): void;
  /** A member is back that is the same: what it has not done of what is held is asked again. */
  returned(slot: MemberSlot): void;
  /** Gives up the handler; nothing may be in flight. */
  close(): void;
}
