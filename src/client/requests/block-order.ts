/**
 * Who has to wait for whom.
 *
 * Pieces in flight are kept in lists by a hash of their segment, in order of arrival, waiting or not. A piece waits for every
 * earlier one in its segment that touches a common block, unless both only read; it counts them, and each that ends
 * counts down. So operations on one block are carried out one by one and first come, first served; a read can meet no
 * half-done write, and two copies cannot see two writes in different order. Nobody waits for a later piece, so nothing
 * can wait in a circle.
 */

import { check } from '../../core/check.js';
import { ORDER_LISTS } from '../../core/limits.js';
import type { ChunkIndex } from '../../ports/ids.js';
import type { Piece } from './piece.js';

export class BlockOrder {
  private readonly first: (Piece | null)[] = new Array(ORDER_LISTS).fill(null);
  private readonly last: (Piece | null)[] = new Array(ORDER_LISTS).fill(null);
  /** Pieces that have become free to start; the owner takes them from here. */
  readonly ready: Piece[] = [];

  /** Lines the piece up. Returns whether it may start at once. */
  add(piece: Piece): boolean {
    const list = piece.stripe & (ORDER_LISTS - 1);
    let blockers = 0;
    for (let other = this.first[list]; other !== null; other = other.next) {
      if (inTheWay(other, piece)) blockers += 1;
    }
    const previous = this.last[list];
    check(
      piece.previous === null && piece.next === null && previous !== piece,
      'a piece is lined up twice',
      piece.index,
    );
    piece.blockers = blockers;
    piece.previous = previous;
    piece.next = null;
    if (previous === null) this.first[list] = piece;
    else previous.next = piece;
    this.last[list] = piece;
    return blockers === 0;
  }

  /** Whether any piece is lined up or carried out in a segment. */
  holds(stripe: ChunkIndex): boolean {
    for (let other = this.first[stripe & (ORDER_LISTS - 1)]; other !== null; other = other.next) {
      if (other.stripe === stripe) return true;
    }
    return false;
  }

  /** Pieces that wait for the blocks of this one. */
  *waitingFor(piece: Piece): Iterable<Piece> {
    for (let other = piece.next; other !== null; other = other.next) if (inTheWay(piece, other)) yield other;
  }

  /** Whether one in the way of a piece that waits was given up, so that nobody knows when it ends. */
  isBehindGivenUp(piece: Piece): boolean {
    for (let other = piece.previous; other !== null; other = other.previous) {
      if (other.givenUp && inTheWay(other, piece)) return true;
    }
    return false;
  }

  /** Takes out a piece that may still wait for others. */
  withdraw(piece: Piece): void {
    check(!piece.started, 'a piece is withdrawn that has begun', piece.index);
    piece.blockers = 0;
    this.remove(piece);
  }

  /** Takes the piece out; those that waited for it alone become ready. */
  remove(piece: Piece): void {
    const list = piece.stripe & (ORDER_LISTS - 1);
    const { previous, next } = piece;
    check(piece.blockers === 0, 'a piece leaves while others are in its way', piece.index);
    check(previous !== null || this.first[list] === piece, 'a piece leaves that is not lined up', piece.index);
    check(next !== null || this.last[list] === piece, 'a piece leaves that others have lost', piece.index);
    if (previous === null) this.first[list] = next;
    else previous.next = next;
    if (next === null) this.last[list] = previous;
    else next.previous = previous;
    piece.previous = null;
    piece.next = null;
    for (let other = next; other !== null; other = other.next) {
      if (!inTheWay(piece, other)) continue;
      other.blockers -= 1;
      check(other.blockers >= 0, 'a piece waits for fewer than none', other.index);
      if (other.blockers === 0) this.ready.push(other);
    }
  }
}

function inTheWay(one: Piece, other: Piece): boolean {
  return (
    one.stripe === other.stripe &&
    (one.exclusive || other.exclusive) &&
    one.firstHeld < other.endHeld &&
    other.firstHeld < one.endHeld
  );
}
