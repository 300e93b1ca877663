/**
 * What a shard's node has to do with other nodes: the sessions by which it uses their devices, and what it serves to them of
 * its own. Both need the key of the cluster.
 *
 * ```text
 *   memory   │ connections and buffers of sessions │ those of what is served │   from a page on
 * ```
 */

import { SESSION_SIZES, SessionService } from '../client/members/session-service.js';
import { toStrakeError } from '../core/errors.js';
import { BLOCK_BYTES, DRAIN_MS } from '../core/limits.js';
import { addressText } from '../core/stream-address.js';
import { alignUp } from '../core/units.js';
import type { Watch } from '../core/watch.js';
import { readClusterKey } from '../keys/cluster-key.js';
import { ConnectionResources, type NetPorts } from '../net/connection-resources.js';
import type { DrivenDevice } from '../node/node-device.js';
import { SEGMENT_SIZES, SegmentService } from '../node/segment-service.js';
import type { StreamAddress } from '../ports/transport.js';
import type { Engine } from '../uring/engine.js';
import { type Listener, listen } from '../uring/transport.js';
import type { StorageNode } from '../volumes/storage-node.js';
import { SessionServer } from '../wire/session-server.js';
import type { NetworkMessage, ShardCalls } from '../worker/messages.js';

const SEGMENTS_START = alignUp(ConnectionResources.regionBytes(SESSION_SIZES), BLOCK_BYTES);

/** Memory of it. */
export const NETWORK_MEMORY_BYTES = SEGMENTS_START + ConnectionResources.regionBytes(SEGMENT_SIZES);

export interface NodeNetworkParts {
  readonly engine: Engine;
  readonly ports: NetPorts;
  readonly watch: Watch;
  /** Start of `NETWORK_MEMORY_BYTES`, if the shard has a network. */
  readonly memoryStart: number;
  /** A name for this life of the process. */
  readonly clientId: string;
  readonly onTrouble: (text: string) => void;
}

interface Serving {
  readonly server: SessionServer;
  readonly listener: Listener;
}

export class NodeNetwork {
  private readonly parts: NodeNetworkParts;
  private serving: Serving | null = null;
  private closing = false;

  constructor(parts: NodeNetworkParts) {
    this.parts = parts;
  }

  /** Whether the segments of the node's devices are served to others, which have the volumes. */
  get serves(): boolean {
    return this.serving !== null;
  }

  /**
   * Serves the segments of a node's devices, if that is asked for, and begins to reach other nodes. Resolves when each of them
   * has been reached, or the first attempt has failed. Rejects as `readClusterKey` and `listen`.
   */
  async begin(node: StorageNode, message: NetworkMessage): Promise<ShardCalls['network']['response']> {
    const { ports, memoryStart, clientId } = this.parts;
    const { clusterId, peers } = message;
    const key = readClusterKey(message.keyFile);
    const port = message.segments === null ? undefined : this.serve(node, message.segments, { clusterId, key });
    if (peers.length > 0) {
      const about = { key, clusterId, clientId, principal: 'node' };
      const service = new SessionService({ ports, memoryStart, sizes: SESSION_SIZES, ...about });
      await Promise.all(peers.map((address) => node.addPeer(service, address)));
    }
    return { port };
  }

  private serve(
    node: StorageNode,
    address: StreamAddress,
    { clusterId, key }: { readonly clusterId: string; readonly key: ReturnType<typeof readClusterKey> },
  ): number | undefined {
    const { engine, ports, watch, memoryStart, clientId } = this.parts;
    const listener = listen(engine, address);
    const where = 'path' in address ? address : { host: address.host, port: listener.port ?? address.port };
    const service = new SegmentService({
      ...{ ports, watch, key, sizes: SEGMENT_SIZES, memoryStart: memoryStart + SEGMENTS_START },
      // It is another one in each life of the process, as everything that it has promised is.
      identity: { nodeId: clientId, clusterId, features: [] },
      addresses: [addressText(where)],
      devices: node.driven,
      onDeleted: (device, map) => this.release(device, map.volume.id),
    });
    node.leaveVolumes((deviceId) => service.userOf(deviceId));
    this.serving = { server: new SessionServer(service.desk, ports, listener.file), listener };
    return listener.port;
  }

  /** Gives back what a device has of a deleted volume. */
  private release(device: DrivenDevice, volumeId: string): void {
    const { ports, onTrouble } = this.parts;
    device
      .release(ports.completions, volumeId, () => this.closing)
      .catch((error: unknown) => {
        onTrouble(`${device.path}: ${toStrakeError(error).message}`);
      });
  }

  /** Serves nobody any more, and lets what has begun come to its end, for a while. */
  async close(): Promise<void> {
    const { serving } = this;
    this.closing = true;
    this.serving = null;
    if (serving === null) return;
    serving.listener.removePath();
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => serving.server.abort(), DRAIN_MS);
      serving.server.drain(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}
