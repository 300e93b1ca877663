/** Rows of volumes: a node on freshly made devices, with fio as the client. */

import { join } from 'node:path';
import type { Cell } from './cell.js';
import {
  type Course,
  type FioJob,
  type FioOptions,
  type FioTarget,
  type Measurement,
  measurementOf,
  runFio,
} from './fio.js';
import { VOLUME, WARM_UP_VOLUME } from './node-main.js';
import { NodeProcess, prepareDevices, sparseDevice, writeFreeSlots } from './node-process.js';
import { memoryBytes, processorTimeUs } from './processes.js';
import { type Row, WARM_UP_SHARE } from './rows.js';
import { runMinute, wideDevice, wideShape } from './wide.js';

const SEGMENT = 1 << 20;
/** Segments that reads with all tables in memory are spread over: fewer than there is room for. */
const WARM_SEGMENTS = 1024;

export function isVolume(row: Row): boolean {
  return row.target === 'volume' || row.target === 'mirror2';
}

/** Tested part of files of `sizeBytes`, with and without a volume: what is left beside the tables, and a little less. */
export function volumeBytes(sizeBytes: number): number {
  return Math.floor((sizeBytes * 7) / 8 / SEGMENT) * SEGMENT;
}

export function isWide({ variant }: Row): boolean {
  return variant === 'wide' || variant === 'wide-minute';
}

/** Runs what a cell measures. `count`: as `runMinute` has it. */
export async function runMeasured(
  { row, seconds, folder }: Pick<Cell, 'row' | 'seconds' | 'folder'>,
  target: FioTarget,
  bytes: number,
  options: FioOptions,
  count?: () => Promise<number>,
): Promise<{ job: FioJob; course?: Course }> {
  if (row.minute === true) return runMinute(row, target, bytes, { folder, seconds }, count);
  return { job: await runFio(row, target, bytes, seconds, options) };
}

/** What to run where. */
interface Plan {
  readonly files: readonly string[];
  readonly bytes: number;
  /** Where to warm up: another volume if the measured one can be written only once. */
  readonly warmUp: { readonly volume: string; readonly bytes: number };
  readonly options: FioOptions;
}

/** Makes the devices of a cell. */
async function plan({ row, party, file, second, sizeBytes, folder, slots }: Cell): Promise<Plan> {
  if (isWide(row)) {
    const shape = wideShape(slots);
    const file = await wideDevice(folder, shape);
    const options = row.minute === true ? {} : { requests: shape.writes };
    return { files: [file], bytes: shape.volumeBytes, warmUp: { volume: VOLUME, bytes: shape.warmUpBytes }, options };
  }
  if (row.variant === 'cold') {
    const sparse = await sparseDevice(folder, slots);
    const bytes = party === 'warm' ? Math.min(WARM_SEGMENTS * SEGMENT, sparse.volumeBytes) : sparse.volumeBytes;
    // Only the first block of each segment has been written.
    return { files: [sparse.file], bytes, warmUp: { volume: VOLUME, bytes }, options: { alignBytes: SEGMENT } };
  }
  const files = row.target === 'mirror2' ? [file, second] : [file];
  const bytes = volumeBytes(sizeBytes);
  const once = row.variant === 'fresh';
  const warmUpBytes = once ? Math.floor(sizeBytes / 32 / SEGMENT) * SEGMENT : 0;
  const empty = once && party === 'strake';
  const deviceSlots = await prepareDevices({ files, volumeBytes: bytes, warmUpBytes, fill: empty ? 'none' : 'all' });
  if (empty) await writeFreeSlots(file, deviceSlots);
  const warmUp = once ? { volume: WARM_UP_VOLUME, bytes: warmUpBytes } : { volume: VOLUME, bytes };
  return { files, bytes, warmUp, options: { once } };
}

/** Measures a cell whose party is a volume. */
export async function measureVolume(cell: Cell): Promise<Measurement> {
  const { row, seconds, folder } = cell;
  const { files, bytes, warmUp, options } = await plan(cell);
  const socket = join(folder, 'node.sock');
  const node = await NodeProcess.start({ files, socket });
  const { pid } = node.server;
  const uriOf = (volume: string) => ({ uri: `nbd+unix:///${volume}?socket=${socket}` });
  try {
    const before = { ...options, once: false, requests: undefined };
    await runFio(row, uriOf(warmUp.volume), warmUp.bytes, seconds * WARM_UP_SHARE, before);
    const count = () => node.operations();
    const [used, given] = [processorTimeUs(pid), await count()];
    const { job, course } = await runMeasured(cell, uriOf(VOLUME), bytes, options, count);
    const measured = measurementOf(row, job, processorTimeUs(pid) - used);
    const deviceOperations = ((await count()) - given) / measured.operations;
    return { ...measured, peakMemoryBytes: memoryBytes(pid, 'VmHWM'), deviceOperations, course };
  } finally {
    await node.stop();
  }
}
