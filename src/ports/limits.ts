/** Bounds that ports promise to keep. */

/** Blocks of a chunk, which is as large as a slot of its devices: 1 MiB at most, in blocks of 4 KiB. */
export const CHUNK_BLOCKS_MAX = 256;
/** Chunks, or digests, in one page of a list. */
export const LIST_PAGE_CHUNKS = 4096;
/** Chunks that one digest stands for. */
export const DIGEST_CHUNKS = 4096;

/** Parts of 2^16 tokens that handlers may have; the engine keeps the last 2^22 tokens to itself. */
export const HANDLER_SLOTS_MAX = 2 ** 16 - 2 ** 6;
