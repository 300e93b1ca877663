/** Both ends of the rings between two shards, over a member that notes what it is asked and answers when the test says so. */

import * as assert from 'uvu/assert';
import { AwayMember } from '#strake/across/away-member.js';
import { CALLS_MAX, ENTRY_AREAS } from '#strake/across/limits.js';
import { type AnsweringMember, MemberAnswerer } from '#strake/across/member-answerer.js';
import { DeviceTraffic, MemberAsker } from '#strake/across/member-asker.js';
import { createLink } from '#strake/across/protocol.js';
import { EIO, ENODATA } from '#strake/core/errno.js';
import { ENTRY_WORDS } from '#strake/layout/block-entry.js';
import { NO_FLUSH } from '#strake/layout/flush-id.js';
import { COMPLETION_ABANDONED } from '#strake/ports/completion.js';
import { FENCE_ALL, FENCE_OPEN, FENCE_WRITES } from '#strake/ports/device.js';
import { CHUNK_DOUBT, LIST_SINCE, SegmentList } from '#strake/ports/segment-list.js';
import {
  REQUEST_COPY,
  REQUEST_ENTRIES,
  REQUEST_FLUSH,
  REQUEST_FUA,
  REQUEST_MARKED,
  REQUEST_READ,
  REQUEST_SAME,
  REQUEST_WRITE,
  SegmentRequest,
} from '#strake/ports/segment-request.js';
import { SimLoop } from '#strake/sim/world/loop.js';
import { check, run } from '../support/check.js';

const BLOCK = 4096;
const MEMORY = 1 << 20;
/** Where the asking shard's arena begins for the other one. */
const GUEST = 256 << 10;
const DEVICE = 7;
const PAGE = 3;

class Noting implements AnsweringMember {
  readonly deviceId = 'd'.repeat(32);
  readonly segmentBytes = MEMORY;
  readonly incarnation = 5;
  readonly flushed = NO_FLUSH;
  readonly settled = null;
  readonly stampMax = { low: 0, high: 0 };
  readonly outstanding = 0;
  readonly requests: SegmentRequest[] = [];
  readonly lists: SegmentList[] = [];
  fenced = FENCE_OPEN;
  closed = 0;

  fence(): number {
    return this.fenced;
  }

  mayRead(): boolean {
    return true;
  }

  whenLeased(): void {}

  submit(request: SegmentRequest): void {
    this.requests.push(request);
  }

  list(page: SegmentList): void {
    this.lists.push(page);
  }

  close(): void {
    this.closed += 1;
  }
}

/** What has ended: result and flags, by the order of its beginning. */
type Ending = readonly [number, number];

class Pair {
  readonly loop = new SimLoop({ seed: 1, arenaBytes: MEMORY });
  readonly noting = new Noting();
  readonly traffic = new DeviceTraffic();
  readonly asker: MemberAsker;
  readonly answerer: MemberAnswerer;
  readonly member: AwayMember;
  readonly ends: (Ending | undefined)[] = [];
  /** What was done before entries are shown, and that somebody was woken for them. */
  readonly order: string[] = [];
  readonly lent: number[] = [];
  readonly back: number[] = [];
  private readonly base: number;

  constructor() {
    const { loop, noting } = this;
    const link = createLink();
    const wakes = loop.register({
      complete: (tag) => {
        if (tag === 0) this.asker.drain();
        else this.answerer.drain();
      },
    });
    this.base = loop.register({
      complete: (tag, result, flags) => {
        assert.is(this.ends[tag], undefined, 'each ends once');
        this.ends[tag] = [result, flags];
      },
    });
    this.answerer = new MemberAnswerer({
      completions: loop,
      memory: loop,
      link,
      wake: () => loop.defer(wakes, 0),
      guestStart: GUEST,
      guestBytes: MEMORY,
      member: (device, page) => (device === DEVICE && page === PAGE ? noting : null),
    });
    this.asker = new MemberAsker({
      completions: loop,
      memory: loop,
      link,
      wake: () => {
        this.order.push('wake');
        loop.defer(wakes + 1, 0);
      },
      inBatch: () => false,
      takeCopies: () => this.order.push('copies'),
      payloads: 0,
      lend: (memory) => this.lent.push(memory),
      takeBack: (memory) => this.back.push(memory),
    });
    this.member = this.open(PAGE);
  }

  open(page: number): AwayMember {
    const { deviceId, segmentBytes, incarnation, flushed, settled } = this.noting;
    const facts = { deviceId, segmentBytes, incarnation, flushed, settled };
    return new AwayMember(this.asker, this.asker.open(DEVICE, page), this.traffic, facts);
  }

  /** Gives a request a token. */
  begin(kind: number, chunk = 0): SegmentRequest {
    return new SegmentRequest().begin(kind, chunk, this.base + this.ends.push(undefined) - 1);
  }

  list(kind: number): SegmentList {
    const page = new SegmentList().begin(kind);
    page.token = this.base + this.ends.push(undefined) - 1;
    return page;
  }

  /** Until nothing happens any more. */
  async quiet(): Promise<void> {
    let batches = -1;
    await this.loop.run(() => {
      const same = batches === this.loop.batches;
      batches = this.loop.batches;
      return same || !this.loop.step();
    });
  }

  /** The member answers what it was asked under this number. */
  answer(number: number, result: number, flags = 0): Promise<void> {
    this.loop.complete(this.noting.requests[number].token, result, flags);
    return this.quiet();
  }
}

check('a request arrives as it was asked, and its payload is behind the memory of the other shard', async () => {
  const pair = new Pair();
  const request = pair.begin(REQUEST_WRITE, 2 ** 40 + 5);
  Object.assign(request, { block: 3, blocks: 2, memory: 8 * BLOCK, stampLow: -7, stampHigh: 2 ** 31 - 1 });
  Object.assign(request, {
    generation: 2 ** 24 - 1,
    flushNumber: 2 ** 45 + 1,
    flags: REQUEST_FUA | REQUEST_SAME | REQUEST_COPY,
  });
  request.entries = Uint32Array.from({ length: 2 * 2 * ENTRY_WORDS }, (_, at) => 2 ** 32 - 1 - at);
  pair.loop.bytes.fill(9, 100, 100 + BLOCK);
  Object.assign(request, { source: 100, sourceBytes: BLOCK });
  pair.member.submit(request);
  assert.is(pair.loop.bytes[8 * BLOCK], 9, 'it is copied to its place at once');
  await pair.quiet();
  const [arrived] = pair.noting.requests;
  const { token, memory, source, sourceBytes, bad, left, entries, ...rest } = arrived;
  const { token: _t, memory: _m, source: _s, sourceBytes: _b, bad: _d, left: _l, entries: _e, ...asked } = request;
  assert.equal(rest, asked);
  assert.equal([memory, source, sourceBytes, bad.count, left.count], [GUEST + 8 * BLOCK, -1, 0, 0, 0]);
  assert.equal([...(entries as Uint32Array)], [...(request.entries as Uint32Array)]);
  assert.is(pair.member.outstanding, 1);
  await pair.answer(0, 2 * BLOCK);
  assert.equal(pair.ends, [[2 * BLOCK, 0]]);
  assert.is(pair.member.outstanding, 0);
});

check('a flush arrives with what is settled', async () => {
  const pair = new Pair();
  const request = pair.begin(REQUEST_FLUSH);
  Object.assign(request, {
    generation: 4,
    flushNumber: 9,
    settledGeneration: 3,
    settledNumber: 2 ** 41,
    flags: REQUEST_MARKED,
  });
  pair.member.submit(request);
  await pair.quiet();
  const { generation, flushNumber, settledGeneration, settledNumber, flags, chunk } = pair.noting.requests[0];
  assert.equal(
    [generation, flushNumber, settledGeneration, settledNumber, flags, chunk],
    [4, 9, 3, 2 ** 41, REQUEST_MARKED, 0],
  );
});

check('an answer brings the blocks that it names, entries, and what the device accepts', async () => {
  const pair = new Pair();
  const read = pair.begin(REQUEST_READ);
  Object.assign(read, { blocks: 200 });
  const entries = pair.begin(REQUEST_ENTRIES);
  Object.assign(entries, { blocks: 2, entries: new Uint32Array(2 * ENTRY_WORDS) });
  pair.member.submit(read);
  pair.member.submit(entries);
  await pair.quiet();
  const [there, wanted] = pair.noting.requests;
  for (const block of [0, 31, 199]) there.bad.add(block);
  there.left.add(64);
  pair.noting.fenced = FENCE_WRITES;
  await pair.answer(0, -ENODATA);
  assert.equal(
    [0, 1, 31, 64, 199].map((block) => read.bad.has(block)),
    [true, false, true, false, true],
  );
  assert.equal([read.bad.count, read.left.count, read.left.has(64)], [3, 1, true]);
  assert.is(pair.member.fence(), FENCE_WRITES);
  wanted.entries?.set([1, 2, 3, 4, 5, 6, 7, 8]);
  await pair.answer(1, 0);
  assert.equal([...(entries.entries as Uint32Array)], [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.equal(pair.ends, [
    [-ENODATA, 0],
    [0, 0],
  ]);
});

check('a list arrives as it was asked, and its page comes back', async () => {
  const pair = new Pair();
  const page = pair.list(LIST_SINCE);
  const never = Number.MAX_SAFE_INTEGER;
  Object.assign(page, { firstChunk: 3, endChunk: 2 ** 50, cursor: 17, sinceGeneration: never, sinceNumber: never });
  page.most = 2;
  pair.member.list(page);
  await pair.quiet();
  const [there] = pair.noting.lists;
  const { kind, firstChunk, endChunk, cursor, sinceGeneration, sinceNumber, most } = there;
  assert.equal(
    [kind, firstChunk, endChunk, cursor, sinceGeneration, sinceNumber, most],
    [LIST_SINCE, 3, 2 ** 50, 17, never, never, 2],
  );
  there.count = 0;
  there.add(2 ** 41, 6, 2 ** 40, CHUNK_DOUBT);
  there.add(5, 7, 8, 0);
  there.next = 2 ** 34;
  pair.loop.complete(there.token, 0, 0);
  await pair.quiet();
  assert.equal([page.count, page.next, page.chunks[0], page.generations[0]], [2, 2 ** 34, 2 ** 41, 6]);
  assert.equal([page.flushNumbers[0], page.states[0], page.chunks[1], page.states[1]], [2 ** 40, CHUNK_DOUBT, 5, 0]);
});

check('entries are shown after what was asked to be copied is done', async () => {
  const pair = new Pair();
  pair.member.submit(pair.begin(REQUEST_FLUSH));
  assert.equal(pair.order, []);
  await pair.quiet();
  assert.equal(pair.order.slice(-2), ['copies', 'wake']);
});

check('more than may be in flight wait, and have their turns in order', async () => {
  const pair = new Pair();
  const extra = 100;
  for (let number = 0; number < CALLS_MAX + extra; number += 1) pair.member.submit(pair.begin(REQUEST_READ, number));
  await pair.quiet();
  assert.is(pair.noting.requests.length, CALLS_MAX);
  assert.is(pair.asker.running, CALLS_MAX);
  assert.is(pair.member.outstanding, CALLS_MAX + extra);
  for (let number = 0; number < extra; number += 1) pair.loop.complete(pair.noting.requests[number].token, 0, 0);
  await pair.quiet();
  assert.equal(
    pair.noting.requests.slice(CALLS_MAX).map(({ chunk }) => chunk),
    Array.from({ length: extra }, (_, at) => CALLS_MAX + at),
  );
});

check('a payload is in its place at once, also of a write that waits, or that nobody carries out', async () => {
  const pair = new Pair();
  const write = () => {
    const request = pair.begin(REQUEST_WRITE);
    Object.assign(request, { blocks: 1, memory: BLOCK, source: 4 * BLOCK, sourceBytes: BLOCK });
    pair.loop.bytes.fill(7, 4 * BLOCK, 5 * BLOCK);
    pair.member.submit(request);
    // It is the caller's again.
    pair.loop.bytes.fill(8, 4 * BLOCK, 5 * BLOCK);
    const inPlace = pair.loop.bytes[BLOCK];
    pair.loop.bytes.fill(0, BLOCK, 2 * BLOCK);
    return inPlace;
  };
  assert.is(write(), 7);
  for (let number = 0; number < CALLS_MAX; number += 1) pair.member.submit(pair.begin(REQUEST_READ, number));
  assert.is(write(), 7, 'it waits');
  pair.asker.lose(false);
  assert.is(write(), 7, 'the other shard has gone');
});

check('so do those for whose entries there is no room', async () => {
  const pair = new Pair();
  const ask = () => {
    const request = pair.begin(REQUEST_ENTRIES);
    Object.assign(request, { blocks: 1, entries: new Uint32Array(ENTRY_WORDS) });
    pair.member.submit(request);
  };
  for (let number = 0; number < ENTRY_AREAS + 2; number += 1) ask();
  await pair.quiet();
  assert.is(pair.noting.requests.length, ENTRY_AREAS);
  await pair.answer(4, 0);
  assert.is(pair.noting.requests.length, ENTRY_AREAS + 1);
});

check('memory of an operation that was given up is lent until it has ended', async () => {
  const pair = new Pair();
  const request = pair.begin(REQUEST_READ);
  Object.assign(request, { memory: 16 * BLOCK, blocks: 2 });
  pair.member.submit(request);
  await pair.quiet();
  const { memory } = pair.noting.requests[0];
  pair.loop.abandon(memory + BLOCK, BLOCK, false);
  await pair.answer(0, -EIO, COMPLETION_ABANDONED);
  assert.equal([pair.ends, pair.lent, pair.back], [[[-EIO, COMPLETION_ABANDONED]], [16 * BLOCK], []]);
  pair.loop.endAbandoned(memory + BLOCK, BLOCK, false);
  await pair.quiet();
  pair.asker.drain();
  assert.equal([pair.lent, pair.back], [[16 * BLOCK], [16 * BLOCK]]);
});

for (const mayGoOn of [false, true]) {
  const what = mayGoOn ? 'keeps memory that it may still use' : 'gives memory back';
  check(`a shard that dies answers everything with an error, and ${what}`, async () => {
    const pair = new Pair();
    const read = pair.begin(REQUEST_READ);
    Object.assign(read, { memory: 4 * BLOCK, blocks: 1 });
    pair.member.submit(read);
    pair.member.submit(pair.begin(REQUEST_FLUSH));
    for (let number = 0; number < CALLS_MAX; number += 1) pair.member.submit(pair.begin(REQUEST_FLUSH));
    await pair.quiet();
    pair.asker.lose(mayGoOn);
    assert.is(pair.ends[0], undefined, 'nothing ends within the call');
    await pair.quiet();
    const flags = mayGoOn ? COMPLETION_ABANDONED : 0;
    assert.equal(pair.ends[0], [-EIO, flags]);
    assert.ok(pair.ends.slice(1).every((ending) => ending?.[0] === -EIO && ending[1] === 0));
    assert.equal(pair.lent, mayGoOn ? [4 * BLOCK] : []);
    assert.equal([pair.member.outstanding, pair.member.fence()], [0, FENCE_ALL]);
    const late = pair.begin(REQUEST_READ);
    pair.member.submit(late);
    await pair.quiet();
    assert.equal(pair.ends.at(-1), [-EIO, 0]);
    pair.member.close();
    pair.asker.dispose();
  });
}

check(
  'a member is opened and closed in the order of its requests; what is not there answers nothing but errors',
  async () => {
    const pair = new Pair();
    const nowhere = pair.open(PAGE + 1);
    nowhere.submit(pair.begin(REQUEST_READ));
    await pair.quiet();
    assert.equal([pair.ends, nowhere.fence()], [[[-EIO, 0]], FENCE_ALL]);
    nowhere.close();
    pair.member.close();
    // Its number is given again at once.
    const again = pair.open(PAGE);
    again.submit(pair.begin(REQUEST_FLUSH));
    await pair.quiet();
    assert.equal([pair.noting.closed, pair.noting.requests.length], [1, 1]);
    const closed = pair.answerer.close();
    pair.loop.complete(pair.noting.requests[0].token, 0, 0);
    await pair.loop.settle(closed);
    assert.is(pair.noting.closed, 2);
  },
);

run();
