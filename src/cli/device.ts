/** `strake device show DEVICE`: what a device is, what is on it, and who uses it. */

import type { Command } from 'commander';
import { formatBytes } from '../core/units.js';
import { type DeviceFacts, inspectDevice } from '../embed/facts.js';
import { noun, type OnExit, outputOption } from './options.js';
import { fields, type OutputFormat, print } from './output.js';

function yesNo(value: boolean | undefined): string {
  if (value === undefined) return 'not known';
  return value ? 'yes' : 'no';
}

function text(facts: DeviceFacts): string {
  const pairs: [string, string][] = [
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
  return fields(pairs);
}

async function show(path: string, format: OutputFormat): Promise<void> {
  const { identity: _identity, ...facts } = await inspectDevice(path);
  print({ schema: 'strake.device.show', version: 1, data: facts, text: text({ ...facts, identity: '' }) }, format);
}

export function addDevice(program: Command, _onExit: OnExit): void {
  noun(program, 'device', 'look at devices')
    .command('show <device>')
    .description('show what a block device or file is, what is on it, and who uses it')
    .addOption(outputOption())
    .action((path: string, options: { output: OutputFormat }) => show(path, options.output));
}
