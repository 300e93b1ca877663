/**
 * What is measured beside rates of requests: opening, recovery, and jobs of a node next to its clients. Each probe measures
 * all its rows once per round, and what it compares with in the same round.
 */

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { StrakeError } from '../core/errors.js';
import { sampleIdle } from './cluster-idle.js';
import { type FioTarget, fioArguments, p99Us, parseFio, runFio } from './fio.js';
import { sampleIdleMemory } from './idle-memory.js';
import { type NodeRequest, VOLUME } from './node-main.js';
import { ensureWritten, formatFor, NodeProcess, prepareDevices, sparseDevice } from './node-process.js';
import { sampleAttach, samplePauses } from './pauses.js';
import { memoryBytes, settle, tool } from './processes.js';
import { ROWS, type Row } from './rows.js';
import type { ProbeContext, Sample } from './samples.js';
import { sampleShards } from './shards.js';
import { sampleStart } from './start-probes.js';
import { volumeBytes } from './volumes.js';

export interface Probe {
  /** What its rows begin with. */
  readonly group: string;
  /** Takes so long that it is measured only when it is asked for by name. */
  readonly optIn?: boolean;
  readonly sample: (context: ProbeContext) => Promise<Sample[]>;
}

/** Slots of the device that is large. */
const MANY_SLOTS = 1_000_000;
/** Requests of the clients whose latency is watched while a job runs. */
const CLIENT = { pattern: 'mixed', blockBytes: 4096, depth: 16, clients: 1 } as const;
/** The load at which a node is killed. */
const FULL_LOAD = { pattern: 'randwrite', blockBytes: 4096, depth: 64, clients: 1 } as const;
/** Longer than any job; loads beside one are ended with it. */
const CLIENT_SECONDS_MAX = 3600;
/** Time in which clients have certainly begun. fio does not tell when. */
const CLIENT_START_MS = 500;

function rowOf(id: string): Row {
  return ROWS.find((row) => row.id === id) as Row;
}

/** fio that is running, and can be ended early. */
class Load {
  /** What it printed, once it has ended. */
  readonly output: Promise<string>;
  private readonly child: ReturnType<typeof spawn>;

  constructor(args: readonly string[]) {
    this.child = spawn(tool('fio'), [...args], { stdio: ['ignore', 'pipe', 'ignore'] });
    let text = '';
    this.child.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    this.output = new Promise((resolve, reject) => {
      this.child.once('error', reject);
      this.child.once('close', () => resolve(text));
    });
  }

  /** Ends it: in order, so that it reports what it has measured, or at once, if its server is gone. */
  async end(signal: 'SIGINT' | 'SIGKILL'): Promise<string> {
    this.child.kill(signal);
    return await this.output;
  }
}

function targetOf(socket: string): FioTarget {
  return { uri: `nbd+unix:///${VOLUME}?socket=${socket}` };
}

// -------------------------------------------------------------------- opening

/** Memory and time of a process that has a device open. */
async function openOnce(file: string): Promise<{ seconds: number; rssBytes: number; usedSlots: number }> {
  await settle(file);
  const node = await NodeProcess.start({ files: [file] });
  try {
    const rssBytes = memoryBytes(node.server.pid, 'VmRSS');
    return { seconds: node.opened.openSeconds, rssBytes, usedSlots: node.opened.devices[0].usedSlots };
  } finally {
    await node.stop();
  }
}

/** Opens a sparse device with many used slots; `name` is the group of its rows. */
async function sampleOpen(name: string, context: ProbeContext, slots: number): Promise<Sample[]> {
  const { file } = await sparseDevice(context.folder, slots);
  // The same program with next to no slots: what a node takes in any case is not counted.
  const small = await sparseDevice(context.folder, 1);
  const empty = await openOnce(small.file);
  const full = await openOnce(file);
  const perSlot = (full.rssBytes - empty.rssBytes) / (full.usedSlots - empty.usedSlots);
  return [
    { id: `${name}.time`, unit: 's', strake: full.seconds },
    { id: `${name}.memory`, unit: 'B/slot', strake: perSlot },
  ];
}

// -------------------------------------------------------------------- recovery

/** Kills a node while it is written to as fast as it can be, and opens its device again. */
async function sampleRecovery({ files, sizeBytes, seconds, folder }: ProbeContext): Promise<Sample[]> {
  const [file] = files;
  const bytes = volumeBytes(sizeBytes);
  await prepareDevices({ files: [file], volumeBytes: bytes, warmUpBytes: 0, fill: 'all' });
  const socket = join(folder, 'node.sock');
  const killed = await NodeProcess.start({ files: [file], socket });
  const load = new Load(fioArguments(FULL_LOAD, targetOf(socket), bytes, CLIENT_SECONDS_MAX));
  try {
    await pause(CLIENT_START_MS + seconds * 1000);
    await killed.server.stop('SIGKILL');
  } finally {
    await killed.stop();
    await load.end('SIGKILL');
  }
  const node = await NodeProcess.start({ files: [file] });
  await node.stop();
  if (!node.opened.devices[0].crashed) throw new StrakeError('IO', 'a node that was killed was closed in order');
  return [{ id: 'recovery.time', unit: 's', strake: node.opened.openSeconds }];
}

// -------------------------------------------------------------------- jobs

/** The p99 of clients in microseconds: while nothing else goes on, and while a job does. */
async function besideJob(
  node: NodeProcess,
  socket: string,
  request: NodeRequest,
  { sizeBytes, seconds }: ProbeContext,
): Promise<{ alone: number; beside: number }> {
  const args = (time: number) => fioArguments(CLIENT, targetOf(socket), volumeBytes(sizeBytes), time);
  const alone = p99Us(parseFio(await new Load(args(seconds)).output, 'clients alone'));
  const load = new Load(args(CLIENT_SECONDS_MAX));
  try {
    await pause(CLIENT_START_MS);
    await node.job(request);
    return { alone, beside: p99Us(parseFio(await load.end('SIGINT'), `clients beside a ${request.kind}`)) };
  } finally {
    await load.end('SIGKILL');
  }
}

function jobSamples(
  kind: string,
  rate: number,
  device: number,
  { alone, beside }: { alone: number; beside: number },
): Sample[] {
  return [
    { id: `${kind}.rate`, unit: 'MB/s', strake: rate, rivals: { device } },
    { id: `${kind}.p99`, unit: 'µs', strake: beside, rivals: { alone } },
  ];
}

/** MB/s of fio on files themselves. */
async function deviceRate(id: string, file: string, bytes: number, seconds: number): Promise<number> {
  const { read, write } = await runFio(rowOf(id), { file }, bytes, seconds);
  return Math.max(read.bw_bytes, write.bw_bytes) / 1e6;
}

async function sampleScrub(context: ProbeContext): Promise<Sample[]> {
  const { files, sizeBytes, seconds, folder } = context;
  const [file, other] = files;
  const bytes = volumeBytes(sizeBytes);
  await ensureWritten(other);
  const device = await deviceRate('device.read.1m.qd16', other, bytes, seconds);
  await prepareDevices({ files: [file], volumeBytes: bytes, warmUpBytes: 0, fill: 'all' });
  const socket = join(folder, 'node.sock');
  const node = await NodeProcess.start({ files: [file], socket });
  try {
    const { bytes: read, seconds: took } = await node.job({ kind: 'scrub' });
    const latencies = await besideJob(node, socket, { kind: 'scrub' }, context);
    return jobSamples('scrub', read / 1e6 / took, device, latencies);
  } finally {
    await node.stop();
  }
}

/** Ends a node while a scrub of a low rate goes on, and one without. */
async function sampleJobsStop({ files, sizeBytes }: ProbeContext): Promise<Sample[]> {
  const [file] = files;
  const bytes = volumeBytes(sizeBytes);
  await prepareDevices({ files: [file], volumeBytes: bytes, warmUpBytes: 0, fill: 'all' });
  const alone = await secondsToStop(file, async () => {});
  const beside = await secondsToStop(file, async (node) => {
    await node.job({ kind: 'slow-scrub' });
    // Until it waits for its rate.
    await pause(CLIENT_START_MS);
  });
  return [{ id: 'jobs.stop', unit: 's', strake: beside, rivals: { alone } }];
}

async function secondsToStop(file: string, begin: (node: NodeProcess) => Promise<void>): Promise<number> {
  const node = await NodeProcess.start({ files: [file] });
  await begin(node).catch(async (error: unknown) => {
    await node.stop();
    throw error;
  });
  const before = performance.now();
  await node.stop();
  return (performance.now() - before) / 1000;
}

/**
 * Rebuilds a mirror twice: alone, and beside clients. The device's own rate is that of copying: one file is read while the
 * other is written, as all are of the same disk.
 */
async function sampleRebuild(context: ProbeContext): Promise<Sample[]> {
  const { files, sizeBytes, seconds, folder } = context;
  const [file, lost, target, from, to] = files;
  const bytes = volumeBytes(sizeBytes);
  await Promise.all([ensureWritten(from), ensureWritten(to)]);
  const device = Math.min(
    ...(await Promise.all([
      deviceRate('device.read.1m.qd16', from, bytes, seconds),
      deviceRate('device.write.1m.qd16', to, bytes, seconds),
    ])),
  );
  await prepareDevices({ files: [file, lost], volumeBytes: bytes, warmUpBytes: 0, fill: 'all' });
  const first = await rebuild(context, { file, lost, target }, (node, request) => node.job(request));
  // What was lost is the device that the rebuilt mirror goes to next.
  const again = { file, lost: target, target: lost };
  const socket = join(folder, 'node.sock');
  const latencies = await rebuild(context, again, (node, request) => besideJob(node, socket, request, context));
  return jobSamples('rebuild', first.bytes / 1e6 / first.seconds, device, latencies);
}

/** Opens a mirror without one of its devices, and lets `work` rebuild it on another. */
async function rebuild<T>(
  { folder }: ProbeContext,
  { file, lost, target }: { readonly file: string; readonly lost: string; readonly target: string },
  work: (node: NodeProcess, request: NodeRequest) => Promise<T>,
): Promise<T> {
  const whole = await NodeProcess.start({ files: [file, lost] });
  await whole.stop();
  const { clusterId, devices } = whole.opened;
  const { deviceId } = devices[1];
  await formatFor(clusterId, target);
  const node = await NodeProcess.start({ files: [file], without: [deviceId], socket: join(folder, 'node.sock') });
  try {
    return await work(node, { kind: 'rebuild', deviceId, file: target });
  } finally {
    await node.stop();
  }
}

/** All probes, in the order in which they are measured. */
export const PROBES: readonly Probe[] = [
  { group: 'open', sample: (context) => sampleOpen('open', context, context.slots) },
  { group: 'open-million', optIn: true, sample: (context) => sampleOpen('open-million', context, MANY_SLOTS) },
  { group: 'idle', sample: sampleIdleMemory },
  { group: 'recovery', sample: sampleRecovery },
  { group: 'scrub', sample: sampleScrub },
  { group: 'jobs', sample: sampleJobsStop },
  { group: 'rebuild', sample: sampleRebuild },
  { group: 'cluster.shards', sample: sampleShards },
  { group: 'cluster.pause', sample: samplePauses },
  { group: 'cluster.attach', sample: sampleAttach },
  { group: 'cluster.idle', sample: sampleIdle },
  { group: 'start', optIn: true, sample: sampleStart },
];
