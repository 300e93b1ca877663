/** Pages of lists (`src/ports/segment-list.ts`) as frames, and back. */

import { check } from '../core/check.js';
import { getUint48, putUint48 } from '../layout/fields.js';
import { DIGEST_CHUNKS } from '../ports/limits.js';
import type { Memory } from '../ports/memory.js';
import { CHUNK_DOUBT, LIST_DIGESTS, type SegmentList } from '../ports/segment-list.js';
import { type Frame, putHeader } from './frame.js';
import type { FrameProblem } from './framing.js';
import { LISTED_CHUNK_MAX } from './limits.js';
import {
  HEADER_BYTES,
  KIND_LIST,
  KIND_REPLY,
  LIST_AT_CURSOR,
  LIST_AT_END,
  LIST_AT_GENERATION,
  LIST_AT_KIND,
  LIST_AT_NUMBER,
  LIST_BYTES,
  LISTED_AT_CHUNK,
  LISTED_AT_GENERATION,
  LISTED_AT_NUMBER,
  LISTED_AT_STATE,
  LISTED_BYTES,
  PAGE_AT_NEXT,
  PAGE_BYTES,
  REPLY_LIST,
  STATUS_BAD_FRAME,
  STATUS_OK,
} from './messages.js';
import { type Answer, putAnswer } from './reply-codec.js';
import { getWhole, putWhole, type ReplicaAddress } from './request-codec.js';

const ONES = 0xffff_ffff;

/** Writes a request for a page of a list to `at`, with the request id that the frame has. Returns the bytes of the frame. */
export function encodeList(
  memory: Memory,
  frame: Frame,
  at: number,
  list: SegmentList,
  address: ReplicaAddress,
): number {
  const { view } = memory;
  frame.begin(KIND_LIST, 0, frame.request);
  address.put(frame);
  frame.chunk = list.firstChunk;
  frame.count = list.most;
  frame.payload = LIST_BYTES;
  const payload = at + HEADER_BYTES;
  putWhole(view, payload + LIST_AT_END, list.endChunk);
  putWhole(view, payload + LIST_AT_CURSOR, list.cursor);
  putWhole(view, payload + LIST_AT_GENERATION, list.sinceGeneration);
  putWhole(view, payload + LIST_AT_NUMBER, list.sinceNumber);
  view.setUint32(payload + LIST_AT_KIND, list.kind, true);
  view.setUint32(payload + LIST_AT_KIND + 4, 0, true);
  frame.vectorSum = memory.checksum(payload, LIST_BYTES);
  putHeader(memory, at, frame, false);
  return HEADER_BYTES + LIST_BYTES;
}

/**
 * Fills the record of a list that the frame asks for; its payload lies at `payload`. Whether it is a list is the member's to say
 * (`listError`). Returns what is wrong, or null.
 */
export function decodeList(memory: Memory, frame: Frame, payload: number, list: SegmentList): FrameProblem | null {
  const { view } = memory;
  list.kind = view.getUint8(payload + LIST_AT_KIND);
  list.firstChunk = frame.chunk;
  list.most = frame.count;
  list.endChunk = getWhole(view, payload + LIST_AT_END);
  list.cursor = getWhole(view, payload + LIST_AT_CURSOR);
  list.sinceGeneration = getWhole(view, payload + LIST_AT_GENERATION);
  list.sinceNumber = getWhole(view, payload + LIST_AT_NUMBER);
  list.count = 0;
  list.next = -1;
  const least = Math.min(list.endChunk, list.cursor, list.sinceGeneration, list.sinceNumber);
  if (least < 0) return { status: STATUS_BAD_FRAME, message: 'LIST: one of its numbers is beyond 2^53' };
  for (let at = LIST_AT_KIND + 1; at < LIST_BYTES; at += 1) {
    if (view.getUint8(payload + at) === 0) continue;
    return { status: STATUS_BAD_FRAME, message: `LIST: byte ${at} of its payload is not zero` };
  }
  return null;
}

/** Bytes of the frame that answers with a page. */
export function listReplyBytes({ count }: SegmentList): number {
  return HEADER_BYTES + PAGE_BYTES + count * LISTED_BYTES;
}

/** Writes the answer with a page to `at`, which has room for `listReplyBytes`. An error has no page, and is packed. */
export function encodeListReply(memory: Memory, frame: Frame, at: number, answer: Answer, list: SegmentList): void {
  check(answer.status === STATUS_OK, 'a page is answered that there is not', answer.status);
  check(list.count <= list.most, 'a page of a list has too many entries', list.count);
  const { view } = memory;
  frame.begin(KIND_REPLY, REPLY_LIST, answer.request);
  putAnswer(frame, answer);
  frame.offset = list.count;
  frame.payload = listReplyBytes(list) - HEADER_BYTES;
  const payload = at + HEADER_BYTES;
  if (list.next >= 0) putWhole(view, payload + PAGE_AT_NEXT, list.next);
  else {
    view.setUint32(payload + PAGE_AT_NEXT, ONES, true);
    view.setUint32(payload + PAGE_AT_NEXT + 4, ONES, true);
  }
  for (let index = 0; index < list.count; index += 1) {
    const to = payload + PAGE_BYTES + index * LISTED_BYTES;
    check(list.chunks[index] <= LISTED_CHUNK_MAX, 'a chunk has no room in a list', list.chunks[index]);
    putUint48(view, to + LISTED_AT_CHUNK, list.chunks[index]);
    view.setUint16(to + LISTED_AT_STATE, list.states[index], true);
    putWhole(view, to + LISTED_AT_GENERATION, list.generations[index]);
    putWhole(view, to + LISTED_AT_NUMBER, list.flushNumbers[index]);
  }
  frame.vectorSum = memory.checksum(payload, frame.payload);
  putHeader(memory, at, frame, true);
}

/** Fills the page that was asked for. Returns in words why it is no answer, or null; an error of the member has no page. */
export function decodeListReply(memory: Memory, frame: Frame, payload: number, list: SegmentList): string | null {
  const { view } = memory;
  list.count = 0;
  list.next = -1;
  if (frame.count !== STATUS_OK) return (frame.flags & REPLY_LIST) === 0 ? null : 'it has a page, and an error';
  if (frame.flags !== REPLY_LIST) return `flags ${frame.flags} are no answer to a list`;
  const count = frame.offset;
  if (count > list.most || frame.payload !== PAGE_BYTES + count * LISTED_BYTES) {
    return `${frame.payload} bytes are no page of ${count} entries, of which ${list.most} were asked for`;
  }
  const last = view.getUint32(payload + PAGE_AT_NEXT, true) === ONES && view.getUint32(payload + 4, true) === ONES;
  list.next = last ? -1 : getWhole(view, payload + PAGE_AT_NEXT);
  if (!last && list.next < 0) return 'where it goes on is beyond 2^53';
  for (let index = 0; index < count; index += 1) {
    const at = payload + PAGE_BYTES + index * LISTED_BYTES;
    const generation = getWhole(view, at + LISTED_AT_GENERATION);
    const number = getWhole(view, at + LISTED_AT_NUMBER);
    const state = view.getUint16(at + LISTED_AT_STATE, true);
    if (generation < 0 || number < 0) return 'a stamp of a chunk is beyond 2^53';
    if (state > CHUNK_DOUBT) return `a chunk is in state ${state}, which is none`;
    list.add(getUint48(view, at + LISTED_AT_CHUNK), generation, number, state);
  }
  return null;
}

/** Why a page that was answered is none of the list that was asked for: in words, or null. */
export function pageError({ kind, firstChunk, endChunk, cursor, next, count, chunks }: SegmentList): string | null {
  if (next >= 0 && next <= cursor) return `a list goes on at ${next}, and its page began at ${cursor}`;
  // A digest is of a range, which reaches beyond the number that it is listed under.
  const reach = kind === LIST_DIGESTS ? DIGEST_CHUNKS : 1;
  for (let at = 0; at < count; at += 1) {
    if (chunks[at] < endChunk && chunks[at] + reach > firstChunk) continue;
    return `chunk ${chunks[at]} is none of those from ${firstChunk} to ${endChunk}`;
  }
  return null;
}
