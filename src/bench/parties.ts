/**
 * Who is measured, and how each is run on a file, a device or a null device.
 *
 * Every party is a process of its own, started for one cell and stopped after it, on a file that no other party uses at the
 * same time. All use direct I/O, but for nbdkit: its `cache=none` still goes through the page cache, so its writes
 * are acknowledged before they reach the device and its reads may not touch it.
 */

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { StrakeError } from '../core/errors.js';
import type { Cell } from './cell.js';
import { measureCluster } from './cluster.js';
import { type Measurement, measurementOf, runFio } from './fio.js';
import type { LoadReport, LoadTask } from './load-main.js';
import { ensureWritten } from './node-process.js';
import { memoryBytes, processorTimeUs, run, ServerProcess, tool } from './processes.js';
import { WARM_UP_SHARE } from './rows.js';
import { isVolume, measureVolume, runMeasured, volumeBytes } from './volumes.js';
import { wideShape } from './wide.js';

/** Size of the null device of every party. */
export const NULL_BYTES = 1 << 30;

const COMMAND = fileURLToPath(new URL('../cli/main.js', import.meta.url));
const LOAD = fileURLToPath(new URL('./load-main.js', import.meta.url));

function serverCommand({ row, party, file }: Cell, socket: string): { program: string; args: string[] } {
  const none = row.target === 'null';
  const readOnly = !row.writes;
  switch (party) {
    case 'raw':
    case 'strake': {
      const device = none ? `null:${NULL_BYTES}` : file;
      const access = readOnly ? ['--read-only'] : ['--confirm', device];
      return { program: process.execPath, args: [COMMAND, 'export', device, ...access, '--socket', socket] };
    }
    case 'qemu-nbd': {
      const common = ['--persistent', '--shared=32', '--socket', socket, ...(readOnly ? ['--read-only'] : [])];
      const what = none
        ? ['--image-opts', `driver=null-co,size=${NULL_BYTES}`]
        : ['--format=raw', '--cache=none', '--aio=io_uring', '--discard=unmap', file];
      return { program: tool('qemu-nbd'), args: [...common, ...what] };
    }
    case 'nbdkit': {
      const what = none ? ['null', String(NULL_BYTES)] : ['file', file, 'cache=none'];
      return { program: tool('nbdkit'), args: ['-f', '-U', socket, ...(readOnly ? ['-r'] : []), ...what] };
    }
    default:
      throw new Error(`${party} is no server`);
  }
}

async function measureServer(cell: Cell): Promise<Measurement> {
  const { row, seconds, folder } = cell;
  const bytes = row.target === 'nbd' ? cell.sizeBytes : volumeBytes(cell.sizeBytes);
  const socket = join(folder, `${cell.party}.sock`);
  await rm(socket, { force: true });
  const { program, args } = serverCommand(cell, socket);
  const server = new ServerProcess(cell.party, program, args);
  try {
    await server.listening(socket);
    const uri = `nbd+unix:///?socket=${socket}`;
    const size = row.target === 'null' ? NULL_BYTES : bytes;
    await runFio(row, { uri }, size, seconds * WARM_UP_SHARE);
    const before = processorTimeUs(server.pid);
    const options = row.variant === 'wide' ? { requests: wideShape(cell.slots).writes } : {};
    const { job, course } = await runMeasured(cell, { uri }, size, options);
    const used = processorTimeUs(server.pid) - before;
    return { ...measurementOf(row, job, used), peakMemoryBytes: memoryBytes(server.pid, 'VmHWM'), course };
  } finally {
    await server.stop();
  }
}

async function measureRawFio({ row, file, sizeBytes, seconds }: Cell): Promise<Measurement> {
  await runFio(row, { file }, sizeBytes, seconds * WARM_UP_SHARE);
  return { ...measurementOf(row, await runFio(row, { file }, sizeBytes, seconds)), peakMemoryBytes: 0 };
}

async function measureEngine({ row, file, seconds }: Cell): Promise<Measurement> {
  const { pattern, blockBytes, depth, writes } = row;
  const warmUpSeconds = seconds * WARM_UP_SHARE;
  const task: LoadTask = { path: file, write: writes, pattern, blockBytes, depth, warmUpSeconds, seconds };
  const output = await run(process.execPath, [LOAD, JSON.stringify(task)]);
  const report = JSON.parse(output) as LoadReport;
  if (report.errors > 0) throw new StrakeError('IO', `${report.errors} operations failed in ${row.id}`);
  const perSecond = report.operations / report.seconds;
  return {
    value: row.unit === 'iops' ? perSecond : (perSecond * blockBytes) / 1e6,
    operations: report.operations,
    latencyUsMean: report.latencyUsMean,
    latencyUsP50: report.latencyUsP50,
    latencyUsP99: report.latencyUsP99,
    latencyUsP999: report.latencyUsP999,
    cpuUsPerOperation: report.cpuUs / report.operations,
    peakMemoryBytes: report.peakMemoryBytes,
  };
}

/** Measures one cell. */
export async function measure(cell: Cell): Promise<Measurement> {
  if (cell.row.target === 'cluster') return measureCluster(cell);
  if (cell.party === 'strake' && isVolume(cell.row)) return measureVolume(cell);
  if (cell.party === 'overwrite' || cell.party === 'warm') return measureVolume(cell);
  if (cell.row.target !== 'null') await ensureWritten(cell.file);
  if (cell.party === 'fio') return measureRawFio(cell);
  if (cell.row.target === 'device') return measureEngine(cell);
  return measureServer(cell);
}
