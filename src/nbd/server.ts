/** An NBD server: a listening socket, what it offers, and the connections it has accepted. */

import { CONNECTIONS_MAX } from '../core/limits.js';
import { Acceptor } from '../net/acceptor.js';
import type { NetPorts } from '../net/connection-resources.js';
import type { Volume } from '../ports/volume.js';
import type { Connection } from './connection.js';
import type { NbdExport } from './export.js';
import type { ConnectionHost, NbdService } from './service.js';

export class NbdServer implements ConnectionHost {
  private readonly offered: Map<string, NbdExport>;
  private readonly service: NbdService;
  private readonly connectionsMax: number;
  private readonly acceptor: Acceptor;
  private readonly connections = new Set<Connection>();
  private whenEmpty: (() => void) | null = null;

  /** Begins to accept on `listener`. At most `connectionsMax` connections are served at once. */
  constructor(
    service: NbdService,
    ports: NetPorts,
    listener: number,
    exports: readonly NbdExport[],
    connectionsMax = CONNECTIONS_MAX,
  ) {
    this.service = service;
    this.offered = new Map(exports.map((one) => [one.name, one]));
    this.connectionsMax = connectionsMax;
    this.acceptor = new Acceptor(ports, listener, {
      flags: 0,
      welcome: (file) => this.service.begin(this, file),
      onQuiet: () => this.endIfEmpty(),
    });
  }

  get exports(): ReadonlyMap<string, NbdExport> {
    return this.offered;
  }

  /** Offers a volume to clients that come from now on, in place of another of the same name. */
  offer(target: NbdExport): void {
    this.offered.set(target.name, target);
  }

  /** Offers it no longer; who uses it already goes on. */
  withdraw(name: string): void {
    this.offered.delete(name);
  }

  /**
   * A volume is at its end: offers it no longer, and lets connections that use it finish what they have begun. If it is lost with
   * the worker that served it, they end: what they have begun has no answer.
   */
  fence(volume: Volume, lost: boolean): void {
    for (const [name, target] of this.offered) if (target.volume === volume) this.offered.delete(name);
    for (const connection of [...this.connections]) {
      if (connection.target?.volume !== volume) continue;
      if (lost) connection.end('the worker that served its volume has ended');
      else connection.drain();
    }
  }

  /** Connections that use a volume. */
  usersOf(volume: Volume): number {
    let users = 0;
    for (const connection of this.connections) {
      if (connection.state === 'serving' && connection.volume === volume) users += 1;
    }
    return users;
  }

  onConnectionBegin(connection: Connection): void {
    this.connections.add(connection);
  }

  onConnectionEnd(connection: Connection): void {
    this.connections.delete(connection);
    if (this.acceptor.closing) this.endIfEmpty();
  }

  admit(): boolean {
    let serving = 0;
    for (const connection of this.connections) if (connection.state === 'serving') serving += 1;
    return !this.acceptor.closing && serving < this.connectionsMax;
  }

  get connectionCount(): number {
    return this.connections.size;
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
