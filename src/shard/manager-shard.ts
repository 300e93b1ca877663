/**
 * A shard that has the manager of a cluster, and nothing else: an engine, the connections of nodes and clients, and the way
 * to the database, which is on the main thread.
 *
 * ```text
 *   nodes, clients ─► SessionServer ─► ManagerService ─► Manager ─► PortMetaStore ═ port ═► database
 * ```
 *
 * When the manager steps down nothing is answered any more, and the process ends: another start reads what is durable.
 */

import { randomBytes } from 'node:crypto';
import { threadId } from 'node:worker_threads';
import { check } from '../core/check.js';
import { StrakeError, toStrakeError } from '../core/errors.js';
import { BLOCK_BYTES, DRAIN_MS, SHARD_FILES_MAX, SHARD_OPERATIONS_MAX, STOP_GRACE_MS } from '../core/limits.js';
import { addressText } from '../core/stream-address.js';
import { alignUp } from '../core/units.js';
import { Watch } from '../core/watch.js';
import { readClusterKey } from '../keys/cluster-key.js';
import { Manager } from '../manager/manager.js';
import { ManagerService, managerSizes } from '../manager/manager-service.js';
import { ConnectionResources, type NetPorts } from '../net/connection-resources.js';
import { Engine } from '../uring/engine.js';
import { type Listener, listen, UringTransport } from '../uring/transport.js';
import { SessionServer } from '../wire/session-server.js';
import { callManager } from '../worker/manager-calls.js';
import type { AnswerMessage, CallMessage, ManageMessage, ShardCalls, ShardStart } from '../worker/messages.js';
import { PortMetaStore } from '../worker/port-meta-store.js';
import type { ShardStats } from '../worker/shard-stats.js';

const SIZES = managerSizes();

interface Serving {
  readonly manager: Manager;
  readonly service: ManagerService;
  readonly server: SessionServer;
  readonly listener: Listener;
}

export class ManagerShard {
  private readonly start: ShardStart;
  private readonly engine: Engine;
  private readonly watch: Watch;
  private readonly stopped: () => void;
  private serving: Serving | null = null;

  constructor(start: ShardStart, stopped: () => void) {
    const { kind, shards } = start;
    this.start = start;
    this.stopped = stopped;
    const engine = new Engine({
      kind,
      engines: shards,
      blocking: true,
      arenaBytes: alignUp(ConnectionResources.regionBytes(SIZES), BLOCK_BYTES),
      operationsMax: SHARD_OPERATIONS_MAX,
      filesMax: SHARD_FILES_MAX,
      onWake: () => {},
    });
    this.engine = engine;
    this.watch = new Watch(engine, engine);
    start.port.on('message', (message: CallMessage) => void this.handle(message));
    this.post({
      ready: { engine: engine.id, arena: engine.bytes, clientMemory: 0, sharedBytes: 0, engineMemory: 0, threadId },
    });
  }

  private post(message: AnswerMessage): void {
    this.start.port.postMessage(message);
  }

  private async handle({ id, name, request }: CallMessage): Promise<void> {
    try {
      this.post({ id, response: await this.dispatch(name, request) });
    } catch (error) {
      this.post({ id, error: toStrakeError(error).toWire() });
    }
    if (name === 'stop') this.stopped();
  }

  private dispatch(name: CallMessage['name'], request: unknown): unknown {
    switch (name) {
      case 'manage':
        return this.manage(request as ManageMessage);
      case 'managerCall': {
        const { name: call, args } = request as ShardCalls['managerCall']['request'];
        return callManager(this.opened().manager, call, args);
      }
      case 'stats':
        return this.stats();
      case 'stop':
        return this.stop((request as ShardCalls['stop']['request']).graceMs);
      default:
        throw new StrakeError('INVALID_ARGUMENT', `a manager is not asked for ${name}`);
    }
  }

  private opened(): Serving {
    if (this.serving === null) throw new StrakeError('CLOSED', 'the manager is closed');
    return this.serving;
  }

  private async manage({ keyFile, address, store }: ManageMessage): Promise<ShardCalls['manage']['response']> {
    check(this.serving === null, 'a manager is started twice', this.engine.id);
    const { engine, watch } = this;
    const key = readClusterKey(keyFile);
    const manager = await Manager.open({
      store: new PortMetaStore(store),
      clock: engine,
      completions: engine,
      key,
      wallNowMs: () => Date.now(),
      onStepDown: (error) => this.post({ steppedDown: error.toWire() }),
    });
    const { clusterId } = manager;
    const ports: NetPorts = {
      completions: engine,
      memory: engine,
      transport: new UringTransport(engine),
      clock: engine,
    };
    try {
      const listener = listen(engine, address);
      const where = 'path' in address ? address : { host: address.host, port: listener.port ?? address.port };
      const service = new ManagerService({
        ...{ ports, watch, memoryStart: 0, sizes: SIZES, key, calls: manager },
        // As of a node, it is another one in each life of the process.
        identity: { nodeId: randomBytes(16).toString('hex'), clusterId },
        addresses: [addressText(where)],
      });
      manager.onDecided((maps) => service.tell(maps));
      const server = new SessionServer(service.desk, ports, listener.file);
      this.serving = { manager, service, server, listener };
      return { clusterId, port: listener.port };
    } catch (error) {
      await manager.close();
      throw error;
    }
  }

  private stats(): ShardStats {
    const status = this.engine.native.status();
    return {
      engine: status?.kind ?? 'closed',
      registeredBytes: status?.registeredBytes ?? 0,
      arenaBytes: this.engine.bytes.length,
      operationsInFlight: status?.inFlight ?? 0,
      files: status?.files ?? 0,
      batches: this.engine.batches,
      nbd: {},
      devices: [],
    };
  }

  /** Ends everything. Returns the operations that have not ended. */
  private async stop(graceMs: number): Promise<number> {
    const { serving } = this;
    this.serving = null;
    if (serving !== null) {
      const { server, listener, service, manager } = serving;
      listener.removePath();
      await new Promise<void>((resolve) => {
        const timer = setTimeout(() => server.abort(), Math.min(graceMs, DRAIN_MS));
        server.drain(() => {
          clearTimeout(timer);
          resolve();
        });
      });
      service.close();
      await manager.close().catch(() => {});
    }
    this.start.port.removeAllListeners('message');
    return this.engine.close(STOP_GRACE_MS);
  }
}
