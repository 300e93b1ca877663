/** What the processes of a cluster cost when nothing happens: a manager, two nodes, and a client with a mirror over both. */

import { setTimeout as pause } from 'node:timers/promises';
import { BenchCluster, type ClusterProcess } from './cluster-processes.js';
import { processorTimeUs } from './processes.js';
import type { ProbeContext, Sample } from './samples.js';

const CHUNK_BYTES = 64 << 10;
const VOLUME_BYTES = 8 << 20;
const VOLUME = 'main';
/** The kernel counts processor time in hundredths of a second: over so long that is nothing. */
const IDLE_SECONDS = 20;
/** Until what opening has left to do is done, the engine's own flush included. */
const SETTLE_SECONDS = 6;
/** A round of less measures nothing: it only shows that this works. */
const MEASURED_SECONDS = 1;

/** Percent of a processor that each process takes over so many seconds. */
async function shares(processes: readonly ClusterProcess[], seconds: number): Promise<number[]> {
  const used = () => processes.map(({ server }) => processorTimeUs(server.pid));
  const before = used();
  // Waiting is what is measured here.
  await pause(seconds * 1000);
  return used().map((us, at) => (100 * (us - before[at])) / (seconds * 1e6));
}

export async function sampleIdle({ files, seconds }: ProbeContext): Promise<Sample[]> {
  const measures = seconds >= MEASURED_SECONDS;
  const cluster = await BenchCluster.start(files, CHUNK_BYTES);
  try {
    const client = await cluster.client();
    await client.ask({ kind: 'create', volume: VOLUME, sizeBytes: VOLUME_BYTES, on: cluster.names });
    await client.ask({ kind: 'open', volume: VOLUME, takeOver: false });
    await pause((measures ? SETTLE_SECONDS : seconds) * 1000);
    const processes = [cluster.managerProcess, cluster.node(0), cluster.node(1), client];
    const [manager, one, two, own] = await shares(processes, measures ? IDLE_SECONDS : seconds);
    const percent = (id: string, strake: number): Sample => ({ id, unit: '% of a core', strake });
    return [
      percent('cluster.idle', Math.max(manager, one, two, own)),
      percent('cluster.idle.manager', manager),
      percent('cluster.idle.node', Math.max(one, two)),
      percent('cluster.idle.client', own),
    ];
  } finally {
    await cluster.stop();
  }
}
