/**
 * The catalog of one node: what its devices say of volumes, and who decides about their maps while no manager does.
 *
 * The map of a volume lies on each of its devices; there is no other catalog. The newest map that any device has counts. A
 * volume is attached when all devices that the newest map calls in-sync are there; a missing one might know a newer map,
 * and have newer data. Then the volume is *unproven*, and is not attached unless somebody who knows better says so.
 *
 * A device that is not believed to be in-sync is compared with the others block by block.
 *
 * All devices that a map names are locked by this process, so nobody else decides, and a decided map is stored at once.
 */

import { allEnded } from '../core/all-ended.js';
import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import { deletionOf, released, withoutDevice } from '../layout/map-changes.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { managedVolumes, newestMap, newestMaps, startingMap, withoutDoubles } from '../layout/starting-map.js';
import { checkMap, newestVersion, type VolumeMap } from '../layout/volume-map.js';
import type { DeviceEvent } from '../node/device-events.js';
import type { NodeDevice } from '../node/node-device.js';
import type { CompletionPort } from '../ports/completion.js';
import type { AttachRequest, MapAuthority, MapChange } from '../ports/map-authority.js';
import { type AwaitedDevice, awaitedDevices, cleanUp, mayForget } from './deleted-volumes.js';
import { newVolume, type VolumeSpec } from './placement.js';
import { renameStored } from './renaming.js';
import { hasMember } from './replacement.js';
import { storeMap } from './store-map.js';

/** What the catalog needs of the node. */
export interface DeviceCatalogParts {
  readonly completions: CompletionPort;
  /** The devices that are open. */
  readonly stores: ReadonlyMap<string, NodeDevice>;
  readonly onEvent: (event: DeviceEvent) => void;
}

export class DeviceCatalog implements MapAuthority<VolumeMap> {
  private readonly parts: DeviceCatalogParts;
  private readonly listeners: ((map: VolumeMap) => void)[] = [];
  /** Of each volume that is attached the map that is in effect. */
  private readonly current = new Map<string, VolumeMap>();
  private ending = false;

  constructor(parts: DeviceCatalogParts) {
    this.parts = parts;
  }

  private get stores(): ReadonlyMap<string, NodeDevice> {
    return this.parts.stores;
  }

  /** The newest map of each volume, deleted ones included. */
  newest(): Map<string, VolumeMap> {
    return newestMaps(this.stores);
  }

  /** The newest map of one volume. */
  newestOf(volumeId: string): VolumeMap | undefined {
    return newestMap(this.stores, volumeId);
  }

  // ---------------------------------------------------------------- maps of volumes that are served

  async attach({ volumeId, holder, reachable, again }: AttachRequest): Promise<VolumeMap> {
    const stores = new Map([...this.stores].filter(([deviceId]) => reachable.includes(deviceId)));
    const newest = newestMap(stores, volumeId);
    if (newest === undefined) throw unknownVolume(this.stores, volumeId);
    const map = startingMap(stores, withoutDoubles(newest), { holder, again });
    checkMap(map);
    check(map.id === volumeId, 'a volume is attached with the map of another', map.generation);
    const newer = map.versions.every((version, group) => version > newest.versions[group]);
    check(newer, 'a volume is attached with a map that is not newer in every group', newestVersion(map));
    check(map.generation > newest.generation, 'a volume is attached under a generation that has been', map.generation);
    check(map.groups.length === newest.groups.length, 'a volume is attached with other groups', map.groups.length);
    // Not even told to the devices: with the right ones the volume may start the next time.
    if (map.groups.some((group) => group.every(({ state }) => state !== 'in-sync'))) {
      throw new StrakeError('UNAVAILABLE', `a group of volume ${map.name} has no current copy`);
    }
    // Nobody is served yet, so nothing is under way.
    await storeMap(stores, map, { before: null, idle: true });
    this.tell(map);
    return map;
  }

  async change(next: VolumeMap): Promise<MapChange<VolumeMap>> {
    const before = this.inEffect(next);
    check(!next.deleted, 'the map of a volume that is served says that it is deleted', next.generation);
    await storeMap(this.stores, next, { before, idle: false });
    this.tell(next);
    return { kind: 'done', map: next };
  }

  async release(map: VolumeMap): Promise<void> {
    const before = this.inEffect(map);
    const last = released(map);
    check(
      last.versions.length === before.versions.length,
      'a volume is given back with other groups',
      map.groups.length,
    );
    await storeMap(this.stores, last, { before, idle: true });
    this.tell(last);
    this.current.delete(map.id);
  }

  /** The map of an attached volume. A change under another generation comes late, from a writer that another has replaced. */
  private inEffect(next: VolumeMap): VolumeMap {
    const before = this.current.get(next.id);
    if (before?.generation !== next.generation || before.holder !== next.holder) {
      throw new StrakeError(
        'UNAVAILABLE',
        `volume ${next.name} is not held by whoever changes its map: attach it again`,
      );
    }
    return before;
  }

  onMap(listener: (map: VolumeMap) => void): void {
    this.listeners.push(listener);
  }

  private tell(map: VolumeMap): void {
    this.current.set(map.id, map);
    for (const listener of this.listeners) listener(map);
  }

  // ---------------------------------------------------------------- volumes that come, go, and are renamed

  /** The first map of a volume, which no device has yet. Throws as `newVolume`. */
  plan(spec: VolumeSpec): VolumeMap {
    return newVolume(this.stores, spec);
  }

  /** Makes the first map of a volume durable. Rejects with a `StrakeError`. */
  create(map: VolumeMap): Promise<void> {
    check(newestVersion(map) === 1 && !map.deleted, 'the first map of a volume is not the first', newestVersion(map));
    return storeMap(this.stores, map, { before: null, idle: true });
  }

  /** Makes durable that a volume is deleted. What it has is given back by `cleanUp` of the note that this resolves to. */
  async delete(map: VolumeMap): Promise<VolumeMap> {
    const note = deletionOf(map);
    await storeMap(this.stores, note, { before: null, idle: true });
    return note;
  }

  /** Takes a volume back that nobody has heard of. */
  undo(map: VolumeMap): Promise<void> {
    return this.cleanUp(deletionOf(map));
  }

  /** Gives back what a deleted volume still has on the devices that are here. */
  cleanUp(note: VolumeMap): Promise<void> {
    const { completions, onEvent } = this.parts;
    check(note.deleted, 'segments are given back of a volume that is not deleted', newestVersion(note));
    return cleanUp(this.stores, note, {
      completions,
      ending: () => this.ending,
      onFailure: (deviceId, { message }) => onEvent({ kind: 'device-failed', deviceId, text: message }),
    });
  }

  /** Another name for a volume that is not attached. Rejects with `ERR_STRAKE_UNAVAILABLE` if no device takes it. */
  rename(map: VolumeMap, name: string): Promise<VolumeMap> {
    check(!map.deleted, 'a volume is renamed that is deleted', newestVersion(map));
    return renameStored(this.stores, map, name);
  }

  // ---------------------------------------------------------------- notes of deleted volumes

  /** Whether no device that is here, and none that is away, can bring a deleted volume back. */
  mayForget({ volume }: ReplicaMap): boolean {
    const note = newestMap(this.stores, volume.id);
    return note !== undefined && mayForget(this.stores, note);
  }

  /** Devices that are not here, and for which notes of deleted volumes are kept. */
  awaitedDevices(): AwaitedDevice[] {
    return awaitedDevices(this.stores);
  }

  /**
   * Takes a device that is lost for good out of all notes; resolves to how many named it. `inTurn`: carries out work on a
   * volume when nothing else works on it.
   */
  async giveUp(deviceId: string, inTurn: (id: string, work: () => Promise<void>) => Promise<void>): Promise<number> {
    const notes = [...this.newest().values()].filter((one) => one.deleted && hasMember(one, deviceId));
    const takeOut = async (id: string) => {
      const note = newestMap(this.stores, id);
      if (note?.deleted && hasMember(note, deviceId)) await this.cleanUp(withoutDevice(note, deviceId));
    };
    await allEnded(notes.map(({ id }) => inTurn(id, () => takeOut(id))));
    return notes.length;
  }

  /** What may take long comes to an end, or is left to the next start. */
  endWork(): void {
    this.ending = true;
  }
}

/** Why this node has no map of a volume with which it could be attached. */
function unknownVolume(stores: ReadonlyMap<string, NodeDevice>, volumeId: string): StrakeError {
  if (!managedVolumes(stores).has(volumeId)) {
    return new StrakeError('NO_VOLUME', `no device that is here knows volume ${volumeId}`);
  }
  return new StrakeError('UNAVAILABLE', `managers decide about volume ${volumeId}, and not this node`, {
    remedy:
      'Start the node with the manager of its cluster; `strake cluster leave` gives its volumes back to the node.',
  });
}
