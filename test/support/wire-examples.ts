/** The frames that `docs/wire-protocol.md` shows, as they are made: each has its name there. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { StrakeError } from '#strake/core/errors.js';
import { SecretKey } from '#strake/keys/cluster-key.js';
import type { ReplicaMap } from '#strake/layout/replica-map.js';
import { SegmentList } from '#strake/ports/segment-list.js';
import {
  REQUEST_AGREED,
  REQUEST_ALLOCATE,
  REQUEST_COPY,
  REQUEST_ENTRIES,
  REQUEST_FLUSH,
  REQUEST_FUA,
  REQUEST_KEEP,
  REQUEST_MARKED,
  REQUEST_NEWER,
  REQUEST_POISON,
  REQUEST_READ,
  REQUEST_RELEASE,
  REQUEST_RELEASE_ZERO,
  REQUEST_RESTAMP,
  REQUEST_SAME,
  REQUEST_WRITE,
  REQUEST_ZERO,
  SegmentRequest,
} from '#strake/ports/segment-request.js';
import { type ControlFields, type ControlName, encodeControl, encodeFailure } from '#strake/wire/control.js';
import { encodePayload, Frame } from '#strake/wire/frame.js';
import { HelloAnswerer, HelloAsker } from '#strake/wire/hello.js';
import { encodeList, encodeListReply, listReplyBytes } from '#strake/wire/list-codec.js';
import { encodeBody } from '#strake/wire/manager-bodies.js';
import { type CallName, callOf, DECIDED as DECIDED_BODY } from '#strake/wire/manager-calls.js';
import { authenticateMap, encodeMaps } from '#strake/wire/maps.js';
import {
  CALL_NAMES,
  KIND_ALIVE,
  KIND_ANSWER,
  KIND_CALL,
  KIND_CHALLENGE,
  KIND_CLOSE,
  KIND_DECIDED,
  KIND_FAILURE,
  KIND_HELLO,
  KIND_HERE,
  KIND_MAP_CHANGED,
  KIND_OPEN,
  KIND_PING,
  KIND_PONG,
  KIND_REFUSED,
  KIND_REPLY,
  KIND_RULES,
  KIND_STORE_MAP,
  KIND_WELCOME,
  REPLY_JSON,
  REPLY_MAPS,
  STATUS_DENIED,
  STATUS_STALE_MAP,
} from '#strake/wire/messages.js';
import { Answer, encodeReplies, encodeReply, packedAt, putAnswer, putPacked } from '#strake/wire/reply-codec.js';
import { encodeRequest, ReplicaAddress, requestHeadBytes, requestPayloadBytes } from '#strake/wire/request-codec.js';
import { encodeOpen, sealTicket } from '#strake/wire/ticket.js';
import { callExamples } from './call-examples.js';
import { CLUSTER, DEVICE, VOLUME } from './golden.js';
import { project } from './project.js';
import { WireMemory } from './wire-memory.js';

/** The page whose frames are compared. */
export const WIRE_PAGE = join(project, 'docs', 'wire-protocol.md');
const BLOCK = 4096;
const CLIENT = '30313233343536373839616263646566';
const NODE = '505152535455565758595a5b5c5d5e5f';
const HEADER = 128;

/** The key of the examples: bytes 0 to 31; and nonces that are no secret. */
class ExampleKey extends SecretKey {
  private readonly byte: number;

  constructor(byte: number) {
    super(Uint8Array.from({ length: 32 }, (_, at) => at));
    this.byte = byte;
  }

  override nonce(): Uint8Array {
    return new Uint8Array(32).fill(this.byte);
  }
}

export const KEY = new ExampleKey(0xaa);

export function exampleAddress(): ReplicaAddress {
  const address = new ReplicaAddress();
  address.volume.set(VOLUME);
  address.group = 3;
  address.member = 1;
  address.mapVersion = 0x1_0000_0007;
  address.incarnation = 9;
  address.clusterEpoch = 1;
  address.session = 5;
  return address;
}

/** Names the replica of the examples, in frames of which the device's incarnation is no part. */
function putReplica(frame: Frame): void {
  exampleAddress().put(frame);
  frame.incarnation = 0;
}

function requestOf(kind: number, change: Partial<SegmentRequest> = {}): SegmentRequest {
  const request = new SegmentRequest().begin(kind, 0x1234, 0);
  request.generation = 6;
  request.flushNumber = 0x1_02;
  return Object.assign(request, change);
}

function ranged(kind: number, change: Partial<SegmentRequest> = {}): SegmentRequest {
  const stamp = { stampLow: 0x8899_aabb, stampHigh: 0x0000_0601 };
  return requestOf(kind, { block: 2, blocks: 1, ...stamp, ...change });
}

/** The frame of a request, blocks and all: each byte of a block is 0x5a. */
export function frameOf(request: SegmentRequest, address = exampleAddress()): Uint8Array {
  const head = requestHeadBytes(request);
  const memory = new WireMemory(HEADER + requestPayloadBytes(request));
  memory.bytes.fill(0x5a, head);
  const frame = new Frame();
  frame.request = 0x77;
  frame.traceLow = 0xcafe;
  encodeRequest(memory, frame, 0, request, address, head);
  return memory.bytes;
}

function entriesOf(...words: number[]): Uint32Array {
  return Uint32Array.from(words);
}

function answerOf(result: number): Answer {
  const answer = new Answer().result(result);
  answer.request = 0x77;
  answer.incarnation = 9;
  answer.depth = 4;
  return answer;
}

function replyOf(request: SegmentRequest, result: number): Uint8Array {
  const memory = new WireMemory(3 * BLOCK);
  memory.bytes.fill(0x5a);
  const frame = new Frame();
  const head = encodeReply(memory, frame, 0, answerOf(result), request, BLOCK);
  memory.copy(head, BLOCK, request.blocks * BLOCK);
  return memory.slice(0, HEADER + frame.payload);
}

function payloadOf(kind: number, payload: Uint8Array, change: (frame: Frame) => void = () => {}): Uint8Array {
  const memory = new WireMemory(HEADER + payload.length);
  const frame = new Frame().begin(kind, 0, 0);
  change(frame);
  encodePayload(memory, frame, 0, payload);
  return memory.bytes;
}

function json<Name extends ControlName>(name: Name, given: ControlFields<Name>): Uint8Array {
  return encodeControl(name, given);
}

const FLUSH = { generation: 5, flushNumber: 3 };

export const MAP: ReplicaMap = {
  volume: {
    id: VOLUME,
    name: 'db',
    headerVersion: 2,
    createdMs: 1_700_000_000_000,
    sizeBytes: 2 ** 30,
    layout: 'mirror',
    copies: 2,
    segmentBytes: 1 << 20,
    deleted: false,
  },
  group: 3,
  groups: 8,
  mapVersion: 0x1_0000_0007,
  generation: 6,
  holder: CLIENT,
  lease: 'exclusive',
  members: [
    { deviceId: DEVICE, place: 0, state: 'in-sync', since: FLUSH, incarnation: 9, flushNumber: 10, joined: 2 },
    { deviceId: CLUSTER, place: 1, state: 'syncing', since: FLUSH, incarnation: 4, flushNumber: 7, joined: 7 },
  ],
};

const DECIDED = authenticateMap(MAP, KEY);

function handshake(): readonly [Uint8Array, Uint8Array, Uint8Array] {
  const node = new HelloAnswerer(KEY, { nodeId: NODE, clusterId: CLUSTER, features: [] });
  const identity = { clientId: CLIENT, clusterId: CLUSTER, session: 5, principal: 'operator', features: [] };
  const client = new HelloAsker(new ExampleKey(0xbb), identity);
  const challenge = node.challenge();
  const { hello } = client.takeChallenge(challenge);
  node.takeHello(hello);
  const welcome = node.welcome({ creditRequests: 256, creditBytes: 32 << 20, shards: ['unix:/run/strake/0.sock'] });
  client.takeWelcome(welcome);
  return [challenge, hello, welcome];
}

function listOf(): SegmentList {
  const list = new SegmentList().begin(1, 16, 4096);
  list.sinceGeneration = 5;
  list.sinceNumber = 3;
  return list;
}

function listFrame(): Uint8Array {
  const memory = new WireMemory(HEADER + 40);
  const frame = new Frame();
  frame.request = 0x78;
  encodeList(memory, frame, 0, listOf(), exampleAddress());
  return memory.bytes;
}

function pageFrame(): Uint8Array {
  const list = listOf();
  list.add(17, 6, 258, 0);
  list.add(21, 5, 9, 1);
  const memory = new WireMemory(listReplyBytes(list));
  encodeListReply(memory, new Frame(), 0, answerOf(2), list);
  return memory.bytes;
}

function packedFrame(): Uint8Array {
  const memory = new WireMemory(HEADER + 2 * 24);
  putPacked(memory.view, packedAt(0, 0), answerOf(BLOCK));
  const failed = answerOf(-28);
  failed.request = 0x1_0000_0079;
  failed.fence = 1;
  putPacked(memory.view, packedAt(0, 1), failed);
  encodeReplies(memory, new Frame(), 0, 2);
  return memory.bytes;
}

function leftReply(): Uint8Array {
  const request = ranged(REQUEST_WRITE, { blocks: 12 });
  request.left.add(0);
  request.left.add(9);
  return replyOf(request, 12 * BLOCK);
}

function badReply(): Uint8Array {
  const request = ranged(REQUEST_READ, { blocks: 3 });
  request.bad.add(1);
  return replyOf(request, -74);
}

const [CHALLENGE, HELLO, WELCOME] = handshake();
const SOURCE = entriesOf(0x1111_1111, 1, 0x8899_aabb, 0x601);
const EXPECTED = entriesOf(0x2222_2222, 1, 0x7788_99aa, 0x500);
const BOTH = entriesOf(...EXPECTED, ...SOURCE);
const TICKET = { volumeId: VOLUME, clientId: CLIENT, generation: 6, role: 'writer' } as const;

function stale(frame: Frame): void {
  frame.flags = REPLY_MAPS;
  const answer = answerOf(0);
  answer.status = STATUS_STALE_MAP;
  putAnswer(frame, answer);
}

const CALLED = callExamples(DECIDED);

function partOf(kind: number, payload: Uint8Array): Uint8Array {
  return payloadOf(kind, payload, (frame) => {
    frame.request = 0x79;
    frame.session = 5;
    frame.count = 1;
  });
}

function callFrame(name: CallName): Uint8Array {
  return partOf(KIND_CALL + CALL_NAMES.indexOf(name), encodeBody(callOf(name).request, CALLED[name].request));
}

function answerFrame(name: CallName): Uint8Array {
  return partOf(KIND_ANSWER, encodeBody(callOf(name).answer, CALLED[name].answer));
}

function bare(kind: number): Uint8Array {
  return payloadOf(kind, new Uint8Array(0), (frame) => {
    frame.request = 0x7a;
    frame.session = 5;
  });
}

/** Frames between managers and those that ask them. */
const CALL_FRAMES: Readonly<Record<string, () => Uint8Array>> = {
  ALIVE: () => bare(KIND_ALIVE),
  HERE: () => bare(KIND_HERE),
  ...Object.fromEntries(
    CALL_NAMES.map((name, index) => [KIND_RULES[KIND_CALL + index]?.name ?? name, () => callFrame(name)]),
  ),
  'ANSWER to ATTACH': () => answerFrame('attach'),
  'ANSWER to HEARTBEAT': () => answerFrame('heartbeat'),
  FAILURE: () =>
    partOf(KIND_FAILURE, encodeFailure(new StrakeError('NO_VOLUME', 'there is no volume db', { remedy: 'Make one.' }))),
  DECIDED: () =>
    payloadOf(KIND_DECIDED, encodeBody(DECIDED_BODY, { maps: [DECIDED] }), (frame) => {
      frame.session = 5;
      frame.count = 1;
    }),
};

/** By name, in the order of the page. */
export const EXAMPLES: Readonly<Record<string, () => Uint8Array>> = {
  CHALLENGE: () => payloadOf(KIND_CHALLENGE, CHALLENGE),
  HELLO: () => payloadOf(KIND_HELLO, HELLO),
  WELCOME: () => payloadOf(KIND_WELCOME, WELCOME),
  REFUSED: () =>
    payloadOf(KIND_REFUSED, json('refused', { status: STATUS_DENIED, message: 'whoever asks does not have the key' })),
  PING: () => payloadOf(KIND_PING, json('ping', { taken: 2, stalled: [{ volumeId: VOLUME, group: 3 }] })),
  PONG: () => {
    const sizes = { segmentBytes: 1 << 20, freeBytes: 2 ** 30 };
    const state = { deviceId: DEVICE, incarnation: 9, depth: 4, ...sizes, health: 'healthy' } as const;
    return payloadOf(KIND_PONG, json('pong', { taken: 2, devices: [state] }), (frame) => {
      frame.microseconds = 2_000_000;
    });
  },
  OPEN: () =>
    payloadOf(KIND_OPEN, encodeOpen(sealTicket(TICKET, KEY), DECIDED), (frame) => {
      putReplica(frame);
      frame.request = 0x76;
    }),
  OPENED: () => {
    const stampMax = { low: 0x8899_aabb, high: 0x601 };
    const device = { deviceId: DEVICE, segmentBytes: 1 << 20, incarnation: 9, freeBytes: 2 ** 30 };
    const opened = { ...device, flushed: FLUSH, settled: FLUSH, servedGeneration: 5, stampMax, epoch: 1, taken: 1 };
    return payloadOf(KIND_REPLY, json('opened', opened), (frame) => {
      frame.flags = REPLY_JSON;
      const answer = answerOf(0);
      answer.request = 0x76;
      putAnswer(frame, answer);
    });
  },
  CLOSE: () => payloadOf(KIND_CLOSE, new Uint8Array(0), putReplica),
  STORE_MAP: () => payloadOf(KIND_STORE_MAP, encodeMaps([DECIDED])),
  MAP_CHANGED: () =>
    payloadOf(KIND_MAP_CHANGED, encodeMaps([MAP]), (frame) => {
      const { volume, group, member, mapVersion } = exampleAddress();
      frame.volume.copy(volume);
      frame.group = group;
      frame.member = member;
      frame.mapVersion = mapVersion;
    }),
  READ: () => frameOf(ranged(REQUEST_READ)),
  WRITE: () => frameOf(ranged(REQUEST_WRITE, { flags: REQUEST_FUA | REQUEST_NEWER })),
  'WRITE of a copy': () => frameOf(ranged(REQUEST_WRITE, { flags: REQUEST_SAME | REQUEST_COPY, entries: BOTH })),
  ZERO: () => frameOf(ranged(REQUEST_ZERO, { flags: REQUEST_KEEP | REQUEST_SAME, entries: EXPECTED })),
  ALLOCATE: () => frameOf(requestOf(REQUEST_ALLOCATE)),
  RELEASE: () => frameOf(requestOf(REQUEST_RELEASE, { flags: REQUEST_RELEASE_ZERO })),
  ENTRIES: () => frameOf(requestOf(REQUEST_ENTRIES, { block: 2, blocks: 1 })),
  POISON: () => frameOf(ranged(REQUEST_POISON)),
  FLUSH: () =>
    frameOf(requestOf(REQUEST_FLUSH, { flags: REQUEST_MARKED, chunk: 0, settledGeneration: 6, settledNumber: 257 })),
  AGREED: () => frameOf(requestOf(REQUEST_AGREED, { chunk: 0 })),
  RESTAMP: () => frameOf(requestOf(REQUEST_RESTAMP)),
  LIST: listFrame,
  REPLIES: packedFrame,
  'REPLY to READ': () => replyOf(ranged(REQUEST_READ), BLOCK),
  'REPLY with blocks that are bad': badReply,
  'REPLY with blocks that were left': leftReply,
  'REPLY to ENTRIES': () => replyOf(requestOf(REQUEST_ENTRIES, { block: 2, blocks: 1, entries: SOURCE }), 0),
  'REPLY to LIST': pageFrame,
  'REPLY of STALE_MAP': () => payloadOf(KIND_REPLY, encodeMaps([DECIDED]), stale),
  ...CALL_FRAMES,
};

/** Bytes as the page shows them: 16 a line; `*` stands for lines that are as the one before, and the last line ends them. */
export function dumpOf(bytes: Uint8Array): string {
  const lines: string[] = [];
  let before = '';
  let skipping = false;
  for (let at = 0; at < bytes.length; at += 16) {
    const hex = Array.from(bytes.subarray(at, at + 16), (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    if (hex === before && at + 16 < bytes.length) {
      if (!skipping) lines.push('*');
      skipping = true;
      continue;
    }
    skipping = false;
    before = hex;
    lines.push(`${at.toString(16).padStart(4, '0')}  ${hex}`);
  }
  return lines.join('\n');
}

/** The bytes of such a dump. */
export function bytesOfDump(dump: string): Uint8Array {
  const bytes: number[] = [];
  let before: readonly number[] = [];
  for (const line of dump.trim().split('\n')) {
    if (line === '*') continue;
    const [at, hex] = line.split('  ');
    const here = hex.split(' ').map((digits) => Number.parseInt(digits, 16));
    while (bytes.length < Number.parseInt(at, 16)) bytes.push(...before);
    bytes.push(...here);
    before = here;
  }
  return Uint8Array.from(bytes);
}

/** The frames of the page, by name. */
export function documentedFrames(): ReadonlyMap<string, Uint8Array> {
  const page = readFileSync(WIRE_PAGE, 'utf8');
  const found = page.matchAll(/^### (.+)\n\n```text\n([^`]*)```/gm);
  return new Map(Array.from(found, ([, name, dump]) => [name, bytesOfDump(dump)]));
}
