/**
 * The outgoing side of a connection: replies wait here, and leave in one gathered send at a time.
 *
 * A send takes parts until it holds `NetSizes.sendBytesMax` of payload; the last one may pass it. More would be cheaper per byte
 * and worse in sum: the client would get nothing for long, then everything, and meanwhile the device would idle.
 *
 * Replies without payload are written next to each other into a staging area; there are two, so that one can be filled
 * while the other is on its way. A reply with payload is sent from the buffer that the device read into. Replies may
 * leave in any order, but a *stream*, one reply of several parts in order, is never interrupted.
 */

import { check } from '../core/check.js';
import { CONNECTION_STAGING_BYTES, SEND_VECTORS_MAX } from '../core/limits.js';
import type { ConnectionResources } from './connection-resources.js';

/** What is sent from the memory where it is. */
export interface SendPart {
  sendMemory: number;
  sendLength: number;
  /** Whether it ends a reply that nothing may interrupt. */
  last: boolean;
  /** Next in the list that it is in. */
  following: SendPart | null;
}

/** Replies without payload, as a protocol has them. */
export interface ReplyFormat<Reply> {
  /** Length of each. */
  readonly replyBytes: number;
  /** Length of what comes before several of them, of which so many go at a time. */
  readonly headBytes: number;
  readonly repliesMost: number;
  /** Writes what comes before so many to `memory`, which has them already. */
  writeHead(memory: number, count: number): void;
  /** Writes one to `memory`, from where it will be sent; nothing else of it is needed afterwards. */
  writeReply(reply: Reply, memory: number): void;
}

/** A list of parts, linked through themselves. */
class PartList<Part extends SendPart> {
  head: Part | null = null;
  private tail: Part | null = null;

  push(part: Part): void {
    part.following = null;
    if (this.tail === null) this.head = part;
    else this.tail.following = part;
    this.tail = part;
  }

  shift(): Part | null {
    const part = this.head;
    if (part === null) return null;
    this.head = part.following as Part | null;
    if (this.head === null) this.tail = null;
    part.following = null;
    return part;
  }
}

export class SendQueue<Reply, Part extends SendPart> {
  /** Whether a send is in flight. */
  sending = false;
  /** What is answered by the reply that is being streamed. */
  stream: Reply | null = null;
  private readonly resources: ConnectionResources;
  private readonly format: ReplyFormat<Reply>;
  private readonly stagings: readonly [number, number];
  private staging = 0;
  private replies: Reply[] = [];
  private readonly parts = new PartList<Part>();
  /** The last part before which no reply leaves that has no payload; null once it has left. */
  private barrier: Part | null = null;
  private readonly streamed = new PartList<Part>();
  private readonly onTheWay = new PartList<Part>();

  constructor(resources: ConnectionResources, format: ReplyFormat<Reply>, stagings: readonly [number, number]) {
    const { replyBytes, headBytes, repliesMost } = format;
    check(headBytes + repliesMost * replyBytes <= CONNECTION_STAGING_BYTES, 'replies have no room', repliesMost);
    this.resources = resources;
    this.format = format;
    this.stagings = stagings;
  }

  /** A reply without payload; it is over when it is written. */
  queueReply(reply: Reply): void {
    this.replies.push(reply);
  }

  /** A reply, or a chunk of one, that can be sent in any order. */
  queuePart(part: Part): void {
    this.parts.push(part);
  }

  /** What no reply may overtake that is queued later. */
  queueBarrier(part: Part): void {
    this.parts.push(part);
    this.barrier = part;
  }

  /** The next part of the stream. */
  queueStreamed(part: Part): void {
    this.streamed.push(part);
  }

  get idle(): boolean {
    return !this.sending && this.stream === null && this.replies.length === 0 && this.parts.head === null;
  }

  /** The staging area to write into by hand, in the handshake. */
  get stagingMemory(): number {
    return this.stagings[this.staging];
  }

  /** Sends `bytes` of the staging area. */
  sendStaged(file: number, bytes: number, token: number): void {
    this.resources.transport.addPiece(this.stagings[this.staging], bytes);
    this.post(file, token);
  }

  private post(file: number, token: number): void {
    this.sending = true;
    this.staging ^= 1;
    this.resources.counters.sends += 1;
    this.resources.transport.send(file, token);
  }

  /** Puts a send together from what is queued, if none is in flight. */
  flush(file: number, token: number): void {
    if (this.sending) return;
    const { transport, sizes } = this.resources;
    let vectors = 0;
    let bytes = 0;
    const streaming = this.stream !== null;
    if (!streaming && this.replies.length > 0 && this.barrier === null) {
      bytes = this.writeReplies();
      transport.addPiece(this.stagings[this.staging], bytes);
      vectors = 1;
    }
    const list = streaming ? this.streamed : this.parts;
    while (list.head !== null && bytes < sizes.sendBytesMax && vectors < SEND_VECTORS_MAX) {
      const part = list.shift() as Part;
      if (part === this.barrier) this.barrier = null;
      transport.addPiece(part.sendMemory, part.sendLength);
      bytes += part.sendLength;
      vectors += 1;
      this.resources.counters.replies += 1;
      const ends = streaming && part.last;
      this.onTheWay.push(part);
      if (ends) {
        this.stream = null;
        break;
      }
    }
    if (vectors > 0) this.post(file, token);
  }

  /** Writes replies into the staging area as long as there is room. Returns the bytes written. */
  private writeReplies(): number {
    const { replyBytes, headBytes, repliesMost } = this.format;
    const count = Math.min(this.replies.length, repliesMost);
    const start = this.stagings[this.staging];
    let at = start + headBytes;
    for (let index = 0; index < count; index += 1) {
      this.format.writeReply(this.replies[index], at);
      at += replyBytes;
    }
    if (count === this.replies.length) this.replies = [];
    else this.replies = this.replies.slice(count);
    this.format.writeHead(start, count);
    this.resources.counters.replies += count;
    return headBytes + count * replyBytes;
  }

  /** The next part whose send has ended; null when there are no more. */
  takeSent(): Part | null {
    return this.onTheWay.shift();
  }

  /** Takes out what is queued and not on its way: the connection is over. */
  discard(onPart: (part: Part) => void, onReply: (reply: Reply) => void): void {
    for (const list of [this.parts, this.streamed]) {
      for (let part = list.shift(); part !== null; part = list.shift()) onPart(part);
    }
    this.barrier = null;
    const replies = this.replies;
    this.replies = [];
    for (const reply of replies) onReply(reply);
    this.stream = null;
  }
}
