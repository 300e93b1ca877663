/**
 * The node's end of the native protocol: any bytes where frames of a client are expected. What is taken for a request, a list or a
 * map can be written again, and has the same bytes then: so nothing is taken that means something else than it says.
 */

import { listError, requestError } from '#strake/layout/request-checks.js';
import { SegmentList } from '#strake/ports/segment-list.js';
import { REQUEST_FLUSH, SegmentRequest } from '#strake/ports/segment-request.js';
import { decodeControl } from '#strake/wire/control.js';
import { Frame } from '#strake/wire/frame.js';
import { HelloAnswerer } from '#strake/wire/hello.js';
import { REQUEST_WORDS_MAX } from '#strake/wire/limits.js';
import { decodeList, encodeList } from '#strake/wire/list-codec.js';
import { decodeEitherMaps, decodeMaps, encodeMaps } from '#strake/wire/maps.js';
import {
  AT_DEPTH,
  AT_EPOCH,
  AT_HEADER_SUM,
  FROM_ASKER,
  HEADER_BYTES,
  isRequest,
  KIND_HELLO,
  KIND_LIST,
  KIND_OPEN,
  KIND_PING,
  KIND_REFUSED,
  KIND_REQUEST,
  KIND_STORE_MAP,
} from '#strake/wire/messages.js';
import {
  decodeRequest,
  encodeRequest,
  ReplicaAddress,
  requestHeadBytes,
  sumsAt,
  wrongBlock,
} from '#strake/wire/request-codec.js';
import { decodeOpen } from '#strake/wire/ticket.js';
import { KEY } from '../../support/wire-examples.js';
import { WireMemory } from '../../support/wire-memory.js';
import { demand, type FuzzTarget } from '../target.js';
import { corpusFor, generateFor, readStream, refusable, reseal, type Take } from '../wire-streams.js';

const NODE = {
  nodeId: '505152535455565758595a5b5c5d5e5f',
  clusterId: 'c0c1c2c3c4c5c6c7c8c9cacbcccdcecf',
  features: [],
};
const BOUNDS = { chunks: 1 << 20, chunkBlocks: 256, group: 0, groups: 1 };
/** Fields that no request has: they are taken, and forgotten. */
const FORGOTTEN: readonly (readonly [at: number, bytes: number])[] = [
  [AT_EPOCH, 4],
  [AT_DEPTH, 2],
  [AT_HEADER_SUM, 4],
];

/** The bytes, but for those that are not kept. */
function kept(bytes: Uint8Array): string {
  const copy = bytes.slice();
  for (const [at, length] of FORGOTTEN) copy.fill(0, at, at + length);
  return Buffer.from(copy).toString('hex');
}

const takeRequest: Take = (memory, { frame }, at) => {
  const [request, entries] = [new SegmentRequest(), new Uint32Array(REQUEST_WORDS_MAX)];
  const vector = at + HEADER_BYTES;
  const wrong = decodeRequest(memory, frame, vector, request, entries);
  // What is said of its group may be wrong.
  if (wrong !== null && frame.kind === KIND_REQUEST + REQUEST_FLUSH) return;
  demand(wrong === null, `${wrong?.message}`);
  requestError(request, BOUNDS);
  const [again, address] = [new Frame(), new ReplicaAddress()];
  address.take(frame);
  again.request = frame.request;
  [again.traceLow, again.traceHigh, again.microseconds] = [frame.traceLow, frame.traceHigh, frame.microseconds];
  const head = requestHeadBytes(request);
  const sums = frame.payload > head - HEADER_BYTES ? sumsAt(frame) : -1;
  // What has other sums than it says is refused before it is written, and could not be written again.
  if (sums >= 0 && wrongBlock(memory, vector + sums, at + head, request.blocks) >= 0) return;
  const copy = new WireMemory(HEADER_BYTES + frame.payload);
  copy.bytes.set(memory.slice(at, HEADER_BYTES + frame.payload));
  encodeRequest(copy, again, 0, request, address, head);
  const [found, written] = [kept(memory.slice(at, HEADER_BYTES + frame.payload)), kept(copy.bytes)];
  demand(found === written, `a request is written as ${written.slice(0, 256)}, and was ${found.slice(0, 256)}`);
};

const takeList: Take = (memory, { frame }, at) => {
  const list = new SegmentList();
  if (decodeList(memory, frame, at + HEADER_BYTES, list) !== null) return;
  listError(list);
  const [copy, address] = [new WireMemory(HEADER_BYTES + frame.payload), new ReplicaAddress()];
  address.take(frame);
  encodeList(copy, new Frame(), 0, list, address);
  const payload = (from: WireMemory, start: number) => Buffer.from(from.slice(start + HEADER_BYTES, frame.payload));
  demand(payload(copy, 0).equals(payload(memory, at)), 'a list is written otherwise');
};

function takeMaps(payload: Uint8Array): void {
  for (const read of [
    () => decodeMaps(payload, null),
    () => decodeMaps(payload, KEY),
    () => decodeEitherMaps(payload, KEY),
  ]) {
    const maps = refusable(read);
    if (maps !== null) demand(Buffer.from(encodeMaps(maps)).equals(payload), 'maps are written otherwise');
  }
}

const take: Take = (memory, reader, at, random) => {
  const { kind, payload } = reader.frame;
  if (isRequest(kind)) {
    takeRequest(memory, reader, at, random);
    return;
  }
  const bytes = memory.slice(at + HEADER_BYTES, payload);
  if (kind === KIND_LIST) takeList(memory, reader, at, random);
  else if (kind === KIND_STORE_MAP) takeMaps(bytes);
  else if (kind === KIND_OPEN) refusable(() => decodeOpen(bytes, KEY));
  else if (kind === KIND_PING) refusable(() => decodeControl('ping', bytes));
  else if (kind === KIND_REFUSED) refusable(() => decodeControl('refused', bytes));
  else if (kind === KIND_HELLO) {
    const answerer = new HelloAnswerer(KEY, NODE);
    answerer.challenge();
    const hello = refusable(() => answerer.takeHello(bytes));
    demand(hello === null || hello.principal === 'operator', 'a hello is taken that nobody with the key has said');
  }
};

export const wireRequests: FuzzTarget = {
  name: 'wire-requests',
  covers: ['wire', 'layout'],
  bytesMax: 20_000,
  corpus: () => corpusFor(FROM_ASKER),
  generate: generateFor(FROM_ASKER),
  reseal: (bytes) => reseal(bytes, FROM_ASKER),
  run: (bytes, random) => readStream(bytes, random, FROM_ASKER, take),
};
