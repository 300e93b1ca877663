/**
 * The map of a volume: where its segments are, and which copies are current. Plain data, and pure functions that return a
 * changed map with the next version.
 *
 * Invariants: a member that may have missed an acknowledged write is not `in-sync` in any map that took effect after that
 * write was acknowledged, and its `since` is not later than the first write that it may have missed. The members of a group
 * lie on different devices: two copies on one device would be lost together. A device may be a member of several groups.
 */

import { StrakeError } from '../core/errors.js';
import { doubledDevice } from '../core/groups.js';
import { BLOCK_BYTES, COPIES_MAX } from '../core/limits.js';

/** A point in the history of a volume. */
export interface FlushPoint {
  readonly generation: number;
  readonly flushNumber: number;
}

export type MemberState = 'in-sync' | 'syncing' | 'offline';

export interface MemberRecord {
  /** 32 hexadecimal digits. */
  readonly deviceId: string;
  readonly state: MemberState;
  /**
   * From here on it may have missed writes; zero: it may have missed all. While it is in-sync: what was discarded from here on
   * may still have its slots; zero: nothing has.
   */
  readonly since: FlushPoint;
  /** The highest incarnation of its device that is known. */
  readonly incarnation: number;
  /** The number under which the last write was made that a flush covers on this member; 0 if there is none. */
  readonly flushNumber: number;
}

export interface VolumeRecord {
  /** 32 hexadecimal digits. */
  readonly id: string;
  readonly name: string;
  /** Counts the times that it was renamed. */
  readonly nameVersion: number;
  readonly sizeBytes: number;
  readonly layout: 'single' | 'mirror';
  /** Members of each group, 1 to `COPIES_MAX`. */
  readonly copies: number;
  readonly segmentBytes: number;
  /** Counts changes of the map. */
  readonly mapVersion: number;
  /** Number of the exclusive right to write, 24 bits. */
  readonly generation: number;
  /** Placement groups. The segment with number `stripe` lies in group `stripe % groups.length`. */
  readonly groups: readonly (readonly MemberRecord[])[];
}

/** What a map keeps of a member so that an older image of its device can be told from the device. */
export interface MemberProgress {
  readonly incarnation: number;
  readonly flushNumber: number;
}

export const START: FlushPoint = { generation: 0, flushNumber: 0 };
/** Of a member in-sync: anything that is all zeroes may still have its slots. */
const ANYTHING: FlushPoint = { generation: 0, flushNumber: 1 };

/** Whether `one` lies before `other`. */
export function isBefore(one: FlushPoint, other: FlushPoint): boolean {
  if (one.generation !== other.generation) return one.generation < other.generation;
  return one.flushNumber < other.flushNumber;
}

/** Number of the segment that holds a byte of the volume. */
export function stripeOf(record: VolumeRecord, offsetBytes: number): number {
  return Math.floor(offsetBytes / record.segmentBytes);
}

/** Number of the group that holds a segment. */
export function groupOf(record: VolumeRecord, stripe: number): number {
  return stripe % record.groups.length;
}

/** Throws `ERR_STRAKE_INVALID_ARGUMENT` if the map contradicts itself. */
export function checkRecord(record: VolumeRecord): void {
  const { copies, groups, layout, segmentBytes, sizeBytes, generation } = record;
  const wrong = (what: string) => new StrakeError('INVALID_ARGUMENT', `volume ${record.name}: ${what}`);
  if (!(copies >= 1 && copies <= COPIES_MAX)) throw wrong(`${copies} copies`);
  if ((layout === 'single') !== (copies === 1)) throw wrong(`layout ${layout} with ${copies} copies`);
  if (groups.length === 0) throw wrong('no placement group');
  if (groups.some((group) => group.length !== copies)) throw wrong('a placement group of another size than its copies');
  const doubled = doubledDevice(groups);
  if (doubled !== null) throw wrong(`its map names device ${doubled} twice in a group, and a device holds one copy`);
  if (!(segmentBytes >= BLOCK_BYTES && segmentBytes % BLOCK_BYTES === 0))
    throw wrong(`segments of ${segmentBytes} bytes`);
  if (!(sizeBytes > 0 && sizeBytes % BLOCK_BYTES === 0)) throw wrong(`a size of ${sizeBytes} bytes`);
  if (!(generation >= 0 && generation < 2 ** 24)) throw wrong(`generation ${generation}`);
}

function withMember(
  record: VolumeRecord,
  group: number,
  position: number,
  changes: Partial<MemberRecord>,
): VolumeRecord {
  const groups = record.groups.map((members, index) =>
    index === group ? members.map((member, at) => (at === position ? { ...member, ...changes } : member)) : members,
  );
  return { ...record, mapVersion: record.mapVersion + 1, groups };
}

/**
 * The member misses writes from `since` on. One that was not current before, or from whose absence slots are still to be given
 * back, keeps its earlier point.
 */
export function memberOffline(record: VolumeRecord, group: number, position: number, since: FlushPoint): VolumeRecord {
  const member = record.groups[group][position];
  const fresh = member.state === 'in-sync' && !isBefore(START, member.since);
  const kept = fresh || isBefore(since, member.since) ? since : member.since;
  return withMember(record, group, position, { state: 'offline', since: kept });
}

/**
 * The member receives all writes from now on, and is being brought up to date. With `everything` it is not believed to
 * have kept anything, which is remembered until it is in-sync.
 */
export function memberSyncing(
  record: VolumeRecord,
  group: number,
  position: number,
  incarnation: number,
  everything: boolean,
): VolumeRecord {
  const { since } = record.groups[group][position];
  return withMember(record, group, position, { state: 'syncing', since: everything ? START : since, incarnation });
}

/** The member holds what the others hold. What was discarded while it was away has its slots still. */
export function memberInSync(
  record: VolumeRecord,
  group: number,
  position: number,
  progress: MemberProgress,
): VolumeRecord {
  const { since } = record.groups[group][position];
  const unreleased = isBefore(ANYTHING, since) ? since : ANYTHING;
  return withMember(record, group, position, { state: 'in-sync', since: unreleased, ...progress });
}

/** From where on segments of a group whose members are all in-sync may have slots that were discarded; null if none has. */
export function unreleasedSince(record: VolumeRecord, group: number): FlushPoint | null {
  let earliest: FlushPoint | null = null;
  for (const { since } of record.groups[group]) {
    if (isBefore(START, since) && (earliest === null || isBefore(since, earliest))) earliest = since;
  }
  return earliest;
}

/** Nothing discarded has slots any more in a group whose members are all in-sync. That alone is no new version. */
export function withReleased(record: VolumeRecord, group: number): VolumeRecord {
  const groups = record.groups.map((members, index) =>
    index === group ? members.map((member) => ({ ...member, since: START })) : members,
  );
  return { ...record, groups };
}

/**
 * Another device takes the place of a member; it holds nothing. Throws `ERR_STRAKE_WRONG_DEVICE` if it is a member of the
 * group already, in whatever state.
 */
export function replaceMember(record: VolumeRecord, group: number, position: number, deviceId: string): VolumeRecord {
  if (record.groups[group].some((member) => member.deviceId === deviceId)) {
    const what = `device ${deviceId} cannot take another place in volume ${record.name}: it holds a copy of the same data`;
    throw new StrakeError('WRONG_DEVICE', what, {
      remedy: 'Name a device that holds no copy of it: format a new one. A device that was away comes back with `add`.',
    });
  }
  const fresh = { deviceId, state: 'offline', since: START, incarnation: 0, flushNumber: 0 } as const;
  return withMember(record, group, position, fresh);
}

/** A larger volume. Throws `ERR_STRAKE_INVALID_ARGUMENT` if it would be smaller, or not of whole blocks. */
export function grow(record: VolumeRecord, sizeBytes: number): VolumeRecord {
  if (sizeBytes < record.sizeBytes) {
    const what = `volume ${record.name} has ${record.sizeBytes} bytes and cannot shrink to ${sizeBytes}`;
    throw new StrakeError('INVALID_ARGUMENT', what);
  }
  const grown = { ...record, sizeBytes, mapVersion: record.mapVersion + 1 };
  checkRecord(grown);
  return grown;
}

/** The volume under another name. */
export function rename(record: VolumeRecord, name: string): VolumeRecord {
  return { ...record, name, nameVersion: record.nameVersion + 1, mapVersion: record.mapVersion + 1 };
}

/** Notes how far members have come; such notes alone are no new version. */
export function withProgress(
  record: VolumeRecord,
  progressOf: (group: number, position: number) => MemberProgress | null,
): VolumeRecord {
  const groups = record.groups.map((members, group) =>
    members.map((member, position) => ({ ...member, ...progressOf(group, position) })),
  );
  return { ...record, groups };
}
