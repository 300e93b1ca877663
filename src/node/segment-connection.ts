/**
 * A connection by which a client in another process has a session with this node: who it is, what it may ask for, and its
 * requests from their frames to their answers.
 *
 * ```text
 *   handshake ─► CHALLENGE, HELLO, WELCOME ─► serving: OPEN, STORE_MAP ... ─► control
 *                                                      READ, WRITE ... ─► credit ─► buffer ─► blocks ─► admission ─► member
 * ```
 */

import { check } from '../core/check.js';
import { EBADMSG, EIO } from '../core/errno.js';
import { BLOCK_BYTES } from '../core/limits.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { COMPLETION_ABANDONED } from '../ports/completion.js';
import { REQUEST_ACCEPT, REQUEST_AGREED, REQUEST_READ, REQUEST_WRITE } from '../ports/segment-request.js';
import type { AnsweringOwner } from '../wire/answering-connection.js';
import { encodePayload, type Frame } from '../wire/frame.js';
import { decodeList, encodeListReply, listReplyBytes } from '../wire/list-codec.js';
import {
  HEADER_BYTES,
  isRequest,
  KIND_LIST,
  KIND_MAP_CHANGED,
  KIND_REPLY,
  KIND_REQUEST,
  STATUS_BAD_SUM,
  STATUS_NOT_YET,
  STATUS_OK,
  STATUS_STALE_MAP,
} from '../wire/messages.js';
import { WireRefusal } from '../wire/refusal.js';
import { Answer, encodeReply, putAnswer, putPacked, replyFlags, replyHeadBytes } from '../wire/reply-codec.js';
import { decodeRequest, getEntries, sumsAt, wrongBlock, wrongCopy } from '../wire/request-codec.js';
import { admission } from './access-check.js';
import { type OpenReplica, OpenReplicas, type ReplicaSession } from './open-replica.js';
import { PairedConnection } from './paired-connection.js';
import type { PeerRequest, PeerRequests, RequestOrigin } from './peer-request.js';
import { requestBufferBytes } from './request-memory.js';

const READ = KIND_REQUEST + REQUEST_READ;
const WRITE = KIND_REQUEST + REQUEST_WRITE;

/** What is asked of the node beside data. */
export interface ControlHandler {
  /** Whether a kind counts among what a session may ask for. */
  isCredited(kind: number): boolean;
  /** Bytes of the buffer that a request of this kind begins with. */
  bufferBytes(kind: number): number;
  /** Begins what a frame asks for, whose payload is `payload`. Throws a `WireRefusal`. */
  begin(connection: SegmentConnection, frame: Frame, payload: Uint8Array, request: PeerRequest): void;
  /** Answers, on `connection`, a PING of the session whose first connection is `session`. */
  ping(session: SegmentConnection, connection: SegmentConnection, payload: Uint8Array, request: PeerRequest): void;
  noteServed(connection: SegmentConnection, request: PeerRequest): void;
  answerMaps(connection: SegmentConnection, request: PeerRequest, maps: readonly ReplicaMap[]): void;
  /** Tells the client that a replica which it has open has another map. */
  tellMap(connection: SegmentConnection, replica: OpenReplica, map: ReplicaMap): void;
}

/** What a frame of control says in its header. */
export interface ControlHead {
  readonly kind: number;
  readonly flags: number;
  /** Of a PONG. */
  readonly leaseMs?: number;
  /** Of a MAP_CHANGED: which replica of the session it is about. */
  readonly about?: OpenReplica;
}

/** What a shard provides to its connections. */
export interface SegmentOwner extends AnsweringOwner<PeerRequest, SegmentConnection> {
  readonly requests: PeerRequests;
  readonly control: ControlHandler;
  /** Of what members are asked for. */
  readonly token: number;
}

export class SegmentConnection extends PairedConnection implements RequestOrigin, ReplicaSession {
  readonly replicas = new OpenReplicas();
  /** Replicas that were opened here, and maps of theirs that changed since. */
  changes = 0;
  private readonly service: SegmentOwner;
  private readonly control: ControlHandler;
  private readonly answer = new Answer();
  /** The write whose blocks are being received, and where its vector lies. */
  private writing: PeerRequest | null = null;
  private vector = 0;
  private sums = -1;

  constructor(service: SegmentOwner, index: number) {
    super(service, index, service.requests);
    this.service = service;
    this.control = service.control;
  }

  override open(file: number, nowMs: number): void {
    check(this.replicas.size === 0, 'a connection begins with replicas of the one before', this.replicas.size);
    // Whoever was served before has taken nothing of this one.
    this.changes = 0;
    super.open(file, nowMs);
  }

  protected answerPing(first: SegmentConnection, payload: Uint8Array, pong: PeerRequest): void {
    this.control.ping(first, this, payload, pong);
  }

  // ---- frames ----

  protected isCredited(kind: number): boolean {
    return isRequest(kind) || kind === KIND_LIST || this.control.isCredited(kind);
  }

  protected takeRequest(frame: Frame, vector: number): boolean {
    const { kind } = frame;
    if (this.isForPings) return this.takePing(frame, vector);
    const data = isRequest(kind) || kind === KIND_LIST;
    const bytes = data ? requestBufferBytes(kind, frame.count) : this.control.bufferBytes(kind);
    const request = this.take(frame, bytes);
    if (request === null) return this.wait();
    if (this.isCredited(kind)) {
      this.credits.take(frame.payload);
      request.credited = true;
    }
    return data ? this.takeData(frame, vector, request) : this.takeControl(frame, vector, request);
  }

  /** A record for a frame, with a buffer; null if there is none free, or the connection holds too many. */
  private take(frame: Frame, bytes: number): PeerRequest | null {
    if (!this.mayHold(bytes)) return null;
    const request = this.service.requests.take(bytes, frame.kind === KIND_LIST);
    if (request === null) return null;
    if (request.buffer !== null) this.hold(request.buffer);
    this.requests += 1;
    this.resources.counters.requests += 1;
    request.connection = this;
    request.credited = false;
    request.kind = frame.kind;
    request.id = frame.request;
    request.payload = frame.payload;
    request.mapVersion = frame.mapVersion;
    request.incarnation = frame.incarnation;
    request.replica = this.replicas.find(frame);
    return request;
  }

  private takeControl(frame: Frame, vector: number, request: PeerRequest): boolean {
    try {
      this.control.begin(this, frame, this.resources.memory.bytes.slice(vector, vector + frame.payload), request);
      return true;
    } catch (error) {
      if (!(error instanceof WireRefusal)) throw error;
      this.endRequest(request);
      return this.refuse(error);
    }
  }

  private takeData(frame: Frame, vector: number, request: PeerRequest): boolean {
    const { memory } = this.resources;
    const { record, list, buffer } = request;
    const problem =
      list !== null
        ? decodeList(memory, frame, vector, list)
        : decodeRequest(memory, frame, vector, record, request.entries);
    if (problem !== null) {
      this.endRequest(request);
      return this.refuse(problem);
    }
    record.memory = buffer?.memory ?? -1;
    if (frame.kind !== WRITE) {
      // Sums of what is read leave with it.
      if (frame.kind === READ) record.sums = request.sums;
      this.admit(request);
      return true;
    }
    this.writing = request;
    this.vector = vector;
    this.sums = sumsAt(frame);
    this.expectBlocks(record.memory, record.blocks * BLOCK_BYTES);
    return true;
  }

  protected takeBlocks(source: number): void {
    const request = this.writing as PeerRequest;
    this.writing = null;
    const { record } = request;
    const from = source >= 0 ? source : record.memory;
    const wrong = this.wrongIn(request, from);
    if (wrong >= 0) {
      this.endRequest(request);
      this.refuse({ status: STATUS_BAD_SUM, message: `WRITE: block ${wrong} has another sum than its vector says` });
      return;
    }
    this.resources.counters.bytesWritten += record.blocks * BLOCK_BYTES;
    record.source = source;
    record.sourceBytes = record.blocks * BLOCK_BYTES;
    this.admit(request);
  }

  /** The first block of a write that is not what its vector says; -1 if there is none, or the member will look for it. */
  private wrongIn({ record, replica, sums }: PeerRequest, from: number): number {
    const { memory } = this.resources;
    if (this.sums < 0) return wrongCopy(memory, record, from);
    const at = this.vector + this.sums;
    if (replica === null || replica.member.compares !== true) return wrongBlock(memory, at, from, record.blocks);
    getEntries(memory.view, at, sums, record.blocks);
    record.sums = sums;
    return -1;
  }

  protected dropBlocks(): void {
    const { writing } = this;
    this.writing = null;
    if (writing !== null) this.endRequest(writing);
  }

  // ---- requests ----

  admit(request: PeerRequest): void {
    if (this.closing) {
      this.endRequest(request);
      return;
    }
    const { replica, record } = request;
    const status = admission(replica, request);
    if (status === STATUS_OK) this.submit(request);
    else if (status !== STATUS_NOT_YET || replica === null) this.decline(request, status);
    else if (!replica.gate.storing) this.decline(request, EIO);
    else {
      // Where the payload has been received something else will be by then.
      if (record.source >= 0) this.resources.memory.copy(record.memory, record.source, record.sourceBytes);
      record.source = -1;
      replica.gate.wait(request);
    }
  }

  private submit(request: PeerRequest): void {
    check(request.connection === this, 'a request is carried out for another connection', request.index);
    check(this.state !== 'handshake', 'a request is carried out before the handshake', request.index);
    const { record, list, replica } = request;
    check(replica !== null, 'a request is admitted to nothing', request.index);
    const token = this.service.token + request.index;
    replica.enter();
    if (list !== null) {
      list.token = token;
      replica.member.list(list);
      return;
    }
    record.token = token;
    replica.member.submit(record);
  }

  /** What a member was asked for has ended. */
  ended(request: PeerRequest, result: number, flags: number): void {
    const { replica, record, buffer } = request;
    check(replica !== null, 'a request ends that nobody carried out', request.index);
    if ((flags & COMPLETION_ABANDONED) !== 0 && buffer !== null) {
      this.holdNoMore(buffer);
      this.service.requests.quarantine(request);
    }
    const agreed = result >= 0 && request.kind === KIND_REQUEST + REQUEST_AGREED;
    if (!agreed) replica.leave();
    if (agreed) this.control.noteServed(this, request);
    else if (this.closing) this.endRequest(request);
    else if (request.kind === WRITE && result === -EBADMSG) this.refuseBlocks(request);
    else if (request.list !== null) this.answerList(request, result);
    else {
      if (request.kind === READ && result > 0) this.resources.counters.bytesRead += result;
      this.answerWith(request, result, record.blocks);
    }
  }

  /** The blocks of a write are not what its vector says, as the member has found. Its device has not seen them. */
  private refuseBlocks(request: PeerRequest): void {
    check(request.record.sums !== null, 'a member has compared sums that a write does not bear', request.index);
    this.endRequest(request);
    this.refuse({ status: STATUS_BAD_SUM, message: 'WRITE: a block has another sum than its vector says' });
  }

  private setResult(request: PeerRequest, result: number): void {
    request.status = result < 0 ? -result : STATUS_OK;
    request.value = result < 0 ? 0 : result;
    request.fill(this.answer);
  }

  private answerList(request: PeerRequest, result: number): void {
    this.setResult(request, result);
    const { list, buffer } = request;
    if (result < 0 || list === null || buffer === null) {
      this.queueReply(request);
      return;
    }
    encodeListReply(this.resources.memory, this.frame, buffer.memory, this.answer, list);
    this.sendAnswer(request, buffer.memory, listReplyBytes(list));
  }

  private answerWith(request: PeerRequest, result: number, blocks: number): void {
    check(request.connection === this, 'a request is answered on another connection', request.index);
    this.setResult(request, result);
    const { record, buffer } = request;
    const flags = replyFlags(record, result);
    if (flags === 0 || buffer === null) {
      this.queueReply(request);
      return;
    }
    const { memory } = this.resources;
    const { kind } = record;
    const bears = result >= 0 && (kind === REQUEST_READ || kind === REQUEST_ACCEPT);
    // Header and vector lie in the page before the blocks, and leave with them as one piece.
    const at = bears ? buffer.memory - replyHeadBytes(flags, blocks) : buffer.memory;
    const head = encodeReply(memory, this.frame, at, this.answer, record, buffer.memory);
    this.sendAnswer(request, at, bears ? head + blocks * BLOCK_BYTES : head);
  }

  /** An answer without a payload that is no result of a member. */
  decline(request: PeerRequest, status: number): void {
    this.resources.counters.errors += 1;
    request.status = status;
    request.value = 0;
    const map = request.replica?.gate.map;
    if (status === STATUS_STALE_MAP && map !== undefined) this.control.answerMaps(this, request, [map]);
    else this.queueReply(request);
  }

  /** Sends a frame with a control payload from the buffer of a request, which is large enough. */
  sendControl(request: PeerRequest, { kind, flags, leaseMs = 0, about }: ControlHead, payload: Uint8Array): void {
    const { frame, answer } = this;
    const { buffer } = request;
    check(buffer !== null, 'a frame has no buffer', request.index);
    frame.begin(kind, flags, request.id);
    frame.microseconds = leaseMs * 1000;
    if (about !== undefined) {
      frame.volume.copy(about.words);
      frame.group = about.gate.group;
      frame.member = about.index;
      frame.mapVersion = about.toldVersion;
    }
    if (kind === KIND_REPLY) {
      request.fill(answer);
      putAnswer(frame, answer);
    }
    const bytes = encodePayload(this.resources.memory, frame, buffer.memory, payload);
    this.sendAnswer(request, buffer.memory, bytes, kind === KIND_MAP_CHANGED);
  }

  /** Counts a replica that was opened, or its map that has changed: what the client has to take before it gets a lease. */
  noteChange(replica: OpenReplica, map: ReplicaMap): void {
    check(map.mapVersion >= replica.toldVersion, 'a client is told of an earlier map', map.mapVersion);
    this.changes += 1;
    replica.changedAt = this.changes;
    replica.toldVersion = map.mapVersion;
  }

  mapChanged(replica: OpenReplica, map: ReplicaMap): void {
    if (this.state !== 'serving') return;
    this.noteChange(replica, map);
    this.control.tellMap(this, replica, map);
  }

  /** Says something that was not asked for, by a record that `fill` sends; the connection ends if there is none free. */
  announce(fill: (request: PeerRequest) => void): void {
    const request = this.service.requests.take(0, false);
    if (request === null) {
      this.end('there is no room to tell of a map');
      return;
    }
    this.requests += 1;
    request.connection = this;
    request.credited = false;
    request.id = 0;
    fill(request);
  }

  /** Sends an answer that lies in memory. */
  sendAnswer(request: PeerRequest, memory: number, bytes: number, isBarrier = false): void {
    check(bytes >= HEADER_BYTES && request.buffer !== null, 'an answer has no bytes', bytes);
    request.sendMemory = memory;
    request.sendLength = bytes;
    // The client has it before the send has ended that others are in, and asks for more.
    this.giveCredit(request);
    if (isBarrier) this.queueBarrier(request);
    else this.queuePiece(request);
  }

  /** Gives a request another buffer, of at least so many bytes. False if there is none. */
  changeBuffer(request: PeerRequest, bytes: number): boolean {
    const buffer = this.resources.takeBuffer(bytes);
    if (buffer === null) return false;
    const { buffer: old } = request;
    if (old !== null) {
      this.holdNoMore(old);
      this.resources.releaseBuffer(old);
    }
    this.hold(buffer);
    request.buffer = buffer;
    return true;
  }

  putAnswer(request: PeerRequest, memory: number): void {
    request.fill(this.answer);
    putPacked(this.resources.memory.view, memory, this.answer);
    this.endRequest(request);
  }

  private giveCredit(request: PeerRequest): void {
    if (request.credited) this.credits.give(request.payload);
    request.credited = false;
  }

  endRequest(request: PeerRequest): void {
    if (request.buffer !== null) this.holdNoMore(request.buffer);
    this.giveCredit(request);
    check(this.requests > 0, 'more requests end on a connection than came', this.requests);
    this.requests -= 1;
    this.service.requests.release(request);
    if (this.closing) this.freeIfDone();
  }

  protected override leave(): void {
    this.replicas.clear();
    super.leave();
  }
}
