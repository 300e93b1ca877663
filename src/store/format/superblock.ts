/**
 * The superblock: what a device is. It exists twice, in the first page and in the last whole one, and both are written one after
 * the other with a flush between, so one of them is always whole.
 *
 * It changes only when a device is opened, closed or relabelled: what changes all the time is found through the root.
 */

import { check } from '../../core/check.js';
import { StrakeError } from '../../core/errors.js';
import { BLOCK_BYTES } from '../../core/limits.js';
import { getCounter, getId, getUint64, NO_ID, putId, putUint64, viewOf } from '../../layout/fields.js';
import {
  CHECKSUM_CRC32C,
  computeFirstLayout,
  computeLayout,
  DEVICE_CLEAN,
  DEVICE_OPEN,
  ENTRY_BYTES,
  FORMAT_VERSION,
  type Layout,
  PAGE_BYTES,
  SUPERBLOCK_MAGIC,
} from './format.js';

/** Computes a CRC32C. */
export type Checksum = (bytes: Uint8Array) => number;

export interface Superblock {
  /** Counts writes of superblocks: the higher one is the newer. */
  readonly sequence: number;
  readonly deviceId: string;
  readonly clusterId: string;
  /** A name for people, at most 63 bytes. */
  readonly label: string;
  /** Features without which the device must not be opened, or not for writing, or which do not matter. */
  readonly incompatible: number;
  readonly readOnlyCompatible: number;
  readonly compatible: number;
  readonly logicalBlockBytes: number;
  readonly physicalBlockBytes: number;
  readonly atomicWriteBytes: number;
  /** Counts openings for writing. */
  readonly incarnation: number;
  /** `DEVICE_*`. */
  readonly state: number;
  /** Milliseconds since 1970. */
  readonly formattedMs: number;
  /** The longest lease in ms that this life of the device grants to other processes; 0 for none. */
  readonly leaseMs: number;
  readonly layout: Layout;
}

/**
 * Features by bit, so that an unknown one can be refused and named. `groups`: replica pages, the volume directory, and entries
 * that are more than slots.
 */
export const INCOMPATIBLE_FEATURES: readonly string[] = ['groups'];
/** `groups`, among the incompatible features. */
export const FEATURE_GROUPS = 1;
/** Features whose bits are taken, by bit after those that are known. */
const FEATURES_TO_COME: readonly string[] = ['epochs', 'data-log', 'parity', 'regions'];
export const READ_ONLY_FEATURES: readonly string[] = [];

const AT_VERSION = 8;
const AT_CHECKSUM = 12;
const AT_SEQUENCE = 16;
const AT_DEVICE = 24;
const AT_CLUSTER = 40;
const AT_INCOMPATIBLE = 56;
const AT_READ_ONLY = 64;
const AT_COMPATIBLE = 72;
const AT_SIZE = 80;
const AT_LOGICAL = 88;
const AT_PHYSICAL = 92;
const AT_ATOMIC = 96;
const AT_BLOCK = 100;
const AT_SLOT = 104;
const AT_CHECKSUM_TYPE = 108;
const AT_ENTRY = 112;
const AT_STATE = 116;
/** Identifier of the key that contents are encrypted with: reserved. */
const AT_KEY = 120;
const AT_SLOTS = 136;
const AT_OFFSETS = 144;
const AT_INCARNATION = 216;
const AT_FORMATTED = 224;
const AT_LABEL = 232;
const LABEL_BYTES = 64;
/** Pages of the volumes region, and entries of the slot table; both 0 on devices from before `groups`. */
const AT_VOLUME_PAGES = AT_LABEL + LABEL_BYTES;
const AT_TABLE_PAGES = AT_VOLUME_PAGES + 4;
const AT_ENTRIES = AT_VOLUME_PAGES + 8;
/** Stores on this device. */
const AT_LANES = AT_VOLUME_PAGES + 12;
/** Levels of pages of references between the root and the pages of the directory. */
const AT_LEVELS = AT_VOLUME_PAGES + 16;
const AT_LEASE = AT_VOLUME_PAGES + 20;
const END = AT_LEASE + 4;
/** What a device has one of; 0 stands for that, too. */
const ONE = 1;
const LEVELS_KNOWN = 1;

/** The fields of a layout, in the order in which they are stored. */
const OFFSETS = [
  'rootOffset',
  'volumesOffset',
  'directoryOffset',
  'slotTableOffset',
  'blockTableOffset',
  'journalOffset',
  'journalPages',
  'dataOffset',
  'copyOffset',
] as const satisfies readonly (keyof Layout)[];

/** Writes a superblock into a page. */
export function encodeSuperblock(superblock: Superblock, page: Uint8Array, checksum: Checksum): void {
  const { layout, sequence, state } = superblock;
  check(sequence > 0, 'a superblock has no sequence', sequence);
  check(state === DEVICE_CLEAN || state === DEVICE_OPEN, 'a superblock has no state', state);
  const dataEnd = layout.dataOffset + layout.slots * layout.slotBytes;
  check(layout.copyOffset >= dataEnd, 'the second superblock lies where data does', layout.copyOffset);
  const view = viewOf(page);
  page.fill(0);
  page.set(SUPERBLOCK_MAGIC, 0);
  view.setUint32(AT_VERSION, FORMAT_VERSION, true);
  putUint64(view, AT_SEQUENCE, superblock.sequence);
  putId(view, AT_DEVICE, superblock.deviceId);
  putId(view, AT_CLUSTER, superblock.clusterId);
  putUint64(view, AT_INCOMPATIBLE, superblock.incompatible);
  putUint64(view, AT_READ_ONLY, superblock.readOnlyCompatible);
  putUint64(view, AT_COMPATIBLE, superblock.compatible);
  putUint64(view, AT_SIZE, layout.sizeBytes);
  view.setUint32(AT_LOGICAL, superblock.logicalBlockBytes, true);
  view.setUint32(AT_PHYSICAL, superblock.physicalBlockBytes, true);
  view.setUint32(AT_ATOMIC, superblock.atomicWriteBytes, true);
  view.setUint32(AT_BLOCK, BLOCK_BYTES, true);
  view.setUint32(AT_SLOT, layout.slotBytes, true);
  view.setUint32(AT_CHECKSUM_TYPE, CHECKSUM_CRC32C, true);
  view.setUint32(AT_ENTRY, ENTRY_BYTES, true);
  view.setUint32(AT_STATE, superblock.state, true);
  putId(view, AT_KEY, NO_ID);
  putUint64(view, AT_SLOTS, layout.slots);
  OFFSETS.forEach((name, index) => {
    putUint64(view, AT_OFFSETS + 8 * index, layout[name]);
  });
  putUint64(view, AT_INCARNATION, superblock.incarnation);
  putUint64(view, AT_FORMATTED, superblock.formattedMs);
  if (layout.volumeDirectoryPages > 0) {
    view.setUint32(AT_VOLUME_PAGES, layout.volumePages, true);
    view.setUint32(AT_TABLE_PAGES, ONE, true);
    view.setUint32(AT_ENTRIES, layout.entries, true);
    view.setUint32(AT_LANES, ONE, true);
    view.setUint32(AT_LEVELS, layout.directoryLevels, true);
  }
  view.setUint32(AT_LEASE, superblock.leaseMs, true);
  // Cut after a whole character, should it be too long.
  new TextEncoder().encodeInto(superblock.label, page.subarray(AT_LABEL, AT_LABEL + LABEL_BYTES - 1));
  view.setUint32(AT_CHECKSUM, checksum(page), true);
}

/** Whether a page begins as a superblock does, whatever else it holds. */
export function looksLikeSuperblock(page: Uint8Array): boolean {
  return SUPERBLOCK_MAGIC.every((byte, index) => page[index] === byte);
}

/** Why a page is not a superblock that can be used: damaged, or of another version or with unknown features. */
export class SuperblockProblem extends Error {
  /** Whether it may be a superblock of a format that this version does not know. */
  readonly foreign: boolean;

  /** `cause`: why it could not be read. */
  constructor(message: string, foreign: boolean, cause?: Error) {
    super(message, { cause });
    this.foreign = foreign;
  }
}

/** Reads a superblock. Throws a `SuperblockProblem`. The page is unchanged afterwards. */
export function decodeSuperblock(page: Uint8Array, checksum: Checksum): Superblock {
  if (!looksLikeSuperblock(page)) throw new SuperblockProblem('it has no superblock', false);
  const copy = page.slice();
  const view = viewOf(copy);
  const stored = view.getUint32(AT_CHECKSUM, true);
  view.setUint32(AT_CHECKSUM, 0, true);
  if (checksum(copy) !== stored) throw new SuperblockProblem('its checksum does not match', false);
  const version = view.getUint32(AT_VERSION, true);
  if (version !== FORMAT_VERSION) {
    throw new SuperblockProblem(`it has format version ${version}, and this program knows ${FORMAT_VERSION}`, true);
  }
  try {
    return decodeFields(view, copy);
  } catch (error) {
    if (error instanceof SuperblockProblem) throw error;
    throw new SuperblockProblem((error as Error).message, false);
  }
}

/** Feature bits. The highest are beyond what a number holds exactly, and no version has defined them. */
function features(view: DataView, at: number): number {
  for (let bit = 63; bit >= 53; bit -= 1) {
    if (((view.getUint32(at + 4, true) >>> (bit - 32)) & 1) === 0) continue;
    const kind = at === AT_INCOMPATIBLE ? 'incompatible' : 'read-only-compatible';
    throw new SuperblockProblem(`it uses ${kind} feature ${bit}, which this program does not know`, true);
  }
  return getUint64(view, at);
}

function decodeFields(view: DataView, page: Uint8Array): Superblock {
  const word = (at: number) => view.getUint32(at, true);
  const kinds: readonly (readonly [string, number, number])[] = [
    ['checksum', word(AT_CHECKSUM_TYPE), CHECKSUM_CRC32C],
    ['entry size', word(AT_ENTRY), ENTRY_BYTES],
    ['block size', word(AT_BLOCK), BLOCK_BYTES],
  ];
  for (const [name, value, known] of kinds) {
    if (value !== known) throw new SuperblockProblem(`its ${name} is ${value}, and this program knows ${known}`, true);
  }
  demandKnown(view);
  if (word(AT_STATE) > DEVICE_OPEN) throw new SuperblockProblem(`it is in the unknown state ${word(AT_STATE)}`, true);
  if (getId(view, AT_KEY) !== NO_ID) throw new SuperblockProblem('it is encrypted', true);
  const reserve = hasGroups(features(view, AT_INCOMPATIBLE)) ? END : AT_VOLUME_PAGES;
  for (let at = reserve; at < PAGE_BYTES; at += 4) {
    if (word(at) !== 0) throw new SuperblockProblem(`its reserved byte ${at} is not zero`, true);
  }
  const layout = decodeLayout(view);
  const label = page.subarray(AT_LABEL, AT_LABEL + LABEL_BYTES);
  return {
    sequence: getCounter(view, AT_SEQUENCE),
    deviceId: getId(view, AT_DEVICE),
    clusterId: getId(view, AT_CLUSTER),
    label: new TextDecoder().decode(label.subarray(0, label.indexOf(0))),
    incompatible: features(view, AT_INCOMPATIBLE),
    readOnlyCompatible: features(view, AT_READ_ONLY),
    // Of these nothing depends on the high ones.
    compatible: word(AT_COMPATIBLE) + (word(AT_COMPATIBLE + 4) % 2 ** 21) * 2 ** 32,
    logicalBlockBytes: word(AT_LOGICAL),
    physicalBlockBytes: word(AT_PHYSICAL),
    atomicWriteBytes: word(AT_ATOMIC),
    incarnation: getCounter(view, AT_INCARNATION),
    state: word(AT_STATE),
    formattedMs: getUint64(view, AT_FORMATTED),
    leaseMs: word(AT_LEASE),
    layout,
  };
}

/** Whether the device has the feature `groups`: all its structures may have the form that came with it. */
export function hasGroups(incompatible: number): boolean {
  return incompatible % 2 === FEATURE_GROUPS;
}

/** The same features, and `groups`. */
export function withGroups(incompatible: number): number {
  return hasGroups(incompatible) ? incompatible : incompatible + FEATURE_GROUPS;
}

/** What an unknown feature has changed is not looked at: it is the feature that is told. */
function demandKnown(view: DataView): void {
  const unknown = unknownBits(features(view, AT_INCOMPATIBLE), INCOMPATIBLE_FEATURES);
  if (unknown.length === 0) return;
  throw new SuperblockProblem(
    `it uses ${nameFeatures('incompatible', unknown)}, which this program does not know`,
    true,
  );
}

function decodeLayout(view: DataView): Layout {
  const word = (at: number) => view.getUint32(at, true);
  const only: readonly (readonly [string, number, number])[] = [
    ['pages of a block table', AT_TABLE_PAGES, ONE],
    ['lanes', AT_LANES, ONE],
    ['levels of the directory', AT_LEVELS, LEVELS_KNOWN],
  ];
  for (const [name, at, most] of only) {
    if (word(at) > most)
      throw new SuperblockProblem(`it has ${word(at)} ${name}, and this program knows ${most}`, true);
  }
  const first = word(AT_VOLUME_PAGES) === 0 && word(AT_ENTRIES) === 0;
  const [sizeBytes, slotBytes] = [getUint64(view, AT_SIZE), word(AT_SLOT)];
  const layout = first
    ? computeFirstLayout(sizeBytes, slotBytes)
    : computeLayout(sizeBytes, slotBytes, word(AT_LEVELS));
  if (getUint64(view, AT_SLOTS) !== layout.slots) throw new SuperblockProblem('its number of slots is wrong', false);
  const stored: readonly (readonly [string, number, number])[] = [
    ...(first ? [] : ([['volumePages', word(AT_VOLUME_PAGES), layout.volumePages]] as const)),
    ...(first ? [] : ([['entries', word(AT_ENTRIES), layout.entries]] as const)),
    ['directoryLevels', word(AT_LEVELS), layout.directoryLevels],
    ...OFFSETS.map((name, index) => [name, getUint64(view, AT_OFFSETS + 8 * index), layout[name]] as const),
  ];
  for (const [name, value, wanted] of stored) {
    if (value !== wanted) throw new SuperblockProblem(`its ${name} is ${value} and has to be ${wanted}`, false);
  }
  return layout;
}

function nameFeatures(kind: string, bits: readonly number[]): string {
  const name = (bit: number) => {
    const known = kind === 'incompatible' ? FEATURES_TO_COME[bit - INCOMPATIBLE_FEATURES.length] : undefined;
    return `${kind} feature ${bit}${known === undefined ? '' : ` (${known})`}`;
  };
  return bits.map(name).join(', ');
}

function unknownBits(bits: number, known: readonly string[]): number[] {
  const unknown: number[] = [];
  for (let bit = known.length; bit < 53; bit += 1) if (Math.floor(bits / 2 ** bit) % 2 === 1) unknown.push(bit);
  return unknown;
}

/** Throws `ERR_STRAKE_UNKNOWN_FEATURE`, naming the bits, if the device cannot be opened as wanted. */
export function checkFeatures(superblock: Superblock, readOnly: boolean, path: string): void {
  const incompatible = unknownBits(superblock.incompatible, INCOMPATIBLE_FEATURES);
  if (incompatible.length > 0) {
    const what = nameFeatures('incompatible', incompatible);
    throw new StrakeError('UNKNOWN_FEATURE', `${path} uses ${what}, which this program does not know`);
  }
  const writing = unknownBits(superblock.readOnlyCompatible, READ_ONLY_FEATURES);
  if (writing.length > 0 && !readOnly) {
    const what = nameFeatures('read-only-compatible', writing);
    throw new StrakeError('UNKNOWN_FEATURE', `${path} uses ${what}, which this program does not know`, {
      remedy: 'Open it read-only, or use a newer version of Strake.',
    });
  }
}
