/** A node in a process of its own, that can be killed. */

import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import * as assert from 'uvu/assert';
import {
  formatDevice,
  type NodeEvent,
  type NodeStatus,
  type NodeVolumeStatus,
  type OpenNodeOptions,
} from '#strake/index.js';
import type { FaultRule } from '#strake/uring/native.js';
import { NbdClient } from './nbd-client.js';
import { type Ending, ending, project, socketPath, startProcess, until } from './scratch.js';
import { keepShards } from './shards.js';

/** An error of the child, as it was told. */
export class NodeProcessError extends Error {
  readonly code: string;

  constructor({ code, message }: { readonly code: string; readonly message: string }) {
    super(`${code}: ${message}`);
    this.code = code;
  }
}

interface Message {
  readonly id?: number;
  readonly result?: unknown;
  readonly error?: { readonly code: string; readonly message: string };
  readonly event?: NodeEvent;
  readonly ready?: boolean;
  readonly failed?: { readonly code: string; readonly message: string };
}

export interface NodeProcessOptions {
  readonly devices: readonly string[];
  readonly without?: Readonly<Record<string, readonly string[]>>;
  /** Faults of all devices, from their opening on. */
  readonly faults?: readonly FaultRule[];
  /** Whether each of the devices has to open; true unless it is said. */
  readonly strict?: boolean;
  readonly shards?: number;
  /** Other nodes, and where this one's segments are served. */
  readonly network?: Pick<OpenNodeOptions, 'keyFile' | 'peers' | 'segments'>;
}

export class NodeProcess {
  readonly child: ChildProcess;
  readonly events: NodeEvent[] = [];
  readonly socket: string;
  readonly ended: Promise<Ending>;
  private readonly waiting = new Map<number, (message: Message) => void>();
  private nextId = 1;
  private failure: NodeProcessError | null = null;

  private constructor(child: ChildProcess, socket: string) {
    this.child = child;
    this.socket = socket;
    this.ended = ending(child);
    // What is written after its end is noticed by the answer that does not come.
    child.stdin?.on('error', () => {});
  }

  /** Opens a node and serves its volumes. Rejects with what the child could not do. */
  static async start(given: NodeProcessOptions): Promise<NodeProcess> {
    const { devices, without = {}, faults = [], strict = true, shards, network = {} } = given;
    const socket = socketPath();
    const program = join(project, 'test', 'support', 'node-child.mjs');
    const options = JSON.stringify({ devices, without, faults, socket, strict, shards, network });
    const node = new NodeProcess(startProcess(process.execPath, [program, options], { stdin: 'pipe' }), socket);
    await node.listen();
    return node;
  }

  private listen(): Promise<void> {
    const { stdout } = this.child;
    if (stdout === null) throw new Error('the child has no output');
    return new Promise((resolve, reject) => {
      createInterface({ input: stdout }).on('line', (line) => {
        const message = JSON.parse(line) as Message;
        if (message.ready) resolve();
        if (message.event !== undefined) this.events.push(message.event);
        if (message.failed !== undefined) {
          this.failure = new NodeProcessError(message.failed);
          reject(this.failure);
        }
        if (message.id !== undefined) this.waiting.get(message.id)?.(message);
      });
      this.ended.then(({ code, signal, stderr }) => {
        const gone = new Error(`the node ended with ${code ?? signal}: ${stderr}`);
        reject(gone);
        for (const wake of this.waiting.values()) wake({ error: { code: 'ENDED', message: gone.message } });
        this.waiting.clear();
      });
    });
  }

  /** Calls a method of the node. */
  async call<Result = unknown>(method: string, ...args: unknown[]): Promise<Result> {
    const id = this.nextId++;
    const message = await new Promise<Message>((resolve) => {
      this.waiting.set(id, resolve);
      this.child.stdin?.write(`${JSON.stringify({ id, method, args })}\n`);
    });
    this.waiting.delete(id);
    if (message.error !== undefined) throw new NodeProcessError(message.error);
    return message.result as Result;
  }

  status(): Promise<NodeStatus> {
    return this.call<NodeStatus>('status');
  }

  async volume(name: string): Promise<NodeVolumeStatus> {
    const found = (await this.status()).volumes.find((volume) => volume.name === name);
    assert.ok(found, `there is a volume ${name}`);
    return found as NodeVolumeStatus;
  }

  /** Waits until a volume is in this state. */
  reach(name: string, state: NodeVolumeStatus['state']): Promise<NodeVolumeStatus> {
    return until(`volume ${name} to be ${state}`, async () => {
      const volume = await this.volume(name);
      return volume.state === state && volume;
    });
  }

  connect(volume: string, structured = false): Promise<NbdClient> {
    return NbdClient.connect(this.socket, { name: volume, structured });
  }

  /** Ends it at once. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  /** Closes the node in order; fails if that fails. */
  async close(): Promise<void> {
    this.child.stdin?.end();
    const { code, signal, stderr } = await this.ended;
    assert.equal([code, signal, this.failure, stderr], [0, null, null, ''], 'the node closes in order');
  }
}

/** Formats devices for one cluster, and returns their ids. `again`: also those that are formatted already. */
export async function formatAll(
  paths: readonly string[],
  slotBytes = 64 << 10,
  cluster?: string,
  again = false,
): Promise<string[]> {
  await keepShards();
  const ids: string[] = [];
  let clusterId = cluster;
  for (const path of paths) {
    const found = await formatDevice(path, {
      slotBytes,
      ...(clusterId !== undefined && { clusterId }),
      ...(again && { confirm: path }),
    });
    clusterId = found.clusterId;
    ids.push(found.deviceId);
  }
  return ids;
}

/** The code of the error with which a call ends, or a node does not open. */
export async function codeOf(attempt: Promise<unknown>): Promise<string> {
  try {
    await attempt;
  } catch (error) {
    if (error instanceof NodeProcessError) return error.code;
    throw error;
  }
  return 'no error';
}
