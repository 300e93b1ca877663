/** A device of a node: its store, and what belongs to it. */

import type { KnownDevice } from '../layout/starting-map.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { Superblock } from '../store/format/superblock.js';
import type { RecoveryReport } from '../store/opening/recovery.js';
import type { Checkpointer } from '../store/running/checkpoint.js';
import type { SegmentStore } from '../store/segment-store.js';

export class NodeStore implements KnownDevice {
  readonly path: string;
  readonly store: SegmentStore;
  readonly checkpointer: Checkpointer;
  readonly recovery: RecoveryReport;
  /** Its piece of memory. */
  readonly place: number;
  /** Its place in the order in which devices were asked for. */
  readonly order: number;

  constructor(
    path: string,
    store: SegmentStore,
    checkpointer: Checkpointer,
    recovery: RecoveryReport,
    where: { readonly place: number; readonly order: number },
  ) {
    this.path = path;
    this.store = store;
    this.checkpointer = checkpointer;
    this.recovery = recovery;
    this.place = where.place;
    this.order = where.order;
  }

  get superblock(): Superblock {
    return this.store.superblock;
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
}

/**
 * Adds a device. They stay in the order in which they were asked for: where a volume is placed, and what is told first, must
 * not hang on which device answers first.
 */
export function addInOrder(stores: Map<string, NodeStore>, entry: NodeStore): void {
  const sorted = [...stores.values(), entry].sort((one, other) => one.order - other.order);
  stores.clear();
  for (const one of sorted) stores.set(one.superblock.deviceId, one);
}
