/**
 * A client's NBD session in a simulation: handshake, then requests with many in flight, over a `SimPeer`.
 *
 * It is strict: any byte that the protocol does not allow at this place is a violation, and is thrown.
 */

import {
  BASE_ALLOCATION,
  BASE_ALLOCATION_ID,
  CMD_BLOCK_STATUS,
  CMD_DISC,
  CMD_READ,
  CMD_WRITE,
  FLAG_FIXED_NEWSTYLE,
  FLAG_NO_ZEROES,
  NBD_MAGIC_HIGH,
  OPT_GO,
  OPT_SET_META_CONTEXT,
  OPT_STRUCTURED_REPLY,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC_HIGH,
  REP_ACK,
  REP_INFO,
  REP_META_CONTEXT,
  REPLY_FLAG_DONE,
  REPLY_TYPE_BLOCK_STATUS,
  REPLY_TYPE_ERROR,
  REPLY_TYPE_ERROR_OFFSET,
  REPLY_TYPE_OFFSET_DATA,
  REQUEST_HEADER_BYTES,
  REQUEST_MAGIC,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STATE_ZERO,
  STRUCTURED_HEADER_BYTES,
  STRUCTURED_REPLY_MAGIC,
} from '../../nbd/protocol.js';
import type { SimPeer } from './peer.js';

/** Room for messages at first. */
const MESSAGE_BYTES = 4 << 10;
const GREETING_BYTES = 18;
const REPLY_TYPE_NONE = 0;
const EXTENT_BYTES = 8;

/** A request in flight. What was read is in `bytes` from `at` on, whole when it ends and until `ended` returns. */
export interface SessionRequest {
  readonly type: number;
  readonly offset: number;
  readonly length: number;
  bytes: Uint8Array | null;
  at: number;
  /** Bytes of a read that have come over a connection. */
  received?: number;
  /** Of the answer to a status request: first byte, and the one behind the last, of what reads as zeroes. */
  zeroes?: readonly (readonly [from: number, to: number])[];
  /** Positive errno, or 0. */
  error: number;
  ended: (request: SessionRequest) => void;
}

type State = 'greeting' | 'structured' | 'context' | 'go' | 'serving' | 'ended';

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`the server broke the NBD protocol: ${what}`);
}

/** Puts 32 bits into a message, big-endian. */
function putWord(bytes: Uint8Array, at: number, word: number): void {
  bytes[at] = word >>> 24;
  bytes[at + 1] = word >>> 16;
  bytes[at + 2] = word >>> 8;
  bytes[at + 3] = word;
}

/** Puts a text into a message, after its length. */
function putText(bytes: Uint8Array, at: number, text: string): void {
  putWord(bytes, at, text.length);
  for (let index = 0; index < text.length; index += 1) bytes[at + 4 + index] = text.charCodeAt(index);
}

export class NbdSession {
  state: State = 'greeting';
  structured: boolean;
  inFlight = 0;
  private readonly peer: SimPeer;
  private readonly name: string;
  /** Called once the session serves requests (true), or when it has ended (false), with all requests in flight lost. */
  private readonly changed: (serving: boolean) => void;
  private readonly requests: (SessionRequest | undefined)[] = [];
  private readonly free: number[] = [];
  /** What is sent, while it is put together. */
  private message = new Uint8Array(MESSAGE_BYTES);
  private buffer = new Uint8Array(MESSAGE_BYTES);
  private view = new DataView(this.buffer.buffer);
  private start = 0;
  private end = 0;

  constructor(peer: SimPeer, name: string, structured: boolean, changed: (serving: boolean) => void) {
    this.peer = peer;
    this.name = name;
    this.structured = structured;
    this.changed = changed;
    peer.onData = (bytes) => this.receive(bytes);
    peer.onEnd = () => this.finish();
  }

  /** Whether the status of blocks can be asked for. */
  get status(): boolean {
    return this.structured;
  }

  get serving(): boolean {
    return this.state === 'serving';
  }

  /** Sends a request. A write's payload is put into the message by `fill`, at the place that it is told. */
  send(request: SessionRequest, flags: number, fill: (message: Uint8Array, at: number) => void = () => {}): void {
    const handle = this.free.pop() ?? this.requests.length;
    this.requests[handle] = request;
    this.inFlight += 1;
    const payload = request.type === CMD_WRITE ? request.length : 0;
    const length = REQUEST_HEADER_BYTES + payload;
    if (length > this.message.length) this.message = new Uint8Array(2 * length);
    const { message } = this;
    putWord(message, 0, REQUEST_MAGIC);
    putWord(message, 4, flags * 0x1_0000 + request.type);
    putWord(message, 8, 0);
    putWord(message, 12, handle);
    putWord(message, 16, Math.floor(request.offset / 2 ** 32));
    putWord(message, 20, request.offset);
    putWord(message, 24, request.length);
    if (payload > 0) fill(message, REQUEST_HEADER_BYTES);
    this.peer.send(message.subarray(0, length));
  }

  /** Says goodbye; the server ends the connection. */
  disconnect(): void {
    const message = new Uint8Array(REQUEST_HEADER_BYTES);
    const view = new DataView(message.buffer);
    view.setUint32(0, REQUEST_MAGIC);
    view.setUint16(6, CMD_DISC);
    this.peer.send(message);
  }

  /** Ends the session from this side. */
  finish(): void {
    if (this.state === 'ended') return;
    this.state = 'ended';
    this.peer.reset();
    this.changed(false);
  }

  // ---------------------------------------------------------------- incoming

  private receive(bytes: Uint8Array): void {
    if (this.end + bytes.length > this.buffer.length) this.makeRoom(bytes.length);
    this.buffer.set(bytes, this.end);
    this.end += bytes.length;
    while (this.state !== 'ended' && this.parse()) if (this.start === this.end) this.start = this.end = 0;
  }

  private makeRoom(bytes: number): void {
    const { held } = this;
    const old = this.buffer;
    if (held + bytes > old.length) {
      this.buffer = new Uint8Array(2 * (held + bytes));
      this.view = new DataView(this.buffer.buffer);
    }
    this.buffer.set(old.subarray(this.start, this.end));
    this.start = 0;
    this.end = held;
  }

  /** Takes one message if it is there. */
  private parse(): boolean {
    if (this.state === 'serving') return this.structured ? this.parseChunk() : this.parseReply();
    return this.state === 'greeting' ? this.parseGreeting() : this.parseOptionReply();
  }

  /** Bytes that have been received and not been taken. */
  private get held(): number {
    return this.end - this.start;
  }

  /** The 32 bits so far into what is held. */
  private word(at: number): number {
    return this.view.getUint32(this.start + at);
  }

  private parseGreeting(): boolean {
    if (this.held < GREETING_BYTES) return false;
    check(this.word(0) === NBD_MAGIC_HIGH, 'no greeting');
    this.start += GREETING_BYTES;
    const flags = new Uint8Array(4);
    new DataView(flags.buffer).setUint32(0, FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
    this.peer.send(flags);
    if (this.structured) {
      this.state = 'structured';
      this.sendOption(OPT_STRUCTURED_REPLY, new Uint8Array(0));
    } else this.go();
    return true;
  }

  private chooseContext(): void {
    this.state = 'context';
    const queryAt = 4 + this.name.length + 4;
    const data = new Uint8Array(queryAt + 4 + BASE_ALLOCATION.length);
    putText(data, 0, this.name);
    putWord(data, queryAt - 4, 1);
    putText(data, queryAt, BASE_ALLOCATION);
    this.sendOption(OPT_SET_META_CONTEXT, data);
  }

  private go(): void {
    this.state = 'go';
    const data = new Uint8Array(6 + this.name.length);
    putText(data, 0, this.name);
    this.sendOption(OPT_GO, data);
  }

  private sendOption(option: number, data: Uint8Array): void {
    const message = new Uint8Array(16 + data.length);
    const view = new DataView(message.buffer);
    view.setUint32(0, OPTION_MAGIC_HIGH);
    view.setUint32(4, OPTION_MAGIC_LOW);
    view.setUint32(8, option);
    view.setUint32(12, data.length);
    message.set(data, 16);
    this.peer.send(message);
  }

  private parseOptionReply(): boolean {
    if (this.held < OPTION_REPLY_HEADER_BYTES) return false;
    check(this.word(0) === OPTION_REPLY_MAGIC_HIGH, 'no magic in the reply to an option');
    const type = this.word(12);
    const length = this.word(16);
    if (this.held < OPTION_REPLY_HEADER_BYTES + length) return false;
    this.start += OPTION_REPLY_HEADER_BYTES + length;
    if (type === REP_INFO || (type === REP_META_CONTEXT && this.state === 'context')) return true;
    if (type !== REP_ACK) {
      // The volume is not offered at the moment.
      this.finish();
    } else if (this.state === 'structured') this.chooseContext();
    else if (this.state === 'context') this.go();
    else {
      this.state = 'serving';
      this.changed(true);
    }
    return true;
  }

  /** The request that a reply is to; a simple reply has its cookie where a chunk has it. */
  private request(): SessionRequest {
    check(this.word(8) === 0, 'unknown cookie');
    const request = this.requests[this.word(12)];
    if (request === undefined) throw new Error('the server broke the NBD protocol: a reply to no request');
    return request;
  }

  private parseReply(): boolean {
    if (this.held < SIMPLE_REPLY_BYTES) return false;
    check(this.word(0) === SIMPLE_REPLY_MAGIC, 'no magic in a reply');
    const request = this.request();
    const error = this.word(4);
    const handle = this.word(12);
    const length = request.type === CMD_READ && error === 0 ? request.length : 0;
    if (this.held < SIMPLE_REPLY_BYTES + length) return false;
    const at = this.start + SIMPLE_REPLY_BYTES;
    if (length > 0) {
      request.bytes = this.buffer;
      request.at = at;
      request.received = length;
    }
    this.start = at + length;
    request.error = error;
    this.complete(request, handle);
    return true;
  }

  private parseChunk(): boolean {
    if (this.held >= 4 && this.word(0) === SIMPLE_REPLY_MAGIC) return this.parseSimple();
    if (this.held < STRUCTURED_HEADER_BYTES) return false;
    check(this.word(0) === STRUCTURED_REPLY_MAGIC, 'no magic in a chunk');
    const length = this.word(16);
    if (this.held < STRUCTURED_HEADER_BYTES + length) return false;
    const request = this.request();
    const head = this.word(4);
    const handle = this.word(12);
    const at = this.start + STRUCTURED_HEADER_BYTES;
    const done = ((head >>> 16) & REPLY_FLAG_DONE) !== 0;
    this.start = at + length;
    this.takeChunk(request, head & 0xffff, at, length, done);
    if (done) this.complete(request, handle);
    return true;
  }

  /** After structured replies are agreed on, only reads and status requests must be answered by them. */
  private parseSimple(): boolean {
    if (this.held < SIMPLE_REPLY_BYTES) return false;
    const { type } = this.request();
    check(type !== CMD_READ && type !== CMD_BLOCK_STATUS, 'a simple reply to what is answered with chunks');
    return this.parseReply();
  }

  private takeChunk(request: SessionRequest, type: number, at: number, length: number, last: boolean): void {
    if (type === REPLY_TYPE_OFFSET_DATA) this.takeData(request, at, length, last);
    else if (type === REPLY_TYPE_ERROR || type === REPLY_TYPE_ERROR_OFFSET) request.error = this.view.getUint32(at);
    else if (type === REPLY_TYPE_BLOCK_STATUS) this.takeExtents(request, at, length);
    else check(type === REPLY_TYPE_NONE, `a chunk of type ${type}`);
  }

  private takeData(request: SessionRequest, at: number, chunkBytes: number, last: boolean): void {
    const offset = this.view.getUint32(at) * 2 ** 32 + this.view.getUint32(at + 4);
    const from = at + 8;
    const length = chunkBytes - 8;
    const inside = offset >= request.offset && offset + length <= request.offset + request.length;
    check(inside && request.type === CMD_READ, 'data that was not asked for');
    request.received = (request.received ?? 0) + length;
    if (last && length === request.length) {
      request.bytes = this.buffer;
      request.at = from;
      return;
    }
    request.bytes ??= new Uint8Array(request.length);
    request.bytes.set(this.buffer.subarray(from, from + length), offset - request.offset);
  }

  private takeExtents(request: SessionRequest, at: number, chunkBytes: number): void {
    check(request.type === CMD_BLOCK_STATUS, 'extents that were not asked for');
    check(this.view.getUint32(at) === BASE_ALLOCATION_ID, 'a context that was not chosen');
    check(chunkBytes >= 4 + EXTENT_BYTES && (chunkBytes - 4) % EXTENT_BYTES === 0, 'no whole extents');
    const zeroes: [number, number][] = [];
    let from = request.offset;
    for (let extent = at + 4; extent < at + chunkBytes; extent += EXTENT_BYTES) {
      const length = this.view.getUint32(extent);
      const to = from + length;
      check(length > 0 && to <= request.offset + request.length, 'an extent that is empty or ends outside');
      if ((this.view.getUint32(extent + 4) & STATE_ZERO) !== 0) zeroes.push([from, to]);
      from = to;
    }
    request.zeroes = zeroes;
  }

  private complete(request: SessionRequest, handle: number): void {
    if (request.error === 0) {
      check(
        request.type !== CMD_BLOCK_STATUS || request.zeroes !== undefined,
        'no extents in the answer to a status request',
      );
      check(request.type !== CMD_READ || request.received === request.length, 'a read that is answered in part');
    }
    this.requests[handle] = undefined;
    this.free.push(handle);
    this.inFlight -= 1;
    request.ended(request);
  }
}
