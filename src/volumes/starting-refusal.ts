/** Why a volume is not started, though somebody could start it: what its devices say, and other volumes. */

import { missingGroups, missingMembers, withoutDoubles } from '../layout/starting-map.js';
import { doubledDevice, type VolumeMap } from '../layout/volume-map.js';
import type { NodeDevice } from '../node/node-device.js';
import { unknownTo } from './deleted-volumes.js';

export interface Refusal {
  /** `conflict`: another volume has the name; `unproven`: a device that is missing may know better. */
  readonly kind: 'conflict' | 'unproven' | 'other';
  readonly reason: string;
}

/**
 * Why a volume is not started by itself; null if it may be. `twins`: other volumes of its name; `without`: devices that count
 * as lost.
 */
export function refusalOf(
  stores: ReadonlyMap<string, NodeDevice>,
  newest: VolumeMap,
  twins: readonly { readonly id: string }[],
  without: readonly string[],
): Refusal | null {
  if (twins.length > 0) {
    return { kind: 'conflict', reason: `volume ${twins.map(({ id }) => id).join(', ')} has the same name` };
  }
  const doubled = doubledDevice(newest.groups);
  if (doubled !== null && !without.includes(doubled)) {
    const reason = `its map names device ${doubled} twice in a group, and a device holds one copy, not two`;
    return { kind: 'other', reason };
  }
  const stored = withoutDoubles(newest);
  const unheard = missingGroups(stored);
  if (unheard.length > 0) {
    const which = `group ${unheard.join(', ')} of its ${stored.groups.length} (counted from 0)`;
    const reason = `no device that is here has ${which}: bring back the devices that hold it; without them its data is not there`;
    return { kind: 'unproven', reason };
  }
  const missing = missingMembers(stores, stored).filter((deviceId) => !without.includes(deviceId));
  if (missing.length > 0) {
    return { kind: 'unproven', reason: `device ${missing.join(', ')} is missing, which may hold newer data` };
  }
  const unknown = unknownTo(stores, stored).filter((deviceId) => !without.includes(deviceId));
  if (unknown.length === 0) return null;
  const reason = `device ${unknown.join(', ')}, which its map calls current, does not know it: it was deleted there`;
  return { kind: 'unproven', reason };
}
