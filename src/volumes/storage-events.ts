/** What is told of what happens to volumes and devices. */

import type { VolumeEvent } from '../client/volume-events.js';
import type { DeviceEvent } from '../node/device-events.js';

export interface StorageEvent {
  /** `cluster-trouble`: managers are not reached, or do not take this node. */
  readonly kind: VolumeEvent['kind'] | DeviceEvent['kind'] | 'cluster-trouble';
  readonly volume?: string;
  readonly deviceId?: string;
  readonly text: string;
}

/** The event of a volume in words; null if it is not worth any. */
export function storageEvent(volume: string, event: VolumeEvent): StorageEvent | null {
  const { kind } = event;
  switch (event.kind) {
    case 'member-in-sync':
      return { kind, volume, deviceId: event.deviceId, text: 'is in sync' };
    case 'member-offline':
    case 'member-syncing':
      return { kind, volume, deviceId: event.deviceId, text: event.reason };
    case 'stopped':
    case 'suspended':
      return { kind, volume, text: event.reason };
    case 'job-ended': {
      const { job } = event;
      return { kind, volume, text: `${job.kind} ${job.state} ${job.reason}`.trim() };
    }
    case 'accepted':
      // After a crash under load there are thousands; the status counts them.
      return null;
    default: {
      const text = `block ${event.block} of segment ${event.stripe} ${event.kind}`;
      return { kind, volume, deviceId: event.deviceId, text };
    }
  }
}
