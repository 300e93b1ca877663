/** What a volume's engine tells of itself. */

import { newestVersion } from '../layout/volume-map.js';
import type { FlushNumber } from '../ports/ids.js';
import type { Membership } from './mirror/membership.js';
import type { JobProgress, VolumeCounters, VolumeState, VolumeStatus } from './volume-events.js';

/** Which part of its life an engine is in. */
export type VolumePhase = 'starting' | 'serving' | 'closing' | 'closed';

export function volumeStatus(
  membership: Membership,
  phase: VolumePhase,
  counters: VolumeCounters,
  flushNumber: FlushNumber,
  jobs: JobProgress[],
): VolumeStatus {
  const groups = membership.groups.map((group) =>
    group.map((slot) => ({
      deviceId: membership.deviceId(slot),
      state: slot.leaving ? ('offline' as const) : slot.state,
      present: slot.member !== null,
    })),
  );
  return {
    state: stateOf(membership, phase),
    reason: membership.stopped ?? '',
    mapVersion: newestVersion(membership.record),
    flushNumber,
    groups,
    counters: { ...counters },
    jobs,
  };
}

function stateOf(membership: Membership, phase: VolumePhase): VolumeState {
  if (membership.suspended && phase === 'serving') return 'suspended';
  if (membership.stopped !== null) return 'failed';
  if (phase === 'starting') return 'starting';
  if (phase !== 'serving') return 'closed';
  const slots = membership.groups.flat();
  if (slots.some(({ state, leaving }) => state === 'offline' || leaving)) return 'degraded';
  return slots.some(({ state }) => state === 'syncing') ? 'syncing' : 'ok';
}
