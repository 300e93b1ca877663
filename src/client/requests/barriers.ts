/** Waiting until the pieces that were in flight at some moment have ended. */

import { check } from '../../core/check.js';
import type { Piece } from './piece.js';

interface Barrier {
  readonly pieces: Set<Piece>;
  resolve(): void;
}

export class Barriers {
  private barriers: Barrier[] = [];

  /** Resolves when all of these have ended. */
  wait(pieces: readonly Piece[]): Promise<void> {
    if (pieces.length === 0) return Promise.resolve();
    check(
      pieces.every(({ inUse }) => inUse),
      'somebody waits for pieces that are over',
    );
    return new Promise((resolve) => this.barriers.push({ pieces: new Set(pieces), resolve }));
  }

  /** A piece has ended. */
  pass(piece: Piece): void {
    if (this.barriers.length === 0) return;
    for (const barrier of this.barriers) {
      barrier.pieces.delete(piece);
      if (barrier.pieces.size === 0) barrier.resolve();
    }
    this.barriers = this.barriers.filter(({ pieces }) => pieces.size > 0);
  }
}
