/**
 * The engine alone, in a process of its own so that its processor time and memory are its own: opens a device, puts a load
 * on it from within the shard, and prints the figures as JSON. Arguments: a JSON object, see `LoadTask`.
 */

import { openDevice } from '../embed/device.js';
import type { Pattern } from './rows.js';

/** What to do. */
export interface LoadTask {
  readonly path: string;
  readonly write: boolean;
  readonly pattern: Pattern;
  readonly blockBytes: number;
  readonly depth: number;
  readonly warmUpSeconds: number;
  readonly seconds: number;
}

/** What came of it. */
export interface LoadReport {
  readonly operations: number;
  readonly seconds: number;
  readonly errors: number;
  readonly latencyUsMean: number;
  readonly latencyUsP50: number;
  readonly latencyUsP99: number;
  readonly latencyUsP999: number;
  readonly cpuUs: number;
  readonly peakMemoryBytes: number;
}

async function main(task: LoadTask): Promise<void> {
  const { path, write, pattern, blockBytes, depth } = task;
  const device = await openDevice(path, write ? { confirm: path } : { readOnly: true });
  try {
    const message = { pattern, blockBytes, depth };
    await device.load({ ...message, milliseconds: task.warmUpSeconds * 1000, seed: 1 });
    const before = process.cpuUsage();
    const result = await device.load({ ...message, milliseconds: task.seconds * 1000, seed: 2 });
    const used = process.cpuUsage(before);
    const { operations, seconds, errors, latencyUsMean, latencyUsP50, latencyUsP99, latencyUsP999 } = result;
    const latencies = { latencyUsMean, latencyUsP50, latencyUsP99, latencyUsP999 };
    const peakMemoryBytes = process.resourceUsage().maxRSS * 1024;
    const cpuUs = used.user + used.system;
    const report: LoadReport = { operations, seconds, errors, ...latencies, cpuUs, peakMemoryBytes };
    process.stdout.write(JSON.stringify(report));
  } finally {
    await device.close();
  }
}

await main(JSON.parse(process.argv[2]) as LoadTask);
