/**
 * The NBD side of one shard: connections and their limits, whatever server they belong to.
 *
 * Connections are made when they are first needed, and used again. When there is no place for a new one, the connection
 * that has waited longest in its handshake gives way: whoever opens thousands and says nothing displaces only others that
 * say nothing. A peer that neither takes its replies nor sends its payloads is dropped once others wait for what it holds.
 */

import { HANDSHAKE_MS, HANDSHAKES_MAX, STALL_MS } from '../core/limits.js';
import type { Watch, Watched } from '../core/watch.js';
import {
  type ConnectionCounters,
  ConnectionResources,
  type NetPorts,
  type NetSizes,
  SERVER_SIZES,
} from '../net/connection-resources.js';
import { Connection, type ConnectionOwner } from './connection.js';
import type { Offer } from './handshake.js';
import { Reads } from './reads.js';
import { Replies } from './replies.js';
import { RequestPool } from './requests.js';
import { Writes } from './writes.js';

/** What a shard's connections are doing, in counts. */
export interface NbdServiceStats extends Readonly<ConnectionCounters> {
  readonly connections: number;
  readonly handshakes: number;
  readonly buffersInUse: number;
  readonly buffersQuarantined: number;
  readonly requestsInFlight: number;
  readonly bulkBuffersInUse: number;
}

/** Who accepted connections, and is told what becomes of them. */
export interface ConnectionHost extends Offer {
  /** A connection has been made for this host. */
  onConnectionBegin(connection: Connection): void;
  onConnectionEnd(connection: Connection): void;
}

/** How long a connection has made no progress. */
interface Standstill {
  progress: number;
  sinceMs: number;
}

export class NbdService implements ConnectionOwner, Watched {
  readonly resources: ConnectionResources;
  readonly pool: RequestPool;
  readonly replies: Replies;
  readonly reads: Reads;
  readonly writes: Writes;
  readonly receiveToken: number;
  readonly sendToken: number;
  private readonly ports: NetPorts;
  private readonly watch: Watch;
  private readonly connections: Connection[] = [];
  private readonly free: Connection[] = [];
  private readonly servers = new Map<Connection, ConnectionHost>();
  private readonly standstills = new Map<Connection, Standstill>();
  /** In the order in which they began. */
  private readonly handshakes = new Set<Connection>();

  /** `start` is the start of `ConnectionResources.regionBytes(sizes)` of page-aligned memory. */
  constructor(ports: NetPorts, watch: Watch, start: number, sizes: NetSizes = SERVER_SIZES) {
    this.ports = ports;
    this.watch = watch;
    this.resources = new ConnectionResources(ports, start, sizes);
    this.pool = new RequestPool(this.resources);
    this.replies = new Replies(ports.memory);
    this.reads = new Reads(this.resources, this.pool, this.replies);
    this.writes = new Writes(this.resources, this.pool);
    const { completions } = ports;
    this.receiveToken = completions.register({
      complete: (tag, result, flags) => this.connections[tag].onReceived(result, flags),
    });
    this.sendToken = completions.register({ complete: (tag, result) => this.connections[tag].onSent(result) });
    watch.add(this);
  }

  /** Takes a new socket for `server`. False if there is no place for it. */
  begin(server: ConnectionHost, file: number): boolean {
    const isFull = this.servers.size === this.resources.sizes.connections;
    if (isFull || this.handshakes.size >= HANDSHAKES_MAX) this.dropOldestHandshake();
    const connection = this.free.pop() ?? this.addConnection();
    if (connection === undefined) {
      this.resources.counters.refused += 1;
      return false;
    }
    this.resources.counters.accepted += 1;
    this.servers.set(connection, server);
    this.handshakes.add(connection);
    server.onConnectionBegin(connection);
    connection.open(file, this.ports.clock.nowMs(), server);
    this.watch.start();
    return true;
  }

  private addConnection(): Connection | undefined {
    const index = this.connections.length;
    if (index === this.resources.sizes.connections) return undefined;
    const connection = new Connection(this, index);
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

  onServing(connection: Connection): void {
    this.handshakes.delete(connection);
  }

  onFree(connection: Connection): void {
    const server = this.servers.get(connection);
    this.servers.delete(connection);
    this.handshakes.delete(connection);
    this.standstills.delete(connection);
    this.free.push(connection);
    server?.onConnectionEnd(connection);
  }

  /** Whether there is anything to watch. */
  get busy(): boolean {
    return this.servers.size > 0;
  }

  tick(nowMs: number): void {
    for (const connection of [...this.handshakes]) {
      if (nowMs - connection.sinceMs < HANDSHAKE_MS) break;
      this.handshakes.delete(connection);
      connection.end('the handshake took too long');
    }
    if (this.resources.contended) this.dropStalled(nowMs);
    else this.standstills.clear();
  }

  private dropStalled(nowMs: number): void {
    for (const connection of [...this.servers.keys()]) {
      const { progress } = connection;
      const known = this.standstills.get(connection);
      if (!connection.holdsBuffers || !connection.dependsOnPeer || known?.progress !== progress) {
        this.standstills.set(connection, { progress, sinceMs: nowMs });
      } else if (nowMs - known.sinceMs >= STALL_MS) {
        this.resources.counters.stalled += 1;
        this.standstills.delete(connection);
        connection.end('the peer made no progress while others waited');
      }
    }
  }

  stats(): NbdServiceStats {
    const usage = this.resources.usage();
    return {
      ...this.resources.counters,
      connections: this.servers.size,
      handshakes: this.handshakes.size,
      buffersInUse: usage.buffers,
      buffersQuarantined: usage.quarantined,
      requestsInFlight: this.pool.requestsInUse,
      bulkBuffersInUse: usage.bulk,
    };
  }

  /** Gives everything back; all servers must have been closed. */
  close(): void {
    this.watch.remove(this);
    this.resources.close();
    this.reads.close();
    this.writes.close();
    const { completions } = this.ports;
    completions.unregister(this.receiveToken);
    completions.unregister(this.sendToken);
  }
}
