/** `strake status`: one verdict on a running node, the checks behind it, and what to do; `strake down`: stops it. */

import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import type { ControlStatus } from '../control/calls.js';
import { callNode } from '../control/client.js';
import { StrakeError } from '../core/errors.js';
import { formatBytes } from '../core/units.js';
import { deviceTable, volumeTable } from './describe.js';
import { findControl } from './node-config.js';
import { nodeOption, type OnExit, outputOption, wholeNumber } from './options.js';
import { EXIT_DEGRADED, type OutputFormat, print, table } from './output.js';

interface StatusOptions {
  readonly node?: string;
  readonly exitCode?: boolean;
  readonly output: OutputFormat;
}

function text(status: ControlStatus): string {
  const checks = status.checks.map(({ name, state, text: what }) => [name, state, what]);
  const remedies = status.checks.filter(({ remedy }) => remedy !== '').map(({ name, remedy }) => `${name}: ${remedy}`);
  const tables = status.devices.reduce((sum, { tableBytes }) => sum + tableBytes, 0);
  return [
    table(['check', 'state', 'finding'], checks),
    '',
    deviceTable(status.devices),
    '',
    volumeTable(status.volumes),
    '',
    ...remedies,
    `block tables: ${formatBytes(tables)} of ${formatBytes(status.tableMemory)} of memory`,
    `verdict: ${status.verdict}`,
  ].join('\n');
}

async function status(options: StatusOptions, onExit: OnExit): Promise<void> {
  const found = await callNode(findControl(options.node), 'status', {});
  const data = { time: new Date().toISOString(), ...found };
  print({ schema: 'strake.status', version: 1, data, text: text(found) }, options.output);
  if (options.exitCode && found.verdict !== 'ok') onExit(EXIT_DEGRADED);
}

const LOOK_MS = 50;

/** Waits until a node that is stopping has closed its devices, which is when its process has ended. */
async function untilGone(pid: number, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (existsSync(`/proc/${pid}`)) {
    if (performance.now() > deadline) {
      throw new StrakeError('TIMED_OUT', `process ${pid} is still stopping`, {
        remedy: 'Wait longer (--timeout); its standard error says what it waits for.',
      });
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

async function down(options: { node?: string; timeout: number; output: OutputFormat }): Promise<void> {
  const { pid } = await callNode(findControl(options.node), 'stop', {});
  await untilGone(pid, options.timeout * 1000);
  print({ schema: 'strake.down', version: 1, data: { pid }, text: `stopped: process ${pid}` }, options.output);
}

export function addStatus(program: Command, onExit: OnExit): void {
  program
    .command('status')
    .description('say how a running node is, and what to do about it')
    .addOption(nodeOption())
    .option('--exit-code', 'end with 3 unless all is well')
    .addOption(outputOption())
    .action((options: StatusOptions) => status(options, onExit));
  program
    .command('down')
    .description('stop a running node, and wait until it has')
    .addOption(nodeOption())
    .option('--timeout <seconds>', 'how long to wait', wholeNumber(1, 3600), 60)
    .addOption(outputOption())
    .action(down);
}
