/**
 * A device of a node: its store, and what belongs to it. Who decides about volumes asks this, and knows no store.
 */

import { check } from '../core/check.js';
import type { ReplicaMap, ReplicaOwn } from '../layout/replica-map.js';
import type { KnownDevice } from '../layout/starting-map.js';
import { FENCE_ALL } from '../ports/device.js';
import type { GroupIndex } from '../ports/ids.js';
import type { Superblock } from '../store/format/superblock.js';
import type { OpenedStore } from '../store/opening/open-store.js';
import type { RecoveryReport } from '../store/opening/recovery.js';
import type { Checkpointer } from '../store/running/checkpoint.js';
import type { SegmentStore } from '../store/segment-store.js';
import type { StoreCounters } from '../store/store-start.js';

/** A device, as plain data. */
export interface StoreStatus {
  readonly path: string;
  readonly superblock: Superblock;
  readonly state: 'ok' | 'failed' | 'lost';
  readonly usedSlots: number;
  readonly recovery: RecoveryReport;
  readonly counters: StoreCounters;
}

export class NodeStore implements KnownDevice {
  readonly path: string;
  readonly store: SegmentStore;
  readonly checkpointer: Checkpointer;
  readonly recovery: RecoveryReport;
  /** Its piece of memory. */
  readonly place: number;
  /** Its place in the order in which devices were asked for. */
  readonly order: number;

  constructor(path: string, opened: OpenedStore, where: { readonly place: number; readonly order: number }) {
    this.path = path;
    this.store = opened.store;
    this.checkpointer = opened.checkpointer;
    this.recovery = opened.recovery;
    this.place = where.place;
    this.order = where.order;
  }

  get superblock(): Superblock {
    return this.store.superblock;
  }

  get deviceId(): string {
    return this.store.superblock.deviceId;
  }

  get slotBytes(): number {
    return this.store.superblock.layout.slotBytes;
  }

  get replicas(): readonly (ReplicaMap | undefined)[] {
    return this.store.replicas;
  }

  replicasOf(volumeId: string): readonly ReplicaMap[] {
    const { replicas, volumeTable } = this.store;
    return volumeTable.indexesOf(volumeId).flatMap((page) => replicas[page] ?? []);
  }

  get failed(): boolean {
    return this.store.failed;
  }

  get incarnation(): number {
    return this.store.superblock.incarnation;
  }

  get freeSlots(): number {
    return this.store.freeSlots;
  }

  /** Whether it could know another replica. */
  get hasRoom(): boolean {
    return this.store.volumeTable.hasRoom;
  }

  /** The most replicas that it can know, with those of deleted volumes. */
  get replicasMax(): number {
    return this.store.replicas.length;
  }

  /** Whether it knows anything of a volume, deleted ones included. */
  knows(volumeId: string): boolean {
    return this.store.volumeTable.indexesOf(volumeId).length > 0;
  }

  /** Whether it knows a group of a volume. */
  knowsGroup(volumeId: string, group: GroupIndex): boolean {
    return this.store.volumeTable.indexOf(volumeId, group) >= 0;
  }

  /** Whether nothing of a volume can come back from here: it is not known, or is durably deleted. */
  isGone(volumeId: string): boolean {
    return this.store.volumeTable.isGone(volumeId);
  }

  /**
   * Stores the map of a group durably, with what this device is to know of itself. Resolves with a number that is not negative,
   * `-ENOSPC` if there is no room for it, or another errno.
   */
  putReplica(map: ReplicaMap, own: Partial<Pick<ReplicaOwn, 'servedGeneration' | 'answered'>> = {}): Promise<number> {
    check(map.mapVersion > 0, 'a map is stored that has no version', map.mapVersion);
    return this.store.putReplica(map, own);
  }

  /** Segments of a volume that have a slot here: of one group, or of all. */
  segmentsOf(volumeId: string, group: GroupIndex | null): number {
    const { volumeTable } = this.store;
    const pages = group === null ? volumeTable.indexesOf(volumeId) : [volumeTable.indexOf(volumeId, group)];
    const count = pages.reduce((sum, page) => sum + (page < 0 ? 0 : volumeTable.segmentsOf(page)), 0);
    check(count <= this.store.slots.usedSlots, 'a volume has more segments than are in use', count);
    return count;
  }

  status(): StoreStatus {
    const { path, store, superblock, recovery } = this;
    return {
      path,
      superblock,
      state: store.device.fence() === FENCE_ALL ? 'lost' : store.failed ? 'failed' : 'ok',
      usedSlots: store.slots.usedSlots,
      recovery,
      counters: { ...store.counters },
    };
  }
}

/**
 * Adds a device. They stay in the order in which they were asked for: where a volume is placed, and what is told first, must
 * not hang on which device answers first.
 */
export function addInOrder(stores: Map<string, NodeStore>, entry: NodeStore): void {
  const sorted = [...stores.values(), entry].sort((one, other) => one.order - other.order);
  stores.clear();
  for (const one of sorted) stores.set(one.superblock.deviceId, one);
  check(stores.size === sorted.length, 'two devices have one id', entry.place);
}
