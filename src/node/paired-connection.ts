/**
 * The connections of a session: the first, by which everything is asked, and a second one for its pings, which would otherwise be
 * read behind payloads that a slow device keeps from going on.
 *
 * ```text
 *   first  ◄── HELLO(session) ──── OPEN, WRITE ... ──►  changes are counted and told here
 *   second ◄── HELLO(session, pings) ──── PING ────►    answered of the session that the first one serves
 * ```
 *
 * The second one ends with the first, and not the other way round: a client pings on the first one then.
 */

import { check } from '../core/check.js';
import { AnsweringConnection, type AnsweringOwner } from '../wire/answering-connection.js';
import type { Frame } from '../wire/frame.js';
import type { FrameProblem } from '../wire/framing.js';
import { PING_BYTES_MAX } from '../wire/limits.js';
import { HEADER_BYTES, KIND_PING, STATUS_BAD_FRAME } from '../wire/messages.js';
import { WireRefusal } from '../wire/refusal.js';
import type { PeerRequest, PeerRequests, RequestOrigin } from './peer-request.js';

export abstract class PairedConnection
  extends AnsweringConnection<PeerRequest, PeerRequest>
  implements Pick<RequestOrigin, 'endRequest'>
{
  private readonly records: PeerRequests;
  /** The connection for the pings of this session; null if there is none. */
  private second: this | null = null;
  /** The connection whose session's pings are answered here; null on a first one. */
  private first: this | null = null;
  /** By which they are answered, as long as the connection goes on. */
  private pong: PeerRequest | null = null;
  private answersPing = false;

  constructor(owner: AnsweringOwner<PeerRequest, PairedConnection>, index: number, records: PeerRequests) {
    super(owner, index);
    this.records = records;
  }

  /** Answers, by `pong`, a PING of the session that `first` serves. Throws a `WireRefusal`. */
  protected abstract answerPing(first: this, payload: Uint8Array, pong: PeerRequest): void;
  abstract admit(request: PeerRequest): void;
  abstract putAnswer(request: PeerRequest, memory: number): void;

  /** The record with which all pings are answered here is kept, so that none waits for what others hold. */
  join(first: this): boolean {
    check(first !== this && !first.isForPings, 'a second connection joins one that is no first', this.session);
    const pong = this.records.take(HEADER_BYTES + PING_BYTES_MAX, false);
    if (pong === null) return false;
    if (pong.buffer !== null) this.hold(pong.buffer);
    this.requests += 1;
    pong.connection = this;
    pong.credited = false;
    this.pong = pong;
    this.answersPing = false;
    first.second?.end('another connection takes its place');
    first.second = this;
    this.first = first;
    return true;
  }

  protected override get reads(): boolean {
    return super.reads && !this.answersPing;
  }

  /** Takes a frame of a second connection. */
  protected takePing({ kind, request, payload }: Frame, vector: number): boolean {
    const { first, pong } = this;
    check(first !== null && pong !== null, 'a ping comes for no session', this.session);
    check(!this.answersPing, 'a ping is answered before the last one', this.session);
    if (kind !== KIND_PING) {
      return this.refuse({
        status: STATUS_BAD_FRAME,
        message: `a frame of kind ${kind} comes on a connection for PING`,
      });
    }
    pong.id = request;
    this.answersPing = true;
    try {
      this.answerPing(first, this.resources.memory.bytes.slice(vector, vector + payload), pong);
      return true;
    } catch (error) {
      if (!(error instanceof WireRefusal)) throw error;
      this.answersPing = false;
      return this.refuse(error);
    }
  }

  /** Gives the record for answers to pings back, unless it is on its way. */
  private endPings(): void {
    const { pong } = this;
    if (pong === null || this.answersPing) return;
    this.pong = null;
    this.endRequest(pong);
  }

  protected sent(request: PeerRequest): void {
    if (request !== this.pong) {
      this.endRequest(request);
      return;
    }
    this.answersPing = false;
    if (this.state !== 'serving') this.endPings();
  }

  protected dropPart(request: PeerRequest): void {
    if (request === this.pong) {
      this.pong = null;
      // Whoever gets this place next is read: an answer that was not sent is not on its way any more.
      this.answersPing = false;
    }
    this.endRequest(request);
  }

  // ---- the end

  override refuse(problem: FrameProblem): false {
    this.endPings();
    return super.refuse(problem);
  }

  override drain(): void {
    // Nobody waits for what is said here: pings go on by the first connection.
    if (this.isForPings) this.end('the server is closing');
    else super.drain();
  }

  protected leave(): void {
    const { first, second } = this;
    if (first?.second === this) first.second = null;
    this.first = null;
    this.second = null;
    second?.end('its session is over');
    this.endPings();
  }
}
