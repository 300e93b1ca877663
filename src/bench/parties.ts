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
import { attachLoop } from './loop-device.js';
import { ensureWritten } from './node-process.js';
import { memoryBytes, processorTimeUs, run, ServerProcess, tool } from './processes.js';
import { type Party, WARM_UP_SHARE } from './rows.js';
import { type TcpPlace, Veth } from './veth.js';
import { isVolume, measureVolume, runMeasured, volumeBytes } from './volumes.js';
import { wideShape } from './wide.js';

/** Size of the null device of every party. */
export const NULL_BYTES = 1 << 30;

const COMMAND = fileURLToPath(new URL('../cli/main.js', import.meta.url));
const LOAD = fileURLToPath(new URL('./load-main.js', import.meta.url));

/** Where a server listens. */
type Place = { readonly socket: string } | TcpPlace;

/** How each server is told where to listen. */
function listenArguments(party: Party, place: Place): string[] {
  const tcp = 'host' in place;
  const port = tcp ? String(place.port) : '';
  switch (party) {
    case 'qemu-nbd':
      return tcp ? [`--bind=${place.host}`, `--port=${port}`] : ['--socket', place.socket];
    case 'nbdkit':
      return tcp ? ['--ipaddr', place.host, '--port', port] : ['-U', place.socket];
    default:
      return tcp ? ['--host', place.host, '--port', port, '--insecure-network'] : ['--socket', place.socket];
  }
}

function serverCommand({ row, party, file }: Cell, place: Place): { program: string; args: string[] } {
  const none = row.target === 'null';
  const readOnly = !row.writes;
  const listen = listenArguments(party, place);
  switch (party) {
    case 'raw':
    case 'strake': {
      const device = none ? `null:${NULL_BYTES}` : file;
      const access = readOnly ? ['--read-only'] : ['--confirm', device];
      return { program: process.execPath, args: [COMMAND, 'export', device, ...access, ...listen] };
    }
    case 'qemu-nbd': {
      const common = ['--persistent', '--shared=32', ...listen, ...(readOnly ? ['--read-only'] : [])];
      const what = none
        ? ['--image-opts', `driver=null-co,size=${NULL_BYTES}`]
        : ['--format=raw', '--cache=none', '--aio=io_uring', '--discard=unmap', file];
      return { program: tool('qemu-nbd'), args: [...common, ...what] };
    }
    case 'nbdkit': {
      const what = none ? ['null', String(NULL_BYTES)] : ['file', file, 'cache=none'];
      return { program: tool('nbdkit'), args: ['-f', ...listen, ...(readOnly ? ['-r'] : []), ...what] };
    }
    default:
      throw new Error(`${party} is no server`);
  }
}

/** Bytes that clients of a server without volumes use. */
function servedBytes({ row, sizeBytes }: Cell): number {
  if (row.target === 'null') return NULL_BYTES;
  return isVolume(row) ? volumeBytes(sizeBytes) : sizeBytes;
}

async function measureServer(cell: Cell): Promise<Measurement> {
  const socket = join(cell.folder, `${cell.party}.sock`);
  await rm(socket, { force: true });
  const { program, args } = serverCommand(cell, { socket });
  const server = new ServerProcess(cell.party, program, args);
  try {
    await server.listening(socket);
    return await measureClient(cell, server, `nbd+unix:///?socket=${socket}`);
  } finally {
    await server.stop();
  }
}

/** A server in one network namespace, and its client in another. */
async function measureOverTcp(cell: Cell): Promise<Measurement> {
  const network = Veth.make();
  try {
    const { program, args } = serverCommand(cell, network.place);
    const [first, ...rest] = [...network.server, program, ...args];
    const server = new ServerProcess(cell.party, first, rest);
    try {
      await server.unlessGone(network.listening(server.pid));
      return await measureClient(cell, server, network.uri, network.client);
    } finally {
      await server.stop();
    }
  } finally {
    network.remove();
  }
}

/** A server, or fio, on the block device that a loop device makes of the file, or on the file itself. */
async function measureLoop(cell: Cell): Promise<Measurement> {
  if (cell.party === 'file') return measureServer({ ...cell, party: 'strake' });
  const loop = await attachLoop(cell.file);
  try {
    const there = { ...cell, file: loop.path };
    return await (cell.party === 'fio' ? measureRawFio(there) : measureServer(there));
  } finally {
    await loop.detach();
  }
}

/** What a client of a server that listens measures. `within`: as `FioOptions` has it. */
async function measureClient(
  cell: Cell,
  server: ServerProcess,
  uri: string,
  within: readonly string[] = [],
): Promise<Measurement> {
  const { row, seconds } = cell;
  const size = servedBytes(cell);
  await runFio(row, { uri }, size, seconds * WARM_UP_SHARE, { within });
  const before = processorTimeUs(server.pid);
  const requests = row.variant === 'wide' ? wideShape(cell.slots).writes : undefined;
  const { job, course } = await runMeasured(cell, { uri }, size, { requests, within });
  const used = processorTimeUs(server.pid) - before;
  return { ...measurementOf(row, job, used), peakMemoryBytes: memoryBytes(server.pid, 'VmHWM'), course };
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
  if (cell.row.target === 'loop') return measureLoop(cell);
  if (cell.row.target === 'nbd-tcp') return measureOverTcp(cell);
  if (cell.party === 'fio') return measureRawFio(cell);
  if (cell.row.target === 'device') return measureEngine(cell);
  return measureServer(cell);
}
