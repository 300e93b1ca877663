/**
 * `strake up DIR --nodes N`: a whole cluster on files of one folder: its manager, its nodes, and a client that exports its
 * volumes; in one process, or each in its own.
 *
 * ```text
 *   DIR/manager            key and store of the manager
 *   DIR/n1 … nN/disk.img   a device of each node, and `node-id`
 *   DIR/*.sock             manager, its admin API, nodes, and volumes over NBD
 * ```
 *
 * Only what is missing is made, and nothing that exists is formatted anew.
 */

import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StrakeError } from '../core/errors.js';
import { formatBytes } from '../core/units.js';
import type { Cluster } from '../embed/cluster.js';
import type { CreateVolumeOptions } from '../embed/node-types.js';
import type { VolumeListed } from '../ports/manager.js';
import { clusterVolumeTable, nodesOf } from './cluster-describe.js';
import { nodeIdIn } from './cluster-node.js';
import { eventLine, layoutText, parseLayout } from './describe.js';
import { serveAdmin, tokenFileOf } from './manager.js';
import { socketIn } from './node-config.js';
import type { OnExit } from './options.js';
import { EXIT_FAILED, fields, note, print, table } from './output.js';
import { type Part, startChild } from './part-process.js';
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
  readonly adminSocket: string;
  readonly keyFile: string;
  readonly clusterId: string;
  readonly nodes: readonly { readonly name: string; readonly dir: string; readonly socket: string }[];
}

/** Options of a node that stands alone, or of a server that all exports share. */
const ALONE = ['device', 'cluster', 'control', 'without', 'deviceWait', 'shards', 'tableMemory'] as const;
const SHARED = ['socket', 'port', 'host'] as const;

/** Throws `ERR_STRAKE_INVALID_ARGUMENT` if an option is given that would do nothing. */
function checkOptions(options: UpClusterOptions): void {
  const unused = [...ALONE, ...(options.processes ? SHARED : [])].find((name) => options[name] !== undefined);
  if (unused === undefined) return;
  const option = `--${unused.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  const alone = ALONE.some((name) => name === unused);
  throw new StrakeError('INVALID_ARGUMENT', `${option} is of no use with --nodes${alone ? '' : ' --processes'}`, {
    remedy: alone
      ? `Leave ${option} out, or start manager and nodes one by one: strake manager start, strake node start.`
      : `Leave ${option} out: each volume has a socket of its own in the folder. \`strake volume export\` serves one elsewhere.`,
  });
}

/** Volumes may lie on any node that was made, so none of them is left out. */
function checkCount(dir: string, count: number): void {
  const made = readdirSync(dir).flatMap((name) => {
    const match = /^n([1-9]\d*)$/.exec(name);
    return match !== null && existsSync(join(dir, name, 'disk.img')) ? [Number(match[1])] : [];
  });
  const last = Math.max(0, ...made);
  if (last <= count) return;
  throw new StrakeError('INVALID_ARGUMENT', `${dir} holds a cluster of ${last} nodes, and ${count} are asked for`, {
    remedy: `Give --nodes ${last}.`,
  });
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
  checkCount(dir, count);
  const clusterId = (await clusterIdOf(managerDir)) ?? (await initCluster({ directory: managerDir })).clusterId;
  const nodes = Array.from({ length: count }, (_, at) => {
    const name = `n${at + 1}`;
    return { name, dir: join(dir, name), socket: socketIn(dir, `${name}.sock`) };
  });
  for (const node of nodes) {
    mkdirSync(node.dir, { recursive: true });
    await formatMissing(join(node.dir, 'disk.img'), clusterId, deviceSize);
  }
  const sockets = { managerSocket: socketIn(dir, 'manager.sock'), adminSocket: socketIn(dir, 'admin.sock') };
  return { dir, managerDir, ...sockets, clusterId, nodes, keyFile: keyFileOf(managerDir) };
}

// ---------------------------------------------------------------- in one process

async function startInside(layout: Layout, parts: Part[], { stop }: Stopping, quiet: boolean): Promise<void> {
  const { openManager } = await import('../embed/manager.js');
  const { openNode } = await import('../embed/node.js');
  const { tableMemory } = await import('../embed/table-memory.js');
  const { pid } = process;
  const manager = await openManager({
    directory: layout.managerDir,
    listen: { socket: layout.managerSocket },
    onStepDown: (error) => {
      note(`strake: the manager decides nothing any more: ${error.message}`);
      stop('lost');
    },
  });
  let stopApi = async () => {};
  parts.push({ name: 'manager', pid, stop: () => stopApi().finally(() => manager.close()) });
  const api = await serveAdmin(layout.managerDir, manager, { socket: layout.adminSocket });
  stopApi = () => api.close();
  for (const { name, dir, socket } of layout.nodes) {
    const node = await openNode({
      devices: [join(dir, 'disk.img')],
      manager: [{ socket: layout.managerSocket }],
      keyFile: layout.keyFile,
      nodeId: nodeIdIn(dir),
      name,
      segments: { socket },
      shards: 1,
      tableMemory: tableMemory(undefined, layout.nodes.length),
      onEvent: (event) => note(`${name}: ${eventLine(event)}`, quiet),
    });
    parts.push({ name, pid, stop: () => node.close() });
  }
}

// ---------------------------------------------------------------- in processes

async function startProcesses(layout: Layout, parts: Part[], options: UpClusterOptions): Promise<void> {
  const { managerDir, managerSocket, adminSocket, keyFile, nodes } = layout;
  const addresses = ['--listen', managerSocket, '--admin', adminSocket];
  const manager = await startChild('manager', ['manager', 'start', managerDir, ...addresses], [], options);
  parts.push(manager);
  const reach = ['--manager', managerSocket, '--key-file', keyFile];
  for (const { name, dir, socket } of nodes) {
    const args = ['node', 'start', dir, '--name', name, '--listen', socket, ...reach];
    parts.push(await startChild(name, args, [manager], options));
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
  readonly volume: VolumeListed;
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
  let stopServer = async () => {};
  parts.push({ name: 'client', pid: process.pid, stop: () => stopServer().finally(() => cluster.close()) });
  await createMissing(cluster, options.create ?? [], nodes.length);
  for (const { name } of await cluster.volumes()) await openWhenFree(cluster, name);
  const tcp = options.port !== undefined || options.host !== undefined;
  const address = tcp
    ? { host: options.host, port: options.port ?? 10809 }
    : { socket: options.socket ?? socketIn(dir, 'strake.sock') };
  const server = await cluster.serve({ ...address, connectionsMax: options.connections });
  stopServer = () => server.close({ drainMs: options.drain * 1000 });
  return (await cluster.volumes()).map((volume) => ({ volume, uri: server.uriOf(volume.name) }));
}

/** Each volume is served by a process of its own. */
async function exportProcesses(layout: Layout, parts: Part[], options: UpClusterOptions): Promise<Exported[]> {
  const { withCluster } = await import('./cluster-access.js');
  const { uriOf } = await import('../embed/nbd-server.js');
  const { managerSocket, keyFile, nodes, dir } = layout;
  const access = { manager: [{ socket: managerSocket }], keyFile };
  const volumes = await withCluster(access, async (cluster) => {
    await createMissing(cluster, options.create ?? [], nodes.length);
    for (const { name } of await cluster.volumes()) await openWhenFree(cluster, name);
    return cluster.volumes();
  });
  const limits = ['--connections', String(options.connections), '--drain', String(options.drain)];
  const [exported, needed]: [Exported[], Part[]] = [[], [...parts]];
  for (const volume of volumes) {
    const { name } = volume;
    const socket = socketIn(dir, `${name}.nbd.sock`);
    const reach = ['--manager', managerSocket, '--key-file', keyFile];
    const args = ['volume', 'export', name, '--socket', socket, ...limits, ...reach];
    parts.push(await startChild(`export of ${name}`, args, needed, options));
    exported.push({ volume, uri: uriOf({ path: socket }, name) });
  }
  return exported;
}

// ---------------------------------------------------------------- the whole

function exportedTable(exported: readonly Exported[]): string {
  if (exported.length === 0) return clusterVolumeTable([]);
  const rows = exported.map(({ volume, uri }) => {
    return [volume.name, formatBytes(volume.sizeBytes), layoutText(volume), nodesOf(volume).join(','), uri];
  });
  return table(['volume', 'size', 'layout', 'on', 'uri'], rows);
}

async function announce(
  layout: Layout,
  parts: readonly Part[],
  exported: readonly Exported[],
  options: UpClusterOptions,
) {
  const { dir, clusterId, managerSocket: manager, adminSocket: admin, managerDir, keyFile } = layout;
  const [running, tokenFile] = [parts.map(({ name, pid }) => ({ name, pid })), tokenFileOf(managerDir)];
  const nodes = layout.nodes.map(({ name }) => name);
  const volumes = exported.map(({ volume, uri }) => {
    const { volumeId, name, sizeBytes, layout: kind, copies } = volume;
    return { volumeId, name, sizeBytes, layout: kind, copies, nodes: nodesOf(volume), uri };
  });
  const about = { dir, clusterId, manager, admin, tokenFile, keyFile, nodes, parts: running, volumes };
  const data = { ...about, pid: process.pid, time: new Date().toISOString() };
  const head = fields([
    ['cluster', `${dir} (${nodes.length === 1 ? '1 node' : `${nodes.length} nodes`}, ${clusterId})`],
    ['manager', manager],
    ['key', keyFile],
    ['admin', `${admin} (token in ${tokenFile})`],
    ['stop', howToStop()],
  ]);
  const processes = table(
    ['part', 'process'],
    running.map(({ name, pid }) => [name, String(pid)]),
  );
  const next = [
    'next, in another terminal:',
    `  export STRAKE_MANAGER=${manager} STRAKE_KEY_FILE=${keyFile}`,
    '  strake cluster status',
  ].join('\n');
  const whole = [head, ...(options.processes ? [processes] : []), exportedTable(exported), next].join('\n\n');
  const text = options.quiet ? exported.map(({ uri }) => uri).join('\n') : whole;
  print({ schema: 'strake.up.cluster', version: 1, data, text: text || manager }, options.output);
}

async function stopAll(parts: Part[]): Promise<void> {
  // Clients first, then nodes, then the manager: each gives back what it has of the next.
  for (const part of parts.splice(0).reverse()) {
    await part.stop().catch((error: Error) => note(`strake: ${part.name}: ${error.message}`));
  }
}

export async function upCluster(dir: string | undefined, options: UpClusterOptions, onExit: OnExit): Promise<void> {
  checkOptions(options);
  const quiet = options.quiet ?? false;
  const stopping = untilStopped({ fenced: (path, accepts) => `${path} is fenced and accepts ${accepts}` });
  const layout = await makeLayout(dir ?? '.', options);
  const parts: Part[] = [];
  try {
    if (options.processes) await startProcesses(layout, parts, options);
    else await startInside(layout, parts, stopping, quiet);
    const exporting = options.processes ? exportProcesses : exportInside;
    await announce(layout, parts, await exporting(layout, parts, options), options);
    if ((await stopping.stopped) === 'lost') onExit(EXIT_FAILED);
    else await drain(() => stopAll(parts), quiet);
  } finally {
    await stopAll(parts);
  }
}
