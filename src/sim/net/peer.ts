/** A client's end of a connection, which a harness plays. */

import { type Connection, type End, other, type Side } from './connection.js';

export class SimPeer implements End {
  /** Called with bytes that have arrived. They are the receiver's until it returns. */
  onData: (bytes: Uint8Array) => void = () => {};
  /** Called once, when the other end has closed the connection or it broke. */
  onEnd: () => void = () => {};
  private readonly connection: Connection;
  private readonly side: Side;
  private isPaused = false;
  private told = false;

  constructor(connection: Connection, side: Side = 0) {
    this.connection = connection;
    this.side = side;
    connection.join(side, this);
  }

  get open(): boolean {
    return !this.connection.broken;
  }

  /** Sends a copy of these bytes. The window does not bind a peer: it is the harness that decides how much it sends. */
  send(bytes: Uint8Array): void {
    const { connection } = this;
    const to = other(this.side);
    if (connection.broken || connection.ways[to].ended) return;
    for (let at = 0; at < bytes.length; ) {
      const length = connection.segmentLength(bytes.length - at);
      connection.push(to, length === bytes.length ? bytes : bytes.subarray(at, at + length));
      at += length;
    }
  }

  /** Says that nothing more will be sent. */
  finish(): void {
    this.connection.finish(other(this.side));
  }

  /** Whether the peer does not read what has arrived. */
  set paused(paused: boolean) {
    this.isPaused = paused;
    if (!paused) this.connection.schedule(this.side, this.connection.time.nowUs + 1);
  }

  /** Breaks the connection: each end learns it, the other one after the latency. */
  reset(): void {
    this.connection.reset(this.side);
  }

  /** Holds back what goes in one direction from now on, until `unblock`. */
  block(direction: 'to-server' | 'to-peer'): void {
    this.connection.block(direction === 'to-peer' ? this.side : other(this.side));
  }

  unblock(direction: 'to-server' | 'to-peer'): void {
    this.connection.unblock(direction === 'to-peer' ? this.side : other(this.side));
  }

  arrive(): void {
    const { connection } = this;
    if (connection.broken) {
      this.tell();
      return;
    }
    connection.land(this.side);
    const way = connection.ways[this.side];
    const { time } = connection;
    while (!this.isPaused && !connection.broken && way.arrived.length > 0) {
      const length = way.arrived.shift() as number;
      way.arrivedBytes -= length;
      way.outstanding -= length;
      const bytes = way.bytes.take(length);
      time.trace.add('deliver', time.nowUs, 0, length, 0);
      time.trace.note(connection.party);
      time.traceBytes(bytes, 0, length);
      this.onData(bytes);
    }
    connection.other(this.side)?.resume();
    if (!way.drained) return;
    connection.broken = true;
    this.tell();
  }

  resume(): void {}

  private tell(): void {
    if (this.told) return;
    this.told = true;
    this.onEnd();
  }
}
