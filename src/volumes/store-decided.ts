/** Bringing a map that a manager has decided to the members of its group. */

import { check } from '../core/check.js';
import { ESTALE } from '../core/errno.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { NO_DEVICE } from '../layout/volume-map.js';
import type { NodeDevice } from '../node/node-device.js';

/** What has come of it. */
export interface StoredDecided {
  /** Devices of members that have answered the map. */
  readonly answered: readonly NodeDevice[];
  /** Ids of the devices of members that are to be in-sync and have not answered it, as they cannot be reached or have failed. */
  readonly silent: readonly string[];
  /** A member has a newer map, of which has been told. */
  readonly behind: boolean;
}

/**
 * Stores a map on all members that can be reached. Those that are in-sync have it before any other: a device that is taken out
 * must not be the only one to know, as nobody would be current then after a crash. Who is offline is not waited for.
 */
export async function storeDecided(devices: ReadonlyMap<string, NodeDevice>, map: ReplicaMap): Promise<StoredDecided> {
  check(map.authentication !== undefined, 'a map is brought to members that nothing proves', map.group);
  const answered: NodeDevice[] = [];
  const silent: string[] = [];
  let behind = false;
  const put = async (deviceId: string): Promise<void> => {
    const device = devices.get(deviceId);
    const result = device === undefined || device.failed ? -1 : await device.putReplica(map);
    if (result === -ESTALE) behind = true;
    else if (device === undefined || result < 0) silent.push(deviceId);
    else answered.push(device);
  };
  const named = map.members.filter(({ deviceId }) => deviceId !== NO_DEVICE);
  const of = (wanted: string) => named.filter(({ state }) => state === wanted).map(({ deviceId }) => deviceId);
  await Promise.all(of('in-sync').map(put));
  if (behind || answered.length === 0) return { answered, silent, behind };
  check(
    answered.every(({ deviceId }) => !silent.includes(deviceId)),
    'a member has answered a map and has not',
  );
  const current = { answered: [...answered], silent: [...silent], behind };
  await Promise.all(of('syncing').map(put));
  for (const deviceId of of('offline')) void put(deviceId);
  return current;
}
