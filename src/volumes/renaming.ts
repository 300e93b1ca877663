/**
 * Renaming a volume. One that is started has a change of its map, like any other.
 *
 * Of one that is not, each device keeps its own maps of groups, with another name in them: they may be older, or the newest may
 * be on a device that is missing, and none of them may become newer by a rename, as the newest says whose data counts.
 * Headers have a version of their own instead. A crash in between leaves the old name on some devices; the newer name counts.
 */

import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { NodeDevice } from '../node/node-device.js';

/**
 * Stores the name on all devices that know the volume and take writes. Resolves with its newest map under that name; rejects
 * with `ERR_STRAKE_UNAVAILABLE` if no device takes it.
 */
export async function renameStored(
  stores: ReadonlyMap<string, NodeDevice>,
  newest: VolumeMap,
  name: string,
): Promise<VolumeMap> {
  const holders = [...stores.values()].flatMap((entry) => {
    return entry.replicasOf(newest.id).flatMap((own) => (own.volume.deleted ? [] : [{ entry, own }]));
  });
  const headerVersion = 1 + Math.max(newest.headerVersion, ...holders.map(({ own }) => own.volume.headerVersion));
  check(headerVersion > newest.headerVersion, 'a new name is not newer than the last', headerVersion);
  const stored = await Promise.all(
    holders.map(async ({ entry, own }) => {
      const renamed = { ...own, volume: { ...own.volume, name, headerVersion } };
      return !entry.failed && (await entry.putReplica(renamed)) >= 0;
    }),
  );
  if (!stored.includes(true)) {
    throw new StrakeError(
      'UNAVAILABLE',
      `the new name of volume ${newest.name} could be stored on none of its devices`,
      {
        remedy: 'Bring its devices back, or replace them; `strake status` tells what is wrong with them.',
      },
    );
  }
  return { ...newest, name, headerVersion };
}
