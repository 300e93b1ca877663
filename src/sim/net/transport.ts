/**
 * Simulated stream connections: the transport port, and the far ends with which a harness plays the clients.
 *
 * ```text
 *   SimPeer ── send ──► way: segments under way, then bytes that have arrived ──► receive ── product code
 *      ▲                                                                                       │
 *      └── onData ◄── segments under way ◄── window ◄── pieces, taken as the window allows ◄── send
 * ```
 *
 * What TCP makes of loss, duplication and reordering is what product code can see of them, so they are simulated as that:
 * bytes arrive in order and once, cut into segments at random; a lost segment arrives after a retransmission time-out, and
 * holds back all behind it. A send takes its bytes from memory only as the window lets them go, so memory that is given
 * back early shows as wrong data. Receives return less than was asked for, as the seed decides.
 *
 * Faults: `reset` breaks a connection for both ends; `block` holds back everything in one direction until `unblock`; a
 * peer that is `paused` stops reading, and its window fills. `loss` is the share of segments that are sent again.
 */

import { ECANCELED, ECONNRESET, EPIPE } from '../../core/errno.js';
import { COMPLETION_MORE } from '../../ports/completion.js';
import { RECEIVE_WAIT_ALL, type Transport } from '../../ports/transport.js';
import type { SimSource } from '../world/events.js';
import type { SimLoop } from '../world/loop.js';
import type { SimRandom } from '../world/random.js';
import { ByteQueue } from './byte-queue.js';

/** The longest segment; a multiple of nothing in particular. */
const SEGMENT_BYTES_MAX = 64 << 10;
/** One segment in so many is cut shorter at random. */
const SHORT_ONE_IN = 4;

export interface SimTransportSettings {
  /** The least and the most that a segment takes, in microseconds; default 10 to 60. */
  readonly latencyUs?: readonly [number, number];
  /** Bytes in each direction that have been sent and not been read; default 256 KiB. */
  readonly windowBytes?: number;
  /** Share of segments that are lost and sent again; default 0. */
  readonly loss?: number;
  /** How long it takes until a lost segment is sent again, in microseconds; default 200 000. */
  readonly retransmitUs?: number;
}

interface Segment {
  readonly length: number;
  readonly arrivesUs: number;
}

/** One direction of a connection. */
class Way {
  /** What has arrived, then what is under way. */
  readonly bytes = new ByteQueue();
  readonly underWay: Segment[] = [];
  /** Lengths of segments that have arrived at a peer that does not read. */
  readonly arrived: number[] = [];
  arrivedBytes = 0;
  /** Bytes sent that the far end has not taken. */
  outstanding = 0;
  lastUs = 0;
  blocked = false;
  /** The sender will send no more. */
  ended = false;
}

interface Receive {
  readonly memory: number;
  readonly length: number;
  readonly flags: number;
  readonly token: number;
  done: number;
}

interface Send {
  readonly pieces: readonly (readonly [memory: number, length: number])[];
  readonly token: number;
  piece: number;
  at: number;
}

/** A client's end of a connection. */
export class SimPeer {
  /** Called with bytes that have arrived. They are the receiver's until it returns. */
  onData: (bytes: Uint8Array) => void = () => {};
  /** Called once, when the other end has closed the connection or it broke. */
  onEnd: () => void = () => {};
  private readonly line: Line;

  constructor(line: Line) {
    this.line = line;
  }

  get open(): boolean {
    return !this.line.broken;
  }

  /** Sends a copy of these bytes. The window does not bind a peer: it is the harness that decides how much it sends. */
  send(bytes: Uint8Array): void {
    this.line.peerSends(bytes);
  }

  /** Says that nothing more will be sent. */
  finish(): void {
    this.line.peerFinishes();
  }

  /** Whether the peer does not read what has arrived. */
  set paused(paused: boolean) {
    this.line.pause(paused);
  }

  /** Breaks the connection: each end learns it, the other one after the latency. */
  reset(): void {
    this.line.reset();
  }

  /** Holds back what goes in one direction from now on, until `unblock`. */
  block(direction: 'to-server' | 'to-peer'): void {
    this.line.setBlocked(direction, true);
  }

  unblock(direction: 'to-server' | 'to-peer'): void {
    this.line.setBlocked(direction, false);
  }
}

/** A connection. */
class Line implements SimSource {
  readonly peer: SimPeer;
  /** No more bytes go in either direction. */
  broken = false;
  private readonly loop: SimLoop;
  private readonly random: SimRandom;
  private readonly settings: Required<SimTransportSettings>;
  private readonly party: number;
  private readonly toServer = new Way();
  private readonly toPeer = new Way();
  private receiving: Receive | null = null;
  private sending: Send | null = null;
  private paused = false;
  private shut = false;
  private peerTold = false;

  constructor(loop: SimLoop, random: SimRandom, settings: Required<SimTransportSettings>) {
    this.loop = loop;
    this.random = random;
    this.settings = settings;
    this.party = loop.nextParty();
    this.peer = new SimPeer(this);
  }

  // ---------------------------------------------------------------- the peer's side

  peerSends(bytes: Uint8Array): void {
    if (this.broken || this.toServer.ended) return;
    for (let at = 0; at < bytes.length; ) {
      const length = this.segmentLength(bytes.length - at);
      this.push(this.toServer, length === bytes.length ? bytes : bytes.subarray(at, at + length));
      at += length;
    }
  }

  peerFinishes(): void {
    if (this.broken || this.toServer.ended) return;
    this.toServer.ended = true;
    this.schedule(this.toServer, this.arrival(this.toServer));
  }

  pause(paused: boolean): void {
    this.paused = paused;
    if (!paused) this.schedule(this.toPeer, this.loop.nowUs + 1);
  }

  setBlocked(direction: 'to-server' | 'to-peer', blocked: boolean): void {
    const way = direction === 'to-server' ? this.toServer : this.toPeer;
    way.blocked = blocked;
    if (!blocked) this.schedule(way, this.loop.nowUs + 1);
  }

  reset(): void {
    if (this.broken) return;
    this.broken = true;
    this.schedule(this.toServer, this.loop.nowUs + this.latency());
    this.tellPeer();
  }

  /** Nobody listens: the peer learns it after the latency. */
  refuse(): void {
    this.broken = true;
    this.schedule(this.toPeer, this.loop.nowUs + this.latency());
  }

  private tellPeer(): void {
    if (this.peerTold) return;
    this.peerTold = true;
    this.peer.onEnd();
  }

  // ---------------------------------------------------------------- the server's side

  receive(receive: Receive): void {
    this.receiving = receive;
    this.tryReceive();
  }

  send(send: Send): void {
    this.sending = send;
    this.trySend();
  }

  /** The server ends it: what is in flight ends, and the peer learns it behind what has been sent. */
  shutdown(): void {
    if (this.shut) return;
    this.shut = true;
    this.toPeer.ended = true;
    this.tryReceive();
    this.trySend();
    this.schedule(this.toPeer, this.arrival(this.toPeer));
  }

  private tryReceive(): void {
    const { receiving, toServer } = this;
    if (receiving === null) return;
    if (this.broken || this.shut) {
      this.endReceive(this.shut || receiving.done > 0 ? receiving.done : -ECONNRESET);
      return;
    }
    const all = (receiving.flags & RECEIVE_WAIT_ALL) !== 0;
    let room = receiving.length - receiving.done;
    // A receive that may be short sometimes is.
    if (!all && room > 1 && toServer.arrivedBytes > 1 && this.random.below(SHORT_ONE_IN) === 0) {
      room = this.random.between(1, Math.min(room, toServer.arrivedBytes));
    }
    receiving.done += this.take(toServer, receiving.memory + receiving.done, room);
    const complete = receiving.done === receiving.length || (!all && receiving.done > 0);
    const last = toServer.ended && toServer.arrivedBytes === 0 && toServer.underWay.length === 0;
    if (complete || last) this.endReceive(receiving.done);
  }

  private endReceive(result: number): void {
    const { loop, receiving } = this;
    if (receiving === null) return;
    this.receiving = null;
    const { memory, token, length } = receiving;
    const origin = loop.trace.add('receive', loop.nowUs, token, result, length);
    loop.trace.note(this.party);
    loop.traceBytes(loop.bytes, memory, result);
    loop.complete(token, result, this.toServer.arrivedBytes > 0 ? COMPLETION_MORE : 0, origin);
  }

  /** Moves bytes that have arrived to the arena. Returns how many. */
  private take(way: Way, memory: number, room: number): number {
    const count = Math.min(room, way.arrivedBytes);
    if (count > 0) this.loop.bytes.set(way.bytes.take(count), memory);
    way.arrivedBytes -= count;
    way.outstanding -= count;
    return count;
  }

  private trySend(): void {
    const { loop, sending, toPeer } = this;
    if (sending === null) return;
    if (this.broken || this.shut) {
      this.endSend(-EPIPE);
      return;
    }
    let room = this.settings.windowBytes - toPeer.outstanding;
    while (room > 0 && sending.piece < sending.pieces.length) {
      const [memory, length] = sending.pieces[sending.piece];
      const step = Math.min(room, this.segmentLength(length - sending.at));
      const from = memory + sending.at;
      this.push(toPeer, loop.bytes.subarray(from, from + step));
      room -= step;
      sending.at += step;
      if (sending.at < length) continue;
      sending.piece += 1;
      sending.at = 0;
    }
    if (sending.piece === sending.pieces.length) this.endSend(0);
  }

  private endSend(result: number): void {
    const { loop, sending } = this;
    if (sending === null) return;
    this.sending = null;
    const origin = loop.trace.add('send', loop.nowUs, sending.token, result, 0);
    loop.trace.note(this.party);
    loop.complete(sending.token, result, 0, origin);
  }

  // ---------------------------------------------------------------- bytes under way

  private segmentLength(left: number): number {
    const most = Math.min(left, SEGMENT_BYTES_MAX);
    return most > 1 && this.random.below(SHORT_ONE_IN) === 0 ? this.random.between(1, most) : most;
  }

  private latency(): number {
    const [least, most] = this.settings.latencyUs;
    return this.random.between(least, most);
  }

  /** When what is sent now arrives: not before what was sent earlier. */
  private arrival(way: Way): number {
    const { loss, retransmitUs } = this.settings;
    let us = this.loop.nowUs + this.latency();
    while (loss > 0 && this.random.chance(loss)) us += retransmitUs;
    way.lastUs = Math.max(way.lastUs, us);
    return way.lastUs;
  }

  private push(way: Way, bytes: Uint8Array): void {
    const { length } = bytes;
    way.outstanding += length;
    way.bytes.push(bytes);
    const arrivesUs = this.arrival(way);
    way.underWay.push({ length, arrivesUs });
    this.schedule(way, arrivesUs);
  }

  private schedule(way: Way, timeUs: number): void {
    this.loop.schedule(this, way === this.toServer ? 0 : 1, Math.max(0, timeUs - this.loop.nowUs));
  }

  start(): void {}

  fire(slot: number): void {
    if (slot === 0) {
      this.arrive(this.toServer);
      this.tryReceive();
      if (this.broken) this.trySend();
    } else this.arriveAtPeer();
  }

  private arrive(way: Way): void {
    const { nowUs } = this.loop;
    while (!way.blocked && way.underWay.length > 0 && way.underWay[0].arrivesUs <= nowUs) {
      const { length } = way.underWay.shift() as Segment;
      if (way === this.toPeer) way.arrived.push(length);
      way.arrivedBytes += length;
    }
  }

  private arriveAtPeer(): void {
    const { toPeer, loop } = this;
    if (this.broken) {
      this.tellPeer();
      return;
    }
    this.arrive(toPeer);
    while (!this.paused && !this.broken && toPeer.arrived.length > 0) {
      const length = toPeer.arrived.shift() as number;
      toPeer.arrivedBytes -= length;
      toPeer.outstanding -= length;
      const bytes = toPeer.bytes.take(length);
      loop.trace.add('deliver', loop.nowUs, 0, length, 0);
      loop.trace.note(this.party);
      loop.traceBytes(bytes, 0, length);
      this.peer.onData(bytes);
    }
    this.trySend();
    if (!toPeer.ended || toPeer.arrivedBytes > 0 || toPeer.underWay.length > 0 || toPeer.blocked) return;
    this.broken = true;
    this.tellPeer();
  }
}

export class SimTransport implements Transport, SimSource {
  private readonly loop: SimLoop;
  private readonly random: SimRandom;
  private readonly settings: Required<SimTransportSettings>;
  /** By file number; a listener is a list of connections that nobody has accepted yet. */
  private readonly files: (Line | Line[] | undefined)[] = [];
  private readonly accepting = new Map<number, number>();
  private pieces: [number, number][] = [];
  private readonly queued: (() => void)[] = [];

  constructor(loop: SimLoop, settings: SimTransportSettings = {}) {
    this.loop = loop;
    this.random = loop.random.fork('transport');
    this.settings = { latencyUs: [10, 60], windowBytes: 256 << 10, loss: 0, retransmitUs: 200_000, ...settings };
  }

  /** Returns the file of a new listener. */
  listen(): number {
    return this.files.push([]) - 1;
  }

  /** Connects to a listener. If it has been closed, the peer is told so after a while. */
  connect(listener: number): SimPeer {
    const line = new Line(this.loop, this.random, this.settings);
    const waiting = this.files[listener];
    if (!Array.isArray(waiting)) {
      line.refuse();
      return line.peer;
    }
    waiting.push(line);
    this.later(() => this.tryAccept(listener));
    return line.peer;
  }

  accept(listener: number, token: number): void {
    this.accepting.set(listener, token);
    this.later(() => this.tryAccept(listener));
  }

  private tryAccept(listener: number): void {
    const token = this.accepting.get(listener);
    if (token === undefined) return;
    const waiting = this.files[listener];
    if (!Array.isArray(waiting)) {
      this.accepting.delete(listener);
      this.endAccept(token, -ECANCELED);
      return;
    }
    const line = waiting.shift();
    if (line === undefined) return;
    this.accepting.delete(listener);
    const file = this.files.push(line) - 1;
    this.endAccept(token, file);
  }

  private endAccept(token: number, result: number): void {
    const { loop } = this;
    loop.complete(token, result, 0, loop.trace.add('accept', loop.nowUs, token, result, 0));
  }

  private line(file: number): Line {
    const line = this.files[file];
    if (line === undefined || Array.isArray(line)) throw new Error(`file ${file} is not a connection`);
    return line;
  }

  receive(file: number, memory: number, lengthBytes: number, flags: number, token: number): void {
    this.loop.checkRange(memory, lengthBytes);
    const line = this.line(file);
    this.later(() => line.receive({ memory, length: lengthBytes, flags, token, done: 0 }));
  }

  addPiece(memory: number, lengthBytes: number): void {
    this.loop.checkRange(memory, lengthBytes);
    this.pieces.push([memory, lengthBytes]);
  }

  send(file: number, token: number): void {
    const line = this.line(file);
    const { pieces } = this;
    this.pieces = [];
    this.later(() => line.send({ pieces, token, piece: 0, at: 0 }));
  }

  shutdown(file: number): void {
    const found = this.files[file];
    if (found === undefined) return;
    if (!Array.isArray(found)) {
      found.shutdown();
      return;
    }
    for (const line of found) line.shutdown();
    this.files[file] = undefined;
    this.later(() => this.tryAccept(file));
  }

  close(file: number): void {
    this.shutdown(file);
    this.files[file] = undefined;
  }

  /** Queues work behind what has been submitted before. */
  private later(work: () => void): void {
    this.queued.push(work);
    this.loop.submit(this, 0);
  }

  start(): void {
    const work = this.queued.shift();
    if (work !== undefined) work();
  }

  fire(): void {}
}
