/**
 * Which fields of a header each kind uses. What a kind does not use is zero as it is sent, and refused if it is not as it
 * comes, so that a later version can give it a meaning.
 *
 * Length and sums are in all frames; offset, count, epoch, fill and layer have rules of their own (`framing.ts`). Session,
 * epoch of the cluster and trace id may be in any frame behind the handshake.
 */

import {
  REQUEST_AGREED,
  REQUEST_ENTRIES,
  REQUEST_FLUSH,
  REQUEST_KINDS,
  REQUEST_POISON,
  REQUEST_READ,
  REQUEST_WRITE,
  REQUEST_ZERO,
} from '../ports/segment-request.js';
import type { Frame } from './frame.js';
import {
  isCall,
  KIND_ANSWER,
  KIND_CLOSE,
  KIND_DECIDED,
  KIND_FAILURE,
  KIND_LIST,
  KIND_MAP_CHANGED,
  KIND_OPEN,
  KIND_PONG,
  KIND_PROBE,
  KIND_REFUSED,
  KIND_REPLIES,
  KIND_REPLY,
  KIND_REQUEST,
  KIND_RULES,
  KIND_STORE_MAP,
} from './messages.js';

/** Request id. */
const USES_ID = 1;
/** Id of the volume, and group. */
const USES_GROUP = 2;
/** Index of the member, and version of its map. */
const USES_MEMBER = 4;
const USES_STAMP = 8;
const USES_CHUNK = 16;
/** Flush number and generation; of a reply: grains and entries. */
const USES_FLUSH = 32;
const USES_INCARNATION = 64;
const USES_MICROSECONDS = 128;
/** Data operations in flight. */
const USES_DEPTH = 256;
const USES_CLASS = 512;
/** What has to be zero in the handshake. */
const USES_SESSION = 1024;
const USES_EPOCH = 2048;

const REPLICA = USES_ID | USES_GROUP | USES_MEMBER | USES_SESSION;
const MEMBER = REPLICA | USES_INCARNATION | USES_CLASS | USES_EPOCH;

function usesOfRequest(kind: number): number {
  let uses = MEMBER;
  if (kind === REQUEST_READ) uses |= USES_MICROSECONDS;
  if (kind !== REQUEST_FLUSH && kind !== REQUEST_AGREED) uses |= USES_CHUNK;
  if (kind !== REQUEST_READ && kind !== REQUEST_ENTRIES) uses |= USES_FLUSH;
  if (kind === REQUEST_WRITE || kind === REQUEST_ZERO || kind === REQUEST_POISON) uses |= USES_STAMP;
  return uses;
}

function usesOf(kind: number): number {
  if (KIND_RULES[kind]?.handshake === true) return 0;
  if (kind === KIND_REFUSED || kind === KIND_REPLIES) return USES_SESSION;
  if (kind === KIND_REPLY) return USES_ID | USES_SESSION | USES_FLUSH | USES_INCARNATION | USES_DEPTH | USES_CLASS;
  if (kind === KIND_PONG) return USES_ID | USES_SESSION | USES_MICROSECONDS;
  if (kind === KIND_PROBE) return USES_ID | USES_SESSION | USES_GROUP;
  if (kind === KIND_MAP_CHANGED || kind === KIND_OPEN || kind === KIND_CLOSE || kind === KIND_STORE_MAP) return REPLICA;
  if (kind === KIND_LIST) return MEMBER | USES_CHUNK;
  if (kind >= KIND_REQUEST && kind < KIND_REQUEST + REQUEST_KINDS) return usesOfRequest(kind - KIND_REQUEST);
  // Of parts, the chunk is the number of each.
  const parts = isCall(kind) || kind === KIND_ANSWER || kind === KIND_FAILURE || kind === KIND_DECIDED;
  return parts ? USES_ID | USES_SESSION | USES_CHUNK : USES_ID | USES_SESSION;
}

const USES = KIND_RULES.map((_, kind) => usesOf(kind));

/** Makes zero what the record of a request may hold and its kind does not use. */
export function clearUnused(frame: Frame): void {
  const uses = USES[frame.kind];
  if ((uses & USES_STAMP) === 0) {
    frame.stampLow = 0;
    frame.stampHigh = 0;
  }
  if ((uses & USES_CHUNK) === 0) frame.chunk = 0;
  if ((uses & USES_FLUSH) === 0) {
    frame.flushNumber = 0;
    frame.generation = 0;
  }
  if ((uses & USES_MICROSECONDS) === 0) frame.microseconds = 0;
}

/** Which field of a header is not zero though its kind does not use it, in words; null if none is. */
export function unusedField(frame: Frame): string | null {
  const uses = USES[frame.kind];
  const { volume } = frame;
  if ((uses & USES_ID) === 0 && frame.request !== 0) return 'a request id';
  if ((uses & USES_GROUP) === 0) {
    if ((volume.word0 | volume.word1 | volume.word2 | volume.word3) !== 0) return 'a volume';
    if (frame.group !== 0) return 'a group';
  }
  if ((uses & USES_MEMBER) === 0 && (frame.member !== 0 || frame.mapVersion !== 0)) return 'a member or its map';
  if ((uses & USES_STAMP) === 0 && (frame.stampLow | frame.stampHigh) !== 0) return 'a stamp';
  if ((uses & USES_CHUNK) === 0 && frame.chunk !== 0) return 'a chunk';
  if ((uses & USES_FLUSH) === 0) {
    if (frame.flushNumber !== 0 || frame.generation !== 0) return 'a flush number';
    if (frame.grains !== 0 || frame.entries !== 0) return 'grains or entries';
  }
  if ((uses & USES_INCARNATION) === 0 && frame.incarnation !== 0) return 'an incarnation';
  if ((uses & USES_MICROSECONDS) === 0 && frame.microseconds !== 0) return 'microseconds';
  if ((uses & USES_DEPTH) === 0 && frame.depth !== 0) return 'a depth';
  if ((uses & USES_CLASS) === 0 && frame.class !== 0) return 'a class';
  if ((uses & USES_EPOCH) === 0 && frame.epoch !== 0) return 'an epoch';
  const { session, clusterEpoch, traceLow, traceHigh } = frame;
  const ofSession = session !== 0 || clusterEpoch !== 0 || (traceLow | traceHigh) !== 0;
  return (uses & USES_SESSION) === 0 && ofSession ? 'a session, an epoch of the cluster or a trace' : null;
}
