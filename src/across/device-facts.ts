/**
 * What a device on another shard says of itself: all that whoever decides about volumes looks at, as plain data of one moment.
 */

import type { ReplicaMap, ReplicaOwn } from '../layout/replica-map.js';
import type { LeaseTerms } from '../node/gated-device.js';
import type { StoreStatus } from '../node/node-device.js';
import type { NodeStore } from '../node/node-store.js';

/** A page of the device's volumes region that is not empty. */
export interface PageFacts {
  readonly page: number;
  readonly volumeId: string;
  /** Number of the group and 1; 0 where the device does not tell. */
  readonly ownerGroup: number;
  /** Null on a page of the form of version 1. */
  readonly map: ReplicaMap | null;
  /** Whether nothing of the volume can come back from this device. */
  readonly gone: boolean;
  /** Segments that have a slot. */
  readonly segments: number;
  readonly own: ReplicaOwn;
}

export interface DeviceFacts extends LeaseTerms {
  readonly status: StoreStatus;
  readonly failed: boolean;
  readonly freeSlots: number;
  /** Whether a page is empty. */
  readonly hasEmptyPage: boolean;
  readonly replicasMax: number;
  readonly pages: readonly PageFacts[];
}

/** What a device that is here says of itself. */
export function factsOf(device: NodeStore): DeviceFacts {
  const { volumeTable } = device.store;
  const { owners } = volumeTable;
  const pages: PageFacts[] = [];
  for (const [page, owner] of owners.list.entries()) {
    if (owner === undefined) continue;
    pages.push({
      page,
      volumeId: owner.volumeId,
      ownerGroup: owner.group,
      map: device.replicas[page] ?? null,
      gone: device.isGone(owner.volumeId),
      segments: volumeTable.segmentsOf(page),
      own: device.ownOf(page),
    });
  }
  const { failed, freeSlots, hasRoom: hasEmptyPage, replicasMax, leaseMs, formerLeaseMs } = device;
  return { status: device.status(), failed, freeSlots, hasEmptyPage, replicasMax, pages, leaseMs, formerLeaseMs };
}

/** Whether the note on a page could go to another replica, if whoever knows the other devices says so. */
export function isForgettable({ map, gone, segments }: PageFacts): boolean {
  return map?.volume.deleted === true && gone && segments === 0;
}
