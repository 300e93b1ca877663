/**
 * A storage node in a process of its own. Arguments: a JSON object, see `NodeTask`. It either makes devices with a volume and
 * ends, or drives them and does what it is told by messages until SIGTERM.
 */

import { randomBytes } from 'node:crypto';
import { BLOCK_BYTES } from '../core/limits.js';
import { formatDevice } from '../embed/format.js';
import { type Node, openNode } from '../embed/node.js';
import type { NodeEvent, OpenNodeOptions } from '../embed/node-types.js';
import type { NodeVolume } from '../embed/node-volume.js';

/** The volume that is measured, and one beside it on which a program can warm up. */
export const VOLUME = 'bench';
export const WARM_UP_VOLUME = 'warm';

/** How much of the volume is written: everything, one block of each segment, or nothing. */
export type Fill = 'all' | 'touch' | 'none';

/** Formats devices, makes a volume on them, a mirror if they are several, and prints how many slots a device has. */
export interface PrepareTask {
  readonly kind: 'prepare';
  readonly files: readonly string[];
  readonly volumeBytes: number;
  readonly warmUpBytes: number;
  readonly fill: Fill;
  /** As `FormatDeviceOptions` has it. */
  readonly slotBytes?: number;
}

/** Formats a device of an existing cluster. */
export interface FormatTask {
  readonly kind: 'format';
  readonly file: string;
  readonly clusterId: string;
  /** As `FormatDeviceOptions` has it. */
  readonly slotBytes?: number;
}

export interface ServeTask {
  readonly kind: 'serve';
  readonly files: readonly string[];
  /** None: it only opens the devices. */
  readonly socket?: string;
  /** Devices that are missing although the volume knows them. */
  readonly without?: readonly string[];
  /** Other nodes whose devices it uses, and where it serves segments of its own: paths of sockets, and the file of the key. */
  readonly network?: { readonly keyFile: string; readonly peers?: readonly string[]; readonly segments?: string };
}

export type NodeTask = PrepareTask | FormatTask | ServeTask;

/** What a node tells when it is open. */
export interface OpenedReport {
  readonly kind: 'opened';
  /** From the call to the moment from which volumes can be used. */
  readonly openSeconds: number;
  readonly clusterId: string;
  readonly devices: readonly { readonly deviceId: string; readonly usedSlots: number; readonly crashed: boolean }[];
  /** States of its volumes, by name. */
  readonly volumes: Readonly<Record<string, string>>;
}

/** What a node can be told to do. It answers with a `JobReport` when that is done. */
export type NodeRequest =
  /** Answered with an `OperationsReport` in place of that. */
  | { readonly kind: 'operations' }
  | { readonly kind: 'scrub' }
  /** Begins a scrub that hardly goes on, and is answered at once. */
  | { readonly kind: 'slow-scrub' }
  | { readonly kind: 'rebuild'; readonly deviceId: string; readonly file: string };

export interface JobReport {
  readonly kind: 'job';
  readonly state: string;
  readonly reason: string;
  readonly bytes: number;
  readonly seconds: number;
}

/** How many operations its devices have been given so far, all together. */
export interface OperationsReport {
  readonly kind: 'operations';
  readonly count: number;
}

const SEGMENT = 1 << 20;
/** Writes in flight while a volume is filled. */
const FILL_DEPTH = { all: 8, touch: 128 } as const;

/** Writes a block, or everything, of each segment. */
async function fillVolume(volume: NodeVolume, bytes: number, fill: 'all' | 'touch'): Promise<void> {
  const data = randomBytes(fill === 'all' ? SEGMENT : BLOCK_BYTES);
  let next = 0;
  const work = async () => {
    for (let at = next; at < bytes; at = next) {
      next += SEGMENT;
      await volume.write(data.subarray(0, Math.min(data.length, bytes - at)), at);
    }
  };
  await Promise.all(Array.from({ length: FILL_DEPTH[fill] }, work));
  await volume.flush();
}

async function prepare({ files, volumeBytes, warmUpBytes, fill, slotBytes }: PrepareTask): Promise<void> {
  let clusterId: string | undefined;
  let slots = 0;
  for (const file of files) {
    const described = await formatDevice(file, { confirm: file, slotBytes, clusterId });
    clusterId = described.clusterId;
    slots = described.slots;
  }
  const node = await openNode({ devices: files });
  try {
    const layout = files.length === 1 ? 'single' : 'mirror';
    const volume = await node.createVolume({ name: VOLUME, sizeBytes: volumeBytes, layout });
    if (warmUpBytes > 0) await node.createVolume({ name: WARM_UP_VOLUME, sizeBytes: warmUpBytes, layout });
    if (fill !== 'none') await fillVolume(volume, volumeBytes, fill);
  } finally {
    // This writes a checkpoint.
    await node.close();
  }
  process.stdout.write(String(slots));
}

/** Slower than any disk by far: a job of this rate waits nearly all the time. */
const SLOW_BYTES_PER_SECOND = 16 << 10;

async function beginSlowScrub(node: Node): Promise<JobReport> {
  const { reason, bytesDone } = await node.scrub(VOLUME, { bytesPerSecond: SLOW_BYTES_PER_SECOND });
  return { kind: 'job', state: 'done', reason, bytes: bytesDone, seconds: 0 };
}

async function countOperations(node: Node): Promise<OperationsReport> {
  const devices = await node.devices();
  return { kind: 'operations', count: devices.reduce((sum, { counters }) => sum + counters.operations, 0) };
}

/** Carries a job out. `ended` resolves when the next job of the volume ends. */
async function handle(node: Node, request: NodeRequest, ended: Promise<void>): Promise<JobReport | OperationsReport> {
  if (request.kind === 'operations') return countOperations(node);
  if (request.kind === 'slow-scrub') return beginSlowScrub(node);
  const before = performance.now();
  if (request.kind === 'scrub') await node.scrub(VOLUME);
  else await node.replaceDevice(request.deviceId, request.file);
  await ended;
  const seconds = (performance.now() - before) / 1000;
  const volumes = await node.volumes();
  const job = volumes.find(({ name }) => name === VOLUME)?.jobs.find((one) => one.kind === request.kind);
  const { state, reason, bytesDone } = job ?? { state: 'lost', reason: '', bytesDone: 0 };
  return { kind: 'job', state, reason, bytes: bytesDone, seconds };
}

/** What a node is told of others. */
function networkOf({ network }: ServeTask): Pick<OpenNodeOptions, 'keyFile' | 'peers' | 'segments'> {
  if (network === undefined) return {};
  const { keyFile, peers = [], segments } = network;
  const sockets = peers.map((socket) => ({ socket }));
  return { keyFile, peers: sockets, ...(segments === undefined ? {} : { segments: { socket: segments } }) };
}

async function serve(task: ServeTask): Promise<void> {
  const { files, socket, without = [] } = task;
  const before = performance.now();
  let noteEnd = () => {};
  const onEvent = ({ kind, volume }: NodeEvent) => {
    if (kind === 'job-ended' && volume === VOLUME) noteEnd();
  };
  const node = await openNode({ devices: files, without: { [VOLUME]: without }, onEvent, ...networkOf(task) });
  const openSeconds = (performance.now() - before) / 1000;
  const stop = () => {
    void node.close().finally(() => process.disconnect?.());
  };
  process.once('SIGTERM', stop);
  process.on('message', (request: NodeRequest) => {
    const ended = new Promise<void>((resolve) => {
      noteEnd = resolve;
    });
    handle(node, request, ended).then(
      (report) => process.send?.(report),
      (error: Error) => process.send?.({ kind: 'job', state: 'failed', reason: error.message, bytes: 0, seconds: 0 }),
    );
  });
  if (socket !== undefined) await node.serve({ socket });
  const { clusterId } = node;
  const devices = (await node.devices()).map(({ deviceId, usedSlots, recovery }) => ({
    deviceId,
    usedSlots,
    crashed: recovery.crashed,
  }));
  const volumes = Object.fromEntries((await node.volumes()).map(({ name, state }) => [name, state]));
  process.send?.({ kind: 'opened', openSeconds, clusterId, devices, volumes } satisfies OpenedReport);
}

async function main(task: NodeTask): Promise<void> {
  if (task.kind === 'prepare') await prepare(task);
  else if (task.kind === 'serve') await serve(task);
  else await formatDevice(task.file, { confirm: task.file, clusterId: task.clusterId, slotBytes: task.slotBytes });
}

// Others import what is above.
if (process.argv[2] !== undefined && process.argv[1] === new URL(import.meta.url).pathname) {
  await main(JSON.parse(process.argv[2]) as NodeTask);
}
