/**
 * Changes of the map of a volume. Pure functions that return a changed map, with the next version of each group that changes.
 * What concerns one group leaves the versions of the others as they are; the header is stored with every group.
 *
 * Invariants: a member that may have missed an acknowledged write is not `in-sync` in any map that took effect after that
 * write was acknowledged, and its `since` is not later than the first write that it may have missed.
 */

import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import type { GroupIndex, MemberPosition } from '../ports/ids.js';
import { type FlushId, isBefore, NO_FLUSH } from './flush-id.js';
import {
  checkMap,
  type MemberProgress,
  type MemberRecord,
  NOBODY,
  newestVersion,
  type VolumeHeader,
  type VolumeMap,
} from './volume-map.js';

/** Of a member in-sync: anything that is all zeroes may still have its slots. */
const ANYTHING: FlushId = { generation: 0, flushNumber: 1 };

function withMember(
  map: VolumeMap,
  group: GroupIndex,
  position: MemberPosition,
  changes: Partial<MemberRecord>,
): VolumeMap {
  const groups = map.groups.map((members, index) =>
    index === group ? members.map((member, at) => (at === position ? { ...member, ...changes } : member)) : members,
  );
  const versions = map.versions.map((version, index) => (index === group ? version + 1 : version));
  return { ...map, versions, groups };
}

/** The map with so many more versions of every group. */
export function withVersions(map: VolumeMap, more = 1): VolumeMap {
  return { ...map, versions: map.versions.map((version) => version + more) };
}

/** Another header, which every group bears. */
function withHeader(map: VolumeMap, changes: Partial<VolumeHeader>): VolumeMap {
  return withVersions({ ...map, ...changes, headerVersion: map.headerVersion + 1 });
}

/**
 * The member misses writes from `since` on. One that was not current before, or from whose absence slots are still to be given
 * back, keeps its earlier point.
 */
export function memberOffline(map: VolumeMap, group: GroupIndex, position: MemberPosition, since: FlushId): VolumeMap {
  const member = map.groups[group][position];
  const fresh = member.state === 'in-sync' && !isBefore(NO_FLUSH, member.since);
  const kept = fresh || isBefore(since, member.since) ? since : member.since;
  return withMember(map, group, position, { state: 'offline', since: kept });
}

/**
 * The member receives all writes from now on, and is being brought up to date. With `everything` it is not believed to
 * have kept anything, which is remembered until it is in-sync.
 */
export function memberSyncing(
  map: VolumeMap,
  group: GroupIndex,
  position: MemberPosition,
  incarnation: number,
  everything: boolean,
): VolumeMap {
  const { since } = map.groups[group][position];
  const joined = map.versions[group] + 1;
  return withMember(map, group, position, {
    state: 'syncing',
    since: everything ? NO_FLUSH : since,
    incarnation,
    joined,
  });
}

/** The member holds what the others hold. What was discarded while it was away has its slots still. */
export function memberInSync(
  map: VolumeMap,
  group: GroupIndex,
  position: MemberPosition,
  progress: MemberProgress,
): VolumeMap {
  const { since } = map.groups[group][position];
  const unreleased = isBefore(ANYTHING, since) ? since : ANYTHING;
  return withMember(map, group, position, { state: 'in-sync', since: unreleased, ...progress });
}

/** Nothing discarded has slots any more in a group whose members are all in-sync. That alone is no new version. */
export function withReleased(map: VolumeMap, group: GroupIndex): VolumeMap {
  const groups = map.groups.map((members, index) =>
    index === group ? members.map((member) => ({ ...member, since: NO_FLUSH })) : members,
  );
  return { ...map, groups };
}

/**
 * Another device takes the place of a member; it holds nothing. Throws `ERR_STRAKE_WRONG_DEVICE` if it is a member of the
 * group already, in whatever state.
 */
export function replaceMember(
  map: VolumeMap,
  group: GroupIndex,
  position: MemberPosition,
  deviceId: string,
): VolumeMap {
  if (map.groups[group].some((member) => member.deviceId === deviceId)) {
    const what = `device ${deviceId} cannot take another place in volume ${map.name}: it holds a copy of the same data`;
    throw new StrakeError('WRONG_DEVICE', what, {
      remedy: 'Name a device that holds no copy of it: format a new one. A device that was away comes back with `add`.',
    });
  }
  return withMember(map, group, position, { ...NOBODY, deviceId });
}

/** A larger volume. Throws `ERR_STRAKE_INVALID_ARGUMENT` if it would be smaller, or not of whole blocks. */
export function grow(map: VolumeMap, sizeBytes: number): VolumeMap {
  if (sizeBytes < map.sizeBytes) {
    const what = `volume ${map.name} has ${map.sizeBytes} bytes and cannot shrink to ${sizeBytes}`;
    throw new StrakeError('INVALID_ARGUMENT', what);
  }
  const grown = withHeader(map, { sizeBytes });
  checkMap(grown);
  return grown;
}

/** The volume under another name. */
export function rename(map: VolumeMap, name: string): VolumeMap {
  return withHeader(map, { name });
}

/**
 * By how much versions of a deletion are higher than those of the map before: a change of the map that could not be stored
 * everywhere may have left the next one on a device.
 */
const DELETION_VERSIONS = 2;

/** The note that the volume is deleted. */
export function deletionOf(map: VolumeMap): VolumeMap {
  check(!map.deleted, 'a volume is deleted twice', newestVersion(map));
  return withVersions({ ...map, deleted: true, headerVersion: map.headerVersion + 1 }, DELETION_VERSIONS);
}

/** The volume was closed in order: nothing is under way, and nobody reads it. */
export function released(map: VolumeMap): VolumeMap {
  return withVersions({ ...map, lease: 'released' });
}

/** The places of a device that is lost for good have nobody. */
export function withoutDevice(map: VolumeMap, deviceId: string): VolumeMap {
  check(map.deleted, 'a device is taken out of a map that is no note of a deletion', newestVersion(map));
  let changed = map;
  map.groups.forEach((group, at) => {
    group.forEach((member, place) => {
      if (member.deviceId === deviceId) changed = withMember(changed, at, place, NOBODY);
    });
  });
  return changed;
}

/** Notes how far members have come; such notes alone are no new version. */
export function withProgress(
  map: VolumeMap,
  progressOf: (group: GroupIndex, position: MemberPosition) => MemberProgress | null,
): VolumeMap {
  const groups = map.groups.map((members, group) =>
    members.map((member, position) => ({ ...member, ...progressOf(group, position) })),
  );
  return { ...map, groups };
}
