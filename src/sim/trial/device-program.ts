/**
 * What runs in a process that has devices and no engines, in a simulation: the product's device host, and its catalog, which
 * decides about maps. Engines in other processes ask it by messages and by requests to members.
 */

import { BLOCK_BYTES, IO_TIMEOUT_MS } from '../../core/limits.js';
import { alignUp } from '../../core/units.js';
import { Watch, type Watched } from '../../core/watch.js';
import type { VolumeMap } from '../../layout/volume-map.js';
import { DeviceHost, deviceHostBytes } from '../../node/device-host.js';
import type { NodeStore } from '../../node/node-store.js';
import { Replica } from '../../node/replica.js';
import type { AttachRequest } from '../../ports/map-authority.js';
import { DeviceCatalog } from '../../volumes/device-catalog.js';
import type { VolumeSpec } from '../../volumes/placement.js';
import { SimDevice, type SimDeviceSettings } from '../disk/device.js';
import type { SimDisk } from '../disk/disk.js';
import { MemberService } from '../net/member-service.js';
import { SimMailbox } from '../world/mailbox.js';
import type { SimProcess } from '../world/process.js';

export interface DeviceProgramSettings {
  readonly storesMax: number;
  readonly chunkBytes: number;
  readonly device?: SimDeviceSettings;
  readonly onEvent: (text: string) => void;
}

/** What engines ask the catalog. */
export type CatalogCall =
  | { readonly kind: 'attach'; readonly request: AttachRequest }
  | { readonly kind: 'change'; readonly map: VolumeMap };

export class DeviceProgram implements Watched {
  readonly process: SimProcess;
  readonly members: MemberService;
  readonly host: DeviceHost;
  private readonly catalog: DeviceCatalog;
  private readonly settings: DeviceProgramSettings;
  private readonly mailbox: SimMailbox<CatalogCall, VolumeMap | null>;
  private readonly watch: Watch;
  private readonly devices = new Set<SimDevice>();
  /** Calls of the catalog that have not been answered. */
  private asked = 0;

  static memoryBytes({ storesMax, chunkBytes }: Pick<DeviceProgramSettings, 'storesMax' | 'chunkBytes'>): number {
    return alignUp(MemberService.regionBytes(chunkBytes), BLOCK_BYTES) + deviceHostBytes(storesMax);
  }

  constructor(process: SimProcess, settings: DeviceProgramSettings) {
    this.process = process;
    this.settings = settings;
    const { storesMax, chunkBytes, onEvent } = settings;
    const memoryStart = alignUp(MemberService.regionBytes(chunkBytes), BLOCK_BYTES);
    this.members = new MemberService(process, 0, chunkBytes);
    const told = ({ kind, deviceId, text }: { kind: string; deviceId: string | null; text: string }) =>
      onEvent(`event: ${kind} ${deviceId?.slice(0, 4) ?? ''} ${text}`);
    this.host = new DeviceHost(
      { completions: process, memory: process, memoryStart, storesMax },
      { onEvent: told, mayForget: (note) => this.catalog.mayForget(note) },
    );
    this.catalog = new DeviceCatalog({ completions: process, stores: this.host.stores, onEvent: told });
    this.mailbox = new SimMailbox(process, (call) => this.answer(call));
    this.watch = new Watch(process, process);
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

  /** A call of the catalog by an engine in `process`, which is never answered once that is dead. */
  async ask(process: SimProcess, call: CatalogCall): Promise<VolumeMap | null> {
    if (!process.alive) return new Promise(() => {});
    this.asked += 1;
    try {
      return await this.mailbox.call(call);
    } finally {
      this.asked -= 1;
      if (!process.alive) await new Promise(() => {});
    }
  }

  /** Whether no call of the catalog is under way. */
  get quiet(): boolean {
    return this.asked === 0;
  }

  private async answer(call: CatalogCall): Promise<VolumeMap | null> {
    if (call.kind === 'attach') return this.catalog.attach(call.request);
    await this.catalog.change(call.map);
    return null;
  }

  /** The replica of a group on a device; null if it does not know the volume. */
  replica(map: VolumeMap, group: number, deviceId: string): Replica | null {
    return Replica.on(this.process, this.host.stores.get(deviceId), map, group);
  }

  /** Closes all devices in order. */
  async close(): Promise<void> {
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
