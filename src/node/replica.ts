/**
 * A replica: the part of a volume that one device holds as a member of one group. It gives the volume's engine the member that
 * serves the data, and keeps on the device what that has served.
 */

import { check } from '../core/check.js';
import { deviceError } from '../core/errno.js';
import type { ReplicaPage } from '../core/ids.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Generation, GroupIndex } from '../ports/ids.js';
import type { DeviceMember } from './device-member.js';
import type { NodeDevice } from './node-device.js';

export class Replica {
  readonly group: GroupIndex;
  readonly device: NodeDevice;
  readonly page: ReplicaPage;
  /** Null if its engine is on another shard, which has the member. */
  private readonly opened: DeviceMember | null;
  private isOpen = true;

  private constructor(completions: CompletionPort | null, device: NodeDevice, page: ReplicaPage, group: GroupIndex) {
    check(page >= 0, 'a replica is of a group that its device does not know', group);
    this.device = device;
    this.page = page;
    this.group = group;
    this.opened = completions === null ? null : device.member(completions, page);
  }

  /** What serves the data. */
  get member(): DeviceMember {
    check(this.opened !== null, 'a member is asked for that another shard has', this.group);
    return this.opened;
  }

  get deviceId(): string {
    return this.device.deviceId;
  }

  /** The newest generation that its device knows to have been served. */
  get servedGeneration(): Generation {
    return this.device.servedOn(this.page);
  }

  /**
   * What a device that knows the group has of it; null if it does not know it, cannot serve it, or takes no more writes.
   * `completions`: null if another shard opens its member.
   */
  static on(
    completions: CompletionPort | null,
    device: NodeDevice | undefined,
    map: VolumeMap,
    group: GroupIndex,
  ): Replica | null {
    if (device === undefined || device.failed) return null;
    const page = device.pageOf(map.id, group);
    if (page < 0 || device.serves?.(page, map.generation) === false) return null;
    return new Replica(completions, device, page, group);
  }

  /** Of a device that may not know the group yet. Rejects with a `StrakeError` if it cannot store the map. */
  static async make(completions: CompletionPort | null, device: NodeDevice, map: ReplicaMap): Promise<Replica> {
    const page = await device.putReplica(map);
    if (page < 0) throw deviceError(-page, `store the map of ${map.volume.name} on ${device.path}`);
    return new Replica(completions, device, page, map.group);
  }

  /**
   * Makes durable that this generation is served, all copies being equal before. A device that does not take that
   * takes nothing later either, and so is noticed.
   */
  async noteServed(generation: Generation): Promise<void> {
    check(this.isOpen, 'a replica is served that is closed', this.group);
    const map = this.device.replicas[this.page];
    check(map === undefined || map.group === this.group, 'a replica has the map of another group', this.group);
    if (map !== undefined) await this.device.putReplica(map, { servedGeneration: generation });
  }

  /** Gives up what serves the member; nothing may be in flight. */
  close(): void {
    check(this.isOpen, 'a replica is closed twice', this.group);
    this.isOpen = false;
    this.opened?.close();
  }
}
