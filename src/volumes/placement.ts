/** What a new volume may be, and on which devices it lies. */

import { newVolumeName } from '../core/arguments.js';
import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import { BLOCK_BYTES } from '../core/limits.js';
import { NO_FLUSH } from '../layout/flush-id.js';
import { checkMap, type VolumeMap } from '../layout/volume-map.js';
import type { NodeStore } from '../node/node-store.js';
import { awaitedBy } from './deleted-volumes.js';

/** What a new volume is to be. */
export interface VolumeSpec {
  readonly id: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly layout: 'single' | 'mirror';
  readonly copies: number;
  readonly createdMs: number;
}

/** Throws `ERR_STRAKE_INVALID_ARGUMENT` if there can be no such volume. */
function checkSpec({ name, copies, layout, sizeBytes }: VolumeSpec): void {
  newVolumeName.take(name, 'the name of a volume');
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes % BLOCK_BYTES !== 0) {
    throw new StrakeError(
      'INVALID_ARGUMENT',
      `the size of a volume is a multiple of ${BLOCK_BYTES} bytes, not ${sizeBytes}`,
    );
  }
  if (layout === 'single' ? copies !== 1 : copies < 2 || copies > 3) {
    throw new StrakeError('INVALID_ARGUMENT', `${layout} with ${copies} copies: a mirror has 2 or 3, single has 1`);
  }
}

/** The first map of a volume. Throws `ERR_STRAKE_INVALID_ARGUMENT`, and `ERR_STRAKE_NO_SPACE` if there are too few devices. */
export function newVolume(stores: ReadonlyMap<string, NodeStore>, spec: VolumeSpec): VolumeMap {
  checkSpec(spec);
  const { id, name, createdMs, sizeBytes, layout, copies } = spec;
  const about = { id, name, nameVersion: 0, createdMs, sizeBytes, layout, copies };
  const stored = { ...about, ...placeVolume(stores, spec), mapVersion: 1, generation: 0, deleted: false };
  checkMap(stored);
  return stored;
}

/**
 * Devices for a volume: those with most room. A mirror is spread over as many groups as there are devices for. Throws
 * `ERR_STRAKE_NO_SPACE` if there are too few devices.
 */
function placeVolume(
  stores: ReadonlyMap<string, NodeStore>,
  { copies, layout, name }: VolumeSpec,
): Pick<VolumeMap, 'groups' | 'segmentBytes'> {
  const working = [...stores.values()].filter(({ failed }) => !failed);
  const usable = working.filter(({ hasRoom }) => hasRoom);
  const sizes = new Map<number, NodeStore[]>();
  for (const entry of usable) {
    const { slotBytes } = entry;
    sizes.set(slotBytes, [...(sizes.get(slotBytes) ?? []), entry]);
  }
  const alike = [...sizes.values()].sort((one, other) => other.length - one.length)[0] ?? [];
  if (alike.length < copies) {
    const full = working.filter((entry) => !usable.includes(entry));
    if (full.length > 0) throw noPage(stores, full, name);
    const what = `volume ${name} needs ${copies} devices with slots of one size, and there are ${alike.length}`;
    throw new StrakeError('NO_SPACE', what, { remedy: 'Add formatted devices.' });
  }
  const sorted = alike.sort((one, other) => other.freeSlots - one.freeSlots);
  const groupsMax = Math.floor(sorted[0].membersMax / copies);
  const count = layout === 'single' ? 1 : Math.min(groupsMax, Math.floor(sorted.length / copies));
  const groups = Array.from({ length: count }, (_, group) =>
    Array.from({ length: copies }, (_, position) => {
      const { deviceId, incarnation } = sorted[group * copies + position];
      return { deviceId, state: 'in-sync' as const, since: NO_FLUSH, incarnation: incarnation - 1, flushNumber: 0 };
    }),
  );
  const devices = new Set(groups.flat().map(({ deviceId }) => deviceId));
  check(devices.size === count * copies, 'a new volume names a device twice', devices.size);
  return { groups, segmentBytes: sorted[0].slotBytes };
}

/** Why devices take no other volume, and what to do about it. */
export function noPage(stores: ReadonlyMap<string, NodeStore>, full: readonly NodeStore[], name: string): StrakeError {
  const [{ path, maps, volumesMax }] = full;
  const waiting = maps.map((volume) => (volume?.deleted ? awaitedBy(stores, volume) : []));
  const notes = waiting.filter((devices) => devices.length > 0);
  const awaited = new Set(notes.flat());
  const what = `volume ${name} finds no place: device ${path} knows ${volumesMax} volumes, as many as it can`;
  if (awaited.size === 0) return new StrakeError('NO_SPACE', what, { remedy: 'Delete volumes, or add devices.' });
  const ids = [...awaited];
  const why = `${notes.length} of them are deleted, and wait for device ${ids.join(', ')}, which may bring them back`;
  return new StrakeError('NO_SPACE', `${what}; ${why}`, {
    remedy: `Bring it back; if it is lost for good: strake device forget ${ids[0]}`,
  });
}
