/** What opening a device hands over to the store that it opens. */

import type { FlushId } from '../layout/flush-id.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { JournalPosition } from './journal-writer.js';
import type { Reference } from './pages.js';
import type { SlotTable } from './slot-table.js';
import type { Superblock } from './superblock.js';

/** The state with which a store begins: what was read from the device, and recovered. */
export interface StoreStart {
  readonly superblock: Superblock;
  readonly slots: SlotTable;
  readonly directory: Reference[];
  readonly slotPages: Reference[];
  readonly volumePages: Reference[];
  readonly volumes: (VolumeMap | undefined)[];
  readonly flushed: FlushId[];
  readonly rootPlace: number;
  readonly rootSequence: number;
  readonly journal: JournalPosition;
}
