/** Storage nodes as processes of a bench, and the devices that they drive. */

import { existsSync } from 'node:fs';
import { open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { StrakeError } from '../core/errors.js';
import { BLOCK_BYTES } from '../core/limits.js';
import type {
  FormatTask,
  JobReport,
  NodeRequest,
  OpenedReport,
  OperationsReport,
  PrepareTask,
  ServeTask,
} from './node-main.js';
import { run, ServerProcess, settle, tool } from './processes.js';
import { onProcessors } from './processors.js';

const NODE = fileURLToPath(new URL('./node-main.js', import.meta.url));
const SEGMENT = 1 << 20;

/** Files of the last of which it is known that volumes were on them: their blocks are no longer all allocated. */
const formatted = new Set<string>();

/** Somebody else formats these files. */
export function noteFormatted(files: readonly string[]): void {
  for (const file of files) formatted.add(file);
}

/** Makes devices with a volume, and closes them, so that a checkpoint holds everything. Resolves to a device's slots. */
export async function prepareDevices(task: Omit<PrepareTask, 'kind'>): Promise<number> {
  for (const file of task.files) formatted.add(file);
  const slots = await run(process.execPath, [NODE, JSON.stringify({ kind: 'prepare', ...task } satisfies PrepareTask)]);
  for (const file of task.files) await settle(file);
  return Number(slots);
}

export async function formatFor(clusterId: string, file: string, slotBytes?: number): Promise<void> {
  formatted.add(file);
  const task: FormatTask = { kind: 'format', file, clusterId, slotBytes };
  await run(process.execPath, [NODE, JSON.stringify(task)]);
}

/** Writes bytes of a file or device directly, so that a file system has written blocks there. */
async function writeRange(file: string, offset: number, bytes: number): Promise<void> {
  const how = ['--ioengine=io_uring', '--direct=1', '--iodepth=8', '--end_fsync=1', '--rw=write', '--bs=1M'];
  const where = [`--filename=${file.replace(/:/g, '\\:')}`, `--offset=${offset}`, `--size=${bytes}`];
  await run(tool('fio'), ['--name=fill', ...where, ...how]);
}

/** Makes sure that a file's blocks are all allocated and written, as a device's are: formatting has discarded them. */
export async function ensureWritten(file: string): Promise<void> {
  if (!formatted.delete(file)) return;
  await writeRange(file, 0, (await stat(file)).size);
  await settle(file);
}

/** As `ensureWritten` for the slots of a formatted device that has no data yet. What free slots hold means nothing. */
export async function writeFreeSlots(file: string, slots: number, slotBytes = SEGMENT): Promise<void> {
  const { size } = await stat(file);
  // Slots begin at a multiple of their size and end before the copy of the superblock in the last block. So they do not
  // begin behind this, and nothing before them is written.
  const start = Math.floor((size - BLOCK_BYTES - slots * slotBytes) / slotBytes) * slotBytes;
  await writeRange(file, start, slots * slotBytes);
  await settle(file);
}

/** A running node. */
export class NodeProcess {
  readonly server: ServerProcess;
  readonly opened: OpenedReport;

  private constructor(server: ServerProcess, opened: OpenedReport) {
    this.server = server;
    this.opened = opened;
  }

  /**
   * Starts a node, and resolves when it is open and, with a socket, serves its volumes. `processors`: where it runs; null for
   * anywhere.
   */
  static async start(task: Omit<ServeTask, 'kind'>, processors: readonly number[] | null = null): Promise<NodeProcess> {
    for (const socket of [task.socket, task.network?.segments])
      if (socket !== undefined) await rm(socket, { force: true });
    const line = [process.execPath, NODE, JSON.stringify({ kind: 'serve', ...task } satisfies ServeTask)];
    const [program, ...args] = processors === null ? line : onProcessors(processors, line);
    const server = new ServerProcess('node', program, args, true);
    try {
      return new NodeProcess(server, await server.unlessGone(nextMessage<OpenedReport>(server)));
    } catch (error) {
      await server.stop();
      throw error;
    }
  }

  /** Carries a job out. Rejects if it does not end well. */
  async job(request: NodeRequest): Promise<JobReport> {
    const answer = nextMessage<JobReport>(this.server);
    this.server.child.send(request);
    const report = await this.server.unlessGone(answer);
    if (report.state !== 'done')
      throw new StrakeError('IO', `the ${request.kind} is ${report.state}: ${report.reason}`);
    return report;
  }

  /** How many operations its devices have been given so far, all together. */
  async operations(): Promise<number> {
    const answer = nextMessage<OperationsReport>(this.server);
    this.server.child.send({ kind: 'operations' } satisfies NodeRequest);
    return (await this.server.unlessGone(answer)).count;
  }

  stop(): Promise<void> {
    return this.server.stop();
  }
}

/** The next that a process says. */
export function nextMessage<T>({ child }: ServerProcess): Promise<T> {
  return new Promise((resolve) => child.once('message', (message) => resolve(message as T)));
}

/**
 * A sparse device with so many used slots of one written block each, which is made once per folder. Its volume has as many
 * segments.
 */
export async function sparseDevice(folder: string, slots: number): Promise<{ file: string; volumeBytes: number }> {
  const file = join(folder, `sparse-${slots}.img`);
  const volumeBytes = slots * SEGMENT;
  if (!existsSync(file)) {
    const handle = await open(file, 'wx');
    // 64 MiB and 4% for the tables: four block tables for each slot, in two places, are 3.1% of it.
    await handle.truncate(volumeBytes + Math.ceil(slots / 25) * SEGMENT + 64 * SEGMENT);
    await handle.close();
    await prepareDevices({ files: [file], volumeBytes, warmUpBytes: 0, fill: 'touch' });
  }
  return { file, volumeBytes };
}
