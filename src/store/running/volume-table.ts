/**
 * The pages of the volumes region: each holds a replica, one volume in one placement group, which its segments, marks and journal
 * records name by the number of its page.
 *
 * The page of a deleted volume keeps the note that it is deleted, so that a device that was away does not bring the volume back.
 * Where no page is empty, that of a note goes to another replica, whose map is written over it in one batch of the journal:
 * after a crash there is the one or the other. That is done only if
 *
 * 1. whoever knows the other devices says that none needs the note any more (`mayForget`);
 * 2. the note is durable, and so what was to be forgotten is nothing that is still on its way;
 * 3. no slot belongs to the deleted replica. The records that freed its slots stand in the journal before the new map, so a
 *    replay never meets a slot of the old replica under the new one's number.
 *
 * The note that is taken is not always the first: the longest that a note can stay is a whole round of pages.
 *
 * Pages of the form of version 1, whose map does not name this device, are *legacy*: nothing of them is served, and the first map
 * of a replica of the same volume takes their page.
 */

import { check } from '../../core/check.js';
import type { ReplicaPage } from '../../core/ids.js';
import { type FlushId, NO_FLUSH } from '../../layout/flush-id.js';
import { NOTHING_OWN, type ReplicaMap, type ReplicaOwn } from '../../layout/replica-map.js';
import type { GroupIndex } from '../../ports/ids.js';
import { SLOT_FREE } from '../format/format.js';
import type { ReplicaRecord } from '../format/replica-page.js';
import type { SlotOwners } from '../format/slot-owners.js';
import type { Superblock } from '../format/superblock.js';
import type { LegacyPage } from '../format/volume-page.js';
import { SettledMarks } from './settled-marks.js';
import type { SlotTable } from './slot-table.js';

/** With what the table of a store begins. */
export interface VolumeTableStart {
  readonly superblock: Pick<Superblock, 'deviceId'>;
  /** By number of the page: as they were read, so all are durable. */
  readonly replicas: readonly (ReplicaRecord | undefined)[];
  readonly legacy: Map<number, LegacyPage>;
  readonly owners: SlotOwners;
  readonly slots: SlotTable;
  /** Slots whose entries in the tree are not up to date. */
  readonly changedSlots: Set<number>;
  /** Whether the note of this deleted volume may go; only who knows the other devices can tell. */
  readonly mayForget: (note: ReplicaMap) => boolean;
  /** Fewer pages than there are, for tests of what happens then. */
  readonly pages?: number | undefined;
}

export class VolumeTable {
  /** By number of the page; undefined where it is empty, or legacy. */
  readonly replicas: (ReplicaMap | undefined)[];
  readonly legacy: Map<number, LegacyPage>;
  readonly owners: SlotOwners;
  /** By page: its last flush that is remembered. Written with the records that it makes durable. */
  readonly flushedMarks: FlushId[];
  /** By page: what its engines have told to be settled. */
  readonly settled: SettledMarks;
  /** Pages that are not up to date in the tree. */
  readonly changed = new Set<number>();
  private readonly deviceId: string;
  private readonly served: number[];
  private readonly answered: boolean[];
  /** What is durable of each. */
  private readonly durable: (ReplicaMap | undefined)[];
  private readonly slots: SlotTable;
  private readonly changedSlots: Set<number>;
  private readonly pages: number;
  private readonly mayForget: (note: ReplicaMap) => boolean;
  /** Where the search for a note begins. */
  private next = 0;

  constructor(start: VolumeTableStart) {
    const { replicas, legacy, owners, slots, changedSlots, pages, mayForget } = start;
    this.deviceId = start.superblock.deviceId;
    const ownOf = (page: ReplicaPage) => replicas[page]?.own ?? NOTHING_OWN;
    this.replicas = replicas.map((record) => record?.map);
    this.durable = [...this.replicas];
    this.legacy = legacy;
    this.owners = owners;
    this.flushedMarks = replicas.map((_, page) => legacy.get(page)?.flushed ?? ownOf(page).flushed);
    const settled = replicas.map((_, page) => ownOf(page).settled);
    this.settled = new SettledMarks(settled, this.changed);
    this.served = replicas.map((_, page) => ownOf(page).servedGeneration);
    this.answered = replicas.map((_, page) => ownOf(page).answered);
    this.slots = slots;
    this.changedSlots = changedSlots;
    this.pages = pages ?? replicas.length;
    this.mayForget = mayForget;
  }

  /** The page of a replica, or -1. */
  indexOf(volumeId: string, group: GroupIndex): ReplicaPage {
    return this.owners.find(volumeId, group + 1);
  }

  /** The pages of all replicas of a volume that are here, legacy ones included. */
  indexesOf(volumeId: string): readonly ReplicaPage[] {
    return this.owners.pages(volumeId);
  }

  /** What this device knows of a replica beside its map. */
  ownOf(page: ReplicaPage): ReplicaOwn {
    const [servedGeneration, answered] = [this.served[page], this.answered[page]];
    return { servedGeneration, answered, flushed: this.flushedMarks[page], settled: this.settled.of(page) };
  }

  /** What the page of a replica is to hold; undefined if it is empty, or legacy. */
  recordOf(page: ReplicaPage): ReplicaRecord | undefined {
    const map = this.replicas[page];
    return map === undefined ? undefined : { map, own: this.ownOf(page) };
  }

  /** Whether another replica could be put here. */
  get hasRoom(): boolean {
    return this.freeIndex() >= 0;
  }

  /** Segments of a replica, by its page. */
  segmentsOf(page: ReplicaPage): number {
    return this.slots.usedBy(page);
  }

  /** Whether nothing of a volume can come back from here: it is not known, or is durably deleted. */
  isGone(volumeId: string): boolean {
    return this.indexesOf(volumeId).every((page) => {
      const map = this.replicas[page];
      if (map === undefined) return this.legacy.get(page)?.map.deleted === true;
      return map.volume.deleted && this.durable[page] === map;
    });
  }

  /**
   * Takes a map, and returns its page, or -1 if there is none for it. `own`: what this device is to know of it from now on; a map
   * of another version has not been answered unless that is said here. An older map than the one that is here changes nothing:
   * whoever notes something of its own beside the map that it knows may come after another one.
   */
  put(map: ReplicaMap, own: Partial<Pick<ReplicaOwn, 'servedGeneration' | 'answered'>> = {}): ReplicaPage {
    const { id } = map.volume;
    const known = this.indexOf(id, map.group);
    const page = known >= 0 ? known : this.newIndex(id);
    if (page < 0) return -1;
    check(page < this.pages, 'a replica gets a page that there is not', page);
    if (known < 0) this.begin(page, map);
    check(this.owners.list[page]?.volumeId === id, 'a replica is put on the page of another volume', page);
    this.served[page] = Math.max(this.served[page], own.servedGeneration ?? 0);
    const before = known < 0 ? 0 : (this.replicas[page]?.mapVersion ?? 0);
    if (before <= map.mapVersion) {
      this.answered[page] = own.answered ?? (before === map.mapVersion && this.answered[page]);
      this.replicas[page] = map;
    }
    if (!this.isInSync(page)) this.settled.forget(page);
    this.changed.add(page);
    return page;
  }

  /** The page of a replica that is not here yet: that of its volume in the old form, or a free one. */
  private newIndex(volumeId: string): ReplicaPage {
    const old = this.indexesOf(volumeId).find((page) => this.legacy.has(page));
    if (old !== undefined) return old;
    const page = this.freeIndex();
    if (page >= 0) this.next = (page + 1) % this.pages;
    return page;
  }

  private begin(page: ReplicaPage, map: ReplicaMap): void {
    const { id } = map.volume;
    const fresh = !this.legacy.has(page);
    check(!fresh || this.slots.usedBy(page) === 0, 'a replica gets the page of another that has slots', page);
    check(this.indexOf(id, map.group) < 0, 'a replica begins that is here already', page);
    this.renewEntries(id);
    this.legacy.delete(page);
    this.owners.set(page, { volumeId: id, group: map.group + 1 });
    // What was remembered of the last replica there is nothing of this one.
    this.flushedMarks[page] = NO_FLUSH;
    this.settled.forget(page);
    this.served[page] = 0;
    this.answered[page] = false;
  }

  /**
   * Entries from before groups were told belong to the only replica of their volume. When there is a second one, all of them are
   * written with their group in the next checkpoint, which is the first that has the second page.
   */
  private renewEntries(volumeId: string): void {
    const { slots, changedSlots } = this;
    const pages = this.indexesOf(volumeId);
    if (pages.length === 0) return;
    for (let slot = 0; slot < slots.slots; slot += 1) {
      if (slots.states[slot] !== SLOT_FREE && pages.includes(slots.volumes[slot])) changedSlots.add(slot);
    }
  }

  /** A map that was put here has become durable. */
  settle(page: ReplicaPage, map: ReplicaMap): void {
    check(page >= 0 && page < this.replicas.length, 'a map is durable on a page that does not exist', page);
    check(this.replicas[page] !== undefined, 'a map is durable of a replica that is not here', page);
    if (this.replicas[page] === map) this.durable[page] = map;
  }

  /** Empties a page. No slot may belong to it. */
  forget(page: ReplicaPage): void {
    check(page >= 0 && page < this.replicas.length, 'a page is emptied that does not exist', page);
    check(this.slots.usedBy(page) === 0, 'slots belong to a replica that is to be forgotten', page);
    this.replicas[page] = undefined;
    this.durable[page] = undefined;
    this.legacy.delete(page);
    this.owners.set(page, undefined);
    this.settled.forget(page);
    this.changed.add(page);
  }

  private isEmpty(page: ReplicaPage): boolean {
    return this.replicas[page] === undefined && !this.legacy.has(page);
  }

  /** An engine has told what is settled. That is of no meaning for a device that lacks some of it. */
  noteSettled(page: ReplicaPage, told: FlushId): void {
    check(this.owners.list[page] !== undefined, 'what is settled is told of no replica', page);
    if (this.isInSync(page)) this.settled.tell(page, told);
  }

  /** Whether the map of a replica says that this device has all of it. */
  private isInSync(page: ReplicaPage): boolean {
    const members = this.replicas[page]?.members ?? [];
    return members.some(({ deviceId, state }) => deviceId === this.deviceId && state === 'in-sync');
  }

  private freeIndex(): ReplicaPage {
    for (let page = 0; page < this.pages; page += 1) if (this.isEmpty(page)) return page;
    for (let tried = 0; tried < this.pages; tried += 1) {
      const page = (this.next + tried) % this.pages;
      if (this.isForgettable(page)) return page;
    }
    return -1;
  }

  private isForgettable(page: ReplicaPage): boolean {
    const note = this.replicas[page];
    if (note?.volume.deleted !== true || this.durable[page] !== note || this.slots.usedBy(page) > 0) return false;
    return this.mayForget(note);
  }
}
