/**
 * The pings of a session: whether its node is there, and the leases that it grants. One is on its way at a time; leases that are
 * wanted meanwhile are asked for by the next.
 *
 * They go by a connection of their own where there is one, and else by that of the session, where they may be read late. Which it
 * is makes no difference to what is granted: question and answer bear how many changes of the session the client had taken, and
 * changes are told on the first connection only. So a PONG that overtakes a MAP_CHANGED grants a lease under the map before, for
 * which the member waits; one that is overtaken by it grants nothing for its replica (`LeaseBook.answer`).
 */

import { check } from '../../core/check.js';
import type { StreamAddress } from '../../ports/transport.js';
import { type DeviceState, decodeControl } from '../../wire/control.js';
import { FEATURE_PINGS } from '../../wire/hello.js';
import type { ControlAnswer, ControlCall } from './asked.js';
import { pingCall, pingPayload } from './node-calls.js';
import { PingLine } from './ping-line.js';
import type { LeaseBook, LeaseQuestion } from './read-lease.js';
import type { SessionService } from './session-service.js';
import { Silence } from './silence.js';

/** The session, as far as it is pinged. */
export interface PingedSession {
  readonly service: SessionService;
  readonly address: StreamAddress;
  readonly leases: LeaseBook;
  /** Asks something of the node before everything else that waits. */
  call(control: Omit<ControlCall, 'resolve'>): Promise<ControlAnswer>;
  /** Whether anything can be asked. */
  isOpen(): boolean;
  failed(): boolean;
  nowMs(): number;
  onDevices(devices: readonly DeviceState[]): void;
}

export class Pings {
  /** Of the node. */
  readonly silence: Silence;
  /** Of the connection for pings, while the node says something on the other. */
  private readonly lineSilence: Silence;
  private readonly session: PingedSession;
  private readonly line: PingLine;
  /** What was asked by the line, and is not answered. */
  private question: LeaseQuestion | null = null;
  /** Leases are wanted that the ping on its way does not ask for. */
  private isWanted = false;
  /** The present connection of the session: its number, and whether the node takes a second one. */
  private number = 0;
  private isOffered = false;

  constructor(session: PingedSession) {
    this.session = session;
    this.silence = new Silence(session.nowMs(), session.service.times);
    this.lineSilence = new Silence(session.nowMs(), session.service.times);
    this.line = new PingLine(session.service, session.address, {
      answered: (payload, leaseMs) => this.lineAnswered(payload, leaseMs),
      lost: () => this.lineAnswered(null, 0),
    });
  }

  /** The session has a connection that answers. `offered`: what the node can do. */
  welcomed(number: number, offered: readonly string[]): void {
    this.number = number;
    this.isOffered = offered.includes(FEATURE_PINGS);
    this.silence.answered();
  }

  /** The session is open: anything can be asked on it. */
  begin(): void {
    if (this.isOffered) this.line.begin(this.number);
    this.send();
  }

  /** The session has lost its connection, and with it what it has been granted. */
  end(): void {
    this.session.leases.end();
    // What was asked about the changes of that connection is not answered on the next one.
    this.forget();
    this.line.end();
  }

  /** The session has failed. */
  close(): void {
    this.forget();
    this.line.close();
  }

  private forget(): void {
    if (this.question !== null) this.silence.answered();
    this.question = null;
    this.lineSilence.answered();
  }

  /** Asks for leases, as soon as what was asked before is answered. */
  soon(): void {
    if (!this.session.isOpen() || this.silence.isWaiting) this.isWanted = true;
    else this.send();
  }

  /** Asks whether the node is there. */
  private send(): void {
    const { session, line } = this;
    check(session.isOpen(), 'a node is asked whether it is there that nothing can be asked of');
    this.silence.asked(session.nowMs());
    this.isWanted = false;
    const question = session.leases.question();
    if (line.isOpen) {
      this.question = question;
      this.lineSilence.asked(session.nowMs());
      line.ask(pingPayload(question.taken));
      return;
    }
    // Behind what waits for credits it would say nothing of the node.
    void session.call(pingCall(question.taken)).then(({ payload, leaseMs }) => {
      this.answered(question, payload, leaseMs);
    });
  }

  private lineAnswered(payload: Uint8Array | null, leaseMs: number): void {
    const { question } = this;
    if (question === null) return;
    this.question = null;
    this.lineSilence.answered();
    // A line that breaks says nothing of the node, which is asked anew by the other connection.
    if (payload === null) this.isWanted = true;
    this.answered(question, payload, leaseMs);
  }

  /** `payload`: null if there will be no answer. */
  private answered(question: LeaseQuestion, payload: Uint8Array | null, leaseMs: number): void {
    const { session } = this;
    this.silence.answered();
    if (session.failed()) return;
    if (payload !== null) {
      const { taken, devices, unleased } = decodeControl('pong', payload);
      // One that answers another question grants nothing.
      session.leases.answer(question, taken === question.taken ? leaseMs : 0, unleased ?? []);
      session.onDevices(devices);
    }
    if (this.isWanted && session.isOpen()) this.soon();
  }

  /** It is time to look: `received` counts what has been received on the connection of the session. */
  tick(nowMs: number, received: number): void {
    this.silence.tick(nowMs, received + this.line.heard);
    this.lineSilence.tick(nowMs, this.line.heard);
  }

  /** Asks whether the node is there, if it is time to; it says something, or has not been silent for long. */
  askIfDue(nowMs: number): void {
    // A node that is silent on both is judged by the first, and is not asked anew just before.
    if (this.lineSilence.tooLong(nowMs) && this.silence.isHeard(nowMs)) this.line.giveUp('it says nothing');
    this.line.tick(nowMs);
    if (this.silence.isPingDue(nowMs)) this.send();
  }
}
