/** The processes of a cluster: a manager, two nodes, and clients, each of which can be killed or stopped. */

import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { StrakeError } from '../core/errors.js';
import type { Answer, ClusterNodeTask, ClusterOpened, ClusterRequest, ClusterTask, Reach } from './cluster-main.js';
import { formatFor, nextMessage } from './node-process.js';
import { ServerProcess } from './processes.js';

const PROGRAM = fileURLToPath(new URL('./cluster-main.js', import.meta.url));

/** A process of a cluster. */
export class ClusterProcess {
  readonly server: ServerProcess;
  readonly about: ClusterOpened;

  private constructor(server: ServerProcess, about: ClusterOpened) {
    this.server = server;
    this.about = about;
  }

  /** Starts a process, and resolves when it is open. */
  static async start(task: ClusterTask): Promise<ClusterProcess> {
    const server = new ServerProcess(task.kind, process.execPath, [PROGRAM, JSON.stringify(task)], true);
    try {
      return new ClusterProcess(server, await server.unlessGone(nextMessage<ClusterOpened>(server)));
    } catch (error) {
      await server.stop();
      throw error;
    }
  }

  /** Has a request carried out. Resolves to what was measured; rejects if it could not be done. */
  async ask(request: ClusterRequest): Promise<number> {
    const answer = nextMessage<Answer>(this.server);
    this.server.child.send(request);
    const { seconds, failure } = await this.server.unlessGone(answer);
    if (failure !== null) throw new StrakeError('IO', `${request.kind} failed: ${failure}`);
    return seconds;
  }

  /** It does nothing any more, and its connections stay. */
  freeze(): void {
    process.kill(this.server.pid, 'SIGSTOP');
  }

  /** Ends it the hard way, also if it is frozen; resolves when it is gone. */
  async kill(): Promise<void> {
    this.server.child.kill('SIGCONT');
    await this.server.stop('SIGKILL');
  }
}

/** A cluster of two nodes, each with one device. */
export class BenchCluster {
  readonly names = ['n1', 'n2'] as const;
  private readonly folder: string;
  private manager: ClusterProcess | null = null;
  private readonly tasks: ClusterNodeTask[] = [];
  private readonly nodes: ClusterProcess[] = [];
  private readonly clients: ClusterProcess[] = [];

  private constructor() {
    // Paths of sockets are short.
    this.folder = mkdtempSync(join(tmpdir(), 'strake-bench-'));
  }

  /** Formats the files, with chunks of so many bytes, and starts a cluster on them. */
  static async start(files: readonly string[], chunkBytes: number): Promise<BenchCluster> {
    const cluster = new BenchCluster();
    try {
      await cluster.begin(files, chunkBytes);
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  private async begin(files: readonly string[], chunkBytes: number): Promise<void> {
    const socket = join(this.folder, 'manager.sock');
    const directory = join(this.folder, 'manager');
    this.manager = await ClusterProcess.start({ kind: 'manager', directory, socket });
    for (const [at, name] of this.names.entries()) {
      await formatFor(this.manager.about.clusterId, files[at], chunkBytes);
      const nodeId = randomBytes(16).toString('hex');
      const place = { file: files[at], socket: join(this.folder, `${name}.sock`) };
      this.tasks.push({ kind: 'node', reach: this.reach, nodeId, name, ...place });
      await this.startNode(at);
    }
  }

  private get reach(): Reach {
    return { manager: join(this.folder, 'manager.sock'), keyFile: this.managerProcess.about.keyFile };
  }

  get managerProcess(): ClusterProcess {
    if (this.manager === null) throw new StrakeError('CLOSED', 'the cluster has no manager');
    return this.manager;
  }

  node(at: number): ClusterProcess {
    return this.nodes[at];
  }

  /** Starts a node, for the first time or again. */
  async startNode(at: number): Promise<void> {
    this.nodes[at] = await ClusterProcess.start(this.tasks[at]);
  }

  async client(): Promise<ClusterProcess> {
    const client = await ClusterProcess.start({ kind: 'client', reach: this.reach });
    this.clients.push(client);
    return client;
  }

  /** Stops everything in order: each has something of the next. */
  async stop(): Promise<void> {
    for (const { server } of [...this.clients, ...this.nodes]) await server.stop();
    await this.manager?.server.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
