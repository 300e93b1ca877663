/** With what a store begins: its ports, its memory, and what was read from the device. */

import type { ReplicaMap } from '../layout/replica-map.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Device } from '../ports/device.js';
import type { Memory } from '../ports/memory.js';
import { PAGE_BYTES } from './format/format.js';
import type { Reference } from './format/page.js';
import type { ReplicaRecord } from './format/replica-page.js';
import type { SlotOwners } from './format/slot-owners.js';
import type { Superblock } from './format/superblock.js';
import type { LegacyPage } from './format/volume-page.js';
import { ACTIVE_SLOTS_MAX, TABLE_LOADS_MAX } from './limits.js';
import { JOURNAL_WRITER_BYTES, type JournalPosition } from './running/journal-writer.js';
import type { SlotTable } from './running/slot-table.js';
import type { TableMemory } from './running/table-memory.js';
import { TRANSFER_AREAS_BYTES } from './running/transfers.js';

/** Block tables that a store can have in memory in any case: more than are changed or on their way. */
export const TABLE_PAGES = ACTIVE_SLOTS_MAX + TABLE_LOADS_MAX;
/** Memory for them. */
export const TABLES_BYTES = TABLE_PAGES * PAGE_BYTES;
/** Memory for opening, checkpoints and scrubbing. */
export const CONTROL_PIECES = 4;
export const CONTROL_PIECE_BYTES = 1 << 20;
/** Memory of one store in the arena, from a page on, beside its block tables. */
export const STORE_OWN_BYTES = JOURNAL_WRITER_BYTES + TRANSFER_AREAS_BYTES + CONTROL_PIECES * CONTROL_PIECE_BYTES;
/** With block tables, of a store that shares theirs with no other. */
export const STORE_MEMORY_BYTES = STORE_OWN_BYTES + TABLES_BYTES;

/** Where a store has what in its memory. */
export interface StorePlaces {
  readonly journal: number;
  /** Checksums of transfers. */
  readonly areas: number;
  readonly control: number;
  /** Block tables, of a store that shares their memory with no other. */
  readonly tables: number;
}

/** The places of a store whose memory begins at `memoryStart`. */
export function placesFrom(memoryStart: number): StorePlaces {
  const areas = memoryStart + JOURNAL_WRITER_BYTES;
  const control = areas + TRANSFER_AREAS_BYTES;
  return { journal: memoryStart, areas, control, tables: memoryStart + STORE_OWN_BYTES };
}

/** Counts since the device was opened. */
export interface StoreCounters {
  checkpoints: number;
  batches: number;
  checksumErrors: number;
  tablesDamaged: number;
  suspects: number;
  dropped: number;
}

/** The counts of a device that has just been opened. */
export function noCounts(): StoreCounters {
  return { checkpoints: 0, batches: 0, checksumErrors: 0, tablesDamaged: 0, suspects: 0, dropped: 0 };
}

/** The state with which a store begins: what was read from the device, and recovered. */
export interface StoreStart {
  readonly superblock: Superblock;
  readonly slots: SlotTable;
  readonly slotPages: Reference[];
  readonly directory: Reference[];
  readonly directoryIndex: Reference[];
  readonly volumePages: Reference[];
  readonly volumeDirectory: Reference[];
  readonly replicas: readonly (ReplicaRecord | undefined)[];
  readonly legacy: Map<number, LegacyPage>;
  readonly owners: SlotOwners;
  readonly rootPlace: number;
  readonly rootSequence: number;
  readonly journal: JournalPosition;
}

/** Whom a store tells, and whom it asks. */
export interface StoreHooks {
  /** Told of damage that was met while serving, with the id of the device. */
  readonly onDamage: (deviceId: string, text: string) => void;
  /** Whether the note of this deleted volume may go; only who knows the other devices can tell. Not asked during opening. */
  readonly mayForget: (note: ReplicaMap) => boolean;
}

/** Ports and memory of a store. */
export interface StorePorts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly device: Device;
  /** Start of `STORE_OWN_BYTES`; without `tables`, of `STORE_MEMORY_BYTES`. */
  readonly memoryStart: number;
  /** Where its block tables are, with those of others. */
  readonly tables?: TableMemory;
  /** Smaller bounds than the usual ones, for tests of what happens at them. */
  readonly bounds?: StoreBounds;
}

/** Slots in the activity log, block tables that it can have in memory in any case, which have to be more, and volumes. */
export interface StoreBounds {
  readonly activeSlots: number;
  readonly tablePages: number;
  readonly volumes?: number;
}
