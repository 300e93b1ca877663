/** A whole cluster of processes: its manager, its nodes, and clients that export volumes, each of which can be killed. */

import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { NbdClient } from './nbd-client.js';
import { ask, file, type Json } from './node-commands.js';
import { atEnd, type Ending, ending, scratchFolder, socketPath, startProcess, until } from './scratch.js';
import { command } from './strake.js';

const DEVICE_BYTES = 96 << 20;

/** A command that serves until it is told to stop. */
export interface Serving {
  readonly child: ChildProcess;
  /** What it printed about itself. */
  readonly data: Json;
  readonly ended: Promise<Ending>;
  /** Sends SIGINT and waits for the end. */
  stop(): Promise<Ending>;
  /** Ends it the hard way, and waits until it is gone. */
  kill(): Promise<Ending>;
}

/** Starts a command that serves, and waits until it does. Throws if it ends before. */
export async function serving(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Serving> {
  const line = [command, ...args, '-o', 'jsonl'];
  const child = startProcess(process.execPath, line, { env: { ...process.env, STRAKE_SHARDS: '1', ...env } });
  const ended = ending(child);
  const first = new Promise<string>((resolve) => {
    let text = '';
    child.stdout?.on('data', (part: string) => {
      text += part;
      if (text.includes('\n')) resolve(text.slice(0, text.indexOf('\n')));
    });
  });
  const printed = await Promise.race([first, ended]);
  if (typeof printed !== 'string') throw new Error(`${args.join(' ')} ended with ${printed.code}: ${printed.stderr}`);
  const end = (signal: NodeJS.Signals) => () => {
    child.kill(signal);
    return ended;
  };
  return { child, data: JSON.parse(printed) as Json, ended, stop: end('SIGINT'), kill: end('SIGKILL') };
}

/** A client that exports a volume. */
export class Export {
  readonly process: Serving;
  private readonly socket: string;
  private readonly name: string;
  /** As a load needs it; what clients tell of themselves is on their standard error. */
  readonly events: [] = [];

  constructor(process: Serving, socket: string, name: string) {
    this.process = process;
    this.socket = socket;
    this.name = name;
  }

  /** What is told with a failure of a load. */
  async volume(): Promise<string> {
    const { child } = this.process;
    const running = child.exitCode === null && child.signalCode === null;
    return running ? 'the client runs' : (await this.process.ended).stderr;
  }

  connect(): Promise<NbdClient> {
    return NbdClient.connect(this.socket, { name: this.name });
  }
}

export interface ClusterNode {
  readonly name: string;
  readonly folder: string;
  readonly deviceId: string;
  process: Serving;
}

export class ClusterProcesses {
  readonly folder: string;
  readonly clusterId: string;
  readonly keyFile: string;
  readonly address: string;
  readonly nodes = new Map<string, ClusterNode>();
  private readonly sockets: string;
  managerProcess: Serving | null = null;

  private constructor(folder: string, sockets: string, about: Json) {
    this.folder = folder;
    this.sockets = sockets;
    this.clusterId = String(about.clusterId);
    this.keyFile = String(about.keyFile);
    this.address = join(sockets, 'manager.sock');
  }

  /** Makes a cluster and starts its manager. */
  static async start(): Promise<ClusterProcesses> {
    const folder = mkdtempSync(join(scratchFolder(), 'cluster-'));
    const sockets = mkdtempSync(join(tmpdir(), 'strake-cluster-'));
    atEnd(() => rmSync(sockets, { recursive: true, force: true }));
    const about = await ask(['cluster', 'init', join(folder, 'manager')]);
    const cluster = new ClusterProcesses(folder, sockets, about);
    await cluster.startManager();
    return cluster;
  }

  async startManager(): Promise<Serving> {
    this.managerProcess = await serving(['manager', 'start', join(this.folder, 'manager'), '--listen', this.address]);
    return this.managerProcess;
  }

  /** Options by which commands reach it. */
  get reach(): string[] {
    return ['--manager', this.address, '--key-file', this.keyFile];
  }

  /** Runs a command about the cluster that has to work. */
  ask(args: readonly string[]): Promise<Json> {
    return ask([...args, ...this.reach]);
  }

  /** Makes nodes of one device in a file each, and starts them. */
  async addNodes(...names: string[]): Promise<void> {
    const made: Omit<ClusterNode, 'process'>[] = [];
    for (const name of names) {
      const folder = join(this.folder, name);
      mkdirSync(folder);
      const path = file(folder, 'disk.img', DEVICE_BYTES);
      const { deviceId } = await ask(['device', 'format', path, '--cluster', this.clusterId]);
      made.push({ name, folder, deviceId: String(deviceId) });
    }
    await Promise.all(
      made.map(async (node) => this.nodes.set(node.name, { ...node, process: await this.nodeProcess(node.name) })),
    );
  }

  private nodeProcess(name: string): Promise<Serving> {
    const listen = ['--listen', join(this.sockets, `${name}.sock`), '--control', join(this.sockets, `${name}.control`)];
    return serving(['node', 'start', join(this.folder, name), ...listen, ...this.reach]);
  }

  node(name: string): ClusterNode {
    const node = this.nodes.get(name);
    if (node === undefined) throw new Error(`there is no node ${name}`);
    return node;
  }

  async restart(name: string): Promise<void> {
    this.node(name).process = await this.nodeProcess(name);
  }

  /** Exports a volume from a client of its own. */
  async export(name: string, ...args: string[]): Promise<Export> {
    const socket = socketPath();
    const process = await serving(['volume', 'export', name, '--socket', socket, ...this.reach, ...args]);
    assert.is(process.data.volume, name);
    return new Export(process, socket, name);
  }

  /** What the manager knows of a volume. */
  show(name: string): Promise<Json> {
    return this.ask(['volume', 'show', name]);
  }

  /** Waits until all copies of a volume are in one of these states. */
  async untilCopies(name: string, ...states: string[]): Promise<void> {
    await until(`the copies of ${name} to be ${states.join(' or ')}`, async () => {
      const { groups } = (await this.show(name)) as { groups: { members: { state: string }[] }[] };
      return groups.every(({ members }) => members.every(({ state }) => states.includes(state)));
    });
  }

  /** Stops everything in order. */
  async stop(): Promise<void> {
    for (const { process } of this.nodes.values()) {
      if (process.child.exitCode === null && process.child.signalCode === null)
        assert.is((await process.stop()).code, 0);
    }
    const { managerProcess: manager } = this;
    if (manager !== null && manager.child.exitCode === null && manager.child.signalCode === null) {
      assert.is((await manager.stop()).code, 0);
    }
  }
}
