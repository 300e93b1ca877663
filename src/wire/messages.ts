/**
 * All structures of the protocol between nodes: the header of a frame, vectors, packed replies, kinds, flags and statuses.
 * `docs/wire-protocol.md` lays them out byte by byte. All numbers are little-endian.
 *
 * ```text
 *   frame    │ header, 128 bytes │ vector: what is known of each block │ blocks, 4 KiB each │      of data
 *            │ header, 128 bytes │ control payload                     │                           of all else
 * ```
 *
 * The sum in the header is over the header and another one over the vector or the control payload; the vector has those of the
 * blocks. So each byte is under a sum, and none is summed twice.
 */

import { BLOCK_BYTES } from '../core/limits.js';
import { ENTRY_WORDS } from '../layout/block-entry.js';
import { REQUEST_KINDS } from '../ports/segment-request.js';
import {
  ANSWER_PARTS_MAX,
  CALL_PARTS_MAX,
  CONTROL_BYTES_MAX,
  HELLO_BYTES_MAX,
  LIST_ENTRIES_MAX,
  PACKED_REPLIES_MAX,
  PART_BYTES_MAX,
  PAYLOAD_BLOCKS_MAX,
  PING_BYTES_MAX,
} from './limits.js';

// ---- header

/** "STKW", as it lies in memory. */
export const WIRE_MAGIC = 0x57_4b_54_53;
export const HEADER_BYTES = 128;

export const AT_MAGIC = 0;
export const AT_VERSION = 4;
export const AT_KIND = 5;
export const AT_FLAGS = 6;
export const AT_REQUEST = 8;
export const AT_VOLUME = 16;
export const AT_GROUP = 32;
export const AT_MEMBER = 34;
export const AT_EPOCH = 36;
export const AT_MAP_VERSION = 40;
export const AT_STAMP = 48;
export const AT_CHUNK = 56;
/** Of a reply: its value. */
export const AT_OFFSET = 64;
export const AT_PAYLOAD = 68;
/** Of a reply: grains and entries granted, 4 bytes each. */
export const AT_FLUSH = 72;
export const AT_INCARNATION = 80;
export const AT_MICROSECONDS = 88;
export const AT_DEPTH = 92;
/** Of a reply: what the device still accepts (`FENCE_*`). */
export const AT_CLASS = 94;
export const AT_FILL = 95;
/** Of a reply: its status. */
export const AT_COUNT = 96;
export const AT_CLUSTER_EPOCH = 100;
export const AT_TRACE = 104;
export const AT_SESSION = 112;
export const AT_LAYER = 116;
export const AT_VECTOR_SUM = 120;
export const AT_HEADER_SUM = 124;

// ---- kinds

/** Whoever accepts a connection sends this first. */
export const KIND_CHALLENGE = 1;
export const KIND_HELLO = 2;
export const KIND_WELCOME = 3;
/** Why the connection ends; the last frame on it. */
export const KIND_REFUSED = 4;
export const KIND_PING = 5;
export const KIND_PONG = 6;
export const KIND_PROBE = 7;
/** Several replies without payload. */
export const KIND_REPLIES = 8;
/** One reply, with a payload or without. */
export const KIND_REPLY = 9;
export const KIND_OPEN = 16;
export const KIND_CLOSE = 17;
export const KIND_STORE_MAP = 18;
export const KIND_MAP_CHANGED = 19;
/** Requests of `src/ports/segment-request.ts`: this and their kind there. */
export const KIND_REQUEST = 32;
/** A page of a list (`src/ports/segment-list.ts`). */
export const KIND_LIST = 48;
/** What a manager answers to a call. */
export const KIND_ANSWER = 64;
/** Why a manager does not do what a call asks for. */
export const KIND_FAILURE = 65;
/** A manager tells of maps that it has decided. */
export const KIND_DECIDED = 66;
/** Whether the manager is there, and that it is. */
export const KIND_ALIVE = 67;
export const KIND_HERE = 68;
/** Calls of a manager (`src/ports/manager.ts`): this and their index in `CALL_NAMES`. */
export const KIND_CALL = 72;
export const CALL_NAMES = [
  'status',
  'setTimes',
  'register',
  'heartbeat',
  'renew',
  'attach',
  'change',
  'stored',
  'detach',
  'fetch',
  'create',
  'delete',
  'rename',
  'grow',
  'startWithout',
  'adopt',
  'giveBack',
  'nodes',
  'devices',
  'volumes',
  'events',
] as const;

/** Who sends a kind: whoever has asked for the connection, whoever has accepted it, or both. */
export const FROM_ASKER = 1;
export const FROM_ANSWERER = 2;

/** What follows the header. */
export const PAYLOAD_NONE = 0;
/** Bytes under the sum of the header, as many as its length says. */
export const PAYLOAD_CONTROL = 1;
/** A vector, and blocks. */
export const PAYLOAD_BLOCKS = 2;
/** What flags of the reply say. */
export const PAYLOAD_REPLY = 3;

/** What is known of a kind before its frame is looked at. */
export interface KindRule {
  readonly name: string;
  readonly from: number;
  /** The flags that it may bear. */
  readonly flags: number;
  readonly payload: number;
  /** Bytes of a control payload. */
  readonly bytesLeast: number;
  readonly bytesMost: number;
  /** It is of the handshake, and comes before anything else. */
  readonly handshake: boolean;
  /** Whether it names a range of blocks within a chunk: offset and count. */
  readonly blocks: boolean;
  /** The least and the most that `count` may be, of kinds that name no blocks. */
  readonly counts: readonly [number, number];
}

// ---- flags of requests

export const FLAG_FUA = 1;
export const FLAG_NEWER = 2;
export const FLAG_SAME = 4;
export const FLAG_COPY = 8;
/** With parity and epochs: raw, inherit, everything, log. Refused until then. */
export const FLAG_RAW = 16;
export const FLAG_INHERIT = 32;
export const FLAG_EVERYTHING = 64;
export const FLAG_MARKED = 128;
export const FLAG_LOG = 256;
/** Of zeroes: their space is kept. */
export const FLAG_KEEP = 512;
/** Of a release: only if nothing in the chunk is stored or kept. */
export const FLAG_IF_ZERO = 1024;
/** Of a read: only what is settled. */
export const FLAG_SETTLED = 2048;

// ---- flags of replies: what their payload has, in this order

/** 32 bytes: a bit for each block that cannot be read. */
export const REPLY_BAD = 1;
/** 32 bytes: a bit for each block that was left as it was. */
export const REPLY_LEFT = 2;
/** Their sums, 4 bytes each, and the blocks. */
export const REPLY_BLOCKS = 4;
/** Entries, 16 bytes each. */
export const REPLY_ENTRIES = 8;
/** A page of a list. */
export const REPLY_LIST = 16;
/** Maps. */
export const REPLY_MAPS = 32;
/** JSON. */
export const REPLY_JSON = 64;
export const REPLY_FLAGS = 127;
const REPLY_CONTROL = REPLY_LIST | REPLY_MAPS | REPLY_JSON;
const REPLY_CONTENTS = REPLY_BLOCKS | REPLY_ENTRIES | REPLY_CONTROL;

/** Bytes of a bit for each block of a chunk. */
export const BITS_BYTES = PAYLOAD_BLOCKS_MAX / 8;
export const SUM_BYTES = 4;
export const ENTRY_BYTES = 4 * ENTRY_WORDS;

// ---- packed replies

export const PACKED_BYTES = 24;
export const PACKED_AT_REQUEST = 0;
export const PACKED_AT_STATUS = 4;
export const PACKED_AT_VALUE = 8;
export const PACKED_AT_INCARNATION = 12;
export const PACKED_AT_DEPTH = 16;
export const PACKED_AT_FILL = 18;
export const PACKED_AT_FENCE = 19;
export const PACKED_AT_GRAINS = 20;
export const PACKED_AT_ENTRIES = 22;

// ---- the group of a flush

export const FLUSH_BYTES = 32;
export const FLUSH_AT_GROUP = 0;
export const FLUSH_AT_MAP_VERSION = 8;
export const FLUSH_AT_SETTLED_GENERATION = 16;
export const FLUSH_AT_SETTLED_NUMBER = 24;

// ---- lists

export const LIST_BYTES = 40;
export const LIST_AT_END = 0;
export const LIST_AT_CURSOR = 8;
export const LIST_AT_GENERATION = 16;
export const LIST_AT_NUMBER = 24;
export const LIST_AT_KIND = 32;
/** Of a page: where the next one begins, all ones after the last; then its entries. */
export const PAGE_AT_NEXT = 0;
export const PAGE_BYTES = 8;
export const LISTED_BYTES = 24;
export const LISTED_AT_CHUNK = 0;
export const LISTED_AT_STATE = 6;
export const LISTED_AT_GENERATION = 8;
export const LISTED_AT_NUMBER = 16;

// ---- statuses; up to `STATUS_ERRNO_MAX` they are numbers of errors of Linux

export const STATUS_OK = 0;
/** The map is behind: the reply has the newer one. */
export const STATUS_STALE_MAP = 256;
/** The node's map is behind: the client hands on its own, and sends again. */
export const STATUS_NEED_MAP = 257;
/** The node has not answered this map yet. */
export const STATUS_NOT_YET = 258;
/** Of a probe: the holder's session is heard here. The value is for how many microseconds at the most. */
export const STATUS_BUSY = 259;
export const STATUS_STALE_EPOCH = 260;
/** It waits for a barrier or for room, and goes on: told every 250 ms. */
export const STATUS_HELD = 261;
/** The device was opened anew. */
export const STATUS_NEW_INCARNATION = 262;
/** Of a read: its time would not be kept. */
export const STATUS_LATE = 263;
/** The replica is not open on this session, or not for this. */
export const STATUS_NOT_OPEN = 264;
/** From here on: the connection ends. */
export const STATUS_ENDING = 288;
export const STATUS_BAD_FRAME = 288;
export const STATUS_BAD_VERSION = 289;
export const STATUS_BAD_SUM = 290;
export const STATUS_NO_CREDIT = 291;
/** No key, or a wrong one. */
export const STATUS_DENIED = 292;
export const STATUS_WRONG_CLUSTER = 293;
/** A newer session of this client has taken its place. */
export const STATUS_REPLACED = 294;

// ---- rules

type Rule = Partial<Omit<KindRule, 'name' | 'from'>>;

function ruleOf(name: string, from: number, rule: Rule = {}): KindRule {
  const none = { flags: 0, payload: PAYLOAD_NONE, bytesLeast: 0, bytesMost: 0 };
  return { name, from, ...none, handshake: false, blocks: false, counts: [0, 0], ...rule };
}

const handshake = (name: string, from: number) =>
  ruleOf(name, from, { payload: PAYLOAD_CONTROL, bytesLeast: 1, bytesMost: HELLO_BYTES_MAX, handshake: true });
const control = (name: string, from: number, more: Rule = {}) =>
  ruleOf(name, from, { payload: PAYLOAD_CONTROL, bytesLeast: 1, bytesMost: CONTROL_BYTES_MAX, ...more });
const request = (name: string, more: Rule = {}) => ruleOf(name, FROM_ASKER, more);

const CONDITIONS = FLAG_NEWER | FLAG_SAME;

/** By kind; kinds without a rule are refused. */
export const KIND_RULES: (KindRule | undefined)[] = [];
KIND_RULES[KIND_CHALLENGE] = handshake('CHALLENGE', FROM_ANSWERER);
KIND_RULES[KIND_HELLO] = handshake('HELLO', FROM_ASKER);
KIND_RULES[KIND_WELCOME] = handshake('WELCOME', FROM_ANSWERER);
KIND_RULES[KIND_REFUSED] = control('REFUSED', FROM_ASKER | FROM_ANSWERER, { bytesMost: HELLO_BYTES_MAX });
KIND_RULES[KIND_PING] = control('PING', FROM_ASKER, { bytesMost: PING_BYTES_MAX });
KIND_RULES[KIND_PONG] = control('PONG', FROM_ANSWERER, { bytesMost: PING_BYTES_MAX });
KIND_RULES[KIND_PROBE] = request('PROBE');
KIND_RULES[KIND_REPLIES] = control('REPLIES', FROM_ANSWERER, {
  bytesLeast: PACKED_BYTES,
  bytesMost: PACKED_REPLIES_MAX * PACKED_BYTES,
  counts: [1, PACKED_REPLIES_MAX],
});
KIND_RULES[KIND_REPLY] = ruleOf('REPLY', FROM_ANSWERER, { flags: REPLY_FLAGS, payload: PAYLOAD_REPLY });
KIND_RULES[KIND_OPEN] = control('OPEN', FROM_ASKER);
KIND_RULES[KIND_CLOSE] = request('CLOSE');
KIND_RULES[KIND_STORE_MAP] = control('STORE_MAP', FROM_ASKER);
KIND_RULES[KIND_MAP_CHANGED] = control('MAP_CHANGED', FROM_ANSWERER);
/** In the order of `REQUEST_*`. */
const REQUESTS: readonly KindRule[] = [
  request('READ', { blocks: true, flags: FLAG_SETTLED }),
  request('WRITE', { blocks: true, payload: PAYLOAD_BLOCKS, flags: FLAG_FUA | CONDITIONS | FLAG_COPY }),
  request('ZERO', { blocks: true, payload: PAYLOAD_BLOCKS, flags: FLAG_FUA | CONDITIONS | FLAG_KEEP }),
  request('ALLOCATE'),
  request('RELEASE', { flags: FLAG_IF_ZERO }),
  request('ENTRIES', { blocks: true }),
  request('ACCEPT', { blocks: true }),
  request('POISON', { blocks: true }),
  control('FLUSH', FROM_ASKER, {
    flags: FLAG_MARKED,
    bytesLeast: FLUSH_BYTES,
    bytesMost: FLUSH_BYTES,
    counts: [1, 1],
  }),
  request('AGREED'),
  request('RESTAMP'),
];
REQUESTS.forEach((rule, kind) => {
  KIND_RULES[KIND_REQUEST + kind] = rule;
});
KIND_RULES[KIND_LIST] = control('LIST', FROM_ASKER, {
  bytesLeast: LIST_BYTES,
  bytesMost: LIST_BYTES,
  counts: [1, LIST_ENTRIES_MAX],
});

const part = (name: string, from: number, partsMax: number) =>
  control(name, from, { bytesMost: PART_BYTES_MAX, counts: [1, partsMax] });
KIND_RULES[KIND_ANSWER] = part('ANSWER', FROM_ANSWERER, ANSWER_PARTS_MAX);
KIND_RULES[KIND_FAILURE] = part('FAILURE', FROM_ANSWERER, 1);
KIND_RULES[KIND_DECIDED] = part('DECIDED', FROM_ANSWERER, ANSWER_PARTS_MAX);
KIND_RULES[KIND_ALIVE] = request('ALIVE');
KIND_RULES[KIND_HERE] = ruleOf('HERE', FROM_ANSWERER);
CALL_NAMES.forEach((name, index) => {
  KIND_RULES[KIND_CALL + index] = part(name.replace(/[A-Z]/, '_$&').toUpperCase(), FROM_ASKER, CALL_PARTS_MAX);
});

/** Whether a kind is a call of a manager. */
export function isCall(kind: number): boolean {
  return kind >= KIND_CALL && kind < KIND_CALL + CALL_NAMES.length;
}

/** Whether a kind is a request for a member. */
export function isRequest(kind: number): boolean {
  return kind >= KIND_REQUEST && kind < KIND_REQUEST + REQUEST_KINDS;
}

const WRITE = KIND_REQUEST + 1;

/** Bytes of the vector of a request that bears blocks, or what is expected of them. */
export function requestVectorBytes(kind: number, flags: number, blocks: number): number {
  const expected = (flags & FLAG_SAME) !== 0 ? ENTRY_BYTES : 0;
  if (kind !== WRITE) return blocks * expected;
  return blocks * (expected + ((flags & FLAG_COPY) !== 0 ? ENTRY_BYTES : SUM_BYTES));
}

/** Bytes of the blocks that follow the vector of a request. */
export function requestBlockBytes(kind: number, blocks: number): number {
  return kind === WRITE ? blocks * BLOCK_BYTES : 0;
}

function bitsBytes(flags: number): number {
  return ((flags & REPLY_BAD) !== 0 ? BITS_BYTES : 0) + ((flags & REPLY_LEFT) !== 0 ? BITS_BYTES : 0);
}

/**
 * Bytes of the vector of a reply with such flags and such a payload: what the sum of the header is over. -1 if there is no such
 * reply.
 */
export function replyVectorBytes(flags: number, payload: number): number {
  const contents = flags & REPLY_CONTENTS;
  const rest = payload - bitsBytes(flags);
  if ((contents & (contents - 1)) !== 0 || rest < 0) return -1;
  if (contents === 0) return rest === 0 ? payload : -1;
  if (contents === REPLY_BLOCKS) {
    const blocks = rest / (SUM_BYTES + BLOCK_BYTES);
    const whole = Number.isInteger(blocks) && blocks >= 1 && blocks <= PAYLOAD_BLOCKS_MAX;
    return whole ? payload - blocks * BLOCK_BYTES : -1;
  }
  if (contents === REPLY_ENTRIES) {
    const entries = rest / ENTRY_BYTES;
    return Number.isInteger(entries) && entries >= 1 && entries <= PAYLOAD_BLOCKS_MAX ? payload : -1;
  }
  return rest >= 1 && payload <= CONTROL_BYTES_MAX ? payload : -1;
}

/** Blocks that a reply with such flags and such a payload bears. */
export function replyBlocks(flags: number, payload: number): number {
  if ((flags & REPLY_BLOCKS) === 0) return 0;
  return (payload - bitsBytes(flags)) / (SUM_BYTES + BLOCK_BYTES);
}
