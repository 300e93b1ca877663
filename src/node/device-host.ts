/**
 * The devices of a node: each is opened by itself, and is refused if it cannot be a part of this node. What volumes are on
 * them, and who serves these, is decided elsewhere; here a volume is a map and the segments that belong to it.
 *
 * Fault model: devices are missing, older copies, clones, or of another cluster; they fail while they are opened and later.
 */

import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Device } from '../ports/device.js';
import type { Memory } from '../ports/memory.js';
import type { Superblock } from '../store/format/superblock.js';
import { type Expectations, openStore } from '../store/opening/open-store.js';
import { TableMemory, type TableRange } from '../store/running/table-memory.js';
import { STORE_MEMORY_BYTES, STORE_OWN_BYTES, type StoreHooks, TABLES_BYTES } from '../store/store-start.js';
import { Alarms } from './alarms.js';
import type { DeviceEvent } from './device-events.js';
import type { DeviceKeeper } from './gated-device.js';
import { addInOrder, type DrivenDevice, isDriven, type NodeDevice, type StoreStatus } from './node-device.js';
import { closedError, tooManyDevices } from './node-errors.js';
import { NodeStore } from './node-store.js';

/** Memory in the arena, from a page on, of a host of at most so many devices, but for block tables that are elsewhere. */
export function deviceHostBytes(storesMax: number, tables: 'here' | 'elsewhere' = 'here'): number {
  return storesMax * (tables === 'here' ? STORE_MEMORY_BYTES : STORE_OWN_BYTES);
}

/** Memory in the arena of block tables of at most so many devices, which may use `budgetBytes` as long as that is enough. */
export function tableRange(memoryStart: number, budgetBytes: number, storesMax: number): TableRange {
  return { memoryStart, budgetBytes, bytes: budgetBytes + storesMax * TABLES_BYTES };
}

export interface DeviceHostPorts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly clock: Clock;
  /** Start of `deviceHostBytes(storesMax)`. */
  readonly memoryStart: number;
  /** The most devices. */
  readonly storesMax: number;
  /** Where their block tables are, if not behind what else they need. */
  readonly tables?: TableRange;
}

export type { Expectations, TableRange };

/** Who decides about volumes. */
export interface DeviceHostHooks {
  onEvent(event: DeviceEvent): void;
  /** Whether the note of a deleted volume may go: a map of one of its groups. */
  mayForget(note: ReplicaMap): boolean;
  /** A map that managers have decided has become durable on a device, whoever has brought it. */
  onMap(map: ReplicaMap): void;
}

/** Which device was found. */
export type FoundDevice = Pick<Superblock, 'deviceId' | 'clusterId'>;

/** Opens a device whose store is elsewhere, with its place in the order. Rejects with a `StrakeError`. */
export type OpenAway = (order: number, keeper: DeviceKeeper) => Promise<NodeDevice>;

export class DeviceHost {
  /** The devices that are open, by id. */
  private readonly byId = new Map<string, NodeDevice>();
  /** Those of them that this process drives. */
  private readonly drivenById = new Map<string, DrivenDevice>();
  /** Those of them whose stores are on this thread. */
  private readonly own = new Map<string, NodeStore>();
  private readonly ports: DeviceHostPorts;
  private readonly hooks: DeviceHostHooks;
  private readonly keeper: DeviceKeeper;
  private readonly tables: TableMemory;
  private readonly freePlaces: number[] = [];
  private closing = false;
  private asked = 0;
  /** What is known of devices that are being opened, by place. */
  private readonly opening = new Map<number, { readonly superblock: FoundDevice; readonly path: string }>();

  constructor(ports: DeviceHostPorts, hooks: DeviceHostHooks) {
    this.ports = ports;
    this.hooks = hooks;
    const { completions, memory, clock, storesMax, memoryStart } = ports;
    const behind = memoryStart + deviceHostBytes(storesMax, 'elsewhere');
    const range = ports.tables ?? tableRange(behind, 0, storesMax);
    const storesEnd = memoryStart + storesMax * STORE_OWN_BYTES;
    check(range.memoryStart >= storesEnd, 'block tables lie in memory of stores', range.memoryStart);
    this.tables = new TableMemory(memory, range);
    this.keeper = {
      memory,
      alarms: new Alarms(completions, clock),
      now: () => clock.boottimeMs(),
      onMap: (map) => hooks.onMap(map),
    };
    for (let place = ports.storesMax - 1; place >= 0; place -= 1) this.freePlaces.push(place);
  }

  /** The devices that are open, by id, in the order in which they were asked for. */
  get devices(): ReadonlyMap<string, NodeDevice> {
    return this.byId;
  }

  /** Those of them that this process drives, likewise. */
  get driven(): ReadonlyMap<string, DrivenDevice> {
    return this.drivenById;
  }

  /** Those of them whose stores are on this thread, likewise. */
  get stores(): ReadonlyMap<string, NodeStore> {
    return this.own;
  }

  private memoryOf(place: number): number {
    check(place >= 0 && place < this.ports.storesMax, 'there is no memory for such a device', place);
    return this.ports.memoryStart + place * STORE_OWN_BYTES;
  }

  /** A device that did not answer may still write to its memory. */
  private returnPlace(place: number): void {
    this.ports.memory.whenFree(this.memoryOf(place), STORE_OWN_BYTES, () => {
      check(!this.freePlaces.includes(place), 'the memory of a device is given back twice', place);
      this.freePlaces.push(place);
    });
  }

  /**
   * Opens a device, beside whatever else goes on. Rejects with `ERR_STRAKE_WRONG_DEVICE` for a clone and others of
   * `openStore`.
   */
  async open(device: Device, expected: Expectations): Promise<NodeStore> {
    const place = this.freePlaces.pop();
    if (place === undefined) throw tooManyDevices(this.ports.storesMax);
    const order = this.asked;
    this.asked += 1;
    const { path } = expected;
    try {
      const { completions, memory } = this.ports;
      const ports = { completions, memory, device, memoryStart: this.memoryOf(place), tables: this.tables };
      const refuse = (found: Superblock) => {
        this.checkNew(found, path);
        this.opening.set(place, { superblock: found, path });
      };
      const opened = await openStore(ports, { ...expected, refuse }, this.hooksOf(place));
      check(this.opening.has(place), 'a device was opened that nobody has judged', place);
      const entry = new NodeStore(path, opened, {
        order,
        keeper: this.keeper,
        onEnd: () => this.returnPlace(place),
      });
      const { deviceId } = entry;
      if (this.closing) {
        await opened.store.quiet();
        opened.store.dispose();
        throw closedError();
      }
      check(!this.byId.has(deviceId), 'a device is open twice', place);
      addInOrder(this.byId, entry);
      addInOrder(this.drivenById, entry);
      addInOrder(this.own, entry);
      return entry;
    } catch (error) {
      this.returnPlace(place);
      throw error;
    } finally {
      this.opening.delete(place);
    }
  }

  /**
   * Takes in a device whose store `open` opens elsewhere, with its place in the order, and which has to be the one that was
   * found. Rejects as `open` does.
   */
  async openAway(found: FoundDevice, path: string, open: OpenAway): Promise<NodeDevice> {
    const order = this.asked;
    this.asked += 1;
    this.checkNew(found, path);
    // It has no memory here.
    const place = -1 - order;
    this.opening.set(place, { superblock: found, path });
    try {
      const entry = await open(order, this.keeper);
      check(entry.deviceId === found.deviceId, 'another device was opened elsewhere than was found', order);
      if (this.closing) {
        await entry.end();
        throw closedError();
      }
      check(!this.byId.has(found.deviceId), 'a device is open twice, here and elsewhere', order);
      addInOrder(this.byId, entry);
      if (isDriven(entry)) addInOrder(this.drivenById, entry);
      return entry;
    } finally {
      this.opening.delete(place);
    }
  }

  /** Of the store at a place. What happens while it is opened is told by the error with which that ends. */
  private hooksOf(place: number): StoreHooks {
    return {
      onDamage: (deviceId, text) => {
        if (!this.opening.has(place)) this.hooks.onEvent({ kind: 'device-damage', deviceId, text });
      },
      mayForget: (note) => this.hooks.mayForget(note),
    };
  }

  /** Before anything is written to a device: whether it may be a part of this node. */
  private checkNew(found: FoundDevice, path: string): void {
    for (const { superblock, path: other } of [...this.byId.values(), ...this.opening.values()]) {
      if (superblock.deviceId === found.deviceId) {
        const what = `${path} is the same device as ${other} (${found.deviceId}): one of them is a copy`;
        throw new StrakeError('WRONG_DEVICE', what);
      }
      if (superblock.clusterId === found.clusterId) continue;
      const what = `${path} belongs to cluster ${found.clusterId}, ${other} to ${superblock.clusterId}`;
      throw new StrakeError('WRONG_DEVICE', what);
    }
  }

  /** What begins from now on does not see the device; `close` ends what it has begun. */
  letGo(deviceId: string): void {
    // Before anybody can open it anew: that life knows nothing of what this one would still grant.
    this.drivenById.get(deviceId)?.endLeases();
    this.byId.delete(deviceId);
    this.drivenById.delete(deviceId);
    this.own.delete(deviceId);
  }

  /** Closes a device in order, if it still takes writes. No volume may use it, and it has been let go of. */
  close(entry: NodeDevice): Promise<void> {
    check(this.byId.get(entry.deviceId) !== entry, 'a device is closed that has not been let go of', entry.order);
    return entry.end();
  }

  status(): StoreStatus[] {
    return [...this.byId.values()].flatMap((entry) => entry.status() ?? []);
  }

  /** A device that is being opened is not taken any more: the node is about to be closed. */
  endWork(): void {
    this.closing = true;
  }
}
