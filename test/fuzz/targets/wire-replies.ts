/**
 * The client's end of the native protocol: any bytes where frames of a node are expected. An answer fills the record of the request
 * that it is for, and nothing beyond what was asked for; or it is refused.
 */

import { SegmentList } from '#strake/ports/segment-list.js';
import { REQUEST_ENTRIES, REQUEST_KINDS, SegmentRequest } from '#strake/ports/segment-request.js';
import type { SimRandom } from '#strake/sim/world/random.js';
import { decodeControl } from '#strake/wire/control.js';
import { HelloAsker } from '#strake/wire/hello.js';
import { LIST_ENTRIES_MAX, STATUS_ERRNO_MAX } from '#strake/wire/limits.js';
import { decodeListReply } from '#strake/wire/list-codec.js';
import { decodeEitherMaps } from '#strake/wire/maps.js';
import {
  FROM_ANSWERER,
  HEADER_BYTES,
  KIND_CHALLENGE,
  KIND_MAP_CHANGED,
  KIND_PONG,
  KIND_REFUSED,
  KIND_REPLIES,
  KIND_REPLY,
  KIND_WELCOME,
  REPLY_JSON,
  REPLY_MAPS,
  replyBlocks,
} from '#strake/wire/messages.js';
import { Answer, decodeReply, getAnswer, getPacked, packedAt } from '#strake/wire/reply-codec.js';
import { EXAMPLES, KEY } from '../../support/wire-examples.js';
import { demand, type FuzzTarget } from '../target.js';
import { corpusFor, generateFor, readStream, refusable, reseal, type Take } from '../wire-streams.js';

const CLIENT = {
  ...{ clientId: '30313233343536373839616263646566', clusterId: 'c0c1c2c3c4c5c6c7c8c9cacbcccdcecf' },
  ...{ session: 5, principal: 'operator', features: [] },
};
/** What nothing may write to. */
const UNTOUCHED = 0x5a5a_5a5a;

/** A request that is waiting for its answer, with room for as many entries as it has blocks, and some more. */
function waiting(random: SimRandom): SegmentRequest {
  const request = new SegmentRequest().begin(random.below(REQUEST_KINDS), 7, 0);
  request.blocks = random.pick([0, 1, 3, 12, 256]);
  if (request.kind === REQUEST_ENTRIES) request.entries = new Uint32Array(4 * request.blocks + 8).fill(UNTOUCHED);
  return request;
}

const takeReply: Take = (memory, { frame }, at, random) => {
  const answer = new Answer();
  getAnswer(frame, answer);
  if (answer.status <= STATUS_ERRNO_MAX) demand(answer.asResult >= -STATUS_ERRNO_MAX, 'a result that is none');
  const request = waiting(random);
  const vector = at + HEADER_BYTES;
  if (decodeReply(memory, frame, vector, request) === null) {
    const blocks = replyBlocks(frame.flags, frame.payload);
    demand(blocks === 0 || blocks === request.blocks, `${blocks} blocks answer for ${request.blocks}`);
    const most = Math.max(1, request.blocks);
    demand(request.bad.count <= most && request.left.count <= most, 'bits of blocks that were not asked for');
  }
  const beyond = request.entries?.subarray(4 * request.blocks) ?? [];
  demand(
    beyond.every((word) => word === UNTOUCHED),
    'entries are written beyond their room',
  );
  const list = new SegmentList().begin(0);
  decodeListReply(memory, frame, vector, list);
  demand(list.count >= 0 && list.count <= LIST_ENTRIES_MAX, `${list.count} entries of a list`);
  const bytes = memory.slice(vector, frame.payload);
  if ((frame.flags & REPLY_JSON) !== 0) {
    refusable(() => decodeControl('opened', bytes));
    refusable(() => decodeControl('stored', bytes));
  }
  if ((frame.flags & REPLY_MAPS) !== 0) refusable(() => decodeEitherMaps(bytes, KEY));
};

const take: Take = (memory, reader, at, random) => {
  const { kind, payload, count } = reader.frame;
  const bytes = memory.slice(at + HEADER_BYTES, payload);
  if (kind === KIND_REPLY) takeReply(memory, reader, at, random);
  else if (kind === KIND_REPLIES) {
    const answer = new Answer();
    for (let index = 0; index < count; index += 1) getPacked(memory.view, packedAt(at, index), answer);
  } else if (kind === KIND_MAP_CHANGED) refusable(() => decodeEitherMaps(bytes, KEY));
  else if (kind === KIND_PONG) refusable(() => decodeControl('pong', bytes));
  else if (kind === KIND_REFUSED) refusable(() => decodeControl('refused', bytes));
  else if (kind === KIND_CHALLENGE) refusable(() => new HelloAsker(KEY, CLIENT).takeChallenge(bytes));
  else if (kind === KIND_WELCOME) {
    const asker = new HelloAsker(KEY, CLIENT);
    asker.takeChallenge(EXAMPLES.CHALLENGE().subarray(HEADER_BYTES));
    const welcome = refusable(() => asker.takeWelcome(bytes));
    // The client's nonce is another one here, so that no welcome of the page is for it.
    demand(welcome === null, 'a welcome is taken that no node has said');
  }
};

export const wireReplies: FuzzTarget = {
  name: 'wire-replies',
  covers: ['wire', 'layout'],
  bytesMax: 20_000,
  corpus: () => corpusFor(FROM_ANSWERER),
  generate: generateFor(FROM_ANSWERER),
  reseal: (bytes) => reseal(bytes, FROM_ANSWERER),
  run: (bytes, random) => readStream(bytes, random, FROM_ANSWERER, take),
};
