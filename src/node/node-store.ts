/**
 * A device of a node: its store, and what belongs to it. Who decides about volumes asks this, and knows no store.
 */

import { check } from '../core/check.js';
import type { KnownDevice } from '../layout/starting-map.js';
import type { VolumeMap } from '../layout/volume-map.js';
import { FENCE_ALL } from '../ports/device.js';
import { SLOT_FREE, VOLUMES_MAX } from '../store/format/format.js';
import type { Superblock } from '../store/format/superblock.js';
import { VOLUME_MEMBERS_MAX } from '../store/format/volume-page.js';
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

/** Segments of one group of a volume: those whose number leaves the rest `group` when it is divided by `groups`. */
export interface GroupShare {
  readonly group: number;
  readonly groups: number;
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

  get maps(): readonly (VolumeMap | undefined)[] {
    return this.store.volumes;
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

  /** Whether it could know another volume. */
  get hasRoom(): boolean {
    return this.store.volumeTable.hasRoom;
  }

  /** The most volumes that it can know, with deleted ones. */
  get volumesMax(): number {
    return VOLUMES_MAX;
  }

  /** The most members that a map may list which it is to keep. */
  get membersMax(): number {
    return VOLUME_MEMBERS_MAX;
  }

  /** Its map of a volume; undefined if it does not know it. */
  mapOf(volumeId: string): VolumeMap | undefined {
    return this.store.volumes.find((map) => map?.id === volumeId);
  }

  /** Whether it knows a volume, deleted ones included. */
  knows(volumeId: string): boolean {
    return this.mapOf(volumeId) !== undefined;
  }

  /** Whether nothing of a volume can come back from here: it is not known, or is durably deleted. */
  isGone(volumeId: string): boolean {
    return this.store.volumeTable.isGone(volumeId);
  }

  /**
   * Stores a map durably. Resolves with a number that is not negative, `-ENOSPC` if there is no room for it, or another errno.
   */
  putMap(map: VolumeMap): Promise<number> {
    check(map.mapVersion > 0, 'a map is stored that has no version', map.mapVersion);
    return this.store.putVolume(map);
  }

  /** Segments of a volume that have a slot here: of one group, or of all. */
  segmentsOf(volumeId: string, share: GroupShare | null): number {
    const { volumeTable, slots } = this.store;
    const index = volumeTable.indexOf(volumeId);
    if (index < 0) return 0;
    check(share === null || share.group < share.groups, 'segments are counted of a group that there is not', index);
    if (share === null || share.groups === 1) return volumeTable.segmentsOf(index);
    let count = 0;
    for (let slot = 0; slot < slots.slots; slot += 1) {
      if (slots.states[slot] === SLOT_FREE || slots.volumes[slot] !== index) continue;
      if (slots.stripes[slot] % share.groups === share.group) count += 1;
    }
    check(count <= volumeTable.segmentsOf(index), 'a group has more segments than its volume', count);
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
