/** What a client that holds a volume asks its manager for: changes of a map of one group, as an engine makes them. */

import { type ReplicaMap, replicaOf, volumeOf } from '#strake/layout/replica-map.js';
import type { VolumeMap } from '#strake/layout/volume-map.js';
import type { ChangeAnswer, ChangeRequest } from '#strake/ports/manager.js';
import { idOf } from './manager-world.js';

/** A change of a map, by this client. */
export function changeOf(
  client: string,
  map: ReplicaMap,
  make: (volume: VolumeMap) => VolumeMap,
): ChangeRequest<ReplicaMap> {
  const alone = { ...map, group: 0, groups: 1 };
  const changed = { ...replicaOf(make(volumeOf([alone])), 0), group: map.group, groups: map.groups };
  const { volume, group, mapVersion: before } = map;
  return { clientId: idOf(client), volumeId: volume.id, group, before, map: changed };
}

/** The map that was decided. */
export function decided(answer: ChangeAnswer<ReplicaMap>): ReplicaMap {
  if (answer.kind !== 'decided') throw new Error('it was superseded');
  return answer.map;
}

/** The states of its members, in their order. */
export function statesOf(map: ReplicaMap): string {
  return map.members.map(({ state }) => state).join();
}
