/**
 * Whether a device can take the place of one that is lost. Everything is looked at before anything is changed, so that a
 * device that is refused has taken no place in any volume.
 */

import { StrakeError } from '../core/errors.js';
import { formatBytes } from '../core/units.js';
import { NO_DEVICE, type VolumeMap } from '../layout/volume-map.js';
import type { NodeDevice } from '../node/node-device.js';
import type { GroupIndex, MemberPosition } from '../ports/ids.js';
import { noPage } from './placement.js';

/** A volume that has a member on the device that is lost. */
interface User {
  readonly stored: VolumeMap;
  readonly engine: object | null;
  readonly reason: string;
}

/** A place in a map. */
export interface MemberPlace {
  readonly group: GroupIndex;
  readonly position: MemberPosition;
}

/** Whether a device is named by a map. */
export function hasMember({ groups }: VolumeMap, deviceId: string): boolean {
  return groups.some((group) => group.some((member) => member.deviceId === deviceId));
}

/** The place that a device has in each group of a volume; where nobody has several, the first of them. */
export function placesOf({ groups }: VolumeMap, deviceId: string): MemberPlace[] {
  return groups.flatMap((members, group) => {
    const position = members.findIndex((member) => member.deviceId === deviceId);
    return position < 0 ? [] : [{ group, position }];
  });
}

/** Throws a `StrakeError` unless `entry` can take the place of device `deviceId` in all of these volumes. */
export function checkReplacement(
  stores: ReadonlyMap<string, NodeDevice>,
  deviceId: string,
  entry: NodeDevice,
  users: readonly User[],
): void {
  if (entry.deviceId === deviceId) {
    const what = `${entry.path} is device ${deviceId} itself, which cannot stand in for itself`;
    throw new StrakeError('WRONG_DEVICE', what, {
      remedy: `Take it back with what it holds: strake device add ${entry.path}. Or format it, which makes it a new device.`,
    });
  }
  if (users.length === 0) throw new StrakeError('NOT_FOUND', `no volume has a member on device ${deviceId}`);
  for (const user of users) checkUser(deviceId, entry, user);
  const unknown = users.find(({ stored }) => !entry.knows(stored.id));
  if (unknown !== undefined && !entry.hasRoom) throw noPage(stores, [entry], unknown.stored.name);
  checkRoom(stores, deviceId, entry, users);
}

function checkUser(deviceId: string, entry: NodeDevice, { stored, engine, reason }: User): void {
  const { name, groups, segmentBytes } = stored;
  if (engine === null) throw new StrakeError('UNAVAILABLE', `volume ${name} is not started: ${reason}`);
  for (const { group, position } of placesOf(stored, deviceId)) {
    if (groups[group][position].state !== 'offline') {
      throw new StrakeError('VOLUME_BUSY', `device ${deviceId} is still in use by volume ${name}`);
    }
    const by = entry.deviceId;
    const member = groups[group].find((one) => one.deviceId === by);
    if (member === undefined) continue;
    const what = `device ${by} (${entry.path}) cannot take the place of ${nameOf(deviceId)} in volume ${name}`;
    throw new StrakeError(
      'WRONG_DEVICE',
      `${what}: it has a copy of the same data (${member.state}), and holds one copy`,
      {
        remedy: 'Name another device, which holds no copy of this volume: a freshly formatted one, for example.',
      },
    );
  }
  const { slotBytes } = entry;
  if (slotBytes === segmentBytes) return;
  const what = `slots of ${formatBytes(slotBytes)}, and volume ${name} has segments of ${formatBytes(segmentBytes)}`;
  throw new StrakeError('INVALID_ARGUMENT', `${entry.path} has ${what}`);
}

function nameOf(deviceId: string): string {
  return deviceId === NO_DEVICE ? 'a device that is not named' : `device ${deviceId}`;
}

/** What is written meanwhile may still be too much; this is what is known to be. */
function checkRoom(
  stores: ReadonlyMap<string, NodeDevice>,
  deviceId: string,
  entry: NodeDevice,
  users: readonly User[],
): void {
  let needed = 0;
  for (const { stored } of users) {
    needed -= entry.segmentsOf(stored.id, null);
    for (const { group } of placesOf(stored, deviceId)) {
      const sources = stored.groups[group].filter(({ state }) => state === 'in-sync');
      const counts = sources.map((member) => {
        const source = stores.get(member.deviceId);
        return source?.segmentsOf(stored.id, group) ?? 0;
      });
      needed += Math.max(0, ...counts);
    }
  }
  const { freeSlots, slotBytes } = entry;
  if (needed <= freeSlots) return;
  const what = `${entry.path} has room for ${formatBytes(freeSlots * slotBytes)}, and what is to be rebuilt there takes`;
  throw new StrakeError('NO_SPACE', `${what} ${formatBytes(needed * slotBytes)}`, { remedy: 'Name a larger device.' });
}
