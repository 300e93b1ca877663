/** An NBD server: a listening socket, what it offers, and the connections it has accepted. */

import { CONNECTIONS_MAX } from '../core/limits.js';
import type { NetPorts } from '../net/connection-resources.js';
import type { Volume } from '../ports/volume.js';
import type { Connection } from './connection.js';
import type { NbdExport } from './export.js';
import type { ConnectionHost, NbdService } from './service.js';

/** Wait before accepting again after an error. */
const ACCEPT_RETRY_MS = 100;
const TAG_ACCEPT = 0;
const TAG_RETRY = 1;

export class NbdServer implements ConnectionHost {
  private readonly offered: Map<string, NbdExport>;
  private readonly service: NbdService;
  private readonly ports: NetPorts;
  private readonly listener: number;
  private readonly connectionsMax: number;
  private readonly token: number;
  private readonly connections = new Set<Connection>();
  private accepting = false;
  private retrying = false;
  private closing = false;
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
    this.ports = ports;
    this.listener = listener;
    this.offered = new Map(exports.map((one) => [one.name, one]));
    this.connectionsMax = connectionsMax;
    this.token = ports.completions.register({
      complete: (tag, result) => (tag === TAG_ACCEPT ? this.onAccept(result) : this.onRetry()),
    });
    this.accept();
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

  /** A volume is at its end: offers it no longer, and lets connections that use it finish what they have begun. */
  fence(volume: Volume): void {
    for (const [name, target] of this.offered) if (target.volume === volume) this.offered.delete(name);
    for (const connection of [...this.connections]) if (connection.target?.volume === volume) connection.drain();
  }

  /** Connections that use a volume. */
  usersOf(volume: Volume): number {
    let users = 0;
    for (const connection of this.connections) {
      if (connection.state === 'serving' && connection.volume === volume) users += 1;
    }
    return users;
  }

  private accept(): void {
    if (this.closing || this.accepting) return;
    this.accepting = true;
    this.ports.transport.accept(this.listener, this.token + TAG_ACCEPT);
  }

  private onAccept(result: number): void {
    this.accepting = false;
    if (result >= 0) this.welcome(result);
    if (this.closing) {
      this.endIfEmpty();
    } else if (result >= 0) {
      this.accept();
    } else {
      // Short of descriptors or memory, most likely; trying again at once would only burn a core.
      this.retrying = true;
      this.ports.clock.after(ACCEPT_RETRY_MS, this.token + TAG_RETRY);
    }
  }

  private onRetry(): void {
    this.retrying = false;
    if (this.closing) this.endIfEmpty();
    else this.accept();
  }

  private welcome(file: number): void {
    if (!this.closing && this.service.begin(this, file)) return;
    this.ports.transport.shutdown(file);
    this.ports.transport.close(file);
  }

  onConnectionBegin(connection: Connection): void {
    this.connections.add(connection);
  }

  onConnectionEnd(connection: Connection): void {
    this.connections.delete(connection);
    if (this.closing) this.endIfEmpty();
  }

  admit(): boolean {
    let serving = 0;
    for (const connection of this.connections) if (connection.state === 'serving') serving += 1;
    return !this.closing && serving < this.connectionsMax;
  }

  get connectionCount(): number {
    return this.connections.size;
  }

  /** Stops accepting, and lets each connection finish what it has begun. `done` is called when all have ended. */
  drain(done: () => void): void {
    this.whenEmpty = done;
    if (!this.closing) {
      this.closing = true;
      this.ports.transport.shutdown(this.listener);
      this.ports.transport.close(this.listener);
    }
    for (const connection of [...this.connections]) connection.drain();
    this.endIfEmpty();
  }

  /** Ends what draining has left. */
  abort(): void {
    for (const connection of [...this.connections]) connection.end('the server is closing');
  }

  private endIfEmpty(): void {
    if (this.accepting || this.retrying || this.connections.size > 0 || this.whenEmpty === null) return;
    const done = this.whenEmpty;
    this.whenEmpty = null;
    this.ports.completions.unregister(this.token);
    done();
  }
}
