/** What a new volume may be, and on which devices it lies. */

import { newVolumeName } from '../core/arguments.js';
import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import { BLOCK_BYTES } from '../core/limits.js';
import { NO_FLUSH } from '../layout/flush-id.js';
import { newestMap } from '../layout/starting-map.js';
import { checkMap, NO_CLIENT, type VolumeMap } from '../layout/volume-map.js';
import type { NodeDevice } from '../node/node-device.js';
import { awaitedBy } from './deleted-volumes.js';

/** Version of the first map of a group. */
const FIRST_VERSION = 1;

/** The shard of a device that is in another process. */
const ELSEWHERE = -1;

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
export function newVolume(stores: ReadonlyMap<string, NodeDevice>, spec: VolumeSpec): VolumeMap {
  checkSpec(spec);
  const { id, name, createdMs, sizeBytes, layout, copies } = spec;
  const about = { id, name, headerVersion: 0, createdMs, sizeBytes, layout, copies, deleted: false };
  const { groups, segmentBytes } = placeVolume(stores, spec);
  const right = { generation: 0, holder: NO_CLIENT, lease: 'released' } as const;
  const stored = { ...about, ...right, segmentBytes, groups, versions: groups.map(() => FIRST_VERSION) };
  checkMap(stored);
  return stored;
}

/**
 * Devices for a volume: those with most room. A mirror is spread over as many groups as there are devices for. Throws
 * `ERR_STRAKE_NO_SPACE` if there are too few devices.
 */
function placeVolume(
  stores: ReadonlyMap<string, NodeDevice>,
  { copies, layout, name }: VolumeSpec,
): Pick<VolumeMap, 'groups' | 'segmentBytes'> {
  const working = [...stores.values()].filter(({ failed }) => !failed);
  const usable = working.filter(({ hasRoom }) => hasRoom);
  const sizes = new Map<number, NodeDevice[]>();
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
  const most = layout === 'single' ? 1 : Math.floor(sorted.length / copies);
  const chosen = placesOf(sorted, copies, most);
  if (chosen.length === 0) {
    const what = `volume ${name} would lie on other nodes alone, and this one would not find it when it is opened again`;
    throw new StrakeError('NO_SPACE', what, { remedy: 'Add a formatted device to this node.' });
  }
  const groups = chosen.map((places) =>
    places.map(({ deviceId, incarnation }) => {
      const member = { deviceId, state: 'in-sync', since: NO_FLUSH, flushNumber: 0, joined: FIRST_VERSION } as const;
      return { ...member, incarnation: incarnation - 1 };
    }),
  );
  const devices = new Set(groups.flat().map(({ deviceId }) => deviceId));
  check(devices.size === chosen.length * copies, 'a new volume names a device twice', devices.size);
  return { groups, segmentBytes: sorted[0].slotBytes };
}

/**
 * The devices of at most so many groups. Each has a device of this node, by which it is known when that is opened again, and
 * devices of others as far as there are any, so that it outlives this one.
 */
function placesOf(sorted: readonly NodeDevice[], copies: number, most: number): NodeDevice[][] {
  const far = sorted.filter(({ shard }) => shard === ELSEWHERE);
  const near = sorted.filter((device) => !far.includes(device));
  const count = Math.min(most, near.length);
  const others = [...far, ...near.slice(count)];
  check(count === 0 || others.length >= count * (copies - 1), 'groups have fewer devices than places', others.length);
  return Array.from({ length: count }, (_, group) => {
    if (far.length === 0) return sorted.slice(group * copies, (group + 1) * copies);
    return [near[group], ...others.slice(group * (copies - 1), (group + 1) * (copies - 1))];
  });
}

/** Why devices take no other volume, and what to do about it. */
export function noPage(
  stores: ReadonlyMap<string, NodeDevice>,
  full: readonly NodeDevice[],
  name: string,
): StrakeError {
  const [{ path, replicas, replicasMax }] = full;
  const waiting = replicas.map((replica) => {
    const map = replica?.volume.deleted === true ? newestMap(stores, replica.volume.id) : undefined;
    return map === undefined ? [] : awaitedBy(stores, map);
  });
  const notes = waiting.filter((devices) => devices.length > 0);
  const awaited = new Set(notes.flat());
  const what = `volume ${name} finds no place: device ${path} knows ${replicasMax} volumes, as many as it can`;
  if (awaited.size === 0) return new StrakeError('NO_SPACE', what, { remedy: 'Delete volumes, or add devices.' });
  const ids = [...awaited];
  const why = `${notes.length} of them are deleted, and wait for device ${ids.join(', ')}, which may bring them back`;
  return new StrakeError('NO_SPACE', `${what}; ${why}`, {
    remedy: `Bring it back; if it is lost for good: strake device forget ${ids[0]}`,
  });
}
