/**
 * Streams of frames for fuzzing: what both ends of a connection do with bytes that nobody vouches for.
 *
 * The first byte of an input chooses whether the handshake is over, the rest is a stream. It arrives in pieces; memory ends with
 * what has arrived, so that whoever looks further is found out.
 */

import type { SimRandom } from '#strake/sim/world/random.js';
import { FRAME_READY, FRAME_REFUSED, FRAME_SHORT, FrameReader } from '#strake/wire/framing.js';
import { CONTROL_BYTES_MAX, PAYLOAD_BLOCKS_MAX } from '#strake/wire/limits.js';
import {
  AT_HEADER_SUM,
  AT_KIND,
  AT_VECTOR_SUM,
  HEADER_BYTES,
  KIND_RULES,
  PAYLOAD_CONTROL,
} from '#strake/wire/messages.js';
import { WireRefusal } from '#strake/wire/refusal.js';
import { VERSION_MOST } from '#strake/wire/versions.js';
import { EXAMPLES } from '../support/wire-examples.js';
import { WireMemory } from '../support/wire-memory.js';
import { interesting, putNumber } from './mutate.js';
import { demand } from './target.js';

/** Sums, expected entries and those of a source, and the blocks themselves. */
const DATA_BYTES_MAX = PAYLOAD_BLOCKS_MAX * (16 + 16 + 4096);
const SESSION = 1;

/** What an end does with a frame whose vector has arrived and is right. */
export type Take = (memory: WireMemory, reader: FrameReader, at: number, random: SimRandom) => void;

/** Bytes up to `length`, of which nothing behind can be seen. */
function upTo(stream: Uint8Array, length: number): WireMemory {
  const memory = new WireMemory(length);
  memory.bytes.set(stream.subarray(0, length));
  return memory;
}

/** Lets an end read a stream, piece by piece. */
export function readStream(input: Uint8Array, random: SimRandom, from: number, take: Take): void {
  const stream = input.subarray(1);
  const session = ((input[0] ?? 0) & SESSION) !== 0;
  let at = 0;
  for (let arrived = 0; ; ) {
    const memory = upTo(stream, arrived);
    const reader = new FrameReader(memory, from);
    if (session) reader.open(VERSION_MOST);
    for (;;) {
      const found = reader.read(at, arrived - at);
      if (found === FRAME_REFUSED) {
        demand(
          (reader.problem?.message ?? '') !== '' && (reader.problem?.status ?? 0) >= 256,
          'a refusal without words',
        );
        return;
      }
      if (found === FRAME_SHORT) break;
      demand(arrived - at >= HEADER_BYTES, 'a frame is read that has not arrived');
      const { payload, kind } = reader.frame;
      const most = KIND_RULES[kind]?.payload === PAYLOAD_CONTROL ? CONTROL_BYTES_MAX : DATA_BYTES_MAX;
      demand(payload <= most, `${payload} bytes are to be taken in`);
      demand(reader.vectorBytes >= 0 && reader.vectorBytes <= payload, `a vector of ${reader.vectorBytes} bytes`);
      if (arrived - at < HEADER_BYTES + payload) break;
      if (!reader.hasVector(at + HEADER_BYTES)) return;
      take(memory, reader, at, random);
      at += HEADER_BYTES + payload;
    }
    if (arrived === stream.length) return;
    const left = stream.length - arrived;
    arrived += random.chance(0.3) ? Math.min(left, 1 + random.below(200)) : 1 + random.below(left);
  }
}

/** Calls what reads a payload, which may be refused and nothing else. Returns what it has read, or null. */
export function refusable<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (error instanceof WireRefusal) return null;
    throw error;
  }
}

/** Makes the sums of a stream right, as far as its frames are frames. */
export function reseal(input: Uint8Array, from: number): void {
  const stream = input.subarray(1);
  const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
  for (let at = 0; at + HEADER_BYTES <= stream.length; ) {
    const memory = upTo(stream.subarray(at), stream.length - at);
    const reader = new FrameReader(memory, from);
    if (KIND_RULES[stream[at + AT_KIND]]?.handshake !== true) reader.open(VERSION_MOST);
    const seal = () => {
      memory.view.setUint32(AT_HEADER_SUM, 0, true);
      memory.view.setUint32(AT_HEADER_SUM, memory.checksum(0, HEADER_BYTES), true);
    };
    seal();
    view.setUint32(at + AT_HEADER_SUM, memory.view.getUint32(AT_HEADER_SUM, true), true);
    if (reader.read(0, stream.length - at) !== FRAME_READY) return;
    const vector = Math.min(reader.vectorBytes, stream.length - at - HEADER_BYTES);
    memory.view.setUint32(AT_VECTOR_SUM, vector === 0 ? 0 : memory.checksum(HEADER_BYTES, vector), true);
    seal();
    stream.set(memory.slice(0, HEADER_BYTES), at);
    at += HEADER_BYTES + reader.frame.payload;
  }
}

/** Frames of the page that this end reads, as inputs: those of some kinds, or all. */
export function corpusFor(from: number, kinds: (kind: number) => boolean = () => true): readonly Uint8Array[] {
  return Object.values(EXAMPLES).flatMap((make) => {
    const bytes = make();
    const rule = KIND_RULES[bytes[AT_KIND]];
    if (rule === undefined || (rule.from & from) === 0 || !kinds(bytes[AT_KIND])) return [];
    return [Uint8Array.of(rule.handshake ? 0 : SESSION, ...bytes)];
  });
}

/** Some frames one after another, of which some have a field that is odd. */
export function generateFor(from: number, kinds?: (kind: number) => boolean): (random: SimRandom) => Uint8Array {
  const corpus = corpusFor(from, kinds);
  return (random) => {
    const parts: number[] = [SESSION];
    for (let left = 1 + random.below(4); left > 0; left -= 1) {
      const frame = random.pick(corpus).slice(1);
      for (let odd = random.below(3); odd > 0; odd -= 1) {
        const at = random.chance(0.5) ? random.below(HEADER_BYTES) : random.below(frame.length);
        putNumber(frame, at - (at % 4), random.pick([1, 2, 4, 8]), interesting(random), true);
      }
      parts.push(...frame);
    }
    const input = Uint8Array.from(parts);
    if (random.chance(0.1)) input[0] = 0;
    reseal(input, from);
    return input;
  };
}
