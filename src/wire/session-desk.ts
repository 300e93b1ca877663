/**
 * The connections of clients that a shard serves, and their sessions: who may connect, who is displaced when there is no place,
 * and when a newer session of a client takes the place of an older one.
 *
 * Everything that a peer can take is bounded. Whoever connects and says nothing displaces only others that say nothing.
 */

import { check } from '../core/check.js';
import { HANDSHAKE_MS, STALL_MS } from '../core/limits.js';
import type { Watch, Watched } from '../core/watch.js';
import type { ConnectionResources } from '../net/connection-resources.js';
import type { StreamedRequest, StreamPart } from '../net/stream-connection.js';
import type { Clock } from '../ports/clock.js';
import type { AnsweringConnection, AnsweringDesk } from './answering-connection.js';
import { STATUS_REPLACED } from './messages.js';

/** Who accepted connections, and is told what becomes of them. */
export interface SessionHost<Connection> {
  onConnectionBegin(connection: Connection): void;
  onConnectionEnd(connection: Connection): void;
}

/** Where sockets of clients are taken. */
export interface SocketTaker<Connection> {
  /** Takes a new socket for `host`. False if there is no place for it. */
  begin(host: SessionHost<Connection>, file: number): boolean;
}

export interface SessionDeskParts<Connection> {
  readonly resources: ConnectionResources;
  readonly clock: Clock;
  readonly watch: Watch;
  /** Connections that have not finished their handshake; a newer one displaces the one that waited longest. */
  readonly handshakesMax: number;
  /** A session on which nothing arrives and nothing is taken for so long is over; absent: it lasts as long as its connection. */
  readonly silenceMs?: number;
  readonly make: (index: number) => Connection;
  /** A connection is over, and nothing is left of it. */
  readonly onFree: (connection: Connection) => void;
}

export class SessionDesk<Connection extends AnsweringConnection<StreamedRequest, StreamPart>>
  implements Watched, SocketTaker<Connection>, AnsweringDesk<Connection>
{
  private readonly parts: SessionDeskParts<Connection>;
  private readonly connections: Connection[] = [];
  private readonly free: Connection[] = [];
  private readonly hosts = new Map<Connection, SessionHost<Connection>>();
  /** In the order in which they began. */
  private readonly handshakes = new Set<Connection>();
  /** Of each client the connections that are not free yet; the last is that of its newest session. */
  private readonly clients = new Map<string, Connection[]>();
  /** Of connections that serve: how far they had come when that was looked at, and since when. */
  private readonly heard = new Map<Connection, { readonly progress: number; readonly sinceMs: number }>();
  /** Connections that are to end and depend on their peers for it, since when. */
  private readonly leaving = new Map<Connection, number>();

  constructor(parts: SessionDeskParts<Connection>) {
    this.parts = parts;
    parts.watch.add(this);
  }

  at(index: number): Connection {
    return this.connections[index];
  }

  *serving(): Iterable<Connection> {
    for (const connection of this.hosts.keys()) if (connection.state === 'serving') yield connection;
  }

  /** Connections in all states. */
  get inUse(): number {
    return this.hosts.size;
  }

  begin(host: SessionHost<Connection>, file: number): boolean {
    const { resources, handshakesMax, clock, watch } = this.parts;
    const isFull = this.hosts.size === resources.sizes.connections;
    if (this.handshakes.size > 0 && (isFull || this.handshakes.size >= handshakesMax)) this.dropOldestHandshake();
    else if (isFull) this.dropSecond();
    const connection = this.free.pop() ?? this.addConnection();
    if (connection === undefined) {
      resources.counters.refused += 1;
      return false;
    }
    resources.counters.accepted += 1;
    this.hosts.set(connection, host);
    this.handshakes.add(connection);
    host.onConnectionBegin(connection);
    connection.open(file, clock.nowMs());
    watch.start();
    return true;
  }

  private addConnection(): Connection | undefined {
    const index = this.connections.length;
    if (index === this.parts.resources.sizes.connections) return undefined;
    const connection = this.parts.make(index);
    this.connections.push(connection);
    return connection;
  }

  private dropOldestHandshake(): void {
    for (const connection of this.handshakes) {
      this.handshakes.delete(connection);
      connection.end('displaced by a newer connection');
      return;
    }
  }

  /** A client does without a second connection, and not without its first. */
  private dropSecond(): void {
    for (const connection of this.serving()) {
      if (!connection.isForPings) continue;
      connection.end('displaced by a newer connection');
      return;
    }
  }

  // ---- sessions

  /** A client has proven to have the key: its older sessions end, and it is welcomed when nothing is left of them. */
  enter(connection: Connection): void {
    if (connection.isForPings) {
      this.join(connection);
      return;
    }
    const { clientId, session } = connection;
    const others = this.clients.get(clientId) ?? [];
    const newest = others.at(-1);
    if (newest !== undefined && newest.session >= session) {
      const message = `session ${session} of this client is not newer than its session ${newest.session}`;
      connection.clientId = '';
      connection.refuse({ status: STATUS_REPLACED, message });
      return;
    }
    this.clients.set(clientId, [...others, connection]);
    for (const other of others) other.end(`session ${session} of this client takes its place`);
    this.welcomeNewest(clientId);
  }

  /** A second connection comes of a session that is served. */
  private join(connection: Connection): void {
    const { clientId, session } = connection;
    const first = this.clients.get(clientId)?.at(-1);
    const serves = first !== undefined && first.session === session && first.state === 'serving';
    if (serves && connection.join(first)) {
      connection.welcome();
      return;
    }
    const message = serves
      ? `there is no room for a second connection of session ${session}`
      : `session ${session} of this client is not served`;
    connection.refuse({ status: STATUS_REPLACED, message });
  }

  private welcomeNewest(clientId: string): void {
    const connections = this.clients.get(clientId) ?? [];
    const inOrder = connections.every(({ session }, at) => at === 0 || session > connections[at - 1].session);
    check(inOrder, 'a session takes the place of a newer one', connections.length);
    if (connections.length === 1) connections[0].welcome();
  }

  onServing(connection: Connection): void {
    this.handshakes.delete(connection);
  }

  onFree(connection: Connection): void {
    const host = this.hosts.get(connection);
    const { clientId } = connection;
    this.hosts.delete(connection);
    this.handshakes.delete(connection);
    this.leaving.delete(connection);
    this.heard.delete(connection);
    this.parts.onFree(connection);
    check(!this.free.includes(connection), 'a connection of a client is given back twice', connection.session);
    this.free.push(connection);
    const left = (this.clients.get(clientId) ?? []).filter((other) => other !== connection);
    if (left.length === 0) this.clients.delete(clientId);
    else this.clients.set(clientId, left);
    host?.onConnectionEnd(connection);
    this.welcomeNewest(clientId);
  }

  // ---- deadlines

  get busy(): boolean {
    return this.hosts.size > 0;
  }

  tick(nowMs: number): void {
    for (const connection of [...this.handshakes]) {
      if (nowMs - connection.sinceMs < HANDSHAKE_MS) break;
      this.handshakes.delete(connection);
      connection.end('the handshake took too long');
    }
    for (const connection of [...this.serving()]) this.listen(connection, nowMs);
    for (const connection of [...this.hosts.keys()]) {
      if (connection.state !== 'draining') continue;
      const sinceMs = this.leaving.get(connection) ?? nowMs;
      this.leaving.set(connection, sinceMs);
      if (nowMs - sinceMs >= STALL_MS) connection.end('the peer did not go');
    }
  }

  /** Whoever is there says something now and then; a host without power does not, and its connection would never end. */
  private listen(connection: Connection, nowMs: number): void {
    const { silenceMs } = this.parts;
    const { progress } = connection;
    const known = this.heard.get(connection);
    if (known?.progress !== progress) this.heard.set(connection, { progress, sinceMs: nowMs });
    else if (silenceMs !== undefined && nowMs - known.sinceMs >= silenceMs) connection.end('the peer says nothing');
  }

  /** Gives the watch up; all servers must have been closed. */
  close(): void {
    check(this.hosts.size === 0, 'a desk is given up while there are connections', this.hosts.size);
    this.parts.watch.remove(this);
  }
}
