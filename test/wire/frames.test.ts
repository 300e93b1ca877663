/**
 * The frames of `docs/wire-protocol.md`, byte by byte: what is written is what the page shows, and what it shows is read. A change
 * that fails one of these tests is a new version of the protocol.
 */

import { readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { FRAME_READY, FrameReader } from '#strake/wire/framing.js';
import { FROM_ANSWERER, FROM_ASKER, HEADER_BYTES, KIND_RULES } from '#strake/wire/messages.js';
import { VERSION_MOST, VERSIONS } from '#strake/wire/versions.js';
import { check, run } from '../support/check.js';
import { bytesOf, definedCrc, same, VOLUME } from '../support/golden.js';
import { bytesOfDump, documentedFrames, dumpOf, EXAMPLES, WIRE_PAGE } from '../support/wire-examples.js';
import { WireMemory } from '../support/wire-memory.js';

const documented = documentedFrames();

check('the page shows each frame as it is written', () => {
  assert.equal([...documented.keys()], Object.keys(EXAMPLES));
  for (const [name, make] of Object.entries(EXAMPLES)) {
    try {
      same(documented.get(name) ?? new Uint8Array(0), make());
    } catch (error) {
      throw new Error(`${name}: ${(error as Error).message}; the page has to show\n${dumpOf(make())}`);
    }
  }
});

check('each kind has a frame on the page, and each frame is read there as what it is', () => {
  const kinds = new Set<number>();
  for (const [name, bytes] of documented) {
    const memory = new WireMemory(bytes.length);
    memory.bytes.set(bytes);
    const rule = KIND_RULES[bytes[5]];
    assert.ok(rule !== undefined && name.startsWith(rule.name) !== (name === 'OPENED'), name);
    const reader = new FrameReader(memory, rule.from === FROM_ASKER ? FROM_ASKER : FROM_ANSWERER);
    if (!rule.handshake) reader.open(VERSION_MOST);
    assert.is(reader.read(0, bytes.length), FRAME_READY, `${name}: ${reader.problem?.message}`);
    assert.is(HEADER_BYTES + reader.frame.payload, bytes.length, name);
    assert.ok(reader.hasVector(HEADER_BYTES), name);
    kinds.add(reader.frame.kind);
  }
  // ACCEPT is asked for as ENTRIES are, and answered as READ is.
  const missing = KIND_RULES.flatMap((rule, kind) => (rule === undefined || kinds.has(kind) ? [] : [rule.name]));
  assert.equal(missing, ['PROBE', 'ACCEPT']);
});

/** A write of one block, field after field as the page lists them. */
const WRITE_FIELDS: readonly (readonly [number, string])[] = [
  [0, '53 54 4b 57 01 21 03 00'], // STKW, version, kind, FUA and NEWER
  [8, '77 00 00 00 00 00 00 00'], // request id
  [16, VOLUME],
  [32, '03 00 01 00 00 00 00 00'], // group, member, epoch
  [40, '07 00 00 00 01 00 00 00'], // version of the map
  [48, 'bb aa 99 88 01 06 00 00'], // stamp
  [56, '34 12 00 00 00 00 00 00'], // chunk
  [64, '00 20 00 00'], // offset: the third block
  [68, '04 10 00 00'], // a sum and a block
  [72, '02 01 00 00 00 06 00 00'], // flush number 258 of generation 6
  [80, '09 00 00 00 00 00 00 00'], // incarnation
  [96, '01 00 00 00 01 00 00 00'], // one block; epoch of the cluster
  [104, 'fe ca 00 00 00 00 00 00'], // trace
  [112, '05 00 00 00'], // session
];

check('a frame by hand is the frame of the page', () => {
  const frame = bytesOf(128 + 4 + 4096, WRITE_FIELDS);
  frame.fill(0x5a, 132);
  const view = new DataView(frame.buffer);
  view.setUint32(128, definedCrc(frame.subarray(132)), true);
  view.setUint32(120, definedCrc(frame.subarray(128, 132)), true);
  view.setUint32(124, definedCrc(frame.subarray(0, 128)), true);
  same(documented.get('WRITE') ?? new Uint8Array(0), frame);
});

check('a dump of bytes is those bytes', () => {
  for (const bytes of [
    new Uint8Array(100),
    Uint8Array.from({ length: 77 }, (_, at) => at),
    new Uint8Array(33).fill(7),
  ]) {
    same(bytesOfDump(dumpOf(bytes)), bytes);
  }
});

check('the page lists each version, each kind and each flag that is taken', () => {
  const page = readFileSync(WIRE_PAGE, 'utf8');
  for (const [version, change] of VERSIONS)
    assert.ok(page.includes(`| ${version} | ${change} |`), `version ${version}`);
  const sides = ['', 'client', 'node', 'both'];
  KIND_RULES.forEach((rule, kind) => {
    if (rule === undefined) return;
    assert.ok(page.includes(`| ${kind} | ${rule.name} | ${sides[rule.from]} |`), `kind ${kind}: ${rule.name}`);
  });
});

run();
