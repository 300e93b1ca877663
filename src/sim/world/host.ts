/**
 * A storage node's process in a simulation, from its start to its death: the product's node and NBD server on simulated
 * ports, put together as a shard does it.
 *
 * The clock of a process may run faster or slower than that of the world, by a rate of its own.
 */

import { BLOCK_BYTES, DRAIN_MS, IO_TIMEOUT_MS } from '../../core/limits.js';
import { alignUp } from '../../core/units.js';
import { Watch, type Watched } from '../../core/watch.js';
import { NbdServer } from '../../nbd/server.js';
import { NbdService } from '../../nbd/service.js';
import { ConnectionResources } from '../../net/connection-resources.js';
import type { NodeStore } from '../../node/node-store.js';
import type { Clock } from '../../ports/clock.js';
import { type NodeCallName, type NodeCalls, NodeService } from '../../serve/node-service.js';
import type { StorageEvent } from '../../volumes/storage-events.js';
import { nodeMemoryBytes, type StorageNode } from '../../volumes/storage-node.js';
import { SimDevice, type SimDeviceSettings } from '../disk/device.js';
import type { SimDisk } from '../disk/disk.js';
import { RING_MEMORY_BYTES, SimRings } from '../net/ring-session.js';
import { SimTransport, type SimTransportSettings } from '../net/transport.js';
import type { SimLoop } from './loop.js';
import { SimMailbox } from './mailbox.js';
import { SimTimers } from './timers.js';

const RINGS_START = alignUp(ConnectionResources.regionBytes(), BLOCK_BYTES);
const NODE_START = RINGS_START + RING_MEMORY_BYTES;

/** Memory of a process that drives at most so many devices. */
export function hostMemoryBytes(storesMax: number): number {
  return NODE_START + nodeMemoryBytes(storesMax);
}

/** A clock that goes wrong by a constant rate. */
class DriftingClock implements Clock {
  private readonly loop: SimLoop;
  private readonly rate: number;

  constructor(loop: SimLoop, rate: number) {
    this.loop = loop;
    this.rate = rate;
  }

  nowMs(): number {
    return this.loop.nowMs() * this.rate;
  }

  after(delayMs: number, token: number): void {
    this.loop.after(delayMs / this.rate, token);
  }
}

export interface SimHostSettings {
  readonly storesMax: number;
  /** Milliseconds of its clock in one of the world's; default 1. */
  readonly clockRate?: number;
  readonly transport?: SimTransportSettings;
  readonly device?: SimDeviceSettings;
  /** The volume that programs in the process use. */
  readonly programVolume?: string | undefined;
  readonly onEvent?: (event: StorageEvent) => void;
}

interface Call {
  readonly name: NodeCallName;
  readonly request: NodeCalls[NodeCallName]['request'];
}

export class SimHost implements Watched {
  readonly loop: SimLoop;
  readonly transport: SimTransport;
  readonly service: NbdService;
  readonly listener: number;
  /** For programs in the process; null if the settings name no volume for them. */
  readonly rings: SimRings | null;
  private readonly settings: SimHostSettings;
  private readonly watch: Watch;
  private readonly serving: NodeService;
  private readonly server: NbdServer;
  private readonly mailbox: SimMailbox<Call, unknown>;
  private readonly devices = new Set<SimDevice>();

  constructor(loop: SimLoop, settings: SimHostSettings) {
    this.loop = loop;
    this.settings = settings;
    const clock = new DriftingClock(loop, settings.clockRate ?? 1);
    this.transport = new SimTransport(loop, settings.transport);
    this.watch = new Watch(loop, clock);
    const ports = { completions: loop, memory: loop, transport: this.transport, clock };
    this.service = new NbdService(ports, this.watch, 0);
    const { storesMax } = settings;
    const nodePorts = { completions: loop, memory: loop, clock, memoryStart: NODE_START, storesMax };
    this.serving = new NodeService(nodePorts, { onEvent: settings.onEvent ?? (() => {}), onDelete: () => {} });
    this.mailbox = new SimMailbox(loop, ({ name, request }) => this.serving.call(name, request));
    this.listener = this.transport.listen();
    this.server = new NbdServer(this.service, ports, this.listener, []);
    this.serving.attach(this.server);
    const { programVolume } = settings;
    const volume = () => this.node.volumes.named(programVolume ?? '').at(0)?.engine ?? undefined;
    this.rings = programVolume === undefined ? null : new SimRings(loop, this.watch, RINGS_START, volume);
    this.watch.add(this);
  }

  /** Opens a disk as a device of the node. The device is closed again if that fails. */
  async open(disk: SimDisk, path: string): Promise<NodeStore> {
    const device = new SimDevice(this.loop, disk, this.settings.device);
    // A device that does not answer is to be given up while it is opened, too.
    this.devices.add(device);
    this.watch.start();
    try {
      return await this.node.open(device, { path });
    } catch (error) {
      this.devices.delete(device);
      device.close();
      throw error;
    }
  }

  get node(): StorageNode {
    return this.serving.node;
  }

  /** A control call, as it comes from another thread. */
  call<Name extends NodeCallName>(
    name: Name,
    request: NodeCalls[Name]['request'],
  ): Promise<NodeCalls[Name]['response']> {
    return this.mailbox.call({ name, request }) as Promise<NodeCalls[Name]['response']>;
  }

  /** Ends in order: connections, for which there is a time limit, then volumes and devices. */
  async close(): Promise<void> {
    this.node.endWork();
    await new Promise<void>((resolve) => {
      new SimTimers(this.loop).after(1000 * DRAIN_MS, () => this.server.abort());
      this.server.drain(resolve);
    });
    await this.node.close();
  }

  get busy(): boolean {
    return this.service.busy || this.devices.size > 0;
  }

  tick(): void {
    for (const device of this.devices) device.giveUpOverdue(IO_TIMEOUT_MS);
  }
}
