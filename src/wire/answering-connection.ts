/**
 * The end of a connection that has accepted it: the handshake, and whose session it serves. What may be asked for in a session is
 * added by whoever serves it.
 *
 * A session ends with its connection. What it had asked for is carried out to its end all the same, and answered to nobody; a
 * newer session of the same client is welcomed only when nothing of that is left (`SessionDesk`), so that what is asked for
 * again there cannot be overtaken by what was asked for first.
 */

import { check } from '../core/check.js';
import type { ConnectionResources } from '../net/connection-resources.js';
import type { ReplyFormat } from '../net/send-queue.js';
import type { StreamedRequest, StreamPart } from '../net/stream-connection.js';
import { FrameConnection } from './connection.js';
import type { WelcomeFields } from './control.js';
import { Credits } from './credits.js';
import type { Frame } from './frame.js';
import { FEATURE_PINGS, type HelloAnswerer } from './hello.js';
import {
  FROM_ASKER,
  KIND_CHALLENGE,
  KIND_HELLO,
  KIND_REFUSED,
  KIND_WELCOME,
  STATUS_BAD_FRAME,
  STATUS_NO_CREDIT,
} from './messages.js';
import { WireRefusal } from './refusal.js';

/** Where connections come from, and what all of them have in common. */
export interface AnsweringOwner<Reply, Connection> {
  readonly resources: ConnectionResources;
  readonly replies: ReplyFormat<Reply>;
  readonly terms: WelcomeFields;
  readonly version: number;
  readonly receiveToken: number;
  readonly sendToken: number;
  readonly desk: AnsweringDesk<Connection>;
  newAnswerer(): HelloAnswerer;
}

/** Who keeps the connections, and is told how far each has come. */
export interface AnsweringDesk<Connection> {
  /** A client has proven to have the key. */
  enter(connection: Connection): void;
  onServing(connection: Connection): void;
  /** Nothing is left of it; it can be used again. */
  onFree(connection: Connection): void;
}

export abstract class AnsweringConnection<
  Request extends StreamedRequest,
  Part extends StreamPart,
> extends FrameConnection<Request, Part> {
  /** Who has proven to have the key, and the number of its session; empty before. */
  clientId = '';
  session = 0;
  /** It is a second connection of that session, for PINGs alone. */
  isForPings = false;
  protected credits = new Credits(0, 0);
  private readonly owner: AnsweringOwner<Request, AnsweringConnection<Request, Part>>;
  private hello: HelloAnswerer | null = null;

  constructor(owner: AnsweringOwner<Request, AnsweringConnection<Request, Part>>, index: number) {
    const { resources, replies } = owner;
    const tokens = { receiveToken: owner.receiveToken + index, sendToken: owner.sendToken + index };
    super({ resources, replies, ...tokens }, index, FROM_ASKER);
    this.owner = owner;
  }

  /** Takes a frame of the session, as `takeFrame`. */
  protected abstract takeRequest(frame: Frame, vector: number): boolean;
  /** Whether a kind counts among what a session may ask for. */
  protected abstract isCredited(kind: number): boolean;
  /** What is left of the session is given up: its connection is over. */
  protected abstract leave(): void;
  /** Becomes the second connection of the session that `first` serves. False if there is no room for that. */
  abstract join(first: this): boolean;

  /** Begins with a new socket. */
  open(file: number, nowMs: number): void {
    this.beginFrames(file, nowMs);
    this.clientId = '';
    this.session = 0;
    this.isForPings = false;
    this.hello = this.owner.newAnswerer();
    this.say(KIND_CHALLENGE, this.hello.challenge());
    this.receive();
  }

  // ---- handshake ----

  private shakeHands({ kind }: Frame, vector: number): boolean {
    const { hello } = this;
    if (kind === KIND_REFUSED || hello === null || kind !== KIND_HELLO || this.clientId !== '') {
      this.end('the peer does not shake hands');
      return false;
    }
    const { memory } = this.resources;
    try {
      const { clientId, session, features } = hello.takeHello(
        memory.bytes.slice(vector, vector + this.reader.vectorBytes),
      );
      this.clientId = clientId;
      this.session = session;
      this.isForPings = features.includes(FEATURE_PINGS);
    } catch (error) {
      if (error instanceof WireRefusal) return this.refuse(error);
      throw error;
    }
    this.owner.desk.enter(this);
    return true;
  }

  /** Nothing is left of older sessions of its client: it is served from now on. */
  welcome(): void {
    if (this.state !== 'handshake') return;
    const { hello, owner } = this;
    check(hello !== null && !this.sender.sending, 'a session begins before its handshake', this.session);
    const { terms } = owner;
    this.credits = new Credits(terms.creditRequests, terms.creditBytes);
    this.say(KIND_WELCOME, hello.welcome(terms));
    this.reader.open(owner.version);
    this.hello = null;
    this.state = 'serving';
    owner.desk.onServing(this);
  }

  // ---- frames ----

  protected takeFrame(frame: Frame, vector: number): boolean {
    if (this.state === 'handshake') return this.shakeHands(frame, vector);
    const { kind } = frame;
    if (kind === KIND_REFUSED) {
      this.end('the client has refused to go on');
      return false;
    }
    if (frame.session !== this.session) {
      const message = `a frame of session ${frame.session} comes on the connection of session ${this.session}`;
      return this.refuse({ status: STATUS_BAD_FRAME, message });
    }
    if (this.isCredited(kind) && !this.credits.mayTake(frame.payload)) {
      const message = `a request with ${frame.payload} bytes is beyond what this session was granted`;
      return this.refuse({ status: STATUS_NO_CREDIT, message });
    }
    return this.takeRequest(frame, vector);
  }

  /** Answers are never streamed. */
  protected beginStream(): void {}

  override end(reason: string): void {
    // What is being carried out goes on; nothing else is taken.
    if (this.state !== 'closing' && this.state !== 'free') this.leave();
    super.end(reason);
  }

  protected onFree(): void {
    this.hello = null;
    this.owner.desk.onFree(this);
  }
}
