/**
 * The map of a replica group: one volume in one placement group, with members, states and a version of its own. It is the unit
 * of configuration: a change of one group concerns the devices of that group alone, and each of them keeps the map whole.
 *
 * A map bears the *header* of its volume, which is the same in all groups but for what has not reached some of them yet. What a
 * device knows of itself (`ReplicaOwn`) is stored beside the map and is no part of it.
 *
 * Invariants: no map names a device twice. A later version replaces an earlier one of the same group whole.
 */

import { StrakeError } from '../core/errors.js';
import type { Generation, GroupIndex, MapVersion } from '../ports/ids.js';
import { type FlushId, NO_FLUSH } from './flush-id.js';
import {
  checkMap,
  doubledDevice,
  type LeaseKind,
  type MemberRecord,
  NO_CLIENT,
  NO_VERSION,
  NOBODY,
  type VolumeHeader,
  type VolumeMap,
} from './volume-map.js';

/** A member of a replica group. */
export interface ReplicaMember extends MemberRecord {
  /** Its place in the group, from 0 to copies - 1. */
  readonly place: number;
}

/** A replica group as each of its devices knows it. */
export interface ReplicaMap {
  readonly volume: VolumeHeader;
  /** Number of the group, and how many groups the volume has. */
  readonly group: GroupIndex;
  readonly groups: number;
  /** Counts changes of this map; below 2^48. */
  readonly mapVersion: MapVersion;
  /** Number of the exclusive right to write, 24 bits. */
  readonly generation: Generation;
  /** The client that has the generation: 32 hexadecimal digits, or `NO_CLIENT`. */
  readonly holder: string;
  readonly lease: LeaseKind;
  /** In the order of their places. A place that no device has is listed with `NO_DEVICE`. */
  readonly members: readonly ReplicaMember[];
  /**
   * Of a map that a manager has decided: what proves it, 32 hexadecimal digits. Absent from one that a node decides by itself,
   * and from a map that was changed and has not been decided.
   */
  readonly authentication?: string;
}

/** What one device knows of its replica, beside the map. */
export interface ReplicaOwn {
  /** The highest generation that has been served with this device in-sync, all copies being equal before. */
  readonly servedGeneration: number;
  /** Whether this map has been answered. One that was stored without that counts as not answered. */
  readonly answered: boolean;
  /** The last flush of the volume that this device remembers. */
  readonly flushed: FlushId;
  /** What was recorded before this flush is on every member that was in-sync then. */
  readonly settled: FlushId;
}

export const NOTHING_OWN: ReplicaOwn = { servedGeneration: 0, answered: false, flushed: NO_FLUSH, settled: NO_FLUSH };

/** The header of a volume. */
export function headerOf(map: VolumeMap): VolumeHeader {
  const { id, name, headerVersion, createdMs, sizeBytes, layout, copies, segmentBytes, deleted } = map;
  return { id, name, headerVersion, createdMs, sizeBytes, layout, copies, segmentBytes, deleted };
}

/** One group of a volume. */
export function replicaOf(map: VolumeMap, group: GroupIndex): ReplicaMap {
  const { versions, generation, holder, lease, groups } = map;
  const members = groups[group].map((member, place) => ({ ...member, place }));
  const about = { volume: headerOf(map), group, groups: groups.length };
  return { ...about, mapVersion: versions[group], generation, holder, lease, members };
}

/** In place of a group of which nobody that is here has a map. */
export function missingGroup(volume: VolumeHeader, group: GroupIndex, groups: number): ReplicaMap {
  const about = { volume, group, groups, mapVersion: NO_VERSION, generation: 0 };
  return { ...about, holder: NO_CLIENT, lease: 'released', members: [] };
}

/** Whether managers decide about it. */
export function isManaged({ authentication }: ReplicaMap): boolean {
  return authentication !== undefined;
}

/** Whether a group has a member on the device. */
export function namesDevice({ members }: ReplicaMap, deviceId: string): boolean {
  return members.some((member) => member.deviceId === deviceId);
}

/**
 * The volume of which these are all the groups, in any order. A header that has reached some groups only counts: the size is
 * the largest of any, the volume is deleted where any group says so, and the name is that of the newest header. The holder is
 * that of the newest generation. Throws a `RangeError` if a group is missing, is there twice, or belongs to another volume.
 */
export function volumeOf(replicas: readonly ReplicaMap[]): VolumeMap {
  const sorted = [...replicas].sort((one, other) => one.group - other.group);
  const [first] = sorted;
  if (first === undefined || first.groups !== sorted.length) throw new RangeError('a group of the volume is missing');
  sorted.forEach(({ group, volume }, at) => {
    if (group !== at || volume.id !== first.volume.id) throw new RangeError('these are not the groups of one volume');
  });
  const headers = sorted.map(({ volume }) => volume);
  const newest = headers.reduce((one, other) => (other.headerVersion > one.headerVersion ? other : one));
  const { id, name, headerVersion, createdMs, layout, copies, segmentBytes } = newest;
  return {
    ...{ id, name, headerVersion, createdMs, layout, copies, segmentBytes },
    sizeBytes: Math.max(...headers.map(({ sizeBytes }) => sizeBytes)),
    deleted: headers.some(({ deleted }) => deleted),
    ...rightOf(sorted),
    versions: sorted.map(({ mapVersion }) => mapVersion),
    groups: sorted.map((replica) => placesOf(replica)),
  };
}

/** Who has the right to write: whoever has it in the group of the newest generation. */
function rightOf(replicas: readonly ReplicaMap[]): Pick<VolumeMap, 'generation' | 'holder' | 'lease'> {
  const { generation, holder } = replicas.reduce((one, other) => (other.generation > one.generation ? other : one));
  const held = replicas.find(({ lease }) => lease !== 'released');
  return { generation, holder, lease: held?.lease ?? 'released' };
}

/** One member for each place: of two that share one while it moves, the one that is in-sync. */
export function placesOf({ members, volume }: ReplicaMap): readonly MemberRecord[] {
  return Array.from({ length: volume.copies }, (_, place) => {
    const there = members.filter((member) => member.place === place);
    const found = there.find(({ state }) => state === 'in-sync') ?? there[0];
    if (found === undefined) return NOBODY;
    const { deviceId, state, since, incarnation, flushNumber, joined } = found;
    return { deviceId, state, since, incarnation, flushNumber, joined };
  });
}

/** Throws `ERR_STRAKE_INVALID_ARGUMENT` if the map contradicts itself. */
export function checkReplica(replica: ReplicaMap): void {
  const { volume, group, groups, mapVersion, members } = replica;
  const wrong = (what: string) =>
    new StrakeError('INVALID_ARGUMENT', `group ${group} of volume ${volume.name}: ${what}`);
  if (!(group >= 0 && group < groups && groups < 2 ** 16)) throw wrong(`it cannot be one of ${groups} groups`);
  if (!(mapVersion >= 0 && mapVersion < 2 ** 48)) throw wrong(`map version ${mapVersion}`);
  if (members.some(({ place }) => !(place >= 0 && place < volume.copies))) throw wrong('a member without a place');
  if (members.length > volume.copies + 2) throw wrong(`${members.length} members in ${volume.copies} places`);
  const doubled = doubledDevice([members]);
  if (doubled !== null) throw wrong(`its map names device ${doubled} twice, and a device holds one copy`);
  checkMap(volumeOf([{ ...replica, group: 0, groups: 1 }]));
}
