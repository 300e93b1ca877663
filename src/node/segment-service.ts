/**
 * What a shard serves to engines in other processes: the segments of its devices, over connections of clients that have the key
 * of the cluster.
 *
 * ```text
 *   SessionServer ─ accepts ─► SegmentService ─┬─ SegmentConnection, one for each session ─► members of the devices
 *                                              └─ NodeControl: replicas, maps
 * ```
 *
 * Everything that a peer can take is bounded and allocated here once: connections, records, buffers. Whoever connects and says
 * nothing displaces only others that say nothing.
 */

import { check } from '../core/check.js';
import type { Watch } from '../core/watch.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { ConnectionResources, type NetPorts, type NetSizes } from '../net/connection-resources.js';
import type { ReplyFormat } from '../net/send-queue.js';
import type { ClusterKey } from '../ports/cluster-key.js';
import type { WelcomeFields } from '../wire/control.js';
import { Frame } from '../wire/frame.js';
import { FEATURE_PINGS, HelloAnswerer, type NodeIdentity } from '../wire/hello.js';
import { PACKED_REPLIES_MAX } from '../wire/limits.js';
import { HEADER_BYTES, PACKED_BYTES } from '../wire/messages.js';
import { encodeReplies } from '../wire/reply-codec.js';
import { SessionDesk } from '../wire/session-desk.js';
import { VERSION_MOST } from '../wire/versions.js';
import {
  PEER_BUFFER_CLASSES,
  PEER_CONNECTIONS_MAX,
  PEER_HANDSHAKES_MAX,
  PEER_RECEIVE_BYTES,
  PEER_SEND_BYTES,
  SESSION_REQUESTS_MAX,
} from './limits.js';
import { NodeControl } from './node-control.js';
import type { DrivenDevice } from './node-device.js';
import { type PeerRequest, PeerRequests } from './peer-request.js';
import { SegmentConnection, type SegmentOwner } from './segment-connection.js';

/** How much of everything a shard has for engines in other processes. */
export const SEGMENT_SIZES: NetSizes = {
  connections: PEER_CONNECTIONS_MAX,
  receiveBytes: PEER_RECEIVE_BYTES,
  bulkBuffers: 0,
  classes: PEER_BUFFER_CLASSES,
  sendBytesMax: PEER_SEND_BYTES,
};

export interface SegmentServiceParts {
  readonly ports: NetPorts;
  readonly watch: Watch;
  /** Start of `ConnectionResources.regionBytes(sizes)` of page-aligned memory. */
  readonly memoryStart: number;
  readonly sizes: NetSizes;
  readonly key: ClusterKey;
  readonly identity: Omit<NodeIdentity, 'features'>;
  /** Where the shards of the node listen. */
  readonly addresses: readonly string[];
  /** The devices of the node, by id. */
  readonly devices: ReadonlyMap<string, DrivenDevice>;
  /** A map has been stored that says that its volume is deleted. */
  readonly onDeleted: (device: DrivenDevice, map: ReplicaMap) => void;
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

export class SegmentService implements SegmentOwner {
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
  readonly desk: SessionDesk<SegmentConnection>;

  constructor(parts: SegmentServiceParts) {
    const { ports, watch, memoryStart, sizes, key, devices, addresses, onDeleted } = parts;
    const { completions } = ports;
    this.parts = parts;
    this.resources = new ConnectionResources(ports, memoryStart, sizes);
    this.requests = new PeerRequests(this.resources);
    this.replies = new PackedReplies(this.resources);
    this.control = new NodeControl({ completions, key, devices, onDeleted, connections: () => this.desk.serving() });
    const creditBytes = this.resources.connectionBytesMax;
    this.terms = { creditRequests: SESSION_REQUESTS_MAX, creditBytes, shards: addresses };
    this.desk = new SessionDesk({
      ...{ resources: this.resources, clock: ports.clock, watch, handshakesMax: PEER_HANDSHAKES_MAX },
      make: (index) => new SegmentConnection(this, index),
      onFree: ({ replicas }) => check(replicas.size === 0, 'a connection ends with replicas open', replicas.size),
    });
    this.receiveToken = completions.register({
      complete: (tag, result, flags) => this.desk.at(tag).onReceived(result, flags),
    });
    this.sendToken = completions.register({ complete: (tag, result) => this.desk.at(tag).onSent(result) });
    this.token = completions.register({ complete: (tag, result, flags) => this.ended(tag, result, flags) });
  }

  private ended(tag: number, result: number, flags: number): void {
    const request = this.requests.at(tag);
    (request.connection as SegmentConnection).ended(request, result, flags);
  }

  /** The name of a volume that a session writes to, and whose copy on a device is current or becomes so; null if none is. */
  userOf(deviceId: string): string | null {
    for (const { replicas } of this.desk.serving()) {
      for (const { gate, role, index } of replicas.values()) {
        if (gate.device.deviceId !== deviceId || role === 'reader') continue;
        const member = gate.map?.members[index];
        if (member !== undefined && member.state !== 'offline') return gate.map?.volume.name ?? null;
      }
    }
    return null;
  }

  newAnswerer(): HelloAnswerer {
    return new HelloAnswerer(this.parts.key, { ...this.parts.identity, features: [FEATURE_PINGS] });
  }

  /** What is in use, for tests of leaks. */
  usage(): { readonly connections: number; readonly requests: number; readonly buffers: number } {
    return { connections: this.desk.inUse, requests: this.requests.inUse, buffers: this.resources.usage().buffers };
  }

  /** Gives everything back; all servers must have been closed. */
  close(): void {
    this.desk.close();
    check(this.requests.inUse === 0, 'what serves segments is given up with requests', this.requests.inUse);
    this.resources.close();
    const { completions } = this.parts.ports;
    for (const token of [this.receiveToken, this.sendToken, this.token]) completions.unregister(token);
  }
}
