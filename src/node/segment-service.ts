/**
 * What a shard serves to engines in other processes: the segments of its devices, over connections of clients that have the key
 * of the cluster.
 *
 * ```text
 *   SegmentServer ─ accepts ─► SegmentService ─┬─ SegmentConnection, one for each session ─► members of the devices
 *                                              └─ NodeControl: replicas, maps
 * ```
 *
 * Everything that a peer can take is bounded and allocated here once: connections, records, buffers. Whoever connects and says
 * nothing displaces only others that say nothing.
 */

import { check } from '../core/check.js';
import { HANDSHAKE_MS, STALL_MS } from '../core/limits.js';
import type { Watch, Watched } from '../core/watch.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { ConnectionResources, type NetPorts, type NetSizes } from '../net/connection-resources.js';
import type { ReplyFormat } from '../net/send-queue.js';
import type { ClusterKey } from '../ports/cluster-key.js';
import type { WelcomeFields } from '../wire/control.js';
import { Frame } from '../wire/frame.js';
import { HelloAnswerer, type NodeIdentity } from '../wire/hello.js';
import { PACKED_REPLIES_MAX } from '../wire/limits.js';
import { HEADER_BYTES, PACKED_BYTES, STATUS_REPLACED } from '../wire/messages.js';
import { encodeReplies } from '../wire/reply-codec.js';
import { VERSION_MOST } from '../wire/versions.js';
import {
  PEER_BUFFER_CLASSES,
  PEER_CONNECTIONS_MAX,
  PEER_HANDSHAKES_MAX,
  PEER_RECEIVE_BYTES,
  SESSION_REQUESTS_MAX,
} from './limits.js';
import { NodeControl } from './node-control.js';
import type { NodeStore } from './node-store.js';
import { type PeerRequest, PeerRequests } from './peer-request.js';
import { SegmentConnection, type SegmentOwner } from './segment-connection.js';

/** How much of everything a shard has for engines in other processes. */
export const SEGMENT_SIZES: NetSizes = {
  connections: PEER_CONNECTIONS_MAX,
  receiveBytes: PEER_RECEIVE_BYTES,
  bulkBuffers: 0,
  classes: PEER_BUFFER_CLASSES,
};

export interface SegmentServiceParts {
  readonly ports: NetPorts;
  readonly watch: Watch;
  /** Start of `ConnectionResources.regionBytes(sizes)` of page-aligned memory. */
  readonly memoryStart: number;
  readonly sizes: NetSizes;
  readonly key: ClusterKey;
  readonly identity: NodeIdentity;
  /** Where the shards of the node listen. */
  readonly addresses: readonly string[];
  /** The devices of the node, by id. */
  readonly devices: ReadonlyMap<string, NodeStore>;
  /** A map has been stored that says that its volume is deleted. */
  readonly onDeleted: (device: NodeStore, map: ReplicaMap) => void;
}

/** Who accepted connections, and is told what becomes of them. */
export interface SegmentHost {
  onConnectionBegin(connection: SegmentConnection): void;
  onConnectionEnd(connection: SegmentConnection): void;
}

/** Packed answers: a header, and 24 bytes for each. */
class PackedReplies implements ReplyFormat<PeerRequest> {
  readonly replyBytes = PACKED_BYTES;
  readonly headBytes = HEADER_BYTES;
  readonly repliesMost = PACKED_REPLIES_MAX;
  private readonly frame = new Frame();
  private readonly resources: ConnectionResources;

  constructor(resources: ConnectionResources) {
    this.resources = resources;
  }

  writeReply(request: PeerRequest, memory: number): void {
    request.connection?.putAnswer(request, memory);
  }

  writeHead(memory: number, count: number): void {
    encodeReplies(this.resources.memory, this.frame, memory, count);
  }
}

export class SegmentService implements SegmentOwner, Watched {
  readonly resources: ConnectionResources;
  readonly requests: PeerRequests;
  readonly control: NodeControl;
  readonly replies: ReplyFormat<PeerRequest>;
  readonly receiveToken: number;
  readonly sendToken: number;
  /** Of what members are asked for. */
  readonly token: number;
  readonly version = VERSION_MOST;
  readonly terms: WelcomeFields;
  private readonly parts: SegmentServiceParts;
  private readonly connections: SegmentConnection[] = [];
  private readonly free: SegmentConnection[] = [];
  private readonly hosts = new Map<SegmentConnection, SegmentHost>();
  /** In the order in which they began. */
  private readonly handshakes = new Set<SegmentConnection>();
  /** Of each client the connections that are not free yet; the last is that of its newest session. */
  private readonly clients = new Map<string, SegmentConnection[]>();
  /** Connections that are to end and depend on their peers for it, since when. */
  private readonly leaving = new Map<SegmentConnection, number>();

  constructor(parts: SegmentServiceParts) {
    const { ports, watch, memoryStart, sizes, key, devices, addresses, onDeleted } = parts;
    const { completions } = ports;
    this.parts = parts;
    this.resources = new ConnectionResources(ports, memoryStart, sizes);
    this.requests = new PeerRequests(this.resources);
    this.replies = new PackedReplies(this.resources);
    this.control = new NodeControl({ completions, key, devices, onDeleted, connections: () => this.serving() });
    const creditBytes = this.resources.connectionBytesMax;
    this.terms = { creditRequests: SESSION_REQUESTS_MAX, creditBytes, shards: addresses };
    this.receiveToken = completions.register({
      complete: (tag, result, flags) => this.connections[tag].onReceived(result, flags),
    });
    this.sendToken = completions.register({ complete: (tag, result) => this.connections[tag].onSent(result) });
    this.token = completions.register({ complete: (tag, result, flags) => this.ended(tag, result, flags) });
    watch.add(this);
  }

  private ended(tag: number, result: number, flags: number): void {
    const request = this.requests.at(tag);
    (request.connection as SegmentConnection).ended(request, result, flags);
  }

  private *serving(): Iterable<SegmentConnection> {
    for (const connection of this.hosts.keys()) if (connection.state === 'serving') yield connection;
  }

  newAnswerer(): HelloAnswerer {
    return new HelloAnswerer(this.parts.key, this.parts.identity);
  }

  /** Takes a new socket for `host`. False if there is no place for it. */
  begin(host: SegmentHost, file: number): boolean {
    const isFull = this.hosts.size === this.resources.sizes.connections;
    if (isFull || this.handshakes.size >= PEER_HANDSHAKES_MAX) this.dropOldestHandshake();
    const connection = this.free.pop() ?? this.addConnection();
    if (connection === undefined) {
      this.resources.counters.refused += 1;
      return false;
    }
    this.resources.counters.accepted += 1;
    this.hosts.set(connection, host);
    this.handshakes.add(connection);
    host.onConnectionBegin(connection);
    connection.open(file, this.parts.ports.clock.nowMs());
    this.parts.watch.start();
    return true;
  }

  private addConnection(): SegmentConnection | undefined {
    const index = this.connections.length;
    if (index === this.resources.sizes.connections) return undefined;
    const connection = new SegmentConnection(this, index);
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

  // ---- sessions

  /** A client has proven to have the key: its older sessions end, and it is welcomed when nothing is left of them. */
  enter(connection: SegmentConnection): void {
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

  private welcomeNewest(clientId: string): void {
    const connections = this.clients.get(clientId) ?? [];
    const inOrder = connections.every(({ session }, at) => at === 0 || session > connections[at - 1].session);
    check(inOrder, 'a session takes the place of a newer one', connections.length);
    if (connections.length === 1) connections[0].welcome();
  }

  onServing(connection: SegmentConnection): void {
    this.handshakes.delete(connection);
  }

  onFree(connection: SegmentConnection): void {
    const host = this.hosts.get(connection);
    const { clientId } = connection;
    this.hosts.delete(connection);
    this.handshakes.delete(connection);
    this.leaving.delete(connection);
    check(connection.replicas.size === 0, 'a connection ends with replicas open', connection.replicas.size);
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
    for (const connection of [...this.hosts.keys()]) {
      if (connection.state !== 'draining') continue;
      const sinceMs = this.leaving.get(connection) ?? nowMs;
      this.leaving.set(connection, sinceMs);
      if (nowMs - sinceMs >= STALL_MS) connection.end('the peer did not go');
    }
  }

  /** What is in use, for tests of leaks. */
  usage(): { readonly connections: number; readonly requests: number; readonly buffers: number } {
    return { connections: this.hosts.size, requests: this.requests.inUse, buffers: this.resources.usage().buffers };
  }

  /** Gives everything back; all servers must have been closed. */
  close(): void {
    check(this.hosts.size === 0, 'what serves segments is given up while there are connections', this.hosts.size);
    check(this.requests.inUse === 0, 'what serves segments is given up with requests', this.requests.inUse);
    this.parts.watch.remove(this);
    this.resources.close();
    const { completions } = this.parts.ports;
    for (const token of [this.receiveToken, this.sendToken, this.token]) completions.unregister(token);
  }
}
