/** Storing the maps of a volume's groups on the devices of each. */

import { check } from '../core/check.js';
import { ENOSPC } from '../core/errno.js';
import { StrakeError } from '../core/errors.js';
import { replicaOf } from '../layout/replica-map.js';
import { doubledDevice, NO_VERSION, newestVersion, type VolumeMap } from '../layout/volume-map.js';
import type { NodeDevice } from '../node/node-device.js';
import { noPage } from './placement.js';

/** What is stored, and for whom. */
export interface Storing {
  /** The map that is in effect, whose groups of the same version are stored already; null if all are to be stored. */
  readonly before: VolumeMap | null;
  /**
   * Whether nothing that was accepted under earlier maps is under way, so that the devices may note that they have answered. A
   * map without that note counts as not answered.
   */
  readonly idle: boolean;
}

/**
 * Makes the maps of those groups durable that have changed, on all devices that they name and that take writes. Each of these
 * groups must keep a current member that has it. One that does not take it has failed for good, takes no later write
 * either, and so is noticed by the first.
 * Those that the map calls current have it before any other: a device that is taken out must not be the only one to
 * know, as nobody would be current then after a crash.
 */
export async function storeMap(
  stores: ReadonlyMap<string, NodeDevice>,
  map: VolumeMap,
  { before, idle }: Storing,
): Promise<void> {
  check(doubledDevice(map.groups) === null, 'a map is stored that names a device twice in a group', newestVersion(map));
  const full: NodeDevice[] = [];
  const changed = map.versions.flatMap((version, group) =>
    version === NO_VERSION || version === before?.versions[group] ? [] : [group],
  );
  const backwards = map.versions.some((version, group) => version < (before?.versions[group] ?? NO_VERSION));
  check(!backwards, 'a map is stored that is older than the one in effect', newestVersion(map));
  const put = (current: boolean) =>
    Promise.all(
      changed.map((group) =>
        Promise.all(
          map.groups[group].map(async ({ deviceId, state }) => {
            const entry = stores.get(deviceId);
            if (entry === undefined || entry.failed || (state === 'in-sync') !== current) return false;
            const result = await entry.putReplica(replicaOf(map, group), { answered: idle });
            if (result === -ENOSPC && current) full.push(entry);
            return result >= 0;
          }),
        ),
      ),
    );
  const results = await put(true);
  if (full.length > 0) throw noPage(stores, full, map.name);
  const failed = changed.filter((_, at) => !results[at].includes(true));
  if (failed.length > 0) {
    const which = `group ${failed.join(', ')} of volume ${map.name}`;
    throw new StrakeError('UNAVAILABLE', `the map of ${which} could not be stored on a current device`);
  }
  await put(false);
}
