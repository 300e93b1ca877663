/**
 * The second connection of a session, at the end that asks: nothing comes by it but PINGs and their answers, one at a time, so
 * none of them is read behind payloads that a slow device keeps from going on.
 */

import { check } from '../../core/check.js';
import type { ConnectionResources } from '../../net/connection-resources.js';
import type { ReplyFormat } from '../../net/send-queue.js';
import type { StreamedRequest, StreamPart } from '../../net/stream-connection.js';
import { AskerConnection } from '../../wire/asker-connection.js';
import { decodeControl, type WelcomeFields } from '../../wire/control.js';
import { encodePayload, type Frame } from '../../wire/frame.js';
import { type Agreement, FEATURE_PINGS, type HelloAsker } from '../../wire/hello.js';
import { FROM_ANSWERER, KIND_PING, KIND_PONG, STATUS_BAD_VERSION } from '../../wire/messages.js';
import { WireRefusal } from '../../wire/refusal.js';

/** Whose connection it is. */
export interface PingAsker {
  /** The handshake is over. */
  welcomed(): void;
  /** What was asked last is answered. */
  answered(payload: Uint8Array, leaseMs: number): void;
  /** The connection is no more. */
  broken(): void;
  /** Nothing uses what the connection used any more. */
  freed(): void;
}

/** What a shard provides to such connections. */
export interface PingOwner {
  readonly pingResources: ConnectionResources;
  readonly pingReplies: ReplyFormat<StreamedRequest>;
  readonly pingReceiveToken: number;
  readonly pingSendToken: number;
  /** Nothing is left of it; it can be used again. */
  onPingsFree(connection: PingConnection): void;
}

export class PingConnection extends AskerConnection<StreamedRequest, StreamPart> {
  private readonly service: PingOwner;
  private asker: PingAsker | null = null;
  private session = 0;
  /** What is to be sent when the last has been; null if nothing is. */
  private question: Uint8Array | null = null;
  /** Of the last question: each has another. */
  private number = 0;
  private waits = false;

  constructor(service: PingOwner, index: number) {
    const { pingResources: resources, pingReplies: replies, pingReceiveToken, pingSendToken } = service;
    const tokens = { receiveToken: pingReceiveToken + index, sendToken: pingSendToken + index };
    super({ resources, replies, ...tokens }, index, FROM_ANSWERER);
    this.service = service;
  }

  /** Begins with a new socket, for the session of this number. */
  open(file: number, nowMs: number, asker: PingAsker, session: number, hello: HelloAsker): void {
    check(this.asker === null, 'a connection for pings is used for two sessions', session);
    this.asker = asker;
    this.session = session;
    this.question = null;
    this.waits = false;
    this.greet(file, nowMs, hello);
  }

  protected welcomed({ features }: WelcomeFields & Agreement): void {
    if (!features.includes(FEATURE_PINGS)) {
      throw new WireRefusal(STATUS_BAD_VERSION, 'it takes no second connection of a session');
    }
    this.asker?.welcomed();
  }

  /** Sends a PING with this payload. */
  ask(payload: Uint8Array): void {
    check(this.state === 'serving' && !this.waits, 'a node is pinged before the last ping is answered', this.number);
    this.waits = true;
    this.number += 1;
    this.question = payload;
    this.markDirty();
  }

  override flush(): void {
    super.flush();
    this.sendQuestion();
  }

  override onSent(result: number): void {
    super.onSent(result);
    this.sendQuestion();
  }

  private sendQuestion(): void {
    const { question, sender } = this;
    if (question === null || sender.sending || this.state !== 'serving') return;
    this.question = null;
    const frame = this.frame.begin(KIND_PING, 0, this.number);
    frame.session = this.session;
    this.sendStaged(encodePayload(this.resources.memory, frame, sender.stagingMemory, question));
  }

  protected takeAnswer(frame: Frame, vector: number): string | null {
    if (frame.kind !== KIND_PONG) return `a frame of kind ${frame.kind} is no answer to a ping`;
    if (!this.waits || frame.request !== this.number) return 'a pong comes that was not asked for';
    const payload = this.payload(vector, frame.payload);
    decodeControl('pong', payload);
    this.waits = false;
    this.asker?.answered(payload, Math.floor(frame.microseconds / 1000));
    return null;
  }

  /** That there is no such connection ends no session. */
  protected declined(): void {}

  /** No blocks are ever expected, and nothing is sent but from the staging area. */
  protected takeBlocks(): void {}
  protected dropBlocks(): void {}
  protected sent(): void {}
  protected dropPart(): void {}

  override end(reason: string): void {
    // With its end it may have become free, and be nobody's.
    if (this.state !== 'closing' && this.state !== 'free') this.asker?.broken();
    super.end(reason);
  }

  protected override onFree(): void {
    const { asker } = this;
    super.onFree();
    this.asker = null;
    this.service.onPingsFree(this);
    asker?.freed();
  }
}
