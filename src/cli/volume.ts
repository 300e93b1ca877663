/**
 * `strake volume create|list|show|grow|rename|delete|start|scrub`: volumes of a running node, or of a cluster whose manager is
 * named.
 */

import { type Command, InvalidArgumentError } from 'commander';
import type { ControlVolume } from '../control/calls.js';
import { callNode } from '../control/client.js';
import { StrakeError } from '../core/errors.js';
import { formatBytes } from '../core/units.js';
import { volumeMeant } from '../core/volume-names.js';
import { addClusterOptions, type ClusterAccess, meansCluster } from './cluster-access.js';
import {
  addVolumeExport,
  createInCluster,
  deleteInCluster,
  growInCluster,
  listInCluster,
  renameInCluster,
  showInCluster,
  startInCluster,
} from './cluster-volume.js';
import { layoutText, parseLayout, parseSize, volumeTable, volumeText } from './describe.js';
import { matchDevice } from './device-node.js';
import { waitForJobs } from './jobs.js';
import { findControl } from './node-config.js';
import { asUsageError, nodeOption, noun, type OnExit, outputOption, wholeNumber } from './options.js';
import { type OutputFormat, print } from './output.js';

interface Common extends ClusterAccess {
  readonly node?: string;
  readonly output: OutputFormat;
}

const NOUN = 'volumes of a running node, or of a cluster';

function printVolume(verb: string, volume: ControlVolume, text: string, format: OutputFormat): void {
  print({ schema: `strake.volume.${verb}`, version: 1, data: { ...volume }, text }, format);
}

interface CreateOptions extends Common {
  readonly size: number;
  readonly layout?: ReturnType<typeof parseLayout>;
  readonly on?: readonly string[];
}

/** Two copies wherever there is room for two: whoever wants less has to say so. */
async function usualLayout(socket: string): Promise<ReturnType<typeof parseLayout>> {
  const { devices } = await callNode(socket, 'devices', {});
  return parseLayout(devices.length > 1 ? 'mirror:2' : 'single');
}

async function create(name: string, options: CreateOptions): Promise<void> {
  if (meansCluster(options)) return createInCluster(name, options);
  if (options.on !== undefined)
    throw new StrakeError('INVALID_ARGUMENT', '--on names nodes of a cluster, and no manager is named');
  const socket = findControl(options.node);
  const layout = options.layout ?? (await usualLayout(socket));
  const { volume } = await callNode(socket, 'create', { name, sizeBytes: options.size, ...layout });
  const text = `created ${volume.name} (${formatBytes(volume.sizeBytes)}, ${layoutText(volume)})\n${volume.uri}`;
  printVolume('create', volume, text, options.output);
}

async function list(options: Common): Promise<void> {
  if (meansCluster(options)) return listInCluster(options);
  const { volumes } = await callNode(findControl(options.node), 'volumes', {});
  const items = volumes.map((volume) => ({ ...volume }));
  const data = { volumes: items };
  print({ schema: 'strake.volume.list', version: 1, data, items, text: volumeTable(volumes) }, options.output);
}

/** The volume of this name or id. */
async function find(socket: string, text: string): Promise<ControlVolume> {
  const { volumes } = await callNode(socket, 'volumes', {});
  return volumeMeant(volumes, text);
}

async function show(name: string, options: Common): Promise<void> {
  if (meansCluster(options)) return showInCluster(name, options);
  const volume = await find(findControl(options.node), name);
  printVolume('show', volume, volumeText(volume), options.output);
}

async function grow(name: string, options: Common & { size: number }): Promise<void> {
  if (meansCluster(options)) return growInCluster(name, options);
  const { volume } = await callNode(findControl(options.node), 'grow', { name, sizeBytes: options.size });
  const text = `${volume.name} has ${formatBytes(volume.sizeBytes)} now; clients that connect from now on see it`;
  printVolume('grow', volume, text, options.output);
}

async function rename(name: string, newName: string, options: Common): Promise<void> {
  if (meansCluster(options)) return renameInCluster(name, newName, options);
  const { volume } = await callNode(findControl(options.node), 'rename', { name, newName });
  const clients = volume.uri === '' ? 'it is not served' : `clients find it at\n${volume.uri}`;
  const text = `volume ${volume.id} is named ${volume.name}; ${clients}`;
  printVolume('rename', volume, text, options.output);
}

async function remove(name: string, options: Common & { confirm?: string }): Promise<void> {
  if (meansCluster(options)) return deleteInCluster(name, options);
  const { confirm } = options;
  const params = confirm === undefined ? { name } : { name, confirm };
  const data = await callNode(findControl(options.node), 'delete', params);
  print(
    { schema: 'strake.volume.delete', version: 1, data, text: `deleted ${data.name} (${data.id})` },
    options.output,
  );
}

async function start(name: string, options: Common & { without: string[] }): Promise<void> {
  if (meansCluster(options)) return startInCluster(name, options);
  const socket = findControl(options.node);
  const without = await Promise.all(options.without.map((text) => matchDevice(socket, text)));
  const { volume } = await callNode(socket, 'start', { name, without });
  printVolume('start', volume, `started ${volume.name}: ${volume.state}\n${volume.uri}`, options.output);
}

interface ScrubOptions extends Common {
  readonly rate?: number;
  readonly wait?: number | true;
  readonly quiet?: boolean;
}

async function scrub(name: string, options: ScrubOptions): Promise<void> {
  const socket = findControl(options.node);
  const rate = options.rate === undefined ? {} : { bytesPerSecond: options.rate };
  const begun = await callNode(socket, 'scrub', { name, ...rate });
  let { volume } = begun;
  if (options.wait !== undefined) {
    await waitForJobs(socket, [begun.job], options);
    volume = await find(socket, volume.id);
  }
  const { repairedBlocks, unrecoverableBlocks } = volume.counters;
  const counts = `${repairedBlocks} blocks repaired and ${unrecoverableBlocks} lost since the node started`;
  const text =
    options.wait === undefined
      ? `scrubbing ${volume.name} as job ${begun.job.id}; \`strake job list\` shows how far`
      : `scrubbed ${volume.name}: ${counts}`;
  const data = { ...volume, job: begun.job };
  print({ schema: 'strake.volume.scrub', version: 1, data, text }, options.output);
}

/** Gathers what is given as `X[,X]`, perhaps several times. */
function gather(text: string, before: string[] = []): string[] {
  const ids = text.split(',').filter((id) => id !== '');
  if (ids.length === 0) throw new InvalidArgumentError('a name or an id is expected.');
  return [...before, ...ids];
}

export function addVolume(program: Command, onExit: OnExit): void {
  const volume = noun(program, 'volume', NOUN);
  const verb = (usage: string, description: string) =>
    addClusterOptions(volume.command(usage).description(description).addOption(nodeOption())).addOption(outputOption());
  const size = asUsageError(parseSize);
  verb('create <name>', 'make a volume, which takes space only for what is written')
    .requiredOption('--size <size>', 'size, such as 10G; a multiple of 4096 bytes', size)
    .option(
      '--layout <layout>',
      'single, mirror:2 or mirror:3 (mirror:2, or single on one device)',
      asUsageError(parseLayout),
    )
    .option('--on <nodes>', 'NODE[,NODE]: nodes of the cluster that it lies on, as many as copies or more', gather)
    .action(create);
  verb('list', 'list the volumes').action(list);
  verb('show <volume>', 'show a volume: its copies, counters and jobs').action(show);
  verb('grow <volume>', 'make a volume larger').requiredOption('--size <size>', 'its new size', size).action(grow);
  verb('rename <volume> <new-name>', 'give a volume another name; clients that are connected go on').action(rename);
  verb('delete <volume>', 'delete a volume and what it holds')
    .option('--confirm <name>', 'the name or the whole id again: delete it although it holds data')
    .action(remove);
  verb('start <volume>', 'start a volume that cannot be proven to be current, without the devices that are lost')
    .requiredOption('--without <id>', 'a device that is lost for good; may be given several times', gather)
    .action(start);
  verb('scrub <volume>', 'read and compare all copies, and repair what differs')
    .option('--rate <bytes>', 'the most to read in a second', size)
    .option('--wait [seconds]', 'wait until it is done', wholeNumber(1, 10 ** 7))
    .option('--quiet', 'no progress')
    .action(scrub);
  addVolumeExport(volume, onExit);
}
