/** The storage node of a shard, if it has one: its devices, its volumes under numbers, and its servers. */

import { StrakeError } from '../core/errors.js';
import { DRAIN_MS } from '../core/limits.js';
import type { Watch } from '../core/watch.js';
import type { NbdServer } from '../nbd/server.js';
import { type NodeCallName, type NodeCalls, NodeService } from '../serve/node-service.js';
import { UringDevice } from '../uring/device.js';
import type { Engine } from '../uring/engine.js';
import type { NodePorts } from '../volumes/storage-node.js';
import type {
  AnswerMessage,
  ListenNodeMessage,
  OpenStoreMessage,
  ShardCalls,
  VolumeFacts,
} from '../worker/messages.js';
import type { Servers } from './servers.js';
import type { Targets } from './targets.js';

export interface ShardNodeParts {
  readonly engine: Engine;
  readonly watch: Watch;
  readonly ports: NodePorts;
  readonly targets: Targets;
  readonly servers: Servers;
  readonly post: (message: AnswerMessage) => void;
}

export class ShardNode {
  private readonly parts: ShardNodeParts;
  private node: NodeService | null = null;
  private closed = false;
  private readonly stores: UringDevice[] = [];

  constructor(parts: ShardNodeParts) {
    this.parts = parts;
  }

  private openNode(): NodeService {
    // A second one would use the memory, and the devices, of the one that is being closed.
    if (this.closed) throw new StrakeError('CLOSED', 'the node is closed');
    if (this.node === null) {
      const { ports, post } = this.parts;
      this.node = new NodeService(ports, (event) => post({ event }));
    }
    return this.node;
  }

  /** Whether it has devices: its volumes work by themselves too, at any time: resync, repair, checkpoints. */
  get busy(): boolean {
    return this.stores.length > 0;
  }

  /** Carries out a call of the node. */
  call<Name extends NodeCallName>(
    name: Name,
    request: NodeCalls[Name]['request'],
  ): Promise<NodeCalls[Name]['response']> {
    return this.openNode().call(name, request);
  }

  async openStore(message: OpenStoreMessage): Promise<{ deviceId: string }> {
    const { engine, watch } = this.parts;
    const { handle, geometry, path, clusterId } = message;
    const device = new UringDevice(engine, engine.native.adoptDevice(handle), geometry);
    // A device that does not answer is to be given up while it is opened, too.
    this.stores.push(device);
    watch.start();
    try {
      const entry = await this.openNode().node.open(device, clusterId === undefined ? { path } : { path, clusterId });
      return { deviceId: entry.superblock.deviceId };
    } catch (error) {
      this.stores.splice(this.stores.indexOf(device), 1);
      device.close();
      throw error;
    }
  }

  async findVolume(name: string): Promise<VolumeFacts> {
    const { targets } = this.parts;
    const engine = await this.openNode().node.started(name);
    // Its deletion may have come right behind.
    if (!engine.serving) return this.findVolume(name);
    const { id, name: current, sizeBytes } = engine.record;
    const device = targets.numberOf(engine) ?? targets.add({ volume: engine, name: current });
    return { device, id, name: current, sizeBytes };
  }

  listen(message: ListenNodeMessage): ShardCalls['listenNode']['response'] {
    const { server, port, made } = this.parts.servers.begin(message, null);
    this.openNode().attach(made);
    return { server, port };
  }

  /** A server has been closed. */
  detach(server: NbdServer): void {
    this.node?.detach(server);
  }

  /** Closes servers, volumes and devices in order. Rejects with the first error; everything is closed all the same. */
  async close(): Promise<null> {
    const { node } = this;
    this.node = null;
    this.closed = true;
    if (node === null) return null;
    node.node.endWork();
    await this.parts.servers.endOf(null, DRAIN_MS);
    const { length } = this.stores;
    try {
      await node.node.close();
    } finally {
      this.stores.splice(0, length);
    }
    return null;
  }
}
