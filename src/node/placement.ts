/** On which devices a new volume lies. */

import { START } from '../client/volume-record.js';
import { StrakeError } from '../core/errors.js';
import { type StoredVolume, VOLUME_MEMBERS_MAX } from '../store/pages.js';
import type { NodeStore } from './node-store.js';

/** What is to be placed. */
export interface Placed {
  readonly name: string;
  readonly layout: 'single' | 'mirror';
  readonly copies: number;
}

/**
 * Devices for a volume: those with most room. A mirror is spread over as many groups as there are devices for. Throws
 * `ERR_STRAKE_NO_SPACE` if there are too few devices.
 */
export function placeVolume(
  stores: ReadonlyMap<string, NodeStore>,
  { copies, layout, name }: Placed,
): Pick<StoredVolume, 'groups' | 'segmentBytes'> {
  const usable = [...stores.values()].filter(({ store }) => !store.failed);
  const sizes = new Map<number, NodeStore[]>();
  for (const entry of usable) {
    const { slotBytes } = entry.superblock.layout;
    sizes.set(slotBytes, [...(sizes.get(slotBytes) ?? []), entry]);
  }
  const alike = [...sizes.values()].sort((one, other) => other.length - one.length)[0] ?? [];
  if (alike.length < copies) {
    const what = `volume ${name} needs ${copies} devices with slots of one size, and there are ${alike.length}`;
    throw new StrakeError('NO_SPACE', what, { remedy: 'Add formatted devices.' });
  }
  const sorted = alike.sort((one, other) => other.store.freeSlots - one.store.freeSlots);
  const groupsMax = Math.floor(VOLUME_MEMBERS_MAX / copies);
  const count = layout === 'single' ? 1 : Math.min(groupsMax, Math.floor(sorted.length / copies));
  const groups = Array.from({ length: count }, (_, group) =>
    Array.from({ length: copies }, (_, position) => {
      const { superblock } = sorted[group * copies + position];
      const { deviceId, incarnation } = superblock;
      return { deviceId, state: 'in-sync' as const, since: START, incarnation: incarnation - 1, flushNumber: 0 };
    }),
  );
  return { groups, segmentBytes: sorted[0].superblock.layout.slotBytes };
}
