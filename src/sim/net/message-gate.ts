/**
 * Holds back messages of the native protocol on their way between hosts, for trials that build one sequence of events.
 *
 * A connection keeps its order: what was sent behind a message that waits waits as well, and what was sent before it arrives. A
 * connection that breaks takes what waits with it.
 */

import { Frame, getHeader } from '../../wire/frame.js';
import { AT_KIND, AT_PAYLOAD, HEADER_BYTES, KIND_REPLIES, KIND_REPLY } from '../../wire/messages.js';
import type { SimMachine } from '../world/process.js';
import type { Connection, MessageWay, Side, Stop, Stopped } from './connection.js';

/** A message whose header has been sent. */
export interface SimMessage {
  readonly from: SimMachine | null;
  readonly to: SimMachine | null;
  readonly kind: number;
  /** The fields of its header. */
  readonly frame: Frame;
}

/** Messages that wait, and those like them that will. */
export interface MessageHold {
  /** What waits, or has waited, in the order in which it was sent. */
  readonly caught: readonly SimMessage[];
  /** Lets all that waits go on, and what will be sent. */
  release(): void;
}

class Hold implements MessageHold, Stop {
  holds = true;
  readonly caught: SimMessage[] = [];
  readonly which: (message: SimMessage) => boolean;
  /** Where something waits. */
  private readonly places: (readonly [Connection, Side])[] = [];
  private readonly most: number;

  constructor(which: (message: SimMessage) => boolean, most: number) {
    this.which = which;
    this.most = most;
  }

  /** Whether a message waits from now on. */
  catches(message: SimMessage, connection: Connection, side: Side): boolean {
    if (!this.holds || this.caught.length === this.most || !this.which(message)) return false;
    this.caught.push(message);
    this.places.push([connection, side]);
    return true;
  }

  release(): void {
    this.holds = false;
    for (const [connection, side] of this.places) connection.schedule(side, connection.time.nowUs + 1);
  }
}

/** Finds the messages in what is sent. */
class Reader implements MessageWay {
  private readonly header = new Uint8Array(HEADER_BYTES);
  private readonly view = new DataView(this.header.buffer);
  /** Bytes of the present header that have been sent. */
  private known = 0;
  /** Bytes of the present payload that have not. */
  private left = 0;
  private readonly told: (kind: number, frame: Frame) => Stop | null;

  constructor(told: (kind: number, frame: Frame) => Stop | null) {
    this.told = told;
  }

  take(bytes: Uint8Array): readonly Stopped[] {
    const found: Stopped[] = [];
    for (let at = 0; at < bytes.length; ) {
      if (this.left > 0) {
        const skipped = Math.min(this.left, bytes.length - at);
        this.left -= skipped;
        at += skipped;
        continue;
      }
      const taken = Math.min(HEADER_BYTES - this.known, bytes.length - at);
      this.header.set(bytes.subarray(at, at + taken), this.known);
      this.known += taken;
      if (this.known === HEADER_BYTES) {
        const stop = this.message();
        // What of its header has been sent before may arrive: it is nothing without the rest.
        if (stop !== null) found.push({ at, stop });
      }
      at += taken;
    }
    return found;
  }

  private message(): Stop | null {
    const { view } = this;
    const kind = view.getUint8(AT_KIND);
    const frame = new Frame();
    getHeader(view, 0, frame, kind === KIND_REPLY || kind === KIND_REPLIES);
    this.known = 0;
    this.left = view.getUint32(AT_PAYLOAD, true);
    return this.told(kind, frame);
  }
}

export class MessageGate {
  private readonly holds: Hold[] = [];

  /** Holds back messages of which this is true from now on, at most so many. */
  hold(which: (message: SimMessage) => boolean, most = Number.POSITIVE_INFINITY): MessageHold {
    const hold = new Hold(which, most);
    this.holds.push(hold);
    return hold;
  }

  /** Lets everything go on. */
  open(): void {
    for (const hold of this.holds) hold.release();
    this.holds.length = 0;
  }

  /** What arrives at a side of a connection passes here. */
  way(connection: Connection, side: Side, from: SimMachine | null, to: SimMachine | null): MessageWay {
    return new Reader((kind, frame) => {
      const message = { from, to, kind, frame };
      return this.holds.find((hold) => hold.catches(message, connection, side)) ?? null;
    });
  }
}
