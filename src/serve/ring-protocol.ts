/**
 * The entries of the rings between an in-process client and a shard.
 *
 * ```text
 *   request   0 operation · 1 tag · 2 device · 3 length · 4-5 offset (float64) · 6 memory · 7 flags · 8-9 span (float64)
 *   reply     0 kind · 1 tag · 2 result · 3 flags · 4 memory (of what was late)
 * ```
 *
 * The client owns the buffers that `memory` points to; they lie in the shard's memory, so payloads are copied once, by the
 * client, and nowhere else. A buffer whose reply has `COMPLETION_ABANDONED` stays out of use until a `REPLY_LATE` names it.
 */

export const REQUEST_READ = 1;
export const REQUEST_WRITE = 2;
export const REQUEST_FLUSH = 3;
export const REQUEST_DISCARD = 4;
export const REQUEST_ZERO = 5;

export const REPLY_DONE = 1;
export const REPLY_LATE = 2;
