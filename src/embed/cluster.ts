/**
 * A client of a cluster: what its managers know, and volumes that it opens to read and write, whose data it exchanges with the
 * nodes themselves.
 */

import {
  boolean,
  sizeBytes as bytesOfSome,
  callback,
  fields,
  id,
  list,
  made,
  newVolumeName,
  oneOf,
  optional,
  options as optionsOf,
  path as pathRule,
  signal,
  text,
  volumeName,
  whole,
} from '../core/arguments.js';
import { TIME_CHANGES } from '../core/cluster-times.js';
import { StrakeError } from '../core/errors.js';
import { CONNECTIONS_MAX, DRAIN_MS, LOST_DEVICES_MAX, VOLUME_NAME_BYTES_MAX } from '../core/limits.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type {
  ClusterEvent,
  ClusterStatus,
  ClusterTimes,
  DeviceListed,
  ManagerCalls,
  NodeListed,
  VolumeListed,
  WithoutAnswer,
} from '../ports/manager.js';
import { managerCalls } from '../worker/manager-calls.js';
import type { ShardLink } from '../worker/shard-pool.js';
import { checkSignal } from './block-io.js';
import { newId } from './format.js';
import { MANAGERS_MAX, ON_NODES_MAX } from './limits.js';
import { addressOf, CLOSE_SERVER, type CloseServerOptions, SERVE_NODE, type ServeNodeOptions } from './nbd-server.js';
import { clusterAddress, NODE_ADDRESS } from './node-addresses.js';
import { INTERNAL, NodeServer } from './node-server.js';
import type { NodeAddress, NodeEvent } from './node-types.js';
import { NodeVolume, VolumeHandles } from './node-volume.js';
import { Runtime, type Tenant } from './runtime.js';

export interface ConnectOptions {
  /** Where managers of the cluster are reached: they are tried in turn. */
  readonly manager: readonly NodeAddress[];
  /** The file with the key of the cluster, of mode 0600. */
  readonly keyFile: string;
  /** Reaches managers at addresses of other hosts; what is said there is not encrypted. */
  readonly insecureNetwork?: boolean;
  /** Told of what happens to volumes that are open. */
  readonly onEvent?: (event: NodeEvent) => void;
  readonly signal?: AbortSignal;
}

export interface CreateClusterVolumeOptions {
  readonly name: string;
  /** A multiple of 4096. */
  readonly sizeBytes: number;
  readonly layout?: 'single' | 'mirror';
  /** Copies of a mirror, 2 by default. */
  readonly copies?: number;
  /** Names or ids of the nodes that it is to lie on, as many as copies or more; by default any. */
  readonly on?: readonly string[];
}

export interface OpenVolumeOptions {
  /** Takes the right to write from a client that has it, and may be writing: it gets errors from then on. */
  readonly takeOver?: boolean;
  /**
   * Only reads it, beside whoever writes it and others that read, and sees what they have acknowledged. Writing fails with
   * `ERR_STRAKE_READ_ONLY`.
   */
  readonly readOnly?: boolean;
}

const CONNECT = fields<ConnectOptions>({
  manager: list(NODE_ADDRESS, 1, MANAGERS_MAX),
  keyFile: pathRule,
  insecureNetwork: optional(boolean),
  onEvent: optional(callback()),
  signal: optional(signal),
});
const CREATE = fields<CreateClusterVolumeOptions>({
  name: newVolumeName,
  sizeBytes: bytesOfSome,
  layout: optional(oneOf('single', 'mirror')),
  copies: optional(oneOf<number>(1, 2, 3)),
  on: optional(list(text(1, VOLUME_NAME_BYTES_MAX), 0, ON_NODES_MAX)),
});
const OPEN_VOLUME = optionsOf<OpenVolumeOptions>({ takeOver: optional(boolean), readOnly: optional(boolean) });
const openedVolume = made<NodeVolume>(
  'a NodeVolume that openVolume has opened',
  (value) => value instanceof NodeVolume,
);
const WITHOUT = fields<{ readonly without: readonly string[] }>({ without: list(id, 1, LOST_DEVICES_MAX) });

/**
 * Connects to a cluster. Resolves when one of its managers has answered; rejects with `ERR_STRAKE_NO_MANAGER` if none does that
 * has this key, and with `ERR_STRAKE_NO_PERMISSION` if its file cannot be used.
 */
export async function connect(options: ConnectOptions): Promise<Cluster> {
  const checked = CONNECT.take(options, 'connect: options');
  checkSignal(checked.signal);
  const managers = checked.manager.map((one) => clusterAddress(one, checked.insecureNetwork ?? false));
  const runtime = await Runtime.startForNode({ devices: 0, shards: 1, network: true, tablesBytes: 0 }, (event) =>
    checked.onEvent?.(event),
  );
  try {
    const cluster = new Cluster(INTERNAL, runtime, { keyFile: checked.keyFile, managers });
    await cluster.join(runtime.link(0));
    checkSignal(checked.signal);
    runtime.addServer(cluster);
    return cluster;
  } catch (error) {
    await runtime.close();
    throw error;
  }
}

interface Reach {
  readonly keyFile: string;
  readonly managers: readonly ReturnType<typeof clusterAddress>[];
}

/** A cluster that this process is a client of. Made by `connect`. */
export class Cluster implements Tenant {
  /** All of it is on one shard: a client is one shard of a process. */
  readonly shard = 0;
  private readonly runtime: Runtime;
  private readonly reach: Reach;
  private readonly calls: ManagerCalls<ReplicaMap>;
  private readonly handles = new VolumeHandles(this);
  private readonly servers = new Set<NodeServer>();
  private home: ShardLink | null = null;
  private cluster = '';
  private state: 'open' | 'closed' | StrakeError = 'open';
  private closed: Promise<void> | null = null;

  /** @internal */
  constructor(key: symbol, runtime: Runtime, reach: Reach) {
    if (key !== INTERNAL) throw new TypeError('clusters are made by connect');
    this.runtime = runtime;
    this.reach = reach;
    this.calls = managerCalls(() => this.link);
  }

  get clusterId(): string {
    return this.cluster;
  }

  /** @internal */
  async join(link: ShardLink): Promise<void> {
    const message = { ...this.reach, clusterId: null, self: null, segments: null };
    const { clusterId } = await link.call('joinCluster', message);
    this.cluster = clusterId;
    this.home = link;
  }

  /** @internal */
  get link(): ShardLink {
    if (this.state === 'closed') throw new StrakeError('CLOSED', 'the cluster is not connected any more');
    if (this.state !== 'open') throw this.state;
    const link = this.runtime.link(this.shard);
    if (link !== this.home)
      throw new StrakeError('WORKER_DIED', 'the cluster is being connected again by a new worker');
    return link;
  }

  // ---------------------------------------------------------------- what managers know

  status(): Promise<ClusterStatus> {
    return this.calls.status();
  }

  /** Changes times of the cluster, in milliseconds; those that are not named stay. Resolves to all of them. */
  setTimes(times: Partial<ClusterTimes>): Promise<ClusterTimes> {
    return this.calls.setTimes(TIME_CHANGES.take(times, 'setTimes: times'));
  }

  async nodes(): Promise<NodeListed[]> {
    return [...(await this.calls.nodes())];
  }

  async devices(): Promise<DeviceListed[]> {
    return [...(await this.calls.devices())];
  }

  async volumes(): Promise<VolumeListed[]> {
    return [...(await this.calls.volumes())];
  }

  /** What has happened after the event of this number, oldest first; at most 256. */
  async events(after = 0): Promise<ClusterEvent[]> {
    return [...(await this.calls.events(whole(0).take(after, 'events: after')))];
  }

  // ---------------------------------------------------------------- volumes

  /** Makes a volume, which takes space only for what is written to it. Resolves to its id. */
  async createVolume(options: CreateClusterVolumeOptions): Promise<string> {
    const checked = CREATE.take(options, 'createVolume: options');
    const { layout = 'single', copies = layout === 'mirror' ? 2 : 1, on = [], name, sizeBytes } = checked;
    const volumeId = newId();
    await this.calls.create({ volumeId, name, sizeBytes, layout, copies, on });
    return volumeId;
  }

  async deleteVolume(nameOrId: string): Promise<void> {
    await this.calls.delete(volumeName.take(nameOrId, 'deleteVolume: nameOrId'));
  }

  async renameVolume(nameOrId: string, newName: string): Promise<void> {
    volumeName.take(nameOrId, 'renameVolume: nameOrId');
    await this.calls.rename(nameOrId, newVolumeName.take(newName, 'renameVolume: newName'));
  }

  /** Makes a volume larger. Clients see it when they open it again. */
  async growVolume(nameOrId: string, sizeBytes: number): Promise<void> {
    volumeName.take(nameOrId, 'growVolume: nameOrId');
    await this.calls.grow(nameOrId, bytesOfSome.take(sizeBytes, 'growVolume: sizeBytes'));
  }

  /** Starts a volume without devices that are lost for good; resolves to what may be lost, for each group that was forced. */
  async startVolume(
    nameOrId: string,
    options: { readonly without: readonly string[] },
  ): Promise<WithoutAnswer<ReplicaMap>['lost']> {
    volumeName.take(nameOrId, 'startVolume: nameOrId');
    const { without } = WITHOUT.take(options, 'startVolume: options');
    return (await this.calls.startWithout(nameOrId, without)).lost;
  }

  /**
   * Opens a volume, by its name or id. Rejects with `ERR_STRAKE_VOLUME_BUSY` if another client has it open to write, and is
   * heard;
   * `takeOver` takes it from that, and what it has acknowledged stays.
   */
  async openVolume(nameOrId: string, options: OpenVolumeOptions = {}): Promise<NodeVolume> {
    volumeName.take(nameOrId, 'openVolume: nameOrId');
    const { takeOver = false, readOnly = false } = OPEN_VOLUME.take(options, 'openVolume: options');
    if (takeOver && readOnly) {
      throw new StrakeError(
        'INVALID_ARGUMENT',
        'openVolume: options.takeOver takes the right to write, and options.readOnly needs none',
      );
    }
    const { link } = this;
    const facts = await link.call('attachVolume', { name: nameOrId, takeOver, readOnly });
    const handle = this.handles.of(facts.id);
    handle.adopt(link, facts);
    return handle;
  }

  /** Gives back a volume that is open: others may open it at once. Servers end their connections to it. */
  async closeVolume(volume: NodeVolume): Promise<void> {
    const { id: volumeId } = openedVolume.take(volume, 'closeVolume: volume');
    if (volumeId === null) return;
    await volume.idle();
    await this.link.call('detachVolume', { id: volumeId });
    this.handles.onDeleted(volumeId);
  }

  /** Serves the volumes that are open here over NBD, each under its name. */
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

  // ---------------------------------------------------------------- the end

  // Another client may have its volumes by now, so whoever uses them opens them again.
  /** Its worker has died, and with it the volumes that it had open. @internal */
  async restore(link: ShardLink): Promise<void> {
    if (this.state !== 'open') return;
    for (const handle of this.handles.all()) handle.forget();
    await this.join(link);
    for (const server of [...this.servers]) await server.restore(link);
  }

  /** @internal */
  lose(error: StrakeError): void {
    if (this.state === 'open') this.state = error;
  }

  /**
   * Closes servers and volumes in order. Requests that wait for members or a manager when `drainMs` are over fail. Rejects with
   * the first error, as with `ERR_STRAKE_UNAVAILABLE` if something was acknowledged that could not be flushed; everything is
   * closed all the same. Idempotent.
   */
  close(options: CloseServerOptions = {}): Promise<void> {
    const { drainMs = DRAIN_MS } = CLOSE_SERVER.take(options, 'close: options');
    this.closed ??= this.end(drainMs);
    return this.closed;
  }

  private async end(drainMs: number): Promise<void> {
    const usable = this.state === 'open';
    this.state = 'closed';
    const handles = this.handles.all();
    const endings = await Promise.allSettled([...this.servers].map((server) => server.endLast(drainMs)));
    await Promise.all(handles.map((handle) => handle.idle()));
    for (const handle of handles) handle.forget();
    this.runtime.removeServer(this);
    try {
      if (usable) await this.runtime.link(this.shard).call('closeNode', null);
    } catch (error) {
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
