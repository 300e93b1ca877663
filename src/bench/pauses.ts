/**
 * How long a client of a cluster waits when one of its processes is gone. The deaths are real: a process is killed, or stopped,
 * so that its connections stay and nothing is answered.
 */

import { BenchCluster, type ClusterProcess } from './cluster-processes.js';
import type { ProbeContext, Sample } from './samples.js';

/** As small as there are: what a dead client may have left to compare is counted in chunks. */
const CHUNK_BYTES = 64 << 10;
const VOLUME_BYTES = 8 << 20;
/** Written and not flushed when a client dies. */
const CHUNKS = 1000;
/** Part of a small device that a volume may fill. */
const DEVICE_SHARE = 0.5;
const MAIN = 'main';
/** The node that dies. */
const VICTIM = 1;

function seconds(id: string, strake: number): Sample {
  return { id: `cluster.${id}`, unit: 's', strake };
}

/** The longest pause of a client's writes when a node is gone; then it is there again, and up to date. */
async function pauseOf(cluster: BenchCluster, client: ClusterProcess, end: (node: ClusterProcess) => unknown) {
  const node = cluster.node(VICTIM);
  await client.ask({ kind: 'watch' });
  await end(node);
  const longest = await client.ask({ kind: 'longest-pause' });
  await cluster.node(VICTIM).kill();
  await cluster.startNode(VICTIM);
  await client.ask({ kind: 'until-whole', volume: MAIN });
  return longest;
}

/** The same of a node that stops with a client in its process which reads the volume: it has leases, that have to end first. */
async function pauseWithClient(cluster: BenchCluster, client: ClusterProcess): Promise<number> {
  await cluster.node(VICTIM).ask({ kind: 'read', volume: MAIN });
  return pauseOf(cluster, client, (node) => node.freeze());
}

/** A node of a mirror dies, stops, and stops with a client in its process. */
export async function samplePauses({ files, times }: ProbeContext): Promise<Sample[]> {
  const cluster = await BenchCluster.start(files, CHUNK_BYTES);
  try {
    const client = await cluster.client();
    await client.ask({ kind: 'create', volume: MAIN, sizeBytes: VOLUME_BYTES, on: cluster.names });
    await client.ask({ kind: 'open', volume: MAIN, takeOver: false });
    await client.ask({ kind: 'load', volume: MAIN });
    const samples: Sample[] = [];
    for (let time = 0; time < times; time += 1) {
      samples.push(seconds('pause.killed', await pauseOf(cluster, client, (node) => node.kill())));
      samples.push(seconds('pause.vanished', await pauseOf(cluster, client, (node) => node.freeze())));
      samples.push(seconds('pause.vanished-client', await pauseWithClient(cluster, client)));
    }
    return samples;
  } finally {
    await cluster.stop();
  }
}

/** A client is killed that has written and not flushed, and another one takes its volume over. */
export async function sampleAttach({ files, sizeBytes, times }: ProbeContext): Promise<Sample[]> {
  const chunks = Math.min(CHUNKS, Math.floor((sizeBytes * DEVICE_SHARE) / CHUNK_BYTES));
  const cluster = await BenchCluster.start(files, CHUNK_BYTES);
  try {
    let holder = await cluster.client();
    await holder.ask({ kind: 'create', volume: MAIN, sizeBytes: chunks * CHUNK_BYTES, on: cluster.names });
    await holder.ask({ kind: 'open', volume: MAIN, takeOver: false });
    const write = { kind: 'write-chunks', volume: MAIN, chunks, chunkBytes: CHUNK_BYTES } as const;
    // The first writes to chunks take slots for them.
    await holder.ask(write);
    const samples: Sample[] = [];
    for (let time = 0; time < times; time += 1) {
      const next = await cluster.client();
      await holder.ask(write);
      await holder.kill();
      samples.push(seconds('attach.time', await next.ask({ kind: 'open', volume: MAIN, takeOver: true })));
      holder = next;
    }
    return samples;
  } finally {
    await cluster.stop();
  }
}
