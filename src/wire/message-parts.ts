/**
 * Calls of managers and their answers on their way: each is as long as it is, and travels in parts, so that an end needs little
 * memory for a connection. Parts of one message come one after another, in order; messages do too.
 *
 * ```text
 *   header: count = parts, chunk = number of this one │ bytes        at most PART_BYTES_MAX
 * ```
 */

import type { PooledBuffer } from '../core/buffer-pool.js';
import { check } from '../core/check.js';
import type { ConnectionResources } from '../net/connection-resources.js';
import type { StreamPart } from '../net/stream-connection.js';
import { encodePayload, type Frame } from './frame.js';
import { PART_BYTES_MAX } from './limits.js';
import { KIND_RULES, STATUS_BAD_FRAME } from './messages.js';
import { WireRefusal } from './refusal.js';

/** Bytes of the buffer that a part is sent from: each connection uses one at most. */
export const PART_BUFFER_BYTES = 4096 + PART_BYTES_MAX;

/** Parts that so many bytes travel in. */
export function partsOf(bytes: number): number {
  return Math.ceil(bytes / PART_BYTES_MAX);
}

/** What is to be sent whole. */
export interface OutgoingMessage {
  readonly kind: number;
  /** Id of the request that it is, or that it is for; 0 for what nobody has asked for. */
  readonly request: number;
  readonly bytes: Uint8Array;
  /** Its last part has been sent, or will not be. */
  readonly onEnd: () => void;
}

/** The part that is on its way. */
export class MessagePart implements StreamPart {
  sendMemory = 0;
  sendLength = 0;
  last = true;
  following: StreamPart | null = null;
  readonly offset = 0;
  readonly length = 0;
}

/** What an end of a connection has to say, part by part, from one buffer. */
export class OutgoingMessages {
  private readonly resources: ConnectionResources;
  private readonly part = new MessagePart();
  private queue: OutgoingMessage[] = [];
  /** Parts of the first message that have been put on their way. */
  private begun = 0;
  private buffer: PooledBuffer | null = null;
  private sending = false;
  private ended = false;
  private bytes = 0;

  constructor(resources: ConnectionResources) {
    this.resources = resources;
  }

  /** Bytes of messages that have not been sent whole. */
  get waitingBytes(): number {
    return this.bytes;
  }

  /** Begins with a new connection. */
  begin(): void {
    check(!this.sending && this.queue.length === 0, 'messages are left of an earlier connection', this.queue.length);
    this.ended = false;
  }

  push(message: OutgoingMessage): void {
    check(message.bytes.length > 0, 'a message has no bytes', message.kind);
    if (this.ended) {
      message.onEnd();
      return;
    }
    this.queue.push(message);
    this.bytes += message.bytes.length;
  }

  /** Bytes of the part that would be sent next; 0 if there is none, or one is on its way. */
  get nextBytes(): number {
    const message = this.queue[0];
    if (message === undefined || this.sending) return 0;
    return Math.min(PART_BYTES_MAX, message.bytes.length - this.begun * PART_BYTES_MAX);
  }

  /** Writes the next part into the buffer; null if there is no buffer. */
  next(frame: Frame, session: number): MessagePart | null {
    const { nextBytes, resources, part } = this;
    check(nextBytes > 0, 'a part is sent of nothing', this.begun);
    const buffer = this.buffer ?? resources.takeBuffer(PART_BUFFER_BYTES);
    if (buffer === null) return null;
    const { kind, request, bytes } = this.queue[0];
    const at = this.begun * PART_BYTES_MAX;
    frame.begin(kind, 0, request);
    frame.session = session;
    frame.count = partsOf(bytes.length);
    frame.chunk = this.begun;
    this.buffer = buffer;
    this.sending = true;
    this.begun += 1;
    part.sendMemory = buffer.memory;
    part.sendLength = encodePayload(resources.memory, frame, buffer.memory, bytes.subarray(at, at + nextBytes));
    return part;
  }

  /** The part has been sent, or the connection is over. */
  sent(): void {
    check(this.sending, 'a part has been sent twice', this.begun);
    this.sending = false;
    if (this.ended) {
      this.drop();
      return;
    }
    const message = this.queue[0];
    if (message === undefined || this.begun * PART_BYTES_MAX < message.bytes.length) return;
    this.endFirst(message);
    if (this.queue.length === 0) this.releaseBuffer();
  }

  private endFirst(message: OutgoingMessage): void {
    this.queue.shift();
    this.begun = 0;
    this.bytes -= message.bytes.length;
    message.onEnd();
  }

  private releaseBuffer(): void {
    if (this.buffer !== null) this.resources.releaseBuffer(this.buffer);
    this.buffer = null;
  }

  /** The connection is over: nothing more is sent, and what is on its way is waited for. */
  end(): void {
    this.ended = true;
    if (!this.sending) this.drop();
  }

  private drop(): void {
    for (let message = this.queue[0]; message !== undefined; message = this.queue[0]) this.endFirst(message);
    this.releaseBuffer();
  }
}

/** What arrives at an end, put together again. */
export class IncomingMessages {
  private parts: Uint8Array[] = [];
  private kind = 0;
  private request = 0;
  private count = 0;

  /** Begins with a new connection. */
  begin(): void {
    this.parts = [];
  }

  /**
   * Takes a part, of which the bytes are kept. Returns the whole message when it is the last one, else null. Throws a
   * `WireRefusal` if it is not the one that has to come.
   */
  take({ kind, request, count, chunk }: Frame, bytes: Uint8Array): Uint8Array | null {
    const { parts } = this;
    const isFirst = parts.length === 0;
    const follows = isFirst || (kind === this.kind && request === this.request && count === this.count);
    const isFull = chunk === count - 1 || bytes.length === PART_BYTES_MAX;
    if (!follows || chunk !== parts.length || !isFull) {
      const name = KIND_RULES[kind]?.name ?? '';
      const words = `${name}: part ${chunk} of ${count}, with ${bytes.length} bytes, comes after ${parts.length}`;
      throw new WireRefusal(STATUS_BAD_FRAME, words);
    }
    this.kind = kind;
    this.request = request;
    this.count = count;
    parts.push(bytes);
    if (parts.length < count) return null;
    this.parts = [];
    return count === 1 ? bytes : joined(parts);
  }

  /** Whether the next part begins a message. */
  get isBetween(): boolean {
    return this.parts.length === 0;
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
