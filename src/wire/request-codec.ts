/**
 * Requests of a member (`src/ports/segment-request.ts`) as frames, and back. Nothing here makes objects.
 *
 * ```text
 *   the page before a buffer                                          the buffer
 *   │ ...                        │ header │ vector │ blocks ...                 │
 *                                 ▲ at              ▲ payload: what leaves is one piece
 * ```
 *
 * A vector of entries may be longer than that page; then header and vector are written elsewhere, and leave as a piece of their
 * own.
 */

import { check } from '../core/check.js';
import { BLOCK_BYTES } from '../core/limits.js';
import { BLOCK_VALID, ENTRY_CHECKSUM, ENTRY_FLAGS, ENTRY_WORDS } from '../layout/block-entry.js';
import type { GroupIndex, MapVersion, MemberPosition } from '../ports/ids.js';
import { CHUNK_BLOCKS_MAX } from '../ports/limits.js';
import type { Memory } from '../ports/memory.js';
import {
  REQUEST_COPY,
  REQUEST_ENTRIES,
  REQUEST_FLUSH,
  REQUEST_FUA,
  REQUEST_KEEP,
  REQUEST_MARKED,
  REQUEST_NEWER,
  REQUEST_RELEASE_ZERO,
  REQUEST_SAME,
  REQUEST_SETTLED,
  REQUEST_WRITE,
  type SegmentRequest,
} from '../ports/segment-request.js';
import { type Frame, putHeader, VolumeWords } from './frame.js';
import type { FrameProblem } from './framing.js';
import { clearUnused } from './header-fields.js';
import {
  ENTRY_BYTES,
  FLAG_COPY,
  FLAG_FUA,
  FLAG_IF_ZERO,
  FLAG_KEEP,
  FLAG_MARKED,
  FLAG_NEWER,
  FLAG_SAME,
  FLAG_SETTLED,
  FLUSH_AT_GROUP,
  FLUSH_AT_MAP_VERSION,
  FLUSH_AT_SETTLED_GENERATION,
  FLUSH_AT_SETTLED_NUMBER,
  FLUSH_BYTES,
  HEADER_BYTES,
  isRequest,
  KIND_REQUEST,
  requestBlockBytes,
  requestVectorBytes,
  STATUS_BAD_FRAME,
  SUM_BYTES,
} from './messages.js';

/**
 * Of which replica something is asked, and what is said in each request about it. Made once; the client changes it as maps do.
 */
export class ReplicaAddress {
  readonly volume = new VolumeWords();
  group: GroupIndex = 0;
  /** Index of the member in the map. */
  member: MemberPosition = 0;
  mapVersion: MapVersion = 0;
  /** The device's incarnation that is expected; 0 for any. */
  incarnation = 0;
  clusterEpoch = 0;
  session = 0;
  /** 0 for clients, 1 for jobs. */
  class = 0;

  /** What a frame that came says of it. */
  take({ volume, group, member, mapVersion, incarnation, clusterEpoch, session, class: priority }: Frame): void {
    this.volume.copy(volume);
    this.group = group;
    this.member = member;
    this.mapVersion = mapVersion;
    this.incarnation = incarnation;
    this.clusterEpoch = clusterEpoch;
    this.session = session;
    this.class = priority;
  }

  put(frame: Frame): void {
    frame.volume.copy(this.volume);
    frame.group = this.group;
    frame.member = this.member;
    frame.mapVersion = this.mapVersion;
    frame.incarnation = this.incarnation;
    frame.clusterEpoch = this.clusterEpoch;
    frame.session = this.session;
    frame.class = this.class;
  }
}

/** A flag of a record, and that of its frame. */
const FLAGS: readonly (readonly [record: number, frame: number])[] = [
  [REQUEST_FUA, FLAG_FUA],
  [REQUEST_KEEP, FLAG_KEEP],
  [REQUEST_RELEASE_ZERO, FLAG_IF_ZERO],
  [REQUEST_NEWER, FLAG_NEWER],
  [REQUEST_SAME, FLAG_SAME],
  [REQUEST_COPY, FLAG_COPY],
  [REQUEST_MARKED, FLAG_MARKED],
  [REQUEST_SETTLED, FLAG_SETTLED],
];

function frameFlags(flags: number): number {
  let found = 0;
  for (const [record, frame] of FLAGS) if ((flags & record) !== 0) found |= frame;
  return found;
}

function recordFlags(flags: number): number {
  let found = 0;
  for (const [record, frame] of FLAGS) if ((flags & frame) !== 0) found |= record;
  return found;
}

/** Bytes of header and vector of a request, which come before its blocks. */
export function requestHeadBytes({ kind, flags, blocks }: SegmentRequest): number {
  if (kind === REQUEST_FLUSH) return HEADER_BYTES + FLUSH_BYTES;
  return HEADER_BYTES + requestVectorBytes(KIND_REQUEST + kind, frameFlags(flags), blocks);
}

/** Bytes of all that follows the header of a request. */
export function requestPayloadBytes(request: SegmentRequest): number {
  const { kind, blocks } = request;
  return requestHeadBytes(request) - HEADER_BYTES + requestBlockBytes(KIND_REQUEST + kind, blocks);
}

/** Lists of entries that a request bears: expected ones, and those of a source. */
function entryLists({ kind, flags }: SegmentRequest): number {
  if (kind === REQUEST_ENTRIES) return 0;
  return ((flags & REQUEST_SAME) !== 0 ? 1 : 0) + ((flags & REQUEST_COPY) !== 0 ? 1 : 0);
}

export function putEntries(view: DataView, at: number, entries: Uint32Array, words: number): void {
  for (let word = 0; word < words; word += 1) view.setUint32(at + 4 * word, entries[word], true);
}

export function getEntries(view: DataView, at: number, entries: Uint32Array, words: number): void {
  for (let word = 0; word < words; word += 1) entries[word] = view.getUint32(at + 4 * word, true);
}

/** Sums of the blocks of the frame that is being written or compared. */
const sums = new Uint32Array(CHUNK_BLOCKS_MAX);

/** Writes the sum of each of so many blocks, which begin at `from`. `known`: those sums, if somebody has them. */
export function putSums(memory: Memory, at: number, from: number, blocks: number, known: Uint32Array | null): void {
  if (known === null) memory.checksums(from, blocks, sums);
  putEntries(memory.view, at, known ?? sums, blocks);
}

/** The first of so many blocks, beginning at `from`, that has another sum than the vector at `at` says; -1 if none has. */
export function wrongBlock(memory: Memory, at: number, from: number, blocks: number): number {
  memory.checksums(from, blocks, sums);
  for (let block = 0; block < blocks; block += 1) {
    if (memory.view.getUint32(at + SUM_BYTES * block, true) !== sums[block]) return block;
  }
  return -1;
}

/** The first block of a copy that is not what the entry of its source says; -1 if there is none. */
export function wrongCopy(memory: Memory, { blocks, flags, entries }: SegmentRequest, from: number): number {
  if (entries === null) return -1;
  const first = (flags & REQUEST_SAME) !== 0 ? blocks : 0;
  memory.checksums(from, blocks, sums);
  for (let block = 0; block < blocks; block += 1) {
    const word = (first + block) * ENTRY_WORDS;
    // Of content in doubt nobody knows the sum.
    if (entries[word + ENTRY_FLAGS] !== BLOCK_VALID) continue;
    if (sums[block] !== entries[word + ENTRY_CHECKSUM]) return block;
  }
  return -1;
}

/** Where the sums of the blocks of a write lie within its vector; -1 if entries are there in their place. */
export function sumsAt({ flags, count }: Frame): number {
  if ((flags & FLAG_COPY) !== 0) return -1;
  return (flags & FLAG_SAME) !== 0 ? count * ENTRY_BYTES : 0;
}

/**
 * Writes header and vector of a request to `at`, which has room for `requestHeadBytes`. The blocks of a write lie at `from` now:
 * what has been asked to be copied there and is not there yet would have another sum.
 *
 * @param frame is used for writing; its request id, trace and time are those of the request
 */
export function encodeRequest(
  memory: Memory,
  frame: Frame,
  at: number,
  request: SegmentRequest,
  address: ReplicaAddress,
  from: number,
): void {
  const { kind, blocks, entries } = request;
  const [traceLow, traceHigh, microseconds] = [frame.traceLow, frame.traceHigh, frame.microseconds];
  frame.begin(KIND_REQUEST + kind, frameFlags(request.flags), frame.request);
  frame.traceLow = traceLow;
  frame.traceHigh = traceHigh;
  frame.microseconds = microseconds;
  address.put(frame);
  frame.generation = request.generation;
  frame.flushNumber = request.flushNumber;
  const vector = at + HEADER_BYTES;
  if (kind === REQUEST_FLUSH) {
    frame.count = 1;
    putFlushGroup(memory.view, vector, request, address);
  } else {
    frame.chunk = request.chunk;
    frame.offset = request.block * BLOCK_BYTES;
    frame.count = blocks;
    frame.stampLow = request.stampLow;
    frame.stampHigh = request.stampHigh;
    const words = entryLists(request) * blocks * ENTRY_WORDS;
    if (words > 0) {
      check(entries !== null && entries.length >= words, 'a request has not the entries that it is to bear', words);
      putEntries(memory.view, vector, entries, words);
    }
    const sums = kind === REQUEST_WRITE ? sumsAt(frame) : -1;
    if (sums >= 0) putSums(memory, vector + sums, from, blocks, request.proven ? request.sums : null);
  }
  clearUnused(frame);
  frame.payload = requestPayloadBytes(request);
  const vectorBytes = requestHeadBytes(request) - HEADER_BYTES;
  frame.vectorSum = vectorBytes === 0 ? 0 : memory.checksum(vector, vectorBytes);
  putHeader(memory, at, frame, false);
}

function putFlushGroup(
  view: DataView,
  at: number,
  request: SegmentRequest,
  { group, mapVersion }: ReplicaAddress,
): void {
  view.setUint32(at + FLUSH_AT_GROUP, group, true);
  view.setUint32(at + 4, 0, true);
  putWhole(view, at + FLUSH_AT_MAP_VERSION, mapVersion);
  putWhole(view, at + FLUSH_AT_SETTLED_GENERATION, request.settledGeneration);
  putWhole(view, at + FLUSH_AT_SETTLED_NUMBER, request.settledNumber);
}

export function putWhole(view: DataView, at: number, value: number): void {
  check(value >= 0 && Number.isSafeInteger(value), 'a payload has a number that nobody could read', value);
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

/** A number of 64 bits; -1 if it is beyond what is counted exactly. */
export function getWhole(view: DataView, at: number): number {
  const value = view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
  return Number.isSafeInteger(value) ? value : -1;
}

/**
 * Fills the record of a request that the frame is. Where its blocks go, and its token, are the caller's; so is whether it is a
 * request to this member (`requestError`). Returns what is wrong with it, or null.
 *
 * @param vector where the vector lies, which has the right sum (`FrameReader.hasVector`)
 * @param entries room of `REQUEST_WORDS_MAX` words, which the record keeps as long as it is in use
 */
export function decodeRequest(
  memory: Memory,
  frame: Frame,
  vector: number,
  request: SegmentRequest,
  entries: Uint32Array,
): FrameProblem | null {
  check(isRequest(frame.kind), 'a frame is read as a request that is none', frame.kind);
  const kind = frame.kind - KIND_REQUEST;
  request.begin(kind, frame.chunk, request.token);
  request.flags = recordFlags(frame.flags);
  request.generation = frame.generation;
  request.flushNumber = frame.flushNumber;
  if (kind === REQUEST_FLUSH) return decodeFlush(memory.view, frame, vector, request);
  request.block = frame.offset / BLOCK_BYTES;
  request.blocks = frame.count;
  request.stampLow = frame.stampLow;
  request.stampHigh = frame.stampHigh;
  const words = entryLists(request) * request.blocks * ENTRY_WORDS;
  if (words > 0) getEntries(memory.view, vector, entries, words);
  request.entries = words > 0 || kind === REQUEST_ENTRIES ? entries : null;
  return null;
}

function decodeFlush(
  view: DataView,
  { group, mapVersion }: Frame,
  at: number,
  request: SegmentRequest,
): FrameProblem | null {
  request.settledGeneration = getWhole(view, at + FLUSH_AT_SETTLED_GENERATION);
  request.settledNumber = getWhole(view, at + FLUSH_AT_SETTLED_NUMBER);
  if (request.settledGeneration < 0 || request.settledNumber < 0) return flushProblem('what is settled is beyond 2^53');
  if (view.getUint16(at + 2, true) !== 0 || view.getUint32(at + 4, true) !== 0) {
    return flushProblem('bytes of a group that have to be zero are not');
  }
  // The header says for which replica it is admitted.
  const same =
    view.getUint16(at + FLUSH_AT_GROUP, true) === group && getWhole(view, at + FLUSH_AT_MAP_VERSION) === mapVersion;
  return same ? null : flushProblem(`its group is not group ${group} of its header, or has another map`);
}

function flushProblem(message: string): FrameProblem {
  return { status: STATUS_BAD_FRAME, message: `FLUSH: ${message}` };
}
