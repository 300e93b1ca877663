/** `strake up`: runs a node in the foreground: opens its devices, serves its volumes, and answers on its control socket. */

import type { Command } from 'commander';
import type { ControlServer } from '../control/server.js';
import { StrakeError } from '../core/errors.js';
import { CONNECTIONS_MAX, DRAIN_MS } from '../core/limits.js';
import { formatBytes } from '../core/units.js';
import { SHARDS_MAX } from '../embed/limits.js';
import type { Node } from '../embed/node.js';
import type { NodeServer } from '../embed/node-server.js';
import type { CreateVolumeOptions, NodeStatus } from '../embed/node-types.js';
import { eventLine, layoutText, parseLayout, parseSize } from './describe.js';
import { UP_NODES_MAX } from './limits.js';
import { findDevices } from './node-devices.js';
import { asUsageError, type OnExit, outputOption, wholeNumber } from './options.js';
import { EXIT_FAILED, fields, note, print, table } from './output.js';
import { drain, howToStop, type Stopping, untilStopped } from './stopping.js';
import type { UpClusterOptions } from './up-cluster.js';
import { parseCreate, parseWithout, settingsOf, type UpOptions, type UpSettings } from './up-settings.js';

/** A node that is up. */
interface Running {
  readonly node: Node;
  readonly server: NodeServer;
  readonly control: ControlServer;
}

/** Makes the volumes that are asked for and do not exist. */
async function createMissing(node: Node, wanted: readonly CreateVolumeOptions[]): Promise<void> {
  const { volumes, unavailable } = await node.status();
  const existing = new Set(volumes.map(({ name }) => name));
  const missing = wanted.filter(({ name }) => !existing.has(name));
  const away = unavailable.filter(({ code }) => code !== 'ERR_STRAKE_NOT_FORMATTED');
  if (away.length > 0) {
    // Made anew, it would be another volume of that name.
    const paths = away.map(({ path }) => path).join(', ');
    for (const { name } of missing) note(`strake: volume ${name} is not made: it may be on ${paths}, not open`);
    return;
  }
  const layout = parseLayout((await node.devices()).length > 1 ? 'mirror:2' : 'single');
  for (const options of missing) await node.createVolume({ ...layout, ...options });
}

function announce(running: Running, settings: UpSettings, status: NodeStatus, options: UpOptions): void {
  const { server, control } = running;
  const { devices } = status;
  const volumes = status.volumes.map(({ id, name, sizeBytes, layout, copies, state }) => {
    // Under this address there is another volume, or none.
    const uri = state === 'conflict' ? '' : server.uriOf(name);
    return { id, name, sizeBytes, layout, copies, state, uri };
  });
  const data = {
    dir: settings.place.dir,
    clusterId: status.clusterId,
    verdict: status.verdict,
    address: server.address,
    control: control.socket,
    devices: devices.map(({ deviceId, path, label, sizeBytes, state }) => ({
      deviceId,
      path,
      label,
      sizeBytes,
      state,
    })),
    volumes,
    pid: process.pid,
    time: new Date().toISOString(),
  };
  const sizes = formatBytes(devices.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
  const head = fields([
    ['node', `${data.dir} (${devices.length === 1 ? '1 device' : `${devices.length} devices`}, ${sizes})`],
    ['cluster', data.clusterId],
    ['verdict', data.verdict === 'ok' ? 'ok' : `${data.verdict}; \`strake status\` says why`],
    ['control', control.socket],
    ['stop', howToStop('`strake down`')],
  ]);
  const rows = volumes.map((one) => [one.name, formatBytes(one.sizeBytes), layoutText(one), one.state, one.uri]);
  const none = 'no volumes yet; `strake volume create NAME --size S` makes one';
  const list = rows.length > 0 ? table(['volume', 'size', 'layout', 'state', 'uri'], rows) : none;
  const text = options.quiet
    ? volumes.flatMap(({ uri }) => (uri === '' ? [] : [uri])).join('\n') || server.address
    : `${head}\n\n${list}`;
  print({ schema: 'strake.up', version: 1, data, text }, options.output);
}

async function listenControl(
  node: Node,
  server: NodeServer,
  settings: UpSettings,
  stop: Stopping['stop'],
): Promise<ControlServer> {
  const { serveControl } = await import('../control/server.js');
  return serveControl({
    socket: settings.control,
    node,
    process: {
      pid: process.pid,
      dir: settings.place.dir,
      address: server.address,
      startedAt: new Date().toISOString(),
    },
    uriOf: (volume) => server.uriOf(volume),
    onStop: () => stop('down'),
    onBug: (error) => note(`strake: this is a bug: ${error instanceof Error ? error.stack : String(error)}`),
  });
}

/** Serves until it is to stop. The node is open, and is closed by the caller if this throws. */
async function serve(
  node: Node,
  settings: UpSettings,
  options: UpOptions,
  { stopped, stop }: Stopping,
): Promise<number | undefined> {
  await createMissing(node, options.create ?? []);
  const server = await node.serve({ ...settings.listen, connectionsMax: options.connections });
  const control = await listenControl(node, server, settings, stop);
  try {
    announce({ node, server, control }, settings, await node.status(), options);
    const reason = await stopped;
    if (reason === 'lost') return EXIT_FAILED;
    await drain(async () => {
      control.noteStopping();
      // First, so that neither a job nor a call that waits for a device keeps what follows.
      await node.endWork();
      await control.close();
      await server.close({ drainMs: options.drain * 1000 });
      await node.close();
    }, options.quiet);
    return undefined;
  } finally {
    await control.close();
  }
}

async function run(dir: string | undefined, options: UpOptions, onExit: OnExit): Promise<void> {
  const settings = settingsOf(dir, options);
  const { openNode } = await import('../embed/node.js');
  // Devices are locked, and soon written to, from here on, so a signal has to be a wish to stop already.
  const stopping = untilStopped({
    fenced: (path, accepts) => `${path} is fenced and accepts ${accepts}; \`strake status\` says what to do`,
  });
  const { paths, named } = findDevices(settings.place.dir, settings.devices);
  const { cluster, without } = settings;
  const node = await openNode({
    devices: paths,
    ...(cluster === undefined ? {} : { clusterId: cluster }),
    without: Object.fromEntries(without),
    skipUnformatted: !named,
    ...(options.deviceWait === undefined ? {} : { deviceWaitMs: options.deviceWait * 1000 }),
    ...(options.shards === undefined ? {} : { shards: options.shards }),
    ...(options.tableMemory === undefined ? {} : { tableMemory: options.tableMemory }),
    onEvent: (event) => note(eventLine(event), event.kind === 'device-skipped' && options.quiet),
  });
  try {
    const code = await serve(node, settings, options, stopping);
    if (code !== undefined) onExit(code);
  } finally {
    await node.close();
  }
}

async function runCluster(dir: string | undefined, options: UpClusterOptions, onExit: OnExit): Promise<void> {
  const { upCluster } = await import('./up-cluster.js');
  await upCluster(dir, options, onExit);
}

/** Throws `ERR_STRAKE_INVALID_ARGUMENT` if an option of a whole cluster is given for one node. */
function checkAlone({ processes, deviceSize }: Partial<UpClusterOptions>): void {
  const option = processes === undefined ? (deviceSize === undefined ? null : '--device-size') : '--processes';
  if (option === null) return;
  throw new StrakeError('INVALID_ARGUMENT', `${option} is of no use without --nodes`, {
    remedy: 'Give --nodes COUNT for a whole cluster on files of the folder.',
  });
}

function several<T>(parse: (text: string) => T): (text: string, before?: readonly T[]) => readonly T[] {
  return (text, before = []) => [...before, parse(text)];
}

export function addUp(program: Command, onExit: OnExit): void {
  const create = (text: string, before?: readonly CreateVolumeOptions[]) =>
    several(asUsageError(parseCreate))(text, before);
  const without = (text: string, before?: ReadonlyMap<string, readonly string[]>) =>
    asUsageError((one) => parseWithout(one, before))(text);
  program
    .command('up [dir]')
    .description('run a node: open the devices of a folder, or of its strake.json, and serve their volumes over NBD')
    .option('--device <path>', 'a device of the node; may be given several times', several(String))
    .option('--cluster <id>', 'refuse devices of other clusters')
    .option('--socket <path>', 'unix socket to serve volumes on (DIR/strake.sock)')
    .option('--port <port>', 'TCP port on a loopback address instead', wholeNumber(0, 65535))
    .option('--host <address>', 'loopback address to serve on (127.0.0.1)')
    .option('--control <path>', 'control socket (DIR/control.sock)')
    .option('--create <volume>', 'NAME=SIZE[,LAYOUT]: make this volume unless it exists', create)
    .option('--without <ids>', 'VOLUME=ID[,ID]: start this volume although these devices are lost', without)
    .option('--device-wait <seconds>', 'how long devices that do not answer are waited for (15)', wholeNumber(0, 3600))
    .option(
      '--shards <count>',
      'threads over which devices are spread (half of the processors)',
      wholeNumber(1, SHARDS_MAX),
    )
    .option(
      '--table-memory <size>',
      'memory for block tables, 16M to 1G (1/16 of what there is)',
      asUsageError(parseSize),
    )
    .option('--connections <count>', 'the most connections at once', wholeNumber(1, CONNECTIONS_MAX), CONNECTIONS_MAX)
    .option('--drain <seconds>', 'time for requests in flight when stopping', wholeNumber(0, 3600), DRAIN_MS / 1000)
    .option('--nodes <count>', 'a whole cluster of so many nodes on files of the folder', wholeNumber(1, UP_NODES_MAX))
    .option('--processes', 'with --nodes: manager, nodes and exports in a process each')
    .option('--device-size <size>', 'with --nodes: size of a device that is made (512M)', asUsageError(parseSize))
    .option('--quiet', 'print only the URIs')
    .addOption(outputOption())
    .action(async (dir: string | undefined, options: UpOptions & Partial<UpClusterOptions>) => {
      const { nodes } = options;
      if (nodes !== undefined) return runCluster(dir, { ...options, nodes }, onExit);
      checkAlone(options);
      return run(dir, options, onExit);
    });
}
