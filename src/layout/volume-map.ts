/**
 * The map of a volume: where its segments are, and which copies are current. Each device of a volume keeps it whole.
 * `map-changes.ts` tells how it changes.
 *
 * Invariants: a member that may have missed an acknowledged write is not `in-sync` in any map that took effect after that
 * write was acknowledged, and its `since` is not later than the first write that it may have missed. The members of a group
 * lie on different devices: two copies on one device would be lost together. A device may be a member of several groups.
 */

import { StrakeError } from '../core/errors.js';
import { BLOCK_BYTES, COPIES_MAX } from '../core/limits.js';
import { type FlushId, isBefore, NO_FLUSH } from './flush-id.js';

/** In place of a device's id: a place in a group that no device has. */
export const NO_DEVICE = '0'.repeat(32);

/** `syncing`: it receives all writes, and is being brought up to date; `offline`: it receives none. */
export type MemberState = 'in-sync' | 'syncing' | 'offline';

/** A member of a volume: a copy of the segments of one group. */
export interface MemberRecord {
  /** 32 hexadecimal digits. */
  readonly deviceId: string;
  readonly state: MemberState;
  /**
   * From here on it may have missed writes; zero: it may have missed all. While it is in-sync: what was discarded from here on
   * may still have its slots; zero: nothing has.
   */
  readonly since: FlushId;
  /** The highest incarnation of its device that is known. */
  readonly incarnation: number;
  /** The number under which the last write was made that a flush covers on this member; 0 if there is none. */
  readonly flushNumber: number;
}

/** A volume as each of its devices, and its engine, know it. */
export interface VolumeMap {
  /** 32 hexadecimal digits. */
  readonly id: string;
  readonly name: string;
  /** Counts the times that it was renamed. */
  readonly nameVersion: number;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
  readonly sizeBytes: number;
  readonly layout: 'single' | 'mirror';
  /** Members of each group, 1 to `COPIES_MAX`. */
  readonly copies: number;
  readonly segmentBytes: number;
  /** Counts changes of the map. */
  readonly mapVersion: number;
  /** Number of the exclusive right to write, 24 bits. */
  readonly generation: number;
  /** Kept for ever, so that an older copy of a device does not bring the volume back. */
  readonly deleted: boolean;
  /** Placement groups. The segment with number `stripe` lies in group `stripe % groups.length`. */
  readonly groups: readonly (readonly MemberRecord[])[];
}

/** What a map keeps of a member so that an older image of its device can be told from the device. */
export interface MemberProgress {
  readonly incarnation: number;
  readonly flushNumber: number;
}

/** Number of the segment that holds a byte of the volume. */
export function stripeOf(map: VolumeMap, offsetBytes: number): number {
  return Math.floor(offsetBytes / map.segmentBytes);
}

/** Number of the group that holds a segment. */
export function groupOf(map: VolumeMap, stripe: number): number {
  return stripe % map.groups.length;
}

/**
 * A device that a group names twice; null if there is none. Two copies on one device are one copy. A device may be a member
 * of several groups.
 */
export function doubledDevice(groups: readonly (readonly { readonly deviceId: string }[])[]): string | null {
  for (const group of groups) {
    const ids = group.map(({ deviceId }) => deviceId).filter((deviceId) => deviceId !== NO_DEVICE);
    const doubled = ids.find((deviceId, at) => ids.indexOf(deviceId) !== at);
    if (doubled !== undefined) return doubled;
  }
  return null;
}

/** Throws `ERR_STRAKE_INVALID_ARGUMENT` if the map contradicts itself. */
export function checkMap(map: VolumeMap): void {
  const { copies, groups, layout, segmentBytes, sizeBytes, generation } = map;
  const wrong = (what: string) => new StrakeError('INVALID_ARGUMENT', `volume ${map.name}: ${what}`);
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

/** From where on segments of a group whose members are all in-sync may have slots that were discarded; null if none has. */
export function unreleasedSince(map: VolumeMap, group: number): FlushId | null {
  let earliest: FlushId | null = null;
  for (const { since } of map.groups[group]) {
    if (isBefore(NO_FLUSH, since) && (earliest === null || isBefore(since, earliest))) earliest = since;
  }
  return earliest;
}
