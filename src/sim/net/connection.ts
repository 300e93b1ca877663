/**
 * A simulated stream connection: two ends, and a way from each to the other.
 *
 * ```text
 *   end ── send ──► way: segments under way, then bytes that have arrived ──► receive ── end
 *    ▲                                                                              │
 *    └───────────────────────── the same the other way ◄────────────────────────────┘
 * ```
 *
 * What TCP makes of loss, duplication and reordering is what product code can see of them, so they are simulated as that:
 * bytes arrive in order and once, cut into segments at random; a lost segment arrives after a retransmission time-out, and
 * holds back all behind it.
 *
 * Faults: `reset` breaks a connection for both ends; a way that is blocked holds back everything until it is open again, and so
 * does the network between two hosts in one direction. `loss` is the share of segments that are sent again. What a `MessageWay`
 * stops waits with all behind it.
 */

import type { SimSource } from '../world/events.js';
import type { SimRandom } from '../world/random.js';
import type { SimTimeline } from '../world/timeline.js';
import { ByteQueue } from './byte-queue.js';

/** The longest segment; a multiple of nothing in particular. */
const SEGMENT_BYTES_MAX = 64 << 10;
/** One segment in so many is cut shorter at random. */
const SHORT_ONE_IN = 4;

export interface SimLineSettings {
  /** The least and the most that a segment takes, in microseconds; default 10 to 60. */
  readonly latencyUs?: readonly [number, number];
  /** Bytes in each direction that have been sent and not been read; default 256 KiB. */
  readonly windowBytes?: number;
  /** Share of segments that are lost and sent again; default 0. */
  readonly loss?: number;
  /** How long it takes until a lost segment is sent again, in microseconds; default 200 000. */
  readonly retransmitUs?: number;
}

export const LINE_DEFAULTS: Required<SimLineSettings> = {
  latencyUs: [10, 60],
  windowBytes: 256 << 10,
  loss: 0,
  retransmitUs: 200_000,
};

/** Which end: 0 has connected, 1 has accepted. */
export type Side = 0 | 1;

interface Segment {
  readonly length: number;
  readonly arrivesUs: number;
  /** It does not arrive before this lets it. */
  readonly stop: Stop | null;
}

/** What lets bytes on. */
export interface Stop {
  readonly holds: boolean;
}

/** From which offset on bytes wait, and for what. */
export interface Stopped {
  readonly at: number;
  readonly stop: Stop;
}

/** One direction of a connection, as its messages are sent. */
export interface MessageWay {
  /** Takes note of the next bytes. Returns what of them waits, in their order. */
  take(bytes: Uint8Array): readonly Stopped[];
}

const NOTHING: readonly Stopped[] = [];

/** One direction of a connection. */
export class Way {
  /** What has arrived, then what is under way. */
  readonly bytes = new ByteQueue();
  readonly underWay: Segment[] = [];
  /** Lengths of segments that have arrived and not been taken. */
  readonly arrived: number[] = [];
  arrivedBytes = 0;
  /** Bytes sent that the far end has not taken. */
  outstanding = 0;
  lastUs = 0;
  /** How many faults hold back what goes this way. */
  blocks = 0;
  /** Looks at what goes this way; null if nobody does. */
  messages: MessageWay | null = null;
  /** The sender will send no more. */
  ended = false;

  /** Nothing is left that could arrive, and nothing will be sent. */
  get drained(): boolean {
    return this.ended && this.arrivedBytes === 0 && this.underWay.length === 0 && this.blocks === 0;
  }
}

/** What is at one end. */
export interface End {
  /** Something has arrived, or the connection has ended or broken. */
  arrive(): void;
  /** The other end has taken something: there may be room for more. */
  resume(): void;
}

export class Connection implements SimSource {
  /** No more bytes go in either direction. */
  broken = false;
  readonly settings: Required<SimLineSettings>;
  readonly party: number;
  readonly time: SimTimeline;
  readonly random: SimRandom;
  /** By the side at which they arrive. */
  readonly ways: readonly [Way, Way] = [new Way(), new Way()];
  private readonly ends: [End | null, End | null] = [null, null];
  /** Called when the first segment arrives at the side that accepts; then null. */
  private onOpen: (() => void) | null = null;

  constructor(time: SimTimeline, random: SimRandom, settings: Required<SimLineSettings>) {
    this.time = time;
    this.random = random;
    this.settings = settings;
    this.party = time.nextParty();
  }

  join(side: Side, end: End): void {
    this.ends[side] = end;
  }

  other(side: Side): End | null {
    return this.ends[1 - side];
  }

  /** Asks for the connection; `onOpen` is called when that arrives. */
  open(onOpen: () => void): void {
    this.onOpen = onOpen;
    this.schedule(1, this.arrival(this.ways[1]));
  }

  /** Tells who has asked that the connection is there. */
  confirm(): void {
    this.schedule(0, this.arrival(this.ways[0]));
  }

  /** Breaks the connection: each end learns it, that of `side` at once and the other one after the latency. */
  reset(side: Side): void {
    if (this.broken) return;
    this.broken = true;
    this.schedule(other(side), this.time.nowUs + this.latency());
    this.ends[side]?.arrive();
  }

  /** Breaks the connection for one end; the other one learns it when it sends something. */
  resetOne(side: Side): void {
    if (this.broken) return;
    this.broken = true;
    this.ends[side]?.arrive();
  }

  /** Nobody listens: who has asked learns it after the latency. */
  refuse(): void {
    this.broken = true;
    this.schedule(0, this.time.nowUs + this.latency());
  }

  /** Holds back what arrives at a side, until it is unblocked as often. */
  block(side: Side): void {
    this.ways[side].blocks += 1;
  }

  unblock(side: Side): void {
    const way = this.ways[side];
    way.blocks -= 1;
    if (way.blocks === 0) this.schedule(side, this.time.nowUs + 1);
  }

  /** The length of the next segment, of so many bytes that are left to send. */
  segmentLength(left: number): number {
    const most = Math.min(left, SEGMENT_BYTES_MAX);
    return most > 1 && this.random.below(SHORT_ONE_IN) === 0 ? this.random.between(1, most) : most;
  }

  /** Sends a segment to a side. */
  push(side: Side, bytes: Uint8Array): void {
    const way = this.ways[side];
    const { length } = bytes;
    way.outstanding += length;
    way.bytes.push(bytes);
    const arrivesUs = this.arrival(way);
    let at = 0;
    let stop: Stop | null = null;
    for (const next of way.messages?.take(bytes) ?? NOTHING) {
      if (next.at > at) way.underWay.push({ length: next.at - at, arrivesUs, stop });
      ({ at, stop } = next);
    }
    way.underWay.push({ length: length - at, arrivesUs, stop });
    this.schedule(side, arrivesUs);
  }

  /** Says to a side that nothing more will be sent, behind what has been. */
  finish(side: Side): void {
    const way = this.ways[side];
    if (this.broken || way.ended) return;
    way.ended = true;
    this.schedule(side, this.arrival(way));
  }

  /** Has what is due at a side arrive. */
  land(side: Side): void {
    const way = this.ways[side];
    const { nowUs } = this.time;
    while (way.blocks === 0 && way.underWay.length > 0 && way.underWay[0].arrivesUs <= nowUs) {
      const [{ length, stop }] = way.underWay;
      if (stop?.holds === true) return;
      way.underWay.shift();
      way.arrived.push(length);
      way.arrivedBytes += length;
    }
  }

  schedule(side: Side, timeUs: number): void {
    this.time.schedule(null, this, side, Math.max(0, timeUs - this.time.nowUs));
  }

  private latency(): number {
    const [least, most] = this.settings.latencyUs;
    return this.random.between(least, most);
  }

  /** When what is sent now arrives: not before what was sent earlier. */
  private arrival(way: Way): number {
    const { loss, retransmitUs } = this.settings;
    let us = this.time.nowUs + this.latency();
    while (loss > 0 && this.random.chance(loss)) us += retransmitUs;
    way.lastUs = Math.max(way.lastUs, us);
    return way.lastUs;
  }

  start(): void {}

  fire(slot: number): void {
    const side = slot as Side;
    if (side === 1 && this.onOpen !== null && this.ways[1].blocks === 0) {
      const { onOpen } = this;
      this.onOpen = null;
      onOpen();
    }
    if (side === 0 || this.onOpen === null) this.ends[side]?.arrive();
  }
}

export function other(side: Side): Side {
  return side === 0 ? 1 : 0;
}
