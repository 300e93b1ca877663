/** What a device holds, as reading its tree and replaying its journal have found it. */

import type { JournalEnd } from '../format/journal-reader.js';
import type { Reference } from '../format/page.js';
import type { ReplicaRecord } from '../format/replica-page.js';
import type { Root } from '../format/root.js';
import type { SlotOwners } from '../format/slot-owners.js';
import type { Superblock } from '../format/superblock.js';
import type { LegacyPage } from '../format/volume-page.js';
import { SLOT_FLAG_DOUBT, type SlotTable } from '../running/slot-table.js';
import type { TableImage } from './table-image.js';

/** What a device holds. */
export interface StoreImage {
  readonly superblock: Superblock;
  readonly root: Root;
  /** Place of the root that was chosen. */
  readonly rootPlace: number;
  /** Places whose root cannot be believed, or read, this time. */
  readonly rootsLost: readonly number[];
  readonly slots: SlotTable;
  /** References to the pages of slots, to those of the directory, and to those of its index, if there is one. */
  readonly slotPages: Reference[];
  readonly directory: Reference[];
  readonly directoryIndex: Reference[];
  /** References to the pages of the volumes, and to those of their directory, if there is one. */
  readonly volumePages: Reference[];
  readonly volumeDirectory: Reference[];
  /** By number of the page in the volumes region; undefined where there is none, or one of the old form. */
  readonly replicas: (ReplicaRecord | undefined)[];
  /** The pages of the volumes region that have the form of version 1. */
  readonly legacy: Map<number, LegacyPage>;
  /** Whose those pages are. */
  readonly owners: SlotOwners;
  /** Block tables that the journal has changed, by slot. */
  readonly tables: Map<number, TableImage>;
  /** The activity log as it was at the end. */
  readonly active: Set<number>;
  /** Slots and pages of volumes that differ from what the tree on the device says. */
  readonly changedSlots: Set<number>;
  readonly changedVolumes: Set<number>;
  readonly journal: JournalEnd;
  /** Batches that were replayed, and their records. */
  readonly batches: number;
  readonly records: number;
  /** The highest durable sequence that any batch knew of. */
  readonly durableSequence: number;
  /** Whether the device was closed in order, so that the journal is not needed. */
  readonly clean: boolean;
}

/** The same while it is read. */
export type GrowingImage = { -readonly [Key in keyof StoreImage]: StoreImage[Key] };

/** Whether a slot's content and entries may differ, because of a crash. */
export function inDoubt(image: Pick<StoreImage, 'slots' | 'active'>, slot: number): boolean {
  return image.active.has(slot) || (image.slots.flags[slot] & SLOT_FLAG_DOUBT) !== 0;
}
