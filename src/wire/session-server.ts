/** A listening socket for clients that have the key of the cluster, and the connections that it has accepted. */

import { check } from '../core/check.js';
import { Acceptor } from '../net/acceptor.js';
import type { NetPorts } from '../net/connection-resources.js';
import { ACCEPT_PEER } from '../ports/transport.js';
import type { SessionHost, SocketTaker } from './session-desk.js';

/** What a server does with its connections. */
interface ServedConnection {
  drain(): void;
  end(reason: string): void;
}

export class SessionServer implements SessionHost<ServedConnection> {
  private readonly acceptor: Acceptor;
  private readonly connections = new Set<ServedConnection>();
  private whenEmpty: (() => void) | null = null;

  /** Begins to accept on `listener`. */
  constructor(taker: SocketTaker<ServedConnection>, ports: NetPorts, listener: number) {
    this.acceptor = new Acceptor(ports, listener, {
      flags: ACCEPT_PEER,
      welcome: (file) => taker.begin(this, file),
      onQuiet: () => this.endIfEmpty(),
    });
  }

  onConnectionBegin(connection: ServedConnection): void {
    check(!this.connections.has(connection), 'a connection begins twice', this.connections.size);
    this.connections.add(connection);
  }

  onConnectionEnd(connection: ServedConnection): void {
    check(this.connections.delete(connection), 'a connection ends that did not begin', this.connections.size);
    if (this.acceptor.closing) this.endIfEmpty();
  }

  /** Stops accepting, and lets each connection finish what it has begun. `done` is called when all have ended. */
  drain(done: () => void): void {
    this.whenEmpty = done;
    this.acceptor.close();
    for (const connection of [...this.connections]) connection.drain();
    this.endIfEmpty();
  }

  /** Ends what draining has left. */
  abort(): void {
    for (const connection of [...this.connections]) connection.end('the server is closing');
  }

  private endIfEmpty(): void {
    if (!this.acceptor.quiet || this.connections.size > 0 || this.whenEmpty === null) return;
    const done = this.whenEmpty;
    this.whenEmpty = null;
    this.acceptor.dispose();
    done();
  }
}
