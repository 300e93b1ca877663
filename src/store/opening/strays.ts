/**
 * Segments that belong to no replica of their device: their slots are of a volume of which the device has other groups.
 *
 * A device of version 1 could leave one group of a volume and join another, and kept what it had of the first. It has one page
 * for the volume, which becomes that of the group in which its map names it, or which the first map that comes later is of. What
 * is left of the former group is older than any map that could name the device in it again: it would come back as a member that
 * is compared with the others, block by block. Nobody lists such segments, so nobody would ever give their slots back.
 *
 * Only memory changes here; the checkpoint that follows every opening makes the slots free. A crash before it leaves them as they
 * were.
 */

import { check } from '../../core/check.js';
import type { SlotIndex } from '../../core/ids.js';
import { SLOT_FREE } from '../format/format.js';
import type { StoreImage } from './image.js';

/** Whether a slot in use holds a segment of another group than the replica whose page it names. */
export function isStray({ slots, replicas }: Pick<StoreImage, 'slots' | 'replicas'>, slot: number): boolean {
  const map = replicas[slots.volumes[slot]]?.map;
  return map !== undefined && slots.stripes[slot] % map.groups !== map.group;
}

/** Takes back the slots of such segments. Returns how many there were. */
export function takeBackStrays(image: StoreImage): number {
  const { slots, tables, active, changedSlots } = image;
  const before = slots.usedSlots;
  for (let slot = 0; slot < slots.slots; slot += 1) {
    if (slots.states[slot] === SLOT_FREE || !isStray(image, slot)) continue;
    slots.free(slot as SlotIndex);
    tables.delete(slot);
    active.delete(slot);
    changedSlots.add(slot);
  }
  check(before >= slots.usedSlots, 'more slots are in use once some are taken back', slots.usedSlots);
  return before - slots.usedSlots;
}
