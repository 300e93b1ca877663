/**
 * Deleted volumes: their space is given back, and a note stays on their devices until no device can bring them back.
 *
 * A device that was away during a deletion has the volume as it was. The note, which is the volume's last map with the mark that
 * it is deleted, is newer, and so it wins when the device returns. It is needed as long as a device that its map names has
 * not *answered*: it is not here, has failed, or does not have the deletion durably. A device that has been replaced is in no
 * newer map, and is not awaited; one that is lost for good is given up by id, which takes it out of the notes that name it.
 *
 * A note that is not needed stays until its page is (`VolumeTable`). What a device brings of which nobody else knows any more is
 * not started by itself: see `unknownTo`.
 */

import type { StrakeError } from '../core/errors.js';
import { toStrakeError } from '../core/errors.js';
import { replicaOf } from '../layout/replica-map.js';
import { newestMaps } from '../layout/starting-map.js';
import { NO_DEVICE, type VolumeMap } from '../layout/volume-map.js';
import type { NodeDevice } from '../node/node-device.js';
import type { CompletionPort } from '../ports/completion.js';

type Stores = ReadonlyMap<string, NodeDevice>;

/** Devices that a note waits for. */
export function awaitedBy(stores: Stores, { id, groups }: VolumeMap): string[] {
  const named = new Set(groups.flat().map(({ deviceId }) => deviceId));
  named.delete(NO_DEVICE);
  return [...named].filter((deviceId) => {
    const entry = stores.get(deviceId);
    return entry === undefined || entry.failed || !entry.isGone(id);
  });
}

/** Whether no device that is here, and none that is away, can bring a deleted volume back. */
export function mayForget(stores: Stores, note: VolumeMap): boolean {
  if (awaitedBy(stores, note).length > 0) return false;
  return [...stores.values()].every((entry) => entry.isGone(note.id));
}

/** A device that deleted volumes wait for, and how many. */
export interface AwaitedDevice {
  readonly deviceId: string;
  readonly volumes: number;
}

/** Devices that are not here, and for which notes of deleted volumes are kept. */
export function awaitedDevices(stores: Stores): AwaitedDevice[] {
  const counts = new Map<string, number>();
  for (const stored of newestMaps(stores).values()) {
    if (!stored.deleted) continue;
    for (const deviceId of awaitedBy(stores, stored)) counts.set(deviceId, (counts.get(deviceId) ?? 0) + 1);
  }
  return [...counts].map(([deviceId, volumes]) => ({ deviceId, volumes }));
}

/**
 * Devices that a map calls current in a group, and that do not know the group though they are here: they have had it, and have
 * forgotten that it was deleted. A map that was never started may have been kept from them by a crash.
 */
export function unknownTo(stores: Stores, { id, groups, versions }: VolumeMap): string[] {
  return groups.flatMap((group, at) => {
    if (versions[at] <= 1) return [];
    return group.flatMap(({ deviceId, state }) => {
      const entry = stores.get(deviceId);
      return state === 'in-sync' && entry !== undefined && !entry.knowsGroup(id, at) ? [deviceId] : [];
    });
  });
}

export interface CleanUp {
  readonly completions: CompletionPort;
  /** What is left is given back when the device is opened the next time. */
  readonly ending: () => boolean;
  readonly onFailure: (deviceId: string, error: StrakeError) => void;
}

/**
 * Puts a note on all devices that are here and know the volume, and gives back what it has there. A device that fails keeps
 * nothing from the others, and is awaited.
 */
export async function cleanUp(stores: Stores, note: VolumeMap, options: CleanUp): Promise<void> {
  await Promise.all(
    [...stores].map(async ([deviceId, entry]) => {
      if (entry.failed || !entry.knows(note.id)) return;
      try {
        await cleanUpOn(entry, note, options);
      } catch (error) {
        options.onFailure(deviceId, toStrakeError(error));
      }
    }),
  );
}

async function cleanUpOn(entry: NodeDevice, note: VolumeMap, { completions, ending }: CleanUp): Promise<void> {
  const stale = entry.replicasOf(note.id).filter(({ group, mapVersion, volume }) => {
    return !volume.deleted || mapVersion !== note.versions[group];
  });
  await Promise.all(stale.map(({ group }) => entry.putReplica(replicaOf(note, group))));
  await entry.release(completions, note.id, ending);
}
