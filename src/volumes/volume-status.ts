/** What a node tells of its volumes, as plain data. */

import type { VolumeStatus } from '../client/volume-events.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { NodeDevice } from '../node/node-device.js';
import { type HostedEngine, shardOf } from './engine-elsewhere.js';
import type { VolumeDirectory } from './volume-directory.js';

/** A volume, as plain data. */
export interface VolumeReport {
  readonly stored: VolumeMap;
  readonly unproven: boolean;
  /** It is not started, and another volume has its name. */
  readonly conflict: boolean;
  readonly reason: string;
  readonly usedSlots: number;
  /** The shard that its engine is on; null while it has none. */
  readonly shard: number | null;
  /** Null while it is not started. */
  readonly status: VolumeStatus | null;
}

type Stores = ReadonlyMap<string, NodeDevice>;

/** Of all volumes but those that are being made. */
export function volumeReports(volumes: VolumeDirectory, stores: Stores): VolumeReport[] {
  const known = [...volumes.values()].filter(({ coming }) => !coming);
  return known.map((volume) => ({
    stored: volume.stored,
    unproven: volume.unproven,
    conflict: volumes.inConflict(volume),
    reason: volume.reason,
    usedSlots: usedSlots(stores, volume.id),
    shard: volume.served === null ? null : shardOf(volume.served),
    status: (volume.engine ?? volume.reader)?.status() ?? null,
  }));
}

function usedSlots(stores: Stores, volumeId: string): number {
  let used = 0;
  for (const entry of stores.values()) used += entry.segmentsOf(volumeId, null);
  return used;
}

/** Whether a volume writes to a device, or is about to. */
export function isUsed(engine: HostedEngine, deviceId: string): boolean {
  return engine.status().groups.some((group, at) =>
    group.some((member, position) => {
      if (member.deviceId !== deviceId || !member.present) return false;
      return member.state !== 'offline' || engine.isSynced(at, position);
    }),
  );
}
