/** `strake device format`: makes a device a Strake device. */

import type { Command } from 'commander';
import { formatBytes } from '../core/units.js';
import type { DeviceDescription } from '../embed/node-types.js';
import { parseSize } from './describe.js';
import { asUsageError, outputOption } from './options.js';
import { fields, type OutputFormat, print } from './output.js';

interface FormatOptions {
  readonly label?: string;
  readonly cluster?: string;
  readonly slotSize?: number;
  readonly confirm?: string;
  readonly dryRun?: boolean;
  readonly output: OutputFormat;
}

/** What a superblock says, for people. */
export function superblockFields(device: DeviceDescription): [string, string][] {
  return [
    ['device', device.deviceId],
    ['cluster', device.clusterId],
    ['label', device.label === '' ? 'none' : device.label],
    ['slots', `${device.slots} of ${formatBytes(device.slotBytes)}`],
    ['opened', `${device.incarnation} times`],
    ['closed in order', device.clean ? 'yes' : 'no: it is in use, or its node died'],
    ['formatted', device.formattedAt],
  ];
}

function text(path: string, device: DeviceDescription, dryRun: boolean): string {
  if (dryRun) {
    const size = `${device.slots} slots of ${formatBytes(device.slotBytes)}`;
    return `would format ${path} (${formatBytes(device.sizeBytes)}, ${size}); nothing was written`;
  }
  const other = `strake device format PATH --cluster ${device.clusterId}`;
  const pairs = superblockFields(device).filter(([name]) => name !== 'opened' && name !== 'closed in order');
  return `${fields([['formatted', path], ...pairs.slice(0, -1)])}\nfor other devices of the same node: ${other}`;
}

async function format(path: string, options: FormatOptions): Promise<void> {
  const { label, cluster, slotSize, confirm, dryRun = false } = options;
  const { formatDevice } = await import('../embed/format.js');
  const device = await formatDevice(path, {
    ...(label === undefined ? {} : { label }),
    ...(cluster === undefined ? {} : { clusterId: cluster.toLowerCase() }),
    ...(slotSize === undefined ? {} : { slotBytes: slotSize }),
    ...(confirm === undefined ? {} : { confirm }),
    dryRun,
  });
  const data = { ...device, dryRun };
  print({ schema: 'strake.device.format', version: 1, data, text: text(path, device, dryRun) }, options.output);
}

export function addFormat(device: Command): void {
  device
    .command('format <path>')
    .description('make a block device or file a Strake device, which erases what it holds')
    .option('--label <text>', 'a name for people')
    .option('--cluster <id>', 'the cluster that it belongs to (a new one)')
    .option('--slot-size <size>', 'unit of allocation: a power of two from 64k to 1M (1M)', asUsageError(parseSize))
    .option('--confirm <path>', 'the path again: format it although it holds known data')
    .option('--dry-run', 'say what would be done, and do nothing')
    .addOption(outputOption())
    .action(format);
}
