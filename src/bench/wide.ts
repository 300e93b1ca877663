/**
 * Rows of volumes with more segments than have active intents at a time: the device, what is asked of it, and what is noted
 * in each second of a minute.
 *
 * The file is allocated and written whole once in a run, so that a file system has nothing to allocate: slots that are written
 * for the first time by a cell would be holes otherwise, as formatting discards. Its slots are as small as they can be, as their
 * number is what counts.
 *
 * A cell of `wide` is over after so many writes that a log of small writes, which devices do not have yet, would be half full at
 * most: it measures what a burst costs. `wide-minute` goes on for a minute, what is put off meanwhile included.
 */

import { existsSync } from 'node:fs';
import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { BLOCK_BYTES } from '../core/limits.js';
import { type Course, type FioJob, type FioTarget, LOGGED_MS, runFio } from './fio.js';
import { VOLUME } from './node-main.js';
import { NodeProcess, prepareDevices, writeFreeSlots } from './node-process.js';
import { settle } from './processes.js';
import { ROWS, type Row } from './rows.js';

const MIB = 1 << 20;
/** The smallest slots that a device may have. */
const SLOT_BYTES = 64 << 10;
const MINUTE_SECONDS = 60;
/** Of the slots of the device whose tables do not fit in memory: 20,000 segments of 100,000. */
const SEGMENTS_SHARE = 0.2;
/** Bytes of the file for each byte of the volume: a device of 4 GiB for 20,000 segments has a log of 256 MiB. */
const ROOM = 3.28;
/** Segments that are written to before a cell is measured; all have active intents then. */
const WARM_UP_SEGMENTS = 64;
const DIRECTIONS_MAX = 2;

/** A device with many segments. */
export interface WideShape {
  readonly deviceBytes: number;
  readonly volumeBytes: number;
  /** The part in which to warm up. */
  readonly warmUpBytes: number;
  /** Writes of a cell: what half of a log would hold. */
  readonly writes: number;
}

/** Bytes that a log of small writes would have on a device: 1/64 of it, but 256 MiB or 1/16 of a small one, and 1 GiB at most. */
function logBytes(deviceBytes: number): number {
  return Math.min(Math.max(deviceBytes / 64, Math.min(256 * MIB, deviceBytes / 16)), 1024 * MIB);
}

/** What a device is like of which `SEGMENTS_SHARE` of so many slots are segments. */
export function wideShape(slots: number): WideShape {
  const segments = Math.floor(slots * SEGMENTS_SHARE);
  const volumeBytes = segments * SLOT_BYTES;
  const deviceBytes = Math.ceil((volumeBytes * ROOM) / MIB) * MIB;
  // A write by itself takes two blocks of the log, one of which says what the other is.
  const writes = Math.floor(logBytes(deviceBytes) / 2 / (2 * BLOCK_BYTES));
  const warmUpBytes = Math.min(WARM_UP_SEGMENTS, segments) * SLOT_BYTES;
  return { deviceBytes, volumeBytes, warmUpBytes, writes };
}

/** Where its volume can be reached while a node serves it. */
function uriOf(socket: string): { readonly uri: string } {
  return { uri: `nbd+unix:///${VOLUME}?socket=${socket}` };
}

/** Writes the whole volume once. */
async function fill(folder: string, file: string, volumeBytes: number): Promise<void> {
  const socket = join(folder, 'node.sock');
  const node = await NodeProcess.start({ files: [file], socket });
  try {
    const row = ROWS.find(({ id }) => id === 'nbd.write.1m.qd16') as Row;
    await runFio(row, uriOf(socket), volumeBytes, 0, { requests: Math.ceil(volumeBytes / row.blockBytes) });
  } finally {
    await node.stop();
  }
  await settle(file);
}

/** A device of this shape, all segments of whose volume are written; it is made once per folder. */
export async function wideDevice(folder: string, { deviceBytes, volumeBytes }: WideShape): Promise<string> {
  const file = join(folder, `wide-${volumeBytes / SLOT_BYTES}.img`);
  if (existsSync(file)) return file;
  const handle = await open(file, 'wx');
  try {
    await handle.truncate(deviceBytes);
    const task = { files: [file], volumeBytes, warmUpBytes: 0, fill: 'none', slotBytes: SLOT_BYTES } as const;
    await writeFreeSlots(file, await prepareDevices(task), SLOT_BYTES);
    await fill(folder, file, volumeBytes);
  } catch (error) {
    await rm(file, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
  return file;
}

/**
 * What a log of rates holds that fio has written, as requests in each second: lines of a time in milliseconds, a rate, and the
 * direction, 0 for reads. A second without a line is one in which nothing ended.
 */
export function parseRates(text: string, seconds: number): number[] {
  const rates = new Array<number>(seconds).fill(0);
  for (const line of text.split('\n')) {
    const [time, rate, direction] = line.split(',').map(Number);
    if (!(direction < DIRECTIONS_MAX)) continue;
    const second = Math.round(time / LOGGED_MS) - 1;
    if (second >= 0 && second < seconds) rates[second] += rate;
  }
  return rates;
}

/** How much a counter grows in each second until `until` settles. */
async function countEachSecond(count: () => Promise<number>, until: Promise<unknown>): Promise<number[]> {
  let over = false;
  const note = () => {
    over = true;
  };
  until.then(note, note);
  const growth: number[] = [];
  const started = performance.now();
  for (let before = await count(); !over; ) {
    await Promise.race([until, pause(started + (growth.length + 1) * LOGGED_MS - performance.now())]);
    const now = await count();
    growth.push(now - before);
    before = now;
  }
  return growth;
}

/**
 * Runs a row for a minute, and tells of each second of it. `count`: of the operations that devices have been given so far; absent
 * if nobody knows. A bench that is as short as a smoke run measures no longer than otherwise.
 */
export async function runMinute(
  row: Row,
  target: FioTarget,
  bytes: number,
  { folder, seconds: usual }: { readonly folder: string; readonly seconds: number },
  count?: () => Promise<number>,
): Promise<{ job: FioJob; course: Course }> {
  const seconds = usual < 1 ? usual : MINUTE_SECONDS;
  const whole = Math.max(1, Math.round(seconds));
  const log = join(folder, 'minute');
  // fio does not log what it has begun to count when it ends.
  const running = runFio(row, target, bytes, seconds + LOGGED_MS / 2000, { log });
  const deviceOperations = count === undefined ? [] : await countEachSecond(count, running);
  const job = await running;
  const path = `${log}_iops.1.log`;
  const requests = parseRates(await readFile(path, 'utf8'), whole);
  await rm(path);
  return { job, course: { requests, deviceOperations: deviceOperations.slice(0, whole) } };
}
