/**
 * The pings of a session: whether its node is there, and the leases that it grants. One is on its way at a time; leases that are
 * wanted meanwhile are asked for by the next.
 */

import { check } from '../../core/check.js';
import type { TimesHeard } from '../../core/cluster-times.js';
import { type DeviceState, decodeControl } from '../../wire/control.js';
import type { ControlAnswer, ControlCall } from './asked.js';
import { pingCall } from './node-calls.js';
import type { LeaseBook } from './read-lease.js';
import { Silence } from './silence.js';

/** The session, as far as it is pinged. */
export interface PingedSession {
  /** Asks something of the node before everything else that waits. */
  call(control: Omit<ControlCall, 'resolve'>): Promise<ControlAnswer>;
  /** Whether anything can be asked. */
  isOpen(): boolean;
  failed(): boolean;
  nowMs(): number;
  readonly times: TimesHeard;
  onDevices(devices: readonly DeviceState[]): void;
}

export class Pings {
  readonly silence: Silence;
  private readonly session: PingedSession;
  private readonly leases: LeaseBook;
  /** Leases are wanted that the ping on its way does not ask for. */
  private isWanted = false;

  constructor(session: PingedSession, leases: LeaseBook) {
    this.session = session;
    this.leases = leases;
    this.silence = new Silence(session.nowMs(), session.times);
  }

  /** Asks for leases, as soon as what was asked before is answered. */
  soon(): void {
    if (!this.session.isOpen() || this.silence.isWaiting) this.isWanted = true;
    else this.send();
  }

  /** Asks whether the node is there. */
  send(): void {
    const { session, leases } = this;
    check(session.isOpen(), 'a node is asked whether it is there that nothing can be asked of');
    this.silence.asked(session.nowMs());
    this.isWanted = false;
    const question = leases.question();
    // Behind what waits for credits it would say nothing of the node.
    void session.call(pingCall(question.taken)).then(({ payload, leaseMs }) => {
      this.silence.answered();
      if (payload === null || session.failed()) return;
      const { taken, devices, unleased } = decodeControl('pong', payload);
      // One that answers another question grants nothing.
      leases.answer(question, taken === question.taken ? leaseMs : 0, unleased ?? []);
      if (this.isWanted) this.soon();
      session.onDevices(devices);
    });
  }
}
