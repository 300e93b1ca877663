/** What a node tells of its devices and volumes, made of what its shard tells and of what their files are. */

import { newestVersion } from '../layout/volume-map.js';
import type { StoreStatus } from '../node/node-device.js';
import type { RemoteDeviceStatus } from '../volumes/remote-device.js';
import type { VolumeReport } from '../volumes/volume-status.js';
import type { DeviceFacts } from './facts.js';
import { describe } from './format.js';
import type { NodeDevice, NodeVolumeStatus } from './node-types.js';

/** Facts of the devices that are open, by id. */
type OpenFacts = ReadonlyMap<string, DeviceFacts>;

/** A device, as its shard and its file tell of it. */
export function deviceOf(
  facts: OpenFacts,
  { path, shard, superblock, state, usedSlots, tableBytes, recovery, counters, operations }: StoreStatus,
): NodeDevice {
  const { checksumErrors, tablesDamaged, checkpoints } = counters;
  return {
    ...describe(path, superblock),
    facts: facts.get(superblock.deviceId) as DeviceFacts,
    shard,
    state,
    usedSlots,
    tableBytes,
    recovery: { ...recovery, problems: recovery.problems.map(({ text }) => text) },
    counters: { checksumErrors, tablesDamaged, checkpoints, operations },
  };
}

/** Where the devices are that are here, by id: those of this node, and those of others. */
export function pathsOf(facts: OpenFacts, remote: readonly RemoteDeviceStatus[]): Map<string, string> {
  const own = [...facts].map(([deviceId, { path }]) => [deviceId, path] as const);
  return new Map([...own, ...remote.map(({ deviceId, path }) => [deviceId, path] as const)]);
}

/** A volume, as its shard tells of it. `paths`: see `pathsOf`. */
export function volumeOf(paths: ReadonlyMap<string, string>, report: VolumeReport): NodeVolumeStatus {
  const { stored, unproven, conflict, reason, usedSlots, shard, status } = report;
  const { id, name, sizeBytes, layout, copies, generation, createdMs, segmentBytes } = stored;
  const groups = stored.groups.map((group, at) =>
    group.map(({ deviceId, state }, position) => ({
      deviceId,
      path: paths.get(deviceId) ?? null,
      state: status?.groups[at][position].state ?? state,
      present: status?.groups[at][position].present ?? paths.has(deviceId),
    })),
  );
  return {
    id,
    name,
    sizeBytes,
    layout,
    copies,
    createdAt: new Date(createdMs).toISOString(),
    mapVersion: newestVersion(stored),
    generation,
    state: status?.state ?? (conflict ? 'conflict' : unproven ? 'unproven' : 'failed'),
    reason: status === null ? reason : status.reason,
    allocatedBytes: usedSlots * segmentBytes,
    shard,
    groups,
    counters: status?.counters ?? NO_COUNTERS,
    jobs: status?.jobs ?? [],
  };
}

const NO_COUNTERS = {
  repairedBlocks: 0,
  unrecoverableBlocks: 0,
  acceptedSuspects: 0,
  poisonedBlocks: 0,
  degradedWrites: 0,
  retriedReads: 0,
  reconciledBlocks: 0,
  refused: 0,
} as const;
