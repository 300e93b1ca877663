/**
 * The map of a volume: what it is, where its segments are, and which copies are current. It is what the engine of the volume
 * works with: its header, and the maps of all its groups side by side. Each group has a version of its own, and is stored on
 * its own devices as a `ReplicaMap`. `map-changes.ts` tells how maps change.
 *
 * Invariants: a member that may have missed an acknowledged write is not `in-sync` in any map that took effect after that
 * write was acknowledged, and its `since` is not later than the first write that it may have missed. The members of a group
 * lie on different devices: two copies on one device would be lost together. A device may be a member of several groups.
 */

import { StrakeError } from '../core/errors.js';
import { BLOCK_BYTES, COPIES_MAX } from '../core/limits.js';
import type { ChunkIndex, FlushNumber, Generation, GroupIndex } from '../ports/ids.js';
import { type FlushId, isBefore, NO_FLUSH } from './flush-id.js';

/** In place of a device's id: a place in a group that no device has. */
export const NO_DEVICE = '0'.repeat(32);
/** In place of a client's id: nobody holds the generation. */
export const NO_CLIENT = '0'.repeat(32);
/** Version of the map of a group that no device has which is here. */
export const NO_VERSION = 0;

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
  readonly flushNumber: FlushNumber;
  /** The version of the group's map with which it became a member, unchanged by promotion; 0 if that is not known. */
  readonly joined: number;
}

/** The member of a place that no device has. */
export const NOBODY: MemberRecord = {
  deviceId: NO_DEVICE,
  state: 'offline',
  since: NO_FLUSH,
  incarnation: 0,
  flushNumber: 0,
  joined: 0,
};

/** Who may read under leases: nobody has since the volume was closed in order, one client, or several. */
export type LeaseKind = 'released' | 'exclusive' | 'shared';

/** What a volume is, whatever its groups are. */
export interface VolumeHeader {
  /** 32 hexadecimal digits. */
  readonly id: string;
  readonly name: string;
  /** Counts changes of the header. Of two headers the name of the higher one counts. */
  readonly headerVersion: number;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
  /** It never becomes smaller. */
  readonly sizeBytes: number;
  readonly layout: 'single' | 'mirror';
  /** Places of each group, 1 to `COPIES_MAX`. */
  readonly copies: number;
  /** Bytes of a chunk: the slot size of the devices. */
  readonly segmentBytes: number;
  /** Kept until every device that held it knows, so that an older copy of a device does not bring the volume back. */
  readonly deleted: boolean;
}

/** A volume as its engine knows it. */
export interface VolumeMap extends VolumeHeader {
  /** Number of the exclusive right to write, 24 bits: the same in all groups, but for those that a start has not reached. */
  readonly generation: Generation;
  /** The client that has the generation: 32 hexadecimal digits, or `NO_CLIENT`. */
  readonly holder: string;
  readonly lease: LeaseKind;
  /** By group: counts changes of its map, the first is 1; `NO_VERSION` if no device that is here has it. Below 2^48. */
  readonly versions: readonly number[];
  /** Members by group and place. The segment with number `stripe` lies in group `stripe % groups.length`. */
  readonly groups: readonly (readonly MemberRecord[])[];
}

/** What a map keeps of a member so that an older image of its device can be told from the device. */
export interface MemberProgress {
  readonly incarnation: number;
  readonly flushNumber: FlushNumber;
}

/** Number of the segment that holds a byte of the volume. */
export function stripeOf(map: VolumeMap, offsetBytes: number): number {
  return Math.floor(offsetBytes / map.segmentBytes);
}

/** Number of the group that holds a segment. */
export function groupOf(map: VolumeMap, stripe: ChunkIndex): number {
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

/** The highest version of any group: it grows with each change of the map. */
export function newestVersion({ versions }: VolumeMap): number {
  return Math.max(...versions);
}

/** Throws `ERR_STRAKE_INVALID_ARGUMENT` if the map contradicts itself. */
export function checkMap(map: VolumeMap): void {
  const { copies, groups, layout, segmentBytes, sizeBytes, generation, versions } = map;
  const wrong = (what: string) => new StrakeError('INVALID_ARGUMENT', `volume ${map.name}: ${what}`);
  if (!(copies >= 1 && copies <= COPIES_MAX)) throw wrong(`${copies} copies`);
  if ((layout === 'single') !== (copies === 1)) throw wrong(`layout ${layout} with ${copies} copies`);
  if (groups.length === 0) throw wrong('no placement group');
  if (versions.length !== groups.length) throw wrong(`${versions.length} versions of ${groups.length} groups`);
  const version = versions.find((one) => !(one >= 0 && one < 2 ** 48));
  if (version !== undefined) throw wrong(`map version ${version}`);
  if (groups.some((group) => group.length !== copies)) throw wrong('a placement group of another size than its copies');
  const doubled = doubledDevice(groups);
  if (doubled !== null) throw wrong(`its map names device ${doubled} twice in a group, and a device holds one copy`);
  if (!(segmentBytes >= BLOCK_BYTES && segmentBytes % BLOCK_BYTES === 0))
    throw wrong(`segments of ${segmentBytes} bytes`);
  if (!(sizeBytes > 0 && sizeBytes % BLOCK_BYTES === 0)) throw wrong(`a size of ${sizeBytes} bytes`);
  if (!(generation >= 0 && generation < 2 ** 24)) throw wrong(`generation ${generation}`);
}

/** From where on segments of a group whose members are all in-sync may have slots that were discarded; null if none has. */
export function unreleasedSince(map: VolumeMap, group: GroupIndex): FlushId | null {
  let earliest: FlushId | null = null;
  for (const { since } of map.groups[group]) {
    if (isBefore(NO_FLUSH, since) && (earliest === null || isBefore(since, earliest))) earliest = since;
  }
  return earliest;
}
