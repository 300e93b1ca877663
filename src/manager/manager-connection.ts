/**
 * A connection by which a client or a node has a session with this manager: its calls, from their frames to their answers.
 *
 * ```text
 *   parts ─► call, whole ─► carried out, some at a time ─► answer ─► parts, one on its way
 *                                                         DECIDED ──┘
 * ```
 *
 * Fault model: the peer may be anybody who has the key, and may stop, stall or ask for anything. It holds what is bounded here:
 * while it does not take its answers, or so many calls are being carried out, nothing more is read from it. Calls go on when
 * the connection is over, and are answered to nobody; a newer session of the client waits for them, so what it asks for again
 * there is asked for after them.
 */

import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { ReplyFormat } from '../net/send-queue.js';
import type { StreamedRequest } from '../net/stream-connection.js';
import type { ClusterKey } from '../ports/cluster-key.js';
import { AnsweringConnection, type AnsweringOwner } from '../wire/answering-connection.js';
import { encodeFailure } from '../wire/control.js';
import { Frame, putHeader } from '../wire/frame.js';
import { ANSWER_PARTS_MAX, PART_BYTES_MAX } from '../wire/limits.js';
import { decodeBody, encodeBody } from '../wire/manager-bodies.js';
import { type Call, type CallName, type Calls, callOf, DECIDED } from '../wire/manager-calls.js';
import { IncomingMessages, type MessagePart, OutgoingMessages } from '../wire/message-parts.js';
import {
  CALL_NAMES,
  HEADER_BYTES,
  isCall,
  KIND_ALIVE,
  KIND_ANSWER,
  KIND_CALL,
  KIND_DECIDED,
  KIND_FAILURE,
  KIND_HERE,
  KIND_RULES,
  STATUS_BAD_FRAME,
  STATUS_DENIED,
} from '../wire/messages.js';
import { WireRefusal } from '../wire/refusal.js';
import { SESSION_ANSWER_BYTES_MAX, SESSION_CALLS_MAX, SESSION_VOLUMES_MAX } from './limits.js';

/** That the manager is here: one answer is on its way at a time, to what was asked last. */
export class Here implements StreamedRequest {
  queued = 0;
  request = 0;
  session = 0;
  owed = false;
}

/** HERE is a header. */
export class HereFormat implements ReplyFormat<Here> {
  readonly replyBytes = HEADER_BYTES;
  readonly headBytes = 0;
  readonly repliesMost = 1;
  private readonly owner: AnsweringOwner<Here, ManagerConnection>;
  private readonly frame = new Frame();

  constructor(owner: AnsweringOwner<Here, ManagerConnection>) {
    this.owner = owner;
  }

  writeReply(here: Here, memory: number): void {
    here.owed = false;
    this.frame.begin(KIND_HERE, 0, here.request);
    this.frame.session = here.session;
    putHeader(this.owner.resources.memory, memory, this.frame, false);
  }

  writeHead(): void {}
}

/** What a shard provides to its connections. */
export interface ManagerOwner extends AnsweringOwner<Here, ManagerConnection> {
  readonly calls: Calls;
  readonly key: ClusterKey;
}

/** A call that has been begun and not been answered. */
interface Begun {
  readonly request: number;
  /** Bytes of each of its frames, as credits count them. */
  readonly taken: readonly number[];
}

export class ManagerConnection extends AnsweringConnection<Here, MessagePart> {
  private readonly service: ManagerOwner;
  private readonly incoming = new IncomingMessages();
  private readonly outgoing: OutgoingMessages;
  private readonly here = new Here();
  /** Bytes of the frames of the call that is arriving. */
  private taken: number[] = [];
  /** Id of the last call: they rise, so that none is taken twice. */
  private newest = 0;
  private calls = 0;
  /** Ids of volumes whose maps the client is told of, as they are decided. */
  private readonly volumes = new Set<string>();

  constructor(service: ManagerOwner, index: number) {
    super(service, index);
    this.service = service;
    this.outgoing = new OutgoingMessages(service.resources);
  }

  override open(file: number, nowMs: number): void {
    check(this.calls === 0, 'calls are left on a connection that begins', this.calls);
    this.incoming.begin();
    this.outgoing.begin();
    this.taken = [];
    this.newest = 0;
    super.open(file, nowMs);
  }

  // ---- frames ----

  protected isCredited(kind: number): boolean {
    return isCall(kind);
  }

  protected takeRequest(frame: Frame, vector: number): boolean {
    const { kind } = frame;
    if (kind === KIND_ALIVE) return this.takeAlive(frame);
    if (isCall(kind)) return this.takePart(frame, vector);
    const message = `managers take no frames of kind ${kind} (${KIND_RULES[kind]?.name})`;
    return this.refuse({ status: STATUS_BAD_FRAME, message });
  }

  private takeAlive({ request, session }: Frame): boolean {
    const { here } = this;
    here.request = request;
    here.session = session;
    if (!here.owed) {
      here.owed = true;
      this.queueReply(here);
    }
    return true;
  }

  private takePart(frame: Frame, vector: number): boolean {
    const { incoming, outgoing } = this;
    const { kind, request, payload } = frame;
    // Only the answers of what is being carried out are in memory beyond this.
    if (this.calls >= SESSION_CALLS_MAX || outgoing.waitingBytes >= SESSION_ANSWER_BYTES_MAX) return this.wait();
    if (incoming.isBetween && request <= this.newest) {
      const message = `call ${request} comes after call ${this.newest}, and each has a higher number`;
      return this.refuse({ status: STATUS_BAD_FRAME, message });
    }
    this.newest = request;
    try {
      const bytes = incoming.take(frame, this.resources.memory.bytes.slice(vector, vector + payload));
      this.credits.take(payload);
      this.taken.push(payload);
      if (bytes !== null) this.beginCall(CALL_NAMES[kind - KIND_CALL], request, bytes);
      return true;
    } catch (error) {
      if (error instanceof WireRefusal) return this.refuse(error);
      throw error;
    }
  }

  // ---- calls ----

  /** Begins a call that has arrived whole. Throws a `WireRefusal`. */
  private beginCall(name: CallName, request: number, bytes: Uint8Array): void {
    const call = callOf(name);
    const asked = decodeBody(name, call.request, bytes, this.service.key);
    this.demandOwn(name, asked as { readonly clientId?: string });
    const begun = { request, taken: this.taken };
    this.taken = [];
    this.requests += 1;
    this.calls += 1;
    this.resources.counters.requests += 1;
    void this.perform(name, call, asked).then((answer) => this.answer(begun, answer));
  }

  /** A client acts for itself: what it asked for in an older session is over when this one begins, and for others it is not. */
  private demandOwn(name: CallName, { clientId = this.clientId }: { readonly clientId?: string }): void {
    if (clientId === this.clientId) return;
    throw new WireRefusal(STATUS_DENIED, `${name}: it is for client ${clientId}, and ${this.clientId} asks`);
  }

  /** The answer, or an error that tells why there is none. Anything else that is thrown is a mistake of this program. */
  private async perform(
    name: CallName,
    call: Call<unknown, unknown>,
    asked: unknown,
  ): Promise<Uint8Array | StrakeError> {
    try {
      // Nothing is left of the connection, and no newer session is welcomed, before all calls have ended.
      const answer = await call.perform(this.service.calls, asked, () => !this.closing);
      const bytes = encodeBody(call.answer, answer);
      if (bytes.length > ANSWER_PARTS_MAX * PART_BYTES_MAX) {
        throw new StrakeError('INVALID_ARGUMENT', `the answer has ${bytes.length} bytes, and is too long to be sent`);
      }
      this.watch(name, answer);
      return bytes;
    } catch (error) {
      if (error instanceof StrakeError) return error;
      throw error;
    }
  }

  private answer({ request, taken }: Begun, answer: Uint8Array | StrakeError): void {
    check(this.calls > 0, 'more calls are answered than were begun', this.calls);
    this.calls -= 1;
    this.resources.noteReleased();
    const failed = answer instanceof StrakeError;
    if (failed) this.resources.counters.errors += 1;
    this.outgoing.push({
      kind: failed ? KIND_FAILURE : KIND_ANSWER,
      request,
      bytes: failed ? encodeFailure(answer) : answer,
      onEnd: () => this.over(taken),
    });
    if (!this.closing) this.markDirty();
  }

  /** An answer has been sent, or nobody is there to take it. */
  private over(taken: readonly number[]): void {
    for (const payload of taken) this.credits.give(payload);
    check(this.requests > 0, 'more calls end on a connection than came', this.requests);
    this.requests -= 1;
    this.resources.noteReleased();
    if (this.closing) this.freeIfDone();
  }

  // ---- what is told ----

  /** A client that attaches or looks for a volume is told of its maps from now on; one that gives it back is not. */
  private watch(name: CallName, answer: unknown): void {
    const { kind, maps } = answer as { readonly kind?: string; readonly maps?: readonly ReplicaMap[] };
    const volumeId = maps?.[0]?.volume.id;
    if (volumeId === undefined) return;
    if (name === 'attach' || name === 'fetch') this.watchVolume(volumeId);
    else if (kind === 'released') this.volumes.delete(volumeId);
  }

  private watchVolume(volumeId: string): void {
    const { volumes } = this;
    volumes.delete(volumeId);
    volumes.add(volumeId);
    if (volumes.size > SESSION_VOLUMES_MAX) volumes.delete(volumes.values().next().value as string);
  }

  /**
   * Tells of maps that have been decided, those of volumes that the client has attached or looked for. A client that does not
   * take what it is told is told less: it hears of maps by its members too.
   */
  tell(maps: readonly ReplicaMap[]): void {
    const { volumes, outgoing } = this;
    const told = maps.filter(({ volume }) => volumes.has(volume.id));
    if (this.state !== 'serving' || told.length === 0 || outgoing.waitingBytes >= SESSION_ANSWER_BYTES_MAX) return;
    outgoing.push({ kind: KIND_DECIDED, request: 0, bytes: encodeBody(DECIDED, { maps: told }), onEnd: () => {} });
    this.markDirty();
  }

  // ---- sending ----

  override flush(): void {
    if (!this.closing) this.sendNext();
    super.flush();
  }

  private sendNext(): void {
    const { outgoing } = this;
    if (outgoing.nextBytes === 0) return;
    const part = outgoing.next(this.frame, this.session);
    check(part !== null, 'a connection has no buffer for its answer', this.session);
    this.queuePiece(part);
  }

  protected sent(): void {
    this.outgoing.sent();
    this.resources.noteReleased();
    if (!this.closing) this.sendNext();
  }

  protected dropPart(): void {
    this.outgoing.sent();
  }

  endRequest(here: Here): void {
    here.owed = false;
  }

  // ---- the end ----

  /** No blocks are ever expected. */
  protected takeBlocks(): void {}
  protected dropBlocks(): void {}

  /** A manager answers all that a session asks on one connection. */
  join(): boolean {
    return false;
  }

  protected leave(): void {
    this.volumes.clear();
    this.outgoing.end();
  }
}
