/**
 * The way of a session's pings to its node, beside its first connection: it is asked for when the session is open, and again and
 * again if it breaks.
 *
 * ```text
 *   none ─► connecting ─► greeting ─► open ─┐
 *     ▲         │             │             │
 *     └─────────┴─────────────┴─────────────┴ broken, or the session is over
 * ```
 *
 * A session goes on without it: its pings go by its first connection then. What was asked here is answered here or not at all.
 */

import { check } from '../../core/check.js';
import { NO_FILE, type StreamAddress } from '../../ports/transport.js';
import { CONNECT_MS, PING_LINE_RETRY_MS } from '../limits.js';
import type { PingAsker, PingConnection } from './ping-connection.js';
import type { SessionService } from './session-service.js';

export interface PingLineUser {
  /** The node has answered what was asked here last. */
  answered(payload: Uint8Array, leaseMs: number): void;
  /** What was asked here will not be answered. */
  lost(): void;
}

export class PingLine implements PingAsker {
  private readonly service: SessionService;
  private readonly address: StreamAddress;
  private readonly user: PingLineUser;
  private readonly token: number;
  /** Number of the session, as long as it is open; else 0. */
  private session = 0;
  private connection: PingConnection | null = null;
  private opened = false;
  private connecting = false;
  /** Of the connection that is asked for. */
  private file = NO_FILE;
  /** When it was asked for. */
  private sinceMs = 0;
  /** Something has been asked here and not answered. */
  private asks = false;
  private closed = false;

  constructor(service: SessionService, address: StreamAddress, user: PingLineUser) {
    this.service = service;
    this.address = address;
    this.user = user;
    this.token = this.ports.completions.register({ complete: (_, result) => this.connected(result) });
  }

  private get ports() {
    return this.service.parts.ports;
  }

  /** Whether pings can be sent here. */
  get isOpen(): boolean {
    return this.opened;
  }

  /** Whether something that was asked here waits for its answer. */
  get isAsking(): boolean {
    return this.asks;
  }

  /** Counts what has been received, as a sign of life. */
  get heard(): number {
    return this.connection?.heard ?? 0;
  }

  /** The session of this number is open. */
  begin(session: number): void {
    check(this.session === 0 && !this.closed, 'a session begins whose pings have begun', session);
    this.session = session;
    this.connect();
  }

  /** The session has lost its first connection: what comes here says nothing of its next one. */
  end(): void {
    this.session = 0;
    this.giveUp('its session has no other connection any more');
  }

  /** Another connection may be tried, or has to be. Called now and then. */
  tick(nowMs: number): void {
    const goneMs = nowMs - this.sinceMs;
    if (this.session === 0 || this.opened) return;
    if (goneMs >= CONNECT_MS) this.giveUp('it does not answer');
    if (goneMs >= PING_LINE_RETRY_MS) this.connect();
  }

  /** Sends a PING with this payload. */
  ask(payload: Uint8Array): void {
    const { connection } = this;
    check(connection !== null && this.opened && !this.asks, 'a node is pinged where there is no way', this.session);
    this.asks = true;
    connection.ask(payload);
  }

  private connect(): void {
    if (this.connecting || this.connection !== null) return;
    const { transport, clock } = this.ports;
    this.sinceMs = clock.nowMs();
    this.connecting = true;
    this.file = transport.connect(this.address, this.token);
  }

  private connected(result: number): void {
    const { transport, clock } = this.ports;
    const { session, file, service } = this;
    this.connecting = false;
    this.file = NO_FILE;
    // Whoever gave it up has closed the file, whose number may be that of another by now.
    if (file === NO_FILE || result < 0) {
      this.disposeIfOver();
      return;
    }
    const connection = service.takePings();
    if (connection === null) {
      transport.shutdown(result);
      transport.close(result);
      return;
    }
    this.connection = connection;
    connection.open(result, clock.nowMs(), this, session, service.pingsHello(session));
  }

  /** Ends what there is of a connection. */
  giveUp(reason: string): void {
    if (this.file !== NO_FILE) {
      this.ports.transport.shutdown(this.file);
      this.ports.transport.close(this.file);
      this.file = NO_FILE;
    }
    this.connection?.end(reason);
  }

  welcomed(): void {
    this.opened = true;
  }

  answered(payload: Uint8Array, leaseMs: number): void {
    check(this.asks, 'a ping is answered that was not sent', this.session);
    this.asks = false;
    this.user.answered(payload, leaseMs);
  }

  broken(): void {
    const { asks } = this;
    this.opened = false;
    this.asks = false;
    if (asks) this.user.lost();
  }

  freed(): void {
    this.connection = null;
    this.disposeIfOver();
  }

  /** The session has failed. */
  close(): void {
    this.closed = true;
    this.end();
    this.disposeIfOver();
  }

  private disposeIfOver(): void {
    if (!this.closed || this.connecting || this.connection !== null) return;
    this.closed = false;
    this.ports.completions.unregister(this.token);
  }
}
