/**
 * The connection of a session with a manager, at the end that asks: calls as they leave, in parts, and answers as they come. An
 * answer is taken only for a call that was sent on this connection and waits: any other ends it.
 */

import { check } from '../../core/check.js';
import type { ReplicaMap } from '../../layout/replica-map.js';
import type { ConnectionResources } from '../../net/connection-resources.js';
import type { ReplyFormat } from '../../net/send-queue.js';
import { NO_REASON, type StreamedRequest } from '../../net/stream-connection.js';
import type { ClusterKey } from '../../ports/cluster-key.js';
import { AskerConnection } from '../../wire/asker-connection.js';
import type { WelcomeFields } from '../../wire/control.js';
import { Credits } from '../../wire/credits.js';
import { Frame, putHeader } from '../../wire/frame.js';
import type { FrameProblem } from '../../wire/framing.js';
import { type Agreement, FEATURE_MANAGER, type HelloAsker } from '../../wire/hello.js';
import { decodeBody } from '../../wire/manager-bodies.js';
import { DECIDED } from '../../wire/manager-calls.js';
import { IncomingMessages, type MessagePart, OutgoingMessages } from '../../wire/message-parts.js';
import {
  FROM_ANSWERER,
  HEADER_BYTES,
  KIND_ALIVE,
  KIND_ANSWER,
  KIND_DECIDED,
  KIND_FAILURE,
  KIND_HERE,
  STATUS_BAD_VERSION,
} from '../../wire/messages.js';
import { WireRefusal } from '../../wire/refusal.js';

/** The session that a connection is for. */
export interface CallingSession {
  /** The handshake is over: calls are sent. */
  welcomed(): void;
  /** A call has been answered, or has failed. Returns what is wrong with that, or null. May throw a `WireRefusal`. */
  answered(request: number, failed: boolean, bytes: Uint8Array): string | null;
  decided(maps: readonly ReplicaMap[]): void;
  /** The manager is there, as it was asked. Returns whether it was. */
  isHere(request: number): boolean;
  /** The manager wants no session with this client, or the other way round. */
  refused(): void;
  /** The connection is no more. */
  broken(reason: string): void;
  /** Nothing uses what the connection used any more. */
  freed(): void;
}

/** Whether the manager is there: one question waits to be sent at a time. */
export class Question implements StreamedRequest {
  queued = 0;
  request = 0;
  session = 0;
}

/** ALIVE is a header. */
class QuestionFormat implements ReplyFormat<Question> {
  readonly replyBytes = HEADER_BYTES;
  readonly headBytes = 0;
  readonly repliesMost = 1;
  private readonly resources: ConnectionResources;
  private readonly frame = new Frame();

  constructor(resources: ConnectionResources) {
    this.resources = resources;
  }

  writeReply({ request, session }: Question, memory: number): void {
    this.frame.begin(KIND_ALIVE, 0, request);
    this.frame.session = session;
    putHeader(this.resources.memory, memory, this.frame, false);
  }

  writeHead(): void {}
}

export interface CallConnectionParts {
  readonly resources: ConnectionResources;
  readonly receiveToken: number;
  readonly sendToken: number;
  readonly key: ClusterKey;
  readonly session: CallingSession;
}

export class CallConnection extends AskerConnection<Question, MessagePart> {
  private readonly owner: CallingSession;
  private readonly key: ClusterKey;
  private readonly incoming = new IncomingMessages();
  private readonly outgoing: OutgoingMessages;
  private readonly question = new Question();
  private credits = new Credits(0, 0);
  /** Of each call that waits: bytes of its frames that have been sent, as credits count them. */
  private readonly taken = new Map<number, number[]>();
  private number = 0;
  private isGreeting = false;

  constructor({ resources, receiveToken, sendToken, key, session }: CallConnectionParts) {
    super({ resources, replies: new QuestionFormat(resources), receiveToken, sendToken }, 0, FROM_ANSWERER);
    this.owner = session;
    this.key = key;
    this.outgoing = new OutgoingMessages(resources);
  }

  /** Whether another socket may be opened. */
  get isFree(): boolean {
    return this.state === 'free';
  }

  /** Begins with a new socket, as the session of this number. */
  open(file: number, nowMs: number, number: number, hello: HelloAsker): void {
    check(this.isFree, 'a connection to a manager begins before its last has ended', number);
    check(this.taken.size === 0, 'calls are left on a connection to a manager that begins', this.taken.size);
    this.number = number;
    this.isGreeting = true;
    this.incoming.begin();
    this.outgoing.begin();
    this.greet(file, nowMs, hello);
  }

  protected welcomed({ creditRequests, creditBytes, features }: WelcomeFields & Agreement): void {
    if (!features.includes(FEATURE_MANAGER)) {
      throw new WireRefusal(STATUS_BAD_VERSION, 'it is a node, and no manager');
    }
    this.isGreeting = false;
    this.credits = new Credits(creditRequests, creditBytes);
    this.owner.welcomed();
  }

  // ---- what is asked

  /** Sends a call, whose id is higher than all before. */
  call(kind: number, request: number, bytes: Uint8Array): void {
    check(this.state === 'serving', 'something is asked before the handshake', request);
    check(!this.taken.has(request), 'two calls have the same number', request);
    this.requests += 1;
    this.taken.set(request, []);
    this.outgoing.push({
      ...{ kind, request, bytes },
      onEnd: () => {
        this.requests -= 1;
        check(this.requests >= 0, 'more calls have been sent than were asked for', this.requests);
      },
    });
    this.markDirty();
  }

  /** Asks whether the manager is there. */
  ask(request: number): void {
    check(this.state === 'serving', 'a manager is asked whether it is there before the handshake', request);
    this.question.request = request;
    this.question.session = this.number;
    this.queueReply(this.question);
  }

  override flush(): void {
    if (this.state === 'serving') this.sendNext();
    super.flush();
  }

  private sendNext(): void {
    const { outgoing, credits } = this;
    const { nextBytes } = outgoing;
    if (nextBytes === 0 || !credits.mayTake(nextBytes)) return;
    const part = outgoing.next(this.frame, this.number);
    check(part !== null, 'a session has no buffer for its calls', this.number);
    credits.take(nextBytes);
    const taken = this.taken.get(this.frame.request);
    check(taken !== undefined, 'a part is sent of a call that nobody has asked for', this.frame.request);
    taken.push(nextBytes);
    this.queuePiece(part);
  }

  protected sent(): void {
    this.outgoing.sent();
    if (this.state === 'serving') this.sendNext();
  }

  protected dropPart(): void {
    this.outgoing.sent();
  }

  // ---- what is answered

  protected takeAnswer(frame: Frame, vector: number): string | null {
    const { kind, request, payload } = frame;
    if (kind === KIND_HERE) {
      return this.owner.isHere(request) ? null : 'it says that it is here, and was not asked';
    }
    if (kind !== KIND_ANSWER && kind !== KIND_FAILURE && kind !== KIND_DECIDED) return `kind ${kind} is no answer`;
    const bytes = this.incoming.take(frame, this.payload(vector, payload));
    if (bytes === null) return null;
    if (kind === KIND_DECIDED) {
      this.owner.decided(decodeBody('decided', DECIDED, bytes, this.key).maps);
      return null;
    }
    const taken = this.taken.get(request);
    if (taken === undefined) return `it answers call ${request}, which was not asked or has been answered`;
    this.taken.delete(request);
    for (const part of taken) this.credits.give(part);
    this.markDirty();
    return this.owner.answered(request, kind === KIND_FAILURE, bytes);
  }

  /** No blocks are ever expected. */
  protected takeBlocks(): void {}
  protected dropBlocks(): void {}

  // ---- the end

  protected declined(): void {
    this.owner.refused();
  }

  override refuse(problem: FrameProblem): false {
    // Nothing more is asked here; the manager is told why before the connection ends.
    if (this.isGreeting) this.owner.refused();
    if (this.state !== 'closing' && this.state !== 'free') this.outgoing.end();
    super.refuse(problem);
    this.owner.broken(problem.message);
    return false;
  }

  override end(reason: string): void {
    if (this.state !== 'closing' && this.state !== 'free') {
      this.outgoing.end();
      this.owner.broken(reason === NO_REASON ? 'the manager has ended the connection' : reason);
    }
    super.end(reason);
  }

  protected override onFree(): void {
    super.onFree();
    this.taken.clear();
    this.owner.freed();
  }
}
