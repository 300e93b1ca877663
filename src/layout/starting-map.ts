/**
 * With which map a volume starts: of each of its groups the newest that any device has, in which nobody is in-sync who may have
 * missed something.
 *
 * Everything here is decided group by group, from the devices of that group alone. A device whose own map of the group is older
 * than the newest, or that has been opened less often than the others remember, is an older copy of itself or missed
 * something: it is not believed to be in-sync. What a volume is called, how large it is and whether it is deleted is told by all.
 */

import type { GroupIndex } from '../ports/ids.js';
import { NO_FLUSH } from './flush-id.js';
import { memberOffline } from './map-changes.js';
import { isManaged, missingGroup, type ReplicaMap, volumeOf } from './replica-map.js';
import { doubledDevice, type MemberRecord, NO_VERSION, NOBODY, type VolumeMap } from './volume-map.js';

/** By how much the version of a group's map grows when the volume is started without devices that may know newer ones. */
const FORK_VERSIONS = 2 ** 20;

/** What a device that is open says of itself. */
export interface KnownDevice {
  /** The maps that it has, in no order; undefined where it could have another. */
  readonly replicas: readonly (ReplicaMap | undefined)[];
  /** Those of one volume. */
  replicasOf(volumeId: string): readonly ReplicaMap[];
  /** It takes no more writes. */
  readonly failed: boolean;
  /** How often it has been opened. */
  readonly incarnation: number;
}

/** The devices that are open, by id. */
type Devices = ReadonlyMap<string, KnownDevice>;

/**
 * Volumes about which managers decide: some device has a map of theirs. No node decides about them, whatever else it finds, as a
 * place may have been given to another device.
 */
export function managedVolumes(devices: Devices): Set<string> {
  const ids = new Set<string>();
  for (const { replicas } of devices.values()) {
    for (const replica of replicas) if (replica !== undefined && isManaged(replica)) ids.add(replica.volume.id);
  }
  return ids;
}

/** The newest map of each volume that any device knows, but for those about which managers decide. */
export function newestMaps(devices: Devices): Map<string, VolumeMap> {
  const ids = new Set<string>();
  for (const { replicas } of devices.values()) {
    for (const replica of replicas) if (replica !== undefined) ids.add(replica.volume.id);
  }
  const newest = new Map<string, VolumeMap>();
  for (const id of ids) {
    const map = newestMap(devices, id);
    if (map !== undefined) newest.set(id, map);
  }
  return newest;
}

/**
 * The newest map of each group of a volume, under the newest name that any device knows; undefined if none knows the volume, or
 * managers decide about it. A group that none of them has is there with `NO_VERSION`, and without members.
 */
export function newestMap(devices: Devices, volumeId: string): VolumeMap | undefined {
  const all = [...devices.values()].flatMap((device) => device.replicasOf(volumeId));
  const [first] = all;
  if (first === undefined || all.some(isManaged)) return undefined;
  const groups = Math.max(...all.map((replica) => replica.groups));
  const newest = Array.from({ length: groups }, (_, group) => newestOf(all, group));
  const map = volumeOf(newest.map((replica, group) => replica ?? missingGroup(first.volume, group, groups)));
  // A rename while the newest map was missing has left that as it was. Of equally new names that of the newest map counts.
  const named = [...newest.filter((replica) => replica !== undefined), ...all];
  const { name, headerVersion } = named
    .map(({ volume }) => volume)
    .reduce((one, other) => (other.headerVersion > one.headerVersion ? other : one));
  return { ...map, name, headerVersion };
}

function newestOf(replicas: readonly ReplicaMap[], wanted: number): ReplicaMap | undefined {
  const found = replicas.filter(({ group }) => group === wanted);
  return found.length === 0
    ? undefined
    : found.reduce((one, other) => (other.mapVersion > one.mapVersion ? other : one));
}

/** Numbers of the groups of which no device that is here has a map. */
export function missingGroups({ versions }: VolumeMap): number[] {
  return versions.flatMap((version, group) => (version === NO_VERSION ? [group] : []));
}

/** Devices that are not here and might have a newer map of a group, as it calls them in-sync. */
export function missingMembers(devices: { has(deviceId: string): boolean }, { groups }: VolumeMap): string[] {
  const absent = groups.flat().filter(({ deviceId, state }) => state === 'in-sync' && !devices.has(deviceId));
  return [...new Set(absent.map(({ deviceId }) => deviceId))];
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

/** Who starts a volume, and how. */
export interface Start {
  /** The client that is to have the right to write. */
  readonly holder: string;
  /** It was started before in this life of the devices, so their incarnations are the ones that the map knows. */
  readonly again: boolean;
}

/** The map with which a volume starts: a new generation in every group, and nobody in-sync who may have missed something. */
export function startingMap(devices: Devices, stored: VolumeMap, { holder, again }: Start): VolumeMap {
  const generation = newestGeneration(devices, stored) + 1;
  const versions = stored.groups.map((group, at) => {
    const lost = group.some(({ deviceId, state }) => state === 'in-sync' && !devices.has(deviceId));
    // What somebody has given up may have gone further than the map that is known, and must not win when it comes back.
    return stored.versions[at] + (lost ? FORK_VERSIONS : 1);
  });
  let map: VolumeMap = { ...stored, generation, holder, lease: 'exclusive', versions };
  stored.groups.forEach((group, at) => {
    const known = knownGroup(devices, stored, at);
    group.forEach((member, position) => {
      const device = devices.get(member.deviceId);
      if (device === undefined || member.state !== 'in-sync') return;
      if (isBehind(device, known, member, again)) map = memberOffline(map, at, position, NO_FLUSH);
    });
  });
  return { ...map, groups: withIncarnations(devices, map.groups) };
}

/** What the devices that are here know of a group. */
interface KnownGroup {
  readonly newest: ReplicaMap | undefined;
  readonly replicaOn: (device: KnownDevice) => ReplicaMap | undefined;
  /** The version that a current device of the group has to have. */
  readonly version: number;
}

function knownGroup(devices: Devices, { id, groups, versions }: VolumeMap, group: GroupIndex): KnownGroup {
  const replicaOn = (device: KnownDevice) => newestOf(device.replicasOf(id), group);
  const newest = newestOf(
    [...devices.values()].flatMap((device) => replicaOn(device) ?? []),
    group,
  );
  const members = groups[group].map(({ deviceId }) => devices.get(deviceId));
  return { newest, replicaOn, version: effectiveVersion(members, groups[group], versions[group], replicaOn) };
}

/**
 * The map that a current device of a group has to know. A map is stored on the current devices first, and it takes
 * effect only when one of them has it. So if all of a group are here and nobody in the group has the newest map, a
 * crash has kept that from taking effect, and nothing was answered under it.
 */
function effectiveVersion(
  members: readonly (KnownDevice | undefined)[],
  group: VolumeMap['groups'][number],
  version: number,
  replicaOn: KnownGroup['replicaOn'],
): number {
  const complete = group.every(({ state }, at) => state !== 'in-sync' || members[at]?.failed === false);
  if (!complete) return version;
  return Math.max(...members.map((device) => (device === undefined ? -1 : (replicaOn(device)?.mapVersion ?? -1))));
}

/** A device whose map does not count may have been started more often. */
function newestGeneration(devices: Devices, { id, generation }: VolumeMap): number {
  const maps = [...devices.values()].flatMap((device) => device.replicasOf(id));
  return maps.reduce((newest, map) => Math.max(newest, map.generation), generation);
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
function isBehind(device: KnownDevice, known: KnownGroup, member: MemberRecord, again: boolean): boolean {
  const own = known.replicaOn(device);
  if (own === undefined || known.newest === undefined) return true;
  if (own.mapVersion < known.version && (again || !isCutOffStart(own, known.newest))) return true;
  return !again && device.incarnation <= member.incarnation && !isSameLife(device, own, member);
}

/**
 * Whether a device is still in the life that the map knows, as one of another process is when only the volume's has ended: it has
 * stored a map that tells of this life, which no image from before it can have.
 */
function isSameLife(device: KnownDevice, own: ReplicaMap, { deviceId, incarnation }: MemberRecord): boolean {
  if (device.incarnation !== incarnation) return false;
  return own.members.some((one) => one.deviceId === deviceId && one.incarnation === incarnation);
}

/**
 * Whether two maps of a group differ only in what a start changes: generation, holder and incarnations. A start that a crash has
 * cut off leaves the new map on some devices and not on others; nothing has been answered under it, and no copy has missed
 * anything. Whoever misses something later is out of the next map before that is answered. An older image of a device has
 * an older incarnation than the new map tells.
 */
function isCutOffStart(one: ReplicaMap, other: ReplicaMap): boolean {
  const [own, newest] = [one.volume, other.volume];
  const same = own.sizeBytes === newest.sizeBytes && own.deleted === newest.deleted;
  return same && membersOf(one) === membersOf(other);
}

/** What of the members of a map a start does not change. */
function membersOf({ members }: ReplicaMap): string {
  return JSON.stringify(
    members.map(({ deviceId, state, since, flushNumber, joined }) => {
      return [deviceId, state, since.generation, since.flushNumber, flushNumber, joined];
    }),
  );
}
