/**
 * What a manager remembers of a replica group: its newest decided map, which version is known to be effective, and which members
 * the maps since then have called in-sync. Pure functions; a record is replaced whole.
 *
 * ```text
 *   versions   … base ───────────── newest …          newest > base: a change is *pending*
 *   spans        {A,B}   {A,B}  {A}                    in-sync members, by ranges of versions
 * ```
 *
 * Invariants: consecutive effective maps share an in-sync member. Any of the versions from `base` on may be effective, as nobody
 * knows what members have answered: so whoever is removed leaves a member that *every* span has. `base` is never assumed: members
 * have answered it, or one that is later.
 */

import { check } from '../core/check.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { NO_DEVICE } from '../layout/volume-map.js';
import type { MapVersion } from '../ports/ids.js';

/** Versions whose maps call the same members in-sync. */
export interface InSyncSpan {
  readonly first: MapVersion;
  readonly last: MapVersion;
  /** Ids of devices. */
  readonly members: readonly string[];
}

export interface GroupRecord {
  /** With what proves it. */
  readonly newest: ReplicaMap;
  /** The newest version that is known to be effective; 0 if none is. */
  readonly base: MapVersion;
  /** The version with which the newest generation began; 0 if nobody has attached under a manager. */
  readonly attached: MapVersion;
  /** From `base` on without gaps, or from the first version; oldest first. */
  readonly spans: readonly InSyncSpan[];
}

/** Ids of the devices that a map calls in-sync. */
export function inSyncOf({ members }: ReplicaMap): readonly string[] {
  return members.filter(({ state }) => state === 'in-sync').map(({ deviceId }) => deviceId);
}

/** Ids of all devices that a map names. */
export function devicesOf({ members }: ReplicaMap): readonly string[] {
  return members.map(({ deviceId }) => deviceId).filter((deviceId) => deviceId !== NO_DEVICE);
}

/** The record of a group whose first map under this manager has been decided, and stored nowhere. */
export function firstRecord(map: ReplicaMap): GroupRecord {
  const span = { first: map.mapVersion, last: map.mapVersion, members: inSyncOf(map) };
  return { newest: map, base: 0, attached: 0, spans: [span] };
}

/** Whether a map has been decided that is not known to be effective. */
export function isPending({ newest, base }: GroupRecord): boolean {
  return newest.mapVersion > base;
}

/** Ids of the devices that every map calls in-sync which may be effective. */
export function sharedMembers({ spans }: GroupRecord): readonly string[] {
  const [first, ...rest] = spans;
  return first.members.filter((deviceId) => rest.every(({ members }) => members.includes(deviceId)));
}

/** The record after another map has been decided. */
export function withNewest(record: GroupRecord, map: ReplicaMap): GroupRecord {
  const { newest, spans } = record;
  check(map.mapVersion > newest.mapVersion, 'a map is decided that is not newer', map.mapVersion);
  check(map.generation >= newest.generation, 'a map is decided of an earlier generation', map.generation);
  const members = inSyncOf(map);
  check(members.length > 0, 'a map is decided in which nobody is in-sync', map.mapVersion);
  const last = spans[spans.length - 1];
  const same = last.members.length === members.length && members.every((deviceId) => last.members.includes(deviceId));
  const next = same
    ? [...spans.slice(0, -1), { ...last, last: map.mapVersion }]
    : [...spans, { first: last.last + 1, last: map.mapVersion, members }];
  const attached = map.generation > newest.generation ? map.mapVersion : record.attached;
  return { ...record, newest: map, attached, spans: next };
}

/**
 * The newest version of which all in-sync members have answered it, or a later one; `base` if nothing newer is known.
 *
 * @param answered the highest version that a device is known to have answered; 0 if none
 */
export function effectiveVersion(record: GroupRecord, answered: (deviceId: string) => MapVersion): MapVersion {
  for (const { first, last, members } of [...record.spans].reverse()) {
    const all = Math.min(...members.map((deviceId) => answered(deviceId)));
    if (all >= first) return Math.max(record.base, Math.min(all, last));
  }
  return record.base;
}

/** The record when a version is known to be effective: what came before it counts no more. */
export function withBase(record: GroupRecord, base: MapVersion): GroupRecord {
  if (base <= record.base) return record;
  check(base <= record.newest.mapVersion, 'a version is effective that was not decided', base);
  const spans = record.spans
    .filter(({ last }) => last >= base)
    .map((span) => (span.first < base ? { ...span, first: base } : span));
  return { ...record, base, spans };
}
