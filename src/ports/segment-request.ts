/**
 * What a volume engine asks of a member of a volume: one record for each operation in flight, made once and used again.
 *
 * The same record is handed over by a call to a store in this process, or encoded for one behind a connection. So it holds
 * numbers, places in the arena, and words that belong to whoever asks; nothing in it belongs to the other side. From `submit`
 * until its token ends a record is the member's: whoever asks changes nothing in it, and the member alone fills the answer.
 *
 * ```text
 *   kind      chunk  block, blocks  memory  source  stamp, generation, flush number  flags                    entries
 *   READ        x         x           x                                              SETTLED                   -
 *   WRITE       x         x           x       x                  x                   FUA NEWER SAME COPY       SAME, COPY
 *   ZERO        x         x                                      x                   FUA KEEP NEWER SAME       SAME
 *   ALLOCATE    x                                           the last two                                       -
 *   RELEASE     x                                           the last two             RELEASE_ZERO              -
 *   ENTRIES     x         x                                                                                    answer
 *   ACCEPT      x         x           x                     the last two                                       -
 *   POISON      x         x                                      x                   NEWER or SAME             SAME
 *   FLUSH                                                   the last two             MARKED                    -
 *   AGREED                                                  the last two                                       -
 *   RESTAMP     x                                           the last two                                       -
 * ```
 *
 * A *chunk* is a slot-sized part of the volume, named by its number; blocks are counted within it. Generation and flush number
 * are those that a modification is recorded under: the chunk's stamp becomes them, unless it is higher already.
 *
 * Conditions are decided block by block when the block's entry is in memory, after every earlier modification of the block. A
 * block of which one does not hold is *left*: nothing of it changes, the operation succeeds, and the answer says so.
 */

import type { BlockCount, BlockIndex, ChunkIndex, FlushNumber, Generation } from './ids.js';
import { CHUNK_BLOCKS_MAX } from './limits.js';
import type { Memory } from './memory.js';

/**
 * Reads blocks to `memory`; those never written, and those of a chunk without a slot, are zeroes. Result: the bytes. With
 * `-EBADMSG` or `-ENODATA`, `bad` names the blocks that cannot be read; the others may or may not have been read. With
 * `REQUEST_SETTLED` also `-EAGAIN`.
 */
export const REQUEST_READ = 0;
/**
 * Writes blocks of an allocated chunk from `memory`. Survives the death of the process once it has ended, and loss of power after
 * the next `REQUEST_FLUSH`, or at once with `REQUEST_FUA`. Result: the bytes, those of blocks that were left included;
 * `-EBADMSG` if the content has other sums than `sums` says: then nothing of it has been written.
 */
export const REQUEST_WRITE = 1;
/**
 * Makes blocks of an allocated chunk zero, with the stamp, without storing them. The chunk keeps its slot until it is
 * released. Result: 0.
 */
export const REQUEST_ZERO = 2;
/** Gives the chunk a slot, durably; does nothing if it has one. Result: 0, `-ENOSPC` or another error. */
export const REQUEST_ALLOCATE = 3;
/**
 * Gives the chunk's slot back; does nothing if it has none. With `REQUEST_RELEASE_ZERO` only if no block is stored or kept, else
 * it is left: `left` counts 1. The caller starts no other modification in the chunk meanwhile. Result: 0.
 */
export const REQUEST_RELEASE = 4;
/** Fills `entries`, from its beginning on, with the entries of the blocks; none is set where there is no slot. Result: 0. */
export const REQUEST_ENTRIES = 5;
/**
 * Ends doubt about all suspect blocks of the range: takes the content that is there as it is, with the stamps that they have.
 * It is read to `memory`, which takes the whole range. The caller keeps other operations away. Result: the bytes.
 */
export const REQUEST_ACCEPT = 6;
/**
 * Makes blocks unreadable, with the stamp: their content is lost. It bears a condition always, `REQUEST_SAME` with the entries
 * that the loss was found by, or `REQUEST_NEWER`: what has been written since is not lost. The caller keeps other operations
 * away. Result: 0.
 */
export const REQUEST_POISON = 7;
/**
 * Makes durable what has ended on this device. A failure is final: the device is fenced. `settledGeneration` and
 * `settledNumber` are what the last flush of the volume that has finished made durable: everything recorded below is on every
 * member in-sync. With `REQUEST_MARKED` it is remembered that this was the volume's flush of this generation and number.
 * Result: 0.
 */
export const REQUEST_FLUSH = 8;
/** All copies agree as of this generation and flush number: nothing of the volume is in doubt here any more. Result: 0. */
export const REQUEST_AGREED = 9;
/**
 * The chunk holds what another copy holds that is recorded under this generation and flush number: it is recorded under them
 * from now on, whatever it was before, and is in doubt no more. Durable with the next flush at the latest, and never before
 * what has ended in the chunk, unless a crash puts it in doubt again. Does nothing without a slot. The caller keeps
 * modifications of the chunk away. Result: 0, or `-EBUSY` while one is in progress.
 */
export const REQUEST_RESTAMP = 10;
/** Kinds are below. */
export const REQUEST_KINDS = 11;

/** Durable when it ends; the same as `DEVICE_FUA`. */
export const REQUEST_FUA = 1;
/** Of zeroes: their space is kept, so that the chunk is not released; the same as `DEVICE_KEEP_ALLOCATED`. */
export const REQUEST_KEEP = 2;
/** Of a release: only if nothing in the chunk is stored or kept. */
export const REQUEST_RELEASE_ZERO = 4;
/**
 * A block is left unless the stamp is higher than the one that it has, or the same and the block is in doubt. What is sent again,
 * and what may be late, bears this; the same write comes to the same end however often it arrives.
 */
export const REQUEST_NEWER = 8;
/**
 * A block is left unless its entry is the one in `entries`: checksum, flags and stamp. That is for what has no stamp of its own
 * that could order it, and for repair, whose stamp the block has already.
 */
export const REQUEST_SAME = 16;
/**
 * The blocks are copies of another member's, and `entries` are those that they have there: each gets its stamp from there instead
 * of the record's. With `REQUEST_NEWER` a block is left unless that one is higher than its own, or the same while the entries
 * differ or the block is in doubt, or its own is of an earlier generation than the member's map: the copies of that map have
 * agreed without it, so it is nothing that was ever acknowledged and is still to be read. With `REQUEST_SAME` the entries
 * expected come first in `entries`, and those of the source follow them.
 */
export const REQUEST_COPY = 32;
/** Of a flush: it is remembered. */
export const REQUEST_MARKED = 64;
/**
 * Of a read: ends with `-EAGAIN` if the chunk was recorded under a flush that is not settled, or is in doubt, when it ends. Else
 * every member in-sync has what was read, or something later: nobody who reads afterwards, at whichever of them, finds
 * anything earlier.
 */
export const REQUEST_SETTLED = 128;
/** All flags. */
export const REQUEST_FLAGS = 255;

const BITS = 32;

/** Blocks of a request, by their position in it. */
export class BlockBits {
  /** How many. */
  count = 0;
  private readonly words = new Uint32Array(CHUNK_BLOCKS_MAX / BITS);

  add(index: number): void {
    if (index < 0 || index >= CHUNK_BLOCKS_MAX) throw new RangeError(`block ${index} lies outside of a chunk`);
    if (this.has(index)) return;
    this.words[index >>> 5] |= 1 << (index & (BITS - 1));
    this.count += 1;
  }

  has(index: number): boolean {
    return (this.words[index >>> 5] & (1 << (index & (BITS - 1)))) !== 0;
  }

  clear(): void {
    if (this.count === 0) return;
    this.words.fill(0);
    this.count = 0;
  }

  /** Writes them as 32 bytes, block 0 in the lowest bit of the first. */
  put(view: DataView, at: number): void {
    for (let word = 0; word < this.words.length; word += 1) view.setUint32(at + 4 * word, this.words[word], true);
  }

  /** Reads what `put` has written. Returns false, and is empty, if a block at or beyond `blocks` is among them. */
  take(view: DataView, at: number, blocks: number): boolean {
    this.clear();
    for (let index = 0; index < CHUNK_BLOCKS_MAX; index += 1) {
      if (((view.getUint8(at + (index >>> 3)) >>> (index & 7)) & 1) === 0) continue;
      if (index >= blocks) {
        this.clear();
        return false;
      }
      this.add(index);
    }
    return true;
  }
}

export class SegmentRequest {
  kind = REQUEST_READ;
  chunk: ChunkIndex = 0;
  /** First block within the chunk, and how many. */
  block: BlockIndex = 0;
  blocks: BlockCount = 0;
  /** Where in the arena the blocks are, or go to. */
  memory = 0;
  /**
   * Where `sourceBytes` of payload are copied from to `memory` first; -1 if it is in place. It is free again when the batch is
   * submitted. A member copies them whatever comes of the request: others that are asked for the same find it in place.
   */
  source = -1;
  sourceBytes = 0;
  /** The 64-bit write stamp, in two words. */
  stampLow = 0;
  stampHigh = 0;
  /** What it is recorded under. */
  generation: Generation = 0;
  flushNumber: FlushNumber = 0;
  /** Of a flush. */
  settledGeneration: Generation = 0;
  settledNumber: FlushNumber = 0;
  /** `REQUEST_FUA` and so on. */
  flags = 0;
  /** `ENTRY_WORDS` (`src/layout/block-entry.ts`) for each block. */
  entries: Uint32Array | null = null;
  /**
   * The CRC32C of each block; null if whoever asks has none, or wants none. Of a write they are there: a member that *compares*
   * them (`SegmentMember.compares`) does so before its device sees the content, unless they are proven. Of a read they are
   * filled where `summed` says so.
   */
  sums: Uint32Array | null = null;
  /** Of a write: whoever asks has summed this very content. Nobody has to do that again. */
  proven = false;
  /** Ends with the result: a count or a negative errno. */
  token = 0;

  /** Of the answer: `sums` are those of what was read. */
  summed = false;
  /** Of the answer: blocks that cannot be read. */
  readonly bad = new BlockBits();
  /** Of the answer: blocks that were left because a condition did not hold. */
  readonly left = new BlockBits();

  /** Copies the payload to its place, if it is not there. */
  bring(memory: Memory): void {
    if (this.source < 0) return;
    memory.copy(this.memory, this.source, this.sourceBytes);
    this.source = -1;
  }

  /** Sets what every kind has, and takes back what an earlier use has left. */
  begin(kind: number, chunk: ChunkIndex, token: number): this {
    this.settledGeneration = 0;
    this.settledNumber = 0;
    this.kind = kind;
    this.chunk = chunk;
    this.token = token;
    this.block = 0;
    this.blocks = 0;
    this.source = -1;
    this.flags = 0;
    this.entries = null;
    this.sums = null;
    this.proven = false;
    this.summed = false;
    this.bad.clear();
    this.left.clear();
    return this;
  }
}
