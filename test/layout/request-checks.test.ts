/** What is no request, or list, of a member is told why: kinds, flags, chunks, blocks and entries out of bounds. */

import * as assert from 'uvu/assert';
import { listError, type RequestBounds, requestError } from '#strake/layout/request-checks.js';
import { LIST_ALL, LIST_KINDS, SegmentList } from '#strake/ports/segment-list.js';
import {
  REQUEST_ALLOCATE,
  REQUEST_COPY,
  REQUEST_ENTRIES,
  REQUEST_FLUSH,
  REQUEST_FUA,
  REQUEST_KEEP,
  REQUEST_KINDS,
  REQUEST_NEWER,
  REQUEST_POISON,
  REQUEST_READ,
  REQUEST_SAME,
  REQUEST_WRITE,
  SegmentRequest,
} from '#strake/ports/segment-request.js';
import { check, run } from '../support/check.js';

/** The second of two groups, of chunks of 16 blocks. */
const BOUNDS: RequestBounds = { chunks: 8, chunkBlocks: 16, group: 1, groups: 2 };

function request(kind: number, changes: Partial<SegmentRequest> = {}): SegmentRequest {
  return Object.assign(new SegmentRequest().begin(kind, 3, 0), { blocks: 4 }, changes);
}

check('requests within bounds are requests', [], () => {
  for (const one of [
    request(REQUEST_READ, { block: 12 }),
    request(REQUEST_WRITE, { flags: REQUEST_SAME | REQUEST_COPY, entries: new Uint32Array(32) }),
    request(REQUEST_ENTRIES, { entries: new Uint32Array(16) }),
    request(REQUEST_POISON, { flags: REQUEST_NEWER }),
    request(REQUEST_POISON, { flags: REQUEST_SAME, entries: new Uint32Array(16) }),
    request(REQUEST_ALLOCATE, { chunk: 7, blocks: 0 }),
    request(REQUEST_FLUSH, { chunk: 99, blocks: 0 }),
  ]) {
    assert.is(requestError(one, BOUNDS), null, `kind ${one.kind}`);
  }
});

check('requests out of bounds are told by what is wrong with them', [], () => {
  const wrong: readonly (readonly [SegmentRequest, RegExp])[] = [
    [request(REQUEST_KINDS), /no request of kind/],
    [request(-1), /no request of kind/],
    [request(0.5), /no request of kind/],
    [request(REQUEST_READ, { flags: REQUEST_KEEP }), /has no flags/],
    [request(REQUEST_WRITE, { flags: 1 << 20 }), /has no flags/],
    [request(REQUEST_READ, { generation: -1 }), /no point in a volume's history/],
    [request(REQUEST_FLUSH, { flushNumber: 2 ** 53 }), /no point in a volume's history/],
    [request(REQUEST_READ, { chunk: 9 }), /is not one of the 8/],
    [request(REQUEST_ALLOCATE, { chunk: -1 }), /is not one of the 8/],
    [request(REQUEST_READ, { chunk: Number.NaN }), /is not one of the 8/],
    [request(REQUEST_READ, { chunk: 2 }), /another group/],
    [request(REQUEST_READ, { blocks: 0 }), /no range of the 16/],
    [request(REQUEST_READ, { block: -1 }), /no range of the 16/],
    [request(REQUEST_READ, { block: 13 }), /no range of the 16/],
    [request(REQUEST_WRITE, { block: 0.5 }), /no range of the 16/],
    [request(REQUEST_POISON), /needs the condition NEWER or SAME/],
    [request(REQUEST_POISON, { flags: REQUEST_FUA | REQUEST_NEWER }), /has no flags/],
    [request(REQUEST_POISON, { flags: REQUEST_SAME }), /0 words of entries/],
    [request(REQUEST_ENTRIES), /0 words of entries/],
    [request(REQUEST_WRITE, { flags: REQUEST_SAME, entries: new Uint32Array(15) }), /15 words .* need 16/],
    [request(REQUEST_WRITE, { flags: REQUEST_SAME | REQUEST_COPY, entries: new Uint32Array(16) }), /need 32/],
  ];
  for (const [one, reason] of wrong) assert.match(requestError(one, BOUNDS) ?? 'nothing is wrong', reason);
});

check('lists out of bounds are told by what is wrong with them', [], () => {
  const list = (changes: Partial<SegmentList>) => Object.assign(new SegmentList().begin(LIST_ALL), changes);
  assert.is(listError(list({})), null);
  assert.match(listError(list({ kind: LIST_KINDS })) ?? '', /no list of kind/);
  assert.match(listError(list({ firstChunk: 2, endChunk: 1 })) ?? '', /are no range/);
  assert.match(listError(list({ firstChunk: -1 })) ?? '', /are no range/);
  assert.match(listError(list({ sinceNumber: -1 })) ?? '', /no point in a volume's history/);
  assert.match(listError(list({ cursor: -1 })) ?? '', /does not go on/);
  for (const most of [0, 4097]) assert.match(listError(list({ most })) ?? '', /has no .* entries/);
});

run();
