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

import { allEnded } from '../client/mirror/reconcile.js';
import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import { newestMaps, startingMap, withoutDoubles } from '../layout/starting-map.js';
import { checkMap, type VolumeMap } from '../layout/volume-map.js';
import type { DeviceEvent } from '../node/device-events.js';
import type { NodeStore } from '../node/node-store.js';
import type { CompletionPort } from '../ports/completion.js';
import type { AttachRequest, MapAuthority } from '../ports/map-authority.js';
import {
  type AwaitedDevice,
  awaitedDevices,
  cleanUp,
  deletionOf,
  mayForget,
  withoutDevice,
} from './deleted-volumes.js';
import { newVolume, type VolumeSpec } from './placement.js';
import { renameStored } from './renaming.js';
import { hasMember } from './replacement.js';
import { storeMap } from './store-map.js';

/** What the catalog needs of the node. */
export interface DeviceCatalogParts {
  readonly completions: CompletionPort;
  /** The devices that are open. */
  readonly stores: ReadonlyMap<string, NodeStore>;
  readonly onEvent: (event: DeviceEvent) => void;
}

export class DeviceCatalog implements MapAuthority<VolumeMap> {
  private readonly parts: DeviceCatalogParts;
  private readonly listeners: ((map: VolumeMap) => void)[] = [];
  private ending = false;

  constructor(parts: DeviceCatalogParts) {
    this.parts = parts;
  }

  private get stores(): ReadonlyMap<string, NodeStore> {
    return this.parts.stores;
  }

  /** The newest map of each volume, deleted ones included. */
  newest(): Map<string, VolumeMap> {
    return newestMaps(this.stores);
  }

  // ---------------------------------------------------------------- maps of volumes that are served

  async attach({ volumeId, reachable, again }: AttachRequest): Promise<VolumeMap> {
    const stores = new Map([...this.stores].filter(([deviceId]) => reachable.includes(deviceId)));
    const newest = newestMaps(stores).get(volumeId);
    if (newest === undefined) throw new StrakeError('NO_VOLUME', `no device that is here knows volume ${volumeId}`);
    const map = startingMap(stores, withoutDoubles(newest), again);
    checkMap(map);
    check(map.id === volumeId, 'a volume is attached with the map of another', map.mapVersion);
    check(map.mapVersion > newest.mapVersion, 'a volume is attached with a map that is not newer', map.mapVersion);
    check(map.generation > newest.generation, 'a volume is attached under a generation that has been', map.generation);
    check(map.groups.length === newest.groups.length, 'a volume is attached with other groups', map.mapVersion);
    // Not even told to the devices: with the right ones the volume may start the next time.
    if (map.groups.some((group) => group.every(({ state }) => state !== 'in-sync'))) {
      throw new StrakeError('UNAVAILABLE', `a group of volume ${map.name} has no current copy`);
    }
    await storeMap(stores, map);
    this.tell(map);
    return map;
  }

  async change(next: VolumeMap): Promise<void> {
    check(!next.deleted, 'the map of a volume that is served says that it is deleted', next.mapVersion);
    await storeMap(this.stores, next);
    this.tell(next);
  }

  onMap(listener: (map: VolumeMap) => void): void {
    this.listeners.push(listener);
  }

  private tell(map: VolumeMap): void {
    for (const listener of this.listeners) listener(map);
  }

  // ---------------------------------------------------------------- volumes that come, go, and are renamed

  /** The first map of a volume, which no device has yet. Throws as `newVolume`. */
  plan(spec: VolumeSpec): VolumeMap {
    return newVolume(this.stores, spec);
  }

  /** Makes the first map of a volume durable. Rejects with a `StrakeError`. */
  create(map: VolumeMap): Promise<void> {
    check(map.mapVersion === 1 && !map.deleted, 'the first map of a volume is not the first', map.mapVersion);
    return storeMap(this.stores, map);
  }

  /** Makes durable that a volume is deleted. What it has is given back by `cleanUp` of the note that this resolves to. */
  async delete(map: VolumeMap): Promise<VolumeMap> {
    const note = deletionOf(map);
    check(note.deleted && note.mapVersion > map.mapVersion, 'a deletion is not newer than the map', note.mapVersion);
    await storeMap(this.stores, note);
    return note;
  }

  /** Takes a volume back that nobody has heard of. */
  undo(map: VolumeMap): Promise<void> {
    return this.cleanUp(deletionOf(map));
  }

  /** Gives back what a deleted volume still has on the devices that are here. */
  cleanUp(note: VolumeMap): Promise<void> {
    const { completions, onEvent } = this.parts;
    check(note.deleted, 'segments are given back of a volume that is not deleted', note.mapVersion);
    return cleanUp(this.stores, note, {
      completions,
      ending: () => this.ending,
      onFailure: (deviceId, { message }) => onEvent({ kind: 'device-failed', deviceId, text: message }),
    });
  }

  /** Another name for a volume that is not attached. Rejects with `ERR_STRAKE_UNAVAILABLE` if no device takes it. */
  rename(map: VolumeMap, name: string): Promise<VolumeMap> {
    check(!map.deleted, 'a volume is renamed that is deleted', map.mapVersion);
    return renameStored(this.stores, map, name);
  }

  // ---------------------------------------------------------------- notes of deleted volumes

  /** Whether no device that is here, and none that is away, can bring a deleted volume back. */
  mayForget(note: VolumeMap): boolean {
    return mayForget(this.stores, note);
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
      const note = this.newest().get(id);
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
