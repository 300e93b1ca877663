/** A block table while it is read and replayed. */

import { check } from '../../core/check.js';
import { BLOCK_POISON, ENTRY_FLAGS, ENTRY_WORDS } from '../../layout/block-entry.js';
import { type Layout, PAGE_BYTES, pageOffset, SLOT_FREE, slotBlocks, TABLE_ENTRIES } from '../format/format.js';
import { SLOT_FLAG_PLACE, SLOT_FLAG_TABLE, type SlotTable } from '../running/slot-table.js';
import type { ImageReader } from './image-reader.js';
import type { OnProblem } from './problems.js';

/** No first write of the block is in the journal. */
export const BLOCK_FIRST_NONE = 0;

export interface TableImage {
  /** The entries, four words each. */
  readonly words: Uint32Array;
  /** For each block the batch that made its first write valid, or `BLOCK_FIRST_NONE`. */
  readonly firstIn: Float64Array;
  /** For those blocks, the entries that they had before: never written, poison, or zero. */
  readonly before: Uint32Array;
  /** The table on the device was damaged: all entries are poison. */
  readonly damaged: boolean;
}

export function emptyTable(): TableImage {
  return {
    words: new Uint32Array(TABLE_ENTRIES * ENTRY_WORDS),
    firstIn: new Float64Array(TABLE_ENTRIES),
    before: new Uint32Array(TABLE_ENTRIES * ENTRY_WORDS),
    damaged: false,
  };
}

/** A slot's block table as the tree on the device has it. One that is damaged makes all its blocks unreadable. */
export async function loadTable(
  reader: ImageReader,
  { slots, superblock }: { readonly slots: SlotTable; readonly superblock: { readonly layout: Layout } },
  slot: number,
  problem: OnProblem,
): Promise<TableImage> {
  check(slot < slots.slots, 'a block table is read of a slot that there is not', slot);
  const table = emptyTable();
  const flags = slots.flags[slot];
  if (slots.states[slot] === SLOT_FREE || (flags & SLOT_FLAG_TABLE) === 0) return table;
  const { layout } = superblock;
  const offset = pageOffset(layout.blockTableOffset, slot, (flags & SLOT_FLAG_PLACE) !== 0 ? 1 : 0);
  const bytes = await reader.read(offset, PAGE_BYTES);
  if (reader.checksum(bytes) === slots.tableChecksums[slot]) {
    table.words.set(new Uint32Array(bytes.buffer, bytes.byteOffset, table.words.length));
    return table;
  }
  problem({ kind: 'table', text: `the block table of slot ${slot} is damaged`, offset, harmless: false });
  for (let block = 0; block < slotBlocks(layout); block += 1)
    table.words[block * ENTRY_WORDS + ENTRY_FLAGS] = BLOCK_POISON;
  return { ...table, damaged: true };
}
