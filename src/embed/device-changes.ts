/**
 * Devices of an open node come, go, and take the place of others. What belongs to the files of devices happens here, what
 * belongs to their content in the shard.
 */

import type { ShardLink } from '../worker/shard-pool.js';
import { matchDevice } from './device-names.js';
import type { NodeDevices } from './node-devices.js';
import type { NodeDevice, NodeJob, NodeStatus } from './node-types.js';

/** What changes of devices need of their node; each member throws or rejects while the node is not open. */
export interface DeviceOwner {
  readonly link: ShardLink;
  status(): Promise<NodeStatus>;
  devices(): Promise<NodeDevice[]>;
}

export class DeviceChanges {
  private readonly node: DeviceOwner;
  private readonly devices: NodeDevices;

  constructor(node: DeviceOwner, devices: NodeDevices) {
    this.node = node;
    this.devices = devices;
  }

  /** See `Node.addDevice`. */
  async add(path: string): Promise<NodeDevice> {
    const { link } = this.node;
    const deviceId =
      (await this.spareAt(path)) ??
      (await this.devices.open(link, path, { joins: true, letGo: (id) => this.letGo(id) }));
    await link.call('takeBack', { deviceId });
    const devices = await this.node.devices();
    return devices.find((device) => device.deviceId === deviceId) as NodeDevice;
  }

  /** See `Node.replaceDevice`. */
  async replace(deviceId: string, path: string): Promise<NodeJob[]> {
    const { link } = this.node;
    const spare = await this.spareAt(path);
    const by = spare ?? (await this.devices.open(link, path, { joins: false, letGo: (id) => this.letGo(id) }));
    try {
      return await link.call('replace', { deviceId, by });
    } catch (error) {
      // Where some volumes have it already, it stays.
      if (spare === undefined) {
        await link.call('forget', { deviceId: by }).then(
          () => this.devices.facts.delete(by),
          () => {},
        );
      }
      throw error;
    }
  }

  /** See `Node.removeDevice`. */
  async remove(deviceId: string): Promise<void> {
    await this.node.link.call('forget', { deviceId });
    this.devices.facts.delete(deviceId);
  }

  /** See `Node.findDevice`. */
  async find(name: string, path: string): Promise<string> {
    const [status, led] = await Promise.all([this.node.status(), this.devices.idAt(path)]);
    return matchDevice(name, { ...status, led });
  }

  /** Takes out a device that has failed, and so may have come back. Returns whether it has failed. */
  private async letGo(deviceId: string): Promise<boolean> {
    const device = (await this.node.devices()).find((one) => one.deviceId === deviceId);
    if (device?.state === 'ok') return false;
    await this.remove(deviceId);
    return true;
  }

  /** The id of a device of the node that works, if the path leads to one. */
  private async spareAt(path: string): Promise<string | undefined> {
    const deviceId = await this.devices.idAt(path);
    return (await this.node.devices()).find((one) => one.deviceId === deviceId && one.state === 'ok')?.deviceId;
  }
}
