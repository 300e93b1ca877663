/**
 * A process's end of a connection: what its transport port receives into memory and sends from there.
 *
 * A send takes its bytes from memory only as the window lets them go, so memory that is given back early shows as wrong data.
 * Receives return less than was asked for, as the seed decides. What a killed process had sent goes on its way; whatever arrives
 * for it is answered with a reset, as long as its host is up.
 */

import { ECONNRESET, EPIPE } from '../../core/errno.js';
import { COMPLETION_MORE } from '../../ports/completion.js';
import { RECEIVE_WAIT_ALL } from '../../ports/transport.js';
import type { SimProcess } from '../world/process.js';
import { type Connection, type End, other, type Side } from './connection.js';

/** One receive in so many that may be short is. */
const SHORT_ONE_IN = 4;

export interface Receive {
  readonly memory: number;
  readonly length: number;
  readonly flags: number;
  readonly token: number;
  done: number;
}

export interface Send {
  readonly pieces: readonly (readonly [memory: number, length: number])[];
  readonly token: number;
  piece: number;
  at: number;
}

export class SimStream implements End {
  /** The process has shut it down. */
  shut = false;
  private readonly process: SimProcess;
  private readonly connection: Connection;
  private readonly side: Side;
  private receiving: Receive | null = null;
  private sending: Send | null = null;

  constructor(process: SimProcess, connection: Connection, side: Side) {
    this.process = process;
    this.connection = connection;
    this.side = side;
    connection.join(side, this);
  }

  receive(receive: Receive): void {
    this.receiving = receive;
    this.tryReceive();
  }

  send(send: Send): void {
    this.sending = send;
    this.trySend();
  }

  /** What is in flight ends, and the other end learns it behind what has been sent. */
  shutdown(): void {
    if (this.shut) return;
    this.shut = true;
    this.tryReceive();
    this.trySend();
    this.connection.finish(other(this.side));
  }

  /** The process is dead. With its host up, the other end learns it behind what has been sent. */
  die(): void {
    if (this.process.machine.up) this.connection.finish(other(this.side));
  }

  arrive(): void {
    const { connection, process } = this;
    connection.land(this.side);
    if (!process.alive) {
      const news = connection.ways[this.side].arrivedBytes > 0;
      if (news && process.machine.up) connection.reset(this.side);
      return;
    }
    // A process that sends to what has been shut down learns that nobody reads it.
    const unread = this.shut && connection.ways[this.side].arrivedBytes > 0;
    if (unread && connection.other(this.side) instanceof SimStream) connection.reset(this.side);
    this.tryReceive();
    if (connection.broken) this.trySend();
  }

  resume(): void {
    if (this.process.alive) this.trySend();
  }

  private tryReceive(): void {
    const { connection, receiving } = this;
    if (receiving === null) return;
    if (connection.broken || this.shut) {
      this.endReceive(this.shut || receiving.done > 0 ? receiving.done : -ECONNRESET);
      return;
    }
    const way = connection.ways[this.side];
    const all = (receiving.flags & RECEIVE_WAIT_ALL) !== 0;
    let room = receiving.length - receiving.done;
    // A receive that may be short sometimes is.
    if (!all && room > 1 && way.arrivedBytes > 1 && connection.random.below(SHORT_ONE_IN) === 0) {
      room = connection.random.between(1, Math.min(room, way.arrivedBytes));
    }
    receiving.done += this.take(receiving.memory + receiving.done, room);
    const complete = receiving.done === receiving.length || (!all && receiving.done > 0);
    const last = way.ended && way.arrivedBytes === 0 && way.underWay.length === 0;
    if (complete || last) this.endReceive(receiving.done);
  }

  private endReceive(result: number): void {
    const { connection, process, receiving } = this;
    if (receiving === null) return;
    this.receiving = null;
    const { memory, token, length } = receiving;
    const { time } = process;
    const origin = time.trace.add('receive', time.nowUs, token, result, length);
    time.trace.note(connection.party);
    time.traceBytes(process.bytes, memory, result);
    process.complete(token, result, connection.ways[this.side].arrivedBytes > 0 ? COMPLETION_MORE : 0, origin);
  }

  /** Moves bytes that have arrived to the memory. Returns how many. */
  private take(memory: number, room: number): number {
    const way = this.connection.ways[this.side];
    const count = Math.min(room, way.arrivedBytes);
    if (count === 0) return 0;
    this.process.bytes.set(way.bytes.take(count), memory);
    way.arrived.length = 0;
    way.arrivedBytes -= count;
    way.outstanding -= count;
    this.connection.other(this.side)?.resume();
    return count;
  }

  private trySend(): void {
    const { connection, sending, process } = this;
    if (sending === null) return;
    if (connection.broken || this.shut) {
      this.endSend(-EPIPE);
      return;
    }
    const to = other(this.side);
    let room = connection.settings.windowBytes - connection.ways[to].outstanding;
    while (room > 0 && sending.piece < sending.pieces.length) {
      const [memory, length] = sending.pieces[sending.piece];
      const step = Math.min(room, connection.segmentLength(length - sending.at));
      const from = memory + sending.at;
      connection.push(to, process.bytes.subarray(from, from + step));
      room -= step;
      sending.at += step;
      if (sending.at < length) continue;
      sending.piece += 1;
      sending.at = 0;
    }
    if (sending.piece === sending.pieces.length) this.endSend(0);
  }

  private endSend(result: number): void {
    const { connection, process, sending } = this;
    if (sending === null) return;
    this.sending = null;
    const { time } = process;
    const origin = time.trace.add('send', time.nowUs, sending.token, result, 0);
    time.trace.note(connection.party);
    process.complete(sending.token, result, 0, origin);
  }
}
