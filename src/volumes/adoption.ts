/**
 * How the volumes of one node become those of a cluster, and are taken back.
 *
 * ```text
 *   adopt   1 a manager decides the first managed maps ─► 2 all in-sync members have answered them
 *   leave   1 a manager gives a volume up, for good     ─► 2 all members have unmanaged maps ─► 3 the manager forgets it
 * ```
 *
 * A crash after the first step of either leaves a volume that is nobody's for a while: it is not served, and the same call
 * completes it. What managers have decided reaches members with heartbeats, too. Data is not touched.
 */

import { allEnded } from '../core/all-ended.js';
import { check } from '../core/check.js';
import { deviceError } from '../core/errno.js';
import { StrakeError, toStrakeError } from '../core/errors.js';
import { namesDevice, type ReplicaMap, replicaOf } from '../layout/replica-map.js';
import { newestMaps } from '../layout/starting-map.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { DrivenDevice } from '../node/node-device.js';
import type { ManagerCalls, VolumeListed } from '../ports/manager.js';
import { ADOPTION_PAUSES_MAX } from './limits.js';

export interface AdoptionParts {
  readonly manager: ManagerCalls<ReplicaMap>;
  /** The devices that this process drives, by id. */
  readonly devices: ReadonlyMap<string, DrivenDevice>;
  /** Resolves after a moment, in which others tell what they have. Rejects when the node is closed. */
  readonly pause: () => Promise<void>;
}

/** What has become of the volumes of a node: names. */
export interface Adopted {
  readonly volumes: readonly string[];
  /** Those that stay as they are. */
  readonly refused: readonly { readonly volume: string; readonly why: string }[];
}

/** Brings maps to all devices here that they name; rejects if one does not answer. */
async function bringAll(
  devices: AdoptionParts['devices'],
  maps: readonly ReplicaMap[],
  bring: (device: DrivenDevice, map: ReplicaMap) => Promise<number>,
): Promise<void> {
  const work = maps.flatMap((map) =>
    [...devices.values()].flatMap((device) => (namesDevice(map, device.deviceId) ? [{ device, map }] : [])),
  );
  await allEnded(
    work.map(async ({ device, map }) => {
      const result = await bring(device, map);
      if (result < 0) throw deviceError(-result, `store the map of ${map.volume.name} on ${device.path}`);
    }),
  );
}

/** Why a volume cannot be handed over now; null if nothing stands against it. */
function obstacle({ devices }: AdoptionParts, map: VolumeMap): string | null {
  const missing = map.groups.flat().find(({ deviceId, state }) => state === 'in-sync' && !devices.has(deviceId));
  if (missing !== undefined) return `device ${missing.deviceId}, which is current, is not here`;
  const unknown = map.versions.indexOf(0);
  return unknown < 0 ? null : `no device that is here has the map of group ${unknown}`;
}

/**
 * Hands all volumes that this node decides about by itself to a manager, which knows its devices. Resolves when each is
 * handed over or refused; rejects with a `StrakeError` if that could not be completed: the same call does that later.
 */
export async function adoptVolumes(parts: AdoptionParts): Promise<Adopted> {
  const { manager, devices } = parts;
  const volumes: string[] = [];
  const refused: { volume: string; why: string }[] = [];
  for (const map of [...newestMaps(devices).values()].filter(({ deleted }) => !deleted)) {
    const why = obstacle(parts, map);
    try {
      if (why !== null) throw new StrakeError('UNPROVEN', why);
      const decided = await manager.adopt(map.groups.map((_, group) => replicaOf(map, group)));
      check(decided.length === map.groups.length, 'a volume is handed over with other groups', decided.length);
      const unproven = decided.find(({ authentication }) => authentication === undefined);
      check(unproven === undefined, 'a volume is handed over by a map that nothing proves', unproven?.group);
      await bringAll(devices, decided, (device, one) => device.bring(one));
      volumes.push(map.name);
    } catch (error) {
      refused.push({ volume: map.name, why: toStrakeError(error).message });
    }
  }
  await until(parts, 'the manager has not heard what the devices have answered', (listed) =>
    listed.every(({ groups }) => groups.every(({ base, members }) => base > 0 || !isHere(parts, members))),
  );
  check(new Set(volumes).size === volumes.length, 'a volume is handed over twice', volumes.length);
  return { volumes, refused };
}

function isHere({ devices }: AdoptionParts, members: VolumeListed['groups'][number]['members']): boolean {
  return members.some(({ deviceId }) => devices.has(deviceId));
}

/**
 * Takes all volumes back that lie on devices of this node alone, so that it decides about them by itself. Resolves when the
 * managers have forgotten them. Rejects as `adoptVolumes`; those that lie on other nodes too are refused.
 */
export async function takeBackVolumes(parts: AdoptionParts): Promise<Adopted> {
  const { manager, devices } = parts;
  const volumes: string[] = [];
  const refused: { volume: string; why: string }[] = [];
  for (const { volumeId, name, groups } of await manager.volumes()) {
    if (!groups.some(({ members }) => isHere(parts, members))) continue;
    try {
      const maps = await manager.giveBack(volumeId);
      check(maps.length === groups.length, 'a volume is taken back with other groups', maps.length);
      const proven = maps.find(({ authentication }) => authentication !== undefined);
      check(proven === undefined, 'a manager gives a volume back and goes on to decide about it', proven?.group);
      await bringAll(devices, maps, (device, map) => device.giveBack(map));
      volumes.push(name);
    } catch (error) {
      refused.push({ volume: name, why: toStrakeError(error).message });
    }
  }
  await until(parts, 'the manager has not forgotten what it has given back', (listed) =>
    listed.every(({ name }) => !volumes.includes(name)),
  );
  return { volumes, refused };
}

async function until(
  { manager, pause }: AdoptionParts,
  what: string,
  isDone: (volumes: readonly VolumeListed[]) => boolean,
): Promise<void> {
  for (let turn = 0; turn < ADOPTION_PAUSES_MAX; turn += 1) {
    if (isDone(await manager.volumes())) return;
    await pause();
  }
  throw new StrakeError('TIMED_OUT', `${what}`, { remedy: 'Try again: the same command completes it.' });
}
