/**
 * Another shard of a simulated node, which has devices: the product's both ends of the rings and of the control calls, between
 * which wake-ups and calls take as long as the seed decides. It is in the same process, and so has the same memory.
 */

import { AwayDevice } from '#strake/across/away-device.js';
import type { DeviceCaller, DeviceCallName, DeviceCalls } from '#strake/across/device-calls.js';
import { DeviceService } from '#strake/across/device-service.js';
import { MemberAnswerer } from '#strake/across/member-answerer.js';
import { MemberAsker } from '#strake/across/member-asker.js';
import { createLink } from '#strake/across/protocol.js';
import { StrakeError, toStrakeError } from '#strake/core/errors.js';
import type { DeviceEvent } from '#strake/node/device-events.js';
import type { SimDevice } from '#strake/sim/disk/device.js';
import type { SimSource } from '#strake/sim/world/events.js';
import type { SimLoop } from '#strake/sim/world/loop.js';
import type { SimRandom } from '#strake/sim/world/random.js';
import type { StorageNode } from '#strake/volumes/storage-node.js';

const WAKE_ASKER = 0;
const WAKE_ANSWERER = 1;
const FIRST_CALL = 2;
/** How long a wake-up or a call takes, in microseconds. */
const DELAY_US: readonly [number, number] = [1, 40];

export interface SimShardPlace {
  /** Where its stores have their memory, and for how many there is some. */
  readonly memoryStart: number;
  readonly storesMax: number;
}

export class SimShard implements DeviceCaller, SimSource {
  readonly asker: MemberAsker;
  private readonly loop: SimLoop;
  private readonly node: StorageNode;
  private readonly random: SimRandom;
  private readonly answerer: MemberAnswerer;
  private readonly service: DeviceService;
  private readonly base: number;
  private readonly waiting: (() => void)[] = [];
  private readonly devices = new Set<AwayDevice>();
  private dead = false;

  constructor(loop: SimLoop, node: StorageNode, place: SimShardPlace, onEvent: (event: DeviceEvent) => void) {
    this.loop = loop;
    this.node = node;
    this.random = loop.random.fork('shard');
    this.base = loop.register({ complete: (tag) => this.turn(tag) });
    const link = createLink();
    const common = { completions: loop, memory: loop, link };
    this.service = new DeviceService({ completions: loop, memory: loop, clock: loop, ...place }, onEvent);
    this.answerer = new MemberAnswerer({
      ...common,
      wake: () => this.later(WAKE_ASKER),
      guestStart: 0,
      guestBytes: loop.bytes.length,
      member: (device, page) => this.service.member(device, page),
    });
    this.asker = new MemberAsker({
      ...common,
      wake: () => this.later(WAKE_ANSWERER),
      payloads: 0,
      inBatch: () => false,
      // Nobody looks before this batch has been handed over.
      takeCopies: () => {},
      // What has been given up is known to the same memory.
      lend: () => {},
      takeBack: () => {},
    });
  }

  private later(tag: number): void {
    this.loop.schedule(this, tag, this.random.between(...DELAY_US));
  }

  start(): void {}

  fire(tag: number): void {
    this.loop.complete(this.base + tag, 0, 0);
  }

  private turn(tag: number): void {
    if (tag === WAKE_ASKER) this.asker.drain();
    else if (tag === WAKE_ANSWERER) this.answerer.drain();
    else this.waiting[tag - FIRST_CALL]();
  }

  private passes(): Promise<void> {
    return new Promise((resolve) => this.later(FIRST_CALL + this.waiting.push(resolve) - 1));
  }

  async call<Name extends DeviceCallName>(
    name: Name,
    request: DeviceCalls[Name]['request'],
  ): Promise<DeviceCalls[Name]['response']> {
    // What crosses threads is plain data.
    const asked = structuredClone(request);
    await this.passes();
    if (this.dead) throw new StrakeError('WORKER_DIED', 'the shard has died');
    this.answerer.drain();
    try {
      if (name === 'open') throw new Error('devices are opened by `open`');
      return structuredClone(await this.service.call(name as never, asked as never)) as never;
    } catch (error) {
      throw StrakeError.fromWire(structuredClone(toStrakeError(error).toWire()));
    } finally {
      await this.passes();
    }
  }

  /** Opens a device there for the node. */
  async open(device: SimDevice, found: { readonly deviceId: string; readonly clusterId: string }): Promise<AwayDevice> {
    const { node, asker } = this;
    const opened = await node.openAway(found, 'disk', async (order, keeper) => {
      await this.passes();
      const { device: number, facts } = structuredClone(
        await this.service.open(device, found.deviceId, { path: 'disk' }),
      );
      const mayForget = (note: Parameters<StorageNode['mayForget']>[0]) => node.mayForget(note);
      const onEnd = (ended: AwayDevice) => this.devices.delete(ended);
      return new AwayDevice({ caller: this, asker, shard: 1, order, keeper, number, mayForget, onEnd }, facts);
    });
    this.devices.add(opened as AwayDevice);
    return opened as AwayDevice;
  }

  /** What its devices say now is known. */
  async refresh(): Promise<void> {
    const told = new Map(await this.call('facts', null));
    for (const device of this.devices) {
      const facts = told.get(device.number);
      if (facts !== undefined) device.learn(facts);
    }
  }

  /** It is gone with its devices, and answers nothing any more; they can be opened again when this resolves. */
  async die(): Promise<void> {
    this.dead = true;
    this.asker.lose(false);
    const lost = [...this.devices];
    this.devices.clear();
    await this.answerer.close();
    await this.service.close().catch(() => {});
    for (const { deviceId } of lost) await this.node.lose(deviceId, 'its shard has died');
  }
}
