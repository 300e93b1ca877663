/**
 * Frames out of a stream: where one begins, whether it is one, and how long it is. This comes before anything else that is done
 * for a frame, and decides by the header alone; what a frame asks for is judged later, by whoever may answer it.
 *
 * The peer may be anybody: bytes are cut anywhere, lengths lie, sums are wrong. Nothing is allocated for what a header says, no
 * byte is looked at that has not arrived, and the first thing that is wrong ends the connection, as nobody knows where the next
 * frame would begin.
 */

import { BLOCK_BYTES } from '../core/limits.js';
import { EPOCH_FIRST } from '../layout/map-codec.js';
import type { Memory } from '../ports/memory.js';
import { beyondExact, Frame, getHeader, isSummed } from './frame.js';
import { unusedField } from './header-fields.js';
import { PAYLOAD_BLOCKS_MAX } from './limits.js';
import {
  AT_FLAGS,
  AT_KIND,
  AT_MAGIC,
  AT_PAYLOAD,
  AT_VERSION,
  HEADER_BYTES,
  KIND_REFUSED,
  KIND_REPLIES,
  KIND_REPLY,
  KIND_RULES,
  type KindRule,
  PACKED_BYTES,
  PAYLOAD_BLOCKS,
  PAYLOAD_CONTROL,
  PAYLOAD_NONE,
  replyVectorBytes,
  requestBlockBytes,
  requestVectorBytes,
  STATUS_BAD_FRAME,
  STATUS_BAD_SUM,
  STATUS_BAD_VERSION,
  WIRE_MAGIC,
} from './messages.js';
import { VERSION_OF_HELLO } from './versions.js';

/** Why a frame is refused. The connection ends with it. */
export interface FrameProblem {
  /** `STATUS_*`, as the peer is told. */
  readonly status: number;
  /** What is wrong, with the numbers that show it. */
  readonly message: string;
}

/** The header has not arrived whole. */
export const FRAME_SHORT = 0;
/** `frame` has it. */
export const FRAME_READY = 1;
/** `problem` says why not. */
export const FRAME_REFUSED = 2;

export class FrameReader {
  /** The frame that was read last. */
  readonly frame = new Frame();
  /** Bytes of its vector, or of its control payload: what its second sum is over. */
  vectorBytes = 0;
  /** Why the last frame was refused. */
  problem: FrameProblem | null = null;
  /** The version that both ends have agreed on; null as long as only the handshake is expected. */
  private version: number | null = null;
  private readonly memory: Memory;
  private readonly from: number;

  /** @param from who sends what is read here: `FROM_*` */
  constructor(memory: Memory, from: number) {
    this.memory = memory;
    this.from = from;
  }

  /** Begins anew, with a handshake. */
  begin(): void {
    this.version = null;
    this.problem = null;
  }

  /** The handshake is over: from now on frames of this version are expected, and no more of the handshake. */
  open(version: number): void {
    this.version = version;
  }

  /** Reads the header at `at`, of which `available` bytes have arrived. Returns `FRAME_*`. */
  read(at: number, available: number): number {
    if (available < HEADER_BYTES) return this.readShort(at, available);
    const { view } = this.memory;
    const magic = view.getUint32(at + AT_MAGIC, true);
    if (magic !== WIRE_MAGIC) return this.refuse(STATUS_BAD_FRAME, `it begins with ${hex(magic)}, and not with "STKW"`);
    const version = view.getUint8(at + AT_VERSION);
    const expected = this.version ?? VERSION_OF_HELLO;
    // What another version sums, and where, is not known here.
    if (version !== expected) return this.refuse(STATUS_BAD_VERSION, `it is of version ${version}, not ${expected}`);
    if (!isSummed(this.memory, at)) return this.refuse(STATUS_BAD_SUM, 'the sum of its header is wrong');
    const kind = view.getUint8(at + AT_KIND);
    const rule = KIND_RULES[kind];
    if (rule === undefined) return this.refuse(STATUS_BAD_FRAME, `there is no kind ${kind}`);
    const wrong = this.kindError(rule, view.getUint16(at + AT_FLAGS, true));
    if (wrong !== null) return this.refuse(STATUS_BAD_FRAME, wrong);
    const beyond = beyondExact(view, at);
    if (beyond !== null) return this.refuse(STATUS_BAD_FRAME, `${rule.name}: ${beyond} is beyond 2^53`);
    const { frame } = this;
    frame.version = version;
    frame.kind = kind;
    frame.flags = view.getUint16(at + AT_FLAGS, true);
    frame.payload = view.getUint32(at + AT_PAYLOAD, true);
    getHeader(view, at, frame, kind === KIND_REPLY || kind === KIND_REPLIES);
    const error = fieldError(rule, frame) ?? unusedError(frame) ?? this.payloadError(rule);
    if (error !== null) return this.refuse(STATUS_BAD_FRAME, `${rule.name}: ${error}`);
    return FRAME_READY;
  }

  /** A stream that does not begin with a frame is known by its first four bytes, and is not waited for. */
  private readShort(at: number, available: number): number {
    if (available < 4) return FRAME_SHORT;
    const magic = this.memory.view.getUint32(at + AT_MAGIC, true);
    if (magic === WIRE_MAGIC) return FRAME_SHORT;
    return this.refuse(STATUS_BAD_FRAME, `it begins with ${hex(magic)}, and not with "STKW"`);
  }

  private kindError(rule: KindRule, flags: number): string | null {
    if ((rule.from & this.from) === 0) return `${rule.name} comes from the wrong end`;
    const handshaking = this.version === null;
    // A refusal may come at any time.
    const expected = rule.handshake === handshaking || rule === REFUSAL;
    if (!expected) return `${rule.name} ${handshaking ? 'before' : 'after'} the handshake`;
    if ((flags & ~rule.flags) !== 0) return `${rule.name} has no flags ${flags & ~rule.flags}`;
    return null;
  }

  private payloadError(rule: KindRule): string | null {
    const { frame } = this;
    const { kind, flags, payload, count } = frame;
    switch (rule.payload) {
      case PAYLOAD_NONE:
        this.vectorBytes = 0;
        return payload === 0 ? null : `${payload} bytes follow a frame that has none`;
      case PAYLOAD_CONTROL:
        this.vectorBytes = payload;
        if (payload >= rule.bytesLeast && payload <= rule.bytesMost) return null;
        return `${payload} bytes follow, where ${rule.bytesLeast} to ${rule.bytesMost} may`;
      case PAYLOAD_BLOCKS: {
        this.vectorBytes = requestVectorBytes(kind, flags, count);
        const wanted = this.vectorBytes + requestBlockBytes(kind, count);
        return payload === wanted ? null : `${payload} bytes follow, where ${count} blocks are ${wanted}`;
      }
      default:
        this.vectorBytes = replyVectorBytes(flags, payload);
        return this.vectorBytes >= 0 ? null : `${payload} bytes follow a reply with flags ${flags}`;
    }
  }

  /** Whether the vector or control payload of the last frame, which has arrived whole at `at`, has the sum that it should. */
  hasVector(at: number): boolean {
    const { vectorBytes, frame } = this;
    const sum = vectorBytes === 0 ? 0 : this.memory.checksum(at, vectorBytes);
    if (sum === frame.vectorSum) return true;
    const name = KIND_RULES[frame.kind]?.name ?? '';
    this.problem = { status: STATUS_BAD_SUM, message: `${name}: the sum of its ${vectorBytes} bytes is wrong` };
    return false;
  }

  private refuse(status: number, message: string): number {
    this.problem = { status, message };
    return FRAME_REFUSED;
  }
}

const REFUSAL = KIND_RULES[KIND_REFUSED];

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}

/** What is wrong with the fields of a header of its kind, apart from its payload. */
function fieldError(rule: KindRule, frame: Frame): string | null {
  const { kind, count, offset, chunk, fill, layer, epoch } = frame;
  if (layer !== 0) return 'it names a layer, and there is no parity';
  if (kind === KIND_REPLY) return null;
  if (fill !== 0) return `its byte 95 is ${fill}, and of no use in a request`;
  if (kind === KIND_REPLIES)
    return count * PACKED_BYTES === frame.payload ? null : `${count} replies have another length`;
  // Whoever asked for another would be answered with what is live now.
  if (epoch > EPOCH_FIRST) return `it names epoch ${epoch}, and none has been cut`;
  if (rule.blocks) return blocksError(offset, count);
  const [least, most] = rule.counts;
  if (count < least || count > most) return `it counts ${count}, where ${least} to ${most} may be`;
  if (offset !== 0) return `it is at offset ${offset} of chunk ${chunk}, and names no blocks`;
  return null;
}

function unusedError(frame: Frame): string | null {
  const field = unusedField(frame);
  return field === null ? null : `it bears ${field}, which frames of its kind do not use`;
}

function blocksError(offset: number, count: number): string | null {
  const block = offset / BLOCK_BYTES;
  if (!Number.isInteger(block)) return `offset ${offset} is no multiple of ${BLOCK_BYTES}`;
  if (count >= 1 && block + count <= PAYLOAD_BLOCKS_MAX) return null;
  return `blocks ${block} to ${block + count} are no range of a chunk`;
}
