/**
 * Rows of a cluster: a mirror of which one copy is in the process that has the volume and its clients, and the other one in a
 * process of its own; the same mirror in one process; and fio on the two files themselves.
 */

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { StrakeError } from '../core/errors.js';
import { makeClusterKey } from '../keys/cluster-key.js';
import type { Cell } from './cell.js';
import { type FioOptions, type Measurement, measurementOf, runFio } from './fio.js';
import { VOLUME } from './node-main.js';
import { ensureWritten, NodeProcess, prepareDevices } from './node-process.js';
import type { Pinning } from './paired.js';
import { memoryBytes, processorTimeUs } from './processes.js';
import { pinning } from './processors.js';
import { WARM_UP_SHARE } from './rows.js';
import { volumeBytes } from './volumes.js';

/** The processes of a mirror: the first has the volume. */
async function startNodes({ party, file, second, folder }: Cell, apart: Pinning | null): Promise<NodeProcess[]> {
  const socket = join(folder, 'node.sock');
  const processors = apart?.server ?? null;
  if (party === 'inside') return [await NodeProcess.start({ files: [file, second], socket }, processors)];
  const keyFile = join(folder, 'cluster.key');
  await rm(keyFile, { force: true });
  makeClusterKey(keyFile);
  const segments = join(folder, 'segments.sock');
  // A client of large blocks leaves most of its processor to others.
  const other = await NodeProcess.start({ files: [second], network: { keyFile, segments } }, apart?.client ?? null);
  try {
    const network = { keyFile, peers: [segments] };
    return [await NodeProcess.start({ files: [file], socket, network }, processors), other];
  } catch (error) {
    await other.stop();
    throw error;
  }
}

async function measureMirror(cell: Cell): Promise<Measurement> {
  const { row, file, second, sizeBytes, seconds, folder } = cell;
  const bytes = volumeBytes(sizeBytes);
  await prepareDevices({ files: [file, second], volumeBytes: bytes, warmUpBytes: 0, fill: 'all' });
  const apart = row.pinned === true ? pinning() : null;
  const nodes = await startNodes(cell, apart);
  try {
    const state = nodes[0].opened.volumes[VOLUME];
    if (state !== 'ok') throw new StrakeError('IO', `the mirror of ${row.id} is ${state}, not ok`);
    const target = { uri: `nbd+unix:///${VOLUME}?socket=${join(folder, 'node.sock')}` };
    const options: FioOptions = apart === null ? {} : { processors: apart.client };
    const used = () => nodes.reduce((sum, { server }) => sum + processorTimeUs(server.pid), 0);
    await runFio(row, target, bytes, seconds * WARM_UP_SHARE, options);
    const before = used();
    const job = await runFio(row, target, bytes, seconds, options);
    const cpuUs = used() - before;
    const peakMemoryBytes = nodes.reduce((sum, { server }) => sum + memoryBytes(server.pid, 'VmHWM'), 0);
    return { ...measurementOf(row, job, cpuUs), peakMemoryBytes };
  } finally {
    for (const node of nodes) await node.stop();
  }
}

/**
 * Two jobs of fio at once. A mirror writes everything to both files, so each job writes at the row's depth, and what is written
 * counts once; of what is read each copy has a half, and so has each job of the depth.
 */
async function measureTwoJobs({ row, file, second, sizeBytes, seconds }: Cell): Promise<Measurement> {
  await ensureWritten(file);
  await ensureWritten(second);
  const target = { files: [file, second] } as const;
  const bytes = volumeBytes(sizeBytes);
  const job = { ...row, depth: row.writes ? row.depth : Math.max(1, row.depth >> 1) };
  await runFio(job, target, bytes, seconds * WARM_UP_SHARE);
  const measured = measurementOf(row, await runFio(job, target, bytes, seconds));
  return { ...measured, value: row.writes ? measured.value / 2 : measured.value, peakMemoryBytes: 0 };
}

/** Measures a cell of a cluster. */
export async function measureCluster(cell: Cell): Promise<Measurement> {
  return cell.party === 'fio' ? measureTwoJobs(cell) : measureMirror(cell);
}
