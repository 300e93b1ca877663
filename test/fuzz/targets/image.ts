/**
 * Recovery of whole devices: `fsck`, `dump`, opening, reading, and a second life after that, on images with damage of every
 * kind (`image-edits.ts`).
 *
 * Each of them ends, with an error that has a code or without one. Where no checksum was put right behind the damage, a
 * block reads as something that it once held, or as an error: never as garbage, as another block, or as another device's. A
 * device that is refused as damaged is one that `fsck` calls so.
 */

import { StrakeError } from '#strake/core/errors.js';
import type { SimDisk } from '#strake/sim/disk/disk.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import type { SimRandom } from '#strake/sim/world/random.js';
import { type DumpRequest, dumpDevice } from '#strake/store/checking/dump.js';
import { checkDevice, type FsckVerdict } from '#strake/store/checking/fsck.js';
import type { ImageReader } from '#strake/store/opening/image-reader.js';
import { openStore } from '#strake/store/opening/open-store.js';
import { STRIPES } from '../../support/damaged-store.js';
import { DirectMember } from '../../support/direct-member.js';
import { BLOCK, DEVICE_ID, SimStore, SLOT_BLOCKS, VOLUME_ID } from '../../support/sim-store.js';
import {
  type Damaged,
  type FuzzDevices,
  fuzzDevices,
  generateProgram,
  PROGRAM_BYTES_MAX,
  runProgram,
} from '../image-edits.js';
import { demand, type FuzzTarget } from '../target.js';

/** What checking, or showing one thing, may read: each structure twice, and some. */
const READS = 4;
/** EBADMSG and ENODATA: errors of blocks that are known to be wrong. */
const BLOCK_ERRORS: readonly number[] = [-74, -61];
const REQUESTS: readonly DumpRequest[] = [
  { what: 'superblock' },
  { what: 'root' },
  { what: 'volumes' },
  { what: 'slots' },
  { what: 'journal' },
  { what: 'table', slot: 0 },
  { what: 'table', slot: 3 },
];

/** Reads of a disk at rest, of which there may only be so many. */
function boundedReader(disk: SimDisk): ImageReader {
  const { sizeBytes } = disk.geometry;
  let left = READS * (sizeBytes + (1 << 20));
  return {
    sizeBytes,
    checksum: (bytes) => crc32c(bytes),
    read: (offset, length) => {
      left -= length;
      demand(left >= 0, `more is read than ${READS} times the device`);
      demand(offset >= 0 && offset + length <= sizeBytes, `a read of ${length} bytes at ${offset} beyond the end`);
      return Promise.resolve(disk.peek(offset, length));
    },
  };
}

/** What `work` returns; undefined if it is refused with a code. Anything else that is thrown is a finding. */
async function orRefused<T>(work: Promise<T>): Promise<T | StrakeError> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof StrakeError) return error;
    throw error;
  }
}

async function look(disk: SimDisk, random: SimRandom): Promise<FsckVerdict> {
  const { verdict } = await checkDevice(boundedReader(disk), { data: true });
  const request = random.pick(REQUESTS);
  const shown = await orRefused(dumpDevice(boundedReader(disk), request));
  // A slot that does not exist is the only thing that it may refuse: no read fails here.
  const fine = !(shown instanceof StrakeError) || shown.code === 'ERR_STRAKE_INVALID_ARGUMENT';
  demand(fine, `dump refuses ${JSON.stringify(request)}: ${shown instanceof StrakeError && shown.message}`);
  JSON.stringify(shown);
  return verdict;
}

/** Opens the device. Returns the store, or why it was refused. */
async function open(disk: SimDisk, seed: number): Promise<SimStore | StrakeError> {
  const store = new SimStore(disk, seed);
  const opened = await orRefused(
    store.settle(openStore(store.ports, { path: 'disk', deviceId: DEVICE_ID }, store.hooks)),
  );
  if (opened instanceof StrakeError) return opened;
  store.opened = opened;
  const index = opened.store.volumeTable.indexOf(VOLUME_ID, 0);
  if (index >= 0) store.member = new DirectMember(store.loop, opened.store, index);
  return store;
}

/** The number that fills a block; -1 if none does. */
function filling(bytes: Uint8Array, at: number): number {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset + at, BLOCK / 4);
  return words.every((word) => word === words[0]) ? words[0] : -1;
}

class Judge {
  private readonly damaged: Damaged;

  constructor(damaged: Damaged) {
    this.damaged = damaged;
  }

  /** Reads everything, at once where that succeeds. */
  async readAll(store: SimStore): Promise<void> {
    for (let stripe = 0; stripe < STRIPES; stripe += 1) {
      if (await this.read(store, stripe, 0, SLOT_BLOCKS)) continue;
      for (let block = 0; block < SLOT_BLOCKS; block += 1) await this.read(store, stripe, block, 1);
    }
  }

  private async read(store: SimStore, stripe: number, block: number, blocks: number): Promise<boolean> {
    const bytes = await store.settle(store.readBytes(stripe, block, blocks));
    if (typeof bytes === 'number') {
      demand(BLOCK_ERRORS.includes(bytes), `reading stripe ${stripe}, block ${block} gives ${bytes}`);
      return false;
    }
    for (let index = 0; index < blocks; index += 1) {
      this.judge(stripe * SLOT_BLOCKS + block + index, filling(bytes, index * BLOCK));
    }
    return true;
  }

  private judge(key: number, value: number): void {
    const { base, honest, small } = this.damaged;
    const { expected, ever } = base;
    const right = value === (expected.get(key) ?? 0);
    const once = value === 0 || ever.get(key)?.has(value) === true;
    demand(!honest || (small ? right : once), `block ${key} holds ${value} and not ${expected.get(key) ?? 0}`);
  }
}

/** Writes and flushes: what was recovered can be worked with. */
async function use(store: SimStore): Promise<void> {
  if (!store.member.has(0)) await store.settle(store.allocate(0));
  await store.settle(store.write(0, 3, 1, 77));
  await store.settle(store.zero(1, 0, SLOT_BLOCKS, true, 90));
  await store.settle(store.allocate(9));
  await store.settle(store.write(9, 1, 1, 78));
  await store.settle(store.flush());
}

async function judge(damaged: Damaged, random: SimRandom): Promise<void> {
  const { disk } = damaged;
  const verdict = await look(disk, random);
  const store = await open(disk, random.next());
  if (store instanceof StrakeError) {
    const { code, message } = store;
    demand(code !== 'ERR_STRAKE_DAMAGED' || verdict === 'damaged', `refused, and fsck says ${verdict}: ${message}`);
    demand(code !== 'ERR_STRAKE_IO', `an I/O error where nothing failed: ${message}`);
    return;
  }
  if (store.member !== undefined) await new Judge(damaged).readAll(store);
  if (random.chance(0.75)) return;
  // What recovery made of it is whole, so a second life finds nothing more.
  if (store.member !== undefined && random.chance(0.7)) await use(store);
  await store.settle(store.opened.checkpointer.close());
  store.opened.store.dispose();
  store.device.close();
  const again = await open(disk, random.next());
  if (again instanceof StrakeError) throw new Error(`it was opened once, and no more: ${again.message}`);
}

let devices: FuzzDevices | undefined;

export const image: FuzzTarget = {
  name: 'image',
  covers: ['store'],
  bytesMax: PROGRAM_BYTES_MAX,
  corpus: async () => {
    devices = await fuzzDevices();
    return [Uint8Array.of(0, 0, 0, 0), Uint8Array.of(1, 0, 0, 0), Uint8Array.of(0, 7, 0, 0), Uint8Array.of(1, 7, 0, 0)];
  },
  generate: generateProgram,
  run: async (bytes, random) => {
    devices ??= await fuzzDevices();
    await judge(runProgram(devices, bytes), random);
  },
};
