/**
 * Reading a device's structures into memory: superblock, root, tree, journal. Opening, `fsck` and `dump` all read through this.
 *
 * Nothing is written here. What is found to be wrong is reported to `problem`; a strict caller throws there, and one that
 * looks for damage goes on as far as there is something to go on with.
 */

import type { Superblock } from '../format/superblock.js';
import type { StoreImage } from './image.js';
import type { ImageReader } from './image-reader.js';
import type { OnProblem } from './problems.js';
import { findRoot, TreeReader } from './read-tree.js';
import { JournalReplay } from './replay-journal.js';

/** Reads everything that a device says of itself. `problem` is told of damage; what it lets pass is left out. */
export async function loadImage(
  reader: ImageReader,
  superblock: Superblock,
  problem: OnProblem,
): Promise<StoreImage | undefined> {
  const { layout } = superblock;
  if (reader.sizeBytes < layout.sizeBytes) {
    const text = `the device has ${reader.sizeBytes} bytes, and was formatted with ${layout.sizeBytes}`;
    problem({ kind: 'size', text, harmless: false });
    // What describes the data lies before it, and may be there whole.
    if (reader.sizeBytes < layout.dataOffset) return undefined;
  }
  const found = await findRoot(reader, superblock, problem);
  if (found === undefined) return undefined;
  const tree = new TreeReader(reader, superblock, found, problem);
  return await loadAll(tree, new JournalReplay(reader, tree, problem));
}

async function loadAll(tree: TreeReader, journal: JournalReplay): Promise<StoreImage> {
  await tree.loadVolumes();
  await tree.loadSlots();
  await journal.load();
  tree.checkOwners();
  return tree.image;
}
