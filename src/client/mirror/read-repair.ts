/**
 * Read repair: a read that has failed on one member is done block by block from the others, and what was bad is rewritten.
 *
 * It runs alone with its blocks, so what fails here is no race with a write. Every bad copy that was met on the way to a good
 * one is rewritten from it, with the good copy's stamp. A member that cannot even be rewritten leaves the map. Where
 * no copy is good after a second look, the answer is an error, never a guess.
 */

import type { MemoryHolder } from '../../core/calls.js';
import { check } from '../../core/check.js';
import { EIO } from '../../core/errno.js';
import { BLOCK_BYTES } from '../../core/limits.js';
import { isPoison, isSuspect } from '../../layout/block-entry.js';
import { COMPLETION_ABANDONED } from '../../ports/completion.js';
import { FENCE_ALL } from '../../ports/device.js';
import type { BlockIndex, ChunkIndex } from '../../ports/ids.js';
import type { Piece } from '../requests/piece.js';
import type { VolumeParts } from '../volume-parts.js';
import type { MemberSlot } from './membership.js';

/** A copy that could be read, and one that could not, with the entries of the segment that this one had before. */
interface Damage {
  readonly good: MemberSlot;
  readonly bad: MemberSlot;
  readonly seen: Uint32Array | null;
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
    const { group, stripe, reader } = piece;
    let result = 0;
    for (let index = 0; index < piece.blocks && result === 0; index += 1) {
      const memory = piece.memory + index * BLOCK_BYTES;
      // Once something has been given up, nothing more may be read into this memory.
      if (holder.lost) result = -EIO;
      else result = await this.recover(group, stripe, piece.block + index, memory, reader, holder);
    }
    this.parts.pieces.endRepair(piece, result, holder.lost ? COMPLETION_ABANDONED : 0);
  }

  /**
   * Brings a block, which the caller holds alone, to `memory`, and mends copies that are bad, beginning with the one at
   * position `first`. Resolves to 0 or `-EIO`.
   */
  async recover(
    groupIndex: number,
    stripe: ChunkIndex,
    block: BlockIndex,
    memory: number,
    first: number,
    holder: MemoryHolder,
  ): Promise<number> {
    const group = this.parts.membership.groups[groupIndex];
    check(first >= 0 && first < group.length, 'a block is recovered from a member that there is not', first);
    /** With their entries from before they were read: what came since must not be undone. */
    const bad = new Map<MemberSlot, Uint32Array | null>();
    for (let round = 0; round < ROUNDS; round += 1) {
      for (let step = 0; step < group.length; step += 1) {
        const slot = group[(first + step) % group.length];
        if (!slot.readable) continue;
        const member = slot.present;
        const entries = await this.parts.work.entries(member, stripe).catch(() => null);
        const result = await this.parts.work.read(member, { stripe, block, blocks: 1 }, memory, holder);
        if (holder.lost) return -EIO;
        if (result >= 0) {
          bad.delete(slot);
          for (const [other, seen] of bad)
            await this.repair({ good: slot, bad: other, seen }, stripe, block, memory, holder);
          return 0;
        }
        if (member.fence() === FENCE_ALL) this.parts.membership.expel(slot, 'the device is gone');
        else bad.set(slot, entries);
      }
    }
    this.parts.counters.unrecoverableBlocks += 1;
    this.parts.onEvent({ kind: 'unrecoverable', deviceId: group[first]?.member?.deviceId ?? '', stripe, block });
    return -EIO;
  }

  private async repair(
    { good, bad, seen }: Damage,
    stripe: ChunkIndex,
    block: BlockIndex,
    memory: number,
    holder: MemoryHolder,
  ): Promise<void> {
    const { counters, membership, onEvent } = this.parts;
    const entries = await this.parts.work.entries(good.present, stripe).catch(() => null);
    if (seen === null && (await this.parts.work.entries(bad.present, stripe).catch(() => null)) === null) {
      membership.expel(bad, 'the table of a bad block cannot be read');
    }
    if (seen === null || entries === null || bad.state !== 'in-sync') return;
    check(!isPoison(entries, block) && !isSuspect(entries, block), 'damage is copied over another copy', block);
    const member = bad.present;
    const result = await this.parts.work.put(
      member,
      { stripe, block, blocks: 1 },
      memory,
      { from: entries, to: seen },
      holder,
    );
    if (result < 0) {
      membership.expel(bad, 'a bad block could not be rewritten');
      return;
    }
    // It has come to hold something else meanwhile: whoever reads it next sees whether that is good.
    if (result > 0) return;
    counters.repairedBlocks += 1;
    this.parts.onModified(stripe);
    onEvent({ kind: 'repaired', deviceId: member.deviceId, stripe, block });
  }
}
