/**
 * With which map a volume starts: the newest that any device has, in which nobody is in-sync who may have missed something.
 *
 * A device whose own map is older than the newest, or that has been opened less often than the others remember, is an older
 * copy of itself or missed something: it is not believed to be in-sync.
 */

import { NO_FLUSH } from './flush-id.js';
import { memberOffline } from './map-changes.js';
import { doubledDevice, NO_DEVICE, type VolumeMap } from './volume-map.js';

/** By how much the version of a map grows when a volume is started without devices that may know newer ones. */
const FORK_VERSIONS = 2 ** 20;

/** What a device that is open says of itself. */
export interface KnownDevice {
  /** The maps that it has, in no order; undefined where it could have another. */
  readonly maps: readonly (VolumeMap | undefined)[];
  /** It takes no more writes. */
  readonly failed: boolean;
  /** How often it has been opened. */
  readonly incarnation: number;
}

/** The devices that are open, by id. */
type Devices = ReadonlyMap<string, KnownDevice>;

/** The newest map of each volume that any device knows, under the newest name that any knows. */
export function newestMaps(devices: Devices): Map<string, VolumeMap> {
  const newest = new Map<string, VolumeMap>();
  for (const { maps } of devices.values()) {
    for (const stored of maps) {
      if (stored === undefined) continue;
      const other = newest.get(stored.id);
      newest.set(stored.id, other === undefined ? stored : newerOf(stored, other));
    }
  }
  return newest;
}

function newerOf(one: VolumeMap, other: VolumeMap): VolumeMap {
  const [newer, older] = one.mapVersion > other.mapVersion ? [one, other] : [other, one];
  if (older.nameVersion <= newer.nameVersion) return newer;
  // A rename while the newest map was missing has left that as it was.
  return { ...newer, name: older.name, nameVersion: older.nameVersion };
}

/**
 * A map in which no group names a device twice: of the places of such a device the first that is in-sync keeps it, and nobody
 * has the others. What they were to hold is rebuilt when they are given to other devices.
 */
export function withoutDoubles(stored: VolumeMap): VolumeMap {
  if (doubledDevice(stored.groups) === null) return stored;
  const groups = stored.groups.map((group) =>
    group.map((member, position) => {
      const places = group.flatMap(({ deviceId }, at) => (deviceId === member.deviceId ? [at] : []));
      const kept = places.find((at) => group[at].state === 'in-sync') ?? places[0];
      return kept === position ? member : NOBODY;
    }),
  );
  return { ...stored, groups };
}

const NOBODY = { deviceId: NO_DEVICE, state: 'offline', since: NO_FLUSH, incarnation: 0, flushNumber: 0 } as const;

/** The map with which a volume starts: a new generation, and nobody in-sync who may have missed something. */
export function startingMap(devices: Devices, stored: VolumeMap, started: boolean): VolumeMap {
  const lost = stored.groups.flat().some(({ deviceId, state }) => state === 'in-sync' && !devices.has(deviceId));
  // What somebody has given up may have gone further than the map that is known, and must not win when it comes back.
  const mapVersion = stored.mapVersion + (lost ? FORK_VERSIONS : 1);
  let record: VolumeMap = { ...stored, generation: newestGeneration(devices, stored) + 1, mapVersion };
  stored.groups.forEach((group, at) => {
    const version = effectiveVersion(devices, stored, group);
    group.forEach((member, position) => {
      const device = devices.get(member.deviceId);
      if (device === undefined || member.state !== 'in-sync') return;
      if (!isBehind(device, stored, version, member.incarnation, started)) return;
      record = memberOffline(record, at, position, NO_FLUSH);
    });
  });
  return { ...record, groups: withIncarnations(devices, record.groups) };
}

/**
 * The map that a current device of a group has to know. A map is stored on the current devices first, and it takes
 * effect only when each group has one of them with it. So if all of a group are here and nobody in the group has the
 * newest map, a crash has kept that from taking effect, and nothing was answered under it.
 */
function effectiveVersion(devices: Devices, { id, mapVersion }: VolumeMap, group: VolumeMap['groups'][number]): number {
  const known = group.map(({ deviceId }) => devices.get(deviceId));
  const complete = group.every(({ state }, at) => state !== 'in-sync' || known[at]?.failed === false);
  if (!complete) return mapVersion;
  return Math.max(...known.map((device) => (device === undefined ? -1 : versionOn(device, id))));
}

/** A device whose map does not count may have been started more often. */
function newestGeneration(devices: Devices, { id, generation }: VolumeMap): number {
  const maps = [...devices.values()].flatMap((device) => device.maps.filter((one) => one?.id === id));
  return maps.reduce((newest, map) => Math.max(newest, map?.generation ?? 0), generation);
}

function versionOn({ maps }: KnownDevice, volumeId: string): number {
  return maps.find((one) => one?.id === volumeId)?.mapVersion ?? -1;
}

/** Notes the lives of devices that start as current: an image from before this one is older then. */
function withIncarnations(devices: Devices, groups: VolumeMap['groups']): VolumeMap['groups'] {
  return groups.map((group) =>
    group.map((member) => {
      const device = devices.get(member.deviceId);
      if (device === undefined || member.state !== 'in-sync') return member;
      return { ...member, incarnation: device.incarnation };
    }),
  );
}

/** Whether a device that should be in-sync has an older map, or an older life, than the others remember. */
function isBehind(
  device: KnownDevice,
  newest: VolumeMap,
  version: number,
  incarnation: number,
  started: boolean,
): boolean {
  const own = device.maps.find((one) => one?.id === newest.id);
  if (own === undefined) return true;
  if (own.mapVersion < version && (started || !isCutOffStart(own, newest))) return true;
  return !started && device.incarnation <= incarnation;
}

/**
 * Whether two maps of a volume differ only in what a start changes: generation and incarnations. A start that a crash has cut
 * off leaves the new map on some devices and not on others; nothing has been answered under it, and no copy has missed
 * anything. Whoever misses something later is out of the next map before that is answered. An older image of a device has
 * an older incarnation than the new map tells.
 */
function isCutOffStart(one: VolumeMap, other: VolumeMap): boolean {
  const same = one.sizeBytes === other.sizeBytes && one.deleted === other.deleted;
  return same && membersOf(one) === membersOf(other);
}

/** What of the members of a map a start does not change. */
function membersOf({ groups }: VolumeMap): string {
  return JSON.stringify(
    groups.map((group) =>
      group.map(({ deviceId, state, since, flushNumber }) => [
        deviceId,
        state,
        since.generation,
        since.flushNumber,
        flushNumber,
      ]),
    ),
  );
}
