/**
 * The volumes of a cluster in the memory of its manager, and what members are known to have answered. Whatever is decided goes
 * through `decide`, which puts it into the journal and remembers to whom the map must come.
 */

import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import { volumeMeant } from '../core/volume-names.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { MapVersion } from '../ports/ids.js';
import { devicesOf, effectiveVersion, firstRecord, type GroupRecord, inSyncOf, withBase } from './group-record.js';
import type { JobBook } from './job-book.js';
import type { Journal } from './journal.js';
import { goneKey, groupKey, type Records, type VolumeRecord, volumeKey } from './records.js';

/** A group, and what is known of its members. */
export class ManagedGroup {
  record: GroupRecord;
  /** When its newest map was decided; long ago, if that was in an earlier life of the manager. */
  decidedAtMs = Number.NEGATIVE_INFINITY;
  /** By device: the highest version that it has answered. */
  readonly answered = new Map<string, MapVersion>();

  constructor(record: GroupRecord) {
    this.record = record;
  }

  answeredBy(deviceId: string): MapVersion {
    return this.answered.get(deviceId) ?? 0;
  }

  /**
   * Whether a member in-sync has answered a map of the newest generation. Until then whoever held the one before works on, and
   * must not be harmed by a client that reaches nobody.
   */
  get taken(): boolean {
    const { newest, attached } = this.record;
    return inSyncOf(newest).some((deviceId) => this.answeredBy(deviceId) >= attached);
  }
}

export class ManagedVolume {
  readonly id: string;
  readonly groups: readonly ManagedGroup[];
  givenUp: boolean;
  /** The client that holds it as a janitor; null if none does. */
  janitor: string | null;
  /** Why nothing is decided about it: a device has a map that this manager has not decided; null if none has. */
  ahead: string | null = null;
  /** When it was attached last; long ago, if that was in an earlier life of the manager. */
  attachedAtMs = Number.NEGATIVE_INFINITY;
  /** When its holder has named it last, or has asked for what only a holder may; null: not since the manager started. */
  heldMs: number | null = null;
  /** The newest generation whose client has said that it serves. */
  servedGeneration = 0;
  /**
   * Why nothing is decided about it: it was to be adopted, and a device has a map that its node has decided, which may have gone
   * on with it since; null if it is adopted.
   */
  adopting: string | null = null;
  /** A device is known to have a map that this manager has decided. */
  stored = false;

  constructor({ volumeId, givenUp, janitor }: VolumeRecord, groups: readonly ManagedGroup[]) {
    this.id = volumeId;
    this.givenUp = givenUp;
    this.janitor = janitor ?? null;
    this.groups = groups;
  }

  get maps(): readonly ReplicaMap[] {
    return this.groups.map(({ record }) => record.newest);
  }

  /** Of several headers, as only some groups may have been forced, the newest counts. */
  get header(): ReplicaMap['volume'] {
    const headers = this.groups.map(({ record }) => record.newest.volume);
    return headers.reduce((one, other) => (other.headerVersion > one.headerVersion ? other : one));
  }

  get name(): string {
    return this.header.name;
  }

  get deleted(): boolean {
    return this.header.deleted;
  }

  get generation(): number {
    return Math.max(...this.groups.map(({ record }) => record.newest.generation));
  }

  /** Whoever has the newest generation. */
  get holder(): string {
    const { generation } = this;
    const held = this.groups.find(({ record }) => record.newest.generation === generation);
    check(held !== undefined, 'no group of a volume has its newest generation', generation);
    return held.record.newest.holder;
  }

  get lease(): ReplicaMap['lease'] {
    const held = this.groups.find(({ record }) => record.newest.lease !== 'released');
    return held?.record.newest.lease ?? 'released';
  }
}

/** A group of which a device should have the newest map, and has not answered it. */
export interface Outstanding {
  readonly volume: ManagedVolume;
  readonly group: ManagedGroup;
}

export class VolumeBook {
  /** Ids of volumes that are deleted, and of which no device is known to have anything. */
  readonly gone: Set<string>;
  private readonly journal: Journal;
  private readonly byId = new Map<string, ManagedVolume>();
  /** By device, and then by group. */
  private readonly outstanding = new Map<string, Map<string, Outstanding>>();
  /** Maps that are durable, and have not been told of. */
  private durable: ReplicaMap[] = [];
  private readonly onDecided: (maps: readonly ReplicaMap[]) => void;
  private readonly jobs: JobBook;

  constructor(journal: Journal, records: Records, jobs: JobBook, onDecided: (maps: readonly ReplicaMap[]) => void) {
    this.journal = journal;
    this.jobs = jobs;
    this.onDecided = onDecided;
    this.gone = new Set(records.gone);
    for (const record of records.volumes) {
      const groups = Array.from({ length: record.groups }, (_, group) => {
        const stored = records.groups.get(groupKey(record.volumeId, group));
        check(stored !== undefined, 'a volume is loaded without one of its groups', group);
        return new ManagedGroup(stored);
      });
      const volume = new ManagedVolume(record, groups);
      this.byId.set(volume.id, volume);
      for (const group of groups) this.expect(volume, group);
    }
  }

  get size(): number {
    return this.byId.size;
  }

  [Symbol.iterator](): IterableIterator<ManagedVolume> {
    return this.byId.values();
  }

  get(volumeId: string): ManagedVolume | undefined {
    return this.byId.get(volumeId);
  }

  /** The volume that a text means, and that is not deleted. Throws `ERR_STRAKE_NO_VOLUME`, `ERR_STRAKE_NAME_CONFLICT`. */
  find(text: string): ManagedVolume {
    const named = [...this.byId.values()].filter(({ deleted }) => !deleted);
    return volumeMeant(named, text);
  }

  /** Throws `ERR_STRAKE_EXISTS` if another volume has the name. */
  checkFree(name: string, volumeId: string): void {
    for (const volume of this.byId.values()) {
      if (volume.deleted || volume.id === volumeId || volume.name !== name) continue;
      throw new StrakeError('EXISTS', `there is a volume ${name} already: ${volume.id}`);
    }
  }

  // ---------------------------------------------------------------- what is decided

  /** A volume whose first maps have been decided. */
  add(maps: readonly ReplicaMap[], nowMs: number): ManagedVolume {
    const [{ volume }] = maps;
    check(
      !this.byId.has(volume.id) || this.byId.get(volume.id)?.givenUp === true,
      'a volume is added twice',
      maps.length,
    );
    const record: VolumeRecord = { volumeId: volume.id, groups: maps.length, givenUp: false };
    const groups = maps.map((map) => new ManagedGroup(firstRecord(map)));
    const added = new ManagedVolume(record, groups);
    this.byId.set(volume.id, added);
    this.journal.put(volumeKey(volume.id), record);
    for (const group of groups) this.decide(added, group, group.record, nowMs);
    return added;
  }

  /** A group has another newest map. */
  decide(volume: ManagedVolume, group: ManagedGroup, record: GroupRecord, nowMs: number): void {
    const { newest } = record;
    check(newest.volume.id === volume.id, 'a map is decided for another volume', newest.group);
    check(volume.groups[newest.group] === group, 'a map is decided for another group', newest.group);
    for (const deviceId of devicesOf(group.record.newest)) this.forget(deviceId, volume.id, newest.group);
    group.record = record;
    group.decidedAtMs = nowMs;
    this.journal.put(groupKey(volume.id, newest.group), record);
    this.expect(volume, group);
    this.jobs.decided(newest);
    this.tell(newest);
  }

  /** Tells of maps when they are durable, those of a batch together. */
  private tell(map: ReplicaMap): void {
    void this.journal.settled().then(() => {
      this.durable.push(map);
      if (this.durable.length === 1) void Promise.resolve().then(() => this.tellDurable());
    });
  }

  private tellDurable(): void {
    const { durable } = this;
    this.durable = [];
    this.onDecided(durable);
  }

  /** Who holds a volume holds it as a janitor, or not. */
  noteJanitor(volume: ManagedVolume, janitor: string | null): void {
    if (volume.janitor === janitor) return;
    volume.janitor = janitor;
    this.putRecord(volume);
  }

  private putRecord({ id: volumeId, groups, givenUp, janitor }: ManagedVolume): void {
    const record: VolumeRecord = { volumeId, groups: groups.length, givenUp };
    this.journal.put(volumeKey(volumeId), janitor === null ? record : { ...record, janitor });
  }

  /** From now on nothing is decided about a volume. */
  giveUp(volume: ManagedVolume): void {
    volume.givenUp = true;
    this.putRecord(volume);
    for (const { record } of volume.groups) {
      for (const deviceId of devicesOf(record.newest)) this.forget(deviceId, volume.id, record.newest.group);
    }
  }

  /** Nothing is known of a volume any more; of one that was deleted, that it was. */
  drop(volume: ManagedVolume): void {
    this.byId.delete(volume.id);
    this.jobs.drop(volume.id);
    this.journal.remove(volumeKey(volume.id));
    for (const { record } of volume.groups) {
      this.journal.remove(groupKey(volume.id, record.newest.group));
      for (const deviceId of devicesOf(record.newest)) this.forget(deviceId, volume.id, record.newest.group);
    }
    if (!volume.deleted) return;
    this.gone.add(volume.id);
    this.journal.put(goneKey(volume.id), {});
  }

  // ---------------------------------------------------------------- what members have answered

  /** A device has answered a version of a group's map. Returns whether that is news; what a stranger answers is none. */
  answer(volume: ManagedVolume, group: ManagedGroup, deviceId: string, mapVersion: MapVersion): boolean {
    if (mapVersion <= group.answeredBy(deviceId)) return false;
    const { newest, spans } = group.record;
    const named = newest.members.some((member) => member.deviceId === deviceId);
    if (!named && !spans.some(({ members }) => members.includes(deviceId))) return false;
    check(mapVersion <= newest.mapVersion, 'a device has answered a map that was not decided', mapVersion);
    group.answered.set(deviceId, mapVersion);
    if (mapVersion === newest.mapVersion) this.forget(deviceId, volume.id, newest.group);
    const effective = withBase(
      group.record,
      effectiveVersion(group.record, (one) => group.answeredBy(one)),
    );
    if (effective.base === group.record.base) return true;
    group.record = effective;
    // It is on record soon, as a member that comes back empty after a restart of the manager could not be asked again, and
    // then no removal could be decided. Nothing waits for it: a decision that rests on it is written with it.
    this.journal.put(groupKey(volume.id, newest.group), effective);
    return true;
  }

  /** A device has other answers than it had: it is heard for the first time, or is another copy. */
  forgetAnswers(deviceId: string): void {
    for (const volume of this.byId.values()) {
      for (const group of volume.groups) {
        if (!group.answered.delete(deviceId) || volume.givenUp) continue;
        if (devicesOf(group.record.newest).includes(deviceId)) this.expectOf(deviceId, volume, group);
      }
    }
  }

  private expect(volume: ManagedVolume, group: ManagedGroup): void {
    if (volume.givenUp) return;
    const { newest } = group.record;
    for (const deviceId of devicesOf(newest)) {
      if (group.answeredBy(deviceId) < newest.mapVersion) this.expectOf(deviceId, volume, group);
    }
  }

  private expectOf(deviceId: string, volume: ManagedVolume, group: ManagedGroup): void {
    const known = this.outstanding.get(deviceId) ?? new Map<string, Outstanding>();
    this.outstanding.set(deviceId, known);
    known.set(groupKey(volume.id, group.record.newest.group), { volume, group });
  }

  private forget(deviceId: string, volumeId: string, group: number): void {
    const known = this.outstanding.get(deviceId);
    known?.delete(groupKey(volumeId, group));
    if (known?.size === 0) this.outstanding.delete(deviceId);
  }

  /** Groups of which a device should have a newer map. */
  *outstandingOn(deviceId: string): IterableIterator<Outstanding> {
    yield* this.outstanding.get(deviceId)?.values() ?? [];
  }

  /** How many replicas maps give each device. */
  replicaCounts(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const volume of this.byId.values()) {
      for (const { record } of volume.groups) {
        for (const deviceId of devicesOf(record.newest)) counts.set(deviceId, (counts.get(deviceId) ?? 0) + 1);
      }
    }
    return counts;
  }
}
