/**
 * What a shard's node has to do with other nodes: the sessions by which it uses their devices, and what it serves to them of
 * its own. Both need the key of the cluster.
 *
 * ```text
 *   memory   │ connections and buffers of sessions │ those of what is served │ those of calls to managers │   from a page on
 * ```
 */

import { CALLING_BYTES } from '../client/manager/call-session.js';
import { ManagerSession } from '../client/manager/manager-session.js';
import { SESSION_SIZES, SessionService } from '../client/members/session-service.js';
import { StrakeError, toStrakeError } from '../core/errors.js';
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
import { type Adopted, type AdoptionParts, adoptVolumes, takeBackVolumes } from '../volumes/adoption.js';
import { Registration } from '../volumes/registration.js';
import type { StorageNode } from '../volumes/storage-node.js';
import { SessionServer } from '../wire/session-server.js';
import type { JoinMessage, NetworkMessage, NodeSelf, ShardCalls } from '../worker/messages.js';

/** In which a heartbeat tells what members have answered. */
const ADOPTION_PAUSE_MS = 250;

const SEGMENTS_START = alignUp(SessionService.regionBytes(SESSION_SIZES), BLOCK_BYTES);
const CALLING_START = SEGMENTS_START + alignUp(ConnectionResources.regionBytes(SEGMENT_SIZES), BLOCK_BYTES);

/** Memory of it. */
export const NETWORK_MEMORY_BYTES = CALLING_START + CALLING_BYTES;

export interface NodeNetworkParts {
  readonly engine: Engine;
  readonly ports: NetPorts;
  readonly watch: Watch;
  /** Start of `NETWORK_MEMORY_BYTES`, if the shard has a network. */
  readonly memoryStart: number;
  /** A name for this life of the process. */
  readonly clientId: string;
  readonly onTrouble: (text: string) => void;
  /** Managers are not reached, or do not take this node. */
  readonly onClusterTrouble: (text: string) => void;
}

interface Registering extends NodeSelf {
  readonly clusterId: string;
  readonly segments: StreamAddress;
  /** Of an address on TCP. */
  readonly port: number | undefined;
}

interface Serving {
  readonly server: SessionServer;
  readonly listener: Listener;
}

export class NodeNetwork {
  private readonly parts: NodeNetworkParts;
  private serving: Serving | null = null;
  private manager: ManagerSession | null = null;
  private registration: Registration | null = null;
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

  /**
   * Joins a cluster: as a client, when one of its managers has answered, or as a node, whose devices are served whether a manager
   * answers or not. Rejects as `begin`, and with `ERR_STRAKE_NO_MANAGER`.
   */
  async join(node: StorageNode, message: JoinMessage): Promise<ShardCalls['joinCluster']['response']> {
    const { self, managers: addresses, segments } = message;
    const { ports, memoryStart, clientId, onClusterTrouble } = this.parts;
    const key = readClusterKey(message.keyFile);
    const about = { ports, key, clientId, principal: self === null ? 'client' : 'node' };
    let told = '';
    const manager = new ManagerSession({
      ...{
        ...about,
        clusterId: message.clusterId,
        addresses,
        memoryStart: memoryStart + CALLING_START,
        times: node.times,
      },
      hooks: {
        onMaps: (maps) => node.decided(maps),
        onState: ({ connected, address, reason }) => {
          const text = connected ? '' : `the manager at ${address} is not reached: ${reason}`;
          if (text !== '' && text !== told) onClusterTrouble(text);
          told = text;
        },
      },
    });
    this.manager = manager;
    const clusterId = message.clusterId ?? (await manager.status()).clusterId;
    const port = segments === null ? undefined : this.serve(node, segments, { clusterId, key });
    const { times } = node;
    const sessions = new SessionService({ ...about, memoryStart, sizes: SESSION_SIZES, clusterId, times });
    node.join({ manager, nodeId: self?.nodeId ?? clientId }, sessions);
    if (self !== null && segments !== null) await this.register(node, manager, { ...self, clusterId, segments, port });
    return { clusterId, port };
  }

  /** Tells managers of the node, from now on. */
  private register(node: StorageNode, manager: ManagerSession, self: Registering): Promise<void> {
    const { ports, onClusterTrouble } = this.parts;
    const { clusterId, nodeId, name, labels, segments, port } = self;
    const address = 'path' in segments ? segments : { host: segments.host, port: port ?? segments.port };
    this.registration = new Registration({
      ...{ completions: ports.completions, clock: ports.clock, manager, devices: node.driven },
      self: { clusterId, nodeId, name, labels, addresses: [addressText(address)] },
      hooks: {
        bring: (device, map) => device.bring(map),
        release: (device, volumeId) => device.release(ports.completions, volumeId, () => this.closing),
        onTimes: (times) => node.hearTimes(times),
        onTrouble: onClusterTrouble,
        onKnown: () => {},
        onNeglected: (volumeIds) => node.tend(volumeIds),
      },
    });
    return this.registration.begin();
  }

  /** What managers can be asked for, by a process that has joined their cluster. */
  get calls(): ManagerSession {
    if (this.manager === null) throw new StrakeError('CLOSED', 'no cluster has been joined');
    return this.manager;
  }

  /** Hands the volumes of a node over to its cluster. See `adoptVolumes`. */
  adopt(node: StorageNode): Promise<Adopted> {
    return adoptVolumes(this.adoption(node));
  }

  /** Takes the volumes of a node back from its cluster. See `takeBackVolumes`. */
  takeBack(node: StorageNode): Promise<Adopted> {
    return takeBackVolumes(this.adoption(node));
  }

  private adoption(node: StorageNode): AdoptionParts {
    const pause = async () => {
      await new Promise((resolve) => setTimeout(resolve, ADOPTION_PAUSE_MS));
      if (this.closing) throw new StrakeError('CLOSED', 'the node is being closed');
    };
    return { manager: this.calls, devices: node.driven, pause };
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
      identity: { nodeId: clientId, clusterId },
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

  /** Managers are asked nothing any more: volumes have been given back. */
  part(): void {
    this.manager?.close();
  }

  /** Serves nobody any more, and lets what has begun come to its end, for a while. */
  async close(): Promise<void> {
    const { serving } = this;
    this.closing = true;
    this.serving = null;
    this.registration?.end();
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
