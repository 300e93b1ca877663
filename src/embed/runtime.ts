/**
 * What all devices and servers of a process share: its shards. They are started with the first device and stopped with the
 * last, so importing Strake starts nothing and closing everything leaves nothing.
 *
 * When a shard dies, the runtime sets up its devices and servers again on the one that replaces it: first the devices, once
 * their locks have come free, then the servers, at the same addresses.
 */

import { availableParallelism } from 'node:os';
import { parseWhole } from '../core/arguments.js';
import { StrakeError } from '../core/errors.js';
import { DRAIN_MS, SERVED_STORES_MAX, SHARD_STORES_MAX } from '../core/limits.js';
import type { StorageEvent } from '../volumes/storage-events.js';
import { type ShardLink, ShardPool, type ShardPoolOptions } from '../worker/shard-pool.js';
import { chooseEngine, type EngineChoice } from './engine-choice.js';
import { publish } from './events.js';
import { SHARDS_MAX } from './limits.js';

/** Something that lives on a shard and can be set up again on another. */
export interface Tenant {
  readonly shard: number;
  /** Sets it up on a new shard. Devices come before servers. */
  restore(link: ShardLink): Promise<void>;
  /** Another shard that has a part of it has been replaced. */
  restorePart?(shard: number): Promise<void>;
  /** It could not be set up again. */
  lose(error: StrakeError): void;
}

/** A device among the tenants. */
export interface DeviceTenant extends Tenant {
  readonly path: string;
  readonly number: number;
  /** Whether its number means something in this life of a shard. */
  isOn(link: ShardLink): boolean;
  /** Its shard has fenced it. */
  noteFence(fence: number): void;
}

/** What a manager of this process tells beside its answers. */
export interface ManagerListener {
  /** It decides nothing any more, or its thread has ended: nothing is answered from now on. */
  readonly onStepDown: (error: StrakeError) => void;
}

interface PoolSize {
  readonly shards: number;
  readonly ofNode: boolean;
  readonly storesMax: number;
  readonly storesExpected: number;
  readonly network: boolean;
  readonly tablesBytes: number;
}

/** What a runtime of a node is made for. */
export interface NodeSize {
  /** Devices that it begins with. */
  readonly devices: number;
  /** Over which they are spread; absent, as many as there would be for raw devices, and not more than there are devices. */
  readonly shards: number | undefined;
  /** Whether it uses devices of other nodes, or serves its own to them. */
  readonly network: boolean;
  /** Memory for block tables on all its shards. */
  readonly tablesBytes: number;
}

let current: Promise<Runtime> | null = null;
let users = 0;

export class Runtime {
  readonly engine: EngineChoice;
  private pool!: ShardPool;
  private readonly devices = new Set<DeviceTenant>();
  private readonly servers = new Set<Tenant>();

  private constructor(engine: EngineChoice) {
    this.engine = engine;
  }

  /** The process's runtime, started if need be. Each `acquire` is undone by one `release`. */
  static async acquire(): Promise<Runtime> {
    users += 1;
    current ??= Runtime.start();
    try {
      return await current;
    } catch (error) {
      users -= 1;
      if (users === 0) current = null;
      throw error;
    }
  }

  /** A runtime for a node, which `close` ends. */
  static startForNode(
    { devices, shards, network, tablesBytes }: NodeSize,
    onEvent: (event: StorageEvent) => void,
  ): Promise<Runtime> {
    const spread = shards ?? Math.min(shardCount(), Math.max(1, devices));
    const storesExpected = Math.min(SHARD_STORES_MAX, Math.ceil(devices / spread));
    return Runtime.start(
      { shards: spread, ofNode: true, storesMax: SHARD_STORES_MAX, storesExpected, network, tablesBytes },
      onEvent,
    );
  }

  private static async start(
    size: PoolSize = {
      shards: shardCount(),
      ofNode: false,
      storesMax: 0,
      storesExpected: 0,
      network: false,
      tablesBytes: 0,
    },
    // Only a node has events.
    onEvent: (event: StorageEvent) => void = () => {},
  ): Promise<Runtime> {
    return Runtime.withEngine((engine) => Runtime.startWith(engine, size, onEvent));
  }

  private static async withEngine(start: (engine: EngineChoice) => Promise<Runtime>): Promise<Runtime> {
    const engine = chooseEngine();
    try {
      return await start(engine);
    } catch (error) {
      if (engine.kind === 'threads' || engine.demanded) throw error;
      // A ring can be had, but not as many as are needed.
      const reason = error instanceof Error ? error.message : String(error);
      return await start({ kind: 'threads', reason, demanded: false });
    }
  }

  private static async startPool(engine: EngineChoice, options: Omit<ShardPoolOptions, 'kind'>): Promise<Runtime> {
    const runtime = new Runtime(engine);
    runtime.pool = await ShardPool.start({ kind: engine.kind, ...options });
    return runtime;
  }

  private static async startWith(
    engine: EngineChoice,
    size: PoolSize,
    onEvent: (event: StorageEvent) => void,
  ): Promise<Runtime> {
    const runtime = new Runtime(engine);
    runtime.pool = await ShardPool.start({
      kind: runtime.engine.kind,
      ...size,
      program: new URL('../shard-main.js', import.meta.url),
      onReplaced: (shard, link) => void runtime.restore(shard, link),
      onLost: (shard, error) => runtime.lose(shard, error),
      onFenced: (link, device, fence) => runtime.noteFence(link, device, fence),
      onEvent,
    });
    return runtime;
  }

  /** A runtime for the manager of a cluster, which has one shard. `close` ends it. */
  static async startForManager({ onStepDown }: ManagerListener): Promise<Runtime> {
    const start = (engine: EngineChoice) =>
      Runtime.startPool(engine, {
        ...{ shards: 1, ofNode: false, storesMax: 0, storesExpected: 0, network: false, tablesBytes: 0 },
        program: new URL('../manager-main.js', import.meta.url),
        // What replaces it has no manager: that is for another process, which reads what is durable.
        onReplaced: () => onStepDown(new StrakeError('WORKER_DIED', 'the worker of the manager has ended')),
        onLost: (_, error) => onStepDown(error),
        onFenced: () => {},
        onEvent: () => {},
        onSteppedDown: onStepDown,
      });
    return Runtime.withEngine(start);
  }

  /** Undoes one `acquire`; the last one stops the shards. */
  static async release(): Promise<void> {
    users -= 1;
    if (users > 0 || current === null) return;
    const runtime = await current;
    // Somebody may have come while this was waiting.
    if (users > 0) return;
    current = null;
    await runtime.pool.close(DRAIN_MS);
  }

  /** Ends a node's runtime. */
  close(): Promise<void> {
    return this.pool.close(DRAIN_MS);
  }

  /** The most formatted devices of a node: so many on each of its shards, and of one with sessions as many as those tell of. */
  get storesMax(): number {
    const most = this.pool.size * SHARD_STORES_MAX;
    return this.pool.network ? Math.min(most, SERVED_STORES_MAX) : most;
  }

  /** Memory for block tables of a node's devices. */
  get tablesBytes(): number {
    return this.pool.tablesBytes;
  }

  link(shard: number): ShardLink {
    return this.pool.link(shard);
  }

  /** The shards beside the first that are there. */
  otherLinks(): ShardLink[] {
    return this.pool.links().slice(1);
  }

  /** Whether this life of a shard is the one that goes on. */
  isCurrent(shard: number, link: ShardLink): boolean {
    return this.pool.isCurrent(shard, link);
  }

  /** The shard with the fewest devices. */
  leastLoaded(): number {
    const loads = new Array<number>(this.pool.size).fill(0);
    for (const { shard } of this.devices) loads[shard] += 1;
    return loads.indexOf(Math.min(...loads));
  }

  addDevice(tenant: DeviceTenant): void {
    this.devices.add(tenant);
  }

  removeDevice(tenant: DeviceTenant): void {
    this.devices.delete(tenant);
  }

  addServer(tenant: Tenant): void {
    this.servers.add(tenant);
  }

  removeServer(tenant: Tenant): void {
    this.servers.delete(tenant);
  }

  private noteFence(link: ShardLink, number: number, fence: number): void {
    for (const device of this.devices) {
      if (device.isOn(link) && device.number === number) {
        device.noteFence(fence);
        publish({ type: 'device-fenced', path: device.path, fence });
      }
    }
  }

  private async restore(shard: number, link: ShardLink): Promise<void> {
    let failure: StrakeError | null = null;
    for (const tenants of [this.devices, this.servers]) {
      for (const tenant of [...tenants].filter((one) => one.shard === shard)) {
        await tenant.restore(link).catch((error: StrakeError) => {
          // This shard has died as well: everything is set up again on the next one.
          if (!this.pool.isCurrent(shard, link)) return;
          failure ??= error;
          tenant.lose(error);
        });
      }
    }
    for (const tenant of [...this.servers].filter((one) => one.shard !== shard)) {
      await tenant.restorePart?.(shard).catch((error: StrakeError) => {
        failure ??= error;
      });
    }
    if (!this.pool.isCurrent(shard, link)) return;
    if (failure === null) publish({ type: 'shard-replaced', shard });
    else publish({ type: 'shard-lost', shard, error: failure });
  }

  private lose(shard: number, error: StrakeError): void {
    for (const tenant of [...this.devices, ...this.servers]) if (tenant.shard === shard) tenant.lose(error);
    publish({ type: 'shard-lost', shard, error });
  }

  /** Ends a shard the hard way, for tests. */
  kill(shard: number): Promise<void> {
    return this.pool.kill(shard);
  }
}

/** Half of the processors: the other half belongs to clients, or to the program that embeds Strake. */
function shardCount(): number {
  const text = process.env.STRAKE_SHARDS;
  if (text === undefined || text === '') return Math.max(1, Math.floor(availableParallelism() / 2));
  const count = parseWhole(text, 1, SHARDS_MAX);
  if (count === undefined) {
    throw new StrakeError(
      'INVALID_ARGUMENT',
      `STRAKE_SHARDS is a whole number from 1 to ${SHARDS_MAX}, not ${JSON.stringify(text)}`,
    );
  }
  return count;
}
