/**
 * The transport port of a simulated process: its listeners, and its ends of connections, by number of file.
 *
 * `connect` is what the port of the product does not have yet: connections between two processes are symmetric, whoever has asked
 * for them.
 */

import { ECANCELED, ECONNREFUSED } from '../../core/errno.js';
import type { Transport } from '../../ports/transport.js';
import type { SimSource } from '../world/events.js';
import type { SimProcess } from '../world/process.js';
import type { Connection, SimLineSettings } from './connection.js';
import { type Listener, SimNetwork } from './network.js';
import { SimPeer } from './peer.js';
import { SimStream } from './stream.js';

/** What listens, and connections that nobody has accepted yet. */
class Listening implements Listener {
  readonly waiting: Connection[] = [];
  readonly host;
  open = true;
  private readonly came: () => void;

  constructor(process: SimProcess, came: () => void) {
    this.host = process.machine;
    this.came = came;
  }

  take(connection: Connection): void {
    this.waiting.push(connection);
    this.came();
  }
}

export class SimTransport implements Transport, SimSource {
  private readonly process: SimProcess;
  private readonly network: SimNetwork;
  /** By file number. */
  private readonly files: (SimStream | Listening | undefined)[] = [];
  private readonly accepting = new Map<number, number>();
  private pieces: [number, number][] = [];
  private readonly queued: (() => void)[] = [];

  constructor(process: SimProcess, settings: SimLineSettings = {}, network = new SimNetwork(process.time, settings)) {
    this.process = process;
    this.network = network;
    process.atDeath(() => this.die());
  }

  /** Returns the file of a new listener; with an address, others can reach it there. */
  listen(address?: string): number {
    const file = this.files.length;
    const listening = new Listening(this.process, () => this.tryAccept(file));
    this.files.push(listening);
    if (address !== undefined) this.network.listen(address, listening);
    return file;
  }

  /** A connection to a listener of this process, which a harness plays. If that is closed, the peer is told after a while. */
  peer(listener: number): SimPeer {
    const connection = this.network.connection(null, this.process.machine);
    const peer = new SimPeer(connection);
    const listening = this.files[listener];
    if (!(listening instanceof Listening)) {
      connection.refuse();
      return peer;
    }
    listening.waiting.push(connection);
    this.later(() => this.tryAccept(listener));
    return peer;
  }

  /** Asks for a connection. Result: its file, or -ECONNREFUSED. */
  connect(address: string, token: number): void {
    this.later(() => {
      const connection = this.network.connectionTo(this.process.machine, address);
      const opening = { arrive: () => this.endConnect(connection, token), resume: () => {} };
      connection.join(0, opening);
      this.network.reach(connection, address);
    });
  }

  private endConnect(connection: Connection, token: number): void {
    if (!this.process.alive) return;
    const result = connection.broken ? -ECONNREFUSED : this.files.push(new SimStream(this.process, connection, 0)) - 1;
    const { time } = this.process;
    this.process.complete(token, result, 0, time.trace.add('connect', time.nowUs, token, result, 0));
  }

  accept(listener: number, token: number): void {
    this.accepting.set(listener, token);
    this.later(() => this.tryAccept(listener));
  }

  private tryAccept(listener: number): void {
    const token = this.accepting.get(listener);
    if (token === undefined) return;
    const listening = this.files[listener];
    if (!(listening instanceof Listening)) {
      this.accepting.delete(listener);
      this.endAccept(token, -ECANCELED);
      return;
    }
    const connection = listening.waiting.shift();
    if (connection === undefined) return;
    this.accepting.delete(listener);
    const file = this.files.push(new SimStream(this.process, connection, 1)) - 1;
    this.endAccept(token, file);
  }

  private endAccept(token: number, result: number): void {
    const { time } = this.process;
    this.process.complete(token, result, 0, time.trace.add('accept', time.nowUs, token, result, 0));
  }

  private stream(file: number): SimStream {
    const stream = this.files[file];
    if (!(stream instanceof SimStream)) throw new Error(`file ${file} is not a connection`);
    return stream;
  }

  receive(file: number, memory: number, lengthBytes: number, flags: number, token: number): void {
    this.process.checkRange(memory, lengthBytes);
    const stream = this.stream(file);
    this.later(() => stream.receive({ memory, length: lengthBytes, flags, token, done: 0 }));
  }

  addPiece(memory: number, lengthBytes: number): void {
    this.process.checkRange(memory, lengthBytes);
    this.pieces.push([memory, lengthBytes]);
  }

  send(file: number, token: number): void {
    const stream = this.stream(file);
    const { pieces } = this;
    this.pieces = [];
    this.later(() => stream.send({ pieces, token, piece: 0, at: 0 }));
  }

  shutdown(file: number): void {
    const found = this.files[file];
    if (found === undefined) return;
    if (found instanceof SimStream) {
      found.shutdown();
      return;
    }
    found.open = false;
    for (const connection of found.waiting) connection.finish(0);
    this.files[file] = undefined;
    this.later(() => this.tryAccept(file));
  }

  close(file: number): void {
    this.shutdown(file);
    this.files[file] = undefined;
  }

  /** The process is dead. */
  private die(): void {
    for (const file of this.files) {
      if (file instanceof SimStream) file.die();
      else if (file !== undefined) {
        file.open = false;
        if (this.process.machine.up) for (const connection of file.waiting) connection.reset(1);
      }
    }
    this.files.length = 0;
  }

  /** Queues work behind what has been submitted before. */
  private later(work: () => void): void {
    this.queued.push(work);
    this.process.submit(this, 0);
  }

  start(): void {
    const work = this.queued.shift();
    if (work !== undefined) work();
  }

  fire(): void {}
}
