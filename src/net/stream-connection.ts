/**
 * One connection of a server, whatever its protocol: its life, its socket, and what it holds.
 *
 * ```text
 *   free ──► handshake ──► serving ──► draining ──► closing ──► free
 *                 └────────────┴───────────┴───────────┘  by error, end of stream, time-out
 * ```
 *
 * A connection that cannot go on for want of a buffer or a request stops parsing, and so stops reading its socket: the
 * client is slowed by its own transport. What a connection may hold is bounded, so none can take everything.
 *
 * *Draining*: no new requests; those in flight are finished and answered. *Closing*: the socket is shut; memory that the
 * kernel still uses is waited for.
 */

import type { PooledBuffer } from '../core/buffer-pool.js';
import { CONNECTION_STAGING_BYTES } from '../core/limits.js';
import { COMPLETION_MORE } from '../ports/completion.js';
import type { ConnectionResources, ResourceUser } from './connection-resources.js';
import { ReceiveBuffer } from './receive-buffer.js';
import { type ReplyFormat, type SendPart, SendQueue } from './send-queue.js';
import { Writer } from './writer.js';

export type ConnectionState = 'free' | 'handshake' | 'serving' | 'draining' | 'closing';

/** A part of a reply that may be streamed. */
export interface StreamPart extends SendPart {
  /** Where it lies in what was asked for, in bytes. */
  readonly offset: number;
  readonly length: number;
}

/** A request whose reply is streamed. */
export interface StreamedRequest {
  /** First byte that has not been queued for sending. */
  queued: number;
}

/** What a connection is made of. */
export interface ConnectionParts<Reply> {
  readonly resources: ConnectionResources;
  readonly replies: ReplyFormat<Reply>;
  /** What is parsed at a time, at least. */
  readonly headerBytes: number;
  /** Of all its receives, and of all its sends. */
  readonly receiveToken: number;
  readonly sendToken: number;
}

export const NO_REASON = '';

export abstract class StreamConnection<Request extends StreamedRequest, Part extends StreamPart>
  implements ResourceUser
{
  state: ConnectionState = 'free';
  /** When it began, for the time limit of the handshake. */
  sinceMs = 0;
  /** Completions of receives and sends, as a sign of life. */
  progress = 0;
  /** Why it ended. */
  reason = NO_REASON;
  protected readonly resources: ConnectionResources;
  protected readonly input: ReceiveBuffer;
  protected readonly sender: SendQueue<Request, Part>;
  protected readonly writer: Writer;
  /** The receive in flight goes to where a payload is wanted, not to the buffer. */
  protected receivingPayload = false;
  /** Requests that have been taken and have not ended. */
  protected requests = 0;
  private readonly sendToken: number;
  private file = -1;
  private isWaiting = false;
  private dirty = false;
  private heldBytes = 0;
  private heldBuffers = 0;
  /** Requests whose replies will be streamed after the one that is, each with its first part. */
  private readonly streams: { request: Request; part: Part }[] = [];
  /** Parts of the stream that are ready before those that precede them. */
  private readonly readyParts: Part[] = [];

  /** @param index of the connection's memory among that of all connections */
  constructor(parts: ConnectionParts<Request>, index: number) {
    const { resources, replies, headerBytes, receiveToken, sendToken } = parts;
    this.resources = resources;
    this.sendToken = sendToken;
    const memory = resources.connectionMemory(index);
    this.input = new ReceiveBuffer(resources, memory, headerBytes, receiveToken);
    const staging = memory + resources.sizes.receiveBytes;
    this.sender = new SendQueue(resources, replies, [staging, staging + CONNECTION_STAGING_BYTES]);
    this.writer = new Writer(resources.memory);
  }

  // ---- what a protocol adds ----

  /** Goes on with what has been received, and receives more. */
  protected abstract process(): void;
  /** So many more bytes of a payload have been received to where it was wanted. */
  protected abstract receivedPayload(bytes: number): void;
  /** Whether a request has been taken whose payload has not arrived whole. */
  protected abstract get expectsPayload(): boolean;
  /** The connection is over: gives up the request whose payload will not come, unless it is still being received. */
  protected abstract endPayload(): void;
  /** A part has been sent. */
  protected abstract sent(part: Part): void;
  /** The connection is over, and with it a part that waited to be sent. */
  protected abstract dropPart(part: Part): void;
  /** Begins a request whose reply is streamed, and whose turn it is. */
  protected abstract beginStream(request: Request, part: Part): void;
  /** Nothing is left of the connection; it can be used again. */
  protected abstract onFree(): void;
  abstract endRequest(request: Request): void;

  // ---- state ----

  get closing(): boolean {
    return this.state === 'closing';
  }

  /** Whether it waits for something that others hold. */
  protected get waiting(): boolean {
    return this.isWaiting;
  }

  /** Whether it holds anything that others may wait for. */
  get holdsBuffers(): boolean {
    return this.heldBuffers > 0 || this.requests > 0;
  }

  /** Whether it depends on the peer to go on: to take replies, or to send the rest of a payload. */
  get dependsOnPeer(): boolean {
    return this.sender.sending || (this.receivingPayload && this.input.receiving);
  }

  /** Begins with a new socket. */
  protected begin(file: number, nowMs: number): void {
    this.file = file;
    this.state = 'handshake';
    this.sinceMs = nowMs;
    this.progress = 0;
    this.reason = NO_REASON;
    this.input.open(file);
  }

  // ---- receiving ----

  /** Receives more: all that is there, or no more than so many bytes, as what follows them is wanted elsewhere. */
  protected receive(atMost = 0): void {
    if (this.input.receiving) return;
    this.receivingPayload = false;
    this.input.receive(this.requests === 0, atMost);
  }

  onReceived(result: number, flags: number): void {
    this.input.receiving = false;
    this.progress += 1;
    if (this.closing) {
      this.freeIfDone();
      return;
    }
    if (result <= 0) {
      this.end(result === 0 ? NO_REASON : 'the connection broke');
      return;
    }
    this.input.more = (flags & COMPLETION_MORE) !== 0;
    if (this.receivingPayload) {
      this.receivingPayload = false;
      this.receivedPayload(result);
    } else {
      this.input.add(result);
    }
    if (!this.closing) this.process();
  }

  // ---- resources ----

  /** Whether it may hold a buffer of so many more bytes. */
  protected mayHold(bytes: number): boolean {
    return this.heldBytes + bytes <= this.resources.connectionBytesMax;
  }

  protected hold(buffer: PooledBuffer): void {
    this.heldBytes += buffer.capacityBytes;
    this.heldBuffers += 1;
  }

  protected holdNoMore(buffer: PooledBuffer): void {
    this.heldBytes -= buffer.capacityBytes;
    this.heldBuffers -= 1;
  }

  /** Waits for something that others hold. Returns false, as what needs it cannot go on. */
  protected wait(): false {
    this.isWaiting = true;
    this.resources.wait(this);
    return false;
  }

  /** Something was given back: tries again. */
  resume(): void {
    this.isWaiting = false;
    if (this.state === 'serving' && !this.input.receiving) this.process();
    else if (this.closing) this.freeIfDone();
  }

  // ---- replies ----

  /** Queues a reply without payload. */
  queueReply(request: Request): void {
    this.sender.queueReply(request);
    this.markDirty();
  }

  /** Queues a reply with payload, or a chunk of one. */
  queuePiece(part: Part): void {
    this.sender.queuePart(part);
    this.markDirty();
  }

  /** Queues what no reply may overtake that is queued later. */
  queueBarrier(part: Part): void {
    this.sender.queueBarrier(part);
    this.markDirty();
  }

  /** Makes `request` the one whose reply is streamed. False if another is; then it is begun after that. */
  claimStream(request: Request, part: Part): boolean {
    if (this.sender.stream === null) {
      this.sender.stream = request;
      return true;
    }
    this.streams.push({ request, part });
    return false;
  }

  /** A part of the stream has been read; queues it, and those after it that were waiting for it. */
  queueReady(request: Request, part: Part): void {
    this.readyParts.push(part);
    for (;;) {
      const at = this.readyParts.findIndex((ready) => ready.offset === request.queued);
      if (at < 0) return;
      const [next] = this.readyParts.splice(at, 1);
      request.queued += next.length;
      this.sender.queueStreamed(next);
      this.markDirty();
    }
  }

  private nextStream(): void {
    const next = this.streams.shift();
    if (next === undefined) return;
    this.sender.stream = next.request;
    this.beginStream(next.request, next.part);
  }

  protected markDirty(): void {
    if (this.dirty) return;
    this.dirty = true;
    this.resources.markDirty(this);
  }

  /** Sends what `writer` has written to the staging area. */
  protected sendWritten(): void {
    this.sendStaged(this.writer.length);
  }

  /** Sends so many bytes of the staging area; no send may be in flight. */
  protected sendStaged(bytes: number): void {
    this.sender.sendStaged(this.file, bytes, this.sendToken);
  }

  /** Sends what is queued. Called once at the end of a batch. */
  flush(): void {
    this.dirty = false;
    if (this.closing) {
      this.freeIfDone();
      return;
    }
    this.sender.flush(this.file, this.sendToken);
    if (this.state === 'draining') this.endIfDrained();
  }

  onSent(result: number): void {
    this.sender.sending = false;
    this.progress += 1;
    for (let part = this.sender.takeSent(); part !== null; part = this.sender.takeSent()) this.sent(part);
    if (this.closing) {
      this.freeIfDone();
      return;
    }
    if (result < 0) {
      this.end('the connection broke');
      return;
    }
    if (this.sender.stream === null) this.nextStream();
    if (this.state === 'handshake') {
      if (!this.input.receiving) this.process();
      return;
    }
    this.sender.flush(this.file, this.sendToken);
    if (this.state === 'draining') this.endIfDrained();
    else if (!this.input.receiving && !this.isWaiting) this.process();
  }

  // ---- the end ----

  /** Takes no more requests; ends when those in flight have been answered. */
  drain(): void {
    if (this.state === 'handshake') {
      this.end('the server is closing');
      return;
    }
    if (this.state !== 'serving') return;
    this.state = 'draining';
    // A payload that has not arrived whole will not be waited for: its write was not acknowledged.
    if (this.expectsPayload) this.end('the server is closing');
    else this.endIfDrained();
  }

  /** Ends a connection that is draining, if nothing is left. */
  protected endIfDrained(): void {
    if (this.requests === 0 && this.sender.idle) this.end(NO_REASON);
  }

  /** Ends the connection now. */
  end(reason: string): void {
    if (this.state === 'closing' || this.state === 'free') return;
    this.state = 'closing';
    this.reason = reason;
    const { transport } = this.resources;
    transport.shutdown(this.file);
    transport.close(this.file);
    this.sender.discard(
      (part) => this.dropPart(part),
      (request) => this.endRequest(request),
    );
    for (const part of this.readyParts.splice(0)) this.dropPart(part);
    for (const { part } of this.streams.splice(0)) this.dropPart(part);
    this.endPayload();
    this.freeIfDone();
  }

  protected freeIfDone(): void {
    if (!this.closing || this.input.receiving || this.sender.sending) return;
    this.endPayload();
    // With its last write it may have become free already; it must not be given back twice.
    if (!this.closing) return;
    if (this.requests > 0 || this.heldBuffers > 0 || this.isWaiting || this.dirty) return;
    this.state = 'free';
    this.input.useOwnBuffer();
    this.file = -1;
    this.onFree();
  }
}
