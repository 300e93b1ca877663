/**
 * The program of a shard worker: where engine, volumes and protocols are put together.
 *
 * A shard owns devices, connections and one engine. It runs as one task of the worker pool that ends when the shard is told to
 * stop; control messages arrive on a port, and are answered in the order in which they are done.
 *
 * ```text
 *   arena   │ connections, receive buffers, pool │ scratch of raw volumes │ buffers of the client │ network │ node │ engines │
 * ```
 */

import { randomBytes } from 'node:crypto';
import { threadId } from 'node:worker_threads';
import { ENGINES_THERE_BYTES } from './across/engine-service.js';
import { BufferPool } from './core/buffer-pool.js';
import { StrakeError, toStrakeError } from './core/errors.js';
import {
  BLOCK_BYTES,
  CLIENT_BUFFER_CLASSES,
  NODE_VOLUMES_MAX,
  SHARD_FILES_MAX,
  SHARD_OPERATIONS_MAX,
  STOP_GRACE_MS,
  VOLUMES_REGISTERED,
} from './core/limits.js';
import { alignUp } from './core/units.js';
import { Watch, type Watched } from './core/watch.js';
import { NbdService } from './nbd/service.js';
import { ConnectionResources, type NetPorts } from './net/connection-resources.js';
import { tableRange } from './node/device-host.js';
import type { NodeCalls } from './serve/node-service.js';
import { RingService } from './serve/ring-service.js';
import { DeviceShard } from './shard/device-shard.js';
import { Loads } from './shard/loads.js';
import { NETWORK_MEMORY_BYTES, NodeNetwork } from './shard/node-network.js';
import { RAW_DEVICES_SCRATCH_BYTES, RawDevices } from './shard/raw-devices.js';
import { Servers } from './shard/servers.js';
import { ShardNode } from './shard/shard-node.js';
import { Targets } from './shard/targets.js';
import { Engine } from './uring/engine.js';
import type { FaultRule } from './uring/native.js';
import { UringTransport } from './uring/transport.js';
import { nodeMemoryBytes } from './volumes/storage-node.js';
import type {
  AnswerMessage,
  CallMessage,
  ConnectMessage,
  FormatMessage,
  JoinMessage,
  ListenMessage,
  ListenNodeMessage,
  LoadMessage,
  LoseShardMessage,
  ManagerCallMessage,
  NetworkMessage,
  OpenMessage,
  OpenStoreMessage,
  ShardCallName,
  ShardCalls,
  ShardStart,
} from './worker/messages.js';
import type { ShardStats } from './worker/shard-stats.js';

/** Where a shard has what in its memory. */
function placesOf({ network, storesMax, engineShards, tablesBytes }: ShardStart) {
  const scratchStart = alignUp(ConnectionResources.regionBytes(), BLOCK_BYTES);
  const clientStart = scratchStart + RAW_DEVICES_SCRATCH_BYTES;
  const clientBytes = BufferPool.regionBytes(CLIENT_BUFFER_CLASSES);
  const networkStart = alignUp(clientStart + clientBytes, BLOCK_BYTES);
  const nodeStart = alignUp(networkStart + (network ? NETWORK_MEMORY_BYTES : 0), BLOCK_BYTES);
  // Of other shards of the node: what their engines need for themselves.
  const engineMemory = nodeStart + nodeMemoryBytes(storesMax, NODE_VOLUMES_MAX, 'elsewhere');
  // Behind all else: they are not registered, take memory as they come, and no other shard has to address them.
  const tables = tableRange(engineMemory + engineShards * ENGINES_THERE_BYTES, tablesBytes, storesMax);
  return { scratchStart, clientStart, clientBytes, networkStart, nodeStart, engineMemory, tables };
}

class Shard implements Watched {
  private readonly start: ShardStart;
  private readonly engine: Engine;
  private readonly service: NbdService;
  private readonly rings: RingService;
  private readonly targets = new Targets();
  private readonly servers: Servers;
  private readonly devices: RawDevices;
  private readonly loads: Loads;
  private readonly node: ShardNode;
  private readonly stopped: () => void;

  constructor(start: ShardStart, stopped: () => void) {
    this.start = start;
    this.stopped = stopped;
    const { kind, shards, storesMax, storesExpected, engineShards } = start;
    const places = placesOf(start);
    const { scratchStart, clientStart, clientBytes, networkStart, nodeStart, engineMemory, tables } = places;
    const sharedBytes = tables.memoryStart;
    const engine = new Engine({
      kind,
      engines: shards,
      blocking: true,
      arenaBytes: tables.memoryStart + tables.bytes,
      payloadBytes: nodeStart,
      // Memory of devices that never come is not touched, so that it costs nothing; payloads of other nodes are registered.
      registeredBytesMax: nodeStart + nodeMemoryBytes(storesExpected, VOLUMES_REGISTERED, 'elsewhere'),
      operationsMax: SHARD_OPERATIONS_MAX,
      filesMax: SHARD_FILES_MAX,
      onWake: () => {
        this.rings.drain();
        this.node.drain();
      },
    });
    this.engine = engine;
    const clientId = randomBytes(16).toString('hex');
    const watch = new Watch(engine, engine);
    const { targets } = this;
    const post = (message: AnswerMessage) => this.post(message);
    const ports: NetPorts = {
      completions: engine,
      memory: engine,
      transport: new UringTransport(engine),
      clock: engine,
    };
    const service = new NbdService(ports, watch, 0);
    this.service = service;
    const servers = new Servers({
      engine,
      ports,
      service,
      onEnd: (server) => this.node.detach(server),
      onLate: () => this.node.endHolding(),
    });
    this.servers = servers;
    const common = { completions: engine, memory: engine, clock: engine, watch };
    const nodePorts = { ...common, clientId, memoryStart: nodeStart, storesMax, tables, volumesMax: NODE_VOLUMES_MAX };
    const onTrouble = (text: string) => post({ event: { kind: 'device-failed', text } });
    const onClusterTrouble = (text: string) => post({ event: { kind: 'cluster-trouble', text } });
    const network = new NodeNetwork({
      ...{ engine, ports, watch, clientId, memoryStart: networkStart, onTrouble, onClusterTrouble },
    });
    this.node = new ShardNode({ engine, watch, ports: nodePorts, network, targets, servers, engineShards, post });
    this.devices = new RawDevices({ engine, targets, servers, post, scratchStart });
    this.loads = new Loads(engine, watch, targets, service.resources);
    this.rings = new RingService(engine, engine, watch, {
      requests: start.requests,
      replies: start.replies,
      memoryStart: clientStart,
      memoryBytes: clientBytes,
      volume: (number) => targets.get(number)?.volume,
      wake: () => engine.wake(start.clientEngine),
      onBroken: (broken) => this.post({ broken }),
    });
    watch.add(this);
    start.port.on('message', (message: CallMessage) => void this.handle(message));
    this.post({
      ready: { engine: engine.id, arena: engine.bytes, clientMemory: clientStart, sharedBytes, engineMemory, threadId },
    });
  }

  private post(message: AnswerMessage): void {
    this.start.port.postMessage(message);
  }

  private async handle({ id, name, request }: CallMessage): Promise<void> {
    try {
      this.post({ id, response: await this.dispatch(name, request) });
    } catch (error) {
      this.post({ id, error: toStrakeError(error).toWire() });
    }
    if (name === 'stop') this.stopped();
  }

  private dispatch(name: ShardCallName, request: unknown): unknown {
    switch (name) {
      case 'open':
        return this.devices.open(request as OpenMessage);
      case 'close':
        return this.devices.close((request as ShardCalls['close']['request']).device);
      case 'listen':
        return this.devices.listen(request as ListenMessage);
      case 'unlisten':
        return this.unlisten(request as ShardCalls['unlisten']['request']);
      case 'format':
        return this.devices.format(request as FormatMessage);
      case 'openStore':
        return this.node.openStore(request as OpenStoreMessage);
      case 'connect':
        return this.node.connect(request as ConnectMessage);
      case 'loseShard':
        return this.node.lose(request as LoseShardMessage);
      case 'network':
        return this.node.begin(request as NetworkMessage);
      case 'joinCluster':
        return this.node.join(request as JoinMessage);
      case 'managerCall':
        return this.node.callManager(request as ManagerCallMessage);
      case 'attachVolume':
        return this.node.attachVolume(request as ShardCalls['attachVolume']['request']);
      case 'detachVolume':
        return this.node.detachVolume(request as ShardCalls['detachVolume']['request']);
      case 'adoptVolumes':
        return this.node.adopt();
      case 'takeBackVolumes':
        return this.node.takeBackVolumes();
      case 'manage':
        throw new StrakeError('INVALID_ARGUMENT', 'a manager has a worker of its own');
      case 'listenNode':
        return this.node.listen(request as ListenNodeMessage);
      case 'closeNode':
        return this.node.close();
      case 'stats':
        return this.stats();
      case 'injectFaults':
        return this.injectFaults((request as ShardCalls['injectFaults']['request']).rules);
      case 'load':
        return this.loads.begin(request as LoadMessage);
      case 'stop':
        return this.stop((request as ShardCalls['stop']['request']).graceMs);
      case 'findVolume':
        return this.node.findVolume((request as ShardCalls['findVolume']['request']).name);
      default:
        return this.node.call(name, request as NodeCalls[typeof name]['request']);
    }
  }

  private async unlisten({ server, drainMs, last = false }: ShardCalls['unlisten']['request']): Promise<null> {
    await this.servers.end(server, drainMs, last);
    return null;
  }

  /** Rules apply from now on to all devices of the shard, before those that were there. */
  private injectFaults(rules: readonly FaultRule[]): null {
    this.engine.native.injectFaults([...rules]);
    return null;
  }

  private stats(): ShardStats {
    const status = this.engine.native.status();
    return {
      engine: status?.kind ?? 'closed',
      registeredBytes: status?.registeredBytes ?? 0,
      arenaBytes: this.engine.bytes.length,
      operationsInFlight: status?.inFlight ?? 0,
      files: status?.files ?? 0,
      batches: this.engine.batches,
      nbd: { ...this.service.stats() },
      devices: this.devices.fences(),
    };
  }

  /** Watches for device operations that never end, as long as there may be any. */
  get busy(): boolean {
    return this.service.busy || this.rings.busy || this.loads.busy || this.node.busy;
  }

  tick(): void {
    this.engine.native.giveUpOverdue(this.node.fenceAfterMs());
    this.devices.noteFences();
  }

  /** Ends everything. Returns the operations that have not ended: they may still use this shard's memory. */
  private async stop(graceMs: number): Promise<number> {
    await this.servers.endAll(graceMs);
    await this.node.close().catch(() => {});
    this.start.port.removeAllListeners('message');
    return this.engine.close(STOP_GRACE_MS);
  }
}

/** Serves until told to stop. */
export default function serve(start: ShardStart): Promise<void> {
  return new Promise((resolve) => {
    const stopped = () => {
      start.port.close();
      resolve();
    };
    if (start.guest === null) new Shard(start, stopped);
    else new DeviceShard(start, start.guest, stopped);
  });
}
