/**
 * Reads what members may not have alike: a writer has something under way there, or has died amid it. Content counts when every
 * member in-sync has it, or when one says that it is settled there.
 *
 * ```text
 *   blocks ─► read at every member in-sync ─┬─ the same everywhere ─────────────────► done
 *               ▲                           └─ not so: settled at one? ─┬─ it is ───► done
 *               └─── a while later, until it has been held too long ◄───┘
 * ```
 *
 * Why content that is the same everywhere may be told: each member was looked at after the read had begun, and blocks only ever
 * go to later states. The earliest of the states that were seen is that content, and no member is behind it any more, in
 * whichever later map. So nobody who reads afterwards finds anything earlier; and what was acknowledged, or told to anybody,
 * before the read began was everywhere by then. What a dead writer has left on some members alone is told by nobody, until
 * another one has attached the volume and made the copies equal.
 */

import type { MemoryHolder } from '../../core/calls.js';
import { check, unlessInternal } from '../../core/check.js';
import { BLOCK_BYTES, COPY_BYTES } from '../../core/limits.js';
import type { BlockCount, BlockIndex } from '../../ports/ids.js';
import type { Memory } from '../../ports/memory.js';
import type { SegmentMember } from '../../ports/segment-member.js';
import type { CopyBuffer, CopyBuffers } from '../jobs/copy-buffers.js';
import { AGREED_PAUSE_MS, AGREED_PAUSE_MS_MAX } from '../limits.js';
import type { BlockRange, MemberWork } from '../members/member-work.js';
import { type ReadRange, readRuns, runsOf } from '../mirror/read-runs.js';
import type { Piece } from '../requests/piece.js';

export interface AgreedReadParts {
  readonly memory: Memory;
  readonly work: MemberWork;
  readonly buffers: CopyBuffers;
  /** Who is in-sync now, all of whom may be relied on; null while that is not so. */
  readonly members: (piece: Piece) => readonly SegmentMember[] | null;
  /** Whether a piece that has been held since then is to be searched for no more. */
  readonly isOver: (sinceMs: number) => boolean;
  /** Resolves after so many milliseconds. */
  readonly pause: (ms: number) => Promise<void>;
}

/** The members whose content is compared: that of the first is read to the memory of the piece. */
interface Copies {
  readonly piece: Piece;
  readonly members: readonly SegmentMember[];
}

export class AgreedRead {
  private readonly parts: AgreedReadParts;

  constructor(parts: AgreedReadParts) {
    this.parts = parts;
  }

  /** Brings the blocks of a piece to its memory. Resolves to whether they are there, all of them. */
  async run(piece: Piece, holder: MemoryHolder): Promise<boolean> {
    const { block, blocks } = piece;
    check(piece.heldMs > 0, 'a read is searched for that is not held', piece.index);
    check(piece.started && blocks > 0, 'a read is searched for that has not begun', piece.index);
    let wanted: readonly BlockIndex[] = Array.from({ length: blocks }, (_, at) => (block + at) as BlockIndex);
    for (let pauseMs = AGREED_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, AGREED_PAUSE_MS_MAX)) {
      const members = this.parts.members(piece);
      if (members !== null) wanted = await this.look(piece, members, wanted, holder);
      if (wanted.length === 0) return !holder.lost;
      if (holder.lost || this.parts.isOver(piece.heldMs)) return false;
      await this.parts.pause(pauseMs);
    }
  }

  /** Resolves to the blocks that nothing is known of. */
  private async look(
    piece: Piece,
    members: readonly SegmentMember[],
    wanted: readonly BlockIndex[],
    holder: MemoryHolder,
  ): Promise<readonly BlockIndex[]> {
    const { buffers, work } = this.parts;
    const found = await buffers
      .withBuffer((buffer) => this.compare({ piece, members }, wanted, buffer, holder))
      .catch(unlessInternal(null));
    let left = found ?? wanted;
    for (const member of members) {
      if (left.length === 0 || holder.lost) return left;
      const read: ReadRange = (range, memory, bad) => work.readSettled(member, range, memory, holder, bad);
      const at = { first: piece.block, memory: piece.memory, lost: () => holder.lost };
      const failed = await readRuns(read, piece.stripe, left, at);
      left = left.filter((one) => failed.has(one));
    }
    return left;
  }

  /** Reads blocks everywhere. Resolves to those that are not the same, or cannot be read everywhere. */
  private async compare(
    copies: Copies,
    wanted: readonly BlockIndex[],
    buffer: CopyBuffer,
    holder: MemoryHolder,
  ): Promise<readonly BlockIndex[]> {
    const { members, piece } = copies;
    check(members.length > 0, 'copies are compared of which there is none', piece.stripe);
    const most = roomFor(members.length - 1);
    const unequal = new Set<BlockIndex>();
    const runs = runsOf(wanted).flatMap((run) => slices(run, most));
    for (let run = runs.pop(); run !== undefined && !holder.lost && !buffer.lost; run = runs.pop()) {
      const range = { stripe: piece.stripe, block: run[0], blocks: run.length as BlockCount };
      const found = await this.compareRun(copies, range, buffer, holder);
      if (found !== null) for (const one of found) unequal.add(one);
      else if (run.length === 1) unequal.add(run[0]);
      // Any of the blocks may be the cause.
      else runs.push(run.slice(run.length >>> 1), run.slice(0, run.length >>> 1));
    }
    return holder.lost || buffer.lost ? wanted : wanted.filter((one) => unequal.has(one));
  }

  /** Blocks of a run that are not the same everywhere; null if they could not be read everywhere. */
  private async compareRun(
    { piece, members }: Copies,
    range: BlockRange,
    buffer: CopyBuffer,
    holder: MemoryHolder,
  ): Promise<readonly BlockIndex[] | null> {
    const { memory, work } = this.parts;
    const own = piece.memory + (range.block - piece.block) * BLOCK_BYTES;
    const most = roomFor(members.length - 1);
    check(range.blocks <= most, 'copies are compared that have no room', range.blocks);
    const places = members.map((_, at) => (at === 0 ? own : buffer.memory + (at - 1) * most * BLOCK_BYTES));
    const results = await Promise.all(
      members.map((member, at) => work.read(member, range, places[at], at === 0 ? holder : buffer)),
    );
    if (holder.lost || buffer.lost || results.some((result) => result < 0)) return null;
    const { bytes } = memory;
    const unequal: BlockIndex[] = [];
    for (let at = 0; at < range.blocks; at += 1) {
      const [one, ...others] = places.map((place) =>
        bytes.subarray(place + at * BLOCK_BYTES, place + (at + 1) * BLOCK_BYTES),
      );
      if (others.some((other) => Buffer.compare(one, other) !== 0)) unequal.push((range.block + at) as BlockIndex);
    }
    return unequal;
  }
}

/** Blocks of which so many copies have room in a buffer. */
function roomFor(copies: number): number {
  return Math.floor(COPY_BYTES / BLOCK_BYTES / Math.max(1, copies));
}

/** A run in pieces of at most so many blocks. */
function slices(run: readonly BlockIndex[], most: number): BlockIndex[][] {
  const found: BlockIndex[][] = [];
  for (let at = 0; at < run.length; at += most) found.push(run.slice(at, at + most));
  return found;
}
