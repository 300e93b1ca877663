/**
 * Scratch blocks for patches: a part of a block is read into one, changed there, and written.
 *
 * So many patches go on at a time; others wait. A block that a member may still use after an operation was given up is set aside
 * until that has ended. Should all be set aside, patches fail, as nobody knows how long that lasts. Patches of a managed volume
 * that are held keep their blocks for as long as it takes, so those that wait for one are held as well, and fail in their time.
 */

import { check } from '../../core/check.js';
import { BLOCK_BYTES, COPIES_MAX, PATCHES_MAX } from '../../core/limits.js';
import { SetAside } from '../../core/set-aside.js';
import { Waiting } from '../../core/waiting.js';
import { COMPLETION_ABANDONED } from '../../ports/completion.js';
import type { Memory } from '../../ports/memory.js';
import type { Holder, Holding } from './holding.js';
import type { Piece } from './piece.js';

/** Should a device hang, all blocks that are in use may be set aside; then the other copies still have to be changed. */
const PATCH_BLOCKS = COPIES_MAX * PATCHES_MAX;
/** Memory for patches, starting at a page. */
export const PATCH_SCRATCH_BYTES = PATCH_BLOCKS * BLOCK_BYTES;

export interface PatchesParts {
  readonly memory: Memory;
  /** Start of `PATCH_SCRATCH_BYTES` of page-aligned memory. */
  readonly scratch: number;
  /** The most patches that wait. */
  readonly most: number;
  /** See `PiecesParts.holding`. */
  readonly holding: Holding | null;
  /** Begins a patch that has waited. */
  readonly begin: (piece: Piece) => void;
  /** Ends one that has waited for too long. */
  readonly fail: (piece: Piece) => void;
}

export class Patches implements Holder {
  private readonly parts: PatchesParts;
  private readonly free: number[] = [];
  private readonly waiting: Waiting<Piece>;
  /** Scratch blocks that are set aside. */
  private readonly aside: SetAside;
  /** Patches that have a scratch block. */
  private running = 0;

  constructor(parts: PatchesParts) {
    this.parts = parts;
    this.aside = new SetAside(parts.memory, PATCH_BLOCKS);
    this.waiting = new Waiting<Piece>('pieces that wait for scratch blocks', parts.most);
    for (let index = PATCH_BLOCKS - 1; index >= 0; index -= 1) this.free.push(index);
    parts.holding?.add(this);
  }

  /** Whether all scratch blocks are set aside. */
  get exhausted(): boolean {
    return this.aside.all;
  }

  /** Gives a patch its scratch block. Returns false if there is none now. */
  take(piece: Piece): boolean {
    check(piece.scratch < 0, 'a patch takes a second scratch block', piece.index);
    const index = this.running < PATCHES_MAX ? this.free.pop() : undefined;
    if (index === undefined) return false;
    this.running += 1;
    piece.scratch = index;
    piece.memory = this.parts.scratch + index * BLOCK_BYTES;
    return true;
  }

  /** A patch waits for a scratch block. */
  wait(piece: Piece): void {
    const { holding } = this.parts;
    check(piece.scratch < 0, 'a patch waits for a scratch block that it has', piece.index);
    if (holding !== null && piece.heldMs === 0) piece.heldMs = holding.begun();
    this.waiting.push(piece);
  }

  get holds(): boolean {
    return this.waiting.size > 0;
  }

  giveUp(beforeMs: number): void {
    for (const piece of this.waiting.takeAll()) {
      if (piece.heldMs <= beforeMs) this.parts.fail(piece);
      else this.waiting.push(piece);
    }
  }

  /** Brings the piece's part into the block that was read, or zeroes there. */
  change(piece: Piece): void {
    const { memory } = this.parts;
    check(piece.scratch >= 0, 'a patch has no scratch block to be changed in', piece.index);
    check(piece.from + piece.length <= BLOCK_BYTES, 'a patch reaches beyond its block', piece.index);
    const own = this.parts.scratch + piece.scratch * BLOCK_BYTES;
    check(piece.memory === own, 'a patch is changed in a block of another', piece.index);
    const at = piece.memory + piece.from;
    if (piece.payload < 0) memory.fill(at, piece.length, 0);
    else memory.copy(at, piece.payload, piece.length);
  }

  /** Takes the scratch block of a patch back. */
  giveBack(piece: Piece): void {
    const index = piece.scratch;
    check(index >= 0, 'a patch gives back a scratch block twice', piece.index);
    piece.scratch = -1;
    this.running -= 1;
    check(this.running >= 0, 'more patches have ended than were begun', this.running);
    if ((piece.resultFlags & COMPLETION_ABANDONED) === 0) {
      this.free.push(index);
      return;
    }
    // It is the scratch block that the member may still use, not the caller's memory.
    piece.resultFlags &= ~COMPLETION_ABANDONED;
    this.aside.hold(this.parts.scratch + index * BLOCK_BYTES, BLOCK_BYTES, () => {
      this.free.push(index);
      const known = this.free.length + this.running + this.aside.count;
      check(known === PATCH_BLOCKS, 'scratch blocks are lost, or there twice', known);
      this.serve();
    });
  }

  /** Begins patches that wait, as far as there are scratch blocks. */
  serve(): void {
    this.waiting.resume(this.parts.begin, () => (this.running < PATCHES_MAX && this.free.length > 0) || this.exhausted);
  }
}
