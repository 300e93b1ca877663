/**
 * Single pages: superblock, root, directory, slots, replicas, and the pages of volumes that were before those.
 *
 * The first byte of an input chooses the kind, the rest is the page. A decoder either refuses a page, with the error that it
 * documents, or returns what can be written again and then reads the same: so what it lets pass is never what the store
 * could not keep.
 */

import * as assert from 'uvu/assert';
import { StrakeError } from '#strake/core/errors.js';
import type { SlotIndex } from '#strake/core/ids.js';
import { PageProblem, viewOf } from '#strake/layout/fields.js';
import type { FlushId } from '#strake/layout/flush-id.js';
import { type ReplicaMap, type ReplicaOwn, replicaOf } from '#strake/layout/replica-map.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { decodeDirectory, encodeDirectory } from '#strake/store/format/directory.js';
import {
  computeFirstLayout,
  computeLayout,
  DIRECTORY_ENTRIES,
  DIRECTORY_MAGIC,
  PAGE_BYTES,
  ROOT_BYTES,
  ROOT_VOLUMES,
  SLOT_ENTRIES,
  SLOT_ENTRY_BYTES,
} from '#strake/store/format/format.js';
import { absent } from '#strake/store/format/page.js';
import { decodeReplica, encodeReplica, type ReplicaRecord } from '#strake/store/format/replica-page.js';
import { decodeRoot, encodeRoot } from '#strake/store/format/root.js';
import { decodeSlots, encodeSlots } from '#strake/store/format/slot-page.js';
import {
  checkFeatures,
  decodeSuperblock,
  encodeSuperblock,
  FEATURE_GROUPS,
  type Superblock,
  SuperblockProblem,
} from '#strake/store/format/superblock.js';
import { decodeLegacy, type LegacyPage } from '#strake/store/format/volume-page.js';
import { SLOT_FLAG_REPLICA_DIRTY, SlotTable } from '#strake/store/running/slot-table.js';
import { CLUSTER_ID, DEVICE_ID, VOLUME_ID, volumeOf } from '../../support/sim-store.js';
import { encodeVolume } from '../../support/version-1-page.js';
import { demand, type FuzzTarget } from '../target.js';

const FLUSHED: FlushId = { generation: 7, flushNumber: 2 ** 40 + 1 };
const OWN: ReplicaOwn = { servedGeneration: 6, answered: false, flushed: FLUSHED, settled: FLUSHED };

const KINDS = 6;
const KIND_SLOTS = 3;
/** Of a slot's flags: reserved, and not kept. */
const NOT_KEPT = SLOT_FLAG_REPLICA_DIRTY;
const LAYOUT = computeLayout(8 << 20, 64 << 10);
const VOLUME_IDS = [VOLUME_ID, 'b'.repeat(32)];
const OWNERS = VOLUME_IDS.map((volumeId) => ({ volumeId, group: 3 }));
const position = (index: number, sequence: number) => ({ index, deviceId: DEVICE_ID, sequence });
const checksum = (bytes: Uint8Array) => crc32c(bytes);

type Decode = (page: Uint8Array) => unknown;
type Encode = (value: never, page: Uint8Array) => void;

function slotsOf(page: Uint8Array): SlotTable {
  const table = new SlotTable(2 * SLOT_ENTRIES, VOLUME_IDS.length);
  const view = viewOf(page);
  const ownerOf = (_words: Uint32Array, word: number, group: number) => {
    let id = '';
    for (let byte = 0; byte < 16; byte += 1)
      id += view
        .getUint8(4 * word + byte)
        .toString(16)
        .padStart(2, '0');
    return group === 3 || group === 0 ? VOLUME_IDS.indexOf(id) : -1;
  };
  decodeSlots(page, 1, table, { deviceId: DEVICE_ID, groups: true, ownerOf });
  return table;
}

/** By kind: how to read it and to write it again. */
const CODECS: readonly (readonly [Decode, Encode])[] = [
  [
    (page) => {
      const superblock = decodeSuperblock(page, checksum);
      checkFeatures(superblock, true, 'the device');
      return superblock;
    },
    (superblock: Superblock, page) => encodeSuperblock(superblock, page, checksum),
  ],
  [
    (page) => decodeRoot(page, DEVICE_ID, LAYOUT, checksum),
    (root: ReturnType<typeof decodeRoot>, page) => encodeRoot(root, DEVICE_ID, page, checksum),
  ],
  [
    (page) => decodeDirectory(page, DIRECTORY_MAGIC, 0, DEVICE_ID),
    (references: ReturnType<typeof decodeDirectory>, page) =>
      encodeDirectory(page, DIRECTORY_MAGIC, position(0, 1), references),
  ],
  [slotsOf, (table: SlotTable, page) => encodeSlots(page, position(1, 1), table, OWNERS)],
  [
    (page) => {
      const { map, flushed } = decodeLegacy(page, 2, DEVICE_ID);
      return { map, flushed };
    },
    (found: LegacyPage, page) => encodeVolume(page, position(2, 1), found.map, found.flushed),
  ],
  [
    (page) => decodeReplica(page, 2, DEVICE_ID),
    (record: ReplicaRecord, page) => encodeReplica(page, position(2, 1), record),
  ],
];

function sizeOf(kind: number): number {
  return kind === 1 ? ROOT_BYTES : PAGE_BYTES;
}

/** An input of this kind, of what `write` puts into the page. */
function inputOf(kind: number, write: (page: Uint8Array) => void): Uint8Array {
  const bytes = new Uint8Array(1 + sizeOf(kind));
  bytes[0] = kind;
  const page = new Uint8Array(sizeOf(kind));
  write(page);
  bytes.set(page, 1);
  return bytes;
}

function corpus(): Uint8Array[] {
  const superblock: Superblock = {
    sequence: 7,
    deviceId: DEVICE_ID,
    clusterId: CLUSTER_ID,
    label: 'shelf 3',
    incompatible: FEATURE_GROUPS,
    readOnlyCompatible: 0,
    compatible: 5,
    logicalBlockBytes: 512,
    physicalBlockBytes: 4096,
    atomicWriteBytes: 512,
    incarnation: 9,
    state: 1,
    formattedMs: 1_700_000_000_000,
    leaseMs: 2000,
    layout: LAYOUT,
  };
  const reference = (at: number) => ({ present: at % 3 !== 0, place: at % 2, checksum: at * 77_777 });
  const root = {
    sequence: 12,
    journalPage: 5,
    journalSequence: 40,
    durableSequence: 38,
    usedSlots: 3,
    directory: Array.from({ length: LAYOUT.directoryPages }, (_, at) => reference(at + 1)),
    volumes: Array.from({ length: ROOT_VOLUMES }, (_, at) =>
      at < LAYOUT.volumeDirectoryPages ? reference(at + 1) : absent(),
    ),
    active: [1, 5, 9],
  };
  const table = new SlotTable(2 * SLOT_ENTRIES, VOLUME_IDS.length);
  for (let entry = 0; entry < 8; entry += 1)
    table.assign((SLOT_ENTRIES + 3 * entry) as SlotIndex, entry % 2, entry * 5, entry % 3);
  const member = volumeOf().groups[0][0];
  const other = { ...member, deviceId: '9'.repeat(32), state: 'offline' as const };
  const mirror = { ...volumeOf('b'.repeat(32)), layout: 'mirror', copies: 2, name: 'größe' } as const;
  const twoGroups = {
    ...mirror,
    versions: [7, 9],
    groups: [
      [member, other],
      [other, member],
    ],
  };
  const whole = replicaOf(volumeOf(), 0);
  const members = whole.members.map((one) => ({ ...one, joined: 2 ** 33 + 5 }));
  const held: ReplicaMap = { ...whole, members, holder: '7'.repeat(32), lease: 'shared' };
  return [
    inputOf(0, (page) => encodeSuperblock(superblock, page, checksum)),
    inputOf(1, (page) => encodeRoot(root, DEVICE_ID, page, checksum)),
    inputOf(0, (page) =>
      encodeSuperblock({ ...superblock, layout: computeLayout(8 << 20, 64 << 10, 1) }, page, checksum),
    ),
    inputOf(0, (page) =>
      encodeSuperblock({ ...superblock, layout: computeFirstLayout(8 << 20, 64 << 10) }, page, checksum),
    ),
    inputOf(2, (page) => {
      const references = Array.from({ length: DIRECTORY_ENTRIES }, (_, at) => reference(at));
      encodeDirectory(page, DIRECTORY_MAGIC, position(0, 3), references);
    }),
    inputOf(3, (page) => encodeSlots(page, position(1, 4), table, OWNERS)),
    inputOf(4, (page) => encodeVolume(page, position(2, 5), volumeOf(), FLUSHED)),
    inputOf(4, (page) => encodeVolume(page, position(2, 5), { ...volumeOf(), name: 'ü'.repeat(127) }, FLUSHED)),
    inputOf(4, (page) => encodeVolume(page, position(2, 5), twoGroups, FLUSHED)),
    inputOf(5, (page) => encodeReplica(page, position(2, 5), { map: replicaOf(twoGroups, 1), own: OWN })),
    inputOf(5, (page) => encodeReplica(page, position(2, 5), { map: held, own: { ...OWN, answered: true } })),
  ];
}

/** Whether an error is one that a decoder may throw. */
function refuses(error: unknown): boolean {
  if (error instanceof PageProblem || error instanceof SuperblockProblem) return true;
  // Features of a superblock are told with the code that the user sees.
  if (error instanceof StrakeError) return error.code === 'ERR_STRAKE_UNKNOWN_FEATURE';
  return error instanceof RangeError && /is beyond 2\^5[23]$/.test(error.message);
}

/**
 * A table of slots without its hash table, whose order depends on the way to it; a superblock without a label that was
 * cut, which is for people only.
 */
function comparable(value: unknown): unknown {
  if (typeof value === 'object' && value !== null && 'label' in value && String(value.label).includes('\ufffd')) {
    return { ...value, label: '' };
  }
  if (!(value instanceof SlotTable)) return value;
  const { states, flags, volumes, members, stripes, generations, flushNumbers, tableChecksums, usedSlots } = value;
  return { states, flags, volumes, members, stripes, generations, flushNumbers, tableChecksums, usedSlots };
}

/** Fields of an entry that are zero in one from before groups, and written when the entry is: epoch and group. */
const WRITTEN_LATER: readonly number[] = [24, 62];

/** Whether the entries of two pages are the same, byte by byte. */
function sameSlots(page: Uint8Array, again: Uint8Array): boolean {
  return page.subarray(SLOT_ENTRY_BYTES).every((byte, at) => {
    const field = at % SLOT_ENTRY_BYTES;
    if (byte === 0 && WRITTEN_LATER.includes(field)) return true;
    return (byte & ~(field === 35 ? NOT_KEPT : 0)) === again[SLOT_ENTRY_BYTES + at];
  });
}

export const pages: FuzzTarget = {
  name: 'pages',
  covers: ['store'],
  bytesMax: 1 + ROOT_BYTES,
  corpus,
  reseal: (bytes) => {
    const kind = bytes[0] % KINDS;
    if (kind > 1 || bytes.length < 1 + sizeOf(kind)) return;
    const at = kind === 0 ? 12 : 4;
    const page = bytes.subarray(1, 1 + sizeOf(kind));
    const view = viewOf(page);
    view.setUint32(at, 0, true);
    view.setUint32(at, crc32c(page), true);
  },
  run: (bytes) => {
    const kind = (bytes[0] ?? 0) % KINDS;
    const [decode, encode] = CODECS[kind];
    const page = new Uint8Array(sizeOf(kind));
    page.set(bytes.subarray(1, 1 + page.length));
    const before = page.slice();
    let value: unknown;
    try {
      value = decode(page);
    } catch (error) {
      if (refuses(error)) return;
      throw error;
    } finally {
      demand(Buffer.from(before).equals(page), 'decoding has changed the page');
    }
    const again = new Uint8Array(page.length);
    encode(value as never, again);
    if (kind === KIND_SLOTS) demand(sameSlots(page, again), 'entries of slots lose something');
    assert.equal(
      comparable(decode(again)),
      comparable(value),
      `kind ${kind} reads differently once it is written again`,
    );
  },
};
