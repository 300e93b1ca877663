/** The end of what an engine has under way: its work at the members, and what it leaves to the next one. */

import type { Calls } from '../core/calls.js';
import { check } from '../core/check.js';
import type { CopyJobs } from './mirror/copy-jobs.js';
import type { VolumeFlush } from './requests/volume-flush.js';
import type { VolumeParts } from './volume-parts.js';

/** Whether requests, flushes or changes of the map are under way, or wait for something. */
export function isUsed({ pieces, membership }: VolumeParts, flushes: VolumeFlush): boolean {
  return pieces.inFlight > 0 || flushes.busy || membership.isChanging;
}

/** Resolves when no flush, no control work and no giving back goes on. One may be followed by another. */
export async function workEnded(flushes: VolumeFlush, calls: Calls, copies: CopyJobs): Promise<void> {
  while (flushes.busy || calls.running > 0 || copies.busy) {
    await Promise.all([flushes.ended(), calls.idle(), copies.idle()]);
  }
}

/**
 * Flushes what no flush covers, and tells the members that all of it is settled. Where that fails the next start compares more.
 * `modified`: whether there is any.
 */
export async function settleAtEnd(parts: VolumeParts, flushes: VolumeFlush, modified: boolean): Promise<void> {
  const { membership, pieces, calls, work } = parts;
  check(pieces.inFlight === 0, 'all is settled at the end of a volume that is used', pieces.inFlight);
  check(!flushes.busy, 'all is settled at the end of a volume while it is flushed');
  if (modified) await calls.call((token) => flushes.flushOwn(token));
  await membership.idle();
  const members = membership.groups.flat().filter(({ readable }) => readable);
  await Promise.all(members.map(({ present }) => work.agreed(present, flushes.settled)));
}
