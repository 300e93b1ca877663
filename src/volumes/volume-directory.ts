/**
 * The volumes of a node, by id. Devices that were apart may bring two volumes of one name. At most one of these is started:
 * the one that was when the other came. Without that, none is.
 */

import { check } from '../core/check.js';
import { nameConflict, volumeMeant, volumesMeant } from '../core/volume-names.js';
import { newestMaps } from '../layout/starting-map.js';
import type { NodeDevice } from '../node/node-device.js';
import { HostedVolume } from './hosted-volume.js';
import { hasMember } from './replacement.js';

type Stores = ReadonlyMap<string, NodeDevice>;

export class VolumeDirectory {
  private readonly byId = new Map<string, HostedVolume>();

  get size(): number {
    return this.byId.size;
  }

  get(id: string): HostedVolume | undefined {
    return this.byId.get(id);
  }

  add(volume: HostedVolume): void {
    const known = this.byId.get(volume.id);
    check(known === undefined || known === volume, 'a volume is listed in the place of another', volume.place);
    this.byId.set(volume.id, volume);
  }

  remove(volume: HostedVolume): void {
    const served = volume.engine !== null || volume.reader !== null;
    check(!served, 'a volume is listed no longer that is served', volume.place);
    this.byId.delete(volume.id);
  }

  clear(): void {
    for (const { engine, place } of this.byId.values()) {
      check(engine === null, 'volumes are listed no longer of which one is served', place);
    }
    this.byId.clear();
  }

  values(): IterableIterator<HostedVolume> {
    return this.byId.values();
  }

  /** Lists volumes that devices know, before any of them is started, so that two of one name meet. */
  list(stores: Stores, ids: readonly string[]): void {
    const newest = newestMaps(stores);
    for (const id of ids) {
      const stored = newest.get(id);
      if (stored === undefined || stored.deleted || this.byId.has(id)) continue;
      check(stored.id === id, 'a map is found under the id of another volume', stored.groups.length);
      this.add(new HostedVolume(stored));
    }
  }

  /** Lists no longer the volumes that only this device, which has gone, knew, and that are not started. */
  dropUnknown(stores: Stores, { replicas }: NodeDevice): void {
    const known = newestMaps(stores);
    for (const replica of replicas) {
      const id = replica?.volume.id ?? '';
      const volume = known.has(id) ? undefined : this.byId.get(id);
      if (volume !== undefined && volume.engine === null) this.remove(volume);
    }
  }

  /** Ids of volumes that have a place on a device, or of which it knows. */
  idsOn(stores: Stores, deviceId: string): string[] {
    const known = stores.get(deviceId)?.replicas ?? [];
    const using = [...this.byId.values()].filter(({ stored }) => hasMember(stored, deviceId));
    return [...new Set([...known.flatMap((replica) => replica?.volume.id ?? []), ...using.map(({ id }) => id)])];
  }

  /** The volumes that have this name, or are being given it; those that are started first. */
  named(name: string): HostedVolume[] {
    const found = [...this.byId.values()].filter((volume) => volume.name === name || volume.nextName === name);
    return found.sort((one, other) => Number(other.engine !== null) - Number(one.engine !== null));
  }

  /** Other volumes of the same name. */
  twinsOf(volume: HostedVolume): HostedVolume[] {
    return this.named(volume.name).filter((other) => other !== volume);
  }

  /** Whether only its name keeps a volume from being started. */
  inConflict(volume: HostedVolume): boolean {
    return volume.engine === null && this.twinsOf(volume).length > 0;
  }

  /** The error of whoever asks for the service of such a volume. */
  conflictOf(volume: HostedVolume): Error {
    return nameConflict([...this.twinsOf(volume), volume]);
  }

  /**
   * The volume that a text means: a name, an id, or digits with which only one id begins. Throws `ERR_STRAKE_NO_VOLUME`, and
   * `ERR_STRAKE_NAME_CONFLICT` if there are several.
   */
  find(text: string): HostedVolume {
    return volumeMeant(this.byId.values(), text);
  }

  /** The same for those who use what is served: of several volumes of a name, the one that is started. */
  findStarted(text: string): HostedVolume {
    const named = volumesMeant(this.byId.values(), text).filter(({ name }) => name === text);
    return named.find(({ engine }) => engine !== null) ?? this.find(text);
  }

  /** Device ids by volume, out of device ids by name or id. A name that several volumes have says nothing. */
  meantBy(deviceIds: ReadonlyMap<string, readonly string[]>): ReadonlyMap<string, readonly string[]> {
    const byId = new Map<string, readonly string[]>();
    for (const [text, ids] of deviceIds) {
      const meant = volumesMeant(this.byId.values(), text);
      if (meant.length === 1) byId.set(meant[0].id, [...(byId.get(meant[0].id) ?? []), ...ids]);
    }
    return byId;
  }
}
