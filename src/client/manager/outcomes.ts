/** Whether what a call has asked for is so already, though the answer to it was lost. Pure functions of maps. */

import type { ReplicaMap, ReplicaMember } from '../../layout/replica-map.js';
import type { ChangeRequest, Decided } from '../../ports/manager.js';

/** What a change is about: who is where, and as what. Versions and progress are given by the manager. */
function isSame(one: ReplicaMember, other: ReplicaMember | undefined): boolean {
  return one.deviceId === other?.deviceId && one.place === other.place && one.state === other.state;
}

/** The map that was asked for, if it is the newest one: whoever asks holds it still, and its members are as they should be. */
export function changedMap(
  { clientId, group, before, map }: ChangeRequest<ReplicaMap>,
  { maps }: Decided<ReplicaMap>,
): ReplicaMap | null {
  const newest = maps.find((other) => other.group === group);
  if (newest === undefined || newest.mapVersion <= before) return null;
  if (newest.holder !== clientId || newest.generation !== map.generation || newest.lease !== map.lease) return null;
  const same =
    newest.members.length === map.members.length && map.members.every((one, at) => isSame(one, newest.members[at]));
  return same ? newest : null;
}
