/** Rows of a node whose devices are spread over two shards, against the same node with one. */

import { fileURLToPath } from 'node:url';
import { StrakeError } from '../core/errors.js';
import { noteFormatted } from './node-process.js';
import { run, settle } from './processes.js';
import { WARM_UP_SHARE } from './rows.js';
import type { ProbeContext, Sample } from './samples.js';
import type { ShardsReport, ShardsTask } from './shards-main.js';

const PROGRAM = fileURLToPath(new URL('./shards-main.js', import.meta.url));
const DEVICES = 4;
const DEPTH = 64;

async function rate(files: readonly string[], shards: number, seconds: number): Promise<number> {
  noteFormatted(files);
  for (const file of files) await settle(file);
  const task: ShardsTask = { files, shards, depth: DEPTH, warmUpSeconds: seconds * WARM_UP_SHARE, seconds };
  const report = JSON.parse(await run(process.execPath, [PROGRAM, JSON.stringify(task)])) as ShardsReport;
  if (report.errors > 0) throw new StrakeError('IO', `${report.errors} writes failed with ${shards} shards`);
  return report.operations / report.seconds;
}

/** Random writes to a volume on each of four devices, whose slots take nothing. The two take turns in being first. */
export async function sampleShards({ files, seconds, round }: ProbeContext): Promise<Sample[]> {
  const used = files.slice(0, DEVICES);
  const rates = new Map<number, number>();
  for (const shards of round % 2 === 0 ? [1, 2] : [2, 1]) rates.set(shards, await rate(used, shards, seconds));
  const [one, two] = [1, 2].map((shards) => rates.get(shards) as number);
  return [{ id: 'cluster.shards.randwrite.4k.qd64x4', unit: 'iops', strake: two, rivals: { one } }];
}
