/** What `strake volume` does with volumes of a cluster, and `strake volume export`, a client of its own. */

import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { StrakeError } from '../core/errors.js';
import { CONNECTIONS_MAX, DRAIN_MS } from '../core/limits.js';
import { formatBytes } from '../core/units.js';
import type { Cluster } from '../embed/cluster.js';
import type { DeviceListed, VolumeListed } from '../ports/manager.js';
import { addClusterOptions, type ClusterAccess, clusterReach, withCluster } from './cluster-access.js';
import { clusterDeviceTable, clusterVolumeTable, clusterVolumeText } from './cluster-describe.js';
import { eventLine, layoutText, type parseLayout, shortId } from './describe.js';
import { type OnExit, outputOption, wholeNumber } from './options.js';
import { EXIT_FAILED, fields, note, type OutputFormat, print } from './output.js';
import { drain, howToStop, untilStopped } from './stopping.js';

interface Common extends ClusterAccess {
  readonly output: OutputFormat;
}

/** The volume of a name or an id, or of at least eight digits with which no other id begins. */
async function find(cluster: Cluster, text: string): Promise<VolumeListed> {
  const volumes = await cluster.volumes();
  const exact = volumes.find(({ name, volumeId }) => name === text || volumeId === text);
  const begun = /^[0-9a-f]{8,}$/.test(text) ? volumes.filter(({ volumeId }) => volumeId.startsWith(text)) : [];
  const found = exact ?? (begun.length === 1 ? begun[0] : undefined);
  if (found !== undefined) return found;
  throw new StrakeError('NO_VOLUME', `there is no volume ${text} in the cluster`);
}

function printVolume(verb: string, volume: VolumeListed, text: string, format: OutputFormat): void {
  print({ schema: `strake.volume.${verb}.cluster`, version: 1, data: { ...volume }, text }, format);
}

export interface CreateInCluster extends Common {
  readonly size: number;
  readonly layout?: ReturnType<typeof parseLayout>;
  readonly on?: readonly string[];
}

export async function createInCluster(name: string, options: CreateInCluster): Promise<void> {
  await withCluster(options, async (cluster) => {
    const { on = [], size } = options;
    // Two copies wherever there is room for two: whoever wants less has to say so.
    const nodes = on.length > 0 ? on.length : (await cluster.nodes()).length;
    const layout =
      options.layout ?? (nodes > 1 ? { layout: 'mirror' as const, copies: 2 } : { layout: 'single' as const });
    const volumeId = await cluster.createVolume({ name, sizeBytes: size, ...layout, on });
    const volume = await find(cluster, volumeId);
    const text = `created ${volume.name} (${formatBytes(volume.sizeBytes)}, ${layoutText(volume)}); \`strake volume export ${volume.name}\` serves it`;
    printVolume('create', volume, text, options.output);
  });
}

export async function listInCluster(options: Common): Promise<void> {
  await withCluster(options, async (cluster) => {
    const volumes = await cluster.volumes();
    const items = volumes.map((volume) => ({ ...volume }));
    const data = { volumes: items };
    const text = clusterVolumeTable(volumes);
    print({ schema: 'strake.volume.list.cluster', version: 1, data, items, text }, options.output);
  });
}

export async function showInCluster(name: string, options: Common): Promise<void> {
  await withCluster(options, async (cluster) => {
    const volume = await find(cluster, name);
    printVolume('show', volume, clusterVolumeText(volume), options.output);
  });
}

export async function growInCluster(name: string, options: Common & { size: number }): Promise<void> {
  await withCluster(options, async (cluster) => {
    const { volumeId } = await find(cluster, name);
    await cluster.growVolume(volumeId, options.size);
    const volume = await find(cluster, volumeId);
    const text = `${volume.name} has ${formatBytes(volume.sizeBytes)} now; clients that open it from now on see it`;
    printVolume('grow', volume, text, options.output);
  });
}

export async function renameInCluster(name: string, newName: string, options: Common): Promise<void> {
  await withCluster(options, async (cluster) => {
    const { volumeId } = await find(cluster, name);
    await cluster.renameVolume(volumeId, newName);
    const volume = await find(cluster, volumeId);
    printVolume('rename', volume, `volume ${volumeId} is named ${volume.name}`, options.output);
  });
}

export async function deleteInCluster(name: string, options: Common & { confirm?: string }): Promise<void> {
  await withCluster(options, async (cluster) => {
    const { volumeId, name: called } = await find(cluster, name);
    // What it holds is told by nodes, not by managers: it may be data, so it is named twice.
    if (options.confirm !== called && options.confirm !== volumeId) {
      throw new StrakeError('HOLDS_DATA', `volume ${called} may hold data`, {
        remedy: `To delete it and all that it holds, name it twice: --confirm ${called}`,
      });
    }
    await cluster.deleteVolume(volumeId);
    const data = { volumeId, name: called };
    const text = `deleted ${called} (${volumeId})`;
    print({ schema: 'strake.volume.delete.cluster', version: 1, data, text }, options.output);
  });
}

function matchDevice(devices: readonly DeviceListed[], text: string): string {
  const digits = text.toLowerCase();
  const found = devices.filter(({ deviceId }) => digits.length >= 4 && deviceId.startsWith(digits));
  if (found.length === 1) return found[0].deviceId;
  throw new StrakeError(
    'NO_DEVICE',
    `${text} is ${found.length === 0 ? 'no device' : 'more than one device'} of the cluster`,
  );
}

export async function startInCluster(name: string, options: Common & { without: string[] }): Promise<void> {
  await withCluster(options, async (cluster) => {
    const { volumeId } = await find(cluster, name);
    const devices = await cluster.devices();
    const without = options.without.map((text) => matchDevice(devices, text));
    const lost = await cluster.startVolume(volumeId, { without });
    const volume = await find(cluster, volumeId);
    const lines = lost.map(({ group, what }) => `group ${group}: ${what}`);
    const text = [`${volume.name} goes on without ${without.map(shortId).join(', ')}`, ...lines].join('\n');
    const data = { ...volume, lost };
    print({ schema: 'strake.volume.start.cluster', version: 1, data, text }, options.output);
  });
}

export async function listClusterDevices(options: Common): Promise<void> {
  await withCluster(options, async (cluster) => {
    const devices = await cluster.devices();
    const items = devices.map((device) => ({ ...device }));
    const data = { devices: items };
    const text = clusterDeviceTable(devices);
    print({ schema: 'strake.device.list.cluster', version: 1, data, items, text }, options.output);
  });
}

// ---------------------------------------------------------------- export

interface ExportOptions extends Common {
  readonly socket?: string;
  readonly host?: string;
  readonly port?: number;
  readonly takeOver?: boolean;
  readonly readOnly?: boolean;
  readonly connections: number;
  readonly drain: number;
  readonly quiet?: boolean;
}

/** A socket that only this user can reach, in the folder meant for such things. */
function defaultSocket(volume: string): string {
  const folder = process.env.XDG_RUNTIME_DIR || (process.getuid?.() === 0 ? '/run' : tmpdir());
  return join(folder, `strake-volume-${volume.replace(/[^\w.-]/g, '_')}.sock`);
}

async function exportVolume(name: string, options: ExportOptions, onExit: OnExit): Promise<void> {
  const { connect } = await import('../embed/cluster.js');
  const { takeOver = false, readOnly = false, quiet = false } = options;
  if (takeOver && readOnly) {
    throw new StrakeError(
      'INVALID_ARGUMENT',
      '--take-over takes the right to write, and --read-only needs none: leave one of them out',
    );
  }
  const tcp = options.port !== undefined || options.host !== undefined;
  if (tcp && options.socket !== undefined) {
    throw new StrakeError('INVALID_ARGUMENT', 'an export listens either on a socket or on a port', {
      remedy: 'Give --socket, or --port and --host.',
    });
  }
  const { stopped, stop } = untilStopped({ fenced: (path, accepts) => `${path} accepts ${accepts}` });
  const cluster = await connect({
    ...clusterReach(options),
    onEvent: (event) => {
      note(eventLine(event), quiet);
      // Somebody else writes now, or nothing can be served any more: clients of this one are told by their connections.
      if (event.kind === 'stopped') stop('lost');
    },
  });
  try {
    const volume = await cluster.openVolume(name, { takeOver, readOnly });
    const address = tcp
      ? { host: options.host, port: options.port ?? 10809 }
      : { socket: options.socket ?? defaultSocket(volume.name) };
    const server = await cluster.serve({ ...address, connectionsMax: options.connections });
    const uri = server.uriOf(volume.name);
    const about = { uri, volume: volume.name, volumeId: volume.id, sizeBytes: volume.sizeBytes, readOnly };
    const data = { ...about, pid: process.pid, time: new Date().toISOString() };
    const text = fields([
      ['exporting', `${volume.name} (${formatBytes(volume.sizeBytes)}${readOnly ? ', read-only' : ''})`],
      ['uri', uri],
      ['stop', howToStop()],
    ]);
    print({ schema: 'strake.volume.export', version: 1, data, text: quiet ? uri : text }, options.output);
    if ((await stopped) === 'lost') onExit(EXIT_FAILED);
    else {
      await drain(() => cluster.close({ drainMs: options.drain * 1000 }), quiet);
    }
  } finally {
    await cluster.close();
  }
}

export function addVolumeExport(volume: Command, onExit: OnExit): void {
  addClusterOptions(volume.command('export <volume>'))
    .description('serve a volume of a cluster over NBD, as a client of its nodes on any host')
    .option(
      '--socket <path>',
      'unix socket to listen on, mode 0600 (strake-volume-NAME.sock in $XDG_RUNTIME_DIR, or /run)',
    )
    .option('--port <port>', 'TCP port on a loopback address instead', wholeNumber(0, 65535))
    .option('--host <address>', 'loopback address to listen on (127.0.0.1)')
    .option('--take-over', 'take the right to write from another client, which gets errors from then on')
    .option('--read-only', 'only read it, beside whoever writes it and other readers')
    .option('--connections <count>', 'the most connections at once', wholeNumber(1, CONNECTIONS_MAX), CONNECTIONS_MAX)
    .option('--drain <seconds>', 'time for requests in flight when stopping', wholeNumber(0, 3600), DRAIN_MS / 1000)
    .option('--quiet', 'print only the URI')
    .addOption(outputOption())
    .action((name: string, options: ExportOptions) => exportVolume(name, options, onExit));
}
