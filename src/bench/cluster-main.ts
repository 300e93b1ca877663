/**
 * A process of a cluster: its manager, a node, or a client. Arguments: a JSON object, see `ClusterTask`. It says when it is open,
 * and then does what it is told by messages until SIGTERM.
 */

import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { StrakeError } from '../core/errors.js';
import { BLOCK_BYTES } from '../core/limits.js';
import { type Cluster, connect } from '../embed/cluster.js';
import { initCluster, openManager } from '../embed/manager.js';
import { openNode } from '../embed/node.js';
import type { NodeVolume } from '../embed/node-volume.js';

/** How a cluster is reached. */
export interface Reach {
  /** Socket of its manager. */
  readonly manager: string;
  readonly keyFile: string;
}

/** Makes a cluster in a folder, and opens its manager. */
export interface ManagerTask {
  readonly kind: 'manager';
  readonly directory: string;
  readonly socket: string;
}

/** Opens a node, and connects to its cluster as a client beside it. */
export interface ClusterNodeTask {
  readonly kind: 'node';
  readonly reach: Reach;
  readonly nodeId: string;
  readonly name: string;
  readonly file: string;
  /** Where it serves its segments. */
  readonly socket: string;
}

export interface ClientTask {
  readonly kind: 'client';
  readonly reach: Reach;
}

export type ClusterTask = ManagerTask | ClusterNodeTask | ClientTask;

/** What nodes and clients are told to do. Each is answered with an `Answer` when it is done. */
export type ClusterRequest =
  /** Makes a mirror over these nodes. */
  | { readonly kind: 'create'; readonly volume: string; readonly sizeBytes: number; readonly on: readonly string[] }
  /** Opens a volume, and writes and reads a block of it: the seconds until both are answered. */
  | { readonly kind: 'open'; readonly volume: string; readonly takeOver: boolean }
  /** Opens a volume that is only read here, and reads a block of it. */
  | { readonly kind: 'read'; readonly volume: string }
  /** Gives a volume back. */
  | { readonly kind: 'close'; readonly volume: string }
  /** Begins to write to a volume, steadily and for good. */
  | { readonly kind: 'load'; readonly volume: string }
  /** From now on pauses of the load are looked at. */
  | { readonly kind: 'watch' }
  /** Waits until a copy of its volume is given up and the load goes on: the seconds of its longest pause. */
  | { readonly kind: 'longest-pause' }
  /** Waits until all copies of a volume are current. */
  | { readonly kind: 'until-whole'; readonly volume: string }
  /** Flushes a volume, and then writes a block of each of so many chunks, without another flush. */
  | { readonly kind: 'write-chunks'; readonly volume: string; readonly chunks: number; readonly chunkBytes: number };

/** What a manager tells when it is open. Others tell that they are, with an empty `clusterId`. */
export interface ClusterOpened {
  readonly clusterId: string;
  readonly keyFile: string;
}

export interface Answer {
  readonly seconds: number;
  /** Why it could not be done; null if it was. */
  readonly failure: string | null;
}

/** Writes in flight of the load whose pauses are measured. */
const LOAD_DEPTH = 4;
/** After so many more completions, writes that were begun after a change have been answered. */
const SETTLED_COMPLETIONS = 4 * LOAD_DEPTH;
const CHUNKS_DEPTH = 16;
const LOOK_MS = 20;
/** Nothing takes this long unless something is wrong. */
const PATIENCE_MS = 60_000;

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new StrakeError('TIMED_OUT', `${what} took ${PATIENCE_MS / 1000} s`);
    await pause(LOOK_MS);
  }
}

/** Random writes of 4 KiB, and the longest time between two of their completions. */
class SteadyLoad {
  readonly volume: NodeVolume;
  completions = 0;
  private readonly blocks: number;
  private lastMs = performance.now();
  private longestMs = 0;
  private ending = false;
  private failure: unknown = null;
  private readonly writers: Promise<void>[];

  constructor(volume: NodeVolume) {
    this.volume = volume;
    this.blocks = Math.floor(volume.sizeBytes / BLOCK_BYTES);
    this.writers = Array.from({ length: LOAD_DEPTH }, () =>
      this.write().catch((error: unknown) => {
        this.failure ??= error;
      }),
    );
  }

  private async write(): Promise<void> {
    const data = randomBytes(BLOCK_BYTES);
    while (!this.ending) {
      await this.volume.write(data, Math.floor(Math.random() * this.blocks) * BLOCK_BYTES);
      const now = performance.now();
      this.longestMs = Math.max(this.longestMs, now - this.lastMs);
      this.lastMs = now;
      this.completions += 1;
    }
  }

  watch(): void {
    this.longestMs = 0;
  }

  /** Seconds of the longest pause since `watch`. Rejects if a write has failed. */
  async longestPause(): Promise<number> {
    const enough = this.completions + SETTLED_COMPLETIONS;
    await until('going on with writes', async () => {
      if (this.failure !== null) throw this.failure;
      return this.completions >= enough;
    });
    return this.longestMs / 1000;
  }

  async end(): Promise<void> {
    this.ending = true;
    await Promise.all(this.writers);
  }
}

class Client {
  private readonly cluster: Cluster;
  private readonly volumes = new Map<string, NodeVolume>();
  private load: SteadyLoad | null = null;

  constructor(cluster: Cluster) {
    this.cluster = cluster;
  }

  private opened(name: string): NodeVolume {
    const volume = this.volumes.get(name);
    if (volume === undefined) throw new StrakeError('CLOSED', `volume ${name} is not open here`);
    return volume;
  }

  private get running(): SteadyLoad {
    if (this.load === null) throw new StrakeError('CLOSED', 'no load is running');
    return this.load;
  }

  /** Carries a request out. Resolves to what was measured in seconds, or 0. */
  async handle(request: ClusterRequest): Promise<number> {
    switch (request.kind) {
      case 'create': {
        const { volume: name, sizeBytes, on } = request;
        await this.cluster.createVolume({ name, sizeBytes, layout: 'mirror', copies: on.length, on });
        return 0;
      }
      case 'open':
        return await this.open(request.volume, request.takeOver);
      case 'read': {
        const volume = await this.cluster.openVolume(request.volume, { readOnly: true });
        await volume.read(new Uint8Array(BLOCK_BYTES), 0);
        return 0;
      }
      case 'close':
        await this.cluster.closeVolume(this.opened(request.volume));
        return 0;
      case 'load':
        this.load = new SteadyLoad(this.opened(request.volume));
        return await this.load.longestPause();
      case 'watch':
        this.running.watch();
        return 0;
      case 'longest-pause': {
        const { volume } = this.running;
        await until('giving a copy up', async () => (await this.states(volume.name)).includes('offline'));
        return await this.running.longestPause();
      }
      case 'until-whole':
        await until('bringing copies up to date', async () => {
          return (await this.states(request.volume)).every((state) => state === 'in-sync');
        });
        return 0;
      case 'write-chunks':
        await writeChunks(this.opened(request.volume), request.chunks, request.chunkBytes);
        return 0;
    }
  }

  private async open(name: string, takeOver: boolean): Promise<number> {
    const block = randomBytes(BLOCK_BYTES);
    const before = performance.now();
    const volume = await this.cluster.openVolume(name, { takeOver });
    await Promise.all([volume.write(block, 0), volume.read(new Uint8Array(BLOCK_BYTES), BLOCK_BYTES)]);
    const seconds = (performance.now() - before) / 1000;
    this.volumes.set(name, volume);
    return seconds;
  }

  /** States of the copies of a volume, as the manager knows them. */
  private async states(name: string): Promise<string[]> {
    const volume = (await this.cluster.volumes()).find((one) => one.name === name);
    return (volume?.groups ?? []).flatMap(({ members }) => members.map(({ state }) => state));
  }

  async close(): Promise<void> {
    await this.load?.end();
    await this.cluster.close();
  }
}

async function writeChunks(volume: NodeVolume, chunks: number, chunkBytes: number): Promise<void> {
  await volume.flush();
  const data = randomBytes(BLOCK_BYTES);
  let next = 0;
  const work = async () => {
    while (next < chunks) {
      const chunk = next;
      next += 1;
      await volume.write(data, chunk * chunkBytes);
    }
  };
  await Promise.all(Array.from({ length: CHUNKS_DEPTH }, work));
}

async function openClient({ manager, keyFile }: Reach): Promise<Client> {
  return new Client(await connect({ manager: [{ socket: manager }], keyFile }));
}

/** Opens what a task names. Resolves to what it tells of itself, what answers requests, and how it ends. */
async function open(task: ClusterTask): Promise<{ about: ClusterOpened; client: Client | null; end(): Promise<void> }> {
  if (task.kind === 'manager') {
    const { directory, socket } = task;
    const about = await initCluster({ directory });
    const manager = await openManager({ directory, listen: { socket } });
    return { about, client: null, end: () => manager.close() };
  }
  const { reach } = task;
  const about = { clusterId: '', keyFile: reach.keyFile };
  if (task.kind === 'client') {
    const client = await openClient(reach);
    return { about, client, end: () => client.close() };
  }
  const { nodeId, name, file, socket } = task;
  const node = await openNode({
    devices: [file],
    manager: [{ socket: reach.manager }],
    keyFile: reach.keyFile,
    nodeId,
    name,
    segments: { socket },
    shards: 1,
  });
  const client = await openClient(reach);
  const end = async () => {
    await client.close();
    await node.close();
  };
  return { about, client, end };
}

async function main(task: ClusterTask): Promise<void> {
  const { about, client, end } = await open(task);
  process.once('SIGTERM', () => {
    void end().finally(() => process.disconnect?.());
  });
  process.on('message', (request: ClusterRequest) => {
    const failed = (failure: string): Answer => ({ seconds: 0, failure });
    if (client === null) process.send?.(failed('a manager takes no requests'));
    else
      client.handle(request).then(
        (seconds) => process.send?.({ seconds, failure: null } satisfies Answer),
        (error: Error) => process.send?.(failed(error.message)),
      );
  });
  process.send?.(about);
}

await main(JSON.parse(process.argv[2]) as ClusterTask);
