/**
 * What a manager serves to clients and nodes: its calls, over connections of those that have the key of the cluster.
 *
 * ```text
 *   SessionServer ─ accepts ─► SessionDesk ─► ManagerConnection, one for each session ─► ManagerCalls
 *                                                     ▲ maps that are decided
 * ```
 *
 * Everything that a peer can take is bounded, and its memory is allocated here once.
 */

import { check } from '../core/check.js';
import type { Watch } from '../core/watch.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { ConnectionResources, type NetPorts, type NetSizes } from '../net/connection-resources.js';
import type { ClusterKey } from '../ports/cluster-key.js';
import type { WelcomeFields } from '../wire/control.js';
import { FEATURE_MANAGER, HelloAnswerer, type NodeIdentity } from '../wire/hello.js';
import { CALL_PARTS_MAX, PART_BYTES_MAX } from '../wire/limits.js';
import type { Calls } from '../wire/manager-calls.js';
import { PART_BUFFER_BYTES } from '../wire/message-parts.js';
import { SessionDesk } from '../wire/session-desk.js';
import { VERSION_MOST } from '../wire/versions.js';
import {
  MANAGER_CONNECTIONS_MAX,
  MANAGER_HANDSHAKES_MAX,
  MANAGER_RECEIVE_BYTES,
  SESSION_CALLS_MAX,
  SESSION_SILENCE_MS,
} from './limits.js';
import { HereFormat, ManagerConnection, type ManagerOwner } from './manager-connection.js';

/** How much of everything there is, for so many connections. */
export function managerSizes(connections: number = MANAGER_CONNECTIONS_MAX): NetSizes {
  return {
    connections,
    receiveBytes: MANAGER_RECEIVE_BYTES,
    sendBytesMax: PART_BUFFER_BYTES,
    bulkBuffers: 0,
    classes: [{ bytes: PART_BUFFER_BYTES, count: connections }],
  };
}

/** What a session may have asked for and not had answered: as many calls, or the longest one beside them. */
const TERMS = {
  creditRequests: SESSION_CALLS_MAX + CALL_PARTS_MAX,
  creditBytes: (SESSION_CALLS_MAX + CALL_PARTS_MAX) * PART_BYTES_MAX,
};

export interface ManagerServiceParts {
  readonly ports: NetPorts;
  readonly watch: Watch;
  /** Start of `ConnectionResources.regionBytes(sizes)` of page-aligned memory. */
  readonly memoryStart: number;
  readonly sizes: NetSizes;
  readonly key: ClusterKey;
  /** The manager, and its cluster. */
  readonly identity: Omit<NodeIdentity, 'features'>;
  /** Where the manager listens. */
  readonly addresses: readonly string[];
  readonly calls: Calls;
}

export class ManagerService implements ManagerOwner {
  readonly resources: ConnectionResources;
  readonly replies = new HereFormat(this);
  readonly receiveToken: number;
  readonly sendToken: number;
  readonly version = VERSION_MOST;
  readonly terms: WelcomeFields;
  readonly calls: Calls;
  readonly key: ClusterKey;
  readonly desk: SessionDesk<ManagerConnection>;
  private readonly parts: ManagerServiceParts;

  constructor(parts: ManagerServiceParts) {
    const { ports, watch, memoryStart, sizes, key, addresses, calls } = parts;
    const { completions, clock } = ports;
    this.parts = parts;
    this.calls = calls;
    this.key = key;
    this.resources = new ConnectionResources(ports, memoryStart, sizes);
    this.terms = { ...TERMS, shards: addresses };
    this.desk = new SessionDesk({
      ...{ resources: this.resources, clock, watch, handshakesMax: MANAGER_HANDSHAKES_MAX },
      silenceMs: SESSION_SILENCE_MS,
      make: (index) => new ManagerConnection(this, index),
      onFree: ({ clientId }) => check(clientId.length <= 32, 'a client has no id', clientId.length),
    });
    this.receiveToken = completions.register({
      complete: (tag, result, flags) => this.desk.at(tag).onReceived(result, flags),
    });
    this.sendToken = completions.register({ complete: (tag, result) => this.desk.at(tag).onSent(result) });
  }

  newAnswerer(): HelloAnswerer {
    return new HelloAnswerer(this.key, { ...this.parts.identity, features: [FEATURE_MANAGER] });
  }

  /** Tells clients of maps that have been decided. */
  tell(maps: readonly ReplicaMap[]): void {
    for (const connection of this.desk.serving()) connection.tell(maps);
  }

  /** What is in use, for tests of leaks. */
  usage(): { readonly connections: number; readonly buffers: number } {
    return { connections: this.desk.inUse, buffers: this.resources.usage().buffers };
  }

  /** Gives everything back; all servers must have been closed. */
  close(): void {
    this.desk.close();
    this.resources.close();
    const { completions } = this.parts.ports;
    completions.unregister(this.receiveToken);
    completions.unregister(this.sendToken);
  }
}
