/**
 * The volumes of a device: each has a page, which its segments, marks and journal records name by its number.
 *
 * The page of a deleted volume keeps the note that it is deleted, so that a device that was away does not bring the volume back.
 * Where no page is empty, that of a note goes to another volume, whose map is written over it in one batch of the journal:
 * after a crash there is the one or the other. That is done only if
 *
 * 1. whoever knows the other devices says that none needs the note any more (`mayForget`);
 * 2. the note is durable, and so what was to be forgotten is nothing that is still on its way;
 * 3. no slot belongs to the deleted volume. The records that freed its slots stand in the journal before the new map, so a
 *    replay never meets a slot of the old volume under the new one's number.
 *
 * The note that is taken is not always the first: the longest that a note can stay is a whole round of pages.
 */

import { check } from '../../core/check.js';
import { type FlushId, isBefore, NO_FLUSH } from '../../layout/flush-id.js';
import type { VolumeMap } from '../../layout/volume-map.js';
import { VOLUMES_MAX } from '../format/format.js';
import type { SlotTable } from './slot-table.js';

export class VolumeTable {
  /** By index; undefined where a page is empty. */
  readonly volumes: (VolumeMap | undefined)[];
  /** Of each volume the flush that was last to be remembered. */
  readonly marks: FlushId[] = [];
  /** By volume: its last flush that is remembered. Written with the records that it makes durable. */
  readonly flushedMarks: FlushId[];
  /** By volume: what its engine has told to be settled since the device was opened; undefined if it has told nothing. */
  readonly settled: (FlushId | undefined)[] = [];
  /** Volumes whose pages in the tree are not up to date. */
  readonly changed = new Set<number>();
  /** Whether the note of this deleted volume may go; set by whoever knows the other devices. */
  mayForget: (note: VolumeMap) => boolean = () => false;
  /** What is durable of each. */
  private readonly durable: (VolumeMap | undefined)[];
  private readonly slots: SlotTable;
  private readonly pages: number;
  /** Where the search for a note begins. */
  private next = 0;

  /** `volumes`: as they were read, so all are durable. `pages`: fewer than there are, for tests of what happens then. */
  constructor(
    volumes: (VolumeMap | undefined)[],
    flushedMarks: FlushId[],
    slots: SlotTable,
    pages: number = VOLUMES_MAX,
  ) {
    this.volumes = volumes;
    this.durable = [...volumes];
    this.flushedMarks = flushedMarks;
    this.slots = slots;
    this.pages = pages;
  }

  /** The index of a volume, or -1. */
  indexOf(id: string): number {
    return this.volumes.findIndex((volume) => volume?.id === id);
  }

  /** Whether another volume could be put here. */
  get hasRoom(): boolean {
    return this.freeIndex() >= 0;
  }

  /** Segments of a volume, by its index. */
  segmentsOf(index: number): number {
    return this.slots.usedBy(index);
  }

  /** Whether nothing of a volume can come back from here: it is not known, or is durably deleted. */
  isGone(id: string): boolean {
    const index = this.indexOf(id);
    return index < 0 || (this.volumes[index]?.deleted === true && this.durable[index] === this.volumes[index]);
  }

  /** Takes a map, and returns its index, or -1 if there is no page for it. */
  put(volume: VolumeMap): number {
    const known = this.indexOf(volume.id);
    const index = known >= 0 ? known : this.freeIndex();
    if (index < 0) return -1;
    check(index < this.pages, 'a volume gets a page that there is not', index);
    if (known < 0) {
      check(this.slots.usedBy(index) === 0, 'a volume gets the page of another that has slots', index);
      // What was remembered of the last volume there is nothing of this one.
      this.flushedMarks[index] = NO_FLUSH;
      this.settled[index] = undefined;
      this.marks[index] = { generation: volume.generation, flushNumber: 0 };
      this.next = (index + 1) % this.pages;
    }
    this.volumes[index] = volume;
    this.changed.add(index);
    return index;
  }

  /** A map that was put here has become durable. */
  settle(index: number, volume: VolumeMap): void {
    check(this.volumes[index] !== undefined, 'a map is durable of a volume that is not here', index);
    if (this.volumes[index] === volume) this.durable[index] = volume;
  }

  /** An engine has told what is settled. It never takes that back, though a request that tells less may come later. */
  noteSettled(index: number, told: FlushId): void {
    const known = this.settled[index];
    if (known === undefined || isBefore(known, told)) this.settled[index] = told;
  }

  private freeIndex(): number {
    const empty = this.volumes.indexOf(undefined);
    if (empty >= 0 && empty < this.pages) return empty;
    for (let tried = 0; tried < this.pages; tried += 1) {
      const index = (this.next + tried) % this.pages;
      if (this.isForgettable(index)) return index;
    }
    return -1;
  }

  private isForgettable(index: number): boolean {
    const note = this.volumes[index];
    if (note?.deleted !== true || this.durable[index] !== note || this.slots.usedBy(index) > 0) return false;
    return this.mayForget(note);
  }
}
