/**
 * Recovery after a crash: the blocks of slots in doubt are read and compared with their entries. A first write that no flush is
 * known to have covered, and whose content does not match, never happened. Any other mismatch makes its block suspect.
 *
 * Only memory changes here; the checkpoint that follows makes the result the tree.
 */

import { check } from '../../core/check.js';
import { inLanes } from '../../core/in-lanes.js';
import { BLOCK_BYTES } from '../../core/limits.js';
import {
  BLOCK_POISON,
  BLOCK_SUSPECT,
  BLOCK_VALID,
  ENTRY_CHECKSUM,
  ENTRY_FLAGS,
  ENTRY_WORDS,
} from '../../layout/block-entry.js';
import type { BlockIndex } from '../../ports/ids.js';
import type { Memory } from '../../ports/memory.js';
import { PAGE_BYTES, SLOT_FREE, slotBlocks } from '../format/format.js';
import type { ControlIo } from '../running/control-io.js';
import { SLOT_FLAG_DOUBT } from '../running/slot-table.js';
import { CONTROL_PIECE_BYTES, CONTROL_PIECES } from '../store-start.js';
import { inDoubt, type StoreImage } from './image.js';
import type { ImageReader } from './image-reader.js';
import type { Problem } from './problems.js';
import { loadTable, type TableImage } from './table-image.js';

/** What recovery found. */
export interface RecoveryReport {
  /** The device was not closed in order. */
  readonly crashed: boolean;
  readonly slotsInDoubt: number;
  /** Blocks whose content does not match their entry. */
  readonly suspectBlocks: number;
  /** First writes that never reached the device. */
  readonly droppedBlocks: number;
  /** Entries, or pages of volumes, differ from what tree and journal say. */
  readonly changed: boolean;
  /** Harmless damage that was met. */
  readonly problems: readonly Problem[];
}

export class Recovery {
  private readonly reader: ImageReader;
  private readonly image: StoreImage;
  private readonly io: ControlIo;
  private readonly memory: Memory;
  private readonly scratch: number;
  private suspectBlocks = 0;
  private droppedBlocks = 0;
  private changed = false;

  /** `scratch`: memory for slots that are compared, `CONTROL_PIECES` - 1 pieces and one for checksums. */
  constructor(reader: ImageReader, image: StoreImage, io: ControlIo, memory: Memory, scratch: number) {
    this.reader = reader;
    this.image = image;
    this.io = io;
    this.memory = memory;
    this.scratch = scratch;
  }

  async run(note: (problem: Problem) => void): Promise<Omit<RecoveryReport, 'problems'>> {
    const { image } = this;
    const { slots } = image;
    const doubtful: number[] = [];
    for (let slot = 0; slot < slots.slots; slot += 1) {
      if (slots.states[slot] !== SLOT_FREE && inDoubt(image, slot)) doubtful.push(slot);
    }
    const crashed = !image.clean && image.superblock.incarnation > 0;
    for (const slot of doubtful) {
      if (!image.tables.has(slot)) image.tables.set(slot, await loadTable(this.reader, image, slot, note));
      slots.flags[slot] |= SLOT_FLAG_DOUBT;
      image.changedSlots.add(slot);
    }
    await this.compareAll(doubtful);
    const { suspectBlocks, droppedBlocks, changed } = this;
    return { crashed, slotsInDoubt: doubtful.length, suspectBlocks, droppedBlocks, changed };
  }

  /** Compares several slots at once, each in a piece of memory of its own. */
  private async compareAll(doubtful: readonly number[]): Promise<void> {
    await inLanes(CONTROL_PIECES - 2, doubtful, (slot, piece) => this.compare(slot, piece));
  }

  private async compare(slot: number, piece: number): Promise<void> {
    const { layout } = this.image.superblock;
    const table = this.image.tables.get(slot);
    check(table !== undefined, 'a slot in doubt has no block table', slot);
    const valid = (block: BlockIndex) => (table.words[block * ENTRY_WORDS + ENTRY_FLAGS] & BLOCK_VALID) !== 0;
    const blocks = slotBlocks(layout);
    let from = 0;
    while (from < blocks && !valid(from)) from += 1;
    let to = blocks;
    while (to > from && !valid(to - 1)) to -= 1;
    if (from === to) return;
    if (await this.compareRange(slot, table, piece, from, to)) return;
    // Somewhere in there is a block that cannot be read: the others are still worth comparing.
    for (let block = from; block < to; block += 1) {
      if (!valid(block) || (await this.compareRange(slot, table, piece, block, block + 1))) continue;
      this.unreadable(table, block);
    }
  }

  /** Reads blocks and compares the valid ones. Returns false if they cannot be read. */
  private async compareRange(
    slot: number,
    table: TableImage,
    piece: number,
    from: number,
    to: number,
  ): Promise<boolean> {
    const { layout } = this.image.superblock;
    const { words } = table;
    check(piece < CONTROL_PIECES - 2, 'slots are compared in more memory than there is', piece);
    check(
      (to - from) * BLOCK_BYTES <= CONTROL_PIECE_BYTES,
      'a slot does not fit the memory that it is compared in',
      slot,
    );
    const memory = this.scratch + piece * CONTROL_PIECE_BYTES;
    const checksums = this.scratch + (CONTROL_PIECES - 2) * CONTROL_PIECE_BYTES + piece * PAGE_BYTES;
    const offset = layout.dataOffset + slot * layout.slotBytes + from * BLOCK_BYTES;
    const result = await this.io.read(memory, (to - from) * BLOCK_BYTES, offset, checksums);
    if (result < 0) return false;
    const found = new Uint32Array(this.memory.bytes.buffer, this.memory.bytes.byteOffset + checksums, to - from);
    for (let block = from; block < to; block += 1) {
      const word = block * ENTRY_WORDS;
      if ((words[word + ENTRY_FLAGS] & BLOCK_VALID) === 0) continue;
      if (found[block - from] !== words[word + ENTRY_CHECKSUM]) this.mismatch(table, block);
    }
    return true;
  }

  /**
   * A block that cannot be read may be what its entry says, so its first write must not be taken for one that never
   * happened. Nor may its content be accepted later, unseen: it may be another volume's.
   */
  private unreadable({ words, firstIn }: TableImage, block: BlockIndex): void {
    const young = firstIn[block] > this.image.durableSequence;
    words[block * ENTRY_WORDS + ENTRY_FLAGS] = young ? BLOCK_POISON : BLOCK_VALID | BLOCK_SUSPECT;
    if (young) words[block * ENTRY_WORDS + ENTRY_CHECKSUM] = 0;
    else this.suspectBlocks += 1;
    this.changed = true;
  }

  private mismatch({ words, firstIn, before }: TableImage, block: BlockIndex): void {
    const word = block * ENTRY_WORDS;
    check((words[word + ENTRY_FLAGS] & BLOCK_VALID) !== 0, 'a block is doubted that has no content', block);
    this.changed = true;
    if (firstIn[block] > this.image.durableSequence) {
      // Its first write was under way, and nobody was promised that it stays.
      words.set(before.subarray(word, word + ENTRY_WORDS), word);
      this.droppedBlocks += 1;
    } else {
      words[word + ENTRY_FLAGS] |= BLOCK_SUSPECT;
      this.suspectBlocks += 1;
    }
  }
}
