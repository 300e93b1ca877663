/**
 * The program of a shard worker: where engine, volumes and protocols are put together.
 *
 * A shard owns devices, connections and one engine. It runs as one task of the worker pool that ends when the shard is told to
 * stop; control messages arrive on a port, and are answered in the order in which they are done.
 *
 * ```text
 *   arena   │ connections, receive buffers, pool       │ scratch of volumes │ buffers of the in-process client │ node │
 * ```
 */

import { randomBytes } from 'node:crypto';
import { threadId } from 'node:worker_threads';
import type { VolumeEngine } from './client/volume-engine.js';
import { BufferPool } from './core/buffer-pool.js';
import { StrakeError, toStrakeError } from './core/errors.js';
import {
  BLOCK_BYTES,
  CLIENT_BUFFER_CLASSES,
  DRAIN_MS,
  IO_TIMEOUT_MS,
  SHARD_DEVICES_MAX,
  SHARD_FILES_MAX,
  SHARD_OPERATIONS_MAX,
  STOP_GRACE_MS,
} from './core/limits.js';
import { alignUp } from './core/units.js';
import { Watch, type Watched } from './core/watch.js';
import { NbdExport } from './nbd/export.js';
import { NbdServer } from './nbd/server.js';
import { NbdService } from './nbd/service.js';
import { ConnectionResources, type NetPorts } from './net/connection-resources.js';
import { FENCE_OPEN } from './ports/device.js';
import type { Volume } from './ports/volume.js';
import { RAW_VOLUME_SCRATCH_BYTES, RawVolume } from './raw/raw-volume.js';
import { type NodeCalls, NodeService } from './serve/node-service.js';
import { RingService } from './serve/ring-service.js';
import type { Superblock } from './store/format/superblock.js';
import { formatDevice } from './store/opening/format-device.js';
import { UringDevice } from './uring/device.js';
import { Engine } from './uring/engine.js';
import { type FaultRule, nativeError } from './uring/native.js';
import { type Listener, listen, UringTransport } from './uring/transport.js';
import { type NodePorts, nodeMemoryBytes } from './volumes/storage-node.js';
import { Load } from './worker/load.js';
import type {
  AnswerMessage,
  CallMessage,
  FormatMessage,
  ListenMessage,
  ListenNodeMessage,
  LoadMessage,
  LoadResult,
  OpenMessage,
  OpenStoreMessage,
  ShardCallName,
  ShardCalls,
  ShardStart,
  VolumeFacts,
} from './worker/messages.js';
import type { ShardStats } from './worker/shard-stats.js';

/** Something that is open under a number: a raw device, or a volume of the node. */
type Target = OpenRecord | { readonly volume: VolumeEngine; readonly name: string };

interface OpenRecord {
  readonly device: UringDevice;
  readonly volume: RawVolume;
  readonly scratch: number;
  fence: number;
}

/** A server, what it serves, and where it listens. */
interface Serving {
  readonly server: NbdServer;
  /** What it serves; null for all volumes of the node. */
  readonly volume: RawVolume | null;
  readonly listener: Listener;
  /** Resolves when it has been closed, once that has begun. */
  ended: Promise<void> | null;
}

class Shard implements Watched {
  private readonly start: ShardStart;
  private readonly engine: Engine;
  private readonly watch: Watch;
  private readonly ports: NetPorts;
  private readonly service: NbdService;
  private readonly rings: RingService;
  /** By number. None is given again: what still waits in the rings for one that is gone must not reach another. */
  private readonly targets = new Map<number, Target>();
  private nextTarget = 0;
  private readonly nodePorts: NodePorts;
  private node: NodeService | null = null;
  private nodeClosed = false;
  private readonly freeScratch: number[] = [];
  private readonly servers: (Serving | undefined)[] = [];
  private loads = 0;
  private readonly stopped: () => void;

  constructor(start: ShardStart, stopped: () => void) {
    this.start = start;
    this.stopped = stopped;
    const scratchStart = alignUp(ConnectionResources.regionBytes(), BLOCK_BYTES);
    const clientStart = scratchStart + SHARD_DEVICES_MAX * RAW_VOLUME_SCRATCH_BYTES;
    const clientBytes = BufferPool.regionBytes(CLIENT_BUFFER_CLASSES);
    const { kind, shards, storesMax, storesExpected } = start;
    const payloadBytes = clientStart + clientBytes;
    const nodeStart = alignUp(payloadBytes, BLOCK_BYTES);
    const engine = new Engine({
      kind,
      engines: shards,
      blocking: true,
      arenaBytes: nodeStart + nodeMemoryBytes(storesMax),
      payloadBytes,
      // Memory of devices that never come is not touched, so that it costs nothing.
      registeredBytesMax: nodeStart + nodeMemoryBytes(storesExpected),
      operationsMax: SHARD_OPERATIONS_MAX,
      filesMax: SHARD_FILES_MAX,
      onWake: () => this.rings.drain(),
    });
    this.engine = engine;
    for (let index = SHARD_DEVICES_MAX - 1; index >= 0; index -= 1) {
      this.freeScratch.push(scratchStart + index * RAW_VOLUME_SCRATCH_BYTES);
    }
    const clientId = randomBytes(16).toString('hex');
    this.watch = new Watch(engine, engine);
    const common = { completions: engine, memory: engine, clock: engine, watch: this.watch };
    this.nodePorts = { ...common, clientId, memoryStart: nodeStart, storesMax };
    this.ports = { completions: engine, memory: engine, transport: new UringTransport(engine), clock: engine };
    this.service = new NbdService(this.ports, this.watch, 0);
    this.rings = new RingService(engine, engine, this.watch, {
      requests: start.requests,
      replies: start.replies,
      memoryStart: clientStart,
      memoryBytes: clientBytes,
      volume: (number) => this.targets.get(number)?.volume,
      wake: () => engine.wake(start.clientEngine),
      onBroken: (broken) => this.post({ broken }),
    });
    this.watch.add(this);
    start.port.on('message', (message: CallMessage) => void this.handle(message));
    this.post({ ready: { engine: engine.id, arena: engine.bytes, clientMemory: clientStart, threadId } });
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
        return this.open(request as OpenMessage);
      case 'close':
        return this.close((request as ShardCalls['close']['request']).device);
      case 'listen':
        return this.listen(request as ListenMessage);
      case 'unlisten':
        return this.unlisten(request as ShardCalls['unlisten']['request']);
      case 'format':
        return this.format(request as FormatMessage);
      case 'openStore':
        return this.openStore(request as OpenStoreMessage);
      case 'listenNode':
        return this.listenNode(request as ListenNodeMessage);
      case 'closeNode':
        return this.closeNode();
      case 'stats':
        return this.stats();
      case 'injectFaults':
        return this.injectFaults((request as ShardCalls['injectFaults']['request']).rules);
      case 'load':
        return this.load(request as LoadMessage);
      case 'stop':
        return this.stop((request as ShardCalls['stop']['request']).graceMs);
      case 'findVolume':
        return this.findVolume((request as ShardCalls['findVolume']['request']).name);
      default:
        return this.openNode().call(name, request as NodeCalls[typeof name]['request']);
    }
  }

  // ---------------------------------------------------------------- the node

  private openNode(): NodeService {
    // A second one would use the memory, and the devices, of the one that is being closed.
    if (this.nodeClosed) throw new StrakeError('CLOSED', 'the node is closed');
    if (this.node === null) {
      this.node = new NodeService(this.nodePorts, {
        onEvent: (event) => this.post({ event }),
        onDelete: (volume) => {
          const number = this.numberOf(volume);
          if (number !== undefined) this.targets.delete(number);
        },
      });
    }
    return this.node;
  }

  private async format({ handle, geometry, options }: FormatMessage): Promise<Superblock> {
    const { engine } = this;
    // Formatting needs little memory, and what is opened raw has enough of it.
    const scratch = this.freeScratch.pop();
    if (scratch === undefined) throw new StrakeError('BUSY', `a shard drives at most ${SHARD_DEVICES_MAX} devices`);
    const device = new UringDevice(engine, engine.native.adoptDevice(handle), geometry);
    const { completions, memory } = this.nodePorts;
    try {
      return await formatDevice({ completions, memory, device, memoryStart: scratch }, options);
    } finally {
      this.freeScratch.push(scratch);
      device.close();
    }
  }

  private async openStore(message: OpenStoreMessage): Promise<{ deviceId: string }> {
    const { engine } = this;
    const { handle, geometry, path, clusterId } = message;
    const device = new UringDevice(engine, engine.native.adoptDevice(handle), geometry);
    // A device that does not answer is to be given up while it is opened, too.
    this.stores.push(device);
    this.watch.start();
    try {
      const entry = await this.openNode().node.open(device, clusterId === undefined ? { path } : { path, clusterId });
      return { deviceId: entry.superblock.deviceId };
    } catch (error) {
      this.stores.splice(this.stores.indexOf(device), 1);
      device.close();
      throw error;
    }
  }

  private readonly stores: UringDevice[] = [];

  private async findVolume(name: string): Promise<VolumeFacts> {
    const engine = await this.openNode().node.started(name);
    // Its deletion may have come right behind.
    if (!engine.serving) return this.findVolume(name);
    const { id, name: current, sizeBytes } = engine.record;
    const device = this.numberOf(engine) ?? this.addTarget({ volume: engine, name: current });
    return { device, id, name: current, sizeBytes };
  }

  private numberOf(volume: Volume): number | undefined {
    for (const [number, target] of this.targets) if (target.volume === volume) return number;
    return undefined;
  }

  private addTarget(target: Target): number {
    const number = this.nextTarget;
    this.nextTarget += 1;
    this.targets.set(number, target);
    return number;
  }

  private listenNode(message: ListenNodeMessage): ShardCalls['listenNode']['response'] {
    const listener = listen(this.engine, message.address);
    const { file, port } = listener;
    const server = new NbdServer(this.service, this.ports, file, [], message.connectionsMax);
    const number = freeIndex(this.servers);
    this.servers[number] = { server, volume: null, listener, ended: null };
    this.openNode().attach(server);
    return { server: number, port };
  }

  private async closeNode(): Promise<null> {
    const { node } = this;
    this.node = null;
    this.nodeClosed = true;
    if (node === null) return null;
    node.node.endWork();
    await Promise.all(this.servings(({ volume }) => volume === null).map((one) => this.end(one, DRAIN_MS)));
    for (const [number, target] of this.targets) if ('name' in target) this.targets.delete(number);
    const { length } = this.stores;
    try {
      await node.node.close();
    } finally {
      this.stores.splice(0, length);
    }
    return null;
  }

  // ---------------------------------------------------------------- raw devices

  private open(message: OpenMessage): ShardCalls['open']['response'] {
    const { engine } = this;
    const scratch = this.freeScratch.pop();
    if (scratch === undefined) {
      throw new StrakeError('BUSY', `a shard drives at most ${SHARD_DEVICES_MAX} devices`);
    }
    try {
      const { handle, geometry, fence } = message;
      const file = handle === null ? engine.native.addNullDevice() : engine.native.adoptDevice(handle);
      if (fence > FENCE_OPEN) engine.native.fenceFile(file, fence);
      if (message.faults.length > 0) engine.native.injectFaults([...message.faults]);
      const device = new UringDevice(engine, file, geometry);
      // At once: whoever opens the device again after the death of this shard has to know.
      const onFailure = () => this.noteFence(record, number);
      const volume = new RawVolume(engine, engine, device, scratch, message.readOnly, onFailure);
      const record: OpenRecord = { device, volume, scratch, fence };
      const number = this.addTarget(record);
      return { device: number };
    } catch (error) {
      this.freeScratch.push(scratch);
      throw nativeError(error, 'IO');
    }
  }

  private record(device: number): OpenRecord {
    const record = this.targets.get(device);
    if (record === undefined || 'name' in record) throw new StrakeError('CLOSED', 'the device is closed');
    return record;
  }

  private async close(device: number): Promise<null> {
    const record = this.record(device);
    this.targets.delete(device);
    // A server that went on would use the file number of the next device.
    await Promise.all(
      this.servings((serving) => serving.volume === record.volume).map((one) => this.end(one, DRAIN_MS)),
    );
    record.volume.close();
    this.engine.whenFree(record.scratch, RAW_VOLUME_SCRATCH_BYTES, () => this.freeScratch.push(record.scratch));
    return null;
  }

  private listen(message: ListenMessage): ShardCalls['listen']['response'] {
    const { volume } = this.record(message.device);
    const target = new NbdExport(message.name, message.description, volume, message.readOnly);
    const listener = listen(this.engine, message.address);
    const { file, port } = listener;
    const server = new NbdServer(this.service, this.ports, file, [target], message.connectionsMax);
    const number = freeIndex(this.servers);
    this.servers[number] = { server, volume, listener, ended: null };
    return { server: number, port };
  }

  private servings(wanted: (serving: Serving) => boolean): Serving[] {
    return this.servers.filter((serving) => serving !== undefined).filter(wanted);
  }

  /** Closes a server. Its number is not free before. */
  private end(serving: Serving, drainMs: number): Promise<void> {
    serving.ended ??= drain(serving, drainMs).then(() => {
      this.node?.detach(serving.server);
      this.servers[this.servers.indexOf(serving)] = undefined;
    });
    return serving.ended;
  }

  private async unlisten({ server, drainMs }: ShardCalls['unlisten']['request']): Promise<null> {
    const found = this.servers[server];
    if (found !== undefined) await this.end(found, drainMs);
    return null;
  }

  private load(message: LoadMessage): Promise<LoadResult> {
    const { device } = this.record(message.device);
    const { engine } = this;
    const { pool } = this.service.resources;
    this.loads += 1;
    this.watch.start();
    return new Promise<LoadResult>((resolve) => new Load(engine, engine, pool, device, message, resolve)).finally(
      () => {
        this.loads -= 1;
      },
    );
  }

  /** Rules apply from now on to all devices of the shard, before those that were there. */
  private injectFaults(rules: readonly FaultRule[]): null {
    this.engine.native.injectFaults([...rules]);
    return null;
  }

  private stats(): ShardStats {
    const status = this.engine.native.status();
    const devices = [...this.targets].flatMap(([device, target]) =>
      'name' in target ? [] : [{ device, fence: target.device.fence() }],
    );
    return {
      engine: status?.kind ?? 'closed',
      registeredBytes: status?.registeredBytes ?? 0,
      arenaBytes: this.engine.bytes.length,
      operationsInFlight: status?.inFlight ?? 0,
      files: status?.files ?? 0,
      batches: this.engine.batches,
      nbd: { ...this.service.stats() },
      devices,
    };
  }

  /** Watches for device operations that never end, as long as there may be any. */
  get busy(): boolean {
    // Volumes work by themselves too, at any time: resync, repair, checkpoints.
    return this.service.busy || this.rings.busy || this.loads > 0 || this.stores.length > 0;
  }

  tick(): void {
    this.engine.native.giveUpOverdue(IO_TIMEOUT_MS);
    for (const [number, target] of this.targets) if (!('name' in target)) this.noteFence(target, number);
  }

  private noteFence(record: OpenRecord, device: number): void {
    const fence = record.device.fence();
    if (fence <= record.fence) return;
    record.fence = fence;
    this.post({ fenced: { device, fence } });
  }

  /** Ends everything. Returns the operations that have not ended: they may still use this shard's memory. */
  private async stop(graceMs: number): Promise<number> {
    await Promise.all(this.servings(() => true).map((serving) => this.end(serving, graceMs)));
    await this.closeNode().catch(() => {});
    this.start.port.removeAllListeners('message');
    return this.engine.close(STOP_GRACE_MS);
  }
}

/** The first place that is free, or one more. */
function freeIndex(list: readonly (object | undefined)[]): number {
  const index = list.indexOf(undefined);
  return index < 0 ? list.length : index;
}

/** Takes a server's address away, and lets it finish what it has begun, for a while. */
function drain({ server, listener }: Serving, drainMs: number): Promise<void> {
  listener.removePath();
  return new Promise((resolve) => {
    const timer = setTimeout(() => server.abort(), drainMs);
    server.drain(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Serves until told to stop. */
export default function serve(start: ShardStart): Promise<void> {
  return new Promise((resolve) => {
    new Shard(start, () => {
      start.port.close();
      resolve();
    });
  });
}
