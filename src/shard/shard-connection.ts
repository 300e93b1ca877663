/**
 * The connection from the shard that has a node's volumes to another that has devices of it: data goes by rings, control calls by
 * messages.
 */

import type { MessagePort } from 'node:worker_threads';
import { AwayDevice, type AwayDeviceParts } from '../across/away-device.js';
import type { DeviceCaller, DeviceCallName, DeviceCalls, DeviceNews } from '../across/device-calls.js';
import { MemberAsker } from '../across/member-asker.js';
import type { LinkMemory } from '../across/protocol.js';
import { check } from '../core/check.js';
import { StrakeError, type WireError } from '../core/errors.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { DeviceEvent } from '../node/device-events.js';
import type { Engine } from '../uring/engine.js';

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

export interface ShardConnectionParts {
  readonly engine: Engine;
  /** The other shard: its number in the node, its engine, and the ways to it. */
  readonly shard: number;
  readonly otherEngine: number;
  readonly port: MessagePort;
  readonly link: LinkMemory;
  readonly onEvent: (event: DeviceEvent) => void;
}

export class ShardConnection implements DeviceCaller {
  readonly shard: number;
  readonly asker: MemberAsker;
  private readonly parts: ShardConnectionParts;
  private readonly pending = new Map<number, Pending>();
  private nextId = 1;
  private dead: StrakeError | null = null;
  private readonly devices = new Set<AwayDevice>();
  /** Devices that are being opened there. */
  private opening = 0;

  constructor(parts: ShardConnectionParts) {
    const { engine, shard, otherEngine, port, link } = parts;
    this.parts = parts;
    this.shard = shard;
    this.asker = new MemberAsker({
      completions: engine,
      memory: engine,
      link,
      wake: () => engine.wake(otherEngine),
      inBatch: () => engine.inBatch,
      takeCopies: () => engine.native.take(),
      lend: (memory) => engine.lend(memory),
      takeBack: (memory) => engine.takeBack(memory),
    });
    port.on('message', (message: DeviceAnswer) => this.answer(message));
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
      this.parts.port.postMessage(question);
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

  /** Asks what all devices there say now. */
  async refresh(): Promise<void> {
    if (this.dead !== null || this.devices.size === 0) return;
    const told = new Map(await this.call('facts', null));
    for (const device of this.devices) {
      const facts = told.get(device.number);
      if (facts !== undefined) device.learn(facts);
    }
  }

  /**
   * The other shard has died: what it was asked for fails with `error`. `mayGoOn`: its device operations may still use memory of
   * this one. Returns the devices that were there.
   */
  lose(error: StrakeError, mayGoOn: boolean): AwayDevice[] {
    if (this.dead !== null) return [];
    this.dead = error;
    this.parts.port.close();
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
    this.asker.lose(mayGoOn);
    return [...this.devices];
  }

  /** Nothing is asked any more; all devices there are closed. */
  close(): void {
    if (this.dead !== null) return;
    this.dead = new StrakeError('CLOSED', 'the node is closed');
    this.parts.port.close();
  }
}
