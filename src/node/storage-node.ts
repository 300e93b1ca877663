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
 * the process dies at any instant. Control operations are carried out one after another.
 */

import { COPY_SCRATCH_BYTES, CopyBuffers } from '../client/copy-buffers.js';
import type { Job } from '../client/job.js';
import { VOLUME_ENGINE_SCRATCH_BYTES, VolumeEngine } from '../client/volume-engine.js';
import type { VolumeEvent, VolumeStatus } from '../client/volume-events.js';
import { checkRecord, START } from '../client/volume-record.js';
import { deviceError } from '../core/errno.js';
import { StrakeError, toStrakeError } from '../core/errors.js';
import { NODE_VOLUMES_MAX } from '../core/limits.js';
import { formatBytes } from '../core/units.js';
import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';
import { type Device, FENCE_ALL } from '../ports/device.js';
import type { Memory } from '../ports/memory.js';
import { SLOT_FREE } from '../store/format.js';
import { type Expectations, openStore, type RecoveryReport } from '../store/open-store.js';
import { type StoredVolume, VOLUME_MEMBERS_MAX, VOLUME_NAME_BYTES_MAX } from '../store/pages.js';
import { STORE_MEMORY_BYTES, type StoreCounters } from '../store/segment-store.js';
import type { Superblock } from '../store/superblock.js';
import { VolumeMember } from '../store/volume-member.js';
import { NodeStore } from './node-store.js';
import { newestMaps, startingMap } from './starting-map.js';

/** Memory in the arena, from a page on, of a node that drives at most so many devices. */
export function nodeMemoryBytes(storesMax: number): number {
  if (storesMax === 0) return 0;
  return COPY_SCRATCH_BYTES + NODE_VOLUMES_MAX * VOLUME_ENGINE_SCRATCH_BYTES + storesMax * STORE_MEMORY_BYTES;
}

const VOLUME_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
/** Segments that are given back at the same time when a volume is deleted. */
const RELEASES = 256;

export interface NodePorts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly clock: Clock;
  /** Start of `nodeMemoryBytes(storesMax)`. */
  readonly memoryStart: number;
  /** The most devices, at most `NODE_STORES_MAX`. */
  readonly storesMax: number;
}

/** What is told of what happens to volumes and devices. */
export interface StorageEvent {
  readonly kind: VolumeEvent['kind'] | 'device-failed' | 'device-damage';
  readonly volume?: string;
  readonly deviceId?: string;
  readonly text: string;
}

/** A volume of the node, started or not. */
export class NodeVolume {
  stored: StoredVolume;
  engine: VolumeEngine | null = null;
  members: VolumeMember[] = [];
  /** Its piece of memory, while it is started. */
  place = -1;
  /** Why it is not started. */
  reason = '';
  unproven = false;
  /** It has been started since the devices were opened, so their incarnations are the ones that the map knows. */
  started = false;

  constructor(stored: StoredVolume) {
    this.stored = stored;
  }
}

/** A device, as plain data. */
export interface StoreStatus {
  readonly path: string;
  readonly superblock: Superblock;
  readonly state: 'ok' | 'failed' | 'lost';
  readonly usedSlots: number;
  readonly recovery: RecoveryReport;
  readonly counters: StoreCounters;
}

/** A volume, as plain data. */
export interface VolumeReport {
  readonly stored: StoredVolume;
  readonly unproven: boolean;
  readonly reason: string;
  readonly usedSlots: number;
  /** Null while it is not started. */
  readonly status: VolumeStatus | null;
}

/** What a new volume is to be. */
export interface VolumeSpec {
  readonly id: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly layout: 'single' | 'mirror';
  readonly copies: number;
  readonly createdMs: number;
}

export class StorageNode {
  readonly stores = new Map<string, NodeStore>();
  /** By name. */
  readonly volumes = new Map<string, NodeVolume>();
  onEvent: (event: StorageEvent) => void = () => {};
  private readonly ports: NodePorts;
  private readonly freeStorePlaces: number[] = [];
  private readonly freeVolumePlaces: number[] = [];
  private readonly buffers: CopyBuffers;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(ports: NodePorts) {
    this.ports = ports;
    this.buffers = new CopyBuffers(ports.memory, ports.memoryStart);
    for (let place = ports.storesMax - 1; place >= 0; place -= 1) this.freeStorePlaces.push(place);
    for (let place = NODE_VOLUMES_MAX - 1; place >= 0; place -= 1) this.freeVolumePlaces.push(place);
  }

  /** Lets one control operation go on at a time. */
  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.turn.then(work);
    this.turn = result.catch(() => {});
    return result;
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

  /** Opens a device. Rejects with `ERR_STRAKE_WRONG_DEVICE` for a clone and others of `openStore`. */
  open(device: Device, expected: Expectations): Promise<NodeStore> {
    return this.inTurn(async () => {
      const place = this.freeStorePlaces.pop();
      if (place === undefined)
        throw new StrakeError('BUSY', `this node drives at most ${this.ports.storesMax} devices`, {
          remedy: 'Take one out of the node first: one that is not used, or that has failed.',
        });
      try {
        const { completions, memory } = this.ports;
        const ports = { completions, memory, device, memoryStart: this.storeMemory(place) };
        const opened = await openStore(ports, { ...expected, refuse: (found) => this.checkNew(found, expected.path) });
        const entry = new NodeStore(expected.path, opened.store, opened.checkpointer, opened.recovery, place);
        const { deviceId } = entry.superblock;
        opened.store.onDamage = (text) => this.onEvent({ kind: 'device-damage', deviceId, text });
        this.stores.set(deviceId, entry);
        return entry;
      } catch (error) {
        this.returnStorePlace(place);
        throw error;
      }
    });
  }

  /** Before anything is written to a device: whether it may be a part of this node. */
  private checkNew(found: Superblock, path: string): void {
    const twin = this.stores.get(found.deviceId);
    if (twin !== undefined) {
      const what = `${path} is the same device as ${twin.path} (${found.deviceId}): one of them is a copy`;
      throw new StrakeError('WRONG_DEVICE', what);
    }
    for (const { superblock, path: other } of this.stores.values()) {
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
    for (const { engine } of this.volumes.values()) await engine?.changesEnded();
    const result = store.failed ? 0 : await checkpointer.close();
    // What ended later would go to whoever registers under the same number next.
    await store.quiet();
    store.dispose();
    this.returnStorePlace(entry.place);
    if (result < 0) throw deviceError(-result, `close ${entry.path}`);
  }

  // ---------------------------------------------------------------- assembly

  /** Finds the volumes of all devices that are open, and starts those that can be. `without`: device ids by volume name. */
  assemble(without: ReadonlyMap<string, readonly string[]>): Promise<void> {
    return this.inTurn(async () => {
      for (const stored of newestMaps(this.stores).values()) {
        if (stored.deleted) {
          await this.cleanUp(stored);
          continue;
        }
        const known = this.volumes.get(stored.name);
        if (known?.engine) continue;
        const volume = known ?? new NodeVolume(stored);
        volume.stored = stored;
        this.volumes.set(stored.name, volume);
        await this.tryStart(volume, without.get(stored.name) ?? []);
      }
    });
  }

  private async tryStart(volume: NodeVolume, without: readonly string[]): Promise<void> {
    const { stored } = volume;
    const missing = stored.groups
      .flat()
      .filter(({ deviceId, state }) => state === 'in-sync' && !this.stores.has(deviceId))
      .filter(({ deviceId }) => !without.includes(deviceId));
    volume.unproven = missing.length > 0;
    if (volume.unproven) {
      const ids = missing.map(({ deviceId }) => deviceId).join(', ');
      volume.reason = `device ${ids} is missing, which may hold newer data`;
      return;
    }
    try {
      await this.start(volume);
    } catch (error) {
      volume.reason = toStrakeError(error).message;
    }
  }

  private async start(volume: NodeVolume): Promise<void> {
    const stored = startingMap(this.stores, volume.stored, volume.started);
    checkRecord(stored);
    // Not even told to the devices: with the right ones the volume may start the next time.
    if (stored.groups.some((group) => group.every(({ state }) => state !== 'in-sync'))) {
      throw new StrakeError('UNAVAILABLE', `a group of volume ${stored.name} has no current copy`);
    }
    const place = this.freeVolumePlaces.pop();
    if (place === undefined) throw new StrakeError('BUSY', `a node serves at most ${NODE_VOLUMES_MAX} volumes`);
    volume.place = place;
    const { completions, memory, clock } = this.ports;
    try {
      await this.store(stored);
      const members = stored.groups.map((group) => group.map(({ deviceId }) => this.memberOn(deviceId, stored.id)));
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
        commit: async (record) => {
          const next = { ...volume.stored, ...record };
          await this.store(next);
          volume.stored = next;
        },
        onEvent: (event) => this.noteEvent(volume, event),
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

  private memberOn(deviceId: string, volumeId: string): VolumeMember | null {
    const entry = this.stores.get(deviceId);
    if (entry === undefined || entry.store.failed) return null;
    const index = entry.store.volumes.findIndex((stored) => stored?.id === volumeId);
    return index < 0 ? null : new VolumeMember(this.ports.completions, entry.store, index);
  }

  private isCurrent(volume: NodeVolume, member: VolumeMember): boolean {
    const all = volume.stored.groups.flat();
    return all.some(({ deviceId, state }) => deviceId === member.deviceId && state === 'in-sync');
  }

  /**
   * Makes a map durable on all devices that it names and that take writes. Each group must keep a current member that has
   * it. One that does not take it has failed for good, takes no later write either, and so is noticed by the first.
   * Those that the map calls current have it before any other: a device that is taken out must not be the only one to
   * know, as nobody would be current then after a crash.
   */
  private async store(stored: StoredVolume): Promise<void> {
    const put = (current: boolean) =>
      Promise.all(
        stored.groups.map((group) =>
          Promise.all(
            group.map(async ({ deviceId, state }) => {
              const entry = this.stores.get(deviceId);
              if (entry === undefined || entry.store.failed || (state === 'in-sync') !== current) return false;
              return (await entry.store.putVolume(stored)) >= 0;
            }),
          ),
        ),
      );
    const results = await put(true);
    if (!results.every((group) => group.includes(true))) {
      throw new StrakeError('UNAVAILABLE', `the map of volume ${stored.name} could not be stored on a current device`);
    }
    await put(false);
  }

  private noteEvent(volume: NodeVolume, event: VolumeEvent): void {
    const { name } = volume.stored;
    switch (event.kind) {
      case 'member-in-sync':
        // The last one: earlier ones belong to earlier openings of the device.
        volume.members.findLast(({ deviceId }) => deviceId === event.deviceId)?.reconciled();
        this.onEvent({ kind: event.kind, volume: name, deviceId: event.deviceId, text: 'is in sync' });
        break;
      case 'member-offline':
      case 'member-syncing':
        this.onEvent({ kind: event.kind, volume: name, deviceId: event.deviceId, text: event.reason });
        break;
      case 'stopped':
        this.onEvent({ kind: event.kind, volume: name, text: event.reason });
        break;
      case 'job-ended': {
        const { job } = event;
        this.onEvent({ kind: event.kind, volume: name, text: `${job.kind} ${job.state} ${job.reason}`.trim() });
        break;
      }
      case 'accepted':
        // After a crash under load there are thousands; the status counts them.
        break;
      default: {
        const text = `block ${event.block} of segment ${event.stripe} ${event.kind}`;
        this.onEvent({ kind: event.kind, volume: name, deviceId: event.deviceId, text });
      }
    }
  }

  private async stop(volume: NodeVolume): Promise<void> {
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

  /** The volume of this name. Throws `ERR_STRAKE_NO_VOLUME`. */
  volume(name: string): NodeVolume {
    const volume = this.volumes.get(name);
    if (volume === undefined) throw new StrakeError('NO_VOLUME', `there is no volume ${JSON.stringify(name)}`);
    return volume;
  }

  /** Its engine. Throws `ERR_STRAKE_UNPROVEN` or `ERR_STRAKE_UNAVAILABLE` if it does not serve. */
  engine(name: string): VolumeEngine {
    const volume = this.volume(name);
    if (volume.engine?.serving) return volume.engine;
    if (volume.engine !== null) throw new StrakeError('UNAVAILABLE', `volume ${name} is being started or stopped`);
    throw new StrakeError(volume.unproven ? 'UNPROVEN' : 'UNAVAILABLE', `volume ${name}: ${volume.reason}`);
  }

  /** Its engine, after whatever is being started or deleted. Rejects as `engine` throws. */
  async started(name: string): Promise<VolumeEngine> {
    const engine = this.volumes.get(name)?.engine;
    return engine?.serving ? engine : this.inTurn(async () => this.engine(name));
  }

  /** Makes a volume and starts it. */
  create(spec: VolumeSpec): Promise<NodeVolume> {
    return this.inTurn(async () => {
      this.checkSpec(spec);
      const stored: StoredVolume = {
        id: spec.id,
        name: spec.name,
        createdMs: spec.createdMs,
        sizeBytes: spec.sizeBytes,
        layout: spec.layout,
        copies: spec.copies,
        ...this.place(spec),
        mapVersion: 1,
        generation: 0,
        deleted: false,
      };
      checkRecord(stored);
      await this.store(stored);
      const volume = new NodeVolume(stored);
      try {
        await this.start(volume);
      } catch (error) {
        // Nobody has heard of it: a second one of this name must not meet it.
        const gone = { ...volume.stored, mapVersion: volume.stored.mapVersion + 1, deleted: true };
        await this.store(gone).catch(() => {});
        throw error;
      }
      this.volumes.set(spec.name, volume);
      return volume;
    });
  }

  private checkSpec({ name, copies, layout, sizeBytes }: VolumeSpec): void {
    if (!VOLUME_NAME.test(name) || name.length > VOLUME_NAME_BYTES_MAX) {
      const rule = 'letters, digits, ".", "_" and "-", beginning with a letter or digit, at most 255';
      throw new StrakeError('INVALID_ARGUMENT', `${JSON.stringify(name)} is no name for a volume: ${rule}`);
    }
    if (this.volumes.has(name)) throw new StrakeError('EXISTS', `there is a volume ${name} already`);
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes % 4096 !== 0) {
      throw new StrakeError('INVALID_ARGUMENT', `the size of a volume is a multiple of 4096 bytes, not ${sizeBytes}`);
    }
    if (layout === 'single' ? copies !== 1 : copies < 2 || copies > 3) {
      throw new StrakeError('INVALID_ARGUMENT', `${layout} with ${copies} copies: a mirror has 2 or 3, single has 1`);
    }
  }

  /** Devices for a volume: those with most room. A mirror is spread over as many groups as there are devices for. */
  private place({ copies, layout, name }: VolumeSpec): Pick<StoredVolume, 'groups' | 'segmentBytes'> {
    const usable = [...this.stores.values()].filter(({ store }) => !store.failed);
    const sizes = new Map<number, NodeStore[]>();
    for (const entry of usable) {
      const { slotBytes } = entry.superblock.layout;
      sizes.set(slotBytes, [...(sizes.get(slotBytes) ?? []), entry]);
    }
    const alike = [...sizes.values()].sort((one, other) => other.length - one.length)[0] ?? [];
    if (alike.length < copies) {
      const what = `volume ${name} needs ${copies} devices with slots of one size, and there are ${alike.length}`;
      throw new StrakeError('NO_SPACE', what, { remedy: 'Add formatted devices.' });
    }
    const sorted = alike.sort((one, other) => other.store.freeSlots - one.store.freeSlots);
    const groupsMax = Math.floor(VOLUME_MEMBERS_MAX / copies);
    const count = layout === 'single' ? 1 : Math.min(groupsMax, Math.floor(sorted.length / copies));
    const groups = Array.from({ length: count }, (_, group) =>
      Array.from({ length: copies }, (_, position) => {
        const { superblock } = sorted[group * copies + position];
        const { deviceId, incarnation } = superblock;
        return { deviceId, state: 'in-sync' as const, since: START, incarnation: incarnation - 1, flushNumber: 0 };
      }),
    );
    return { groups, segmentBytes: sorted[0].superblock.layout.slotBytes };
  }

  /** Makes a volume larger. */
  grow(name: string, sizeBytes: number): Promise<void> {
    return this.inTurn(() => this.engine(name).grow(sizeBytes));
  }

  /** Starts an unproven volume without the devices that are named. */
  startWithout(name: string, without: readonly string[]): Promise<void> {
    return this.inTurn(async () => {
      const volume = this.volume(name);
      if (volume.engine !== null) throw new StrakeError('VOLUME_BUSY', `volume ${name} is started already`);
      volume.stored = newestMaps(this.stores).get(volume.stored.id) ?? volume.stored;
      await this.tryStart(volume, without);
      this.engine(name);
    });
  }

  /**
   * Deletes a volume, and gives its space back. That it is deleted stays on its devices. `prepare` is called with its engine
   * before anything is done, if it has one; it may throw. If the devices do not take the deletion, the volume is stopped.
   */
  delete(name: string, prepare: (engine: VolumeEngine) => void = () => {}): Promise<void> {
    return this.inTurn(async () => {
      const volume = this.volume(name);
      if (volume.engine !== null) prepare(volume.engine);
      await this.stop(volume);
      const stored = { ...volume.stored, mapVersion: volume.stored.mapVersion + 1, deleted: true };
      volume.reason = 'it was to be deleted, which could not be stored';
      await this.store(stored);
      this.volumes.delete(name);
      await this.cleanUp(stored);
    });
  }

  /** Gives back what a deleted volume still has on the devices that are here. */
  private async cleanUp(stored: StoredVolume): Promise<void> {
    for (const { store } of this.stores.values()) {
      if (store.failed) continue;
      const index = store.volumes.findIndex((one) => one?.id === stored.id);
      if (index < 0) continue;
      if (store.volumes[index]?.deleted !== true) await store.putVolume(stored);
      const member = new VolumeMember(this.ports.completions, store, index);
      const stripes = [...member.segments()].map(({ stripe }) => stripe);
      for (let at = 0; at < stripes.length; at += RELEASES) {
        await Promise.all(stripes.slice(at, at + RELEASES).map((stripe) => member.release(stripe)));
      }
      await store.flushed();
      member.close();
    }
  }

  /** Begins to read and repair everything in a volume. */
  scrub(name: string, bytesPerSecond: number): Job {
    return this.engine(name).scrub(bytesPerSecond > 0 ? { bytesPerSecond } : {});
  }

  /** A device that was away is open again: volumes that know it take it back, and those that waited for it start. */
  takeBack(entry: NodeStore): Promise<void> {
    return this.inTurn(async () => {
      const { deviceId } = entry.superblock;
      const newest = newestMaps(this.stores);
      for (const stored of newest.values()) {
        if (!stored.deleted) continue;
        await this.cleanUp(stored);
        const known = this.volumes.get(stored.name);
        if (known?.stored.id === stored.id && known.engine === null) this.volumes.delete(stored.name);
      }
      for (const volume of this.volumes.values()) {
        if (volume.engine === null) {
          // What the device brings may be newer than what the others knew.
          volume.stored = newest.get(volume.stored.id) ?? volume.stored;
          await this.tryStart(volume, []);
          continue;
        }
        await this.eachMember(volume, deviceId, async (group, position) => {
          const member = await this.newMember(volume, entry);
          volume.engine?.attach(group, position, member);
        });
      }
      for (const stored of newest.values()) {
        if (stored.deleted || this.volumes.has(stored.name)) continue;
        const volume = new NodeVolume(stored);
        this.volumes.set(stored.name, volume);
        await this.tryStart(volume, []);
      }
    });
  }

  /** A member on a device that may not know the volume yet. */
  private async newMember(volume: NodeVolume, { store, path }: NodeStore): Promise<VolumeMember> {
    const index = await store.putVolume(volume.stored);
    if (index < 0) throw deviceError(-index, `store the map of ${volume.stored.name} on ${path}`);
    const member = new VolumeMember(this.ports.completions, store, index);
    volume.members.push(member);
    return member;
  }

  private async eachMember(
    volume: NodeVolume,
    deviceId: string,
    work: (group: number, position: number) => Promise<void>,
  ): Promise<void> {
    const places = volume.stored.groups.flatMap((members, group) =>
      members.flatMap((member, position) => (member.deviceId === deviceId ? [{ group, position }] : [])),
    );
    for (const { group, position } of places) await work(group, position);
  }

  /** Puts a new device in the place of one that is lost, in all volumes. Rebuilding begins at once. */
  replace(deviceId: string, entry: NodeStore): Promise<void> {
    return this.inTurn(async () => {
      const users = [...this.volumes.values()].filter(({ stored }) =>
        stored.groups.flat().some((member) => member.deviceId === deviceId),
      );
      if (users.length === 0) throw new StrakeError('NOT_FOUND', `no volume has a member on device ${deviceId}`);
      for (const volume of users) {
        const { name } = volume.stored;
        const states = volume.stored.groups.flat().filter((member) => member.deviceId === deviceId);
        if (volume.engine === null) throw new StrakeError('UNAVAILABLE', `volume ${name} is not started`);
        if (states.some(({ state }) => state !== 'offline')) {
          throw new StrakeError('VOLUME_BUSY', `device ${deviceId} is still in use by volume ${name}`);
        }
        const { slotBytes } = entry.superblock.layout;
        if (slotBytes !== volume.stored.segmentBytes) {
          const what = `slots of ${formatBytes(slotBytes)}, and volume ${name} has segments of`;
          throw new StrakeError(
            'INVALID_ARGUMENT',
            `${entry.path} has ${what} ${formatBytes(volume.stored.segmentBytes)}`,
          );
        }
      }
      for (const volume of users) {
        await this.eachMember(volume, deviceId, async (group, position) => {
          const member = await this.newMember(volume, entry);
          await volume.engine?.replace(group, position, entry.superblock.deviceId, member);
        });
      }
    });
  }

  /**
   * Lets go of a device that no volume has as a current member, so that it can be replaced by its own path. Rejects with
   * `ERR_STRAKE_VOLUME_BUSY` if a volume writes to it. That it cannot be closed in order is told as an event: it may be
   * as dead as whoever takes it out says.
   */
  forget(deviceId: string): Promise<void> {
    return this.inTurn(async () => {
      for (const { engine, stored } of this.volumes.values()) {
        if (engine === null || !isUsed(engine.status(), deviceId)) continue;
        throw new StrakeError('VOLUME_BUSY', `device ${deviceId} is in use by volume ${stored.name}`);
      }
      const entry = this.stores.get(deviceId);
      if (entry === undefined) return;
      await this.closeStore(entry).catch((error: unknown) => {
        this.onEvent({ kind: 'device-failed', deviceId, text: toStrakeError(error).message });
      });
    });
  }

  // ---------------------------------------------------------------- status

  deviceStatus(): StoreStatus[] {
    return [...this.stores.values()].map(({ path, store, superblock, recovery }) => ({
      path,
      superblock,
      state: store.device.fence() === FENCE_ALL ? 'lost' : store.failed ? 'failed' : 'ok',
      usedSlots: store.slots.usedSlots,
      recovery,
      counters: { ...store.counters },
    }));
  }

  volumeReports(): VolumeReport[] {
    return [...this.volumes.values()].map(({ stored, unproven, reason, engine }) => ({
      stored,
      unproven,
      reason,
      usedSlots: this.usedSlots(stored.id),
      status: engine?.status() ?? null,
    }));
  }

  private usedSlots(volumeId: string): number {
    let used = 0;
    for (const { store } of this.stores.values()) {
      const index = store.volumes.findIndex((one) => one?.id === volumeId);
      if (index < 0) continue;
      const { states, volumes } = store.slots;
      for (let slot = 0; slot < states.length; slot += 1) {
        if (states[slot] !== SLOT_FREE && volumes[slot] === index) used += 1;
      }
    }
    return used;
  }

  /** Stops all volumes and closes all devices in order. Rejects with the first error; everything is closed all the same. */
  close(): Promise<void> {
    return this.inTurn(async () => {
      const errors: unknown[] = [];
      for (const volume of this.volumes.values()) {
        if (volume.engine !== null) await volume.engine.noteProgress().catch((error: unknown) => errors.push(error));
        await this.stop(volume).catch((error: unknown) => errors.push(error));
      }
      this.volumes.clear();
      for (const entry of [...this.stores.values()]) {
        await this.closeStore(entry).catch((error: unknown) => errors.push(error));
      }
      if (errors.length > 0) throw errors[0];
    });
  }
}

/** Whether a volume writes to a device, or is about to. */
function isUsed({ groups, jobs }: VolumeStatus, deviceId: string): boolean {
  return groups.some((group, at) =>
    group.some((member, position) => {
      if (member.deviceId !== deviceId || !member.present) return false;
      const brought = jobs.some((job) => job.state === 'running' && job.group === at && job.position === position);
      return member.state !== 'offline' || brought;
    }),
  );
}
