/** What the sessions of a shard with nodes share: connections, buffers, and the key by which they prove who they are. */

import { BootTime } from '../../core/boot-time.js';
import { check } from '../../core/check.js';
import { TimesHeard } from '../../core/cluster-times.js';
import { ConnectionResources, type NetPorts, type NetSizes } from '../../net/connection-resources.js';
import type { ReplyFormat } from '../../net/send-queue.js';
import type { ClusterKey } from '../../ports/cluster-key.js';
import { HelloAsker } from '../../wire/hello.js';
import { SESSION_BUFFER_CLASSES, SESSION_RECEIVE_BYTES, SESSION_SEND_BYTES, SESSIONS_MAX } from '../limits.js';
import type { Asked } from './asked.js';
import { AskingConnection, type AskingOwner } from './asking-connection.js';

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
class NoReplies implements ReplyFormat<Asked> {
  readonly replyBytes = 1;
  readonly headBytes = 0;
  readonly repliesMost = 0;

  writeReply(): void {}
  writeHead(): void {}
}

export class SessionService implements AskingOwner {
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
  private sessions = 0;

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
      connections: this.connections.length - this.free.length,
      buffers: this.resources.usage().buffers,
    };
  }

  /** Gives everything back; all sessions must have ended. */
  close(): void {
    check(this.free.length === this.connections.length, 'sessions go on when what they share is given up');
    this.resources.close();
    const { completions } = this.parts.ports;
    completions.unregister(this.receiveToken);
    completions.unregister(this.sendToken);
  }
}
