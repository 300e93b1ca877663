/** What a device holds, as reading its tree and replaying its journal have found it. */

import type { FlushId } from '../../layout/flush-id.js';
import type { VolumeMap } from '../../layout/volume-map.js';
import type { JournalEnd } from '../format/journal-reader.js';
import type { Reference } from '../format/page.js';
import type { Root } from '../format/root.js';
import type { Superblock } from '../format/superblock.js';
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
  readonly directory: Reference[];
  readonly slotPages: Reference[];
  /** By index; undefined where there is none. */
  readonly volumes: (VolumeMap | undefined)[];
  readonly volumeIds: string[];
  /** By index of the volume: the last flush of it that is in the journal or the tree. */
  readonly flushed: FlushId[];
  /** By index of the volume: what its last engine has told to be settled; `NO_FLUSH` if that is not known. */
  readonly settled: FlushId[];
  /** Block tables that the journal has changed, by slot. */
  readonly tables: Map<number, TableImage>;
  /** The activity log as it was at the end. */
  readonly active: Set<number>;
  /** Slots, pages of slots and volumes that differ from what the tree on the device says. */
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
