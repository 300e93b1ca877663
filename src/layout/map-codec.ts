/**
 * The fields of a replica group's map, as they lie in the page of a replica and travel between nodes: the same bytes at the same
 * places. The page has a header before them (bytes 0 to 31), and between them fields that are *own*, which its device knows of
 * itself: those are no part of the map, and are neither written nor read here. `docs/disk-format.md` lays them out.
 *
 * Fields that belong to features which are not set are refused unless they have the value that stands for not being used.
 */

import { check } from '../core/check.js';
import { BLOCK_BYTES, VOLUME_NAME_BYTES_MAX } from '../core/limits.js';
import {
  decodeName,
  demandZero,
  getCounter,
  getId,
  getUint48,
  getUint64,
  NO_ID,
  PageProblem,
  putId,
  putUint48,
  putUint64,
  viewOf,
} from './fields.js';
import { MOVING_MAX } from './limits.js';
import type { ReplicaMap, ReplicaMember } from './replica-map.js';
import { doubledDevice, type LeaseKind } from './volume-map.js';

/** The live epoch of every volume, as long as none has been cut. */
export const EPOCH_FIRST = 1;

/** Where the fields of a page begin that are its device's own. */
export const PAGE_AT_SERVED = 80;
export const PAGE_AT_FLUSHED = 104;
export const PAGE_AT_ANSWERED = 142;
export const PAGE_AT_SETTLED = 424;
/** The same with their bytes. */
export const PAGE_OWN: readonly (readonly [at: number, bytes: number])[] = [
  [PAGE_AT_SERVED, 8],
  [PAGE_AT_FLUSHED, 16],
  [PAGE_AT_ANSWERED, 1],
  [PAGE_AT_SETTLED, 16],
];

const LAYOUTS = ['single', 'mirror'] as const;
const MEMBER_STATES = ['in-sync', 'syncing', 'offline'] as const;
const LEASES: readonly LeaseKind[] = ['released', 'exclusive', 'shared'];
const FLAG_DELETED = 1;
/** A manager decides about it, and has authenticated it. */
const FLAG_MANAGED = 2;
const FLAGS_KNOWN = FLAG_DELETED | FLAG_MANAGED;
/** A chunk lies in the group of its number modulo the groups. */
const PLACED_BY_REMAINDER = 2;

/** Of the page's header. */
const HEADER_BYTES = 32;
const AT_ID = 32;
const AT_CREATED = 48;
const AT_SIZE = 56;
const AT_VERSION = 64;
const AT_GENERATION = 72;
const AT_LAYOUT = 88;
const AT_COPIES = 89;
/** Always 1: what was the number of groups in a page of version 1. */
const AT_ONE = 90;
const AT_LISTED = 91;
const AT_CHUNK = 92;
const AT_FLAGS = 96;
const AT_GROUP = 100;
const AT_GROUPS = 102;
const AT_HOLDER = 120;
const AT_LEASE = 136;
/** Parity, and chunks of a segment. */
const AT_PARITY = 137;
const AT_PLACEMENT = 140;
const AT_DEDICATED = 141;
const AT_HEADER_VERSION = 144;
const AT_EPOCH = 152;
const AT_EPOCHS_PAGE = 156;
const AT_NAME_BYTES = 160;
const AT_NAME = 162;
const AT_PARENT = 440;
const AT_AUTHENTICATION = 464;
const AUTHENTICATION_BYTES = 16;
/** Reservation key, and where the range begins: with the first segment and group. */
const AT_RESERVATION = 480;
const AT_RANGE_GROUPS = 498;
/** Guarantee of overwriting, placement seed. */
const AT_GUARANTEE = 500;
const MEMBERS_AT = 512;
const MEMBER_BYTES = 64;
const MEMBER_AT_STATE = 16;
const MEMBER_AT_PLACE = 17;
const MEMBER_AT_JOINED = 18;
const MEMBER_AT_SINCE = 24;
const MEMBER_AT_INCARNATION = 40;
const MEMBER_AT_FLUSH = 48;
const MEMBER_AT_STAMP = 56;
/** Members that a page has room for. */
export const PAGE_MEMBERS = (BLOCK_BYTES - MEMBERS_AT) / MEMBER_BYTES;

/** Versions of maps end here: where a member joined has 6 bytes. */
const VERSION_END = 2 ** 48;

/** Bytes of a page that a map with so many members uses, its header included. */
export function mapBytes(members: number): number {
  return MEMBERS_AT + members * MEMBER_BYTES;
}

/** Members that a page lists. */
export function listedMembers(bytes: Uint8Array): number {
  return bytes[AT_LISTED];
}

/** Writes the fields of a map into a page whose bytes behind its header are zero. */
export function putMap(page: Uint8Array, map: ReplicaMap): void {
  const { volume, members } = map;
  const name = new TextEncoder().encode(volume.name);
  check(name.length <= VOLUME_NAME_BYTES_MAX, 'the name of a volume does not fit its page', name.length);
  check(members.length <= PAGE_MEMBERS, 'the members of a replica do not fit its page', members.length);
  check(map.group >= 0 && map.group < map.groups, 'a replica is in a group that its volume has not', map.group);
  check(
    map.mapVersion >= 0 && map.mapVersion < VERSION_END,
    'the version of a map does not fit its page',
    map.mapVersion,
  );
  check(members.length >= volume.copies, 'a replica lists fewer members than places', members.length);
  const view = viewOf(page);
  putId(view, AT_ID, volume.id);
  putUint64(view, AT_CREATED, volume.createdMs);
  putUint64(view, AT_SIZE, volume.sizeBytes);
  putUint64(view, AT_VERSION, map.mapVersion);
  putUint64(view, AT_GENERATION, map.generation);
  view.setUint8(AT_LAYOUT, LAYOUTS.indexOf(volume.layout) + 1);
  view.setUint8(AT_COPIES, volume.copies);
  view.setUint8(AT_ONE, 1);
  view.setUint8(AT_LISTED, members.length);
  view.setUint32(AT_CHUNK, volume.segmentBytes, true);
  const managed = map.authentication !== undefined;
  view.setUint32(AT_FLAGS, (volume.deleted ? FLAG_DELETED : 0) | (managed ? FLAG_MANAGED : 0), true);
  view.setUint16(AT_GROUP, map.group, true);
  view.setUint16(AT_GROUPS, map.groups, true);
  putId(view, AT_HOLDER, map.holder);
  view.setUint8(AT_LEASE, LEASES.indexOf(map.lease));
  view.setUint8(AT_PLACEMENT, PLACED_BY_REMAINDER);
  putUint64(view, AT_HEADER_VERSION, volume.headerVersion);
  view.setUint32(AT_EPOCH, EPOCH_FIRST, true);
  view.setUint16(AT_NAME_BYTES, name.length, true);
  page.set(name, AT_NAME);
  putId(view, AT_AUTHENTICATION, map.authentication ?? NO_ID);
  view.setUint16(AT_RANGE_GROUPS, map.groups, true);
  members.forEach((member, index) => {
    putMember(view, MEMBERS_AT + index * MEMBER_BYTES, member);
  });
}

function putMember(view: DataView, at: number, member: ReplicaMember): void {
  check(
    member.joined >= 0 && member.joined < VERSION_END,
    'the version of joining does not fit its page',
    member.joined,
  );
  putId(view, at, member.deviceId);
  view.setUint8(at + MEMBER_AT_STATE, MEMBER_STATES.indexOf(member.state) + 1);
  view.setUint8(at + MEMBER_AT_PLACE, member.place);
  putUint48(view, at + MEMBER_AT_JOINED, member.joined);
  putUint64(view, at + MEMBER_AT_SINCE, member.since.generation);
  putUint64(view, at + MEMBER_AT_SINCE + 8, member.since.flushNumber);
  putUint64(view, at + MEMBER_AT_INCARNATION, member.incarnation);
  putUint64(view, at + MEMBER_AT_FLUSH, member.flushNumber);
}

/**
 * Reads the fields of a map out of a page, or of as many bytes as it uses. Throws a `PageProblem`, and a `RangeError` for
 * numbers beyond what the format has.
 */
export function getMap(page: Uint8Array): ReplicaMap {
  const view = viewOf(page);
  demandUnused(view);
  const listed = view.getUint8(AT_LISTED);
  demandZero(view, MEMBERS_AT + listed * MEMBER_BYTES, page.length);
  const [group, groups] = [view.getUint16(AT_GROUP, true), view.getUint16(AT_GROUPS, true)];
  const copies = view.getUint8(AT_COPIES);
  if (group >= groups || view.getUint16(AT_RANGE_GROUPS, true) !== groups) {
    throw new PageProblem(`it is group ${group} of ${groups}`);
  }
  if (copies < 1 || listed < copies || listed > Math.min(copies + MOVING_MAX, PAGE_MEMBERS)) {
    throw new PageProblem(`it lists ${listed} members for ${copies} places`);
  }
  const members = Array.from({ length: listed }, (_, at) => getMember(view, MEMBERS_AT + at * MEMBER_BYTES));
  if (members.some(({ place }) => place >= copies)) throw new PageProblem('a member has a place beyond the last');
  const doubled = doubledDevice([members]);
  if (doubled !== null) throw new PageProblem(`its map names device ${doubled} twice`);
  const flags = view.getUint32(AT_FLAGS, true);
  const nameBytes = view.getUint16(AT_NAME_BYTES, true);
  const volume = {
    id: getId(view, AT_ID),
    name: decodeName(page.slice(AT_NAME, AT_NAME + nameBytes)),
    headerVersion: getCounter(view, AT_HEADER_VERSION),
    createdMs: getUint64(view, AT_CREATED),
    sizeBytes: getUint64(view, AT_SIZE),
    layout: known(LAYOUTS, view.getUint8(AT_LAYOUT) - 1, 'layout'),
    copies,
    segmentBytes: view.getUint32(AT_CHUNK, true),
    deleted: (flags & FLAG_DELETED) !== 0,
  };
  if (volume.id === NO_ID) throw new PageProblem('it has no identifier');
  const authentication = getId(view, AT_AUTHENTICATION);
  const managed = (flags & FLAG_MANAGED) !== 0;
  if (managed === (authentication === NO_ID)) {
    throw new PageProblem(managed ? 'it is managed, and nothing proves it' : 'it is authenticated, and not managed');
  }
  const mapVersion = getUint64(view, AT_VERSION);
  if (mapVersion >= VERSION_END) throw new PageProblem(`its version ${mapVersion} is beyond 2^48`);
  return {
    ...{ volume, group, groups, members, mapVersion },
    ...(managed ? { authentication } : {}),
    generation: getUint64(view, AT_GENERATION),
    holder: getId(view, AT_HOLDER),
    lease: known(LEASES, view.getUint8(AT_LEASE), 'lease'),
  };
}

function getMember(view: DataView, at: number): ReplicaMember {
  demandZero(view, at + MEMBER_AT_STAMP, at + MEMBER_BYTES);
  return {
    deviceId: getId(view, at),
    state: known(MEMBER_STATES, view.getUint8(at + MEMBER_AT_STATE) - 1, 'state of a member'),
    place: view.getUint8(at + MEMBER_AT_PLACE),
    joined: getUint48(view, at + MEMBER_AT_JOINED),
    since: {
      generation: getUint64(view, at + MEMBER_AT_SINCE),
      flushNumber: getUint64(view, at + MEMBER_AT_SINCE + 8),
    },
    incarnation: getUint64(view, at + MEMBER_AT_INCARNATION),
    flushNumber: getUint64(view, at + MEMBER_AT_FLUSH),
  };
}

function known<T>(values: readonly T[], index: number, what: string): T {
  const value = values[index];
  if (value === undefined) throw new PageProblem(`its ${what} is not one that this version knows`);
  return value;
}

/** Throws unless what belongs to features to come says that they are not used. */
function demandUnused(view: DataView): void {
  const nameEnd = AT_NAME + view.getUint16(AT_NAME_BYTES, true);
  if (nameEnd > AT_NAME + VOLUME_NAME_BYTES_MAX) throw new PageProblem('its name is too long');
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const ranges = [
    [AT_PARITY, AT_PLACEMENT],
    [AT_DEDICATED, PAGE_AT_ANSWERED],
    [PAGE_AT_ANSWERED + 1, AT_HEADER_VERSION],
    [AT_EPOCHS_PAGE, AT_NAME_BYTES],
    [nameEnd, PAGE_AT_SETTLED],
    [AT_PARENT, AT_AUTHENTICATION],
    [AT_RESERVATION, AT_RANGE_GROUPS],
    [AT_GUARANTEE, MEMBERS_AT],
  ];
  for (const [from, to] of ranges) {
    const at = bytes.subarray(from, to).findIndex((byte) => byte !== 0);
    if (at >= 0) throw new PageProblem(`its byte ${from + at} belongs to a feature that is not set`);
  }
  const fixed: readonly (readonly [number, number])[] = [
    [view.getUint8(AT_ONE), 1],
    [view.getUint8(AT_PLACEMENT), PLACED_BY_REMAINDER],
    [view.getUint32(AT_EPOCH, true), EPOCH_FIRST],
  ];
  if (fixed.some(([value, wanted]) => value !== wanted)) {
    throw new PageProblem('its layout is not one that this version knows');
  }
  if (view.getUint32(AT_FLAGS, true) > FLAGS_KNOWN)
    throw new PageProblem('it has flags that this version does not know');
}

/**
 * What is authenticated of a map (`ReplicaMap.authentication`): all its fields as they lie in a page, up to its last member, with
 * zeroes where the authentication is. A device's own fields and the header are no part of it.
 */
export function authenticatedBytes(map: ReplicaMap): Uint8Array {
  const page = new Uint8Array(mapBytes(map.members.length));
  putMap(page, map);
  viewOf(page).setUint32(AT_FLAGS, viewOf(page).getUint32(AT_FLAGS, true) | FLAG_MANAGED, true);
  page.fill(0, AT_AUTHENTICATION, AT_AUTHENTICATION + AUTHENTICATION_BYTES);
  return page.subarray(HEADER_BYTES);
}

/** Whether two maps are the same in all that lies in a page. */
export function isSameMap(one: ReplicaMap, other: ReplicaMap): boolean {
  const [own, others] = [one, other].map((map) => {
    const page = new Uint8Array(mapBytes(map.members.length));
    putMap(page, map);
    return page;
  });
  return own.length === others.length && own.every((byte, at) => byte === others[at]);
}
