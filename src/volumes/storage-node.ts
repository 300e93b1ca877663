/**
 * A storage node: the devices of one shard, the volumes on them, and the rules by which these come and go.
 *
 * The map of a volume lies on each of its devices; there is no other catalog. The newest map that any device has counts. A
 * volume is started when all devices that the newest map calls in-sync are there; a missing one might know a newer map,
 * and have newer data. Then the volume is *unproven*, and is not started unless somebody who knows better says so.
 *
 * A device that is not believed to be in-sync is compared with the others block by block.
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

import { COPY_SCRATCH_BYTES, CopyBuffers } from '../client/jobs/copy-buffers.js';
import type { Job } from '../client/jobs/job.js';
import { allEnded } from '../client/mirror/reconcile.js';
import { VOLUME_ENGINE_SCRATCH_BYTES, VolumeEngine } from '../client/volume-engine.js';
import type { VolumeEvent } from '../client/volume-events.js';
import { newVolumeName } from '../core/arguments.js';
import { deviceError } from '../core/errno.js';
import { StrakeError, toStrakeError } from '../core/errors.js';
import { NODE_VOLUMES_MAX } from '../core/limits.js';
import { newestMaps, startingMap, withoutDoubles } from '../layout/starting-map.js';
import { checkMap, type VolumeMap } from '../layout/volume-map.js';
import { closedError, deviceIsHere, tooManyDevices, tooManyVolumes } from '../node/node-errors.js';
import { addInOrder, NodeStore } from '../node/node-store.js';
import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Device } from '../ports/device.js';
import type { Memory } from '../ports/memory.js';
import type { Superblock } from '../store/format/superblock.js';
import { LocalMember } from '../store/local-member.js';
import { type Expectations, openStore } from '../store/opening/open-store.js';
import { STORE_MEMORY_BYTES } from '../store/store-start.js';
import {
  type AwaitedDevice,
  awaitedDevices,
  cleanUp,
  deletionOf,
  mayForget,
  withoutDevice,
} from './deleted-volumes.js';
import { HostedVolume } from './hosted-volume.js';
import { JobBook } from './job-book.js';
import { isUsed, type StoreStatus, storeStatuses, type VolumeReport, volumeReports } from './node-status.js';
import { newVolume, type VolumeSpec } from './placement.js';
import { renameVolume } from './renaming.js';
import { checkReplacement, hasMember, placesOf } from './replacement.js';
import { refusalOf } from './starting-refusal.js';
import { type StorageEvent, storageEvent } from './storage-events.js';
import { storeMap } from './store-map.js';
import { Turns } from './turns.js';
import { VolumeDirectory } from './volume-directory.js';

/** Memory in the arena, from a page on, of a node that drives at most so many devices. */
export function nodeMemoryBytes(storesMax: number): number {
  if (storesMax === 0) return 0;
  return COPY_SCRATCH_BYTES + NODE_VOLUMES_MAX * VOLUME_ENGINE_SCRATCH_BYTES + storesMax * STORE_MEMORY_BYTES;
}

export interface NodePorts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly clock: Clock;
  /** Start of `nodeMemoryBytes(storesMax)`. */
  readonly memoryStart: number;
  /** The most devices, at most `NODE_STORES_MAX`. */
  readonly storesMax: number;
}

export class StorageNode {
  readonly stores = new Map<string, NodeStore>();
  readonly volumes = new VolumeDirectory();
  readonly jobs = new JobBook();
  /** Volumes serve that another one's name had kept from it. */
  onResolved: () => void = () => {};
  onEvent: (event: StorageEvent) => void = () => {};
  private readonly ports: NodePorts;
  private readonly freeStorePlaces: number[] = [];
  private readonly freeVolumePlaces: number[] = [];
  private readonly buffers: CopyBuffers;
  /** By device id. */
  private readonly deviceTurns = new Turns();
  /** By volume id. */
  private readonly volumeTurns = new Turns();
  private closing = false;
  private devicesAsked = 0;
  /** What is known of devices that are being opened, by place. */
  private readonly opening = new Map<number, { readonly superblock: Superblock; readonly path: string }>();

  constructor(ports: NodePorts) {
    this.ports = ports;
    this.buffers = new CopyBuffers(ports.memory, ports.memoryStart);
    for (let place = ports.storesMax - 1; place >= 0; place -= 1) this.freeStorePlaces.push(place);
    for (let place = NODE_VOLUMES_MAX - 1; place >= 0; place -= 1) this.freeVolumePlaces.push(place);
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

  private storeMemory(place: number): number {
    const volumes = NODE_VOLUMES_MAX * VOLUME_ENGINE_SCRATCH_BYTES;
    return this.ports.memoryStart + COPY_SCRATCH_BYTES + volumes + place * STORE_MEMORY_BYTES;
  }

  /** A device that did not answer may still write to its memory. */
  private returnStorePlace(place: number): void {
    const start = this.storeMemory(place);
    this.ports.memory.whenFree(start, STORE_MEMORY_BYTES, () => this.freeStorePlaces.push(place));
  }

  private volumeMemory(place: number): number {
    return this.ports.memoryStart + COPY_SCRATCH_BYTES + place * VOLUME_ENGINE_SCRATCH_BYTES;
  }

  // ---------------------------------------------------------------- devices

  /**
   * Opens a device, beside whatever else goes on. Rejects with `ERR_STRAKE_WRONG_DEVICE` for a clone and others of
   * `openStore`.
   */
  async open(device: Device, expected: Expectations): Promise<NodeStore> {
    const place = this.freeStorePlaces.pop();
    if (place === undefined) throw tooManyDevices(this.ports.storesMax);
    const order = this.devicesAsked;
    this.devicesAsked += 1;
    const { path } = expected;
    try {
      const { completions, memory } = this.ports;
      const ports = { completions, memory, device, memoryStart: this.storeMemory(place) };
      const refuse = (found: Superblock) => {
        this.checkNew(found, path);
        this.opening.set(place, { superblock: found, path });
      };
      const opened = await openStore(ports, { ...expected, refuse });
      const entry = new NodeStore(path, opened.store, opened.checkpointer, opened.recovery, { place, order });
      const { deviceId } = entry.superblock;
      if (this.closing) {
        await opened.store.quiet();
        opened.store.dispose();
        throw closedError();
      }
      opened.store.onDamage = (text) => this.onEvent({ kind: 'device-damage', deviceId, text });
      opened.store.volumeTable.mayForget = (note) => mayForget(this.stores, note);
      addInOrder(this.stores, entry);
      return entry;
    } catch (error) {
      this.returnStorePlace(place);
      throw error;
    } finally {
      this.opening.delete(place);
    }
  }

  /** Before anything is written to a device: whether it may be a part of this node. */
  private checkNew(found: Superblock, path: string): void {
    for (const { superblock, path: other } of [...this.stores.values(), ...this.opening.values()]) {
      if (superblock.deviceId === found.deviceId) {
        const what = `${path} is the same device as ${other} (${found.deviceId}): one of them is a copy`;
        throw new StrakeError('WRONG_DEVICE', what);
      }
      if (superblock.clusterId === found.clusterId) continue;
      const what = `${path} belongs to cluster ${found.clusterId}, ${other} to ${superblock.clusterId}`;
      throw new StrakeError('WRONG_DEVICE', what);
    }
  }

  /** Closes a device in order, if it still takes writes. No volume may use it. */
  private async closeStore(entry: NodeStore): Promise<void> {
    const { store, checkpointer, superblock } = entry;
    this.stores.delete(superblock.deviceId);
    // A map that takes the device out may be on its way, perhaps to itself. Later ones pass it by.
    const users = [...this.volumes.values()].filter(({ stored }) => hasMember(stored, superblock.deviceId));
    await Promise.all(users.map(({ engine }) => engine?.changesEnded()));
    const result = store.failed ? 0 : await checkpointer.close();
    // What ended later would go to whoever registers under the same number next.
    await store.quiet();
    store.dispose();
    this.returnStorePlace(entry.place);
    if (result < 0) throw deviceError(-result, `close ${entry.path}`);
  }

  // ---------------------------------------------------------------- assembly

  /**
   * Finds the volumes of all devices that are open, and starts those that can be, side by side. `without`: device ids by name
   * or id of a volume; a name that several volumes have says nothing.
   */
  async assemble(without: ReadonlyMap<string, readonly string[]>): Promise<void> {
    const ids = [...newestMaps(this.stores).keys()];
    this.volumes.list(this.stores, ids);
    const given = this.volumes.meantBy(without);
    await allEnded(ids.map((id) => this.settleVolume(id, given.get(id) ?? [])));
    await this.startResolved();
  }

  /** Brings a volume to what the newest map says, unless it is started: starts it, or gives back what is left of it. */
  private settleVolume(id: string, without: readonly string[]): Promise<void> {
    return this.volumeTurns.take([id], async () => {
      const stored = newestMaps(this.stores).get(id);
      const known = this.volumes.get(id);
      if (stored === undefined || (known !== undefined && known.engine !== null)) return;
      if (stored.deleted) {
        if (known !== undefined) this.volumes.remove(known);
        await this.cleanUp(stored);
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
    this.onResolved();
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
      await this.start(volume);
    } catch (error) {
      volume.reason = toStrakeError(error).message;
    }
  }

  private async start(volume: HostedVolume): Promise<void> {
    // A device that comes while this goes on has not been judged: it is taken back afterwards.
    const stores = new Map(this.stores);
    const stored = startingMap(stores, volume.stored, volume.started);
    checkMap(stored);
    // Not even told to the devices: with the right ones the volume may start the next time.
    if (stored.groups.some((group) => group.every(({ state }) => state !== 'in-sync'))) {
      throw new StrakeError('UNAVAILABLE', `a group of volume ${stored.name} has no current copy`);
    }
    const place = this.freeVolumePlaces.pop();
    if (place === undefined) throw tooManyVolumes();
    volume.place = place;
    const { completions, memory, clock } = this.ports;
    try {
      await storeMap(stores, stored);
      const members = stored.groups.map((group, at) =>
        group.map(({ deviceId }) => this.memberOn(stores.get(deviceId), stored, at)),
      );
      volume.members = members.flat().filter((member) => member !== null);
      const engine = new VolumeEngine({
        completions,
        memory,
        clock,
        record: stored,
        members,
        scratch: this.volumeMemory(place),
        buffers: this.buffers,
        readOnly: false,
        commit: async (next) => {
          await storeMap(this.stores, next);
          volume.stored = next;
        },
        onEvent: (event) => this.noteEvent(volume, event),
        nextJobId: () => this.jobs.nextId(),
        onJob: (job) => this.noteJob(volume, job),
      });
      volume.stored = stored;
      volume.engine = engine;
      volume.started = true;
      await engine.start();
      for (const member of volume.members) if (this.isCurrent(volume, member)) member.reconciled();
      volume.reason = '';
      volume.unproven = false;
    } catch (error) {
      await this.stop(volume);
      throw error;
    }
  }

  private memberOn(entry: NodeStore | undefined, { id, groups }: VolumeMap, group: number): LocalMember | null {
    if (entry === undefined || entry.store.failed) return null;
    const index = entry.store.volumes.findIndex((stored) => stored?.id === id);
    const share = { group, groups: groups.length };
    return index < 0 ? null : new LocalMember(this.ports.completions, entry.store, index, share);
  }

  private isCurrent(volume: HostedVolume, member: LocalMember): boolean {
    const group = volume.stored.groups[member.share.group];
    return group.some(({ deviceId, state }) => deviceId === member.deviceId && state === 'in-sync');
  }

  private noteEvent(volume: HostedVolume, event: VolumeEvent): void {
    if (event.kind === 'member-in-sync') {
      // The last one: earlier ones belong to earlier openings of the device.
      volume.members
        .findLast(({ deviceId, share }) => deviceId === event.deviceId && share.group === event.group)
        ?.reconciled();
    }
    const told = storageEvent(volume.name, event);
    if (told !== null) this.onEvent(told);
  }

  private noteJob(volume: HostedVolume, job: Job): void {
    const { group, position } = job;
    const deviceId = volume.engine?.record.groups[group]?.[position]?.deviceId ?? null;
    this.jobs.add(job, () => ({ volumeId: volume.id, volume: volume.name, deviceId }));
  }

  private async stop(volume: HostedVolume): Promise<void> {
    const { engine, members, place } = volume;
    volume.engine = null;
    volume.members = [];
    volume.place = -1;
    if (engine !== null) await engine.close();
    for (const member of members) member.close();
    if (place < 0) return;
    const start = this.volumeMemory(place);
    this.ports.memory.whenFree(start, VOLUME_ENGINE_SCRATCH_BYTES, () => this.freeVolumePlaces.push(place));
  }

  // ---------------------------------------------------------------- volumes

  /** The volume that a name or an id means. Throws `ERR_STRAKE_NO_VOLUME` or `ERR_STRAKE_NAME_CONFLICT`. */
  volume(text: string): HostedVolume {
    return this.volumes.find(text);
  }

  /** Its engine. Throws also `ERR_STRAKE_UNPROVEN` or `ERR_STRAKE_UNAVAILABLE` if it does not serve. */
  engine(text: string): VolumeEngine {
    const volume = this.volume(text);
    const { engine, name } = volume;
    if (engine?.serving) return engine;
    if (engine !== null) throw new StrakeError('UNAVAILABLE', `volume ${name} is being started or stopped`);
    if (this.volumes.inConflict(volume)) throw this.volumes.conflictOf(volume);
    throw new StrakeError(volume.unproven ? 'UNPROVEN' : 'UNAVAILABLE', `volume ${name}: ${volume.reason}`);
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
    const stored = newVolume(this.stores, spec);
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
      await renameVolume(this.stores, volume, name);
      return volume;
    });
    return renamed.finally(() => this.startResolved());
  }

  private async makeVolume(volume: HostedVolume): Promise<void> {
    if (this.freeVolumePlaces.length === 0) throw tooManyVolumes();
    try {
      await storeMap(this.stores, volume.stored);
      await this.start(volume);
    } catch (error) {
      // Nobody has heard of it: a second one of this name must not meet it.
      await this.cleanUp(deletionOf(volume.stored));
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
      volume.stored = newestMaps(this.stores).get(id) ?? volume.stored;
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
      await this.stop(volume);
      const stored = deletionOf(volume.stored);
      volume.reason = 'it was to be deleted, which could not be stored';
      await storeMap(this.stores, stored);
      this.volumes.remove(volume);
      // Not waited for in this turn: it takes those of other volumes.
      resolved = this.startResolved();
      await this.cleanUp(stored);
      return volume;
    });
    await resolved;
    return deleted;
  }

  /** Gives back what a deleted volume still has on the devices that are here. */
  private cleanUp(note: VolumeMap): Promise<void> {
    return cleanUp(this.stores, note, {
      completions: this.ports.completions,
      ending: () => this.closing,
      onFailure: (deviceId, { message }) => this.onEvent({ kind: 'device-failed', deviceId, text: message }),
    });
  }

  /**
   * Deleted volumes no longer wait for a device that is lost for good; returns how many did. Rejects with
   * `ERR_STRAKE_VOLUME_BUSY` if the device is here.
   */
  giveUp(deviceId: string): Promise<number> {
    return this.deviceTurns.take([deviceId], async () => {
      const entry = this.stores.get(deviceId);
      if (entry !== undefined) throw deviceIsHere(deviceId, entry.path);
      const notes = [...newestMaps(this.stores).values()].filter((one) => one.deleted && hasMember(one, deviceId));
      await allEnded(
        notes.map(({ id }) =>
          this.volumeTurns.take([id], async () => {
            const note = newestMaps(this.stores).get(id);
            if (note?.deleted && hasMember(note, deviceId)) await this.cleanUp(withoutDevice(note, deviceId));
          }),
        ),
      );
      return notes.length;
    });
  }

  /** Begins to read and repair everything in a volume. */
  scrub(text: string, bytesPerSecond: number): Job {
    return this.engine(text).scrub(bytesPerSecond > 0 ? { bytesPerSecond } : {});
  }

  /** A device that was away is open again: volumes that know it take it back, and those that waited for it start. */
  takeBack(entry: NodeStore): Promise<void> {
    const { deviceId } = entry.superblock;
    return this.deviceTurns.take([deviceId], async () => {
      if (this.stores.get(deviceId) !== entry) throw new StrakeError('NOT_FOUND', `device ${deviceId} is not open`);
      if (entry.store.failed) throw new StrakeError('FENCED', `${entry.path} takes no more writes`);
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
      await this.resumeOn(volume, volume.engine, entry);
      return true;
    });
    // What the device brings may be newer than what the others knew.
    if (!started) await this.settleVolume(id, []);
  }

  /** Begins to bring the places of a device up to date, unless they are, or that goes on already. */
  private async resumeOn(volume: HostedVolume, engine: VolumeEngine, entry: NodeStore): Promise<void> {
    const { deviceId, incarnation } = entry.superblock;
    // It may just be on its way out.
    await engine.changesEnded();
    await this.eachMember(volume, deviceId, async (group, position) => {
      if (await engine.resume(group, position, incarnation)) return;
      engine.attach(group, position, await this.newMember(volume, entry, group));
    });
  }

  /** A member on a device that may not know the volume yet. */
  private async newMember(volume: HostedVolume, { store, path }: NodeStore, group: number): Promise<LocalMember> {
    const index = await store.putVolume(volume.stored);
    if (index < 0) throw deviceError(-index, `store the map of ${volume.stored.name} on ${path}`);
    const share = { group, groups: volume.stored.groups.length };
    const member = new LocalMember(this.ports.completions, store, index, share);
    volume.members.push(member);
    return member;
  }

  private async eachMember(
    volume: HostedVolume,
    deviceId: string,
    work: (group: number, position: number) => Promise<void>,
  ): Promise<void> {
    for (const { group, position } of placesOf(volume.stored, deviceId)) await work(group, position);
  }

  /**
   * Puts a new device in the place of one that is lost, in all volumes. Rebuilding begins at once; resolves to the ids of
   * its jobs.
   */
  replace(deviceId: string, entry: NodeStore): Promise<number[]> {
    const by = entry.superblock.deviceId;
    return this.deviceTurns.take([deviceId, by], () =>
      this.inVolumesOf(deviceId, async () => {
        if (this.stores.get(by) !== entry) throw new StrakeError('NOT_FOUND', `device ${by} is not open`);
        const users = [...this.volumes.values()].filter(({ stored }) => hasMember(stored, deviceId));
        checkReplacement(this.stores, deviceId, entry, users);
        const jobs: number[] = [];
        for (const volume of users) {
          await this.eachMember(volume, deviceId, async (group, position) => {
            const member = await this.newMember(volume, entry, group);
            const job = await volume.engine?.replace(group, position, by, member);
            if (job !== undefined) jobs.push(job.id);
          });
        }
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
        this.stores.delete(deviceId);
        if (found !== undefined) this.volumes.dropUnknown(this.stores, found);
        return found;
      });
      await this.startResolved();
      if (entry === undefined) return;
      await this.closeStore(entry).catch((error: unknown) => {
        this.onEvent({ kind: 'device-failed', deviceId, text: toStrakeError(error).message });
      });
    });
  }

  // ---------------------------------------------------------------- status and end

  deviceStatus(): StoreStatus[] {
    return storeStatuses(this.stores);
  }

  /** Devices that are not here, and for which notes of deleted volumes are kept. */
  awaitedDevices(): AwaitedDevice[] {
    return awaitedDevices(this.stores);
  }

  volumeReports(): VolumeReport[] {
    return volumeReports(this.volumes, this.stores);
  }

  /** What may take long comes to an end, or is left to the next start: the node is about to be closed. Requests go on. */
  endWork(): void {
    this.closing = true;
    this.deviceTurns.close(closedError());
    this.volumeTurns.close(closedError());
    for (const { engine } of this.volumes.values()) engine?.endWork();
  }

  /** Stops all volumes and closes all devices in order. Rejects with the first error; everything is closed all the same. */
  async close(): Promise<void> {
    this.endWork();
    await Promise.all([this.deviceTurns.ended(), this.volumeTurns.ended()]);
    const errors: unknown[] = [];
    const note = (error: unknown) => errors.push(error);
    await Promise.all(
      [...this.volumes.values()].map(async (volume) => {
        if (volume.engine !== null) await volume.engine.noteProgress().catch(note);
        await this.stop(volume).catch(note);
      }),
    );
    this.volumes.clear();
    await Promise.all([...this.stores.values()].map((entry) => this.closeStore(entry).catch(note)));
    if (errors.length > 0) throw errors[0];
  }
}
