/**
 * The pages of the tree: root, directory, slot pages and volume pages. Their fields are laid out in `docs/disk-format.md`.
 *
 * Decoding trusts nothing: what a page says is checked against what it must be, and a violation is a `PageProblem` that names
 * it. Checksums of pages are checked by whoever follows the reference.
 */

import { VOLUME_NAME_BYTES_MAX } from '../../core/limits.js';
import type { FlushId } from '../../layout/flush-id.js';
import type { MemberRecord, VolumeMap } from '../../layout/volume-map.js';
import {
  SLOT_FLAG_DOUBT,
  SLOT_FLAG_PLACE,
  SLOT_FLAG_TABLE,
  SLOT_FLAGS_KNOWN,
  type SlotTable,
} from '../running/slot-table.js';
import {
  ACTIVE_SLOTS_MAX,
  DIRECTORY_ENTRIES,
  DIRECTORY_MAGIC,
  DIRECTORY_PAGES_MAX,
  getCounter,
  getId,
  getUint64,
  type Layout,
  NO_ID,
  PAGE_BYTES,
  PAGE_HEADER_BYTES,
  putId,
  putUint64,
  REFERENCE_BYTES,
  REFERENCE_PLACE,
  REFERENCE_PRESENT,
  ROOT_BYTES,
  ROOT_HEADER_BYTES,
  ROOT_MAGIC,
  SLOT_ENTRIES,
  SLOT_ENTRY_BYTES,
  SLOT_FREE,
  SLOT_USED,
  SLOTS_MAGIC,
  VOLUME_MAGIC,
  VOLUMES_MAX,
  viewOf,
} from './format.js';
import type { Checksum } from './superblock.js';

/** A page is not what it must be. */
export class PageProblem extends Error {}

/** Where the current version of a page is, and its checksum. */
export interface Reference {
  present: boolean;
  place: number;
  checksum: number;
}

export function absent(): Reference {
  return { present: false, place: 0, checksum: 0 };
}

/** What the tree hangs on, and where replaying the journal begins. */
export interface Root {
  sequence: number;
  /** Page of the journal, and sequence of the batch there. */
  journalPage: number;
  journalSequence: number;
  /** Batches up to this one are durable, and what they say of first writes. */
  durableSequence: number;
  usedSlots: number;
  directory: Reference[];
  volumes: Reference[];
  /** Slots that may be written to without another intent. */
  active: number[];
}

const ROOT_AT_CHECKSUM = 4;
const ROOT_AT_RESERVE = 72;
const ROOT_AT_VOLUMES = ROOT_HEADER_BYTES + DIRECTORY_PAGES_MAX * REFERENCE_BYTES;
const ROOT_AT_ACTIVE = ROOT_AT_VOLUMES + VOLUMES_MAX * REFERENCE_BYTES;

/** Throws unless the bytes from `from` to `to`, multiples of 4, are zero: no version that this one knows uses them. */
function demandZero(view: DataView, from: number, to: number): void {
  for (let at = from; at < to; at += 4) {
    if (view.getUint32(at, true) !== 0) throw new PageProblem(`its reserved byte ${at} is not zero`);
  }
}

function putReference(view: DataView, at: number, { present, place, checksum }: Reference): void {
  view.setUint32(at, checksum, true);
  view.setUint32(at + 4, (present ? REFERENCE_PRESENT : 0) | (place === 1 ? REFERENCE_PLACE : 0), true);
}

function getReference(view: DataView, at: number): Reference {
  const flags = view.getUint32(at + 4, true);
  if (flags > (REFERENCE_PRESENT | REFERENCE_PLACE)) throw new PageProblem(`unknown flags at byte ${at}`);
  const present = (flags & REFERENCE_PRESENT) !== 0;
  return { present, place: (flags & REFERENCE_PLACE) !== 0 ? 1 : 0, checksum: view.getUint32(at, true) };
}

/** Writes the root into `ROOT_BYTES` of memory. */
export function encodeRoot(root: Root, deviceId: string, bytes: Uint8Array, checksum: Checksum): void {
  const view = viewOf(bytes);
  bytes.fill(0);
  view.setUint32(0, ROOT_MAGIC, true);
  putUint64(view, 8, root.sequence);
  putId(view, 16, deviceId);
  putUint64(view, 32, root.journalPage);
  putUint64(view, 40, root.journalSequence);
  putUint64(view, 48, root.durableSequence);
  putUint64(view, 56, root.usedSlots);
  view.setUint32(64, root.directory.length, true);
  view.setUint32(68, root.active.length, true);
  root.directory.forEach((reference, index) => {
    putReference(view, ROOT_HEADER_BYTES + index * REFERENCE_BYTES, reference);
  });
  root.volumes.forEach((reference, index) => {
    putReference(view, ROOT_AT_VOLUMES + index * REFERENCE_BYTES, reference);
  });
  root.active.forEach((slot, index) => {
    view.setUint32(ROOT_AT_ACTIVE + 4 * index, slot, true);
  });
  view.setUint32(ROOT_AT_CHECKSUM, checksum(bytes), true);
}

/** Reads a root. Throws a `PageProblem`. */
export function decodeRoot(bytes: Uint8Array, deviceId: string, layout: Layout, checksum: Checksum): Root {
  const copy = bytes.slice();
  const view = viewOf(copy);
  if (view.getUint32(0, true) !== ROOT_MAGIC) throw new PageProblem('it is not a root');
  const stored = view.getUint32(ROOT_AT_CHECKSUM, true);
  view.setUint32(ROOT_AT_CHECKSUM, 0, true);
  if (checksum(copy) !== stored) throw new PageProblem('its checksum does not match');
  if (getId(view, 16) !== deviceId) throw new PageProblem(`it belongs to device ${getId(view, 16)}`);
  const directoryPages = view.getUint32(64, true);
  const activeCount = view.getUint32(68, true);
  if (directoryPages !== layout.directoryPages) throw new PageProblem('its directory has another size');
  if (activeCount > ACTIVE_SLOTS_MAX) throw new PageProblem('its activity log is too long');
  const journalPage = getUint64(view, 32);
  if (journalPage >= layout.journalPages) throw new PageProblem('it points beyond the journal');
  const list = <T>(count: number, read: (index: number) => T): T[] =>
    Array.from({ length: count }, (_, at) => read(at));
  const active = list(activeCount, (index) => view.getUint32(ROOT_AT_ACTIVE + 4 * index, true));
  if (active.some((slot) => slot >= layout.slots))
    throw new PageProblem('its activity log names a slot beyond the last');
  demandZero(view, ROOT_AT_RESERVE, ROOT_HEADER_BYTES);
  demandZero(view, ROOT_HEADER_BYTES + directoryPages * REFERENCE_BYTES, ROOT_AT_VOLUMES);
  demandZero(view, ROOT_AT_ACTIVE + 4 * activeCount, ROOT_BYTES);
  return {
    sequence: getCounter(view, 8),
    journalPage,
    journalSequence: getCounter(view, 40),
    durableSequence: getUint64(view, 48),
    usedSlots: getUint64(view, 56),
    directory: list(directoryPages, (at) => getReference(view, ROOT_HEADER_BYTES + at * REFERENCE_BYTES)),
    volumes: list(VOLUMES_MAX, (at) => getReference(view, ROOT_AT_VOLUMES + at * REFERENCE_BYTES)),
    active,
  };
}

function putHeader(page: Uint8Array, magic: number, index: number, deviceId: string, sequence: number): DataView {
  const view = viewOf(page);
  page.fill(0);
  view.setUint32(0, magic, true);
  view.setUint32(4, index, true);
  putId(view, 8, deviceId);
  putUint64(view, 24, sequence);
  return view;
}

function checkHeader(page: Uint8Array, magic: number, index: number, deviceId: string): DataView {
  const view = viewOf(page);
  if (view.getUint32(0, true) !== magic) throw new PageProblem('it is a page of another kind');
  if (view.getUint32(4, true) !== index) throw new PageProblem(`it is page ${view.getUint32(4, true)}`);
  if (getId(view, 8) !== deviceId) throw new PageProblem(`it belongs to device ${getId(view, 8)}`);
  return view;
}

export function encodeDirectory(
  page: Uint8Array,
  index: number,
  deviceId: string,
  sequence: number,
  slotPages: readonly Reference[],
): void {
  const view = putHeader(page, DIRECTORY_MAGIC, index, deviceId, sequence);
  slotPages.forEach((reference, at) => {
    putReference(view, PAGE_HEADER_BYTES + at * REFERENCE_BYTES, reference);
  });
}

export function decodeDirectory(page: Uint8Array, index: number, deviceId: string): Reference[] {
  const view = checkHeader(page, DIRECTORY_MAGIC, index, deviceId);
  return Array.from({ length: DIRECTORY_ENTRIES }, (_, at) =>
    getReference(view, PAGE_HEADER_BYTES + at * REFERENCE_BYTES),
  );
}

/** Writes the entries of one page of slots. `volumeIds` are by volume index. */
export function encodeSlots(
  page: Uint8Array,
  index: number,
  deviceId: string,
  sequence: number,
  table: SlotTable,
  volumeIds: readonly string[],
): void {
  const view = putHeader(page, SLOTS_MAGIC, index, deviceId, sequence);
  const first = index * SLOT_ENTRIES;
  const count = Math.min(SLOT_ENTRIES, table.slots - first);
  for (let entry = 0; entry < count; entry += 1) {
    const slot = first + entry;
    if (table.states[slot] === SLOT_FREE) continue;
    const at = (entry + 1) * SLOT_ENTRY_BYTES;
    putId(view, at, volumeIds[table.volumes[slot]]);
    putUint64(view, at + 16, table.stripes[slot]);
    view.setUint16(at + 32, table.members[slot], true);
    view.setUint8(at + 34, table.states[slot]);
    view.setUint8(at + 35, table.flags[slot]);
    view.setUint32(at + 36, 1, true);
    putUint64(view, at + 40, table.generations[slot]);
    putUint64(view, at + 48, table.flushNumbers[slot]);
    view.setUint32(at + 56, table.tableChecksums[slot], true);
  }
}

/** Words of a slot entry that version 1 keeps zero: snapshot epoch, block count, parent, fold, reserve. */
const ZERO_WORDS = [6, 7, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31];
const WORD = 2 ** 32;
/** The high words of stripe, generation and flush number, and the first value at which a number would reach 2^53. */
const HIGH_WORDS = [5, 11, 13];
const HIGH_END = 2 ** 21;
/** A volume has at most 255 copies. */
const MEMBER_MAX = 255;

function demandUnused(words: Uint32Array, word: number, slot: number): void {
  for (let index = 0; index < ZERO_WORDS.length; index += 1) {
    if (words[word + ZERO_WORDS[index]] === 0) continue;
    throw new PageProblem(`slot ${slot} has fields that this version does not know`);
  }
  for (let index = 0; index < HIGH_WORDS.length; index += 1) {
    if (words[word + HIGH_WORDS[index]] < HIGH_END) continue;
    throw new PageProblem(`slot ${slot} has a number beyond 2^53`);
  }
}

/**
 * Reads the entries of one page of slots into the table. `volumeIndex` gives the index of the volume whose id is in four words
 * from `word` on, or -1 for one that the device does not know. Throws a `PageProblem`. A large device has a million
 * entries, so nothing is made for each of them.
 */
export function decodeSlots(
  page: Uint8Array,
  index: number,
  deviceId: string,
  table: SlotTable,
  volumeIndex: (words: Uint32Array, word: number) => number,
): void {
  const view = checkHeader(page, SLOTS_MAGIC, index, deviceId);
  demandZero(view, PAGE_HEADER_BYTES, SLOT_ENTRY_BYTES);
  const words = new Uint32Array(page.buffer, page.byteOffset, PAGE_BYTES / 4);
  const first = index * SLOT_ENTRIES;
  for (let entry = 0; entry < SLOT_ENTRIES; entry += 1) {
    const at = (entry + 1) * SLOT_ENTRY_BYTES;
    const word = at / 4;
    const slot = first + entry;
    // Member, state and flags share a word.
    const state = (words[word + 8] >>> 16) & 0xff;
    if (state === SLOT_FREE) {
      demandZero(view, at, at + SLOT_ENTRY_BYTES);
      continue;
    }
    if (state !== SLOT_USED || slot >= table.slots)
      throw new PageProblem(`slot ${slot} has the unknown state ${state}`);
    const flags = words[word + 8] >>> 24;
    demandUnused(words, word, slot);
    const member = words[word + 8] & 0xffff;
    if (flags > SLOT_FLAGS_KNOWN || words[word + 9] !== 1 || member > MEMBER_MAX) {
      throw new PageProblem(`slot ${slot} has fields that this version does not know`);
    }
    const volume = volumeIndex(words, word);
    if (volume < 0) throw new PageProblem(`slot ${slot} belongs to volume ${getId(view, at)}, which is not here`);
    const stripe = words[word + 4] + words[word + 5] * WORD;
    if (table.find(volume, stripe) >= 0) {
      throw new PageProblem(`slot ${slot} holds a segment that is in another slot too`);
    }
    table.assign(slot, volume, stripe, member);
    table.flags[slot] = flags & (SLOT_FLAG_DOUBT | SLOT_FLAG_TABLE | SLOT_FLAG_PLACE);
    table.generations[slot] = words[word + 10] + words[word + 11] * WORD;
    table.flushNumbers[slot] = words[word + 12] + words[word + 13] * WORD;
    table.tableChecksums[slot] = words[word + 14];
  }
}

const LAYOUTS = ['single', 'mirror'] as const;
const MEMBER_STATES = ['in-sync', 'syncing', 'offline'] as const;
const MEMBERS_AT = 512;
const MEMBER_BYTES = 64;
/** Members of a volume on all its devices. */
export const VOLUME_MEMBERS_MAX = (PAGE_BYTES - MEMBERS_AT) / MEMBER_BYTES;
/** How far this device has come: the volume's last flush that it remembers. */
const FLUSHED_AT = 104;
const NAME_AT = 162;
/**
 * How often the volume has been renamed, where version 1 does not look. Maps of a volume are compared by their versions, names
 * by this: a volume of which the newest map may be missing can be renamed without its map becoming newer.
 */
const NAME_VERSION_AT = 424;

export function encodeVolume(
  page: Uint8Array,
  index: number,
  deviceId: string,
  sequence: number,
  volume: VolumeMap,
  flushed: FlushId,
): void {
  const view = putHeader(page, VOLUME_MAGIC, index, deviceId, sequence);
  const name = new TextEncoder().encode(volume.name);
  const perGroup = volume.groups[0].length;
  if (name.length > VOLUME_NAME_BYTES_MAX || volume.groups.length * perGroup > VOLUME_MEMBERS_MAX) {
    throw new Error('a volume does not fit its page');
  }
  putId(view, 32, volume.id);
  putUint64(view, 48, volume.createdMs);
  putUint64(view, 56, volume.sizeBytes);
  putUint64(view, 64, volume.mapVersion);
  putUint64(view, 72, volume.generation);
  putUint64(view, 80, volume.generation);
  view.setUint8(88, LAYOUTS.indexOf(volume.layout) + 1);
  view.setUint8(89, volume.copies);
  view.setUint8(90, volume.groups.length);
  view.setUint8(91, perGroup);
  view.setUint32(92, volume.segmentBytes, true);
  view.setUint32(96, volume.deleted ? 1 : 0, true);
  putUint64(view, FLUSHED_AT, flushed.generation);
  putUint64(view, FLUSHED_AT + 8, flushed.flushNumber);
  view.setUint16(160, name.length, true);
  page.set(name, NAME_AT);
  putUint64(view, NAME_VERSION_AT, volume.nameVersion);
  volume.groups.flat().forEach((member, at) => {
    const start = MEMBERS_AT + at * MEMBER_BYTES;
    putId(view, start, member.deviceId);
    view.setUint8(start + 16, MEMBER_STATES.indexOf(member.state) + 1);
    putUint64(view, start + 24, member.since.generation);
    putUint64(view, start + 32, member.since.flushNumber);
    putUint64(view, start + 40, member.incarnation);
    putUint64(view, start + 48, member.flushNumber);
  });
}

/** Fields of a volume page that version 1 keeps zero: lease, reservation, parent, epochs. */
const VOLUME_ZERO_FROM = FLUSHED_AT + 16;
const VOLUME_ZERO_TO = 160;

/** Text that encodes to the same bytes again: a map is written back, and must fit. */
function decodeName(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new PageProblem('its name is not UTF-8');
  }
}

/** The mark of a volume page that `decodeVolume` has found to be good. */
export function decodeFlushed(page: Uint8Array): FlushId {
  const view = viewOf(page);
  return { generation: getCounter(view, FLUSHED_AT), flushNumber: getCounter(view, FLUSHED_AT + 8) };
}

export function decodeVolume(page: Uint8Array, index: number, deviceId: string): VolumeMap {
  const view = checkHeader(page, VOLUME_MAGIC, index, deviceId);
  demandZero(view, 100, FLUSHED_AT);
  demandZero(view, VOLUME_ZERO_FROM, VOLUME_ZERO_TO);
  const layout = LAYOUTS[view.getUint8(88) - 1];
  const [copies, groups, perGroup] = [view.getUint8(89), view.getUint8(90), view.getUint8(91)];
  const nameBytes = view.getUint16(160, true);
  const flags = view.getUint32(96, true);
  if (layout === undefined || flags > 1 || copies < 1 || perGroup !== copies || groups < 1) {
    throw new PageProblem('its layout is not one that this version knows');
  }
  if (nameBytes > VOLUME_NAME_BYTES_MAX || groups * perGroup > VOLUME_MEMBERS_MAX) {
    throw new PageProblem('its name or its list of members is too long');
  }
  demandZero(view, MEMBERS_AT + groups * perGroup * MEMBER_BYTES, PAGE_BYTES);
  const readMember = (at: number): MemberRecord => {
    if (view.getUint8(at + 17) !== 0 || view.getUint16(at + 18, true) !== 0) {
      throw new PageProblem('a member has fields that this version does not know');
    }
    demandZero(view, at + 20, at + 24);
    demandZero(view, at + 56, at + MEMBER_BYTES);
    const state = MEMBER_STATES[view.getUint8(at + 16) - 1];
    if (state === undefined) throw new PageProblem('a member has an unknown state');
    return {
      deviceId: getId(view, at),
      state,
      since: { generation: getUint64(view, at + 24), flushNumber: getUint64(view, at + 32) },
      incarnation: getUint64(view, at + 40),
      flushNumber: getUint64(view, at + 48),
    };
  };
  const id = getId(view, 32);
  if (id === NO_ID) throw new PageProblem('it has no identifier');
  return {
    id,
    name: decodeName(page.slice(NAME_AT, NAME_AT + nameBytes)),
    nameVersion: getCounter(view, NAME_VERSION_AT),
    createdMs: getUint64(view, 48),
    sizeBytes: getUint64(view, 56),
    mapVersion: getCounter(view, 64),
    generation: getUint64(view, 72),
    layout,
    copies,
    segmentBytes: view.getUint32(92, true),
    deleted: flags === 1,
    groups: Array.from({ length: groups }, (_, group) =>
      Array.from({ length: perGroup }, (_, at) => readMember(MEMBERS_AT + (group * perGroup + at) * MEMBER_BYTES)),
    ),
  };
}

/** Position of a device among the members of its group. */
export function memberOf(volume: VolumeMap, deviceId: string): number {
  for (const group of volume.groups) {
    const position = group.findIndex((member) => member.deviceId === deviceId);
    if (position >= 0) return position;
  }
  return 0;
}
