/** `strake job list|cancel`: what a running node does in the background. */

import { type Command, InvalidArgumentError } from 'commander';
import { callNode } from '../control/client.js';
import { formatBytes } from '../core/units.js';
import type { NodeJob } from '../embed/node-types.js';
import { percent, shortId } from './describe.js';
import { findControl } from './node-config.js';
import { nodeOption, noun, type OnExit, outputOption } from './options.js';
import { type OutputFormat, print, table } from './output.js';

interface Common {
  readonly node?: string;
  readonly output: OutputFormat;
}

function rateText({ bytesPerSecond }: NodeJob): string {
  return bytesPerSecond === 0 ? 'no limit' : `${formatBytes(bytesPerSecond)}/s`;
}

function jobTable(jobs: readonly NodeJob[]): string {
  if (jobs.length === 0) return 'no jobs';
  const rows = jobs.map((job) => [
    String(job.id),
    job.kind,
    job.volume,
    job.deviceId === null ? 'all' : shortId(job.deviceId),
    job.state,
    percent(job),
    `${formatBytes(job.bytesDone)} of ${formatBytes(job.bytesTotal)}`,
    rateText(job),
    `${Math.round(job.elapsedMs / 1000)} s`,
    job.reason,
  ]);
  return table(['job', 'kind', 'volume', 'device', 'state', 'done', 'bytes', 'rate', 'time', 'reason'], rows);
}

async function list(options: Common): Promise<void> {
  const { jobs } = await callNode(findControl(options.node), 'jobs', {});
  const items = jobs.map((job) => ({ ...job }));
  print({ schema: 'strake.job.list', version: 1, data: { jobs: items }, items, text: jobTable(jobs) }, options.output);
}

function cancelText({ id, kind, volume, state, reason }: NodeJob): string {
  const what = `job ${id}, ${kind} of ${volume}`;
  if (state !== 'cancelled') return `${what}, had ended before: ${[state, reason].filter(Boolean).join(', ')}`;
  if (kind === 'scrub') return `cancelled ${what}`;
  return `cancelled ${what}; the copy is not current until \`strake device add PATH\` brings it up to date again`;
}

async function cancel(id: number, options: Common): Promise<void> {
  const { job } = await callNode(findControl(options.node), 'cancel-job', { id });
  print({ schema: 'strake.job.cancel', version: 1, data: { ...job }, text: cancelText(job) }, options.output);
}

function parseId(text: string): number {
  const id = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(id) && id > 0) return id;
  throw new InvalidArgumentError('the number of a job is expected; `strake job list` shows them.');
}

export function addJob(program: Command, _onExit: OnExit): void {
  const job = noun(program, 'job', 'what a running node does in the background');
  const verb = (usage: string, description: string) =>
    job.command(usage).description(description).addOption(nodeOption()).addOption(outputOption());
  verb('list', 'list the jobs that go on, and the last ones that have ended').action(list);
  job
    .command('cancel')
    .description('end a job; what it did stays')
    .argument('<id>', 'its number', parseId)
    .addOption(nodeOption())
    .addOption(outputOption())
    .action(cancel);
}
