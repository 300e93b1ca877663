/** The storage node of a shard, if it has one: its devices, its volumes under numbers, and its servers. */

import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import { DRAIN_MS, IO_TIMEOUT_MS } from '../core/limits.js';
import type { Watch } from '../core/watch.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { NbdServer } from '../nbd/server.js';
import type { DeviceEvent } from '../node/device-events.js';
import type { DeviceMember } from '../node/device-member.js';
import { type NodeCallName, type NodeCalls, NodeService } from '../serve/node-service.js';
import { UringDevice } from '../uring/device.js';
import type { Engine } from '../uring/engine.js';
import type { Adopted } from '../volumes/adoption.js';
import type { EngineShard } from '../volumes/engine-elsewhere.js';
import type { NodePorts } from '../volumes/storage-node.js';
import { callManager } from '../worker/manager-calls.js';
import type {
  AnswerMessage,
  ConnectMessage,
  JoinMessage,
  ListenNodeMessage,
  LoseShardMessage,
  ManagerCallMessage,
  NetworkMessage,
  OpenStoreMessage,
  ShardCalls,
  VolumeFacts,
} from '../worker/messages.js';
import type { NodeNetwork } from './node-network.js';
import type { Servers } from './servers.js';
import { ShardConnection } from './shard-connection.js';
import type { Targets } from './targets.js';

export interface ShardNodeParts {
  readonly engine: Engine;
  readonly watch: Watch;
  readonly ports: NodePorts;
  readonly network: NodeNetwork;
  readonly targets: Targets;
  readonly servers: Servers;
  /** The shards beside this one that run engines of volumes: as many as have memory for that here. */
  readonly engineShards: number;
  readonly post: (message: AnswerMessage) => void;
}

export class ShardNode {
  private readonly parts: ShardNodeParts;
  private node: NodeService | null = null;
  private closed = false;
  private readonly stores: UringDevice[] = [];
  /** Devices that are being opened on this shard. */
  private opening = 0;
  /** To other shards that have devices of the node, by number. */
  private readonly connections = new Map<number, ShardConnection>();
  /** After which time the other shards give operations of devices up. */
  private toldFenceMs = IO_TIMEOUT_MS;
  /** Shards for whose engines there is no memory any more: what has died may still use it. */
  private readonly spoilt = new Set<number>();

  constructor(parts: ShardNodeParts) {
    this.parts = parts;
  }

  private openNode(): NodeService {
    // A second one would use the memory, and the devices, of the one that is being closed.
    if (this.closed) throw new StrakeError('CLOSED', 'the node is closed');
    if (this.node === null) {
      const { ports, post } = this.parts;
      const engineShard = (shard: number) => this.engineShard(shard);
      this.node = new NodeService({ ...ports, engineShard }, (event) => post({ event }));
    }
    return this.node;
  }

  /** Whether it has devices: its volumes work by themselves too, at any time: resync, repair, checkpoints. */
  get busy(): boolean {
    return this.stores.length > 0;
  }

  /** After which an operation that a device has not ended ends its service, in milliseconds. Other shards are told of another. */
  fenceAfterMs(): number {
    const afterMs = this.node?.node.times.now.deviceFenceMs ?? IO_TIMEOUT_MS;
    if (afterMs === this.toldFenceMs) return afterMs;
    this.toldFenceMs = afterMs;
    // One that has died is told when it has another life.
    for (const connection of this.connections.values()) void connection.call('fence', { afterMs }).catch(() => {});
    return afterMs;
  }

  /** Carries out a call of the node, after what devices on other shards say now. */
  async call<Name extends NodeCallName>(
    name: Name,
    request: NodeCalls[Name]['request'],
  ): Promise<NodeCalls[Name]['response']> {
    const node = this.openNode();
    // Whoever has the volumes takes their members back.
    if (name === 'takeBack' && this.parts.network.serves) return null as NodeCalls[Name]['response'];
    await this.refresh();
    if (name === 'endWork') for (const connection of this.connections.values()) connection.endWork();
    return node.call(name, request);
  }

  private async refresh(): Promise<void> {
    // What has died has been told of, and its devices count as failed.
    await Promise.allSettled([...this.connections.values()].map((connection) => connection.refresh()));
  }

  /** Connects another shard, on which devices are opened from now on. */
  connect(message: ConnectMessage): null {
    const { engine, post } = this.parts;
    const { shard } = message;
    const before = this.connections.get(shard);
    check(before?.lost !== false, 'a shard is connected twice', shard);
    // By now what was asked of the one that has died has ended.
    before?.dispose();
    const onEvent = (event: DeviceEvent) => post({ event });
    this.toldFenceMs = IO_TIMEOUT_MS;
    const member = (device: number, page: number) => this.member(device, page);
    const parts = { engine, payloads: 0, payloadBytes: engine.bytes.length, member, onEvent };
    this.connections.set(shard, new ShardConnection(parts, message));
    return null;
  }

  /** A member here, for an engine on another shard. */
  private member(number: number, page: number): DeviceMember | null {
    for (const device of this.node?.node.stores.values() ?? []) {
      if (device.number === number) return device.memberOn(this.parts.engine, page);
    }
    return null;
  }

  /** Takes the answers of other shards. Called when one of them has woken this one. */
  drain(): void {
    for (const connection of this.connections.values()) connection.drain();
  }

  /**
   * Another shard has died: its devices are lost, and volumes go on without them where they can; those that it served are served
   * anew as soon as their devices are there.
   */
  async lose({ shard, mayGoOn, error }: LoseShardMessage): Promise<ShardCalls['loseShard']['response']> {
    const connection = this.connections.get(shard);
    if (connection === undefined) return { mayGoOn };
    const found = await connection.lose(StrakeError.fromWire(error), mayGoOn);
    if (found.mayGoOn) this.spoilt.add(shard);
    const reason = 'the worker that drove its devices has ended: they are opened again';
    for (const { deviceId } of found.lost) await this.node?.node.lose(deviceId, reason);
    // Whoever is served anew is so by what its members remember now.
    await this.refresh();
    await this.node?.node.dropEngines(reason);
    return { mayGoOn: found.mayGoOn };
  }

  /** A shard that runs engines of volumes beside this one. */
  engineShard(shard: number): EngineShard | null {
    const connection = this.connections.get(shard);
    const { engineShards } = this.parts;
    if (connection === undefined || connection.lost || shard > engineShards || this.spoilt.has(shard)) return null;
    return connection.engines;
  }

  /** The connection to the shard with the fewest devices; null for this one, which is the first of equals. */
  private leastLoaded(): ShardConnection | null {
    let best: ShardConnection | null = null;
    let least = (this.node?.node.stores.size ?? 0) + this.opening;
    for (const connection of this.connections.values()) {
      if (connection.lost || connection.load >= least) continue;
      best = connection;
      least = connection.load;
    }
    return best;
  }

  /** Opens a device on the shard with the fewest. */
  async openStore(message: OpenStoreMessage): Promise<ShardCalls['openStore']['response']> {
    const connection = this.leastLoaded();
    return connection === null ? this.openHere(message) : this.openThere(message, connection);
  }

  private async openThere(
    message: OpenStoreMessage,
    connection: ShardConnection,
  ): Promise<ShardCalls['openStore']['response']> {
    const { node } = this.openNode();
    const { deviceId, clusterId, path } = message;
    const mayForget = (note: ReplicaMap) => node.mayForget(note);
    await node.openAway({ deviceId, clusterId }, path, (order, keeper) =>
      connection.open(message, { order, keeper }, mayForget),
    );
    return { deviceId, shard: connection.shard };
  }

  private async openHere(message: OpenStoreMessage): Promise<ShardCalls['openStore']['response']> {
    const { engine, watch } = this.parts;
    const { handle, geometry, path, clusterId, leaseMs } = message;
    const device = new UringDevice(engine, engine.native.adoptDevice(handle), geometry);
    // A device that does not answer is to be given up while it is opened, too.
    this.stores.push(device);
    watch.start();
    this.opening += 1;
    try {
      const { deviceId, shard } = await this.openNode().node.open(device, { path, clusterId, leaseMs });
      return { deviceId, shard };
    } catch (error) {
      this.stores.splice(this.stores.indexOf(device), 1);
      device.close();
      throw error;
    } finally {
      this.opening -= 1;
    }
  }

  async findVolume(name: string): Promise<VolumeFacts> {
    const { targets } = this.parts;
    const engine = await this.openNode().node.started(name);
    // Its deletion may have come right behind.
    if (!engine.serving) return this.findVolume(name);
    const { id, name: current, sizeBytes } = engine.record;
    const device = targets.numberOf(engine) ?? targets.add({ volume: engine, name: current });
    return { device, id, name: current, sizeBytes };
  }

  /** See `NodeNetwork.begin`. */
  begin(message: NetworkMessage): Promise<ShardCalls['network']['response']> {
    return this.parts.network.begin(this.openNode().node, message);
  }

  /** See `NodeNetwork.join`. */
  join(message: JoinMessage): Promise<ShardCalls['joinCluster']['response']> {
    return this.parts.network.join(this.openNode().node, message);
  }

  /** What a manager of the cluster answers. */
  callManager({ name, args }: ManagerCallMessage): Promise<unknown> {
    return callManager(this.parts.network.calls, name, args);
  }

  /** See `adoptVolumes`. */
  adopt(): Promise<Adopted> {
    return this.parts.network.adopt(this.openNode().node);
  }

  /** See `takeBackVolumes`. */
  takeBackVolumes(): Promise<Adopted> {
    return this.parts.network.takeBack(this.openNode().node);
  }

  /** Opens a volume of the cluster that has been joined. */
  async attachVolume({ name, ...attaching }: ShardCalls['attachVolume']['request']): Promise<VolumeFacts> {
    const service = this.openNode();
    const { id } = await service.node.attachVolume(name, attaching);
    service.offer();
    return this.findVolume(id);
  }

  /** Gives it back. */
  async detachVolume({ id }: ShardCalls['detachVolume']['request']): Promise<null> {
    const service = this.openNode();
    const ended = service.node.detachVolume(id);
    service.offer();
    await ended;
    service.offer();
    return null;
  }

  listen(message: ListenNodeMessage): ShardCalls['listenNode']['response'] {
    const { server, port, made } = this.parts.servers.begin(message, null);
    this.openNode().attach(made);
    return { server, port };
  }

  /** A server has been closed. */
  detach(server: NbdServer): void {
    this.node?.detach(server);
  }

  /** See `StorageNode.endHolding`. */
  endHolding(): void {
    this.node?.node.endHolding();
  }

  /** Closes servers, volumes and devices in order. Rejects with the first error; everything is closed all the same. */
  async close(): Promise<null> {
    const { node } = this;
    this.node = null;
    this.closed = true;
    if (node === null) return null;
    node.node.endWork();
    for (const connection of this.connections.values()) connection.endWork();
    await Promise.all([this.parts.servers.endOf(null, DRAIN_MS), this.parts.network.close()]);
    const { length } = this.stores;
    try {
      await node.node.close();
    } finally {
      this.parts.network.part();
      this.stores.splice(0, length);
      for (const connection of this.connections.values()) connection.close();
    }
    return null;
  }
}
