/** What is no frame, no payload and no answer: each field that is wrong is refused by name, before anything is done for it. */

import * as assert from 'uvu/assert';
import { LIST_ALL, LIST_DIGESTS, SegmentList } from '#strake/ports/segment-list.js';
import { REQUEST_ENTRIES, REQUEST_READ, REQUEST_WRITE, SegmentRequest } from '#strake/ports/segment-request.js';
import { decodeControl, encodeControl, encodeRefusal } from '#strake/wire/control.js';
import { Credits } from '#strake/wire/credits.js';
import { FRAME_READY, FRAME_REFUSED, FRAME_SHORT, FrameReader } from '#strake/wire/framing.js';
import { REQUEST_WORDS_MAX } from '#strake/wire/limits.js';
import { decodeList, decodeListReply, pageError } from '#strake/wire/list-codec.js';
import { authenticateMap, decodeEitherMaps, decodeMaps, encodeMaps } from '#strake/wire/maps.js';
import {
  FROM_ANSWERER,
  FROM_ASKER,
  HEADER_BYTES,
  KIND_RULES,
  STATUS_BAD_FRAME,
  STATUS_BAD_SUM,
  STATUS_BAD_VERSION,
  STATUS_DENIED,
} from '#strake/wire/messages.js';
import { WireRefusal } from '#strake/wire/refusal.js';
import { decodeReply } from '#strake/wire/reply-codec.js';
import { decodeRequest } from '#strake/wire/request-codec.js';
import { decodeOpen, encodeOpen, openTicket, sealTicket } from '#strake/wire/ticket.js';
import { VERSION_MOST } from '#strake/wire/versions.js';
import { check, run } from '../support/check.js';
import { definedCrc } from '../support/golden.js';
import { EXAMPLES, KEY, MAP } from '../support/wire-examples.js';
import { WireMemory } from '../support/wire-memory.js';

type Change = (view: DataView, bytes: Uint8Array) => void;

/** The frame with a change in its header, and a sum that fits. */
function changed(bytes: Uint8Array, change: Change): WireMemory {
  const memory = new WireMemory(bytes.length);
  memory.bytes.set(bytes);
  change(memory.view, memory.bytes);
  memory.view.setUint32(124, 0, true);
  memory.view.setUint32(124, definedCrc(memory.bytes.subarray(0, HEADER_BYTES)), true);
  return memory;
}

function readerOf(memory: WireMemory, name: string): FrameReader {
  const rule = KIND_RULES[EXAMPLES[name]()[5]];
  const reader = new FrameReader(memory, rule?.from === FROM_ASKER ? FROM_ASKER : FROM_ANSWERER);
  if (rule?.handshake === false) reader.open(VERSION_MOST);
  return reader;
}

/** So many packed answers, as count and length have it. */
function setBoth(view: DataView, count: number): void {
  view.setUint32(96, count, true);
  view.setUint32(68, count * 24, true);
}

const WRONG: readonly (readonly [name: string, what: string, Change, status: number, message: RegExp])[] = [
  ['READ', 'another magic number', (view) => view.setUint8(0, 0x54), STATUS_BAD_FRAME, /begins with 0x574b5454/],
  ['READ', 'a version to come', (view) => view.setUint8(4, 2), STATUS_BAD_VERSION, /of version 2, not 1/],
  ['READ', 'no version', (view) => view.setUint8(4, 0), STATUS_BAD_VERSION, /of version 0/],
  ['HELLO', 'a version to come in the handshake', (view) => view.setUint8(4, 2), STATUS_BAD_VERSION, /of version 2/],
  ['READ', 'kind 0', (view) => view.setUint8(5, 0), STATUS_BAD_FRAME, /there is no kind 0/],
  ['READ', 'a kind between others', (view) => view.setUint8(5, 43), STATUS_BAD_FRAME, /there is no kind 43/],
  ['READ', 'a kind to come', (view) => view.setUint8(5, 255), STATUS_BAD_FRAME, /there is no kind 255/],
  [
    'READ',
    'a kind of the other end',
    (view) => view.setUint8(5, 9),
    STATUS_BAD_FRAME,
    /REPLY comes from the wrong end/,
  ],
  [
    'REPLIES',
    'a request from a node',
    (view) => view.setUint8(5, 32),
    STATUS_BAD_FRAME,
    /READ comes from the wrong end/,
  ],
  ['READ', 'a hello in the session', (view) => view.setUint8(5, 2), STATUS_BAD_FRAME, /HELLO after the handshake/],
  [
    'HELLO',
    'a request in the handshake',
    (view) => view.setUint8(5, 32),
    STATUS_BAD_FRAME,
    /READ before the handshake/,
  ],
  ['READ', 'a flag that reads have not', (view) => view.setUint16(6, 1, true), STATUS_BAD_FRAME, /READ has no flags 1/],
  ['WRITE', 'KEEP', (view) => view.setUint16(6, 512, true), STATUS_BAD_FRAME, /WRITE has no flags 512/],
  ['WRITE', 'RAW, and FUA', (view) => view.setUint16(6, 17, true), STATUS_BAD_FRAME, /WRITE has no flags 16/],
  ['FLUSH', 'an unknown flag', (view) => view.setUint16(6, 0x8080, true), STATUS_BAD_FRAME, /FLUSH has no flags 32768/],
  ['REPLIES', 'a flag', (view) => view.setUint16(6, 1, true), STATUS_BAD_FRAME, /REPLIES has no flags 1/],
  [
    'READ',
    'a request id beyond',
    (view) => view.setUint32(12, 1 << 21, true),
    STATUS_BAD_FRAME,
    /its request id is beyond/,
  ],
  [
    'READ',
    'a map version beyond',
    (view) => view.setUint32(44, 1 << 21, true),
    STATUS_BAD_FRAME,
    /its map version is beyond/,
  ],
  ['READ', 'a chunk beyond', (view) => view.setUint32(60, 1 << 21, true), STATUS_BAD_FRAME, /its chunk is beyond/],
  [
    'READ',
    'an incarnation beyond',
    (view) => view.setUint32(84, ~0, true),
    STATUS_BAD_FRAME,
    /its incarnation is beyond/,
  ],
  [
    'READ',
    'an offset within a block',
    (view) => view.setUint32(64, 512, true),
    STATUS_BAD_FRAME,
    /offset 512 is no multiple/,
  ],
  ['READ', 'a fill', (view) => view.setUint8(95, 1), STATUS_BAD_FRAME, /byte 95 is 1/],
  ['READ', 'an epoch that was never cut', (view) => view.setUint32(36, 2, true), STATUS_BAD_FRAME, /names epoch 2/],
  ['READ', 'a layer', (view) => view.setUint32(116, 1, true), STATUS_BAD_FRAME, /names a layer/],
  ['READ', 'no blocks', (view) => view.setUint32(96, 0, true), STATUS_BAD_FRAME, /blocks 2 to 2 are no range/],
  [
    'READ',
    'more than a chunk',
    (view) => view.setUint32(96, 255, true),
    STATUS_BAD_FRAME,
    /blocks 2 to 257 are no range/,
  ],
  ['READ', 'all blocks there are', (view) => view.setUint32(96, ~0, true), STATUS_BAD_FRAME, /are no range/],
  ['READ', 'an offset beyond', (view) => view.setUint32(64, 1 << 20, true), STATUS_BAD_FRAME, /blocks 256 to 257/],
  [
    'READ',
    'a payload',
    (view) => view.setUint32(68, 1, true),
    STATUS_BAD_FRAME,
    /1 bytes follow a frame that has none/,
  ],
  [
    'WRITE',
    'two blocks and bytes of one',
    (view) => view.setUint32(96, 2, true),
    STATUS_BAD_FRAME,
    /2 blocks are 8200/,
  ],
  [
    'WRITE',
    'a byte more',
    (view) => view.setUint32(68, 4101, true),
    STATUS_BAD_FRAME,
    /4101 bytes follow, where 1 blocks are 4100/,
  ],
  ['WRITE', 'no payload', (view) => view.setUint32(68, 0, true), STATUS_BAD_FRAME, /0 bytes follow/],
  ['WRITE', 'a payload of 4 GiB', (view) => view.setUint32(68, ~0, true), STATUS_BAD_FRAME, /4294967295 bytes follow/],
  ['WRITE', 'sums, and COPY', (view) => view.setUint16(6, 8, true), STATUS_BAD_FRAME, /1 blocks are 4112/],
  [
    'ZERO',
    'entries without SAME',
    (view) => view.setUint16(6, 512, true),
    STATUS_BAD_FRAME,
    /16 bytes follow, where 1 blocks are 0/,
  ],
  ['ALLOCATE', 'an offset', (view) => view.setUint32(64, 4096, true), STATUS_BAD_FRAME, /at offset 4096 of chunk 4660/],
  ['ALLOCATE', 'a count', (view) => view.setUint32(96, 1, true), STATUS_BAD_FRAME, /counts 1, where 0 to 0/],
  ['FLUSH', 'no group', (view) => view.setUint32(96, 0, true), STATUS_BAD_FRAME, /counts 0, where 1 to 1/],
  ['FLUSH', 'several groups', (view) => view.setUint32(96, 2, true), STATUS_BAD_FRAME, /counts 2/],
  [
    'FLUSH',
    'too many bytes',
    (view) => view.setUint32(68, 2 * 32, true),
    STATUS_BAD_FRAME,
    /64 bytes follow, where 32 to 32/,
  ],
  [
    'LIST',
    'a longer payload',
    (view) => view.setUint32(68, 41, true),
    STATUS_BAD_FRAME,
    /41 bytes follow, where 40 to 40/,
  ],
  ['LIST', 'pages that are too long', (view) => view.setUint32(96, 4097, true), STATUS_BAD_FRAME, /counts 4097/],
  [
    'STORE_MAP',
    'nothing',
    (view) => view.setUint32(68, 0, true),
    STATUS_BAD_FRAME,
    /0 bytes follow, where 1 to 262144/,
  ],
  ['STORE_MAP', 'too much', (view) => view.setUint32(68, 262_145, true), STATUS_BAD_FRAME, /262145 bytes follow/],
  [
    'HELLO',
    'too much for a stranger',
    (view) => view.setUint32(68, 16_385, true),
    STATUS_BAD_FRAME,
    /where 1 to 16384/,
  ],
  [
    'CHALLENGE',
    'too much for a stranger',
    (view) => view.setUint32(68, 16_385, true),
    STATUS_BAD_FRAME,
    /where 1 to 16384/,
  ],
  ['REPLIES', 'one less', (view) => view.setUint32(96, 1, true), STATUS_BAD_FRAME, /1 replies have another length/],
  ['REPLIES', 'too many', (view) => setBoth(view, 161), STATUS_BAD_FRAME, /3864 bytes/],
  ['REPLIES', 'none', (view) => setBoth(view, 0), STATUS_BAD_FRAME, /0 bytes follow/],
  [
    'REPLY to READ',
    'half a block',
    (view) => view.setUint32(68, 2050, true),
    STATUS_BAD_FRAME,
    /2050 bytes follow a reply with flags 4/,
  ],
  ['REPLY to READ', '257 blocks', (view) => view.setUint32(68, 257 * 4100, true), STATUS_BAD_FRAME, /follow a reply/],
  ['REPLY to READ', 'blocks and entries', (view) => view.setUint16(6, 12, true), STATUS_BAD_FRAME, /with flags 12/],
  ['REPLY to READ', 'no flags', (view) => view.setUint16(6, 0, true), STATUS_BAD_FRAME, /with flags 0/],
  [
    'REPLY to READ',
    'an unknown flag',
    (view) => view.setUint16(6, 132, true),
    STATUS_BAD_FRAME,
    /REPLY has no flags 128/,
  ],
  ['REPLY to ENTRIES', 'half an entry', (view) => view.setUint32(68, 24, true), STATUS_BAD_FRAME, /24 bytes follow/],
  ['REPLY to ENTRIES', '257 entries', (view) => view.setUint32(68, 257 * 16, true), STATUS_BAD_FRAME, /4112 bytes/],
  ['REPLY to LIST', 'too much', (view) => view.setUint32(68, 262_145, true), STATUS_BAD_FRAME, /262145 bytes/],
  [
    'REPLY with blocks that are bad',
    'half of the bits',
    (view) => view.setUint32(68, 16, true),
    STATUS_BAD_FRAME,
    /16 bytes/,
  ],
];

check('each field of a header that is wrong is refused by its name, though its sum is right', () => {
  for (const [name, what, change, status, message] of WRONG) {
    const memory = changed(EXAMPLES[name](), change);
    const reader = readerOf(memory, name);
    assert.is(reader.read(0, memory.bytes.length), FRAME_REFUSED, `${name}: ${what}`);
    assert.is(reader.problem?.status, status, `${name}: ${what}: ${reader.problem?.message}`);
    assert.match(reader.problem?.message ?? '', message, `${name}: ${what}`);
  }
});

/** The fields of a header, by where they begin. */
const PLACES = [8, 16, 28, 32, 34, 36, 40, 48, 56, 72, 80, 88, 92, 94, 95, 100, 104, 112, 116];
/** Those that a frame uses, or has rules of its own for; all others are refused unless they are zero. */
const USED: Readonly<Record<string, readonly number[]>> = {
  CHALLENGE: [],
  HELLO: [],
  WELCOME: [],
  REFUSED: [100, 104, 112],
  PING: [8, 100, 104, 112],
  PONG: [8, 88, 100, 104, 112],
  REPLIES: [100, 104, 112],
  'REPLY to READ': [8, 72, 80, 92, 94, 95, 100, 104, 112],
  'REPLY to LIST': [8, 72, 80, 92, 94, 95, 100, 104, 112],
  OPEN: [8, 16, 28, 32, 34, 40, 100, 104, 112],
  CLOSE: [8, 16, 28, 32, 34, 40, 100, 104, 112],
  MAP_CHANGED: [8, 16, 28, 32, 34, 40, 100, 104, 112],
  READ: [8, 16, 28, 32, 34, 40, 56, 80, 88, 94, 100, 104, 112],
  WRITE: [8, 16, 28, 32, 34, 40, 48, 56, 72, 80, 94, 100, 104, 112],
  ALLOCATE: [8, 16, 28, 32, 34, 40, 56, 72, 80, 94, 100, 104, 112],
  FLUSH: [8, 16, 28, 32, 34, 40, 72, 80, 94, 100, 104, 112],
  LIST: [8, 16, 28, 32, 34, 40, 56, 80, 94, 100, 104, 112],
  STATUS: [8, 56, 100, 104, 112],
};
/** Epoch 1 is that of all data that there is. */
const FIRST_EPOCH = new Set(['READ', 'WRITE', 'ALLOCATE', 'FLUSH', 'LIST']);

check('a field that frames of a kind do not use is refused unless it is zero', () => {
  for (const [name, used] of Object.entries(USED)) {
    for (const place of PLACES) {
      const memory = changed(EXAMPLES[name](), (view) => view.setUint8(place, view.getUint8(place) ^ 1));
      const reader = readerOf(memory, name);
      const mayBe = used.includes(place) || (place === 36 && FIRST_EPOCH.has(name));
      const found = reader.read(0, memory.bytes.length);
      assert.is(found, mayBe ? FRAME_READY : FRAME_REFUSED, `${name}: byte ${place}: ${reader.problem?.message}`);
      if (!mayBe) assert.is(reader.problem?.status, STATUS_BAD_FRAME);
    }
  }
});

check('each bit of a header that flips is noticed', () => {
  for (const name of ['READ', 'WRITE', 'REPLIES', 'HELLO']) {
    const bytes = EXAMPLES[name]();
    for (let bit = 0; bit < HEADER_BYTES * 8; bit += 1) {
      const memory = new WireMemory(bytes.length);
      memory.bytes.set(bytes);
      memory.bytes[bit >> 3] ^= 1 << (bit & 7);
      const reader = readerOf(memory, name);
      assert.is(reader.read(0, bytes.length), FRAME_REFUSED, `${name}: bit ${bit}`);
      const header = bit < 32 ? STATUS_BAD_FRAME : bit < 40 ? STATUS_BAD_VERSION : STATUS_BAD_SUM;
      assert.is(reader.problem?.status, header, `${name}: bit ${bit}`);
    }
  }
});

check('each bit of a vector or control payload that flips is noticed, and looking changes nothing', () => {
  for (const [name, make] of Object.entries(EXAMPLES)) {
    const bytes = make();
    const memory = new WireMemory(bytes.length);
    memory.bytes.set(bytes);
    const reader = readerOf(memory, name);
    assert.is(reader.read(0, bytes.length), FRAME_READY, name);
    for (let at = 0; at < reader.vectorBytes; at += 1) {
      memory.bytes[HEADER_BYTES + at] ^= 1 << (at & 7);
      assert.not(reader.hasVector(HEADER_BYTES), `${name}: byte ${at}`);
      assert.is(reader.problem?.status, STATUS_BAD_SUM);
      memory.bytes[HEADER_BYTES + at] ^= 1 << (at & 7);
    }
    assert.ok(reader.hasVector(HEADER_BYTES));
    assert.is(reader.read(0, bytes.length), FRAME_READY, 'a header is read again');
    assert.equal(memory.bytes, bytes, name);
  }
});

check('a frame that is torn at any byte is waited for, and nothing behind what has arrived is looked at', () => {
  for (const [name, make] of Object.entries(EXAMPLES)) {
    const bytes = make();
    for (let arrived = 0; arrived <= HEADER_BYTES; arrived += 1) {
      // The memory ends with what has arrived: a look beyond throws.
      const memory = new WireMemory(arrived);
      memory.bytes.set(bytes.subarray(0, arrived));
      const reader = readerOf(memory, name);
      assert.is(
        reader.read(0, arrived),
        arrived < HEADER_BYTES ? FRAME_SHORT : FRAME_READY,
        `${name}: ${arrived} bytes`,
      );
    }
  }
});

check('what is no frame is refused by its first four bytes', () => {
  const memory = new WireMemory(4);
  memory.bytes.set(Buffer.from('GET '));
  const reader = new FrameReader(memory, FROM_ASKER);
  assert.is(reader.read(0, 3), FRAME_SHORT);
  assert.is(reader.read(0, 4), FRAME_REFUSED);
  assert.match(reader.problem?.message ?? '', /0x20544547/);
});

/** The request of an example, read with a change in its payload. */
function request(name: string, change: Change): string {
  const bytes = EXAMPLES[name]();
  const memory = new WireMemory(bytes.length);
  memory.bytes.set(bytes);
  const reader = readerOf(memory, name);
  assert.is(reader.read(0, bytes.length), FRAME_READY);
  change(memory.view, memory.bytes);
  const found = new SegmentRequest();
  return decodeRequest(memory, reader.frame, HEADER_BYTES, found, new Uint32Array(REQUEST_WORDS_MAX))?.message ?? '';
}

check('groups of a flush that are none are refused', () => {
  assert.is(
    request('FLUSH', () => {}),
    '',
  );
  const at = HEADER_BYTES;
  assert.match(
    request('FLUSH', (view) => view.setUint16(at + 2, 1, true)),
    /have to be zero/,
  );
  assert.match(
    request('FLUSH', (view) => view.setUint32(at + 4, 1, true)),
    /have to be zero/,
  );
  assert.match(
    request('FLUSH', (view) => view.setUint32(at + 20, 1 << 21, true)),
    /settled is beyond/,
  );
  assert.match(
    request('FLUSH', (view) => view.setUint32(at + 28, 1 << 21, true)),
    /settled is beyond/,
  );
  // The replica that it is admitted to is that of the header.
  assert.match(
    request('FLUSH', (view) => view.setUint16(at, 4, true)),
    /is not group 3 of its header/,
  );
  assert.match(
    request('FLUSH', (view) => view.setUint32(at + 8, 6, true)),
    /or has another map/,
  );
});

check('lists that are none are refused, as far as their numbers go', () => {
  const bytes = EXAMPLES.LIST();
  const wrong: readonly [Change, RegExp][] = [
    [(view) => view.setUint32(HEADER_BYTES + 4, 1 << 21, true), /beyond 2\^53/],
    [(view) => view.setUint32(HEADER_BYTES + 12, ~0, true), /beyond 2\^53/],
    [(view) => view.setUint32(HEADER_BYTES + 20, ~0, true), /beyond 2\^53/],
    [(view) => view.setUint32(HEADER_BYTES + 28, ~0, true), /beyond 2\^53/],
    [(view) => view.setUint8(HEADER_BYTES + 39, 1), /byte 39 of its payload/],
  ];
  for (const [change, message] of wrong) {
    const memory = new WireMemory(bytes.length);
    memory.bytes.set(bytes);
    const reader = readerOf(memory, 'LIST');
    assert.is(reader.read(0, bytes.length), FRAME_READY);
    change(memory.view, memory.bytes);
    assert.match(decodeList(memory, reader.frame, HEADER_BYTES, new SegmentList())?.message ?? '', message);
  }
});

/** What is wrong with the reply of an example as the answer to such a request. */
function answerTo(name: string, asked: SegmentRequest, change: Change = () => {}): string | null {
  const memory = changed(EXAMPLES[name](), change);
  const reader = readerOf(memory, name);
  assert.is(reader.read(0, memory.bytes.length), FRAME_READY, reader.problem?.message);
  return decodeReply(memory, reader.frame, HEADER_BYTES, asked);
}

check('answers to something else are refused', () => {
  const asked = (kind: number, blocks: number) => {
    const one = new SegmentRequest().begin(kind, 7, 0);
    one.blocks = blocks;
    if (kind === REQUEST_ENTRIES) one.entries = new Uint32Array(4 * blocks);
    return one;
  };
  assert.is(answerTo('REPLY to READ', asked(REQUEST_READ, 1)), null);
  assert.match(answerTo('REPLY to READ', asked(REQUEST_READ, 2)) ?? '', /1 blocks answer for 2/);
  assert.match(answerTo('REPLY to READ', asked(REQUEST_WRITE, 1)) ?? '', /flags 4 are no answer/);
  const half: Change = (view) => view.setUint32(64, 2048, true);
  assert.match(answerTo('REPLY to READ', asked(REQUEST_READ, 1), half) ?? '', /1 blocks answer for 1/);
  const failed: Change = (view) => view.setUint32(96, 5, true);
  assert.match(answerTo('REPLY to READ', asked(REQUEST_READ, 1), failed) ?? '', /no answer of status 5/);
  const stale: Change = (view) => view.setUint32(96, 256, true);
  assert.match(answerTo('REPLY to READ', asked(REQUEST_READ, 1), stale) ?? '', /what was refused/);
  assert.is(answerTo('REPLY of STALE_MAP', asked(REQUEST_READ, 1)), null);
  assert.match(answerTo('REPLY to ENTRIES', asked(REQUEST_ENTRIES, 2)) ?? '', /1 entries answer for 2/);
  assert.match(answerTo('REPLY to ENTRIES', asked(REQUEST_READ, 1)) ?? '', /flags 8/);
  assert.is(answerTo('REPLY with blocks that are bad', asked(REQUEST_READ, 3)), null);
  const one = asked(REQUEST_READ, 1);
  assert.match(answerTo('REPLY with blocks that are bad', one) ?? '', /blocks beyond/);
  assert.is(one.bad.count, 0);
  assert.match(answerTo('REPLY with blocks that were left', asked(REQUEST_WRITE, 9)) ?? '', /left blocks beyond/);
});

check('pages of lists that are none are refused', () => {
  const at = HEADER_BYTES + 8;
  const wrong: readonly [Change, RegExp][] = [
    [(view) => view.setUint32(64, 3, true), /are no page of 3/],
    [(view) => view.setUint32(64, ~0, true), /are no page/],
    [(view) => view.setUint32(96, 5, true), /a page, and an error/],
    [(view) => view.setUint16(6, 64, true), /flags 64 are no answer/],
    [(view) => view.setUint32(HEADER_BYTES, 0, true), /goes on is beyond/],
    [(view) => view.setUint16(at + 6, 2, true), /in state 2/],
    [(view) => view.setUint32(at + 12, 1 << 21, true), /stamp of a chunk/],
    [(view) => view.setUint32(at + 20, 1 << 21, true), /stamp of a chunk/],
  ];
  for (const [change, message] of wrong) {
    const memory = changed(EXAMPLES['REPLY to LIST'](), change);
    const reader = readerOf(memory, 'REPLY to LIST');
    assert.is(reader.read(0, memory.bytes.length), FRAME_READY, reader.problem?.message);
    assert.match(decodeListReply(memory, reader.frame, HEADER_BYTES, new SegmentList()) ?? '', message);
  }
});

check('pages of another list than was asked for are refused', () => {
  const page = (kind: number, first: number, end: number, cursor: number, next: number, chunk: number) => {
    const list = new SegmentList().begin(kind, first, end);
    Object.assign(list, { cursor, next });
    list.add(chunk, 1, 1, 0);
    return pageError(list) ?? '';
  };
  assert.is(page(LIST_ALL, 10, 20, 5, 6, 10), '');
  assert.is(page(LIST_ALL, 10, 20, 5, -1, 19), '');
  assert.match(page(LIST_ALL, 10, 20, 5, 5, 10), /goes on at 5, and its page began at 5/);
  assert.match(page(LIST_ALL, 10, 20, 5, 0, 10), /goes on at 0/);
  assert.match(page(LIST_ALL, 10, 20, 0, -1, 9), /chunk 9 is none/);
  assert.match(page(LIST_ALL, 10, 20, 0, -1, 20), /chunk 20 is none/);
  assert.is(page(LIST_DIGESTS, 5000, 20_000, 0, -1, 4096), '');
  assert.match(page(LIST_DIGESTS, 5000, 20_000, 0, -1, 0), /chunk 0 is none/);
});

function refusal(act: () => unknown): { status: number; message: string } {
  try {
    act();
  } catch (error) {
    assert.instance(error, WireRefusal);
    return error as WireRefusal;
  }
  throw new Error('it is taken');
}

check('maps that are none, or that nobody has proven, are refused', () => {
  const decided = authenticateMap(MAP, KEY);
  const bytes = encodeMaps([decided, decided]);
  assert.equal(decodeMaps(bytes, KEY), [decided, decided]);
  const with1 = (at: number) => {
    const changed = bytes.slice();
    changed[at] ^= 1;
    return changed;
  };
  for (const length of [0, 1, 91, 92, 511, 512, 639, 641, 1279]) {
    assert.is(refusal(() => decodeMaps(bytes.subarray(0, length), KEY)).status, STATUS_BAD_FRAME, `${length} bytes`);
  }
  // Header, and what is a device's own.
  for (const at of [0, 3, 4, 31, 80, 87, 104, 119, 142, 424, 439]) {
    assert.match(refusal(() => decodeMaps(with1(at), KEY)).message, at < 4 ? /SVL2/ : /no part of a map/, `byte ${at}`);
  }
  // Whatever else is changed, the key does not prove it, or it is no map.
  for (let at = 32; at < 640; at += 1) refusal(() => decodeMaps(with1(at), KEY));
  assert.is(refusal(() => decodeMaps(with1(464), KEY)).status, STATUS_DENIED);
  assert.is(refusal(() => decodeMaps(with1(72), KEY)).status, STATUS_DENIED);
  assert.match(refusal(() => decodeMaps(encodeMaps([MAP]), KEY)).message, /map 4294967303 of group 3.*not proven/);
  assert.match(refusal(() => decodeMaps(bytes, null)).message, /is managed, and there is no key/);
  // Between nodes both are taken, and of each what it has to be.
  assert.equal(decodeEitherMaps(encodeMaps([decided, MAP]), KEY), [decided, MAP]);
  assert.is(refusal(() => decodeEitherMaps(with1(464), KEY)).status, STATUS_DENIED);
  assert.is(refusal(() => decodeEitherMaps(with1(72), KEY)).status, STATUS_DENIED);
  const many = encodeMaps(Array.from({ length: 65 }, () => decided));
  assert.match(refusal(() => decodeMaps(many, KEY)).message, /more than 64/);
});

check('tickets that are forged, of another volume or cut off are refused', () => {
  const ticket = { volumeId: MAP.volume.id, clientId: 'a'.repeat(32), generation: 6, role: 'reader' } as const;
  const sealed = sealTicket(ticket, KEY);
  for (let bit = 0; bit < sealed.length * 8; bit += 1) {
    const changed = sealed.slice();
    changed[bit >> 3] ^= 1 << (bit & 7);
    assert.is(refusal(() => openTicket(changed, KEY)).status, STATUS_DENIED, `bit ${bit}`);
  }
  assert.is(refusal(() => openTicket(sealed.subarray(1), KEY)).status, STATUS_BAD_FRAME);
  const decided = authenticateMap(MAP, KEY);
  const other = sealTicket({ ...ticket, volumeId: 'b'.repeat(32) }, KEY);
  assert.match(refusal(() => decodeOpen(encodeOpen(other, decided), KEY)).message, /do not fit the ticket/);
  const two = Buffer.concat([encodeOpen(sealed, decided), encodeMaps([decided])]);
  assert.match(refusal(() => decodeOpen(two, KEY)).message, /2 maps/);
});

check('control payloads that are no JSON, or not what they should be, are refused', () => {
  const wrong: readonly [string, RegExp][] = [
    ['', /are no JSON/],
    ['{', /are no JSON/],
    ['\ufeff{}', /are no JSON/],
    ['null', /has to be an object/],
    ['[]', /has to be an object/],
    ['{"taken":1}', /ping.stalled/],
    ['{"taken":"1","stalled":[]}', /ping.taken has to be a whole number/],
    ['{"taken":9007199254740992,"stalled":[]}', /ping.taken/],
    ['{"taken":1,"stalled":[],"more":1}', /unknown key/],
    ['{"taken":1,"stalled":[],"__proto__":{"x":1}}', /unknown key/],
    ['{"taken":1,"stalled":[{"volumeId":"x","group":1}]}', /32 hexadecimal digits/],
    [`{"taken":1,"stalled":[${'0,'.repeat(256)}0]}`, /a list of 0 to 256/],
    [`${'['.repeat(100_000)}`, /are no JSON/],
  ];
  for (const [text, message] of wrong) {
    const { status, message: found } = refusal(() => decodeControl('ping', Buffer.from(text)));
    assert.is(status, STATUS_BAD_FRAME);
    assert.match(found, message, text.slice(0, 80));
  }
  assert.match(refusal(() => decodeControl('ping', Uint8Array.of(0xff, 0xfe))).message, /2 bytes are no JSON/);
  assert.throws(() => encodeControl('ping', { taken: -1, stalled: [] }), /ping.taken/);
});

check('why a connection ends is told in words that can be read, whatever the peer has put into them', () => {
  for (const message of ['why', 'x'.repeat(10_000), '\u{1f600}'.repeat(500), 'a\0b\ud800c', '']) {
    const { status, message: found } = decodeControl('refused', encodeRefusal({ status: 288, message }));
    assert.is(status, 288);
    assert.ok(Buffer.byteLength(found) <= 512 && message.startsWith(found.slice(0, 1)));
  }
  const key = 'k'.repeat(100_000);
  const refused = refusal(() => decodeControl('ping', Buffer.from(`{"${key}":1}`)));
  assert.ok(decodeControl('refused', encodeRefusal(refused)).message.startsWith('unknown key'));
});

check('who asks for more than was granted is found out, and what was answered is granted again', () => {
  const credits = new Credits(2, 10_000);
  assert.ok(credits.take(6000));
  assert.not(credits.take(4001), 'bytes');
  assert.ok(credits.take(4000));
  assert.not(credits.take(0), 'requests');
  assert.equal([credits.requests, credits.bytes], [2, 10_000]);
  credits.give(6000);
  assert.ok(credits.mayTake(6000));
  assert.ok(credits.take(1));
  credits.give(4000);
  credits.give(1);
  assert.throws(() => credits.give(0), /more is answered/);
});

run();
