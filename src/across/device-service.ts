/** The devices of a shard whose volumes are on another: carries out the calls of that one. */

import { check } from '../core/check.js';
import { EIO } from '../core/errno.js';
import { StrakeError } from '../core/errors.js';
import { IO_TIMEOUT_MS } from '../core/limits.js';
import { DeviceHost, type DeviceHostHooks, type DeviceHostPorts, type Expectations } from '../node/device-host.js';
import type { DeviceMember } from '../node/device-member.js';
import type { NodeStore } from '../node/node-store.js';
import type { Device } from '../ports/device.js';
import type { DeviceCallName, DeviceCalls, DeviceNumber } from './device-calls.js';
import { factsOf } from './device-facts.js';

export class DeviceService {
  private readonly ports: DeviceHostPorts;
  private readonly host: DeviceHost;
  /** By number, which none is given twice: what is still on its way to one that is gone must not reach another. */
  private readonly devices = new Map<DeviceNumber, NodeStore>();
  private last = 0;
  /** After which time operations that a device has not ended are given up. */
  fenceAfterMs = IO_TIMEOUT_MS;
  /** Ids of deleted volumes whose notes may go: of each map that is being put. */
  private readonly forgettable = new Set<readonly string[]>();
  private ending = false;

  constructor(ports: DeviceHostPorts, onEvent: DeviceHostHooks['onEvent']) {
    this.ports = ports;
    this.host = new DeviceHost(ports, {
      onEvent,
      onMap: () => {},
      mayForget: ({ volume }) => [...this.forgettable].some((ids) => ids.includes(volume.id)),
    });
  }

  /** Opens a device, which has to be the one that it was found to be. */
  async open(device: Device, deviceId: string, expected: Expectations): Promise<DeviceCalls['open']['response']> {
    const entry = await this.host.open(device, expected);
    if (entry.deviceId !== deviceId) {
      this.host.letGo(entry.deviceId);
      await this.host.close(entry);
      throw new StrakeError('WRONG_DEVICE', `${expected.path} is another device than it was a moment ago`);
    }
    this.last += 1;
    check(!this.devices.has(this.last), 'a device gets the number of another', this.last);
    this.devices.set(this.last, entry);
    return { device: this.last, facts: factsOf(entry) };
  }

  /** See `MemberAnswererParts.member`. */
  member(number: DeviceNumber, page: number): DeviceMember | null {
    return this.devices.get(number)?.memberOn(this.ports.completions, page) ?? null;
  }

  /** Carries out a call. Throws or rejects with a `StrakeError`. */
  async call<Name extends Exclude<DeviceCallName, 'open'>>(
    name: Name,
    request: DeviceCalls[Name]['request'],
  ): Promise<DeviceCalls[Name]['response']> {
    return (await this.carryOut(name, request)) as DeviceCalls[Name]['response'];
  }

  private carryOut(name: DeviceCallName, request: unknown): unknown {
    switch (name) {
      case 'put':
        return this.put(request as DeviceCalls['put']['request']);
      case 'lease':
        return this.lease(request as DeviceCalls['lease']['request']);
      case 'fence':
        this.fenceAfterMs = (request as DeviceCalls['fence']['request']).afterMs;
        return null;
      case 'release':
        return this.release(request as DeviceCalls['release']['request']);
      case 'facts':
        return this.facts(request as DeviceCalls['facts']['request']);
      case 'end':
        return this.end((request as DeviceCalls['end']['request']).device);
      default:
        check(name === 'endWork', 'a shard is asked for what no shard does');
        this.ending = true;
        this.host.endWork();
        return null;
    }
  }

  private facts(asked: DeviceCalls['facts']['request']): DeviceCalls['facts']['response'] {
    if (asked !== null) return [[asked.device, factsOf(this.deviceOf(asked.device))]];
    return [...this.devices].map(([number, device]) => [number, factsOf(device)]);
  }

  private deviceOf(number: DeviceNumber): NodeStore {
    const device = this.devices.get(number);
    if (device === undefined) throw new StrakeError('NOT_FOUND', 'the device is not open');
    return device;
  }

  private async put({ device, map, own, forgettable }: DeviceCalls['put']['request']): Promise<unknown> {
    const entry = this.deviceOf(device);
    // A page is chosen when there is room in the journal.
    this.forgettable.add(forgettable);
    try {
      const result = await entry.keep(map, own);
      return { result, facts: factsOf(entry) };
    } finally {
      this.forgettable.delete(forgettable);
    }
  }

  /** The leases themselves are counted where they are granted; here is what another life of the device has to know. */
  private async lease({ device, leaseMs }: DeviceCalls['lease']['request']): Promise<number> {
    const entry = this.deviceOf(device);
    await entry.grantFor(leaseMs);
    return entry.leaseMs === leaseMs ? 0 : -EIO;
  }

  private async release({ device, volumeId }: DeviceCalls['release']['request']): Promise<unknown> {
    const entry = this.deviceOf(device);
    await entry.release(this.ports.completions, volumeId, () => this.ending);
    return { facts: factsOf(entry) };
  }

  private async end(number: DeviceNumber): Promise<null> {
    const entry = this.deviceOf(number);
    this.devices.delete(number);
    this.host.letGo(entry.deviceId);
    await this.host.close(entry);
    return null;
  }

  /** Closes all devices in order. Rejects with the first error; everything is closed all the same. */
  async close(): Promise<void> {
    this.ending = true;
    this.host.endWork();
    const errors: unknown[] = [];
    const numbers = [...this.devices.keys()];
    await Promise.all(numbers.map((number) => this.end(number).catch((error: unknown) => errors.push(error))));
    check(this.devices.size === 0, 'devices are left open when their shard is closed', this.devices.size);
    if (errors.length > 0) throw errors[0];
  }
}
