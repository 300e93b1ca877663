/** What is sent is what arrives: requests of each kind, answers, lists, maps, tickets and control payloads, at random. */

import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { SegmentList } from '#strake/ports/segment-list.js';
import {
  BlockBits,
  REQUEST_KINDS,
  REQUEST_READ,
  REQUEST_RELEASE,
  SegmentRequest,
} from '#strake/ports/segment-request.js';
import { CONTROL_RULES, type ControlName, decodeControl, encodeControl } from '#strake/wire/control.js';
import { Frame, putHeader, VolumeWords } from '#strake/wire/frame.js';
import { FRAME_READY, FrameReader } from '#strake/wire/framing.js';
import { REQUEST_WORDS_MAX } from '#strake/wire/limits.js';
import { decodeList, decodeListReply, encodeList, encodeListReply, listReplyBytes } from '#strake/wire/list-codec.js';
import { authenticateMap, decodeMaps, encodeMaps } from '#strake/wire/maps.js';
import { FROM_ANSWERER, FROM_ASKER, HEADER_BYTES, replyBlocks } from '#strake/wire/messages.js';
import {
  Answer,
  decodeReply,
  encodeReplies,
  encodeReply,
  getAnswer,
  getPacked,
  packedAt,
  putPacked,
  replySumsAt,
} from '#strake/wire/reply-codec.js';
import {
  decodeRequest,
  encodeRequest,
  ReplicaAddress,
  requestHeadBytes,
  requestPayloadBytes,
  sumsAt,
  wrongBlock,
} from '#strake/wire/request-codec.js';
import { decodeOpen, encodeOpen, openTicket, sealTicket } from '#strake/wire/ticket.js';
import { VERSION_MOST } from '#strake/wire/versions.js';
import { check, repetitions, run } from '../support/check.js';
import { addresses, exact, id, lists, maps, requests } from '../support/wire-arbitrary.js';
import { KEY } from '../support/wire-examples.js';
import { WireMemory } from '../support/wire-memory.js';

const BLOCK = 4096;
const RUNS = { numRuns: repetitions(600, 150) };
const word = fc.integer({ min: 0, max: 0xffff_ffff });
const byte = fc.integer({ min: 0, max: 255 });

/** A memory with room for a head before the page where blocks begin. */
const BLOCKS_AT = 4 * BLOCK;

function readerOf(memory: WireMemory, from: number): FrameReader {
  const reader = new FrameReader(memory, from);
  reader.open(VERSION_MOST);
  return reader;
}

function read(reader: FrameReader, at: number, available: number): void {
  assert.is(reader.read(at, available), FRAME_READY, reader.problem?.message);
  assert.is(HEADER_BYTES + reader.frame.payload, available);
  assert.ok(reader.hasVector(at + HEADER_BYTES), reader.problem?.message);
}

/** The words of a record, without what belongs to whoever holds it. */
function wordsOf({ entries, bad, left, token, memory, source, sourceBytes, ...words }: SegmentRequest) {
  return { ...words, entries: entries === null ? null : [...entries] };
}

check('requests of each kind arrive as they are, with all that is said of the replica', () => {
  const kinds = new Set<number>();
  const memory = new WireMemory(BLOCKS_AT + 256 * BLOCK);
  const [frame, entries] = [new Frame(), new Uint32Array(REQUEST_WORDS_MAX)];
  fc.assert(
    fc.property(
      requests,
      addresses,
      exact,
      fc.tuple(word, word, word),
      byte,
      (request, address, number, trace, fill) => {
        kinds.add(request.kind);
        const head = requestHeadBytes(request);
        const at = BLOCKS_AT - head;
        const blocks = requestPayloadBytes(request) - (head - HEADER_BYTES);
        memory.bytes.fill(fill, BLOCKS_AT, BLOCKS_AT + blocks);
        frame.request = number;
        [frame.traceLow, frame.traceHigh, frame.microseconds] = trace;
        encodeRequest(memory, frame, at, request, address, BLOCKS_AT);
        const reader = readerOf(memory, FROM_ASKER);
        read(reader, at, head + blocks);
        const found = new SegmentRequest();
        assert.is(decodeRequest(memory, reader.frame, at + HEADER_BYTES, found, entries), null);
        if (found.entries !== null && request.entries !== null) {
          found.entries = found.entries.slice(0, request.entries.length);
          // Of a request for entries they are the answer.
          if (request.kind === 5) found.entries.set(request.entries);
        }
        assert.equal(wordsOf(found), wordsOf(request));
        const same = new ReplicaAddress();
        same.take(reader.frame);
        assert.equal(same, address);
        assert.is(reader.frame.request, number);
        // Only reads may have a time that is left.
        const [traceLow, traceHigh, microseconds] = trace;
        const { frame: came } = reader;
        const left = request.kind === REQUEST_READ ? microseconds : 0;
        assert.equal([came.traceLow, came.traceHigh, came.microseconds], [traceLow, traceHigh, left]);
        const sums = blocks === 0 ? -1 : sumsAt(reader.frame);
        if (sums < 0) return;
        const vector = at + HEADER_BYTES + sums;
        assert.is(wrongBlock(memory, vector, BLOCKS_AT, request.blocks), -1);
        memory.bytes[BLOCKS_AT + blocks - 1] ^= 1;
        assert.is(wrongBlock(memory, vector, BLOCKS_AT, request.blocks), request.blocks - 1);
      },
    ),
    RUNS,
  );
  assert.is(kinds.size, REQUEST_KINDS);
});

const answers = fc
  .record({
    ...{ request: exact, incarnation: exact, depth: fc.integer({ min: 0, max: 65_535 }) },
    ...{ fence: fc.integer({ min: 0, max: 2 }), fill: byte, grains: word, entries: word },
  })
  .map((fields) => Object.assign(new Answer(), fields));

const bitsOf = fc.array(byte, { maxLength: 5 });

check('answers with a payload arrive as they are', () => {
  const memory = new WireMemory(BLOCKS_AT + 256 * BLOCK);
  const frame = new Frame();
  fc.assert(
    fc.property(
      requests,
      answers,
      bitsOf,
      bitsOf,
      fc.integer({ min: -133, max: 0 }),
      (request, answer, bad, left, errno) => {
        const blocks = Math.max(1, request.blocks);
        for (const block of bad) request.bad.add(block % blocks);
        for (const block of left) request.left.add(block % blocks);
        const result = errno < 0 ? errno : request.kind === 0 || request.kind === 6 ? request.blocks * BLOCK : 0;
        const asked = new SegmentRequest().begin(request.kind, request.chunk, 0);
        asked.blocks = request.blocks;
        if (request.kind === 5) asked.entries = new Uint32Array(request.blocks * 4);
        // What a former use has left is not there any more.
        asked.left.add(0);
        const head = encodeReply(memory, frame, 0, answer.result(result), request, BLOCKS_AT);
        const reader = readerOf(memory, FROM_ANSWERER);
        const data = replyBlocks(frame.flags, frame.payload) * BLOCK;
        read(reader, 0, head + data);
        assert.is(decodeReply(memory, reader.frame, HEADER_BYTES, asked), null);
        const found = new Answer();
        getAnswer(reader.frame, found);
        assert.equal(found, answer);
        assert.is(found.asResult, result);
        assert.equal([asked.bad, asked.left], [request.bad, request.left]);
        if (request.kind === 5 && errno === 0) assert.equal(asked.entries, request.entries);
        assert.is(data, result > 0 ? result : 0);
        if (data > 0) {
          assert.is(wrongBlock(memory, HEADER_BYTES + replySumsAt(frame.flags), BLOCKS_AT, request.blocks), -1);
        }
      },
    ),
    RUNS,
  );
});

check('packed answers arrive as they are, as far as they have room', () => {
  const memory = new WireMemory(HEADER_BYTES + 160 * 24);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(answers, fc.integer({ min: -133, max: 2 ** 31 })), { minLength: 1, maxLength: 160 }),
      (all) => {
        all.forEach(([answer, result], index) => {
          putPacked(memory.view, packedAt(0, index), answer.result(result));
        });
        const reader = readerOf(memory, FROM_ANSWERER);
        read(reader, 0, encodeReplies(memory, new Frame(), 0, all.length));
        const found = new Answer();
        all.forEach(([answer, result], index) => {
          getPacked(memory.view, packedAt(0, index), found);
          const { request, incarnation, grains, entries } = answer;
          const cut = { request: request % 2 ** 32, incarnation: incarnation % 2 ** 32 };
          assert.equal({ ...found }, { ...answer, ...cut, grains: grains % 2 ** 16, entries: entries % 2 ** 16 });
          assert.is(found.asResult, result);
        });
      },
    ),
    RUNS,
  );
});

/** What is asked for by a list. */
function askedOf({ kind, firstChunk, endChunk, sinceGeneration, sinceNumber, cursor, most }: SegmentList) {
  return { kind, firstChunk, endChunk, sinceGeneration, sinceNumber, cursor, most };
}

function entriesOf({ count, chunks, generations, flushNumbers, states }: SegmentList) {
  return Array.from({ length: count }, (_, at) => [chunks[at], generations[at], flushNumbers[at], states[at]]);
}

check('lists and their pages arrive as they are', () => {
  const memory = new WireMemory(64 << 10);
  fc.assert(
    fc.property(lists, addresses, exact, answers, (list, address, number, answer) => {
      const frame = new Frame();
      frame.request = number;
      const reader = readerOf(memory, FROM_ASKER);
      read(reader, 0, encodeList(memory, frame, 0, list, address));
      assert.is(reader.frame.request, number);
      const asked = new SegmentList();
      assert.is(decodeList(memory, reader.frame, HEADER_BYTES, asked), null);
      assert.equal(askedOf(asked), askedOf(list));
      encodeListReply(memory, new Frame(), 0, answer.result(list.count), list);
      const other = readerOf(memory, FROM_ANSWERER);
      read(other, 0, listReplyBytes(list));
      assert.is(decodeListReply(memory, other.frame, HEADER_BYTES, asked), null);
      assert.equal([asked.next, ...entriesOf(asked)], [list.next, ...entriesOf(list)]);
    }),
    RUNS,
  );
});

check('maps arrive as they are, one or several, and are proven by the key', () => {
  fc.assert(
    fc.property(fc.array(maps, { minLength: 1, maxLength: 4 }), (all) => {
      assert.equal(decodeMaps(encodeMaps(all), null), all);
      const decided = all.map((map) => authenticateMap(map, KEY));
      assert.equal(decodeMaps(encodeMaps(decided), KEY), decided);
    }),
    RUNS,
  );
});

check('tickets and what opens a replica arrive as they are', () => {
  const roles = fc.constantFrom('writer' as const, 'reader' as const, 'job' as const);
  fc.assert(
    fc.property(id, exact, roles, maps, (clientId, generation, role, given) => {
      const ticket = { volumeId: given.volume.id, clientId, generation, role };
      assert.equal(openTicket(sealTicket(ticket, KEY), KEY), ticket);
      const map = authenticateMap(given, KEY);
      assert.equal(decodeOpen(encodeOpen(sealTicket(ticket, KEY), map), KEY), { ticket, map });
      assert.equal(decodeOpen(encodeOpen(sealTicket(ticket, KEY), given), KEY), { ticket, map: given });
    }),
    RUNS,
  );
});

check('headers arrive as they are, and ids of volumes are written out as they were', () => {
  const memory = new WireMemory(HEADER_BYTES);
  fc.assert(
    fc.property(id, id, (one, other) => {
      const [words, others] = [new VolumeWords().set(one), new VolumeWords().set(other)];
      assert.is(String(words), one);
      assert.is(words.equals(others), one === other);
      const frame = new Frame().begin(7, 0, 1);
      frame.volume.copy(words);
      putHeader(memory, 0, frame, false);
      const reader = readerOf(memory, FROM_ASKER);
      read(reader, 0, HEADER_BYTES);
      assert.ok(reader.frame.volume.equals(words));
    }),
    RUNS,
  );
});

check('bits of blocks are written and read, and none beyond those that there are', () => {
  const view = new DataView(new ArrayBuffer(32));
  fc.assert(
    fc.property(fc.array(byte), fc.integer({ min: 1, max: 256 }), (added, blocks) => {
      const [bits, found] = [new BlockBits(), new BlockBits()];
      for (const block of added) bits.add(block);
      found.add(3);
      bits.put(view, 0);
      const within = added.every((block) => block < blocks);
      assert.is(found.take(view, 0, blocks), within);
      assert.equal(found, within ? bits : new BlockBits());
    }),
    RUNS,
  );
  // A chunk that was not released is block 0 of a request without blocks.
  const release = new SegmentRequest().begin(REQUEST_RELEASE, 1, 0);
  assert.is(release.blocks, 0);
});

check('each control payload that is JSON arrives as it is', () => {
  const flush = { generation: 5, flushNumber: 6 };
  const device = { deviceId: 'a'.repeat(32), incarnation: 1, depth: 2, segmentBytes: 1 << 16, freeBytes: 3 };
  const given: { [Name in ControlName]: object } = {
    challenge: { versionLeast: 1, versionMost: 2, features: ['x'], nodeId: 'b'.repeat(32), clusterId: 'c'.repeat(32) },
    hello: { version: 1, features: [], clientId: 'd'.repeat(32), session: 4, principal: 'öperator' },
    welcome: { creditRequests: 1, creditBytes: 2, shards: ['10.0.0.1:7'] },
    ping: { taken: 1, stalled: [{ volumeId: 'e'.repeat(32), group: 2 }] },
    pong: { taken: 1, devices: [{ ...device, health: 'failed' }] },
    opened: {
      ...{ deviceId: 'a'.repeat(32), segmentBytes: 65_536, incarnation: 2, flushed: flush, settled: flush },
      ...{ servedGeneration: 3, stampMax: { low: 1, high: 2 }, epoch: 1, freeBytes: 0, taken: 9 },
    },
    stored: { mapVersion: 2 ** 47, incarnation: 1, servedGeneration: 0 },
    failure: { name: 'NO_VOLUME', message: 'why', remedy: 'how' },
    refused: { status: 288, message: 'why' },
  };
  assert.equal(Object.keys(given), Object.keys(CONTROL_RULES));
  for (const [name, fields] of Object.entries(given) as [ControlName, never][]) {
    assert.equal(decodeControl(name, encodeControl(name, fields)), fields);
  }
});

run();
