/** The manager of a cluster as a program that embeds Strake uses it, and how a cluster comes to be. */

import { existsSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { MessageChannel } from 'node:worker_threads';
import { boolean, callback, fields, id, optional, path as pathRule } from '../core/arguments.js';
import { StrakeError } from '../core/errors.js';
import { makeClusterKey, readClusterKey } from '../keys/cluster-key.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { foundCluster } from '../manager/found.js';
import { readRecords } from '../manager/records.js';
import { LmdbStore } from '../meta/lmdb-store.js';
import type { ManagerCalls } from '../ports/manager.js';
import type { MetaStore } from '../ports/meta-store.js';
import type { StreamAddress } from '../ports/transport.js';
import { managerCalls } from '../worker/manager-calls.js';
import { serveMetaStore } from '../worker/port-meta-store.js';
import { newId } from './format.js';
import { clusterAddress, NODE_ADDRESS } from './node-addresses.js';
import { INTERNAL } from './node-server.js';
import type { NodeAddress } from './node-types.js';
import { Runtime } from './runtime.js';

/** The file with the key, and the database, in the folder of a manager. */
const KEY_NAME = 'cluster.key';
const META_NAME = 'meta';

export interface InitClusterOptions {
  /** The folder of the manager to be; made, with mode 0700, if it is not there. */
  readonly directory: string;
  /** 32 hexadecimal digits; by default a new one. Devices have to be formatted for this cluster. */
  readonly clusterId?: string;
}

export interface OpenManagerOptions {
  /** A folder that `initCluster` has made. */
  readonly directory: string;
  /** Where nodes and clients reach it. */
  readonly listen: NodeAddress;
  /** The file with the key of the cluster; by default that of the folder. */
  readonly keyFile?: string;
  /** Listens on addresses that can be reached from elsewhere; what is said there is not encrypted. */
  readonly insecureNetwork?: boolean;
  /** It decides nothing any more, as its store failed or another manager has decided: the process should end. */
  readonly onStepDown?: (error: StrakeError) => void;
}

const INIT = fields<InitClusterOptions>({ directory: pathRule, clusterId: optional(id) });
const OPEN = fields<OpenManagerOptions>({
  directory: pathRule,
  listen: NODE_ADDRESS,
  keyFile: optional(pathRule),
  insecureNetwork: optional(boolean),
  onStepDown: optional(callback()),
});

/** Where the key of the manager's folder is. */
export function keyFileOf(directory: string): string {
  return join(resolve(directory), KEY_NAME);
}

/**
 * Makes a cluster: its key, and the store of its manager, in a folder. A crash amid it leaves what a second call completes.
 * Rejects with `ERR_STRAKE_EXISTS` if a cluster is there.
 */
export async function initCluster(options: InitClusterOptions): Promise<{ clusterId: string; keyFile: string }> {
  const { directory, clusterId = newId() } = INIT.take(options, 'initCluster: options');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const keyFile = keyFileOf(directory);
  // 1. The key, 2. an empty store, 3. the cluster in it. Before the third nobody can have used the first.
  if (existsSync(keyFile)) readClusterKey(keyFile);
  else makeClusterKey(keyFile);
  const meta = join(directory, META_NAME);
  const store: MetaStore = (await openIfThere(meta)) ?? (await LmdbStore.make(meta));
  try {
    await foundCluster(store, { clusterId });
  } finally {
    await store.close();
  }
  return { clusterId, keyFile };
}

/** The store in a folder; null if there is none. */
async function openIfThere(meta: string): Promise<MetaStore | null> {
  if (!existsSync(meta)) return null;
  try {
    return await LmdbStore.open(meta);
  } catch (error) {
    if (error instanceof StrakeError && error.code === 'ERR_STRAKE_NOT_FOUND') return null;
    throw error;
  }
}

/** The cluster that `initCluster` has made in a folder; null if there is none. Rejects if it is open, or damaged. */
export async function clusterIdOf(directory: string): Promise<string | null> {
  const store = await openIfThere(join(directory, META_NAME));
  if (store === null) return null;
  try {
    const { sequence, records } = await store.load();
    return sequence === 0 ? null : readRecords(records).cluster.clusterId;
  } finally {
    await store.close();
  }
}

/**
 * Opens the manager of a cluster. It keeps the process alive until it is closed. Rejects with `ERR_STRAKE_NOT_FOUND` where no
 * cluster was made, `ERR_STRAKE_IN_USE` if another process has it open, and `ERR_STRAKE_DAMAGED`.
 */
export async function openManager(options: OpenManagerOptions): Promise<ClusterManager> {
  const checked = OPEN.take(options, 'openManager: options');
  const { directory, keyFile = keyFileOf(directory), insecureNetwork = false } = checked;
  const address = clusterAddress(checked.listen, insecureNetwork);
  readClusterKey(keyFile);
  const store = await LmdbStore.open(join(directory, META_NAME));
  const { port1, port2 } = new MessageChannel();
  serveMetaStore(port1, store);
  port1.unref();
  let runtime: Runtime | null = null;
  try {
    runtime = await Runtime.startForManager({ onStepDown: (error) => checked.onStepDown?.(error) });
    const message = { keyFile, address, store: port2 };
    const { clusterId, port } = await runtime.link(0).call('manage', message, [port2]);
    const actual = 'path' in address ? address : { host: address.host, port: port ?? address.port };
    return new ClusterManager(INTERNAL, runtime, store, { clusterId, address: actual, keyFile });
  } catch (error) {
    await runtime?.close();
    await store.close().catch(() => {});
    throw error;
  } finally {
    port1.unref();
  }
}

interface ManagerFacts {
  readonly clusterId: string;
  readonly address: StreamAddress;
  readonly keyFile: string;
}

/** An open manager. Made by `openManager`. */
export class ClusterManager {
  readonly clusterId: string;
  readonly address: StreamAddress;
  readonly keyFile: string;
  /** What it can be asked for. @internal */
  readonly calls: ManagerCalls<ReplicaMap>;
  private readonly runtime: Runtime;
  private readonly store: MetaStore;
  private closed: Promise<void> | null = null;

  /** @internal */
  constructor(key: symbol, runtime: Runtime, store: MetaStore, { clusterId, address, keyFile }: ManagerFacts) {
    if (key !== INTERNAL) throw new TypeError('managers are made by openManager');
    this.runtime = runtime;
    this.store = store;
    this.clusterId = clusterId;
    this.address = address;
    this.keyFile = keyFile;
    this.calls = managerCalls(() => {
      if (this.closed !== null) throw new StrakeError('CLOSED', 'the manager is closed');
      return runtime.link(0);
    });
  }

  /** Answers what is in progress, and closes. Idempotent. */
  close(): Promise<void> {
    this.closed ??= this.end();
    return this.closed;
  }

  private async end(): Promise<void> {
    await this.runtime.close();
    await this.store.close().catch(() => {});
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
