/**
 * What makes an engine ready to serve under the map of an attach: members that are missing leave, what the others have is
 * learned, and the copies are made equal, which each of them notes.
 */

import { StrakeError } from '../core/errors.js';
import { LIST_ALL } from '../ports/segment-list.js';
import type { Allocation } from './mirror/allocation.js';
import { Reconcile } from './mirror/reconcile.js';
import type { VolumeFlush } from './requests/volume-flush.js';
import type { WriteStamps } from './requests/write-stamps.js';
import type { VolumeParts } from './volume-parts.js';

export interface VolumeStartParts {
  readonly parts: VolumeParts;
  readonly allocation: Allocation;
  readonly stamps: WriteStamps;
  readonly flushes: VolumeFlush;
  readonly readOnly: boolean;
  /** Whether it is to be given up. */
  readonly ending: () => boolean;
}

/** Rejects with a `StrakeError`: then the volume has stopped, or is suspended again. */
export async function startVolume(start: VolumeStartParts): Promise<void> {
  const { membership } = start.parts;
  try {
    await partFromMissing(start);
    const { stamps, flushes } = start;
    const slots = membership.groups.flat();
    for (const { member } of slots) if (member !== null) stamps.startAbove(member.stampMax);
    stamps.flushNumber = Math.max(stamps.flushNumber, 1 + (await learn(start)));
    flushes.startAt(stamps.flushNumber);
    if (!start.readOnly) await makeEqual(start);
  } catch (error) {
    membership.fail(error instanceof Error ? error.message : String(error));
    throw error;
  }
  if (membership.stopped !== null) throw new StrakeError('UNAVAILABLE', membership.stopped);
}

async function makeEqual({ parts, allocation, stamps, flushes, ending }: VolumeStartParts): Promise<void> {
  const { membership, work } = parts;
  const { generation } = membership.record;
  const at = { generation, flushNumber: stamps.flushNumber };
  await new Reconcile(parts, allocation, ending).run(at);
  stamps.flushNumber += 1;
  flushes.startAt(stamps.flushNumber);
  const current = membership.groups.flat().filter(({ readable }) => readable);
  await Promise.all(current.map(({ present }) => work.agreed(present, flushes.settled)));
}

/** Learns what the members have. Resolves to the highest flush number that any of them has recorded something under. */
async function learn({ parts: { membership, work } }: VolumeStartParts): Promise<number> {
  let highest = 0;
  for (const { member, segments, covered } of membership.groups.flat()) {
    highest = Math.max(highest, covered);
    if (member === null) continue;
    await work.list(member, LIST_ALL, null, (stripe, _generation, flushNumber) => {
      segments.add(stripe);
      highest = Math.max(highest, flushNumber);
    });
  }
  return highest;
}

/** Members that are missing, and those whose sync was interrupted, are offline from the start. */
async function partFromMissing({ parts: { membership }, readOnly }: VolumeStartParts): Promise<void> {
  for (const group of membership.groups) {
    if (!group.some(({ readable }) => readable)) {
      const names = group.map((slot) => `${membership.deviceId(slot)} (${slot.state})`).join(', ');
      throw new StrakeError('UNAVAILABLE', `no current member of a group is there: ${names}`);
    }
  }
  if (readOnly) return;
  for (const slot of membership.groups.flat()) {
    const missing = slot.member === null || slot.state === 'syncing';
    if (missing && slot.state !== 'offline') membership.expel(slot, 'it was missing at the start');
  }
  await membership.idle();
  if (membership.stopped !== null) throw new StrakeError('UNAVAILABLE', membership.stopped);
}
