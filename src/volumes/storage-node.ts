/**
 * A storage node: the devices of one shard, the volumes on them, and the operations by which these come and go.
 *
 * ```text
 *   StorageNode ─┬─ VolumeStarts ───┐  turns  ┌─ DeviceHost ────── devices, each with its store
 *                ├─ VolumeChanges ──┼────────►├─ DeviceCatalog ─── what their maps say: newest, proven, deleted;
 *                └─ DeviceChanges ──┘         │                    decides about changes (MapAuthority)
 *                                             └─ VolumeHost ────── engines over replicas, with maps of the authority
 * ```
 *
 * Fault model: devices are missing, older copies, clones, or of another cluster; they fail while they are opened and later;
 * the process dies at any instant.
 *
 * Control operations of one volume are carried out one after another, those of different volumes side by side, so that none
 * waits for work on another volume (`Turns`). Turns of devices, which come, go or stand in for each other, are taken before
 * those of volumes. An operation that starts a volume sees the devices that were there when it began.
 *
 * A volume is its id. At most one volume of a name is started, and none if several of that name were found at once. A name
 * is taken, in the directory, at the instant at which a volume is to be made or renamed.
 */

import type { SessionService } from '../client/members/session-service.js';
import { check } from '../core/check.js';
import { TimesHeard } from '../core/cluster-times.js';
import { StrakeError, toStrakeError } from '../core/errors.js';
import { VOLUMES_REGISTERED } from '../core/limits.js';
import type { Watch } from '../core/watch.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { managedVolumes } from '../layout/starting-map.js';
import type { VolumeMap } from '../layout/volume-map.js';
import {
  DeviceHost,
  deviceHostBytes,
  type Expectations,
  type FoundDevice,
  type OpenAway,
  type TableRange,
} from '../node/device-host.js';
import type { DrivenDevice, NodeDevice, StoreStatus } from '../node/node-device.js';
import { closedError } from '../node/node-errors.js';
import type { NodeStore } from '../node/node-store.js';
import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Device } from '../ports/device.js';
import type { ClusterTimes } from '../ports/manager.js';
import type { Memory } from '../ports/memory.js';
import type { StreamAddress } from '../ports/transport.js';
import type { AwaitedDevice } from './deleted-volumes.js';
import { DeviceCatalog } from './device-catalog.js';
import { DeviceChanges } from './device-changes.js';
import type { BookedJob, EngineShard, HostedEngine } from './engine-elsewhere.js';
import type { HostedVolume, ServedVolume } from './hosted-volume.js';
import type { JobBook } from './job-book.js';
import { type Attaching, type Cluster, ManagedVolumes } from './managed-volumes.js';
import type { NodeHooks, NodeParts } from './node-parts.js';
import { NodeTurns } from './node-turns.js';
import { type PeerOpening, Peers } from './peers.js';
import type { VolumeSpec } from './placement.js';
import { RemoteDevice, type RemoteDeviceStatus } from './remote-device.js';
import { VolumeChanges } from './volume-changes.js';
import { VolumeDirectory } from './volume-directory.js';
import { engineOf, moreVolumesBytes, VOLUME_HOST_BYTES, VolumeHost } from './volume-host.js';
import { VolumeStarts } from './volume-starts.js';
import { type VolumeReport, volumeReports } from './volume-status.js';

/**
 * Memory in the arena, from a page on, of a node that drives at most so many devices, and serves at most so many volumes, but for
 * block tables that are elsewhere.
 */
export function nodeMemoryBytes(
  storesMax: number,
  volumesMax = VOLUMES_REGISTERED,
  tables: 'here' | 'elsewhere' = 'here',
): number {
  if (storesMax === 0) return 0;
  return VOLUME_HOST_BYTES + deviceHostBytes(storesMax, tables) + moreVolumesBytes(volumesMax);
}

export interface NodePorts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly clock: Clock;
  /** A name for this life of the process: 32 hexadecimal digits. */
  readonly clientId: string;
  readonly watch: Watch;
  /** Start of `nodeMemoryBytes(storesMax, volumesMax)`. */
  readonly memoryStart: number;
  /** The most devices. */
  readonly storesMax: number;
  /** Where block tables are, if not behind what else its devices need. */
  readonly tables?: TableRange;
  /** The most volumes; absent, `VOLUMES_REGISTERED`. */
  readonly volumesMax?: number;
  /** A shard of this process that runs engines beside this one, by its number; absent where none does. */
  readonly engineShard?: (shard: number) => EngineShard | null;
}

export class StorageNode {
  readonly volumes = new VolumeDirectory();
  /** Those of its cluster. */
  readonly times = new TimesHeard();
  private readonly parts: NodeParts;
  private readonly ports: NodePorts;
  private peers: Peers | null = null;
  private managed: ManagedVolumes | null = null;
  /** Whether volumes have been looked for: what devices bring later they bring by themselves. */
  private assembled = false;
  /** Of a node that leaves volumes to others: the volume for which one of these uses a device; null if none does. */
  private userOf: ((deviceId: string) => string | null) | null = null;
  private readonly starts: VolumeStarts;
  private readonly changes: VolumeChanges;
  private readonly deviceChanges: DeviceChanges;

  constructor(ports: NodePorts, hooks: NodeHooks) {
    const { completions, memoryStart } = ports;
    this.ports = ports;
    const { onEvent } = hooks;
    const { volumes } = this;
    const devices = new DeviceHost(
      { ...ports, memoryStart: memoryStart + VOLUME_HOST_BYTES },
      { onEvent, mayForget: (note) => catalog.mayForget(note), onMap: (map) => this.managed?.told([map]) },
    );
    const stores = devices.devices;
    const catalog: DeviceCatalog = new DeviceCatalog({ completions, stores, onEvent });
    catalog.onMap((map) => this.noteMap(map));
    const managed = () => this.managed?.authority ?? null;
    const { times } = this;
    const { storesMax, volumesMax = VOLUMES_REGISTERED, tables } = ports;
    const place = tables === undefined ? 'here' : 'elsewhere';
    const moreStart = memoryStart + nodeMemoryBytes(storesMax, VOLUMES_REGISTERED, place);
    const hostPorts = { ...ports, volumesMax, moreStart };
    const host = new VolumeHost(hostPorts, { stores, authority: catalog, managed, times, onEvent });
    this.parts = { devices, stores, volumes, catalog, host, turns: new NodeTurns(volumes, stores), hooks };
    this.starts = new VolumeStarts(this.parts);
    this.changes = new VolumeChanges(this.parts, this.starts);
    this.deviceChanges = new DeviceChanges(this.parts, this.starts);
  }

  /** The devices that are open, by id. */
  get devices(): ReadonlyMap<string, NodeDevice> {
    return this.parts.stores;
  }

  /** Those of them that this process drives, by id. */
  get driven(): ReadonlyMap<string, DrivenDevice> {
    return this.parts.devices.driven;
  }

  /** Those of them whose stores are on this thread, by id. */
  get stores(): ReadonlyMap<string, NodeStore> {
    return this.parts.devices.stores;
  }

  get jobs(): JobBook {
    return this.parts.host.jobs;
  }

  private noteMap(map: VolumeMap): void {
    const volume = this.volumes.get(map.id);
    if (volume === undefined) return;
    const older = map.versions.findIndex((version, group) => version < volume.stored.versions[group]);
    check(older < 0, 'a volume gets a map of a group that is older than its own', older);
    volume.stored = map;
  }

  // ---------------------------------------------------------------- devices

  /**
   * Opens a device, beside whatever else goes on. Rejects with `ERR_STRAKE_WRONG_DEVICE` for a clone and others of
   * `openStore`.
   */
  open(device: Device, expected: Expectations): Promise<NodeStore> {
    return this.parts.devices.open(device, expected);
  }

  /** See `DeviceHost.openAway`. */
  openAway(found: FoundDevice, path: string, open: OpenAway): Promise<NodeDevice> {
    return this.parts.devices.openAway(found, path, open);
  }

  /** See `DeviceChanges.lose`. */
  lose(deviceId: string, reason: string): Promise<void> {
    const lost = this.deviceChanges.lose(deviceId, reason);
    this.managed?.readers.poke();
    return lost;
  }

  /** See `DeviceChanges.dropEngines`. */
  dropEngines(reason: string): Promise<void> {
    return this.deviceChanges.dropEngines(reason);
  }

  /** Whether the note of a deleted volume may go. */
  mayForget(note: ReplicaMap): boolean {
    return this.parts.catalog.mayForget(note);
  }

  /** See `DeviceChanges.takeBack`. */
  async takeBack(entry: NodeDevice): Promise<void> {
    if (this.userOf === null) await this.deviceChanges.takeBack(entry);
    else if (entry.failed) throw new StrakeError('FENCED', `${entry.path} takes no more writes`);
  }

  /** See `DeviceChanges.replace`. */
  async replace(deviceId: string, entry: NodeDevice): Promise<number[]> {
    this.checkDecides();
    return this.deviceChanges.replace(deviceId, entry);
  }

  /** See `DeviceChanges.forget`. Rejects with `ERR_STRAKE_VOLUME_BUSY` also if another node uses the device. */
  async forget(deviceId: string): Promise<void> {
    const volume = this.devices.get(deviceId)?.failed === false ? this.userOf?.(deviceId) : null;
    if (typeof volume === 'string') {
      throw new StrakeError('VOLUME_BUSY', `device ${deviceId} is in use by volume ${volume} of another node`);
    }
    await this.deviceChanges.forget(deviceId);
  }

  /** See `DeviceChanges.giveUp`. */
  giveUp(deviceId: string): Promise<number> {
    return this.deviceChanges.giveUp(deviceId);
  }

  // ---------------------------------------------------------------- other nodes

  /**
   * Counts the devices of another node, which serves its segments at an address, as devices of this one from now on, as often as
   * the node can be reached. Resolves when they are there, or the first attempt has failed. `service`: the sessions of
   * this shard, one for all nodes.
   */
  addPeer(service: SessionService, address: StreamAddress): Promise<void> {
    const { hooks, catalog } = this.parts;
    this.peers ??= new Peers(service, {
      maps: () => catalog.newest().values(),
      take: (found, path, open) => this.takePeer(found, path, open),
      onLearned: async (device) => {
        if (this.assembled && this.devices.get(device.deviceId) === device) await this.takeBack(device);
      },
      onGone: (deviceId, reason) => this.lose(deviceId, reason),
      onTrouble: (deviceId, text) => hooks.onEvent({ kind: 'device-failed', deviceId, text }),
      onMaps: (maps) => this.managed?.told(maps),
    });
    return this.peers.add(address);
  }

  /**
   * Leaves volumes to other nodes, which use its devices: it starts none, whatever maps say and whenever a device joins, as only
   * their holders may write. `userOf`: the volume for which one of these uses a device; null if none does.
   */
  leaveVolumes(userOf: (deviceId: string) => string | null): void {
    check(!this.assembled, 'volumes are left to other nodes that may have been started', this.devices.size);
    this.userOf = userOf;
  }

  private checkDecides(): void {
    if (this.userOf === null) return;
    throw new StrakeError('UNAVAILABLE', 'this node serves the segments of its devices, and leaves volumes to others', {
      remedy: 'Ask the node that hosts the volume.',
    });
  }

  private async takePeer(found: FoundDevice, path: string, open: PeerOpening): Promise<void> {
    const device = await this.openAway(found, path, open);
    check(this.devices.get(device.deviceId) === device, 'a device of another node was not taken', device.order);
    if (this.assembled) await this.takeBack(device);
    // Not waited for: whoever attaches a volume waits for the device itself.
    else this.managed?.takeBack(device).catch((error: unknown) => this.noteTrouble(device, error));
  }

  private noteTrouble({ deviceId, path }: NodeDevice, error: unknown): void {
    this.parts.hooks.onEvent({ kind: 'device-failed', deviceId, text: `${path}: ${toStrakeError(error).message}` });
  }

  // ---------------------------------------------------------------- volumes of a cluster

  /**
   * Becomes a client of a cluster, whose managers decide about its volumes from now on. `service`: the sessions of this shard,
   * one for all nodes, under the same client id.
   */
  join(cluster: Cluster, service: SessionService): void {
    check(this.managed === null, 'a node joins a second cluster');
    check(service.parts.clientId === this.ports.clientId, 'a node has two names as a client');
    const { times } = this;
    const { completions, memory, clock, watch, clientId } = this.ports;
    const reachNode = (address: StreamAddress) => this.addPeer(service, address);
    const ports = { completions, memory, clock, watch };
    this.managed = new ManagedVolumes({ node: this.parts, cluster, clientId, times, ...ports, reachNode });
  }

  private get inCluster(): ManagedVolumes {
    if (this.managed === null) throw new StrakeError('NO_MANAGER', 'this node is in no cluster');
    return this.managed;
  }

  /** Attaches a volume of the cluster and serves it. See `ManagedVolumes.attach`. */
  attachVolume(text: string, attaching: Attaching = {}): Promise<HostedVolume> {
    return this.inCluster.attach(text, attaching);
  }

  /**
   * A manager tells its times. A longer lease than before is granted by each device as soon as it has it on record; where that
   * fails the device has failed, and grants nothing.
   */
  hearTimes(times: ClusterTimes): void {
    this.times.hear(times);
    for (const device of this.driven.values()) if (!device.failed) void device.grantFor(times.leaseMs);
  }

  /** See `Janitor.tend`. */
  tend(volumeIds: readonly string[]): void {
    this.inCluster.janitor.tend(volumeIds);
  }

  /** Gives an attached volume back. See `ManagedVolumes.detach`. */
  detachVolume(text: string): Promise<void> {
    return this.inCluster.detach(text);
  }

  /** Maps that managers have decided. */
  heard(maps: readonly ReplicaMap[]): void {
    this.managed?.heard(maps);
  }

  /** Maps that managers have decided, as these tell of them. */
  decided(maps: readonly ReplicaMap[]): void {
    this.managed?.decided(maps);
  }

  // ---------------------------------------------------------------- volumes

  /** See `VolumeStarts.assemble`. */
  async assemble(without: ReadonlyMap<string, readonly string[]>): Promise<void> {
    this.checkDecides();
    this.checkUnmanaged();
    this.assembled = true;
    return this.starts.assemble(without);
  }

  /** What managers have decided about is not decided here: its places may have been given to others. */
  private checkUnmanaged(): void {
    const managed = managedVolumes(this.devices).size;
    if (managed === 0) return;
    const what = managed === 1 ? 'a volume' : `${managed} volumes`;
    throw new StrakeError('MANAGED', `managers of a cluster decide about ${what} on these devices`);
  }

  /** See `VolumeStarts.without`. */
  async startWithout(text: string, without: readonly string[]): Promise<void> {
    this.checkDecides();
    return this.starts.without(text, without);
  }

  /** The volume that a name or an id means. Throws `ERR_STRAKE_NO_VOLUME` or `ERR_STRAKE_NAME_CONFLICT`. */
  volume(text: string): HostedVolume {
    return this.volumes.find(text);
  }

  /** Its engine. Throws also `ERR_STRAKE_UNPROVEN` or `ERR_STRAKE_UNAVAILABLE` if it does not serve. */
  engine(text: string): HostedEngine {
    return engineOf(this.volumes, text);
  }

  /**
   * Its engine, after whatever is being started or deleted. Rejects as `engine` throws; of several volumes of a name, the one
   * that is started is meant.
   */
  async started(text: string): Promise<ServedVolume> {
    const { id, served } = this.volumes.findStarted(text);
    return served ?? this.parts.turns.inVolume(id, async () => this.volumes.get(id)?.served ?? this.engine(id));
  }

  /** See `VolumeChanges.create`. */
  async create(spec: VolumeSpec): Promise<HostedVolume> {
    this.checkDecides();
    return this.changes.create(spec);
  }

  /** See `VolumeChanges.rename`. */
  rename(text: string, name: string): Promise<HostedVolume> {
    return this.changes.rename(text, name);
  }

  /** See `VolumeChanges.grow`. */
  grow(text: string, sizeBytes: number): Promise<HostedVolume> {
    return this.changes.grow(text, sizeBytes);
  }

  /** See `VolumeChanges.delete`. */
  delete(text: string, prepare: (engine: HostedEngine) => void = () => {}): Promise<HostedVolume> {
    return this.changes.delete(text, prepare);
  }

  /** Begins to read and repair everything in a volume. */
  async scrub(text: string, bytesPerSecond: number): Promise<BookedJob> {
    return this.engine(text).scrub(bytesPerSecond > 0 ? { bytesPerSecond } : {});
  }

  // ---------------------------------------------------------------- status and end

  /** No request is held any more for members or managers that may come: what waits fails, and nobody is told more of it. */
  endHolding(): void {
    this.times.endHolding();
  }

  deviceStatus(): StoreStatus[] {
    return this.parts.devices.status();
  }

  /** Devices of other nodes. */
  remoteDevices(): RemoteDeviceStatus[] {
    return [...this.devices.values()].flatMap((one) => (one instanceof RemoteDevice ? [one.remoteStatus()] : []));
  }

  /** Devices that are not here, and for which notes of deleted volumes are kept. */
  awaitedDevices(): AwaitedDevice[] {
    return this.parts.catalog.awaitedDevices();
  }

  volumeReports(): VolumeReport[] {
    return volumeReports(this.volumes, this.devices);
  }

  /** What may take long comes to an end, or is left to the next start: the node is about to be closed. Requests go on. */
  endWork(): void {
    this.parts.devices.endWork();
    this.parts.catalog.endWork();
    this.parts.turns.close(closedError());
    this.parts.host.endWork();
    this.managed?.endWork();
  }

  /** Stops all volumes and closes all devices in order. Rejects with the first error; everything is closed all the same. */
  async close(): Promise<void> {
    this.endWork();
    await this.parts.turns.ended();
    const errors: unknown[] = [];
    const note = (error: unknown) => errors.push(error);
    await this.managed?.readers.close();
    await Promise.all([...this.volumes.values()].map((volume) => this.parts.host.end(volume).catch(note)));
    this.volumes.clear();
    this.peers?.end();
    await this.managed?.close();
    await Promise.all([...this.devices.values()].map((entry) => this.deviceChanges.close(entry).catch(note)));
    check(this.devices.size === 0, 'devices are left open when a node is closed', this.devices.size);
    if (errors.length > 0) throw errors[0];
  }
}
