/**
 * The transport port of a simulated process: its listeners, and its ends of connections, by number of file.
 *
 * Files are never used again, so that one which is used after it was closed shows.
 */

import { ECANCELED, ECONNREFUSED } from '../../core/errno.js';
import type { StreamAddress, Transport } from '../../ports/transport.js';
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

/** A connection that has been asked for, and is not there yet. */
class Connecting {
  /** From when on it is on its way. */
  connection: Connection | null = null;
  readonly token: number;

  constructor(token: number) {
    this.token = token;
  }
}

/** The name under which an address is found in a simulated network: any text can be one. */
export function addressName(address: StreamAddress): string {
  return 'path' in address ? address.path : `${address.host}:${address.port}`;
}

export class SimTransport implements Transport, SimSource {
  private readonly process: SimProcess;
  private readonly network: SimNetwork;
  /** By file number. */
  private readonly files: (SimStream | Listening | Connecting | undefined)[] = [];
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

  connect(address: StreamAddress, token: number): number {
    const connecting = new Connecting(token);
    const file = this.files.push(connecting) - 1;
    this.later(() => {
      // It may have been given up in the same batch.
      if (this.files[file] !== connecting) return;
      const name = addressName(address);
      const connection = this.network.connectionTo(this.process.machine, name);
      connecting.connection = connection;
      connection.join(0, { arrive: () => this.endConnect(connection, file), resume: () => {} });
      this.network.reach(connection, name);
    });
    return file;
  }

  private endConnect(connection: Connection, file: number): void {
    if (!this.process.alive) return;
    const connecting = this.files[file];
    if (!(connecting instanceof Connecting)) {
      // It has been given up, so that nobody takes what comes.
      connection.land(0);
      if (connection.ways[0].arrivedBytes > 0) connection.reset(0);
      return;
    }
    this.files[file] = connection.broken ? undefined : new SimStream(this.process, connection, 0);
    this.answerConnect(connecting.token, connection.broken ? -ECONNREFUSED : file);
  }

  /** Nobody waits for the connection any more; whoever accepts it finds that it has ended. */
  private giveUp(file: number, { connection, token }: Connecting): void {
    this.files[file] = undefined;
    connection?.finish(1);
    this.later(() => this.answerConnect(token, -ECANCELED));
  }

  private answerConnect(token: number, result: number): void {
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
    if (found instanceof Connecting) {
      this.giveUp(file, found);
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
      else if (file instanceof Connecting) {
        if (this.process.machine.up) file.connection?.finish(1);
      } else if (file !== undefined) {
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
