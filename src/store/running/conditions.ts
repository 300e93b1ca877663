/**
 * The conditions of modifications (`REQUEST_NEWER`, `REQUEST_SAME`), decided block by block when the block's entry is in memory.
 *
 * What is decided has to hold until it has been carried out. So modifications are listed here, by slot, from the decision until
 * they have ended, and one with a condition waits while any that is listed is about one of its blocks: a write that is sent
 * again, or comes late, is compared with what the write before it has left, and not with what that one had found.
 */

import { check } from '../../core/check.js';
import type { ReplicaPage } from '../../core/ids.js';
import { STORE_OPERATIONS_MAX } from '../../core/limits.js';
import { Waiting } from '../../core/waiting.js';
import {
  BLOCK_SUSPECT,
  ENTRY_FLAGS,
  ENTRY_STAMP_HIGH,
  ENTRY_STAMP_LOW,
  ENTRY_WORDS,
} from '../../layout/block-entry.js';
import { generationOf } from '../../layout/write-stamp.js';
import { REQUEST_COPY, REQUEST_NEWER, REQUEST_SAME } from '../../ports/segment-request.js';
import type { StoreOp } from '../store-op.js';
import type { TableCache } from './table-cache.js';

const NONE = -1;
const CONDITIONS = REQUEST_NEWER | REQUEST_SAME;

/** What conditions need of their store. */
export interface ConditionsParts {
  readonly tables: TableCache;
  /** Slots of the device. */
  readonly slots: number;
  /** The generation of a replica's map, by its page; 0 without a map. */
  readonly generationOf: (volume: ReplicaPage) => number;
  /** The operation of an index. */
  readonly opAt: (index: number) => StoreOp;
  /** An operation may be decided that has waited for another. */
  readonly resume: (op: StoreOp) => void;
}

export class Conditions {
  private readonly parts: ConditionsParts;
  /**
   * By slot, the index of the first operation that is listed, and 1; 0 for none, so that memory of slots that were never used is
   * never touched. The others follow by `StoreOp.after`.
   */
  private readonly first: Int32Array;
  private readonly waiting = new Waiting<StoreOp>(
    'operations that wait for others of their blocks',
    STORE_OPERATIONS_MAX,
  );

  constructor(parts: ConditionsParts) {
    this.parts = parts;
    this.first = new Int32Array(parts.slots);
  }

  /**
   * Decides which blocks of an operation, whose table is in memory, are left as they are, and lists it. Returns false if it has
   * to wait; it is resumed then.
   */
  begin(op: StoreOp): boolean {
    check(!op.listed, 'an operation is decided twice', op.token);
    if ((op.flags & CONDITIONS) !== 0) {
      if (this.meets(op)) {
        this.waiting.push(op);
        return false;
      }
      this.decide(op);
    }
    const next = this.first[op.slot] - 1;
    check(
      next === NONE || this.parts.opAt(next).slot === op.slot,
      'an operation is listed with those of another slot',
      next,
    );
    op.after = next;
    op.before = NONE;
    if (next !== NONE) this.parts.opAt(next).before = op.index;
    this.first[op.slot] = op.index + 1;
    op.listed = true;
    return true;
  }

  /** An operation has ended. */
  end(op: StoreOp): void {
    if (!op.listed) return;
    const { opAt } = this.parts;
    op.listed = false;
    check(
      op.before !== NONE || this.first[op.slot] === op.index + 1,
      'an operation leaves a list that it is not in',
      op.index,
    );
    check(
      op.after === NONE || opAt(op.after).before === op.index,
      'an operation leaves a list that has lost it',
      op.index,
    );
    if (op.before === NONE) this.first[op.slot] = op.after + 1;
    else opAt(op.before).after = op.after;
    if (op.after !== NONE) opAt(op.after).before = op.before;
  }

  /** Operations have ended: those that waited for them look again. */
  resume(): void {
    if (this.waiting.size > 0) this.waiting.resume(this.parts.resume);
  }

  /** Whether an operation that is listed is about one of the blocks. */
  private meets(op: StoreOp): boolean {
    const { opAt } = this.parts;
    for (let index = this.first[op.slot] - 1; index !== NONE; index = opAt(index).after) {
      const other = opAt(index);
      if (other.block < op.block + op.blocks && op.block < other.block + other.blocks) return true;
    }
    return false;
  }

  private decide(op: StoreOp): void {
    check(op.left === 0, 'blocks are left as they are before that was decided', op.index);
    for (let index = 0; index < op.blocks; index += 1) {
      const word = this.parts.tables.wordOf(op.page, op.block + index);
      if (!this.holds(op, index, word)) op.leave(index);
    }
  }

  private holds(op: StoreOp, index: number, word: number): boolean {
    if ((op.flags & REQUEST_SAME) !== 0 && !this.isSame(op, index, word)) return false;
    return (op.flags & REQUEST_NEWER) === 0 || this.isNewer(op, index, word);
  }

  private isSame(op: StoreOp, index: number, word: number): boolean {
    const { words } = this.parts.tables;
    const { entries } = op;
    check(entries !== null, 'a condition without the entries that it speaks of', op.token);
    for (let at = 0; at < ENTRY_WORDS; at += 1) {
      if (words[word + at] !== entries[index * ENTRY_WORDS + at]) return false;
    }
    return true;
  }

  /**
   * A block that has the very stamp has what is sent again, unless a crash has left it in doubt. A copy brings the block to what
   * its source has, so it is enough that the two differ.
   *
   * A source has agreed with the others for the generation of the map. What the member has of an earlier one and they have not
   * was never acknowledged, or has been decided against, whatever its stamp; only a write of this generation may be newer than
   * what the source had.
   */
  private isNewer(op: StoreOp, index: number, word: number): boolean {
    const { words } = this.parts.tables;
    const high = op.stampHighOf(index) - words[word + ENTRY_STAMP_HIGH];
    const low = op.stampLowOf(index) - words[word + ENTRY_STAMP_LOW];
    if (high > 0 || (high === 0 && low > 0)) return true;
    if (high !== 0 || low !== 0) {
      const copy = (op.flags & REQUEST_COPY) !== 0;
      return copy && generationOf(words[word + ENTRY_STAMP_HIGH]) < this.parts.generationOf(op.volume);
    }
    if ((words[word + ENTRY_FLAGS] & BLOCK_SUSPECT) !== 0) return true;
    return (op.flags & REQUEST_COPY) !== 0 && this.differs(op, index, word);
  }

  private differs(op: StoreOp, index: number, word: number): boolean {
    const { words } = this.parts.tables;
    const { entries } = op;
    if (entries === null) return false;
    const at = op.copyAt(index);
    return words[word] !== entries[at] || words[word + ENTRY_FLAGS] !== entries[at + ENTRY_FLAGS];
  }
}
