/** A device of a node: its store, and what belongs to it. */

import type { Superblock } from '../store/format/superblock.js';
import type { RecoveryReport } from '../store/opening/open-store.js';
import type { Checkpointer } from '../store/running/checkpoint.js';
import type { SegmentStore } from '../store/segment-store.js';

export class NodeStore {
  readonly path: string;
  readonly store: SegmentStore;
  readonly checkpointer: Checkpointer;
  readonly recovery: RecoveryReport;
  /** Its piece of memory. */
  readonly place: number;

  constructor(path: string, store: SegmentStore, checkpointer: Checkpointer, recovery: RecoveryReport, place: number) {
    this.path = path;
    this.store = store;
    this.checkpointer = checkpointer;
    this.recovery = recovery;
    this.place = place;
  }

  get superblock(): Superblock {
    return this.store.superblock;
  }
}
