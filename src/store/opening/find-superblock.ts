/** Finding what says that a device is one of ours: the two superblocks, of which the newer one counts. */

import { PAGE_BYTES } from '../format/format.js';
import { decodeSuperblock, type Superblock, SuperblockProblem } from '../format/superblock.js';
import { type ImageReader, isReadError } from './image-reader.js';
import type { OnProblem } from './problems.js';

/** Both superblocks, and which one counts. */
export interface FoundSuperblock {
  readonly superblock: Superblock;
  /** Which of the copies are as they should be, and the newest. */
  readonly first: boolean;
  readonly second: boolean;
}

async function tryDecode(reader: ImageReader, offset: number): Promise<Superblock | SuperblockProblem> {
  try {
    return decodeSuperblock(await reader.read(offset, PAGE_BYTES), reader.checksum);
  } catch (error) {
    if (error instanceof SuperblockProblem) return error;
    if (isReadError(error, reader)) return new SuperblockProblem(error.message, false, error);
    throw error;
  }
}

/**
 * Finds the superblock. A device that has grown still has the copy where its old size put it; one that has become shorter
 * has only the first. Returns a `SuperblockProblem` if there is none that can be used; throws what reading has thrown if that is
 * why.
 */
export async function findSuperblock(
  reader: ImageReader,
  problem: OnProblem,
): Promise<FoundSuperblock | SuperblockProblem> {
  const first = await tryDecode(reader, 0);
  const lastPage = reader.sizeBytes - (reader.sizeBytes % PAGE_BYTES) - PAGE_BYTES;
  const usable = !(first instanceof SuperblockProblem);
  if (!usable && first.foreign) return first;
  const copyOffset = usable ? first.layout.copyOffset : lastPage;
  const second =
    copyOffset + PAGE_BYTES <= reader.sizeBytes
      ? await tryDecode(reader, copyOffset)
      : new SuperblockProblem('the device ends before it', false);
  if (second instanceof SuperblockProblem) {
    // Without either, nobody knows whether there is one.
    if (!usable && (first.cause ?? second.cause) !== undefined) throw first.cause ?? second.cause;
    if (!usable) return first;
    problem({
      kind: 'superblock',
      text: `the second superblock: ${second.message}`,
      offset: copyOffset,
      harmless: true,
    });
    return { superblock: first, first: true, second: false };
  }
  if (!usable) {
    problem({ kind: 'superblock', text: `the first superblock: ${first.message}`, offset: 0, harmless: true });
    return { superblock: second, first: false, second: true };
  }
  if (first.deviceId !== second.deviceId) {
    const text = `the superblocks name different devices, ${first.deviceId} and ${second.deviceId}`;
    problem({ kind: 'superblock', text, offset: copyOffset, harmless: true });
    return { superblock: first, first: true, second: false };
  }
  const newest = second.sequence > first.sequence ? second : first;
  return { superblock: newest, first: first.sequence === newest.sequence, second: second.sequence === newest.sequence };
}
