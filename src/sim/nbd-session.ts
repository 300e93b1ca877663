/**
 * A client's NBD session in a simulation: handshake, then requests with many in flight, over a `SimPeer`.
 *
 * It is strict: any byte that the protocol does not allow at this place is a violation, and is thrown.
 */

import {
  CMD_DISC,
  CMD_READ,
  CMD_WRITE,
  FLAG_FIXED_NEWSTYLE,
  FLAG_NO_ZEROES,
  NBD_MAGIC_HIGH,
  OPT_GO,
  OPT_STRUCTURED_REPLY,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC_HIGH,
  REP_ACK,
  REP_INFO,
  REPLY_FLAG_DONE,
  REPLY_TYPE_ERROR,
  REPLY_TYPE_ERROR_OFFSET,
  REPLY_TYPE_OFFSET_DATA,
  REQUEST_HEADER_BYTES,
  REQUEST_MAGIC,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_HEADER_BYTES,
  STRUCTURED_REPLY_MAGIC,
} from '../nbd/protocol.js';
import type { SimPeer } from './transport.js';

const GREETING_BYTES = 18;
const REPLY_TYPE_NONE = 0;

/** A request in flight. `bytes` is what was read, whole once it has ended. */
export interface SessionRequest {
  readonly type: number;
  readonly offset: number;
  readonly length: number;
  bytes: Uint8Array | null;
  /** Positive errno, or 0. */
  error: number;
  ended: (request: SessionRequest) => void;
}

type State = 'greeting' | 'structured' | 'go' | 'serving' | 'ended';

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`the server broke the NBD protocol: ${what}`);
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
  private buffer = new Uint8Array(64 << 10);
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

  get serving(): boolean {
    return this.state === 'serving';
  }

  /** Sends a request. A write's payload is put into the message by `fill`, at the place that it is told. */
  send(request: SessionRequest, flags: number, fill: (message: Uint8Array, at: number) => void = () => {}): void {
    const handle = this.free.pop() ?? this.requests.length;
    this.requests[handle] = request;
    this.inFlight += 1;
    const payload = request.type === CMD_WRITE ? request.length : 0;
    const message = new Uint8Array(REQUEST_HEADER_BYTES + payload);
    const view = new DataView(message.buffer);
    view.setUint32(0, REQUEST_MAGIC);
    view.setUint16(4, flags);
    view.setUint16(6, request.type);
    view.setUint32(12, handle);
    view.setUint32(16, Math.floor(request.offset / 2 ** 32));
    view.setUint32(20, request.offset >>> 0);
    view.setUint32(24, request.length);
    if (payload > 0) fill(message, REQUEST_HEADER_BYTES);
    this.peer.send(message);
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
    const held = this.end - this.start;
    const old = this.buffer;
    if (held + bytes > old.length) this.buffer = new Uint8Array(2 * (held + bytes));
    this.buffer.set(old.subarray(this.start, this.end));
    this.start = 0;
    this.end = held;
  }

  /** Takes one message if it is there. */
  private parse(): boolean {
    const view = new DataView(this.buffer.buffer, this.start, this.end - this.start);
    if (this.state === 'serving') return this.structured ? this.parseChunk(view) : this.parseReply(view);
    return this.state === 'greeting' ? this.parseGreeting(view) : this.parseOptionReply(view);
  }

  private parseGreeting(view: DataView): boolean {
    if (view.byteLength < GREETING_BYTES) return false;
    check(view.getUint32(0) === NBD_MAGIC_HIGH, 'no greeting');
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

  private go(): void {
    this.state = 'go';
    const data = new Uint8Array(6 + this.name.length);
    new DataView(data.buffer).setUint32(0, this.name.length);
    for (let index = 0; index < this.name.length; index += 1) data[4 + index] = this.name.charCodeAt(index);
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

  private parseOptionReply(view: DataView): boolean {
    if (view.byteLength < OPTION_REPLY_HEADER_BYTES) return false;
    check(view.getUint32(0) === OPTION_REPLY_MAGIC_HIGH, 'no magic in the reply to an option');
    const type = view.getUint32(12);
    const length = view.getUint32(16);
    if (view.byteLength < OPTION_REPLY_HEADER_BYTES + length) return false;
    this.start += OPTION_REPLY_HEADER_BYTES + length;
    if (type === REP_INFO) return true;
    if (type !== REP_ACK) {
      // The volume is not offered at the moment.
      this.finish();
    } else if (this.state === 'structured') this.go();
    else {
      this.state = 'serving';
      this.changed(true);
    }
    return true;
  }

  private request(view: DataView): [SessionRequest, number] {
    check(view.getUint32(8) === 0, 'unknown cookie');
    const handle = view.getUint32(12);
    const request = this.requests[handle];
    if (request === undefined) throw new Error('the server broke the NBD protocol: a reply to no request');
    return [request, handle];
  }

  private parseReply(view: DataView): boolean {
    if (view.byteLength < SIMPLE_REPLY_BYTES) return false;
    check(view.getUint32(0) === SIMPLE_REPLY_MAGIC, 'no magic in a reply');
    // A simple reply has its cookie where a chunk has it.
    const [request, handle] = this.request(view);
    const error = view.getUint32(4);
    const length = request.type === CMD_READ && error === 0 ? request.length : 0;
    if (view.byteLength < SIMPLE_REPLY_BYTES + length) return false;
    const at = this.start + SIMPLE_REPLY_BYTES;
    if (length > 0) request.bytes = this.buffer.subarray(at, at + length);
    this.start = at + length;
    request.error = error;
    this.complete(request, handle);
    return true;
  }

  private parseChunk(view: DataView): boolean {
    if (view.byteLength >= 4 && view.getUint32(0) === SIMPLE_REPLY_MAGIC) return this.parseSimple(view);
    if (view.byteLength < STRUCTURED_HEADER_BYTES) return false;
    check(view.getUint32(0) === STRUCTURED_REPLY_MAGIC, 'no magic in a chunk');
    const length = view.getUint32(16);
    if (view.byteLength < STRUCTURED_HEADER_BYTES + length) return false;
    const flags = view.getUint16(4);
    const type = view.getUint16(6);
    const [request, handle] = this.request(view);
    const at = this.start + STRUCTURED_HEADER_BYTES;
    this.start = at + length;
    this.takeChunk(request, type, new DataView(this.buffer.buffer, at, length), at);
    if ((flags & REPLY_FLAG_DONE) !== 0) this.complete(request, handle);
    return true;
  }

  /** After structured replies are agreed on, only reads must be answered by them. */
  private parseSimple(view: DataView): boolean {
    if (view.byteLength < SIMPLE_REPLY_BYTES) return false;
    const [request] = this.request(view);
    check(request.type !== CMD_READ, 'a simple reply to a read');
    return this.parseReply(view);
  }

  private takeChunk(request: SessionRequest, type: number, data: DataView, at: number): void {
    if (type === REPLY_TYPE_OFFSET_DATA) {
      const offset = data.getUint32(0) * 2 ** 32 + data.getUint32(4);
      const length = data.byteLength - 8;
      const inside = offset >= request.offset && offset + length <= request.offset + request.length;
      check(inside && request.type === CMD_READ, 'data that was not asked for');
      request.bytes ??= new Uint8Array(request.length);
      request.bytes.set(this.buffer.subarray(at + 8, at + 8 + length), offset - request.offset);
    } else if (type === REPLY_TYPE_ERROR || type === REPLY_TYPE_ERROR_OFFSET) request.error = data.getUint32(0);
    else check(type === REPLY_TYPE_NONE, `a chunk of type ${type}`);
  }

  private complete(request: SessionRequest, handle: number): void {
    this.requests[handle] = undefined;
    this.free.push(handle);
    this.inFlight -= 1;
    request.ended(request);
  }
}
