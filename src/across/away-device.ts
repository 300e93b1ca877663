/**
 * A device of a node whose store is on another shard, as the shard of the volumes knows it.
 *
 * What it knows is what the other shard told last: with the answer to each call about it, and whenever all are asked
 * (`AwayDevices.refresh`), which happens before each control operation. All maps come from here, so that of these nothing is
 * missing; what changes there by itself are counts, and whether the device takes writes.
 */

import { check } from '../core/check.js';
import { EIO } from '../core/errno.js';
import { StrakeError } from '../core/errors.js';
import type { ReplicaPage } from '../core/ids.js';
import { compareFlushes, NO_FLUSH } from '../layout/flush-id.js';
import { NOTHING_OWN, type ReplicaMap, type ReplicaOwn } from '../layout/replica-map.js';
import type { DeviceMember } from '../node/device-member.js';
import { type DeviceKeeper, GatedDevice } from '../node/gated-device.js';
import type { DrivenDevice, StoreStatus } from '../node/node-device.js';
import type { CompletionPort } from '../ports/completion.js';
import { FENCE_ALL, FENCE_OPEN } from '../ports/device.js';
import type { GroupIndex } from '../ports/ids.js';
import type { Superblock } from '../store/format/superblock.js';
import { AwayMember } from './away-member.js';
import type { DeviceCaller, DeviceNumber, OwnOfMap } from './device-calls.js';
import { type DeviceFacts, isForgettable, type PageFacts } from './device-facts.js';
import { DeviceTraffic, type MemberAsker } from './member-asker.js';

export interface AwayDeviceParts {
  readonly caller: DeviceCaller;
  readonly asker: MemberAsker;
  /** The shard that it is on. */
  readonly shard: number;
  readonly order: number;
  readonly keeper: DeviceKeeper;
  /** By which it is known there. */
  readonly number: DeviceNumber;
  /** Whether the note of a deleted volume may go. */
  readonly mayForget: (note: ReplicaMap) => boolean;
  /** It has been closed. */
  readonly onEnd: (device: AwayDevice) => void;
}

export class AwayDevice extends GatedDevice implements DrivenDevice {
  readonly order: number;
  readonly shard: number;
  readonly number: DeviceNumber;
  private readonly parts: AwayDeviceParts;
  private readonly traffic = new DeviceTraffic();
  private facts: DeviceFacts;
  private readonly maps: (ReplicaMap | undefined)[];
  private readonly pages = new Map<ReplicaPage, PageFacts>();
  private byVolume = new Map<string, PageFacts[]>();

  constructor(parts: AwayDeviceParts, facts: DeviceFacts) {
    super(parts.keeper, facts);
    this.parts = parts;
    this.order = parts.order;
    this.shard = parts.shard;
    this.number = parts.number;
    this.facts = facts;
    this.maps = new Array<ReplicaMap | undefined>(facts.replicasMax).fill(undefined);
    this.learn(facts);
  }

  /** It says something newer of itself. */
  learn(facts: DeviceFacts): void {
    check(facts.status.superblock.deviceId === this.deviceId, 'a device is told what another is', this.order);
    this.facts = facts;
    for (const page of this.pages.keys()) this.maps[page] = undefined;
    this.pages.clear();
    this.byVolume = new Map();
    for (const page of facts.pages) {
      this.maps[page.page] = page.map ?? undefined;
      this.pages.set(page.page, page);
      this.byVolume.set(page.volumeId, [...this.pagesOf(page.volumeId), page]);
    }
  }

  private pagesOf(volumeId: string): readonly PageFacts[] {
    return this.byVolume.get(volumeId) ?? [];
  }

  get path(): string {
    return this.facts.status.path;
  }

  get superblock(): Superblock {
    return this.facts.status.superblock;
  }

  get deviceId(): string {
    return this.superblock.deviceId;
  }

  get slotBytes(): number {
    return this.superblock.layout.slotBytes;
  }

  get incarnation(): number {
    return this.superblock.incarnation;
  }

  get replicas(): readonly (ReplicaMap | undefined)[] {
    return this.maps;
  }

  replicasOf(volumeId: string): readonly ReplicaMap[] {
    return this.pagesOf(volumeId).flatMap(({ map }) => map ?? []);
  }

  get failed(): boolean {
    return this.facts.failed || this.traffic.fence !== FENCE_OPEN || this.parts.asker.lost;
  }

  get freeSlots(): number {
    return this.facts.freeSlots;
  }

  get hasRoom(): boolean {
    return this.facts.hasEmptyPage || this.forgettable().length > 0;
  }

  private forgettable(): string[] {
    const notes = this.facts.pages.filter(isForgettable);
    return notes.flatMap(({ map, volumeId }) => (map !== null && this.parts.mayForget(map) ? [volumeId] : []));
  }

  get replicasMax(): number {
    return this.facts.replicasMax;
  }

  knows(volumeId: string): boolean {
    return this.byVolume.has(volumeId);
  }

  knowsGroup(volumeId: string, group: GroupIndex): boolean {
    return this.pageOf(volumeId, group) >= 0;
  }

  pageOf(volumeId: string, group: GroupIndex): ReplicaPage {
    return this.pagesOf(volumeId).find(({ ownerGroup }) => ownerGroup === group + 1)?.page ?? -1;
  }

  isGone(volumeId: string): boolean {
    return this.pagesOf(volumeId).every(({ gone }) => gone);
  }

  segmentsOf(volumeId: string, group: GroupIndex | null): number {
    const pages = this.pagesOf(volumeId).filter(({ ownerGroup }) => group === null || ownerGroup === group + 1);
    return pages.reduce((sum, { segments }) => sum + segments, 0);
  }

  async keep(map: ReplicaMap, own: OwnOfMap): Promise<number> {
    const forgettable = this.facts.hasEmptyPage ? [] : this.forgettable();
    try {
      const { result, facts } = await this.parts.caller.call('put', { device: this.number, map, own, forgettable });
      this.learn(facts);
      return result;
    } catch (error) {
      // As of a device that has gone.
      if (isGoneError(error)) return -EIO;
      throw error;
    }
  }

  async recordLease(leaseMs: number): Promise<number> {
    try {
      return await this.parts.caller.call('lease', { device: this.number, leaseMs });
    } catch (error) {
      if (isGoneError(error)) return -EIO;
      throw error;
    }
  }

  get outstanding(): number {
    return this.traffic.outstanding;
  }

  fence(): number {
    return this.parts.asker.lost ? FENCE_ALL : this.traffic.fence;
  }

  ownOf(page: ReplicaPage): ReplicaOwn {
    return this.pages.get(page)?.own ?? NOTHING_OWN;
  }

  async refresh(): Promise<void> {
    const told = await this.parts.caller.call('facts', { device: this.number });
    for (const [, facts] of told) this.learn(facts);
  }

  directMember(_completions: CompletionPort, page: ReplicaPage): DeviceMember {
    const known = this.pages.get(page);
    check(known !== undefined, 'a member is of a replica that its device does not know', page);
    const { asker } = this.parts;
    const { deviceId, slotBytes: segmentBytes, incarnation } = this;
    const { flushed, settled } = known.own;
    const isSettled = compareFlushes(settled, NO_FLUSH) > 0;
    const facts = { deviceId, segmentBytes, incarnation, flushed, settled: isSettled ? settled : null };
    return new AwayMember(asker, asker.open(this.number, page), this.traffic, facts);
  }

  async release(_completions: CompletionPort, volumeId: string, ending: () => boolean): Promise<void> {
    if (ending()) return;
    const { facts } = await this.parts.caller.call('release', { device: this.number, volumeId });
    this.learn(facts);
  }

  async end(): Promise<void> {
    await this.closeGates();
    // Members that are closed are so there before the device is.
    this.parts.asker.publish();
    try {
      await this.parts.caller.call('end', { device: this.number });
    } catch (error) {
      // Whoever has ended has closed it.
      if (!isGoneError(error)) throw error;
    } finally {
      this.parts.onEnd(this);
    }
  }

  status(): StoreStatus {
    const { shard, facts } = this;
    const lost = this.parts.asker.lost ? 'lost' : 'failed';
    const { state } = facts.status;
    return { ...facts.status, shard, state: this.failed && state === 'ok' ? lost : state };
  }
}

function isGoneError(error: unknown): boolean {
  return error instanceof StrakeError && error.code === 'ERR_STRAKE_WORKER_DIED';
}
