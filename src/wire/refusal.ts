/** A payload or a peer that is refused: what the other end is told, and why. */

import type { FrameProblem } from './framing.js';

/** Thrown by what reads control payloads, which are too few to be read without objects. The connection ends with it. */
export class WireRefusal extends Error implements FrameProblem {
  override readonly name = 'WireRefusal';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}
