/**
 * Devices from before the feature `groups`, when they are opened for writing: each page that has the map of a whole volume
 * becomes the page of the replica that the device has of it.
 *
 * The steps, with what a crash between them leaves; each leaves a device that opens:
 *
 * 1. memory alone changes here: the device is what it was
 * 2. the superblocks get the feature, as every opening writes them. The pages are what they were, and are read in both forms
 * 3. the checkpoint that follows every opening writes the new pages, and the entries of replicas that have a page of their own
 *    now, to their other places; they count when its root does
 *
 * Numbers of pages, slots and entries stay. A device that is in several groups of a volume gets a page for each of them. A page
 * whose map does not name the device stays as it is: nothing of it is served, and a newer map takes its place.
 */

import { check } from '../../core/check.js';
import { StrakeError } from '../../core/errors.js';
import type { SlotIndex } from '../../core/ids.js';
import { NO_FLUSH } from '../../layout/flush-id.js';
import { replicaOf } from '../../layout/replica-map.js';
import { withoutDoubles } from '../../layout/starting-map.js';
import type { VolumeMap } from '../../layout/volume-map.js';
import { SLOT_FREE } from '../format/format.js';
import type { LegacyPage } from '../format/volume-page.js';
import type { StoreImage } from './image.js';

/** Numbers of the groups in which the map names the device. */
function groupsOf({ groups }: VolumeMap, deviceId: string): number[] {
  return groups.flatMap((group, at) => (group.some((member) => member.deviceId === deviceId) ? [at] : []));
}

/**
 * Gives the pages of volumes the form that they have with groups. Throws `ERR_STRAKE_NO_SPACE` if a page is missing; the image
 * is to be thrown away then. `path`: for messages. Returns whether anything has changed.
 */
export function migrate(image: StoreImage, path: string): boolean {
  const { deviceId } = image.superblock;
  let migrated = false;
  for (const [index, page] of [...image.legacy]) {
    // A group that names a device twice has one copy there.
    const map = withoutDoubles(page.map);
    const [first, ...others] = groupsOf(map, deviceId);
    if (first === undefined) continue;
    migrated = true;
    image.legacy.delete(index);
    takePage(image, index, map, first, page);
    for (const group of others) {
      const free = freePage(image);
      if (free < 0) throw noPage(path, map, group);
      takePage(image, free, map, group, page);
      moveEntries(image, { index, free }, map, group);
    }
  }
  return migrated;
}

function takePage(image: StoreImage, index: number, map: VolumeMap, group: number, { flushed }: LegacyPage): void {
  check(image.replicas[index] === undefined && !image.legacy.has(index), 'a page is given to two replicas', index);
  // What was served under it is not known; that a generation was is the careful assumption. What is settled is not known either.
  const own = { servedGeneration: map.generation, answered: false, flushed, settled: NO_FLUSH };
  image.replicas[index] = { map: replicaOf(map, group), own };
  image.owners.set(index, { volumeId: map.id, group: group + 1 });
  image.changedVolumes.add(index);
}

function freePage({ replicas, legacy }: StoreImage): number {
  return replicas.findIndex((replica, index) => replica === undefined && !legacy.has(index));
}

/** The segments of a group go to the page `free`; those that stay on page `index` get the number of their group all the same. */
function moveEntries(
  { slots, changedSlots }: StoreImage,
  { index, free }: { readonly index: number; readonly free: number },
  map: VolumeMap,
  group: number,
): void {
  check(index !== free, 'segments move to the page that they are on', index);
  const before = slots.usedBy(index);
  for (let slot = 0; slot < slots.slots; slot += 1) {
    if (slots.states[slot] === SLOT_FREE || slots.volumes[slot] !== index) continue;
    changedSlots.add(slot);
    if (slots.stripes[slot] % map.groups.length === group) slots.give(slot as SlotIndex, free);
  }
  check(slots.usedBy(index) + slots.usedBy(free) === before, 'a segment was lost between two groups', index);
}

function noPage(path: string, map: VolumeMap, group: number): StrakeError {
  const what = `${path} has no page left for group ${group} of volume ${map.name}, which it shares with another group`;
  return new StrakeError('NO_SPACE', `${what}; it stays as it is`, {
    remedy: 'Delete a volume with the version that it was last used with, and open it again.',
  });
}
