/**
 * How people name the devices of a node: by id, by the first digits of an id, by label, or by any path that leads to one. A path
 * is compared by the device that it leads to, not as text.
 */

import { StrakeError } from '../core/errors.js';
import { ID_DIGITS_MIN } from '../core/limits.js';
import type { NodeStatus } from './node-types.js';

/** What a name may stand for. */
export interface KnownDevices extends Pick<NodeStatus, 'devices' | 'unavailable' | 'volumes' | 'awaited'> {
  /** The device that the name leads to, if it is a path that leads to one of the node's. */
  readonly led: string | undefined;
}

/** The id of the device that `name` stands for. Throws `ERR_STRAKE_NO_DEVICE` if it stands for none, or for several. */
export function matchDevice(name: string, { devices, unavailable, volumes, awaited, led }: KnownDevices): string {
  const members = [...volumes.flatMap(({ groups }) => groups.flat()), ...awaited].map(({ deviceId }) => deviceId);
  const away = unavailable.flatMap(({ path, deviceId }) => (deviceId === null ? [] : [{ path, deviceId, label: '' }]));
  const ids = new Set([...[...devices, ...away].map(({ deviceId }) => deviceId), ...members]);
  const digits = name.toLowerCase();
  const matching = /^[0-9a-f]+$/.test(digits) && digits.length >= ID_DIGITS_MIN;
  const found = new Set([
    ...[...devices, ...away]
      .filter(({ path, label }) => path === name || label === name)
      .map(({ deviceId }) => deviceId),
    ...(matching ? [...ids].filter((id) => id.startsWith(digits)) : []),
    ...(led === undefined ? [] : [led]),
  ]);
  const [only] = found;
  if (found.size === 1) return only;
  const quoted = JSON.stringify(name);
  const why = found.size > 1 ? `${quoted} names ${found.size} devices` : `no device ${quoted}`;
  throw new StrakeError('NO_DEVICE', `${why}; devices are ${[...ids].map((id) => id.slice(0, 8)).join(', ')}`, {
    remedy:
      'Name it by its id, the first digits of it, its label, or a path that leads to it: `strake status` lists them.',
  });
}
