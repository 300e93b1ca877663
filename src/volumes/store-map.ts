/** Storing the map of a volume on its devices. */

import { check } from '../core/check.js';
import { ENOSPC } from '../core/errno.js';
import { StrakeError } from '../core/errors.js';
import { doubledDevice, type VolumeMap } from '../layout/volume-map.js';
import type { NodeStore } from '../node/node-store.js';
import { noPage } from './placement.js';

/**
 * Makes a map durable on all devices that it names and that take writes. Each group must keep a current member that has
 * it. One that does not take it has failed for good, takes no later write either, and so is noticed by the first.
 * Those that the map calls current have it before any other: a device that is taken out must not be the only one to
 * know, as nobody would be current then after a crash.
 */
export async function storeMap(stores: ReadonlyMap<string, NodeStore>, stored: VolumeMap): Promise<void> {
  const sound = stored.deleted || doubledDevice(stored.groups) === null;
  check(sound, 'a map is stored that names a device twice in a group', stored.mapVersion);
  const full: NodeStore[] = [];
  const put = (current: boolean) =>
    Promise.all(
      stored.groups.map((group) =>
        Promise.all(
          group.map(async ({ deviceId, state }) => {
            const entry = stores.get(deviceId);
            if (entry === undefined || entry.failed || (state === 'in-sync') !== current) return false;
            const result = await entry.putMap(stored);
            if (result === -ENOSPC && current) full.push(entry);
            return result >= 0;
          }),
        ),
      ),
    );
  const results = await put(true);
  if (full.length > 0) throw noPage(stores, full, stored.name);
  if (!results.every((group) => group.includes(true))) {
    throw new StrakeError('UNAVAILABLE', `the map of volume ${stored.name} could not be stored on a current device`);
  }
  await put(false);
}
