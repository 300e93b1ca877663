/**
 * Damaged device images as short programs: which device to begin with, and what is done to it.
 *
 * ```text
 *   0 device │ 1 what is resealed │ 2-3 new size, 0 for the old one │ then edits of 16 bytes:
 *   0 kind │ 1 region │ 2 bit, width or other device │ 3 other region │ 4 place │ 8 other place or length │ 12 value
 * ```
 *
 * So a change of some bytes is another sensible edit, and leaving out bytes is leaving out edits. All bytes mean something.
 */

import { viewOf } from '#strake/layout/fields.js';
import { SimDisk } from '#strake/sim/disk/disk.js';
import { crc32c } from '#strake/sim/world/crc32c.js';
import { SimRandom } from '#strake/sim/world/random.js';
import { type Layout, PAGE_BYTES, SEALED_BYTES } from '#strake/store/format/format.js';
import { formatDevice } from '#strake/store/opening/format-device.js';
import { openStore } from '#strake/store/opening/open-store.js';
import { type KnownDevice, knownDevice, putAll, type Range, resealTree } from '../support/damaged-store.js';
import { DirectMember } from '../support/direct-member.js';
import { diskOf, replicaMap, SimStore, VOLUME_ID } from '../support/sim-store.js';
import { interesting, putNumber } from './mutate.js';

const SECTOR = 512;
const HEADER_BYTES = 4;
const EDIT_BYTES = 16;
const EDITS_MAX = 24;
export const PROGRAM_BYTES_MAX = HEADER_BYTES + EDITS_MAX * EDIT_BYTES;
const RESEAL_TREE = 1;
const RESEAL_JOURNAL = 2;
const RESEAL_SUPERBLOCKS = 4;
const RESEAL_ALL = 7;

/** Edits, by kind. */
const FLIP = 0;
const NUMBER = 1;
const RANDOM = 2;
const ZERO = 3;
const COPY_PAGE = 4;
const SWAP_PAGES = 5;
const COPY_SECTOR = 6;
const OTHER_PAGE = 7;
const OTHER_TAIL = 8;
const OTHER_SECTOR = 9;
const KINDS = 10;

/** Devices to begin with, and to take pieces from. */
export interface FuzzDevices {
  readonly known: readonly KnownDevice[];
  /** Of `known` the first two, then one of the same volume on another device, one that is only formatted, and the rest of `known`. */
  readonly disks: readonly SimDisk[];
  readonly regions: readonly Range[];
}

/** Another member of the same volume: its blocks hold numbers that those of the others never did. */
async function otherMember(): Promise<SimDisk> {
  const disk = diskOf(6);
  const store = new SimStore(disk, 5);
  const deviceId = 'e'.repeat(32);
  await store.settle(formatDevice(store.ports, { deviceId, clusterId: 'c'.repeat(32), slotBytes: 64 << 10, nowMs: 1 }));
  store.opened = await store.settle(openStore(store.ports, { path: 'other' }, store.hooks));
  const index = await store.settle(store.opened.store.putReplica(replicaMap(VOLUME_ID, {}, deviceId)));
  store.member = new DirectMember(store.loop, store.opened.store, index);
  for (const stripe of [0, 1, 2, 3]) {
    const blocks = [0, 1, 2, 3, 5, 9].map((block): [number, number] => [block, 90_001 + 100 * stripe + block]);
    await putAll(store, new Map(), stripe, blocks);
    await store.settle(store.flush());
  }
  disk.kill(new SimRandom(1));
  return disk;
}

export async function fuzzDevices(): Promise<FuzzDevices> {
  const known = [await knownDevice('killed'), await knownDevice('closed')];
  // The same with an index of the directory.
  known.push(await knownDevice('killed', 1), await knownDevice('closed', 1));
  const empty = diskOf(6);
  await new SimStore(empty, 6).format();
  empty.kill(new SimRandom(1));
  const { layout } = known[0];
  const area = (what: string, from: number, to: number): Range => ({ what, from, to });
  const areas = [
    area('tree', layout.rootOffset, layout.journalOffset),
    area('journal', layout.journalOffset, layout.journalOffset + layout.journalPages * PAGE_BYTES),
    area('data', layout.dataOffset, layout.copyOffset),
    area('device', 0, layout.sizeBytes),
  ];
  const [first, second, ...indexed] = known.map(({ disk }) => disk);
  return { known, disks: [first, second, await otherMember(), empty, ...indexed], regions: areas };
}

/** A program of a few edits. */
export function generateProgram(random: SimRandom): Uint8Array {
  const edits = random.chance(0.4) ? 1 : 1 + random.below(6);
  const bytes = new Uint8Array(HEADER_BYTES + edits * EDIT_BYTES);
  const view = viewOf(bytes);
  bytes[0] = random.below(4);
  bytes[1] = random.chance(0.5) ? 0 : random.chance(0.6) ? RESEAL_ALL : random.below(8);
  if (random.chance(0.03)) view.setUint16(2, random.next() & 0xffff, true);
  for (let at = HEADER_BYTES; at < bytes.length; at += EDIT_BYTES) {
    bytes[at] = random.chance(0.4) ? random.below(2) : random.below(KINDS);
    for (let index = 1; index < 4; index += 1) bytes[at + index] = random.below(256);
    // The fields of most structures are in their first bytes.
    view.setUint32(at + 4, random.chance(0.6) ? random.below(160) : random.next(), true);
    view.setUint32(at + 8, random.next(), true);
    view.setUint32(at + 12, random.next(), true);
  }
  return bytes;
}

/** What a program makes. */
export interface Damaged {
  readonly disk: SimDisk;
  readonly base: KnownDevice;
  /** No checksum was put right: what the device says of blocks has to hold. */
  readonly honest: boolean;
  /** One edit of at most 8 bytes: nothing of it may go unnoticed. */
  readonly small: boolean;
}

class Editor {
  private readonly devices: FuzzDevices;
  private readonly base: KnownDevice;
  private readonly disk: SimDisk;

  constructor(devices: FuzzDevices, base: KnownDevice, disk: SimDisk) {
    this.devices = devices;
    this.base = base;
    this.disk = disk;
  }

  private region(number: number): Range {
    const { live } = this.base;
    const { regions } = this.devices;
    // What is needed is small, and chosen mostly.
    return number < 192 ? live[number % live.length] : regions[number % regions.length];
  }

  private page(region: Range, place: number): number {
    return region.from + (place % ((region.to - region.from) / PAGE_BYTES)) * PAGE_BYTES;
  }

  /** Carries out the edit in these bytes. */
  apply(bytes: Uint8Array): void {
    const { disk, devices } = this;
    const view = viewOf(bytes);
    const region = this.region(bytes[1]);
    const other = this.region(bytes[3]);
    const [place, second, value] = [4, 8, 12].map((at) => view.getUint32(at, true));
    const at = region.from + (place % (region.to - region.from));
    const page = this.page(region, place);
    const from = devices.disks[bytes[2] % devices.disks.length];
    const sector = second % (PAGE_BYTES / SECTOR);
    switch (bytes[0] % KINDS) {
      case FLIP:
        disk.flipBit(at, bytes[2] % 8);
        break;
      case NUMBER:
        this.number(at - (at % 4), [1, 2, 4, 8][bytes[2] % 4], value);
        break;
      case RANDOM:
        this.fill(at, [SECTOR, PAGE_BYTES, 64][bytes[2] % 3], new SimRandom(value));
        break;
      case ZERO:
        this.fill(at, [SECTOR, PAGE_BYTES, 64][bytes[2] % 3], null);
        break;
      case COPY_PAGE:
        disk.poke(page, disk.peek(this.page(other, second), PAGE_BYTES));
        break;
      case SWAP_PAGES: {
        const kept = disk.peek(page, PAGE_BYTES);
        disk.poke(page, disk.peek(this.page(other, second), PAGE_BYTES));
        disk.poke(this.page(other, second), kept);
        break;
      }
      case COPY_SECTOR:
        disk.poke(page + sector * SECTOR, disk.peek(this.page(other, second) + sector * SECTOR, SECTOR));
        break;
      case OTHER_PAGE:
        disk.poke(page, from.peek(page, PAGE_BYTES));
        break;
      case OTHER_TAIL:
        this.tail(from, page);
        break;
      case OTHER_SECTOR:
        disk.poke(page + sector * SECTOR, from.peek(page + sector * SECTOR, SECTOR));
        break;
    }
  }

  private number(at: number, width: number, value: number): void {
    const bytes = new Uint8Array(width);
    const random = new SimRandom(value);
    putNumber(bytes, 0, width, random.chance(0.7) ? interesting(random) : random.next(), true);
    this.disk.poke(at, bytes);
  }

  /** Random bytes, or zeroes. */
  private fill(at: number, length: number, random: SimRandom | null): void {
    const bytes = new Uint8Array(Math.min(length, this.disk.geometry.sizeBytes - at));
    for (let index = 0; index < bytes.length && random !== null; index += 1) bytes[index] = random.next();
    this.disk.poke(at, bytes);
  }

  /** Everything from `page` on as it is on another device. */
  private tail(from: SimDisk, page: number): void {
    copyPages(from, this.disk, page, this.base.layout.sizeBytes);
  }
}

function copyPages(from: SimDisk, to: SimDisk, start: number, end: number): void {
  for (let at = start; at < end; at += PAGE_BYTES) {
    const bytes = from.peek(at, Math.min(PAGE_BYTES, end - at));
    if (Buffer.compare(bytes, to.peek(at, bytes.length)) !== 0) to.poke(at, bytes);
  }
}

function resealJournal(disk: SimDisk, layout: Layout): void {
  for (let page = 0; page < layout.journalPages; page += 1) {
    const offset = layout.journalOffset + page * PAGE_BYTES;
    const bytes = disk.peek(offset, PAGE_BYTES);
    if (bytes.every((byte) => byte === 0)) continue;
    for (let at = 0; at < PAGE_BYTES; at += SECTOR) {
      if (bytes.subarray(at, at + SECTOR).every((byte) => byte === 0)) continue;
      viewOf(bytes).setUint32(at + SEALED_BYTES + 4, crc32c(bytes, at, SEALED_BYTES + 4), true);
    }
    disk.poke(offset, bytes);
  }
}

function resealSuperblocks(disk: SimDisk, layout: Layout): void {
  for (const offset of [0, layout.copyOffset]) {
    const page = disk.peek(offset, PAGE_BYTES);
    viewOf(page).setUint32(12, 0, true);
    viewOf(page).setUint32(12, crc32c(page), true);
    disk.poke(offset, page);
  }
}

/** The same content on a disk of another size. */
function resized(disk: SimDisk, number: number): SimDisk {
  const sectors = Math.max(8, Math.floor((disk.geometry.sizeBytes * 1.25 * number) / 0xffff / SECTOR));
  const other = new SimDisk({ sizeBytes: sectors * SECTOR });
  copyPages(disk, other, 0, Math.min(disk.geometry.sizeBytes, other.geometry.sizeBytes));
  return other;
}

/** Carries out a program. */
export function runProgram(devices: FuzzDevices, program: Uint8Array): Damaged {
  const bytes = new Uint8Array(Math.max(HEADER_BYTES, program.length));
  bytes.set(program);
  const base = devices.known[bytes[0] % devices.known.length];
  const { layout } = base;
  let disk = base.disk.clone();
  const editor = new Editor(devices, base, disk);
  let edits = 0;
  let wide = 0;
  for (let at = HEADER_BYTES; at + EDIT_BYTES <= bytes.length && edits < EDITS_MAX; at += EDIT_BYTES) {
    edits += 1;
    if (bytes[at] % KINDS > NUMBER) wide += 1;
    editor.apply(bytes.subarray(at, at + EDIT_BYTES));
  }
  const reseal = bytes[1] & RESEAL_ALL;
  if ((reseal & RESEAL_TREE) !== 0) resealTree(disk, layout);
  if ((reseal & RESEAL_JOURNAL) !== 0) resealJournal(disk, layout);
  if ((reseal & RESEAL_SUPERBLOCKS) !== 0) resealSuperblocks(disk, layout);
  const size = viewOf(bytes).getUint16(2, true);
  if (size > 0) disk = resized(disk, size);
  return { disk, base, honest: reseal === 0, small: edits === 1 && wide === 0 && size === 0 };
}
