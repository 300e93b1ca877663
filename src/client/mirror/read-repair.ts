/**
 * Read repair: what a read could not bring from one member is read from the others, and what was bad is rewritten.
 *
 * It runs alone with its blocks, so what fails here is no race with a write. Blocks that are neighbours are read and rewritten
 * together. Every bad copy that was met on the way to a good one is rewritten from it, with the good copy's stamp. A member
 * that cannot even be rewritten leaves the map. Where no copy is good after a second look, the answer is an error, never a guess.
 */

import type { MemoryHolder } from '../../core/calls.js';
import { check, unlessInternal } from '../../core/check.js';
import { EIO } from '../../core/errno.js';
import { BLOCK_BYTES } from '../../core/limits.js';
import { alike, isPoison, isSuspect } from '../../layout/block-entry.js';
import { COMPLETION_ABANDONED } from '../../ports/completion.js';
import { FENCE_ALL } from '../../ports/device.js';
import type { BlockCount, BlockIndex, ChunkIndex } from '../../ports/ids.js';
import type { BlockRange } from '../members/member-work.js';
import type { Piece } from '../requests/piece.js';
import type { VolumeParts } from '../volume-parts.js';
import type { MemberSlot } from './membership.js';
import { type ReadRange, readRuns, runsOf } from './read-runs.js';

/** Blocks that a member could not read, and the entries of the segment that it had before: what came since must not be undone. */
interface Damage {
  readonly slot: MemberSlot;
  readonly seen: Uint32Array | null;
  readonly blocks: Set<BlockIndex>;
}

/** Blocks that were read from a good copy, and that are bad on another: neighbours, and where they are in memory. */
interface Mending {
  readonly good: MemberSlot;
  readonly bad: MemberSlot;
  readonly seen: Uint32Array | null;
  readonly blocks: readonly BlockIndex[];
  readonly memory: number;
}

/** How often all copies are tried. */
const ROUNDS = 2;

export class ReadRepair {
  private readonly parts: VolumeParts;

  constructor(parts: VolumeParts) {
    this.parts = parts;
  }

  /** Brings the blocks of a piece to its memory, and ends that at the pieces. */
  async run(piece: Piece): Promise<void> {
    check(piece.exclusive && piece.started, 'a read is repaired while others have its blocks', piece.index);
    const holder = { lost: false };
    const { group, stripe, block, blocks, memory, reader } = piece;
    const result = await this.recover(group, { stripe, block, blocks }, memory, reader, holder);
    this.parts.pieces.endRepair(piece, result, holder.lost ? COMPLETION_ABANDONED : 0);
  }

  /**
   * Brings blocks, which the caller holds alone, to `memory`, and mends copies that are bad, beginning with the one at position
   * `first`. Resolves to 0, or to `-EIO` if any of them cannot be read from any copy.
   */
  async recover(
    groupIndex: number,
    range: BlockRange,
    memory: number,
    first: number,
    holder: MemoryHolder,
  ): Promise<number> {
    const { work, membership } = this.parts;
    const group = membership.groups[groupIndex];
    check(first >= 0 && first < group.length, 'a block is recovered from a member that there is not', first);
    const { stripe, block } = range;
    const at = { first: block, memory, lost: () => holder.lost };
    const damages: Damage[] = [];
    const found = new Map<BlockIndex, MemberSlot>();
    let wanted: readonly BlockIndex[] = Array.from({ length: range.blocks }, (_, at) => (block + at) as BlockIndex);
    for (let step = 0; step < ROUNDS * group.length && wanted.length > 0; step += 1) {
      const slot = group[(first + step) % group.length];
      if (!slot.readable) continue;
      const { present } = slot;
      const seen = await work.entries(present, stripe).catch(unlessInternal(null));
      const read: ReadRange = (one, to, bad) => work.read(present, one, to, holder, bad);
      const failed = await readRuns(read, stripe, wanted, at);
      // Once something has been given up, nothing more may be read into this memory.
      if (holder.lost) return -EIO;
      for (const one of wanted) {
        if (!failed.has(one)) found.set(one, slot);
        // What counts of a member is the last look at it.
        for (const damage of damages) if (damage.slot === slot) damage.blocks.delete(one);
      }
      if (failed.size > 0 && present.fence() === FENCE_ALL) membership.expel(slot, 'the device is gone');
      else damages.push({ slot, seen, blocks: new Set(failed.keys()) });
      wanted = wanted.filter((one) => failed.has(one));
    }
    await this.mend(damages, found, range, memory, holder);
    if (wanted.length === 0) return 0;
    // Who does not answer may have them.
    if (membership.awaitsAny(groupIndex)) return -EIO;
    for (const one of wanted) {
      this.parts.counters.unrecoverableBlocks += 1;
      const deviceId = group[first]?.member?.deviceId ?? '';
      this.parts.onEvent({ kind: 'unrecoverable', deviceId, stripe, block: one });
    }
    return -EIO;
  }

  /** Rewrites what was bad from where it was found to be good. */
  private async mend(
    damages: readonly Damage[],
    found: ReadonlyMap<BlockIndex, MemberSlot>,
    { stripe, block: first }: BlockRange,
    memory: number,
    holder: MemoryHolder,
  ): Promise<void> {
    for (const { slot, seen, blocks } of damages) {
      const mendable = [...blocks].filter((block) => found.has(block)).sort((one, other) => one - other);
      for (const run of runsOf(mendable, (one, other) => found.get(one) === found.get(other))) {
        const good = found.get(run[0]);
        if (good === undefined || holder.lost) return;
        const at = memory + (run[0] - first) * BLOCK_BYTES;
        await this.repair({ good, bad: slot, seen, blocks: run, memory: at }, stripe, holder);
      }
    }
  }

  private async repair({ good, bad, seen, blocks, memory }: Mending, stripe: ChunkIndex, holder: MemoryHolder) {
    const { work, membership } = this.parts;
    check(good !== bad, 'a damaged block is repaired from the copy that has it', blocks[0]);
    const entries = await work.entries(good.present, stripe).catch(unlessInternal(null));
    if (seen === null && (await work.entries(bad.present, stripe).catch(unlessInternal(null))) === null) {
      membership.expel(bad, 'the table of a bad block cannot be read');
    }
    if (seen === null || entries === null) return;
    for (const run of runsOf(blocks, (one, other) => alike(entries, one, other))) {
      if (bad.state !== 'in-sync' || holder.lost) return;
      for (const block of run) {
        check(!isPoison(entries, block) && !isSuspect(entries, block), 'damage is copied over another copy', block);
      }
      const range = { stripe, block: run[0], blocks: run.length as BlockCount };
      const at = memory + (run[0] - blocks[0]) * BLOCK_BYTES;
      const left = new Set<BlockIndex>();
      const result = await work.put(bad.present, range, at, { from: entries, to: seen }, holder, left);
      if (result < 0) {
        membership.expel(bad, 'a bad block could not be rewritten');
        return;
      }
      // What is left has come to hold something else meanwhile: whoever reads it next sees whether that is good.
      for (const block of run) if (!left.has(block)) this.noteRepaired(bad.present.deviceId, stripe, block);
    }
  }

  private noteRepaired(deviceId: string, stripe: ChunkIndex, block: BlockIndex): void {
    this.parts.counters.repairedBlocks += 1;
    this.parts.onModified(stripe);
    this.parts.onEvent({ kind: 'repaired', deviceId, stripe, block });
  }
}
