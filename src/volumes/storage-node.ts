/**
 * A storage node: the devices of one shard, the volumes on them, and the operations by which these come and go.
 *
 * ```text
 *   StorageNode ─┬─ DeviceHost ────── devices, each with its store
 *   (turns)      ├─ DeviceCatalog ─── what their maps say: newest, proven, deleted; decides about changes (MapAuthority)
 *                └─ VolumeHost ────── engines over replicas, with the maps that the authority has decided
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

import type { Job } from '../client/jobs/job.js';
import type { VolumeEngine } from '../client/volume-engine.js';
import { allEnded } from '../core/all-ended.js';
import { newVolumeName } from '../core/arguments.js';
import { check } from '../core/check.js';
import { StrakeError, toStrakeError } from '../core/errors.js';
import type { Watch } from '../core/watch.js';
import { withoutDoubles } from '../layout/starting-map.js';
import type { VolumeMap } from '../layout/volume-map.js';
import { DeviceHost, deviceHostBytes, type Expectations } from '../node/device-host.js';
import { closedError } from '../node/node-errors.js';
import type { NodeStore, StoreStatus } from '../node/node-store.js';
import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Device } from '../ports/device.js';
import type { Memory } from '../ports/memory.js';
import type { AwaitedDevice } from './deleted-volumes.js';
import { DeviceCatalog } from './device-catalog.js';
import { HostedVolume } from './hosted-volume.js';
import type { JobBook } from './job-book.js';
import type { VolumeSpec } from './placement.js';
import { checkReplacement, hasMember } from './replacement.js';
import { refusalOf } from './starting-refusal.js';
import type { StorageEvent } from './storage-events.js';
import { Turns } from './turns.js';
import { VolumeDirectory } from './volume-directory.js';
import { deviceIsHere, tooManyVolumes } from './volume-errors.js';
import { servingEngine, VOLUME_HOST_BYTES, VolumeHost } from './volume-host.js';
import { isUsed, type VolumeReport, volumeReports } from './volume-status.js';

/** Memory in the arena, from a page on, of a node that drives at most so many devices. */
export function nodeMemoryBytes(storesMax: number): number {
  return storesMax === 0 ? 0 : VOLUME_HOST_BYTES + deviceHostBytes(storesMax);
}

export interface NodePorts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly clock: Clock;
  /** A name for this life of the process: 32 hexadecimal digits. */
  readonly clientId: string;
  readonly watch: Watch;
  /** Start of `nodeMemoryBytes(storesMax)`. */
  readonly memoryStart: number;
  /** The most devices, at most `NODE_STORES_MAX`. */
  readonly storesMax: number;
}

/** Who is told of what happens in a node. */
export interface NodeHooks {
  readonly onEvent: (event: StorageEvent) => void;
  /** Volumes serve that another one's name had kept from it. */
  readonly onResolved: () => void;
}

export class StorageNode {
  readonly volumes = new VolumeDirectory();
  private readonly hooks: NodeHooks;
  private readonly devices: DeviceHost;
  private readonly catalog: DeviceCatalog;
  private readonly host: VolumeHost;
  /** By device id. */
  private readonly deviceTurns = new Turns();
  /** By volume id. */
  private readonly volumeTurns = new Turns();

  constructor(ports: NodePorts, hooks: NodeHooks) {
    const { completions, memoryStart } = ports;
    const { onEvent } = hooks;
    this.hooks = hooks;
    this.devices = new DeviceHost(
      { ...ports, memoryStart: memoryStart + VOLUME_HOST_BYTES },
      { onEvent, mayForget: (note) => this.catalog.mayForget(note) },
    );
    const { stores } = this;
    this.catalog = new DeviceCatalog({ completions, stores, onEvent });
    this.catalog.onMap((map) => this.noteMap(map));
    this.host = new VolumeHost(ports, { stores, authority: this.catalog, onEvent });
  }

  /** The devices that are open, by id. */
  get stores(): ReadonlyMap<string, NodeStore> {
    return this.devices.stores;
  }

  get jobs(): JobBook {
    return this.host.jobs;
  }

  private noteMap(map: VolumeMap): void {
    const volume = this.volumes.get(map.id);
    if (volume === undefined) return;
    const older = map.versions.findIndex((version, group) => version < volume.stored.versions[group]);
    check(older < 0, 'a volume gets a map of a group that is older than its own', older);
    volume.stored = map;
  }

  /**
   * Works on the volume of this name or id, in its turn. Rejects with `ERR_STRAKE_NO_VOLUME` if it has been deleted by then:
   * another one of the same name is not the one that was meant.
   */
  private async inVolume<T>(text: string, work: (volume: HostedVolume) => Promise<T>): Promise<T> {
    const { id, name } = this.volume(text);
    return this.volumeTurns.take([id], () => {
      const volume = this.volumes.get(id);
      if (volume === undefined) throw new StrakeError('NO_VOLUME', `volume ${name} has been deleted`);
      return work(volume);
    });
  }

  /** Works on all volumes that have to do with a device, in their turns. `work` must not wait for another turn. */
  private async inVolumesOf<T>(deviceId: string, work: () => Promise<T>): Promise<T> {
    for (;;) {
      const ids = this.volumes.idsOn(this.stores, deviceId);
      const done = await this.volumeTurns.take(ids, async () => {
        // While it waited, the device may have become a part of others.
        const same = this.volumes.idsOn(this.stores, deviceId).every((id) => ids.includes(id));
        return same ? { result: await work() } : null;
      });
      if (done !== null) return done.result;
    }
  }

  // ---------------------------------------------------------------- devices

  /**
   * Opens a device, beside whatever else goes on. Rejects with `ERR_STRAKE_WRONG_DEVICE` for a clone and others of
   * `openStore`.
   */
  open(device: Device, expected: Expectations): Promise<NodeStore> {
    return this.devices.open(device, expected);
  }

  /** Closes a device in order, if it still takes writes. No volume may use it. */
  private async closeStore(entry: NodeStore): Promise<void> {
    this.devices.letGo(entry.deviceId);
    // A map that takes the device out may be on its way, perhaps to itself. Later ones pass it by.
    const users = [...this.volumes.values()].filter(({ stored }) => hasMember(stored, entry.deviceId));
    await Promise.all(users.map(({ engine }) => engine?.changesEnded()));
    await this.devices.close(entry);
  }

  // ---------------------------------------------------------------- assembly

  /**
   * Finds the volumes of all devices that are open, and starts those that can be, side by side. `without`: device ids by name
   * or id of a volume; a name that several volumes have says nothing.
   */
  async assemble(without: ReadonlyMap<string, readonly string[]>): Promise<void> {
    const ids = [...this.catalog.newest().keys()];
    this.volumes.list(this.stores, ids);
    const given = this.volumes.meantBy(without);
    await allEnded(ids.map((id) => this.settleVolume(id, given.get(id) ?? [])));
    await this.startResolved();
  }

  /** Brings a volume to what the newest map says, unless it is started: starts it, or gives back what is left of it. */
  private settleVolume(id: string, without: readonly string[]): Promise<void> {
    return this.volumeTurns.take([id], async () => {
      const stored = this.catalog.newestOf(id);
      const known = this.volumes.get(id);
      if (stored === undefined || (known !== undefined && known.engine !== null)) return;
      if (stored.deleted) {
        if (known !== undefined) this.volumes.remove(known);
        await this.catalog.cleanUp(stored);
        return;
      }
      const volume = known ?? new HostedVolume(stored);
      volume.stored = stored;
      this.volumes.add(volume);
      await this.tryStart(volume, without);
    });
  }

  /** Starts the volumes that another one's name has kept from it, where that is no longer so. Why one does not start, it says. */
  private async startResolved(): Promise<void> {
    const resolved = [...this.volumes.values()].filter(
      (volume) => volume.conflict && volume.engine === null && !this.volumes.inConflict(volume),
    );
    if (resolved.length === 0) return;
    await Promise.allSettled(resolved.map(({ id }) => this.settleVolume(id, [])));
    this.hooks.onResolved();
  }

  private async tryStart(volume: HostedVolume, without: readonly string[]): Promise<void> {
    const refusal = refusalOf(this.stores, volume.stored, this.volumes.twinsOf(volume), without);
    volume.conflict = refusal?.kind === 'conflict';
    volume.unproven = refusal?.kind === 'unproven';
    if (refusal !== null) {
      volume.reason = refusal.reason;
      return;
    }
    volume.stored = withoutDoubles(volume.stored);
    try {
      await this.host.start(volume);
    } catch (error) {
      volume.reason = toStrakeError(error).message;
    }
  }

  // ---------------------------------------------------------------- volumes

  /** The volume that a name or an id means. Throws `ERR_STRAKE_NO_VOLUME` or `ERR_STRAKE_NAME_CONFLICT`. */
  volume(text: string): HostedVolume {
    return this.volumes.find(text);
  }

  /** Its engine. Throws also `ERR_STRAKE_UNPROVEN` or `ERR_STRAKE_UNAVAILABLE` if it does not serve. */
  engine(text: string): VolumeEngine {
    const volume = this.volume(text);
    if (this.volumes.inConflict(volume)) throw this.volumes.conflictOf(volume);
    return servingEngine(volume);
  }

  /**
   * Its engine, after whatever is being started or deleted. Rejects as `engine` throws; of several volumes of a name, the one
   * that is started is meant.
   */
  async started(text: string): Promise<VolumeEngine> {
    const { id, engine } = this.volumes.findStarted(text);
    return engine?.serving ? engine : this.inVolume(id, async () => this.engine(id));
  }

  /** Makes a volume and starts it. */
  async create(spec: VolumeSpec): Promise<HostedVolume> {
    await this.holderSettled(spec.name);
    const stored = this.catalog.plan(spec);
    this.checkFree(spec.name);
    const volume = new HostedVolume(stored);
    volume.coming = true;
    // From now on it has the name, and its devices are not let go of.
    this.volumes.add(volume);
    try {
      await this.volumeTurns.take([spec.id], () => this.makeVolume(volume));
    } catch (error) {
      this.volumes.remove(volume);
      await this.startResolved();
      throw error;
    }
    check(this.volumes.get(spec.id) === volume, 'a volume that was made is not listed', volume.place);
    volume.coming = false;
    return volume;
  }

  /** Whoever has a name may be about to be deleted, or to be renamed. */
  private async holderSettled(name: string): Promise<void> {
    const ids = this.volumes.named(name).map(({ id }) => id);
    if (ids.length > 0) await this.volumeTurns.take(ids, () => Promise.resolve());
  }

  private checkFree(name: string): void {
    const [holder] = this.volumes.named(name);
    if (holder !== undefined) throw new StrakeError('EXISTS', `there is a volume ${name} already: ${holder.id}`);
  }

  /**
   * Gives a volume another name, whether it is started or not; who uses it goes on. Volumes that only a name has kept from
   * service are started. Rejects with `ERR_STRAKE_EXISTS` if another volume has the name, and with `ERR_STRAKE_UNAVAILABLE` if
   * it could not be stored; then the volume has the one name or the other when its devices are opened the next time.
   */
  async rename(text: string, name: string): Promise<HostedVolume> {
    await this.holderSettled(name);
    const renamed = this.inVolume(text, async (volume) => {
      if (volume.name === name) return volume;
      newVolumeName.take(name, 'the name of a volume');
      this.checkFree(name);
      await this.renameTo(volume, name);
      return volume;
    });
    return renamed.finally(() => this.startResolved());
  }

  /** Gives a volume a name that is free. It has both names until that is done. */
  private async renameTo(volume: HostedVolume, name: string): Promise<void> {
    const { engine } = volume;
    volume.nextName = name;
    try {
      if (engine !== null && engine.status().state !== 'failed') await engine.rename(name);
      else volume.stored = await this.catalog.rename(volume.stored, name);
      check(volume.name === name, 'a volume has another name than it was given', volume.stored.headerVersion);
    } finally {
      volume.nextName = null;
    }
  }

  private async makeVolume(volume: HostedVolume): Promise<void> {
    check(volume.coming && volume.engine === null, 'a volume is made twice', volume.place);
    if (!this.host.hasRoom) throw tooManyVolumes();
    try {
      await this.catalog.create(volume.stored);
      await this.host.start(volume);
    } catch (error) {
      // Nobody has heard of it: a second one of this name must not meet it.
      await this.catalog.undo(volume.stored);
      throw error;
    }
  }

  /** Makes a volume larger. */
  grow(text: string, sizeBytes: number): Promise<HostedVolume> {
    return this.inVolume(text, async (volume) => {
      await this.engine(volume.id).grow(sizeBytes);
      return volume;
    });
  }

  /** Starts an unproven volume without the devices that are named. */
  startWithout(text: string, without: readonly string[]): Promise<void> {
    return this.inVolume(text, async (volume) => {
      const { id, name } = volume;
      if (volume.engine !== null) throw new StrakeError('VOLUME_BUSY', `volume ${name} is started already`);
      volume.stored = this.catalog.newestOf(id) ?? volume.stored;
      await this.tryStart(volume, without);
      this.engine(id);
    });
  }

  /**
   * Deletes a volume, and gives its space back. That it is deleted stays on its devices. `prepare` is called with its engine
   * before anything is done, if it has one; it may throw. If the devices do not take the deletion, the volume is stopped.
   */
  async delete(text: string, prepare: (engine: VolumeEngine) => void = () => {}): Promise<HostedVolume> {
    let resolved = Promise.resolve();
    const deleted = await this.inVolume(text, async (volume) => {
      if (volume.engine !== null) prepare(volume.engine);
      await this.host.stop(volume);
      check(volume.engine === null, 'a volume is deleted that is served', volume.place);
      volume.reason = 'it was to be deleted, which could not be stored';
      const note = await this.catalog.delete(volume.stored);
      this.volumes.remove(volume);
      // Not waited for in this turn: it takes those of other volumes.
      resolved = this.startResolved();
      await this.catalog.cleanUp(note);
      return volume;
    });
    await resolved;
    return deleted;
  }

  /**
   * Deleted volumes no longer wait for a device that is lost for good; returns how many did. Rejects with
   * `ERR_STRAKE_VOLUME_BUSY` if the device is here.
   */
  giveUp(deviceId: string): Promise<number> {
    return this.deviceTurns.take([deviceId], async () => {
      const entry = this.stores.get(deviceId);
      if (entry !== undefined) throw deviceIsHere(deviceId, entry.path);
      return this.catalog.giveUp(deviceId, (id, work) => this.volumeTurns.take([id], work));
    });
  }

  /** Begins to read and repair everything in a volume. */
  scrub(text: string, bytesPerSecond: number): Job {
    return this.engine(text).scrub(bytesPerSecond > 0 ? { bytesPerSecond } : {});
  }

  /** A device that was away is open again: volumes that know it take it back, and those that waited for it start. */
  takeBack(entry: NodeStore): Promise<void> {
    const { deviceId } = entry;
    return this.deviceTurns.take([deviceId], async () => {
      if (this.stores.get(deviceId) !== entry) throw new StrakeError('NOT_FOUND', `device ${deviceId} is not open`);
      if (entry.failed) throw new StrakeError('FENCED', `${entry.path} takes no more writes`);
      const ids = this.volumes.idsOn(this.stores, deviceId);
      this.volumes.list(this.stores, ids);
      await allEnded(ids.map((id) => this.takeBackIn(id, entry)));
      await this.startResolved();
    });
  }

  private async takeBackIn(id: string, entry: NodeStore): Promise<void> {
    const started = await this.volumeTurns.take([id], async () => {
      const volume = this.volumes.get(id);
      if (!volume?.engine) return false;
      await this.host.resumeOn(volume, volume.engine, entry);
      return true;
    });
    // What the device brings may be newer than what the others knew.
    if (!started) await this.settleVolume(id, []);
  }

  /**
   * Puts a new device in the place of one that is lost, in all volumes. Rebuilding begins at once; resolves to the ids of
   * its jobs.
   */
  replace(deviceId: string, entry: NodeStore): Promise<number[]> {
    const by = entry.deviceId;
    return this.deviceTurns.take([deviceId, by], () =>
      this.inVolumesOf(deviceId, async () => {
        if (this.stores.get(by) !== entry) throw new StrakeError('NOT_FOUND', `device ${by} is not open`);
        const users = [...this.volumes.values()].filter(({ stored }) => hasMember(stored, deviceId));
        checkReplacement(this.stores, deviceId, entry, users);
        const jobs: number[] = [];
        for (const volume of users) {
          const begun = await this.host.replaceIn(volume, deviceId, entry);
          jobs.push(...begun.map(({ id }) => id));
        }
        check(jobs.length >= users.length, 'a volume keeps a device that was replaced', jobs.length);
        return jobs;
      }),
    );
  }

  /**
   * Lets go of a device that no volume has as a current member, so that it can be replaced by its own path. Rejects with
   * `ERR_STRAKE_VOLUME_BUSY` if a volume writes to it. That it cannot be closed in order is told as an event: it may be
   * as dead as whoever takes it out says.
   */
  forget(deviceId: string): Promise<void> {
    return this.deviceTurns.take([deviceId], async () => {
      const entry = await this.inVolumesOf(deviceId, async () => {
        for (const { engine, stored } of this.volumes.values()) {
          if (engine === null || !isUsed(engine, deviceId)) continue;
          throw new StrakeError('VOLUME_BUSY', `device ${deviceId} is in use by volume ${stored.name}`);
        }
        const found = this.stores.get(deviceId);
        // What begins from now on does not see it.
        this.devices.letGo(deviceId);
        if (found !== undefined) this.volumes.dropUnknown(this.stores, found);
        return found;
      });
      await this.startResolved();
      if (entry === undefined) return;
      await this.closeStore(entry).catch((error: unknown) => {
        this.hooks.onEvent({ kind: 'device-failed', deviceId, text: toStrakeError(error).message });
      });
    });
  }

  // ---------------------------------------------------------------- status and end

  deviceStatus(): StoreStatus[] {
    return this.devices.status();
  }

  /** Devices that are not here, and for which notes of deleted volumes are kept. */
  awaitedDevices(): AwaitedDevice[] {
    return this.catalog.awaitedDevices();
  }

  volumeReports(): VolumeReport[] {
    return volumeReports(this.volumes, this.stores);
  }

  /** What may take long comes to an end, or is left to the next start: the node is about to be closed. Requests go on. */
  endWork(): void {
    this.devices.endWork();
    this.catalog.endWork();
    this.deviceTurns.close(closedError());
    this.volumeTurns.close(closedError());
    this.host.endWork();
  }

  /** Stops all volumes and closes all devices in order. Rejects with the first error; everything is closed all the same. */
  async close(): Promise<void> {
    this.endWork();
    await Promise.all([this.deviceTurns.ended(), this.volumeTurns.ended()]);
    const errors: unknown[] = [];
    const note = (error: unknown) => errors.push(error);
    await Promise.all([...this.volumes.values()].map((volume) => this.host.end(volume).catch(note)));
    this.volumes.clear();
    await Promise.all([...this.stores.values()].map((entry) => this.closeStore(entry).catch(note)));
    check(this.stores.size === 0, 'devices are left open when a node is closed', this.stores.size);
    if (errors.length > 0) throw errors[0];
  }
}
