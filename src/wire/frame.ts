/**
 * The header of a frame as a record, made once and used again: what is written from it, and what is read into it. Nothing here
 * makes objects.
 */

import { check } from '../core/check.js';
import type { ChunkIndex, FlushNumber, Generation, GroupIndex, MapVersion, MemberPosition } from '../ports/ids.js';
import type { Memory } from '../ports/memory.js';
import { FLUSH_NUMBER_MAX } from './limits.js';
import {
  AT_CHUNK,
  AT_CLASS,
  AT_CLUSTER_EPOCH,
  AT_COUNT,
  AT_DEPTH,
  AT_EPOCH,
  AT_FILL,
  AT_FLAGS,
  AT_FLUSH,
  AT_GROUP,
  AT_HEADER_SUM,
  AT_INCARNATION,
  AT_KIND,
  AT_LAYER,
  AT_MAGIC,
  AT_MAP_VERSION,
  AT_MEMBER,
  AT_MICROSECONDS,
  AT_OFFSET,
  AT_PAYLOAD,
  AT_REQUEST,
  AT_SESSION,
  AT_STAMP,
  AT_TRACE,
  AT_VECTOR_SUM,
  AT_VERSION,
  AT_VOLUME,
  HEADER_BYTES,
  KIND_REPLY,
  WIRE_MAGIC,
} from './messages.js';
import { VERSION_MOST } from './versions.js';

const WORD = 2 ** 32;
/** The high words of numbers that are counted exactly are below. */
const EXACT_HIGH = 2 ** 21;
/** Bits of the generation above those of a flush number. */
const FLUSH_HIGH = 256;

/** The id of a volume as four words, in the order of its bytes: ids on the way of a request are compared, and not written out. */
export class VolumeWords {
  word0 = 0;
  word1 = 0;
  word2 = 0;
  word3 = 0;

  /** From 32 hexadecimal digits. */
  set(id: string): this {
    check(id.length === 32, 'the id of a volume has another length', id.length);
    this.word0 = wordOf(id, 0);
    this.word1 = wordOf(id, 8);
    this.word2 = wordOf(id, 16);
    this.word3 = wordOf(id, 24);
    return this;
  }

  copy({ word0, word1, word2, word3 }: VolumeWords): void {
    this.word0 = word0;
    this.word1 = word1;
    this.word2 = word2;
    this.word3 = word3;
  }

  equals({ word0, word1, word2, word3 }: VolumeWords): boolean {
    return this.word0 === word0 && this.word1 === word1 && this.word2 === word2 && this.word3 === word3;
  }

  toString(): string {
    const { word0, word1, word2, word3 } = this;
    return [word0, word1, word2, word3].map((word) => word.toString(16).padStart(8, '0')).join('');
  }
}

function wordOf(id: string, at: number): number {
  return Number.parseInt(id.slice(at, at + 8), 16);
}

/** The fields of a header. A number of 64 bits that counts is one number below 2^53; what only has bits is in two words. */
export class Frame {
  version = VERSION_MOST;
  kind = 0;
  flags = 0;
  /** Used once in a session. */
  request = 0;
  readonly volume = new VolumeWords();
  group: GroupIndex = 0;
  /** Index of the member in its map. */
  member: MemberPosition = 0;
  epoch = 0;
  mapVersion: MapVersion = 0;
  stampLow = 0;
  stampHigh = 0;
  chunk: ChunkIndex = 0;
  /** In the chunk; of a reply: its value. */
  offset = 0;
  /** Bytes that follow the header. */
  payload = 0;
  /** Of a modification: what it is recorded under. */
  flushNumber: FlushNumber = 0;
  generation: Generation = 0;
  /** Of a reply: granted in all. */
  grains = 0;
  entries = 0;
  incarnation = 0;
  microseconds = 0;
  depth = 0;
  /** Of a reply: what the device still accepts. */
  class = 0;
  fill = 0;
  /** Of a reply: its status. */
  count = 0;
  clusterEpoch = 0;
  traceLow = 0;
  traceHigh = 0;
  session = 0;
  layer = 0;
  vectorSum = 0;

  /** Begins a frame: every other field is as if it were not there. */
  begin(kind: number, flags: number, request: number): this {
    this.version = VERSION_MOST;
    this.kind = kind;
    this.flags = flags;
    this.request = request;
    this.volume.word0 = 0;
    this.volume.word1 = 0;
    this.volume.word2 = 0;
    this.volume.word3 = 0;
    this.group = 0;
    this.member = 0;
    this.epoch = 0;
    this.mapVersion = 0;
    this.stampLow = 0;
    this.stampHigh = 0;
    this.chunk = 0;
    this.offset = 0;
    this.payload = 0;
    this.flushNumber = 0;
    this.generation = 0;
    this.grains = 0;
    this.entries = 0;
    this.incarnation = 0;
    this.microseconds = 0;
    this.depth = 0;
    this.class = 0;
    this.fill = 0;
    this.count = 0;
    this.clusterEpoch = 0;
    this.traceLow = 0;
    this.traceHigh = 0;
    this.session = 0;
    this.layer = 0;
    this.vectorSum = 0;
    return this;
  }
}

function putExact(view: DataView, at: number, value: number): void {
  check(value >= 0 && Number.isSafeInteger(value), 'a frame has a number that nobody could read', value);
  view.setUint32(at, value % WORD, true);
  view.setUint32(at + 4, Math.floor(value / WORD), true);
}

/** Whether the number of 64 bits there is one that is counted exactly. */
function isExact(view: DataView, at: number): boolean {
  return view.getUint32(at + 4, true) < EXACT_HIGH;
}

function getExact(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * WORD;
}

/** Writes the header, and its sum, to `at`; `isReply` says how the fields that have two meanings are meant. */
export function putHeader(memory: Memory, at: number, frame: Frame, isReply: boolean): void {
  const { view } = memory;
  view.setUint32(at + AT_MAGIC, WIRE_MAGIC, true);
  view.setUint8(at + AT_VERSION, frame.version);
  view.setUint8(at + AT_KIND, frame.kind);
  view.setUint16(at + AT_FLAGS, frame.flags, true);
  putExact(view, at + AT_REQUEST, frame.request);
  // Words of an id are in the order of its bytes, as they are read.
  view.setUint32(at + AT_VOLUME, frame.volume.word0);
  view.setUint32(at + AT_VOLUME + 4, frame.volume.word1);
  view.setUint32(at + AT_VOLUME + 8, frame.volume.word2);
  view.setUint32(at + AT_VOLUME + 12, frame.volume.word3);
  view.setUint16(at + AT_GROUP, frame.group, true);
  view.setUint16(at + AT_MEMBER, frame.member, true);
  view.setUint32(at + AT_EPOCH, frame.epoch, true);
  putExact(view, at + AT_MAP_VERSION, frame.mapVersion);
  view.setUint32(at + AT_STAMP, frame.stampLow, true);
  view.setUint32(at + AT_STAMP + 4, frame.stampHigh, true);
  putExact(view, at + AT_CHUNK, frame.chunk);
  view.setUint32(at + AT_OFFSET, frame.offset, true);
  view.setUint32(at + AT_PAYLOAD, frame.payload, true);
  if (isReply) {
    view.setUint32(at + AT_FLUSH, frame.grains, true);
    view.setUint32(at + AT_FLUSH + 4, frame.entries, true);
  } else putFlush(view, at + AT_FLUSH, frame);
  putExact(view, at + AT_INCARNATION, frame.incarnation);
  view.setUint32(at + AT_MICROSECONDS, frame.microseconds, true);
  view.setUint16(at + AT_DEPTH, frame.depth, true);
  view.setUint8(at + AT_CLASS, frame.class);
  view.setUint8(at + AT_FILL, frame.fill);
  view.setUint32(at + AT_COUNT, frame.count, true);
  view.setUint32(at + AT_CLUSTER_EPOCH, frame.clusterEpoch, true);
  view.setUint32(at + AT_TRACE, frame.traceLow, true);
  view.setUint32(at + AT_TRACE + 4, frame.traceHigh, true);
  view.setUint32(at + AT_SESSION, frame.session, true);
  view.setUint32(at + AT_LAYER, frame.layer, true);
  view.setUint32(at + AT_VECTOR_SUM, frame.vectorSum, true);
  view.setUint32(at + AT_HEADER_SUM, 0, true);
  view.setUint32(at + AT_HEADER_SUM, memory.checksum(at, HEADER_BYTES), true);
}

/** A flush number has 40 bits, and the generation that it belongs to the 24 above, as in a stamp. */
function putFlush(view: DataView, at: number, { flushNumber, generation }: Frame): void {
  check(flushNumber >= 0 && flushNumber <= FLUSH_NUMBER_MAX, 'a flush number has no room in a frame', flushNumber);
  check(generation >= 0 && generation < 2 ** 24, 'a generation has no room in a frame', generation);
  view.setUint32(at, flushNumber % WORD, true);
  view.setUint32(at + 4, generation * FLUSH_HIGH + Math.floor(flushNumber / WORD), true);
}

/** Whether the sum of the header at `at` is right. The header is as it was afterwards. */
export function isSummed(memory: Memory, at: number): boolean {
  const { view } = memory;
  const sum = view.getUint32(at + AT_HEADER_SUM, true);
  view.setUint32(at + AT_HEADER_SUM, 0, true);
  const right = memory.checksum(at, HEADER_BYTES) === sum;
  view.setUint32(at + AT_HEADER_SUM, sum, true);
  return right;
}

/** Numbers of 64 bits that are counted. */
const EXACT: readonly (readonly [at: number, what: string])[] = [
  [AT_REQUEST, 'its request id'],
  [AT_MAP_VERSION, 'its map version'],
  [AT_CHUNK, 'its chunk'],
  [AT_INCARNATION, 'its incarnation'],
];

/** Which number of a header is beyond 2^53, in words; null if none is. */
export function beyondExact(view: DataView, at: number): string | null {
  for (const [field, what] of EXACT) if (!isExact(view, at + field)) return what;
  return null;
}

/** Reads the fields of a header that has been found to be good. */
export function getHeader(view: DataView, at: number, frame: Frame, isReply: boolean): void {
  frame.request = getExact(view, at + AT_REQUEST);
  frame.volume.word0 = view.getUint32(at + AT_VOLUME);
  frame.volume.word1 = view.getUint32(at + AT_VOLUME + 4);
  frame.volume.word2 = view.getUint32(at + AT_VOLUME + 8);
  frame.volume.word3 = view.getUint32(at + AT_VOLUME + 12);
  frame.group = view.getUint16(at + AT_GROUP, true);
  frame.member = view.getUint16(at + AT_MEMBER, true);
  frame.epoch = view.getUint32(at + AT_EPOCH, true);
  frame.mapVersion = getExact(view, at + AT_MAP_VERSION);
  frame.stampLow = view.getUint32(at + AT_STAMP, true);
  frame.stampHigh = view.getUint32(at + AT_STAMP + 4, true);
  frame.chunk = getExact(view, at + AT_CHUNK);
  frame.offset = view.getUint32(at + AT_OFFSET, true);
  const [low, high] = [view.getUint32(at + AT_FLUSH, true), view.getUint32(at + AT_FLUSH + 4, true)];
  frame.grains = isReply ? low : 0;
  frame.entries = isReply ? high : 0;
  frame.flushNumber = isReply ? 0 : (high % FLUSH_HIGH) * WORD + low;
  frame.generation = isReply ? 0 : Math.floor(high / FLUSH_HIGH);
  frame.incarnation = getExact(view, at + AT_INCARNATION);
  frame.microseconds = view.getUint32(at + AT_MICROSECONDS, true);
  frame.depth = view.getUint16(at + AT_DEPTH, true);
  frame.class = view.getUint8(at + AT_CLASS);
  frame.fill = view.getUint8(at + AT_FILL);
  frame.count = view.getUint32(at + AT_COUNT, true);
  frame.clusterEpoch = view.getUint32(at + AT_CLUSTER_EPOCH, true);
  frame.traceLow = view.getUint32(at + AT_TRACE, true);
  frame.traceHigh = view.getUint32(at + AT_TRACE + 4, true);
  frame.session = view.getUint32(at + AT_SESSION, true);
  frame.layer = view.getUint32(at + AT_LAYER, true);
  frame.vectorSum = view.getUint32(at + AT_VECTOR_SUM, true);
}

/**
 * Writes a frame with a control payload to `at`: the frame has been begun, and the payload is copied behind its header. Returns
 * the bytes of both. It is for what is said seldom; data has ways of its own.
 */
export function encodePayload(memory: Memory, frame: Frame, at: number, payload: Uint8Array): number {
  frame.payload = payload.length;
  memory.bytes.set(payload, at + HEADER_BYTES);
  frame.vectorSum = payload.length === 0 ? 0 : memory.checksum(at + HEADER_BYTES, payload.length);
  putHeader(memory, at, frame, frame.kind === KIND_REPLY);
  return HEADER_BYTES + payload.length;
}
