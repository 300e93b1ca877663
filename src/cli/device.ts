/** `strake device show|list`: what devices are, what is on them, and who uses them; the other verbs have files of their own. */

import { statSync } from 'node:fs';
import type { Command } from 'commander';
import { StrakeError } from '../core/errors.js';
import { formatBytes } from '../core/units.js';
import { type DeviceFacts, inspectDevice } from '../embed/facts.js';
import type { DeviceDescription } from '../embed/node-types.js';
import { addClusterOptions, type ClusterAccess, meansCluster } from './cluster-access.js';
import { listClusterDevices } from './cluster-volume.js';
import { shortId } from './describe.js';
import { addCheck } from './device-check.js';
import { addFormat, superblockFields } from './device-format.js';
import { addNodeDevice } from './device-node.js';
import { type Candidate, candidatesIn, examine, isForeign } from './node-devices.js';
import { noun, type OnExit, outputOption } from './options.js';
import { fields, type OutputFormat, print, table } from './output.js';

function yesNo(value: boolean | undefined): string {
  if (value === undefined) return 'not known';
  return value ? 'yes' : 'no';
}

function factFields(facts: Omit<DeviceFacts, 'identity'>): [string, string][] {
  return [
    ['path', facts.path],
    ['kind', facts.kind === 'block' ? 'block device' : 'regular file'],
    ['size', `${formatBytes(facts.sizeBytes)} (${facts.sizeBytes} bytes)`],
    ['logical block', formatBytes(facts.logicalBlockBytes)],
    ['physical block', formatBytes(facts.physicalBlockBytes)],
    ['memory alignment', formatBytes(facts.memoryAlignBytes)],
    ['discard', facts.discard ? `yes, in units of ${formatBytes(facts.discardGranularityBytes)}` : 'no'],
    ['zeroes by itself', yesNo(facts.writeZeroesMaxBytes > 0)],
    ['volatile write cache', yesNo(facts.writeCache)],
    ['forced unit access', yesNo(facts.fua)],
    ['rotational', yesNo(facts.rotational)],
    ['read-only', yesNo(facts.readOnly)],
    ['model', facts.model ?? 'not known'],
    ['holds', facts.signatures.length > 0 ? facts.signatures.join(', ') : 'nothing known'],
    ['used by', facts.users.length > 0 ? facts.users.join(', ') : 'nobody'],
  ];
}

async function show(path: string, format: OutputFormat): Promise<void> {
  const { identity: _identity, ...facts } = await inspectDevice(path);
  const found = await examine(path);
  const superblock = found.device ?? null;
  // A device of ours that cannot be read as one is worth a word; anything else just is not ours.
  const problem = found.error === undefined || isForeign(found) ? null : found.error.message;
  const pairs = factFields(facts);
  if (superblock !== null) pairs.push(...superblockFields(superblock));
  if (problem !== null) pairs.push(['superblock', problem]);
  const data = { ...facts, superblock, superblockProblem: problem };
  print({ schema: 'strake.device.show', version: 1, data, text: fields(pairs) }, format);
}

/** One line of `device list`. */
interface Listed {
  readonly path: string;
  /** `formatted`, `not formatted`, `in use`, or what is wrong. */
  readonly state: string;
  readonly superblock: DeviceDescription | null;
}

function stateOf(found: Candidate): string {
  if (found.error === undefined) return 'formatted';
  if (isForeign(found)) return 'not formatted';
  return found.error.code === 'ERR_STRAKE_IN_USE' ? 'in use' : found.error.message;
}

async function look(path: string): Promise<Listed> {
  const found = await examine(path);
  return { path, state: stateOf(found), superblock: found.device ?? null };
}

async function list(paths: readonly string[], format: OutputFormat): Promise<void> {
  const devices = paths.flatMap((path) => {
    const found = statSync(path, { throwIfNoEntry: false });
    if (found === undefined) throw new StrakeError('NOT_FOUND', `there is no ${path}`);
    return found.isDirectory() ? candidatesIn(path) : [path];
  });
  const items = (await Promise.all(devices.map(look))).map((one) => ({ ...one }));
  const rows = items.map(({ path, state, superblock: device }) =>
    device === null
      ? [path, state, '', '', '', '']
      : [path, state, shortId(device.deviceId), shortId(device.clusterId), device.label, formatBytes(device.sizeBytes)],
  );
  const text = rows.length > 0 ? table(['path', 'state', 'device', 'cluster', 'label', 'size'], rows) : 'no devices';
  print({ schema: 'strake.device.list', version: 1, data: { devices: items }, items, text }, format);
}

export function addDevice(program: Command, onExit: OnExit): void {
  const device = noun(program, 'device', 'look at devices, format and check them, and change those of a running node');
  device
    .command('show <path>')
    .description('show what a block device or file is, what is on it, and who uses it')
    .addOption(outputOption())
    .action((path: string, options: { output: OutputFormat }) => show(path, options.output));
  addClusterOptions(device.command('list [path...]'))
    .description('list the Strake devices in folders, or among paths; without any, those of the cluster')
    .addOption(outputOption())
    .action((paths: string[], options: ClusterAccess & { output: OutputFormat }, command: Command) => {
      if (paths.length > 0) return list(paths, options.output);
      if (!meansCluster(options)) command.error('error: name a folder or a device, or a manager of a cluster');
      return listClusterDevices(options);
    });
  addFormat(device);
  addCheck(device, onExit);
  addNodeDevice(device);
}
