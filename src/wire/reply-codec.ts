/**
 * Answers as frames, and back. What has no payload is packed, many in one frame; the others have a frame each. Nothing here makes
 * objects.
 */

import { check } from '../core/check.js';
import { BLOCK_BYTES } from '../core/limits.js';
import { ENTRY_WORDS } from '../layout/block-entry.js';
import type { Memory } from '../ports/memory.js';
import {
  type BlockBits,
  REQUEST_ACCEPT,
  REQUEST_ENTRIES,
  REQUEST_READ,
  type SegmentRequest,
} from '../ports/segment-request.js';
import { type Frame, putHeader } from './frame.js';
import { STATUS_ERRNO_MAX } from './limits.js';
import {
  BITS_BYTES,
  ENTRY_BYTES,
  HEADER_BYTES,
  KIND_REPLIES,
  KIND_REPLY,
  PACKED_AT_DEPTH,
  PACKED_AT_ENTRIES,
  PACKED_AT_FENCE,
  PACKED_AT_FILL,
  PACKED_AT_GRAINS,
  PACKED_AT_INCARNATION,
  PACKED_AT_REQUEST,
  PACKED_AT_STATUS,
  PACKED_AT_VALUE,
  PACKED_BYTES,
  REPLY_BAD,
  REPLY_BLOCKS,
  REPLY_ENTRIES,
  REPLY_LEFT,
  replyBlocks,
  STATUS_OK,
  SUM_BYTES,
} from './messages.js';
import { getEntries, putEntries, putSums } from './request-codec.js';

const WORD = 2 ** 32;
const HALF = 2 ** 16;

/** What every answer tells, made once and used again. */
export class Answer {
  /** Id of the request; of a packed answer only the lower 32 bits of it. */
  request = 0;
  /** `STATUS_*`, or the number of an error. */
  status = STATUS_OK;
  /** Bytes, a count, or microseconds. */
  value = 0;
  /** Of the device; of a packed answer the lower 32 bits. */
  incarnation = 0;
  /** Data operations in flight on the device. */
  depth = 0;
  /** `FENCE_*`: what the device still accepts. */
  fence = 0;
  /** Of the log's ring, in 255ths. */
  fill = 0;
  /** Granted in all; of a packed answer modulo 2^16. */
  grains = 0;
  entries = 0;

  /** Takes the result of a member's request: a count, or a negative errno. */
  result(result: number): this {
    check(result >= -STATUS_ERRNO_MAX, 'a result is no number of an error', result);
    this.status = result < 0 ? -result : STATUS_OK;
    this.value = result < 0 ? 0 : result;
    return this;
  }

  /** A count, or a negative errno; statuses of the protocol have no result. */
  get asResult(): number {
    check(this.status <= STATUS_ERRNO_MAX, 'a status of the protocol is taken for an error', this.status);
    return this.status === STATUS_OK ? this.value : -this.status;
  }
}

// ---- packed

/** Writes a packed answer. */
export function putPacked(view: DataView, at: number, answer: Answer): void {
  view.setUint32(at + PACKED_AT_REQUEST, answer.request % WORD, true);
  view.setUint32(at + PACKED_AT_STATUS, answer.status, true);
  view.setUint32(at + PACKED_AT_VALUE, answer.value, true);
  view.setUint32(at + PACKED_AT_INCARNATION, answer.incarnation % WORD, true);
  view.setUint16(at + PACKED_AT_DEPTH, Math.min(answer.depth, HALF - 1), true);
  view.setUint8(at + PACKED_AT_FILL, answer.fill);
  view.setUint8(at + PACKED_AT_FENCE, answer.fence);
  view.setUint16(at + PACKED_AT_GRAINS, answer.grains % HALF, true);
  view.setUint16(at + PACKED_AT_ENTRIES, answer.entries % HALF, true);
}

/** Reads a packed answer. */
export function getPacked(view: DataView, at: number, answer: Answer): void {
  answer.request = view.getUint32(at + PACKED_AT_REQUEST, true);
  answer.status = view.getUint32(at + PACKED_AT_STATUS, true);
  answer.value = view.getUint32(at + PACKED_AT_VALUE, true);
  answer.incarnation = view.getUint32(at + PACKED_AT_INCARNATION, true);
  answer.depth = view.getUint16(at + PACKED_AT_DEPTH, true);
  answer.fill = view.getUint8(at + PACKED_AT_FILL);
  answer.fence = view.getUint8(at + PACKED_AT_FENCE);
  answer.grains = view.getUint16(at + PACKED_AT_GRAINS, true);
  answer.entries = view.getUint16(at + PACKED_AT_ENTRIES, true);
}

/** Where the packed answer with this index lies, in a frame whose header is at `at`. */
export function packedAt(at: number, index: number): number {
  return at + HEADER_BYTES + index * PACKED_BYTES;
}

/** Writes the header before so many packed answers. Returns the bytes of the frame. */
export function encodeReplies(memory: Memory, frame: Frame, at: number, count: number): number {
  frame.begin(KIND_REPLIES, 0, 0);
  frame.count = count;
  frame.payload = count * PACKED_BYTES;
  frame.vectorSum = memory.checksum(at + HEADER_BYTES, frame.payload);
  putHeader(memory, at, frame, true);
  return HEADER_BYTES + frame.payload;
}

// ---- with a payload

/** What the answer of a request bears: `REPLY_*`; 0 if it can be packed. */
export function replyFlags({ kind, bad, left }: SegmentRequest, result: number): number {
  let flags = (bad.count > 0 ? REPLY_BAD : 0) | (left.count > 0 ? REPLY_LEFT : 0);
  if (result >= 0 && (kind === REQUEST_READ || kind === REQUEST_ACCEPT)) flags |= REPLY_BLOCKS;
  if (result >= 0 && kind === REQUEST_ENTRIES) flags |= REPLY_ENTRIES;
  return flags;
}

/** Bytes of header and vector of such an answer, which come before its blocks. */
export function replyHeadBytes(flags: number, blocks: number): number {
  const bits = ((flags & REPLY_BAD) !== 0 ? BITS_BYTES : 0) + ((flags & REPLY_LEFT) !== 0 ? BITS_BYTES : 0);
  const each = (flags & REPLY_BLOCKS) !== 0 ? SUM_BYTES : (flags & REPLY_ENTRIES) !== 0 ? ENTRY_BYTES : 0;
  return HEADER_BYTES + bits + each * blocks;
}

/** Sets the fields that every answer has. */
export function putAnswer(frame: Frame, answer: Answer): void {
  frame.request = answer.request;
  frame.count = answer.status;
  frame.offset = answer.value;
  frame.incarnation = answer.incarnation;
  frame.depth = Math.min(answer.depth, HALF - 1);
  frame.class = answer.fence;
  frame.fill = answer.fill;
  frame.grains = answer.grains;
  frame.entries = answer.entries;
}

/** What a reply with a header of its own tells. */
export function getAnswer(frame: Frame, answer: Answer): void {
  answer.request = frame.request;
  answer.status = frame.count;
  answer.value = frame.offset;
  answer.incarnation = frame.incarnation;
  answer.depth = frame.depth;
  answer.fence = frame.class;
  answer.fill = frame.fill;
  answer.grains = frame.grains;
  answer.entries = frame.entries;
}

/**
 * Writes header and vector of the answer of a request to `at`, which has room for `replyHeadBytes`. The blocks that were read lie
 * at `from`. Returns the bytes of header and vector.
 */
export function encodeReply(
  memory: Memory,
  frame: Frame,
  at: number,
  answer: Answer,
  request: SegmentRequest,
  from: number,
): number {
  const { blocks, entries } = request;
  const flags = replyFlags(request, answer.asResult);
  frame.begin(KIND_REPLY, flags, answer.request);
  putAnswer(frame, answer);
  let to = at + HEADER_BYTES;
  if ((flags & REPLY_BAD) !== 0) to = putBits(memory.view, to, request.bad);
  if ((flags & REPLY_LEFT) !== 0) to = putBits(memory.view, to, request.left);
  if ((flags & REPLY_BLOCKS) !== 0) putSums(memory, to, from, blocks, request.summed ? request.sums : null);
  if ((flags & REPLY_ENTRIES) !== 0) {
    const words = blocks * ENTRY_WORDS;
    check(entries !== null && entries.length >= words, 'entries are answered that are not there', words);
    putEntries(memory.view, to, entries, words);
  }
  const head = replyHeadBytes(flags, blocks);
  const vectorBytes = head - HEADER_BYTES;
  frame.payload = vectorBytes + ((flags & REPLY_BLOCKS) !== 0 ? blocks * BLOCK_BYTES : 0);
  frame.vectorSum = vectorBytes === 0 ? 0 : memory.checksum(at + HEADER_BYTES, vectorBytes);
  putHeader(memory, at, frame, true);
  return head;
}

function putBits(view: DataView, at: number, bits: BlockBits): number {
  bits.put(view, at);
  return at + BITS_BYTES;
}

/** Where the sums of the blocks of a reply lie within its vector. */
export function replySumsAt(flags: number): number {
  return replyHeadBytes(flags & (REPLY_BAD | REPLY_LEFT), 0) - HEADER_BYTES;
}

/**
 * Fills the answer into the record of the request that it belongs to: bits and entries; blocks are received to where the record
 * says. Returns in words why it is no answer to that request, or null.
 *
 * @param vector where the vector lies, which has the right sum
 */
export function decodeReply(memory: Memory, frame: Frame, vector: number, request: SegmentRequest): string | null {
  const { flags, payload, count: status, offset: value } = frame;
  const { blocks, kind } = request;
  request.bad.clear();
  request.left.clear();
  if (status > STATUS_ERRNO_MAX)
    return (flags & (REPLY_BLOCKS | REPLY_ENTRIES)) === 0 ? null : 'it bears what was refused';
  const wanted = wantedFlags(kind, status);
  if ((flags & ~(REPLY_BAD | REPLY_LEFT)) !== wanted) return `flags ${flags} are no answer of status ${status}`;
  let at = vector;
  if ((flags & REPLY_BAD) !== 0) {
    if (!request.bad.take(memory.view, at, Math.max(1, blocks))) return 'it names blocks beyond those asked for';
    at += BITS_BYTES;
  }
  if ((flags & REPLY_LEFT) !== 0) {
    if (!request.left.take(memory.view, at, Math.max(1, blocks))) return 'it left blocks beyond those asked for';
    at += BITS_BYTES;
  }
  if ((flags & REPLY_BLOCKS) !== 0) {
    const count = replyBlocks(flags, payload);
    if (count !== blocks || value !== blocks * BLOCK_BYTES) return `${count} blocks answer for ${blocks}`;
  }
  if ((flags & REPLY_ENTRIES) !== 0) {
    const count = (payload - (at - vector)) / ENTRY_BYTES;
    if (count !== blocks) return `${count} entries answer for ${blocks} blocks`;
    const words = blocks * ENTRY_WORDS;
    const { entries } = request;
    check(entries !== null && entries.length >= words, 'entries were asked for without room for them', words);
    getEntries(memory.view, at, entries, words);
  }
  return null;
}

/** What the answer of a request of this kind bears, beside bits. */
function wantedFlags(kind: number, status: number): number {
  if (status !== STATUS_OK) return 0;
  if (kind === REQUEST_READ || kind === REQUEST_ACCEPT) return REPLY_BLOCKS;
  return kind === REQUEST_ENTRIES ? REPLY_ENTRIES : 0;
}
