/**
 * What runs in a process that has devices and no engines, in a simulation: the product's device host, and what serves their
 * segments to engines in other processes.
 */

import { BLOCK_BYTES, DRAIN_MS, IO_TIMEOUT_MS } from '../../core/limits.js';
import { alignUp } from '../../core/units.js';
import { Watch, type Watched } from '../../core/watch.js';
import type { VolumeMap } from '../../layout/volume-map.js';
import { ConnectionResources } from '../../net/connection-resources.js';
import { DeviceHost, deviceHostBytes } from '../../node/device-host.js';
import type { NodeStore } from '../../node/node-store.js';
import { SegmentService } from '../../node/segment-service.js';
import { DeviceCatalog } from '../../volumes/device-catalog.js';
import type { VolumeSpec } from '../../volumes/placement.js';
import { SessionServer } from '../../wire/session-server.js';
import { SimDevice, type SimDeviceSettings } from '../disk/device.js';
import type { SimDisk } from '../disk/disk.js';
import type { SimNetwork } from '../net/network.js';
import { SimTransport } from '../net/transport.js';
import type { SimProcess } from '../world/process.js';
import { SimKey } from '../world/sim-key.js';
import { SimTimers } from '../world/timers.js';
import { SIM_KEY_SEED, SIM_SEGMENTS } from './peer-sizes.js';

const HOST_START = alignUp(ConnectionResources.regionBytes(SIM_SEGMENTS), BLOCK_BYTES);

export interface DeviceProgramSettings {
  readonly storesMax: number;
  readonly network: SimNetwork;
  /** Where segments are served, as soon as `serve` is called. */
  readonly address: string;
  readonly clusterId: string;
  /** What the process is called by others; default: a name of no meaning. */
  readonly nodeId?: string;
  readonly device?: SimDeviceSettings;
  readonly onEvent: (text: string) => void;
}

const NODE_ID = 'd'.repeat(32);

export class DeviceProgram implements Watched {
  readonly process: SimProcess;
  readonly host: DeviceHost;
  readonly service: SegmentService;
  private readonly catalog: DeviceCatalog;
  private readonly settings: DeviceProgramSettings;
  private readonly transport: SimTransport;
  private readonly watch: Watch;
  private readonly devices = new Set<SimDevice>();
  private server: SessionServer | null = null;

  static memoryBytes(storesMax: number): number {
    return HOST_START + deviceHostBytes(storesMax);
  }

  constructor(process: SimProcess, settings: DeviceProgramSettings) {
    this.process = process;
    this.settings = settings;
    const { storesMax, network, clusterId, onEvent } = settings;
    const told = ({ kind, deviceId, text }: { kind: string; deviceId: string | null; text: string }) =>
      onEvent(`event: ${kind} ${deviceId?.slice(0, 4) ?? ''} ${text}`);
    this.host = new DeviceHost(
      { completions: process, memory: process, clock: process, memoryStart: HOST_START, storesMax },
      { onEvent: told, mayForget: (note) => this.catalog.mayForget(note), onMap: () => {} },
    );
    this.catalog = new DeviceCatalog({ completions: process, stores: this.host.stores, onEvent: told });
    this.watch = new Watch(process, process);
    this.transport = new SimTransport(process, {}, network);
    this.service = new SegmentService({
      ports: { completions: process, memory: process, transport: this.transport, clock: process },
      watch: this.watch,
      memoryStart: 0,
      sizes: SIM_SEGMENTS,
      key: new SimKey(SIM_KEY_SEED, process.random.fork('key')),
      identity: { nodeId: settings.nodeId ?? NODE_ID, clusterId },
      addresses: [settings.address],
      devices: this.host.stores,
      onDeleted: () => {},
    });
    this.watch.add(this);
  }

  async open(disk: SimDisk, path: string): Promise<NodeStore> {
    const device = new SimDevice(this.process, disk, this.settings.device);
    this.devices.add(device);
    this.watch.start();
    return this.host.open(device, { path });
  }

  /** Makes a volume, which is not attached yet. */
  async create(spec: VolumeSpec): Promise<VolumeMap> {
    const map = this.catalog.plan(spec);
    await this.catalog.create(map);
    return map;
  }

  /** Begins to serve the devices that are open. */
  serve(): void {
    const { process, transport } = this;
    const ports = { completions: process, memory: process, transport, clock: process };
    this.server = new SessionServer(this.service.desk, ports, transport.listen(this.settings.address));
  }

  /** Ends in order: sessions, for which there is a time limit, then devices. */
  async close(): Promise<void> {
    const { server, process } = this;
    if (server !== null) {
      await new Promise<void>((resolve) => {
        new SimTimers(process.time, process).after(1000 * DRAIN_MS, () => server.abort());
        server.drain(resolve);
      });
    }
    this.host.endWork();
    for (const entry of [...this.host.stores.values()]) {
      this.host.letGo(entry.deviceId);
      await this.host.close(entry);
    }
  }

  get busy(): boolean {
    return this.devices.size > 0;
  }

  tick(): void {
    for (const device of this.devices) device.giveUpOverdue(IO_TIMEOUT_MS);
  }
}
