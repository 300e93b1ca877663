/**
 * `strake up DIR --nodes N`: a whole cluster on files of one folder: its manager, its nodes, and a client that exports its
 * volumes; in one process, or each in its own.
 *
 * ```text
 *   DIR/manager            key and store of the manager
 *   DIR/n1 … nN/disk.img   a device of each node, and `node-id`
 *   DIR/*.sock             manager, nodes, and volumes over NBD
 * ```
 *
 * Only what is missing is made, and nothing that exists is formatted anew.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { StrakeError } from '../core/errors.js';
import { formatBytes } from '../core/units.js';
import type { Cluster } from '../embed/cluster.js';
import type { CreateVolumeOptions } from '../embed/node-types.js';
import { clusterVolumeTable } from './cluster-describe.js';
import { nodeIdIn } from './cluster-node.js';
import { eventLine, parseLayout } from './describe.js';
import { socketIn } from './node-config.js';
import type { OnExit } from './options.js';
import { EXIT_FAILED, fields, note, print, table } from './output.js';
import { drain, howToStop, type Stopping, untilStopped } from './stopping.js';
import type { UpOptions } from './up-settings.js';

/** Bytes of a device that is made, unless another size is asked for; its file is sparse. */
const DEVICE_BYTES = 512 << 20;
/** For how long a volume is waited for that a client had which was not stopped in order. */
const HOLDER_MS = 15_000;
const HOLDER_LOOK_MS = 250;

export interface UpClusterOptions extends UpOptions {
  readonly nodes: number;
  readonly processes?: boolean;
  readonly deviceSize?: number;
}

/** Where everything is. */
interface Layout {
  readonly dir: string;
  readonly managerDir: string;
  readonly managerSocket: string;
  readonly keyFile: string;
  readonly clusterId: string;
  readonly nodes: readonly { readonly name: string; readonly dir: string; readonly socket: string }[];
}

/** Something that runs, and how it ends. */
interface Part {
  readonly name: string;
  readonly pid: number;
  stop(): Promise<void>;
}

async function formatMissing(path: string, clusterId: string, sizeBytes: number): Promise<void> {
  const { describeDevice, formatDevice } = await import('../embed/format.js');
  if (!existsSync(path)) {
    const file = openSync(path, 'wx', 0o600);
    ftruncateSync(file, sizeBytes);
    closeSync(file);
  }
  try {
    const found = await describeDevice(path);
    if (found.clusterId === clusterId) return;
    throw new StrakeError('WRONG_DEVICE', `${path} belongs to cluster ${found.clusterId}, and not to ${clusterId}`);
  } catch (error) {
    if (!(error instanceof StrakeError) || error.code !== 'ERR_STRAKE_NOT_FORMATTED') throw error;
  }
  await formatDevice(path, { clusterId });
}

/** Makes what is missing of a cluster of so many nodes. */
async function makeLayout(
  given: string,
  { nodes: count, deviceSize = DEVICE_BYTES }: UpClusterOptions,
): Promise<Layout> {
  const dir = resolve(given);
  const { initCluster, keyFileOf, clusterIdOf } = await import('../embed/manager.js');
  const managerDir = join(dir, 'manager');
  mkdirSync(dir, { recursive: true });
  const clusterId = (await clusterIdOf(managerDir)) ?? (await initCluster({ directory: managerDir })).clusterId;
  const nodes = Array.from({ length: count }, (_, at) => {
    const name = `n${at + 1}`;
    return { name, dir: join(dir, name), socket: socketIn(dir, `${name}.sock`) };
  });
  for (const node of nodes) {
    mkdirSync(node.dir, { recursive: true });
    await formatMissing(join(node.dir, 'disk.img'), clusterId, deviceSize);
  }
  const about = { dir, managerDir, managerSocket: socketIn(dir, 'manager.sock'), clusterId, nodes };
  return { ...about, keyFile: keyFileOf(managerDir) };
}

// ---------------------------------------------------------------- in one process

async function startInside(layout: Layout, parts: Part[], { stop }: Stopping, quiet: boolean): Promise<void> {
  const { openManager } = await import('../embed/manager.js');
  const { openNode } = await import('../embed/node.js');
  const { pid } = process;
  const manager = await openManager({
    directory: layout.managerDir,
    listen: { socket: layout.managerSocket },
    onStepDown: (error) => {
      note(`strake: the manager decides nothing any more: ${error.message}`);
      stop('lost');
    },
  });
  parts.push({ name: 'manager', pid, stop: () => manager.close() });
  for (const { name, dir, socket } of layout.nodes) {
    const node = await openNode({
      devices: [join(dir, 'disk.img')],
      manager: [{ socket: layout.managerSocket }],
      keyFile: layout.keyFile,
      nodeId: nodeIdIn(dir),
      name,
      segments: { socket },
      shards: 1,
      onEvent: (event) => note(`${name}: ${eventLine(event)}`, quiet),
    });
    parts.push({ name, pid, stop: () => node.close() });
  }
}

// ---------------------------------------------------------------- in processes

const PROGRAM = fileURLToPath(new URL('./main.js', import.meta.url));

/** Starts a command that serves; resolves when it has said so. */
async function startChild(name: string, args: readonly string[], quiet: boolean): Promise<Part> {
  const child = spawn(process.execPath, [PROGRAM, ...args, '-o', 'jsonl'], {
    stdio: ['ignore', 'pipe', quiet ? 'ignore' : 'inherit'],
    // Ctrl-C is for this process alone, which ends the others in order.
    detached: true,
  });
  const ended = new Promise<string>((done) => {
    child.on('error', ({ message }) => done(message));
    child.on('exit', (code, signal) => done(`it ended with ${signal ?? code}`));
  });
  const ready = new Promise<null>((done) => child.stdout?.once('data', () => done(null)));
  const failure = await Promise.race([ready, ended]);
  if (failure !== null) throw new StrakeError('UNAVAILABLE', `${name} did not start: ${failure}`);
  void ended.then((how) => note(`strake: ${name} (process ${child.pid}) has ended: ${how}`, quiet));
  return { name, pid: child.pid ?? 0, stop: () => stopChild(child, ended) };
}

async function stopChild(child: ChildProcess, ended: Promise<string>): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
  await ended;
}

async function startProcesses(layout: Layout, parts: Part[], quiet: boolean): Promise<void> {
  const { managerDir, managerSocket, keyFile, nodes } = layout;
  parts.push(await startChild('manager', ['manager', 'start', managerDir, '--listen', managerSocket], quiet));
  const reach = ['--manager', managerSocket, '--key-file', keyFile];
  for (const { name, dir, socket } of nodes) {
    const args = ['node', 'start', dir, '--name', name, '--listen', socket, ...reach];
    parts.push(await startChild(name, args, quiet));
  }
}

// ---------------------------------------------------------------- volumes

async function createMissing(cluster: Cluster, wanted: readonly CreateVolumeOptions[], nodes: number): Promise<void> {
  const existing = new Set((await cluster.volumes()).map(({ name }) => name));
  const usual = parseLayout(nodes > 1 ? 'mirror:2' : 'single');
  for (const options of wanted) if (!existing.has(options.name)) await cluster.createVolume({ ...usual, ...options });
}

/** Whoever had a volume and was killed is not heard any more after a while. */
async function openWhenFree(cluster: Cluster, name: string): Promise<void> {
  const deadline = performance.now() + HOLDER_MS;
  for (;;) {
    try {
      await cluster.openVolume(name);
      return;
    } catch (error) {
      const waits = error instanceof StrakeError && (error.code === 'ERR_STRAKE_VOLUME_BUSY' || error.retryable);
      if (!waits || performance.now() > deadline) throw error;
      await sleep(HOLDER_LOOK_MS);
    }
  }
}

interface Exported {
  readonly name: string;
  readonly uri: string;
}

/** Serves all volumes from this process. */
async function exportInside(layout: Layout, parts: Part[], options: UpClusterOptions): Promise<Exported[]> {
  const { connect } = await import('../embed/cluster.js');
  const { managerSocket, keyFile, nodes, dir } = layout;
  const cluster = await connect({
    manager: [{ socket: managerSocket }],
    keyFile,
    onEvent: (event) => note(eventLine(event), options.quiet),
  });
  parts.push({ name: 'client', pid: process.pid, stop: () => cluster.close() });
  await createMissing(cluster, options.create ?? [], nodes.length);
  const volumes = await cluster.volumes();
  for (const { name } of volumes) await openWhenFree(cluster, name);
  const tcp = options.port !== undefined || options.host !== undefined;
  const address = tcp
    ? { host: options.host, port: options.port ?? 10809 }
    : { socket: options.socket ?? socketIn(dir, 'strake.sock') };
  const server = await cluster.serve({ ...address, connectionsMax: options.connections });
  return volumes.map(({ name }) => ({ name, uri: server.uriOf(name) }));
}

/** Each volume is served by a process of its own. */
async function exportProcesses(layout: Layout, parts: Part[], options: UpClusterOptions): Promise<Exported[]> {
  const { withCluster } = await import('./cluster-access.js');
  const { uriOf } = await import('../embed/nbd-server.js');
  const { managerSocket, keyFile, nodes, dir } = layout;
  const access = { manager: [{ socket: managerSocket }], keyFile };
  const names = await withCluster(access, async (cluster) => {
    await createMissing(cluster, options.create ?? [], nodes.length);
    const volumes = await cluster.volumes();
    for (const { name } of volumes) await openWhenFree(cluster, name);
    return volumes.map(({ name }) => name);
  });
  const exported: Exported[] = [];
  for (const name of names) {
    const socket = socketIn(dir, `${name}.nbd.sock`);
    const args = ['volume', 'export', name, '--socket', socket, '--manager', managerSocket, '--key-file', keyFile];
    parts.push(await startChild(`export of ${name}`, args, options.quiet ?? false));
    exported.push({ name, uri: uriOf({ path: socket }, name) });
  }
  return exported;
}

// ---------------------------------------------------------------- the whole

async function announce(
  layout: Layout,
  parts: readonly Part[],
  exported: readonly Exported[],
  options: UpClusterOptions,
) {
  const { dir, clusterId, managerSocket, keyFile, nodes } = layout;
  const running = parts.map(({ name, pid }) => ({ name, pid }));
  const about = {
    dir,
    clusterId,
    manager: managerSocket,
    keyFile,
    nodes: nodes.map(({ name }) => name),
    parts: running,
  };
  const data = { ...about, volumes: exported, pid: process.pid, time: new Date().toISOString() };
  const bytes = formatBytes(nodes.length * (options.deviceSize ?? DEVICE_BYTES));
  const head = fields([
    ['cluster', `${clusterId} (${nodes.length} nodes, ${bytes})`],
    ['manager', managerSocket],
    ['key', keyFile],
    ['try', `export STRAKE_MANAGER=${managerSocket} STRAKE_KEY_FILE=${keyFile}; strake cluster status`],
    ['stop', howToStop()],
  ]);
  const processes = table(
    ['part', 'process'],
    running.map(({ name, pid }) => [name, String(pid)]),
  );
  const list =
    exported.length > 0
      ? table(
          ['volume', 'uri'],
          exported.map(({ name, uri }) => [name, uri]),
        )
      : clusterVolumeTable([]);
  const text = options.quiet ? exported.map(({ uri }) => uri).join('\n') : [head, processes, list].join('\n\n');
  print({ schema: 'strake.up.cluster', version: 1, data, text: text || managerSocket }, options.output);
}

async function stopAll(parts: Part[]): Promise<void> {
  // Clients first, then nodes, then the manager: each gives back what it has of the next.
  for (const part of parts.splice(0).reverse()) {
    await part.stop().catch((error: Error) => note(`strake: ${part.name}: ${error.message}`));
  }
}

export async function upCluster(dir: string | undefined, options: UpClusterOptions, onExit: OnExit): Promise<void> {
  const quiet = options.quiet ?? false;
  const stopping = untilStopped({ fenced: (path, accepts) => `${path} is fenced and accepts ${accepts}` });
  const layout = await makeLayout(dir ?? '.', options);
  const parts: Part[] = [];
  try {
    if (options.processes) await startProcesses(layout, parts, quiet);
    else await startInside(layout, parts, stopping, quiet);
    const exporting = options.processes ? exportProcesses : exportInside;
    await announce(layout, parts, await exporting(layout, parts, options), options);
    if ((await stopping.stopped) === 'lost') onExit(EXIT_FAILED);
    else await drain(() => stopAll(parts), quiet);
  } finally {
    await stopAll(parts);
  }
}
