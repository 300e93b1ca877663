/**
 * Renaming a volume. One that is started has a change of its map, like any other.
 *
 * Of one that is not, each device keeps its own map, with another name in it: it may be an older map, or the newest may be on
 * a device that is missing, and none of them may become newer by a rename, as the newest says whose data counts. Names have
 * a version of their own instead. A crash in between leaves the old name on some devices; the newer name counts.
 */

import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { NodeStore } from '../node/node-store.js';

/**
 * Stores the name on all devices that know the volume and take writes. Resolves with its newest map under that name; rejects
 * with `ERR_STRAKE_UNAVAILABLE` if no device takes it.
 */
export async function renameStored(
  stores: ReadonlyMap<string, NodeStore>,
  newest: VolumeMap,
  name: string,
): Promise<VolumeMap> {
  const holders = [...stores.values()].flatMap((entry) => {
    const own = entry.mapOf(newest.id);
    return own === undefined || own.deleted ? [] : [{ entry, own }];
  });
  const nameVersion = 1 + Math.max(newest.nameVersion, ...holders.map(({ own }) => own.nameVersion));
  check(nameVersion > newest.nameVersion, 'a new name is not newer than the last', nameVersion);
  const stored = await Promise.all(
    holders.map(async ({ entry, own }) => {
      return !entry.failed && (await entry.putMap({ ...own, name, nameVersion })) >= 0;
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
  return { ...newest, name, nameVersion };
}
