/** Small devices whose every block is known, so that damage can be done to them and its outcome judged. */

import { StrakeError } from '#strake/core/errors.js';
import { viewOf } from '#strake/layout/fields.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { dumpDevice } from '#strake/store/checking/dump.js';
import { checkDevice, type FsckReport } from '#strake/store/checking/fsck.js';
import { decodeDirectory } from '#strake/store/format/directory.js';
import {
  DIRECTORY_ENTRIES,
  DIRECTORY_INDEX_MAGIC,
  DIRECTORY_MAGIC,
  type Layout,
  pageOffset,
  ROOT_BYTES,
} from '#strake/store/format/format.js';
import type { ImageReader } from '#strake/store/opening/image-reader.js';
import { openStore } from '#strake/store/opening/open-store.js';
import { DirectMember } from './direct-member.js';
import { BLOCK, DEVICE_ID, diskOf, randomOf, SimStore, SLOT, SLOT_BLOCKS, VOLUME_ID } from './sim-store.js';

export const STRIPES = 4;

/** What a reader returns is valid until its next read, and all readers take turns. */
const readBytes = new Uint8Array(1 << 20);

/** A disk at rest, as something to read images from. */
export function readerOf(disk: SimDisk, sizeBytes = disk.geometry.sizeBytes): ImageReader {
  return {
    sizeBytes,
    checksum: (bytes) => crc32c(bytes),
    read: (offset, length) => {
      if (offset + length > sizeBytes) throw new Error(`a read of ${length} bytes at ${offset} beyond the end`);
      return Promise.resolve(disk.peek(offset, length, readBytes.subarray(0, length)));
    },
  };
}

export function fsck(disk: SimDisk, data = false): Promise<FsckReport> {
  return checkDevice(readerOf(disk), { data });
}

/** What each block of each stripe holds: the number that fills it. */
export type Expected = Map<number, number>;

/** A range of the device, `to` exclusive, and what lies there. */
export interface Range {
  readonly what: string;
  readonly from: number;
  readonly to: number;
}

/** Likewise, with each number that ever filled a block. */
class ExpectedEver extends Map<number, number> {
  readonly ever = new Map<number, Set<number>>();

  override set(key: number, value: number): this {
    const before = this.ever.get(key);
    if (before === undefined) this.ever.set(key, new Set([value]));
    else before.add(value);
    return super.set(key, value);
  }
}

export interface KnownDevice {
  readonly disk: SimDisk;
  readonly layout: Layout;
  readonly expected: Expected;
  /** What filled each block at any time. */
  readonly ever: ReadonlyMap<number, ReadonlySet<number>>;
  /** Metadata that is needed: a change of any bit of it has to be noticed. */
  readonly live: readonly Range[];
}

/** Writes blocks, all at once, and notes what they hold. */
export async function putAll(store: SimStore, expected: Expected, stripe: number, values: readonly [number, number][]) {
  if (!store.member.has(stripe)) await store.settle(store.allocate(stripe));
  const writes = values.map(([block, value]) => store.write(stripe, block, 1, value));
  const results = await store.settle(Promise.all(writes));
  if (results.some((result) => result !== BLOCK)) throw new Error(`writes ended with ${results.join(' ')}`);
  for (const [block, value] of values) expected.set(stripe * SLOT_BLOCKS + block, value);
}

/**
 * A device with a tree, and, unless it is closed, with a journal of several batches that the tree does not have:
 * overwrites, first writes, a zeroed range, a slot given back and others given away. `directoryLevels`: 1 for a directory with an
 * index.
 */
export async function knownDevice(how: 'killed' | 'closed', directoryLevels = 0): Promise<KnownDevice> {
  const disk = diskOf(6);
  const expected = new ExpectedEver();
  let store = new SimStore(disk, 1);
  await store.format(SLOT, directoryLevels);
  await store.open();
  for (const stripe of [0, 1, 2]) {
    const value = 1000 * stripe;
    await putAll(store, expected, stripe, [
      [0, value + 1],
      [1, value + 2],
      [2, value + 3],
      [5, value + 4],
    ]);
  }
  await store.close();
  store = new SimStore(disk, 2);
  await store.open();
  await putAll(store, expected, 0, [
    [2, 7001],
    [9, 7002],
  ]);
  await store.settle(store.flush());
  // Stripe 1 is left alone, so its table is not read before it is needed.
  await store.settle(store.zero(0, 0, 2, false, 50));
  for (const block of [0, 1]) expected.set(block, 0);
  await store.settle(store.zero(2, 0, SLOT_BLOCKS, true, 51));
  for (let block = 0; block < SLOT_BLOCKS; block += 1) expected.set(2 * SLOT_BLOCKS + block, 0);
  await store.settle(store.flush());
  await putAll(store, expected, 3, [
    [0, 7100],
    [1, 7101],
    [14, 7102],
  ]);
  if (how === 'closed') await store.close();
  else disk.kill(randomOf(3));
  const { superblock } = await fsck(disk);
  if (superblock === undefined) throw new Error('the device cannot be read');
  const { layout } = superblock;
  return { disk, layout, expected, ever: expected.ever, live: await liveRanges(disk, layout) };
}

interface Placed {
  readonly index: number;
  readonly offset: number;
}

/** Everything of the metadata that opening or serving needs, of a device with a directory of one page. */
async function liveRanges(disk: SimDisk, layout: Layout): Promise<Range[]> {
  const reader = readerOf(disk);
  const page = (what: string, from: number, bytes = BLOCK): Range => ({ what, from, to: from + bytes });
  const ranges = [page('superblock', 0), page('superblock', layout.copyOffset)];
  const { roots } = (await dumpDevice(reader, { what: 'root' })) as unknown as {
    roots: {
      offset: number;
      sequence: number;
      volumeDirectory: Placed[];
      directory?: Placed[];
      directoryIndex?: Placed[];
    }[];
  };
  for (const { offset } of roots) ranges.push(page('root', offset, 16 << 10));
  const [newest] = roots.toSorted((one, other) => other.sequence - one.sequence);
  for (const { offset } of newest.volumeDirectory) ranges.push(page('volume directory', offset));
  const { volumes } = (await dumpDevice(reader, { what: 'volumes' })) as unknown as {
    volumes: { offset: number | null }[];
  };
  for (const { offset } of volumes) if (offset !== null) ranges.push(page('volume', offset));
  const directory = newest.directory ?? [];
  for (const { index, offset } of newest.directoryIndex ?? []) {
    ranges.push(page('directory index', offset));
    decodeDirectory(disk.peek(offset, BLOCK), DIRECTORY_INDEX_MAGIC, index, DEVICE_ID).forEach(
      ({ present, place }, at) => {
        const number = index * DIRECTORY_ENTRIES + at;
        if (present) directory.push({ index: number, offset: pageOffset(layout.directoryOffset, number, place) });
      },
    );
  }
  for (const { index, offset } of directory) {
    ranges.push(page('directory', offset));
    decodeDirectory(disk.peek(offset, BLOCK), DIRECTORY_MAGIC, index, DEVICE_ID).forEach(({ present, place }, at) => {
      const slotPage = index * DIRECTORY_ENTRIES + at;
      if (present) ranges.push(page('slots', pageOffset(layout.slotTableOffset, slotPage, place)));
    });
  }
  const { slots } = (await dumpDevice(reader, { what: 'slots' })) as unknown as { slots: { table: Placed | null }[] };
  for (const { table } of slots) if (table !== null) ranges.push(page('table', table.offset));
  const { batches } = (await dumpDevice(reader, { what: 'journal' })) as unknown as {
    batches: { offset: number; pages: number }[];
  };
  for (const { offset, pages } of batches) ranges.push(page('journal', offset, pages * BLOCK));
  return ranges;
}

/** How opening a device and reading all of it went. */
export interface Outcome {
  /** The code with which it was not opened; empty if it was. */
  readonly refused: string;
  /** Blocks whose reading gave an error, by errno. */
  readonly errors: Map<number, number>;
  readonly store: SimStore;
}

/**
 * Opens a device, accepting nothing that is in doubt, and reads all of it. Throws if any block holds what it must not,
 * or if what is thrown is no `StrakeError`.
 */
export async function openAndRead(disk: SimDisk, expected: Expected, seed = 9): Promise<Outcome> {
  const store = new SimStore(disk, seed);
  const errors = new Map<number, number>();
  try {
    store.opened = await store.settle(openStore(store.ports, { path: 'disk' }, store.hooks));
  } catch (error) {
    if (!(error instanceof StrakeError)) throw error;
    return { refused: error.code, errors, store };
  }
  const index = store.opened.store.volumeTable.indexOf(VOLUME_ID, 0);
  if (index < 0) throw new Error('the volume is gone, and nobody was told');
  store.member = new DirectMember(store.loop, store.opened.store, index);
  await readAll(store, expected, errors);
  return { refused: '', errors, store };
}

/** What blocks of a stripe must hold. */
function contentOf(expected: Expected, stripe: number, block: number, blocks: number): Buffer {
  const words = new Uint32Array((blocks * BLOCK) / 4);
  for (let at = 0; at < blocks; at += 1) {
    const value = expected.get(stripe * SLOT_BLOCKS + block + at) ?? 0;
    words.fill(value, (at * BLOCK) / 4, ((at + 1) * BLOCK) / 4);
  }
  return Buffer.from(words.buffer);
}

/** Reads blocks and compares them. Returns 0 or the errno that reading gave; throws if they hold what they must not. */
async function readRight(store: SimStore, expected: Expected, stripe: number, block: number, blocks: number) {
  const bytes = await store.settle(store.readBytes(stripe, block, blocks));
  if (typeof bytes === 'number') return bytes;
  if (contentOf(expected, stripe, block, blocks).equals(bytes)) return 0;
  const found = new Uint32Array(bytes.buffer, bytes.byteOffset, 1)[0];
  throw new Error(`stripe ${stripe}, ${blocks} blocks from ${block} on: wrong data, beginning with ${found}`);
}

/** Reads all blocks, one by one where not all at once; throws if one holds what it must not. Adds to `errors`. */
export async function readAll(store: SimStore, expected: Expected, errors: Map<number, number>): Promise<void> {
  for (let stripe = 0; stripe < STRIPES; stripe += 1) {
    if ((await readRight(store, expected, stripe, 0, SLOT_BLOCKS)) === 0) continue;
    for (let block = 0; block < SLOT_BLOCKS; block += 1) {
      const result = await readRight(store, expected, stripe, block, 1);
      if (result !== 0) errors.set(result, (errors.get(result) ?? 0) + 1);
    }
  }
}

/** How the flips of a device ended. */
export interface FlipCounts {
  flips: number;
  /** Not opened, opened with errors on reading, opened and all right. */
  refused: number;
  unreadable: number;
  right: number;
}

/**
 * Flips one bit, and judges what comes of it: no wrong data, no error without a code, and with `check` a report of
 * `fsck` that names a problem. Throws otherwise, naming the flip.
 */
export async function flipOne(
  device: KnownDevice,
  what: string,
  at: number,
  bit: number,
  counts: FlipCounts,
  check: boolean,
) {
  const name = `bit ${bit} of byte ${at} (${what})`;
  const disk = device.disk.clone();
  disk.flipBit(at, bit);
  if (check && (await fsck(disk)).problems.length === 0) throw new Error(`${name}: fsck finds nothing`);
  counts.flips += 1;
  try {
    const { refused, errors } = await openAndRead(disk, device.expected);
    if (refused !== '') counts.refused += 1;
    else if (errors.size > 0) counts.unreadable += 1;
    else counts.right += 1;
    for (const errno of errors.keys()) if (![-74, -61].includes(errno)) throw new Error(`reading gives ${errno}`);
  } catch (error) {
    throw new Error(`${name}: ${(error as Error).message}`);
  }
}

/**
 * Puts the checksums of a tree right, from the leaves to the newest root, so that what a test has put into its pages is
 * found by what it says. Only for devices with one page of the directory.
 */
export function resealTree(disk: SimDisk, layout: Layout): void {
  const rootOffset = newestRoot(disk, layout);
  const root = disk.peek(rootOffset, ROOT_BYTES);
  const rootView = viewOf(root);
  const reseal = (view: DataView, at: number, region: number, index: number) => {
    const flags = view.getUint32(at + 4, true);
    if ((flags & 1) === 0 || flags > 3) return;
    const offset = pageOffset(region, index, flags >> 1);
    if (region === layout.directoryOffset) resealDirectory(disk, layout, offset);
    else if (region === layout.directoryIndexOffset) resealIndex(disk, layout, offset);
    if (region === layout.volumeDirectoryOffset) resealVolumes(disk, layout, index, offset);
    view.setUint32(at, crc32c(disk.peek(offset, BLOCK)), true);
  };
  reseal(rootView, 128, layout.directoryIndexPages > 0 ? layout.directoryIndexOffset : layout.directoryOffset, 0);
  // Of a device from before the feature groups, the root leads to the pages of volumes.
  const volumes = layout.volumeDirectoryPages > 0 ? layout.volumeDirectoryOffset : layout.volumesOffset;
  for (let index = 0; index < 256; index += 1) reseal(rootView, 128 + 8192 + 8 * index, volumes, index);
  rootView.setUint32(4, 0, true);
  rootView.setUint32(4, crc32c(root), true);
  disk.poke(rootOffset, root);
}

/** Where the newest root lies. */
export function newestRoot(disk: SimDisk, layout: Layout): number {
  const offsets = [layout.rootOffset, layout.rootOffset + ROOT_BYTES];
  const sequences = offsets.map((offset) => viewOf(disk.peek(offset, BLOCK)).getUint32(8, true));
  return offsets[sequences[1] > sequences[0] ? 1 : 0];
}

function resealIndex(disk: SimDisk, layout: Layout, offset: number): void {
  const page = disk.peek(offset, BLOCK);
  const view = viewOf(page);
  const flags = view.getUint32(32 + 4, true);
  if ((flags & 1) === 0 || flags > 3) return;
  const directoryOffset = pageOffset(layout.directoryOffset, 0, flags >> 1);
  resealDirectory(disk, layout, directoryOffset);
  view.setUint32(32, crc32c(disk.peek(directoryOffset, BLOCK)), true);
  disk.poke(offset, page);
}

function resealDirectory(disk: SimDisk, layout: Layout, offset: number): void {
  const page = disk.peek(offset, BLOCK);
  const view = viewOf(page);
  for (let index = 0; index < layout.slotPages; index += 1) {
    const flags = view.getUint32(32 + 8 * index + 4, true);
    if ((flags & 1) === 0 || flags > 3) continue;
    const slotsOffset = pageOffset(layout.slotTableOffset, index, flags >> 1);
    resealSlots(disk, layout, index, slotsOffset);
    view.setUint32(32 + 8 * index, crc32c(disk.peek(slotsOffset, BLOCK)), true);
  }
  disk.poke(offset, page);
}

function resealVolumes(disk: SimDisk, layout: Layout, index: number, offset: number): void {
  if (layout.volumeDirectoryPages === 0) return;
  const page = disk.peek(offset, BLOCK);
  const view = viewOf(page);
  for (let at = 0; at < DIRECTORY_ENTRIES; at += 1) {
    const flags = view.getUint32(32 + 8 * at + 4, true);
    if ((flags & 1) === 0 || flags > 3) continue;
    const volume = pageOffset(layout.volumesOffset, index * DIRECTORY_ENTRIES + at, flags >> 1);
    view.setUint32(32 + 8 * at, crc32c(disk.peek(volume, BLOCK)), true);
  }
  disk.poke(offset, page);
}

function resealSlots(disk: SimDisk, layout: Layout, index: number, offset: number): void {
  const page = disk.peek(offset, BLOCK);
  const view = viewOf(page);
  for (let entry = 0; entry < 31; entry += 1) {
    const at = (entry + 1) * 128;
    const flags = view.getUint8(at + 35);
    if ((flags & 2) === 0) continue;
    const table = pageOffset(layout.blockTableOffset, index * 31 + entry, (flags >> 2) & 1);
    view.setUint32(at + 56, crc32c(disk.peek(table, BLOCK)), true);
  }
  disk.poke(offset, page);
}

/** Changes bytes of the newest root, and puts its checksum right. */
export function changeRoot(disk: SimDisk, layout: Layout, change: (view: DataView) => void): void {
  const offset = newestRoot(disk, layout);
  const root = disk.peek(offset, ROOT_BYTES);
  change(viewOf(root));
  disk.poke(offset, root);
  resealTree(disk, layout);
}
