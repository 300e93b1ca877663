/** A storage node as a program that embeds Strake uses it: formatted devices, and volumes on them. */

import { sizeBytes as bytesOfSome, id, newVolumeName, path as pathRule, volumeName, whole } from '../core/arguments.js';
import { DEFAULT_TIMES } from '../core/cluster-times.js';
import { StrakeError } from '../core/errors.js';
import { CONNECTIONS_MAX, DEVICE_WAIT_MS, JOB_IDS_PER_WORKER } from '../core/limits.js';
import type { StreamAddress } from '../ports/transport.js';
import type { FaultRule } from '../uring/native.js';
import type { Adopted } from '../volumes/adoption.js';
import type { NodeSelf, ShardCalls } from '../worker/messages.js';
import type { ShardLink } from '../worker/shard-pool.js';
import { checkSignal } from './block-io.js';
import { DeviceChanges } from './device-changes.js';
import { publish } from './events.js';
import { newId } from './format.js';
import { addressOf, SERVE_NODE, type ServeNodeOptions } from './nbd-server.js';
import { clusterAddress } from './node-addresses.js';
import { checkNode } from './node-checks.js';
import { NodeDevices } from './node-devices.js';
import { deviceOf, pathsOf, volumeOf } from './node-report.js';
import { CREATE_VOLUME, OPEN_NODE, SCRUB, START_VOLUME } from './node-rules.js';
import { INTERNAL, NodeServer } from './node-server.js';
import type {
  CreateVolumeOptions,
  NodeAddress,
  NodeDevice,
  NodeJob,
  NodeStatus,
  NodeVolumeStatus,
  OpenNodeOptions,
} from './node-types.js';
import { type NodeVolume, VolumeHandles } from './node-volume.js';
import { Runtime, type Tenant } from './runtime.js';
import { tableMemory } from './table-memory.js';
import { unavailableError } from './unavailable.js';

/**
 * Opens formatted devices as a node, and starts their volumes.
 *
 * A device that cannot be opened, or does not answer, does not keep the others from service: `status().unavailable` tells why,
 * and what to do. If none can be opened, or one cannot with `strict`, the error is its: `ERR_STRAKE_NOT_FORMATTED`,
 * `ERR_STRAKE_WRONG_DEVICE` for clones and devices of other clusters, `ERR_STRAKE_DAMAGED`, as of `openDevice`, or
 * `ERR_STRAKE_NO_DEVICE` if each has another; nothing stays open then. A volume that cannot be started does not keep the
 * others from it: its state says why. The node keeps the process alive until it is closed.
 */
export async function openNode(options: OpenNodeOptions): Promise<Node> {
  return await openChecked(OPEN_NODE.take(options, 'openNode: options'));
}

async function openChecked(options: OpenNodeOptions): Promise<Node> {
  checkSignal(options.signal);
  // A node has shards of its own: volumes are on the first, and devices on all of them.
  const { devices, peers = [], segments } = options;
  const network = segments !== undefined || peers.length > 0 || options.manager !== undefined;
  const tablesBytes = tableMemory(options.tableMemory);
  const size = { devices: devices.length, shards: options.shards, network, tablesBytes };
  const runtime = await Runtime.startForNode(size, (event) => options.onEvent?.(event));
  try {
    const shard = 0;
    const node = new Node(INTERNAL, runtime, shard, options);
    try {
      await node.start(runtime.link(shard), options.signal);
    } catch (error) {
      node.parts.close();
      await runtime
        .link(shard)
        .call('closeNode', null)
        .catch(() => {});
      throw error;
    }
    runtime.addServer(node);
    return node;
  } catch (error) {
    await runtime.close();
    throw error;
  }
}

/** An open node. Made by `openNode`. */
export class Node implements Tenant {
  readonly shard: number;
  private readonly runtime: Runtime;
  private readonly options: OpenNodeOptions;
  /** Its devices. @internal */
  readonly parts: NodeDevices;
  private readonly deviceChanges: DeviceChanges;
  private readonly servers = new Set<NodeServer>();
  private readonly handles = new VolumeHandles(this);
  /** Workers that have ended. */
  private lives = 0;
  private home: ShardLink | null = null;
  /** Where it serves segments; null if it does not. */
  segmentsAddress: StreamAddress | null = null;
  private state: 'open' | 'closed' | StrakeError = 'open';
  private closed: Promise<void> | null = null;

  /** @internal */
  constructor(key: symbol, runtime: Runtime, shard: number, options: OpenNodeOptions) {
    if (key !== INTERNAL) throw new TypeError('nodes are made by openNode');
    this.runtime = runtime;
    this.shard = shard;
    this.options = options;
    // Clients of a cluster read under leases of its members; those of a node that decides by itself need none. A manager may tell
    // another length later.
    const leaseMs = options.manager === undefined ? 0 : DEFAULT_TIMES.leaseMs;
    const { storesMax } = runtime;
    const about = { cluster: options.clusterId ?? '', leaseMs, storesMax };
    this.parts = new NodeDevices(about, (event) => options.onEvent?.(event));
    this.deviceChanges = new DeviceChanges(this, this.parts);
  }

  /** @internal */
  get owner(): Runtime {
    return this.runtime;
  }

  /** Of all its devices; 32 hexadecimal digits. */
  get clusterId(): string {
    return this.parts.cluster;
  }

  /** @internal */
  async start(link: ShardLink, signal?: AbortSignal): Promise<void> {
    this.home = link;
    await this.injectFaults(this.options.faults ?? []);
    const { devices: paths, skipUnformatted = false, deviceWaitMs: waitMs = DEVICE_WAIT_MS } = this.options;
    await this.parts.start(link, paths, { waitMs, skipUnformatted, signal });
    const [missing] = this.parts.unavailable();
    if (this.options.strict && missing !== undefined) throw unavailableError(missing);
    await this.beginNetwork(link);
    await this.assemble(link, { without: new Map(Object.entries(this.options.without ?? {})) });
    this.parts.use(link);
  }

  /** Reaches the managers of its cluster, or other nodes, and serves its segments. */
  private async beginNetwork(link: ShardLink): Promise<void> {
    const { peers = [], segments, manager, insecureNetwork = false } = this.options;
    if (segments === undefined && peers.length === 0 && manager === undefined) return;
    const keyFile = this.needed('keyFile', 'the file with its key');
    const { clusterId } = this;
    // The port that the system has chosen stays the same in the next life of the worker.
    const given = segments === undefined ? null : clusterAddress(segments, insecureNetwork);
    const address = this.segmentsAddress ?? given;
    const reach = (one: NodeAddress) => clusterAddress(one, insecureNetwork);
    const { port } =
      manager === undefined
        ? await link.call('network', { keyFile, clusterId, peers: peers.map(reach), segments: address })
        : await link.call('joinCluster', {
            ...{ keyFile, clusterId, managers: manager.map(reach), self: this.self(), segments: address },
          });
    if (address !== null)
      this.segmentsAddress = 'path' in address ? address : { ...address, port: port ?? address.port };
  }

  /** What a node of a cluster has to be given. */
  private needed<K extends 'keyFile' | 'nodeId' | 'name'>(key: K, what: string): NonNullable<OpenNodeOptions[K]> {
    const value = this.options[key];
    if (value !== undefined) return value;
    throw new StrakeError('INVALID_ARGUMENT', `openNode: a node of a cluster needs ${what}`, {
      remedy: `Give ${key}.`,
    });
  }

  private self(): NodeSelf {
    const { labels = {}, segments, peers } = this.options;
    if (segments === undefined || peers !== undefined) {
      throw new StrakeError(
        'INVALID_ARGUMENT',
        'openNode: clients reach a node of a cluster, and managers tell where',
        {
          remedy: 'Give segments, and no peers.',
        },
      );
    }
    return {
      nodeId: this.needed('nodeId', 'an id that stays the same'),
      name: this.needed('name', 'a name'),
      labels: Object.entries(labels).map(([name, value]) => ({ name, value })),
    };
  }

  /** Looks for volumes. A node that serves segments leaves them to others. */
  private async assemble(link: ShardLink, request: ShardCalls['assemble']['request']): Promise<void> {
    if (this.options.segments === undefined) await link.call('assemble', request);
  }

  /** Lets operations of its devices fail from now on, for tests, until its worker is replaced. @internal */
  async injectFaults(rules: readonly FaultRule[]): Promise<void> {
    if (rules.length === 0) return;
    const { link } = this;
    await Promise.all([link, ...this.runtime.otherLinks()].map((one) => one.call('injectFaults', { rules })));
  }

  /** @internal */
  get link(): ShardLink {
    if (this.state === 'closed') throw new StrakeError('CLOSED', 'the node is closed');
    if (this.state !== 'open') throw this.state;
    const link = this.runtime.link(this.shard);
    if (link !== this.home) throw new StrakeError('WORKER_DIED', 'the node is being opened again by a new worker');
    return link;
  }

  /** Everything at once: one verdict, and the checks that led to it. */
  async status(): Promise<NodeStatus> {
    const { devices, remote, volumes, awaited } = await this.link.call('nodeStatus', null);
    const listed = devices.map((device) => deviceOf(this.parts.facts, device));
    const paths = pathsOf(this.parts.facts, remote);
    const reported = volumes.map((volume) => volumeOf(paths, volume));
    const { doubled } = this.parts;
    const others = { unavailable: this.parts.unavailable(), doubled: [...doubled], awaited };
    const found = checkNode(listed, reported, others);
    const about = { clusterId: this.clusterId, tableMemory: this.runtime.tablesBytes };
    return { ...found, ...about, devices: listed, remote, ...others, volumes: reported };
  }

  async devices(): Promise<NodeDevice[]> {
    return [...(await this.status()).devices];
  }

  async volumes(): Promise<NodeVolumeStatus[]> {
    return [...(await this.status()).volumes];
  }

  /** Makes a volume, which takes space only for what is written to it. */
  async createVolume(options: CreateVolumeOptions): Promise<NodeVolume> {
    const {
      name,
      sizeBytes,
      layout = 'single',
      copies = layout === 'mirror' ? 2 : 1,
    } = CREATE_VOLUME.take(options, 'createVolume: options');
    const spec = { id: newId(), name, sizeBytes, layout, copies, createdMs: Date.now() };
    await this.link.call('createVolume', spec);
    const { link } = this;
    const facts = await link.call('findVolume', { name: spec.id });
    const handle = this.handles.of(name);
    handle.adopt(link, facts);
    return handle;
  }

  /**
   * A volume to read and write, by its name or id. Its operations reject with `ERR_STRAKE_NO_VOLUME` if there is none, and
   * with `ERR_STRAKE_NAME_CONFLICT` if several have this name and none is served.
   */
  volume(nameOrId: string): NodeVolume {
    return this.handles.of(volumeName.take(nameOrId, 'volume: nameOrId'));
  }

  /** Starts a volume although devices are missing that may hold newer data: they are named, and count as lost. */
  async startVolume(nameOrId: string, options: { readonly without: readonly string[] }): Promise<void> {
    volumeName.take(nameOrId, 'startVolume: nameOrId');
    const { without } = START_VOLUME.take(options, 'startVolume: options');
    await this.link.call('startVolume', { name: nameOrId, without });
  }

  /** Makes a volume larger. Clients see it when they connect again. */
  async growVolume(nameOrId: string, sizeBytes: number): Promise<void> {
    volumeName.take(nameOrId, 'growVolume: nameOrId');
    bytesOfSome.take(sizeBytes, 'growVolume: sizeBytes');
    const grown = await this.link.call('growVolume', { name: nameOrId, sizeBytes });
    await this.handles.refresh(grown.id);
  }

  /**
   * Gives a volume another name, whether it is started or not. Clients that are connected, and programs that have used it, go
   * on with it; others find it under its new name. Rejects with `ERR_STRAKE_EXISTS` if another volume has that name.
   */
  async renameVolume(nameOrId: string, newName: string): Promise<void> {
    volumeName.take(nameOrId, 'renameVolume: nameOrId');
    newVolumeName.take(newName, 'renameVolume: newName');
    const renamed = await this.link.call('renameVolume', { name: nameOrId, newName });
    this.handles.onRenamed(renamed.id, newName);
  }

  /** Deletes a volume and its data. Rejects with `ERR_STRAKE_VOLUME_BUSY` while clients are connected to it. */
  async deleteVolume(nameOrId: string): Promise<void> {
    volumeName.take(nameOrId, 'deleteVolume: nameOrId');
    const deleted = await this.link.call('deleteVolume', { name: nameOrId });
    this.handles.onDeleted(deleted.id);
  }

  /**
   * Opens a formatted device of this cluster: volumes that know it bring it up to date, new ones may use it. If it is open,
   * volumes in which it is not current begin to bring it up to date again.
   */
  async addDevice(path: string): Promise<NodeDevice> {
    pathRule.take(path, 'addDevice: path');
    return this.deviceChanges.add(path);
  }

  /**
   * The id of the device that somebody names: by its id, by at least four digits with which no other id begins, by its label, or
   * by any path that leads to it, which is absolute. Throws `ERR_STRAKE_NO_DEVICE`.
   */
  async findDevice(name: string, path = name): Promise<string> {
    pathRule.take(name, 'findDevice: name');
    pathRule.take(path, 'findDevice: path');
    return this.deviceChanges.find(name, path);
  }

  /** Puts a newly formatted device in the place of one that is lost. Rebuilding begins at once; resolves to its jobs. */
  async replaceDevice(deviceId: string, path: string): Promise<NodeJob[]> {
    id.take(deviceId, 'replaceDevice: deviceId');
    pathRule.take(path, 'replaceDevice: path');
    return this.deviceChanges.replace(deviceId, path);
  }

  /** Lets go of a device. Rejects with `ERR_STRAKE_VOLUME_BUSY` while a volume writes to it. */
  async removeDevice(deviceId: string): Promise<void> {
    id.take(deviceId, 'removeDevice: deviceId');
    await this.deviceChanges.remove(deviceId);
  }

  /**
   * Gives up a device that is lost for good: volumes that were deleted while it was away no longer wait for it. Returns how
   * many did. Rejects with `ERR_STRAKE_VOLUME_BUSY` if it is open. A volume that has a copy on it keeps its place:
   * `replaceDevice` gives that to another.
   */
  async forgetDevice(deviceId: string): Promise<number> {
    id.take(deviceId, 'forgetDevice: deviceId');
    return (await this.link.call('giveUp', { deviceId })).volumes;
  }

  /**
   * Begins to read everything in a volume, and to repair what does not match its checksum. Resolves to the job when it has
   * begun. Rejects with `ERR_STRAKE_VOLUME_BUSY` if another one does so.
   */
  async scrub(nameOrId: string, options: { readonly bytesPerSecond?: number } = {}): Promise<NodeJob> {
    volumeName.take(nameOrId, 'scrub: nameOrId');
    const { bytesPerSecond = 0 } = SCRUB.take(options, 'scrub: options');
    return this.link.call('scrub', { name: nameOrId, bytesPerSecond });
  }

  /** What goes on in the background, and the last 64 jobs that have ended, in the order of their beginnings. */
  async jobs(): Promise<NodeJob[]> {
    return this.link.call('jobs', null);
  }

  /**
   * Ends a job, and resolves to what it was like then; one that has ended stays as it is. A member that was brought up to
   * date is offline afterwards, until `addDevice` is called for it. Rejects with `ERR_STRAKE_NO_JOB`.
   */
  async cancelJob(jobId: number): Promise<NodeJob> {
    return this.link.call('cancelJob', { id: whole(1).take(jobId, 'cancelJob: id') });
  }

  /** Ends jobs and other work that may take long, and refuses more: the node is about to be closed. @internal */
  async endWork(): Promise<void> {
    if (this.state !== 'open' || this.closed !== null) return;
    // A worker that has ended works no more.
    await this.runtime
      .link(this.shard)
      .call('endWork', null)
      .catch(() => {});
  }

  /**
   * Hands the volumes that this node of a cluster decides about by itself to its managers. Those that cannot be handed over
   * stay as they are; a call that a crash or an error cuts off is completed by another one.
   */
  adoptVolumes(): Promise<Adopted> {
    return this.link.call('adoptVolumes', null);
  }

  /** Takes back the volumes of its cluster that lie on this node alone, likewise. */
  takeBackVolumes(): Promise<Adopted> {
    return this.link.call('takeBackVolumes', null);
  }

  /** Serves all volumes over NBD, each under its name, also those that are made later. */
  async serve(options: ServeNodeOptions): Promise<NodeServer> {
    const checked = SERVE_NODE.take(options, 'serve: options');
    const address = addressOf(checked);
    const message = { address, connectionsMax: checked.connectionsMax ?? CONNECTIONS_MAX };
    const { link } = this;
    const { server, port } = await link.call('listenNode', message);
    const actual = 'path' in address ? address : { host: address.host, port: port ?? address.port };
    const handle = new NodeServer(INTERNAL, this, { ...message, address: actual }, link, server);
    this.servers.add(handle);
    return handle;
  }

  /** @internal */
  dropServer(server: NodeServer): void {
    this.servers.delete(server);
  }

  /** Opens everything again on a new shard, as after a crash. @internal */
  async restore(link: ShardLink): Promise<void> {
    if (this.state !== 'open') return;
    await this.parts.restore(link);
    if (this.state !== 'open') return;
    this.lives += 1;
    await this.beginNetwork(link);
    await this.assemble(link, { without: new Map(), jobsAbove: this.lives * JOB_IDS_PER_WORKER });
    this.home = link;
    this.parts.use(link);
    for (const server of [...this.servers]) {
      await server.restore(link).catch((error: StrakeError) => {
        // The volumes are there all the same: for programs, and at other addresses.
        if (error.code === 'ERR_STRAKE_WORKER_DIED') throw error;
        publish({ type: 'server-lost', address: server.address, error });
      });
    }
  }

  /** Opens the devices again that another shard had, which has been replaced. @internal */
  async restorePart(shard: number): Promise<void> {
    if (this.state === 'open' && this.home !== null) await this.parts.restoreShard(this.home, shard);
  }

  /** @internal */
  lose(error: StrakeError): void {
    if (this.state === 'open') this.state = error;
  }

  /**
   * Closes servers, finishes what is in flight, and closes volumes and devices in order. Rejects with the first error;
   * everything is closed all the same. Idempotent.
   */
  close(): Promise<void> {
    this.closed ??= this.end();
    return this.closed;
  }

  private async end(): Promise<void> {
    const ended = this.endWork();
    const usable = this.state === 'open';
    this.state = 'closed';
    this.parts.close();
    await ended;
    const handles = this.handles.all();
    const endings = await Promise.allSettled([...this.servers].map((server) => server.close()));
    // The rings and the calls are two ways to the shard: what was put into the one need not arrive before what follows in
    // the other.
    await Promise.all(handles.map((handle) => handle.idle()));
    for (const handle of handles) handle.forget();
    this.runtime.removeServer(this);
    try {
      if (usable) await this.runtime.link(this.shard).call('closeNode', null);
    } catch (error) {
      // A worker that has ended has closed everything.
      if (!(error instanceof StrakeError && error.code === 'ERR_STRAKE_WORKER_DIED')) throw error;
    } finally {
      await this.runtime.close();
    }
    for (const ending of endings) if (ending.status === 'rejected') throw ending.reason;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
