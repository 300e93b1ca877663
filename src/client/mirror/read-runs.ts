/**
 * Reads blocks of a segment from one member in as few requests as errors allow. An error of a run names the blocks that are bad;
 * the others are read again, in the runs that are left of it. Where it names none, any of them may be the cause, and each
 * half of the run is tried by itself.
 */

import { check } from '../../core/check.js';
import { BLOCK_BYTES } from '../../core/limits.js';
import type { BlockCount, BlockIndex, ChunkIndex } from '../../ports/ids.js';
import type { BlockRange } from '../members/member-work.js';

/** Reads a range to memory, and fills `bad` with blocks that an error names. Resolves to the bytes or a negative errno. */
export type ReadRange = (range: BlockRange, memory: number, bad: Set<BlockIndex>) => Promise<number>;

/**
 * Reads these blocks, in order, to where they lie in memory that begins with block `first`. Resolves to those that cannot be
 * read, with the errno of each. `lost`: whether memory has been given up, so that nothing more may be read.
 */
export async function readRuns(
  read: ReadRange,
  stripe: ChunkIndex,
  blocks: readonly BlockIndex[],
  { first, memory, lost }: { first: number; memory: number; lost: () => boolean },
): Promise<Map<BlockIndex, number>> {
  const failed = new Map<BlockIndex, number>();
  const runs = runsOf(blocks);
  for (let run = runs.pop(); run !== undefined && !lost(); run = runs.pop()) {
    const [block] = run;
    const bad = new Set<BlockIndex>();
    const result = await read(
      { stripe, block, blocks: run.length as BlockCount },
      memory + (block - first) * BLOCK_BYTES,
      bad,
    );
    if (result >= 0) continue;
    if (run.length === 1) {
      failed.set(block, -result);
    } else if (bad.size === 0) {
      const half = run.length >>> 1;
      runs.push(run.slice(half), run.slice(0, half));
    } else {
      for (const one of bad) {
        check(run.includes(one), 'a block is bad that was not read', one);
        failed.set(one, -result);
      }
      runs.push(...runsOf(run.filter((one) => !bad.has(one))));
    }
  }
  return failed;
}

/** Blocks in ascending order as runs of neighbours; where `together` is given, of those that it calls alike. */
export function runsOf(
  blocks: readonly BlockIndex[],
  together: (one: BlockIndex, other: BlockIndex) => boolean = () => true,
): BlockIndex[][] {
  const runs: BlockIndex[][] = [];
  for (const block of blocks) {
    const run = runs.at(-1);
    const previous = run?.at(-1);
    if (run !== undefined && previous === block - 1 && together(run[0], block)) run.push(block);
    else runs.push([block]);
  }
  return runs;
}
