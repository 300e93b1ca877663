/** What the sessions of a shard with nodes share: connections, buffers, and the key by which they prove who they are. */

import { BootTime } from '../../core/boot-time.js';
import { check } from '../../core/check.js';
import { TimesHeard } from '../../core/cluster-times.js';
import { CONNECTION_STAGING_BYTES } from '../../core/limits.js';
import { ConnectionResources, type NetPorts, type NetSizes } from '../../net/connection-resources.js';
import type { ReplyFormat } from '../../net/send-queue.js';
import type { StreamedRequest } from '../../net/stream-connection.js';
import type { ClusterKey } from '../../ports/cluster-key.js';
import { FEATURE_PINGS, HelloAsker } from '../../wire/hello.js';
import {
  PING_RECEIVE_BYTES,
  SESSION_BUFFER_CLASSES,
  SESSION_RECEIVE_BYTES,
  SESSION_SEND_BYTES,
  SESSIONS_MAX,
} from '../limits.js';
import type { Asked } from './asked.js';
import { AskingConnection, type AskingOwner } from './asking-connection.js';
import { PingConnection, type PingOwner } from './ping-connection.js';

/** How much of everything a shard has for its sessions. */
export const SESSION_SIZES: NetSizes = {
  connections: SESSIONS_MAX,
  receiveBytes: SESSION_RECEIVE_BYTES,
  bulkBuffers: 0,
  classes: SESSION_BUFFER_CLASSES,
  sendBytesMax: SESSION_SEND_BYTES,
};

export interface SessionServiceParts {
  readonly ports: NetPorts;
  /** Start of `ConnectionResources.regionBytes(sizes)` of page-aligned memory. */
  readonly memoryStart: number;
  readonly sizes: NetSizes;
  readonly key: ClusterKey;
  readonly clusterId: string;
  /** One shard of a process: 32 hexadecimal digits, different in each of its lives. */
  readonly clientId: string;
  /** In whose name. */
  readonly principal: string;
  /** Absent where no manager tells any. */
  readonly times?: TimesHeard;
}

/** Nobody answers at this end. */
class NoReplies implements ReplyFormat<StreamedRequest> {
  readonly replyBytes = 1;
  readonly headBytes = 0;
  readonly repliesMost = 0;

  writeReply(): void {}
  writeHead(): void {}
}

/** Nobody has buffers at the connections for pings: what is said there lies in their staging areas. */
function pingSizes({ connections }: NetSizes): NetSizes {
  const none = { bulkBuffers: 0, classes: [], sendBytesMax: CONNECTION_STAGING_BYTES };
  return { connections, receiveBytes: PING_RECEIVE_BYTES, ...none };
}

export class SessionService implements AskingOwner, PingOwner {
  readonly parts: SessionServiceParts;
  readonly resources: ConnectionResources;
  readonly replies: ReplyFormat<Asked> = new NoReplies();
  /** By which leases are counted. */
  readonly time: BootTime;
  readonly times: TimesHeard;
  readonly receiveToken: number;
  readonly sendToken: number;
  private readonly connections: AskingConnection[] = [];
  private readonly free: AskingConnection[] = [];
  readonly pingResources: ConnectionResources;
  readonly pingReplies: ReplyFormat<StreamedRequest> = new NoReplies();
  readonly pingReceiveToken: number;
  readonly pingSendToken: number;
  private readonly pings: PingConnection[] = [];
  private readonly freePings: PingConnection[] = [];
  private sessions = 0;

  /** Bytes of page-aligned memory that all of it needs. */
  static regionBytes(sizes: NetSizes): number {
    return ConnectionResources.regionBytes(sizes) + ConnectionResources.regionBytes(pingSizes(sizes));
  }

  constructor(parts: SessionServiceParts) {
    const { ports, memoryStart, sizes, times = new TimesHeard() } = parts;
    const { completions } = ports;
    this.parts = parts;
    this.times = times;
    this.time = new BootTime(ports.clock);
    this.resources = new ConnectionResources(ports, memoryStart, sizes);
    this.receiveToken = completions.register({
      complete: (tag, result, flags) => this.connections[tag].onReceived(result, flags),
    });
    this.sendToken = completions.register({ complete: (tag, result) => this.connections[tag].onSent(result) });
    const pingsStart = memoryStart + ConnectionResources.regionBytes(sizes);
    this.pingResources = new ConnectionResources(ports, pingsStart, pingSizes(sizes));
    this.pingReceiveToken = completions.register({
      complete: (tag, result, flags) => this.pings[tag].onReceived(result, flags),
    });
    this.pingSendToken = completions.register({ complete: (tag, result) => this.pings[tag].onSent(result) });
  }

  get key(): ClusterKey {
    return this.parts.key;
  }

  /** Number of a session, higher than all before, and what proves who asks for it. */
  newHello(): { readonly session: number; readonly hello: HelloAsker } {
    const { key, clusterId, clientId, principal } = this.parts;
    this.sessions += 1;
    check(this.sessions < 2 ** 32, 'numbers of sessions are used up', this.sessions);
    const session = this.sessions;
    return { session, hello: new HelloAsker(key, { clientId, clusterId, session, principal, features: [] }) };
  }

  /** What proves who asks for a second connection of a session. */
  pingsHello(session: number): HelloAsker {
    const { key, clusterId, clientId, principal } = this.parts;
    return new HelloAsker(key, { clientId, clusterId, session, principal, features: [FEATURE_PINGS] });
  }

  /** A connection for pings that is not in use; null if there are too many. */
  takePings(): PingConnection | null {
    const connection = this.freePings.pop();
    if (connection !== undefined) return connection;
    const index = this.pings.length;
    if (index === this.pingResources.sizes.connections) return null;
    const made = new PingConnection(this, index);
    this.pings.push(made);
    return made;
  }

  onPingsFree(connection: PingConnection): void {
    check(!this.freePings.includes(connection), 'a connection for pings is given back twice');
    this.freePings.push(connection);
  }

  /** A connection that is not in use; null if there are too many. */
  takeConnection(): AskingConnection | null {
    const connection = this.free.pop();
    if (connection !== undefined) return connection;
    const index = this.connections.length;
    if (index === this.resources.sizes.connections) return null;
    const made = new AskingConnection(this, index);
    this.connections.push(made);
    return made;
  }

  onFree(connection: AskingConnection): void {
    check(!this.free.includes(connection), 'a connection is given back twice');
    this.free.push(connection);
  }

  /** What is in use, for tests of leaks. */
  usage(): { readonly connections: number; readonly buffers: number } {
    return {
      connections: this.connections.length - this.free.length + this.pings.length - this.freePings.length,
      buffers: this.resources.usage().buffers,
    };
  }

  /** Gives everything back; all sessions must have ended. */
  close(): void {
    check(this.free.length === this.connections.length, 'sessions go on when what they share is given up');
    check(this.freePings.length === this.pings.length, 'pings go on when what sessions share is given up');
    this.resources.close();
    this.pingResources.close();
    const { completions } = this.parts.ports;
    for (const token of [this.receiveToken, this.sendToken, this.pingReceiveToken, this.pingSendToken]) {
      completions.unregister(token);
    }
  }
}
