/** `strake node start|list`: a node of a cluster, which serves the segments of its devices, and a list of all. */

import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { id as idRule, newVolumeName } from '../core/arguments.js';
import { StrakeError } from '../core/errors.js';
import { addressText } from '../core/stream-address.js';
import { LABELS_MAX, SHARDS_MAX } from '../embed/limits.js';
import type { Node } from '../embed/node.js';
import { nodeAddress } from '../embed/node-addresses.js';
import type { NodeAddress } from '../embed/node-types.js';
import { addClusterOptions, type ClusterAccess, clusterReach, withCluster } from './cluster-access.js';
import { nodeTable } from './cluster-describe.js';
import { eventLine, parseSize, shortId } from './describe.js';
import { controlSocket, type NodePlace, placeOf, readConfig, socketIn } from './node-config.js';
import { findDevices } from './node-devices.js';
import { asUsageError, noun, type OnExit, outputOption, wholeNumber } from './options.js';
import { EXIT_FAILED, fields, note, type OutputFormat, print } from './output.js';
import { drain, howToStop, type Stopping, untilStopped } from './stopping.js';

const ID_NAME = 'node-id';

interface StartOptions extends ClusterAccess {
  readonly device?: readonly string[];
  readonly name?: string;
  readonly label?: ReadonlyMap<string, string>;
  readonly listen?: NodeAddress;
  readonly control?: string;
  readonly shards?: number;
  readonly tableMemory?: number;
  readonly quiet?: boolean;
  readonly output: OutputFormat;
}

/** The id of the node that lives in a folder; made at its first start, durably. */
export function nodeIdIn(dir: string): string {
  const path = join(dir, ID_NAME);
  try {
    const file = openSync(path, 'wx', 0o644);
    try {
      const made = randomBytes(16).toString('hex');
      writeSync(file, `${made}\n`);
      fsyncSync(file);
      return made;
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  const text = readFileSync(path, 'utf8').trim();
  try {
    return idRule.take(text, path);
  } catch (cause) {
    throw new StrakeError('INVALID_ARGUMENT', `${path} does not hold the id of a node`, {
      remedy:
        'Put it back from a copy, or delete it: then the node is another one to its managers, with the same devices.',
      cause,
    });
  }
}

/** A name out of that of the folder. */
export function usualName(dir: string): string {
  try {
    return newVolumeName.take(basename(dir), 'the name of the folder');
  } catch (cause) {
    throw new StrakeError('INVALID_ARGUMENT', `${JSON.stringify(basename(dir))} is no name of a node`, {
      remedy: 'Give --name NAME: letters, digits, ".", "_" and "-".',
      cause,
    });
  }
}

function announce(node: Node, place: NodePlace, name: string, control: string, options: StartOptions): void {
  const address = node.segmentsAddress === null ? '' : addressText(node.segmentsAddress);
  const devices = [...node.parts.facts].map(([deviceId, { path, sizeBytes }]) => ({ deviceId, path, sizeBytes }));
  const about = { dir: place.dir, name, clusterId: node.clusterId, address, control, devices };
  const data = { ...about, pid: process.pid, time: new Date().toISOString() };
  const text = fields([
    ['node', `${name} (${place.dir})`],
    ['cluster', node.clusterId],
    ['segments', address],
    ['devices', devices.map(({ deviceId, path }) => `${shortId(deviceId)} ${path}`).join(', ')],
    ['control', control],
    ['stop', howToStop('`strake down`')],
  ]);
  print({ schema: 'strake.node.start', version: 1, data, text: options.quiet ? address : text }, options.output);
}

async function serve(node: Node, place: NodePlace, name: string, options: StartOptions, stopping: Stopping) {
  const { serveControl } = await import('../control/server.js');
  const { segmentsAddress } = node;
  const control = await serveControl({
    socket: options.control ?? controlSocket(place, readConfig(place)),
    node,
    process: {
      pid: process.pid,
      dir: place.dir,
      address: segmentsAddress === null ? '' : addressText(segmentsAddress),
      startedAt: new Date().toISOString(),
    },
    uriOf: () => {
      throw new StrakeError('UNAVAILABLE', 'volumes of a cluster are exported by its clients');
    },
    onStop: () => stopping.stop('down'),
    onBug: (error) => note(`strake: this is a bug: ${error instanceof Error ? error.stack : String(error)}`),
  });
  try {
    announce(node, place, name, control.socket, options);
    if ((await stopping.stopped) === 'lost') return EXIT_FAILED;
    await drain(async () => {
      control.noteStopping();
      await node.endWork();
      await control.close();
      await node.close();
    }, options.quiet);
    return undefined;
  } finally {
    await control.close();
  }
}

async function start(dir: string, options: StartOptions, onExit: OnExit): Promise<void> {
  const place = placeOf(dir);
  const reach = clusterReach(options);
  const { openNode } = await import('../embed/node.js');
  const stopping = untilStopped({
    fenced: (path, accepts) => `${path} is fenced and accepts ${accepts}; \`strake status\` says what to do`,
  });
  const config = readConfig(place);
  const { paths, named } = findDevices(place.dir, options.device ?? config.devices);
  const name = options.name ?? usualName(place.dir);
  const node = await openNode({
    ...reach,
    devices: paths,
    skipUnformatted: !named,
    ...(config.cluster === undefined ? {} : { clusterId: config.cluster }),
    nodeId: nodeIdIn(place.dir),
    name,
    labels: Object.fromEntries(options.label ?? []),
    segments: options.listen ?? { socket: socketIn(place.dir, 'segments.sock') },
    ...(options.shards === undefined ? {} : { shards: options.shards }),
    ...(options.tableMemory === undefined ? {} : { tableMemory: options.tableMemory }),
    onEvent: (event) => note(eventLine(event), event.kind === 'device-skipped' && options.quiet),
  });
  try {
    const code = await serve(node, place, name, options, stopping);
    if (code !== undefined) onExit(code);
  } finally {
    await node.close();
  }
}

async function list(options: ClusterAccess & { output: OutputFormat }): Promise<void> {
  await withCluster(options, async (cluster) => {
    const nodes = await cluster.nodes();
    const items = nodes.map((node) => ({ ...node }));
    print(
      { schema: 'strake.node.list', version: 1, data: { nodes: items }, items, text: nodeTable(nodes) },
      options.output,
    );
  });
}

/** `NAME=VALUE[,NAME=VALUE]`, added to what was given before. */
function parseLabels(text: string, before: ReadonlyMap<string, string> = new Map()): ReadonlyMap<string, string> {
  const labels = new Map(before);
  for (const one of text.split(',')) {
    const match = /^([^=]+)=(.+)$/.exec(one);
    if (match === null) throw new InvalidArgumentError('NAME=VALUE is expected, such as rack=r1.');
    labels.set(match[1], match[2]);
  }
  if (labels.size > LABELS_MAX) throw new InvalidArgumentError(`at most ${LABELS_MAX} labels are taken.`);
  return labels;
}

export function addClusterNode(program: Command, onExit: OnExit): void {
  const node = noun(program, 'node', 'nodes of a cluster');
  addClusterOptions(node.command('start <dir>'))
    .description('run a node of a cluster: serve the segments of the devices of a folder, or of its strake.json')
    .option('--device <path>', 'a device of the node; may be given several times', (text, before: string[] = []) => [
      ...before,
      text,
    ])
    .option('--name <name>', 'its name, of no other node (that of the folder)')
    .option('--label <labels>', 'NAME=VALUE[,NAME=VALUE]: where it stands, such as rack=r1,site=s1', parseLabels)
    .option('--listen <address>', 'where clients reach it (DIR/segments.sock)', asUsageError(nodeAddress))
    .option('--control <path>', 'control socket (DIR/control.sock)')
    .option('--shards <count>', 'threads over which devices are spread', wholeNumber(1, SHARDS_MAX))
    .option('--table-memory <size>', 'memory for block tables, 16M to 1G', asUsageError(parseSize))
    .option('--quiet', 'print only the address')
    .addOption(outputOption())
    .action((dir: string, options: StartOptions) => start(dir, options, onExit));
  addClusterOptions(node.command('list'))
    .description('list the nodes of a cluster')
    .addOption(outputOption())
    .action(list);
}
