/**
 * A node and the managers of its cluster: it says who it is and what it has, again and again, and does what the answers tell: its
 * devices store maps that their holders have not handed out, and give back what deleted volumes have here.
 *
 * ```text
 *   unknown ── register ──► known ── heartbeat, each `pingMs` ──► known ...
 *      ▲                      │
 *      └── the manager does not know it (any more) ◄─┘
 * ```
 *
 * Fault model: managers are not there, restart, answer late or not at all; answers are lost, so what was told counts as told only
 * when it was answered. Nothing waits for it: replicas that are served go on being served.
 */

import { allEnded } from '../core/all-ended.js';
import { check } from '../core/check.js';
import { DEFAULT_TIMES } from '../core/cluster-times.js';
import { type StrakeError, toStrakeError } from '../core/errors.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { type DrivenDevice, healthOf } from '../node/node-device.js';
import type { Clock } from '../ports/clock.js';
import type { CompletionPort } from '../ports/completion.js';
import type {
  ClusterTimes,
  DeviceReport,
  HeartbeatAnswer,
  ManagerCalls,
  RegisterRequest,
  ReplicaReport,
} from '../ports/manager.js';

/** Who a node is. */
export type NodeIntroduction = Pick<RegisterRequest, 'clusterId' | 'nodeId' | 'name' | 'addresses' | 'labels'>;

export interface RegistrationHooks {
  /** Brings a map to a device that it names; resolves to a negative errno if it was not answered. */
  readonly bring: (device: DrivenDevice, map: ReplicaMap) => Promise<number>;
  /** Gives back what a device has of a deleted volume. */
  readonly release: (device: DrivenDevice, volumeId: string) => Promise<void>;
  readonly onTimes: (times: ClusterTimes) => void;
  /** Something that people should know; the same is not told twice in a row. */
  readonly onTrouble: (text: string) => void;
  readonly onKnown: () => void;
  /** Volumes that nobody attends to are to be attached here, for a while: see `Janitor.tend`. */
  readonly onNeglected: (volumeIds: readonly string[]) => void;
}

export interface RegistrationParts {
  readonly completions: CompletionPort;
  readonly clock: Clock;
  readonly manager: ManagerCalls<ReplicaMap>;
  readonly self: NodeIntroduction;
  /** The devices that this process drives, by id. */
  readonly devices: ReadonlyMap<string, DrivenDevice>;
  readonly hooks: RegistrationHooks;
}

/** Heartbeats between two of which devices on other threads are asked what they say of themselves. */
const REFRESH_BEATS = 10;

export class Registration {
  private readonly parts: RegistrationParts;
  private readonly token: number;
  private times: ClusterTimes = DEFAULT_TIMES;
  private isKnown = false;
  private sequenceSeen = 0;
  private beats = 0;
  /** By replica: what the manager has been told of it last, and has answered. */
  private told = new Map<string, string>();
  /** Maps and deletions that are being brought to devices, by device, volume, group and version. */
  private readonly carried = new Set<string>();
  private trouble = '';
  private waiting = false;
  private ended = false;

  constructor(parts: RegistrationParts) {
    this.parts = parts;
    this.token = parts.completions.register({ complete: () => this.due() });
  }

  /** Whether the manager knows the node now, as far as it has been heard. */
  get known(): boolean {
    return this.isKnown;
  }

  /** The most batches that a manager has been heard to have. */
  get sequenceHeard(): number {
    return this.sequenceSeen;
  }

  /** Begins; resolves when the first attempt has come to something. */
  async begin(): Promise<void> {
    await this.beat();
    this.wait();
  }

  private wait(): void {
    check(!this.waiting, 'a node waits twice for its next heartbeat', this.beats);
    if (this.ended) {
      this.parts.completions.unregister(this.token);
      return;
    }
    this.waiting = true;
    this.parts.clock.after(this.times.pingMs, this.token);
  }

  private due(): void {
    this.waiting = false;
    if (this.ended) this.parts.completions.unregister(this.token);
    else void this.beat().then(() => this.wait());
  }

  private async beat(): Promise<void> {
    this.beats += 1;
    check(!this.waiting, 'a node tells of itself while it waits to', this.beats);
    try {
      const devices = [...this.parts.devices.values()];
      if (this.beats % REFRESH_BEATS === 0) await Promise.allSettled(devices.map((device) => device.refresh()));
      if (!this.isKnown) await this.register();
      else this.take(await this.heartbeat());
      this.trouble = '';
    } catch (error) {
      this.note(toStrakeError(error));
    }
  }

  private note({ message, remedy }: StrakeError): void {
    const text = remedy === '' ? message : `${message} ${remedy}`;
    if (text !== this.trouble && !this.ended) this.parts.hooks.onTrouble(text);
    this.trouble = text;
  }

  // ---------------------------------------------------------------- what is told

  private devices(): DeviceReport[] {
    return [...this.parts.devices.values()].map((device) => ({
      deviceId: device.deviceId,
      incarnation: device.incarnation,
      segmentBytes: device.slotBytes,
      sizeBytes: device.status().superblock.layout.sizeBytes,
      freeBytes: device.freeSlots * device.slotBytes,
      replicasFree: device.replicasMax - device.replicas.reduce((sum, map) => sum + (map === undefined ? 0 : 1), 0),
      health: healthOf(device),
    }));
  }

  private replicas(): ReplicaReport[] {
    return [...this.parts.devices.values()].flatMap((device) =>
      device.replicas.flatMap((map, page) => {
        if (map === undefined) return [];
        const { volume, group, mapVersion, authentication } = map;
        const { answered } = device.ownOf(page);
        const managed = authentication !== undefined;
        return { volumeId: volume.id, group, deviceId: device.deviceId, mapVersion, answered, managed };
      }),
    );
  }

  private async register(): Promise<void> {
    const { manager, self, hooks } = this.parts;
    const { sequenceSeen } = this;
    const replicas = this.replicas();
    const answer = await manager.register({ ...self, sequenceSeen, devices: this.devices(), replicas });
    this.told = new Map(replicas.map((replica) => [replicaName(replica), replicaText(replica)]));
    this.isKnown = true;
    check(this.told.size === replicas.length, 'a node tells of a replica twice', replicas.length);
    this.hear(answer.sequence, answer.times);
    for (const { deviceId, why } of answer.refused) hooks.onTrouble(`device ${deviceId}: ${why}`);
    hooks.onKnown();
  }

  private async heartbeat(): Promise<HeartbeatAnswer<ReplicaMap>> {
    const { manager, self } = this.parts;
    const { sequenceSeen } = this;
    const all = this.replicas();
    const replicas = all.filter((replica) => this.told.get(replicaName(replica)) !== replicaText(replica));
    const request = { nodeId: self.nodeId, sequenceSeen, devices: this.devices(), replicas };
    const answer = await manager.heartbeat(request);
    // What has gone is forgotten: if it comes again it is told again.
    this.told = new Map(all.map((replica) => [replicaName(replica), replicaText(replica)]));
    return answer;
  }

  // ---------------------------------------------------------------- what is answered

  private hear(sequence: number, times: ClusterTimes): void {
    check(times.pingMs > 0, 'a node is to tell of itself all the time', times.pingMs);
    this.sequenceSeen = Math.max(this.sequenceSeen, sequence);
    this.times = times;
    this.parts.hooks.onTimes(times);
  }

  private take({ registered, sequence, times, maps, deleted, attach }: HeartbeatAnswer<ReplicaMap>): void {
    this.isKnown = registered;
    this.hear(sequence, times);
    if (attach.length > 0) this.parts.hooks.onNeglected(attach);
    // A member that answers late must not keep the node from telling that it is there.
    void allEnded([...maps.flatMap((map) => this.bring(map)), ...deleted.flatMap((id) => this.giveBack(id))]);
  }

  private bring(map: ReplicaMap): Promise<void>[] {
    const { devices, hooks } = this.parts;
    return map.members.flatMap(({ deviceId }) => {
      const device = devices.get(deviceId);
      if (device === undefined || device.failed) return [];
      const { volume, group, mapVersion } = map;
      return this.carry(`${deviceId} ${volume.id} ${group} ${mapVersion}`, async () => {
        check(map.authentication !== undefined, 'a manager brings a map that nothing proves', group);
        const result = await hooks.bring(device, map);
        if (result >= 0 && volume.deleted) await hooks.release(device, volume.id);
      });
    });
  }

  private giveBack(volumeId: string): Promise<void>[] {
    const { devices, hooks } = this.parts;
    return [...devices.values()]
      .filter((device) => !device.failed && device.knows(volumeId))
      .flatMap((device) => this.carry(`${device.deviceId} ${volumeId}`, () => hooks.release(device, volumeId)));
  }

  /** Does something once at a time; what fails is brought again with the next heartbeats. */
  private carry(name: string, work: () => Promise<void>): Promise<void>[] {
    if (this.carried.has(name)) return [];
    this.carried.add(name);
    const done = async () => {
      try {
        await work();
      } catch (error) {
        this.note(toStrakeError(error));
      } finally {
        check(this.carried.delete(name), 'what is brought to a device is brought twice', this.carried.size);
      }
    };
    return [done()];
  }

  /** Tells nothing any more. */
  end(): void {
    this.ended = true;
    if (!this.waiting && this.beats === 0) this.parts.completions.unregister(this.token);
  }
}

function replicaName({ deviceId, volumeId, group }: ReplicaReport): string {
  return `${deviceId} ${volumeId} ${group}`;
}

function replicaText({ mapVersion, answered, managed }: ReplicaReport): string {
  return `${mapVersion} ${answered} ${managed}`;
}
