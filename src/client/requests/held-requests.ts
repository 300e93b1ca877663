/**
 * Pieces of a volume that is suspended: another client has attached it, or no copy of a group is in the life in which it was
 * written to. They keep their blocks, and nothing of them is under way. Either they begin again, under the generation in which
 * the volume goes on, or they fail with it.
 *
 * A modification that was under way may have reached some copies. It begins anew only if no other generation was served in
 * between: that is for whoever begins the volume again to know.
 */

import { check } from '../../core/check.js';
import type { Holder, Holding } from './holding.js';
import type { Piece } from './piece.js';

export class HeldRequests implements Holder {
  private held: Piece[] = [];
  private readonly holding: Holding;
  private readonly fail: (piece: Piece) => void;

  /** `fail`: ends a piece that has been held for too long. */
  constructor(holding: Holding, fail: (piece: Piece) => void) {
    this.holding = holding;
    this.fail = fail;
    holding.add(this);
  }

  hold(piece: Piece): void {
    check(piece.started && piece.pending === 0, 'a piece is set aside that is under way', piece.index);
    check(!piece.held, 'a piece is set aside twice', piece.index);
    piece.held = true;
    if (piece.heldMs === 0) piece.heldMs = this.holding.begun();
    this.held.push(piece);
  }

  get holds(): boolean {
    return this.held.length > 0;
  }

  /** Nothing of it is under way, so that its blocks need not be held for it. */
  giveUp(beforeMs: number): void {
    const late = this.held.filter(({ heldMs }) => heldMs <= beforeMs);
    this.held = this.held.filter((piece) => !late.includes(piece));
    for (const piece of late) this.end(piece);
  }

  /** All of them fail. */
  failAll(): void {
    for (const piece of this.takeAll()) this.fail(piece);
  }

  private end(piece: Piece): void {
    piece.held = false;
    this.fail(piece);
  }

  /** Those that are held, in the order in which they came; none is any more. */
  takeAll(): readonly Piece[] {
    const { held } = this;
    this.held = [];
    for (const piece of held) piece.held = false;
    return held;
  }
}
