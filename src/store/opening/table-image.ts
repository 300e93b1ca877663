/** A block table while it is read and replayed. */

/** No first write of the block is in the journal. */
export const BLOCK_FIRST_NONE = 0;

export interface TableImage {
  /** The entries, four words each. */
  readonly words: Uint32Array;
  /** For each block the batch that made its first write valid, negative if it was poison before, or `BLOCK_FIRST_NONE`. */
  readonly firstIn: Float64Array;
  /** The table on the device was damaged: all entries are poison. */
  readonly damaged: boolean;
}
