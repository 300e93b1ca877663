/**
 * A device that this process drives, with the gates of its replicas: what managers have decided goes through them, whoever brings
 * it, and so does whatever engines of this process ask of such replicas. They are on the thread that serves volumes and segments,
 * whichever thread its store is on.
 */

import { check } from '../core/check.js';
import type { ReplicaPage } from '../core/ids.js';
import { isManaged, type ReplicaMap, type ReplicaOwn } from '../layout/replica-map.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Generation, GroupIndex } from '../ports/ids.js';
import type { Memory } from '../ports/memory.js';
import type { Alarms } from './alarms.js';
import type { DeviceMember } from './device-member.js';
import { GatedMember, type GatedRole } from './gated-member.js';
import type { ReaderOpening } from './node-device.js';
import { type GateDevice, ReplicaGate } from './replica-gate.js';

/** Who has opened a device on this thread. */
export interface DeviceKeeper {
  readonly alarms: Alarms;
  readonly memory: Memory;
  /** Milliseconds of BOOTTIME, read anew. */
  now(): number;
  /** A map that managers have decided has become durable on a device. */
  onMap(map: ReplicaMap): void;
}

/** What is known of leases when a device has been opened. */
export interface LeaseTerms {
  /** The longest that this life of the device grants, in ms; 0 for none. */
  readonly leaseMs: number;
  /** So long after opening leases may go on that former lives have granted. */
  readonly formerLeaseMs: number;
}

/** What is noted beside a map. */
export type OwnOfMap = Partial<Pick<ReplicaOwn, 'servedGeneration' | 'answered'>>;

export abstract class GatedDevice implements GateDevice {
  readonly silentUntilMs: number;
  /** The longest lease that this life grants: what the device has on record is as long, or longer. */
  protected longestLeaseMs: number;
  /** What it grants now; 0 where its node is in no cluster. */
  private grantedMs: number;
  private raising = false;
  private grants = true;
  protected readonly keeper: DeviceKeeper;
  private readonly gates = new Map<string, ReplicaGate>();

  constructor(keeper: DeviceKeeper, { leaseMs, formerLeaseMs }: LeaseTerms) {
    check(leaseMs >= 0 && formerLeaseMs >= 0, 'a device has leases that end before they begin', leaseMs);
    this.keeper = keeper;
    this.longestLeaseMs = leaseMs;
    this.grantedMs = leaseMs;
    this.silentUntilMs = formerLeaseMs === 0 ? 0 : keeper.now() + formerLeaseMs;
  }

  abstract readonly deviceId: string;
  abstract readonly incarnation: number;
  abstract readonly replicas: readonly (ReplicaMap | undefined)[];
  abstract pageOf(volumeId: string, group: GroupIndex): ReplicaPage;
  abstract ownOf(page: ReplicaPage): ReplicaOwn;
  abstract keep(map: ReplicaMap, own: OwnOfMap): Promise<number>;
  /** Makes durable that leases are granted of at most this length. Resolves with 0 or a negative errno. */
  protected abstract recordLease(leaseMs: number): Promise<number>;
  abstract directMember(completions: CompletionPort, page: ReplicaPage): DeviceMember;

  get leaseMs(): number {
    return this.grants ? this.grantedMs : 0;
  }

  /**
   * Grants leases of this length from now on. One that is longer than what is on record is first put there, or another life of
   * the device, which waits for those of this one, would wait too short. It may be asked for again and again.
   */
  async grantFor(leaseMs: number): Promise<void> {
    check(leaseMs > 0, 'a device is to grant leases that end before they begin', leaseMs);
    if (this.longestLeaseMs === 0 || this.raising || leaseMs === this.grantedMs) return;
    if (leaseMs > this.longestLeaseMs) {
      this.raising = true;
      const result = await this.recordLease(leaseMs);
      this.raising = false;
      if (result < 0) return;
      this.longestLeaseMs = leaseMs;
    }
    check(leaseMs <= this.longestLeaseMs, 'a device grants longer leases than it has on record', leaseMs);
    this.grantedMs = leaseMs;
  }

  /** It grants no lease any more: another life of the device may begin, which would know nothing of it. */
  endLeases(): void {
    this.grants = false;
  }

  get alarms(): Alarms {
    return this.keeper.alarms;
  }

  now(): number {
    return this.keeper.now();
  }

  /** What stands before a replica. */
  gate(volumeId: string, group: GroupIndex): ReplicaGate {
    const name = `${volumeId} ${group}`;
    const known = this.gates.get(name);
    if (known !== undefined) return known;
    const gate = new ReplicaGate(this, volumeId, group);
    gate.watch({ mapStored: (map) => this.mapStored(map) });
    this.gates.set(name, gate);
    return gate;
  }

  private mapStored(map: ReplicaMap): void {
    if (isManaged(map)) this.keeper.onMap(map);
  }

  /** See `NodeDevice.putReplica`. */
  putReplica(map: ReplicaMap, own: OwnOfMap = {}): Promise<number> {
    check(map.mapVersion > 0, 'a map is stored that has no version', map.mapVersion);
    if (!isManaged(map)) return this.keep(map, own);
    const gate = this.gate(map.volume.id, map.group);
    if (own.servedGeneration !== undefined) return gate.noteServedHere(own.servedGeneration);
    gate.follow(map);
    return gate.storeMap(map, null);
  }

  /**
   * Stores a map that managers have decided and others have brought. Engines of this process do not ask under it before whoever
   * decides for them has brought it too. Resolves as `ReplicaGate.storeMap`.
   */
  bring(map: ReplicaMap): Promise<number> {
    check(isManaged(map), 'a map is brought to a device that no manager has decided', map.mapVersion);
    return this.gate(map.volume.id, map.group).storeMap(map, null);
  }

  /** Stores a map by which managers give a replica back to this node. Resolves as `ReplicaGate.storeMap`. */
  giveBack(map: ReplicaMap): Promise<number> {
    return this.gate(map.volume.id, map.group).giveBack(map);
  }

  /** See `NodeDevice.servedOn`. */
  servedOn(page: ReplicaPage): Generation {
    return this.ownOf(page).servedGeneration;
  }

  /** See `NodeDevice.member`. */
  member(completions: CompletionPort, page: ReplicaPage): DeviceMember {
    const member = this.directMember(completions, page);
    const map = this.replicas[page];
    if (map === undefined || !isManaged(map)) return member;
    return this.gated(completions, map, member, 'writer');
  }

  private gated(completions: CompletionPort, map: ReplicaMap, member: DeviceMember, role: GatedRole): GatedMember {
    const gate = this.gate(map.volume.id, map.group);
    return new GatedMember({ completions, memory: this.keeper.memory }, gate, member, role);
  }

  /** See `NodeDevice.openReader`. */
  openReader(completions: CompletionPort, map: ReplicaMap): Promise<ReaderOpening> {
    check(isManaged(map), 'a replica is opened to be read that no manager has decided about', map.mapVersion);
    const { page, map: known, answered } = this.gate(map.volume.id, map.group);
    if (known === undefined) return Promise.resolve({ member: null, maps: [] });
    if (!answered || known.mapVersion !== map.mapVersion) return Promise.resolve({ member: null, maps: [known] });
    const member = this.gated(completions, map, this.directMember(completions, page), 'reader');
    member.follow(map);
    return Promise.resolve({ member, maps: [] });
  }

  /** No map is answered any more: the device is about to be closed. */
  protected async closeGates(): Promise<void> {
    this.endLeases();
    for (const gate of this.gates.values()) gate.close();
    for (const gate of this.gates.values()) if (gate.storing) await gate.settled();
  }
}
