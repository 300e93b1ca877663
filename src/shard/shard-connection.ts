/**
 * The connection from the shard that decides about a node's volumes to another that has devices of it, and engines: data goes by
 * rings, control calls by messages.
 */

import { AwayDevice, type AwayDeviceParts } from '../across/away-device.js';
import type { DeviceCaller, DeviceCallName, DeviceCalls, DeviceNews } from '../across/device-calls.js';
import type { MemberAsker } from '../across/member-asker.js';
import { check } from '../core/check.js';
import { StrakeError, type WireError } from '../core/errors.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { DeviceEvent } from '../node/device-events.js';
import type { ConnectControl, ConnectMessage } from '../worker/messages.js';
import { EngineConnection } from './engine-connection.js';
import { MemberLink, type MemberLinkParts } from './member-link.js';

/** What comes over the port of a connection. */
export type DeviceAnswer =
  | { readonly id: number; readonly response: unknown }
  | { readonly id: number; readonly error: WireError }
  | DeviceNews;

/** What goes over it. */
export interface DeviceQuestion<Name extends DeviceCallName = DeviceCallName> {
  readonly id: number;
  readonly name: Name;
  readonly request: DeviceCalls[Name]['request'];
}

interface Pending {
  readonly resolve: (response: unknown) => void;
  readonly reject: (error: StrakeError) => void;
}

export interface ShardConnectionParts extends MemberLinkParts {
  readonly onEvent: (event: DeviceEvent) => void;
}

export class ShardConnection implements DeviceCaller {
  readonly shard: number;
  readonly engines: EngineConnection;
  private readonly link: MemberLink;
  private readonly control: ConnectControl;
  private readonly parts: ShardConnectionParts;
  private readonly pending = new Map<number, Pending>();
  private nextId = 1;
  private dead: StrakeError | null = null;
  private readonly devices = new Set<AwayDevice>();
  /** Devices that are being opened there. */
  private opening = 0;

  constructor(parts: ShardConnectionParts, message: ConnectMessage) {
    const { shard, engine: otherEngine, control } = message;
    check(control !== null, 'the first shard is connected without control calls', shard);
    this.parts = parts;
    this.shard = shard;
    this.control = control;
    this.link = new MemberLink(parts, message);
    this.engines = new EngineConnection(parts.engine, shard, otherEngine, control);
    control.devices.on('message', (told: DeviceAnswer) => this.answer(told));
  }

  private get asker(): MemberAsker {
    return this.link.asker;
  }

  /** Takes what has come from the other shard. */
  drain(): void {
    this.link.drain();
    this.engines.drain();
  }

  /** Devices that are there, or are about to be. */
  get load(): number {
    return this.devices.size + this.opening;
  }

  get lost(): boolean {
    return this.dead !== null;
  }

  private answer(message: DeviceAnswer): void {
    if ('event' in message) {
      this.parts.onEvent(message.event);
      return;
    }
    const pending = this.pending.get(message.id);
    check(pending !== undefined, 'another shard answers what it was not asked', message.id);
    this.pending.delete(message.id);
    if ('error' in message) pending.reject(StrakeError.fromWire(message.error));
    else pending.resolve(message.response);
  }

  call<Name extends DeviceCallName>(
    name: Name,
    request: DeviceCalls[Name]['request'],
  ): Promise<DeviceCalls[Name]['response']> {
    if (this.dead !== null) return Promise.reject(this.dead);
    return new Promise((resolve, reject) => {
      const id = this.nextId++;
      this.pending.set(id, { resolve: resolve as Pending['resolve'], reject });
      const question: DeviceQuestion<Name> = { id, name, request };
      this.control.devices.postMessage(question);
    });
  }

  /** Opens a device there. Rejects with a `StrakeError`. */
  async open(
    request: DeviceCalls['open']['request'],
    { order, keeper }: Pick<AwayDeviceParts, 'order' | 'keeper'>,
    mayForget: (note: ReplicaMap) => boolean,
  ): Promise<AwayDevice> {
    this.opening += 1;
    try {
      const { device: number, facts } = await this.call('open', request);
      const { shard, asker } = this;
      const onEnd = (ended: AwayDevice) => this.devices.delete(ended);
      const device = new AwayDevice({ caller: this, asker, shard, order, keeper, number, mayForget, onEnd }, facts);
      this.devices.add(device);
      return device;
    } finally {
      this.opening -= 1;
    }
  }

  /** Asks what all devices and engines there say now. */
  async refresh(): Promise<void> {
    await Promise.all([this.engines.refresh(), this.refreshDevices()]);
  }

  private async refreshDevices(): Promise<void> {
    if (this.dead !== null || this.devices.size === 0) return;
    const told = new Map(await this.call('facts', null));
    for (const device of this.devices) {
      const facts = told.get(device.number);
      if (facts !== undefined) device.learn(facts);
    }
  }

  /**
   * The other shard has died: what it was asked for fails with `error`. `mayGoOn`: device operations may still use memory of this
   * one. Resolves to the devices that were there when nothing is in flight here that was asked from there.
   */
  async lose(error: StrakeError, mayGoOn: boolean): Promise<{ lost: AwayDevice[]; mayGoOn: boolean }> {
    if (this.dead !== null) return { lost: [], mayGoOn };
    this.dead = error;
    this.control.devices.close();
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
    // Until then clients must not have back what is read into their memory.
    const goesOn = (await this.link.closeAnswers()) || mayGoOn;
    this.asker.lose(goesOn);
    this.engines.lose(error, goesOn);
    return { lost: [...this.devices], mayGoOn: goesOn };
  }

  /** What may take long comes to an end there: the node is about to be closed. */
  endWork(): void {
    // One that has died works no more.
    this.call('endWork', null).catch(() => {});
    this.engines.endWork().catch(() => {});
  }

  /** What was asked of a shard that has died has ended. */
  dispose(): void {
    this.asker.dispose();
    this.engines.dispose();
  }

  /** Nothing is asked any more; all devices there are closed. */
  close(): void {
    if (this.dead !== null) return;
    this.dead = new StrakeError('CLOSED', 'the node is closed');
    this.control.devices.close();
    this.engines.close();
  }
}
