/**
 * What stands between a replica and whoever asks something of it, in this process or another: under which map requests are
 * admitted, how many are being carried out, and how a newer map takes the place of an older one.
 *
 * ```text
 *   STORE_MAP ─► 1 page durable ─► 2 nothing under older maps is admitted; what comes waits
 *                                  3 what was admitted ends ─► 4 leases end that the map has to wait for (Rule B), and those
 *                                    of the device's former life (Rule C) ─► 5 noted as answered, durably ─► 6 answer; what
 *                                    waits is admitted
 * ```
 *
 * A crash after 1 leaves a map that has not been answered: it is brought again. A crash after 5 leaves one that has, though
 * nobody was told: nothing that was admitted before it can come later, as the process is another.
 */

import { check } from '../core/check.js';
import { EIO, EPERM, ESTALE } from '../core/errno.js';
import type { ReplicaPage } from '../core/ids.js';
import { Notify } from '../core/notify.js';
import { isSameMap } from '../layout/map-codec.js';
import { isManaged, type ReplicaMap, type ReplicaOwn } from '../layout/replica-map.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Generation, GroupIndex } from '../ports/ids.js';
import type { Alarms } from './alarms.js';
import type { DeviceMember } from './device-member.js';
import { LeaseAccount } from './lease-account.js';
import { MANAGED_VERSION_LEAST } from './limits.js';

/** Who waits until the map of a replica is answered. */
export interface GateWaiter {
  /** Tries again. */
  proceed(): void;
}

/** Who is told of each map that has become durable here. */
export interface GateWatcher {
  mapStored(map: ReplicaMap): void;
}

/** The device that a replica is on, since it was opened. */
export interface GateDevice {
  readonly deviceId: string;
  readonly incarnation: number;
  /** The maps that it has, by page. */
  readonly replicas: readonly (ReplicaMap | undefined)[];
  pageOf(volumeId: string, group: GroupIndex): ReplicaPage;
  /** What it knows of a replica beside its map. */
  ownOf(page: ReplicaPage): ReplicaOwn;
  /**
   * Makes a map durable, with what is noted beside it, whatever goes on. Resolves with its page, or a negative errno, with which
   * the device has failed or has no room.
   */
  keep(map: ReplicaMap, own: Partial<Pick<ReplicaOwn, 'servedGeneration' | 'answered'>>): Promise<number>;
  /** What serves the data of a replica, for whoever passes its gate. */
  directMember(completions: CompletionPort, page: ReplicaPage): DeviceMember;
  readonly alarms: Alarms;
  /** Milliseconds of BOOTTIME, read anew. */
  now(): number;
  /** Until then, by BOOTTIME, leases may go on that former lives of the device have granted: no map is answered. */
  readonly silentUntilMs: number;
  /** The longest lease that this life grants, in ms; 0 for none. */
  readonly leaseMs: number;
}

export class ReplicaGate {
  readonly device: GateDevice;
  readonly volumeId: string;
  readonly group: number;
  readonly leases = new LeaseAccount();
  /** Requests that have been admitted and have not ended. */
  private running = 0;
  /** Something has ended that a map may wait for. */
  private readonly ended = new Notify();
  /** The newest map that whoever decides in this process has brought: under which its own engines ask. */
  private oursOrNull: ReplicaMap | null = null;
  /** The generation for which this life of the device has been told that all copies are equal; 0 if it has not been. */
  private agreed: Generation = 0;
  private readonly agreement = new Notify();
  private waiters: GateWaiter[] = [];
  private readonly watchers = new Set<GateWatcher>();
  /** Maps are stored one after another. */
  private lastStored: Promise<unknown> = Promise.resolve();
  private beingStored = 0;
  private closed = false;

  constructor(device: GateDevice, volumeId: string, group: number) {
    this.device = device;
    this.volumeId = volumeId;
    this.group = group;
  }

  /** The page of the replica; -1 if it is not here. */
  get page(): ReplicaPage {
    return this.device.pageOf(this.volumeId, this.group);
  }

  /** The map that is stored; undefined if there is none that is served. */
  get map(): ReplicaMap | undefined {
    const { page } = this;
    return page < 0 ? undefined : this.device.replicas[page];
  }

  get mapVersion(): number {
    return this.map?.mapVersion ?? 0;
  }

  /** Whether the map that is stored has been answered. */
  get answered(): boolean {
    const { page } = this;
    return this.beingStored === 0 && page >= 0 && this.device.ownOf(page).answered;
  }

  /** Whether a map is here that this one cannot replace: a newer one, or of two that have the same version the other. */
  hasOther(map: ReplicaMap): boolean {
    const known = this.map;
    if (known === undefined || known.mapVersion < map.mapVersion) return false;
    return known.mapVersion > map.mapVersion || !isSameMap(known, map);
  }

  /** Whether a map is being stored. */
  get storing(): boolean {
    return this.beingStored > 0;
  }

  get servedGeneration(): number {
    const { page } = this;
    return page < 0 ? 0 : this.device.ownOf(page).servedGeneration;
  }

  /**
   * Whether clients may read here that do not write: what is here is all that was acknowledged under the generation of the map,
   * and before. So it is once the copies have been made equal under it, as long as the device is not opened anew, with which it
   * may lose what was not flushed; and also then if the right to write was given back in order, and this is no earlier image.
   */
  get isAgreed(): boolean {
    const { map } = this;
    if (map === undefined || map.volume.deleted) return false;
    if (this.agreed === map.generation && this.agreed > 0) return true;
    return map.lease === 'released' && this.servedGeneration === map.generation && this.hasAllOf(map);
  }

  /**
   * Whether this device knows itself to have what it had when the right to write was given back: it was told then that all below
   * some flush is settled, the last write that the map tells of among it. An earlier image was told of an earlier flush, and the
   * map may have been stored there only now.
   */
  private hasAllOf({ generation, members }: ReplicaMap): boolean {
    if (generation === 0) return true;
    const member = members.find(({ deviceId }) => deviceId === this.device.deviceId);
    const { settled } = this.device.ownOf(this.page);
    return member !== undefined && settled.generation === generation && settled.flushNumber > member.flushNumber;
  }

  /**
   * Whether clients may read content here that do not write: of a replica that managers have decided about, while its device is
   * in-sync, and has all that was acknowledged.
   */
  get isReadable(): boolean {
    const { map } = this;
    if (map === undefined || !isManaged(map)) return map !== undefined;
    const { deviceId } = this.device;
    return this.isAgreed && map.members.some((member) => member.deviceId === deviceId && member.state === 'in-sync');
  }

  /** Resolves when the copies have been made equal the next time. */
  nextAgreement(): Promise<void> {
    return this.agreement.next();
  }

  /** Whether nothing is being carried out, stored or waiting. */
  get idle(): boolean {
    return this.running === 0 && this.beingStored === 0 && this.waiters.length === 0;
  }

  /** Tells `watcher` of maps from now on. */
  watch(watcher: GateWatcher): void {
    check(!this.watchers.has(watcher), 'somebody is told twice of the maps of a replica', this.group);
    this.watchers.add(watcher);
  }

  unwatch(watcher: GateWatcher): void {
    check(this.watchers.delete(watcher), 'somebody watches a replica no more that did not', this.group);
  }

  // ---- requests

  /** A request has been admitted. */
  enter(): void {
    check(this.answered, 'a request is admitted under a map that has not been answered', this.running);
    this.running += 1;
  }

  /** It has ended. */
  leave(): void {
    this.running -= 1;
    check(this.running >= 0, 'more requests end at a replica than were admitted', this.running);
    if (this.running === 0) this.ended.tell();
  }

  /** Waits until the map is answered. */
  wait(waiter: GateWaiter): void {
    check(this.storing, 'a request waits for a map that nobody stores', this.group);
    check(!this.waiters.includes(waiter), 'a request waits twice for a map', this.group);
    this.waiters.push(waiter);
  }

  private resume(): void {
    const { waiters } = this;
    this.waiters = [];
    for (const waiter of waiters) waiter.proceed();
  }

  // ---- leases

  /** Whether whoever may write is there, as far as is heard here. */
  get hearsHolder(): boolean {
    const { map, device } = this;
    return map !== undefined && this.leases.isLeased(map.holder, device.now());
  }

  /** A client has taken the map of this version: it reads under no earlier one any more. */
  confirm(clientId: string, mapVersion: number): void {
    this.leases.giveUpBefore(clientId, mapVersion);
    this.ended.tell();
  }

  /** A client gives its lease back. */
  giveUp(clientId: string): void {
    this.leases.giveUp(clientId);
    this.ended.tell();
  }

  // ---- maps

  /** The newest map under which engines of this process ask; null if there is none. */
  get ours(): ReplicaMap | null {
    return this.oursOrNull;
  }

  /** From now on engines of this process ask under this map, if they are of its generation. */
  follow(map: ReplicaMap): void {
    check(map.volume.id === this.volumeId && map.group === this.group, 'engines follow the map of another', map.group);
    // One that is sent again may have been overtaken.
    if (map.mapVersion > (this.oursOrNull?.mapVersion ?? 0)) this.oursOrNull = map;
  }

  /** Resolves when no map is being stored. */
  async settled(): Promise<void> {
    while (this.beingStored > 0) await this.lastStored;
  }

  /**
   * Stores a map, and answers it; `by` has brought it, and is told of it only if managers have decided it. Resolves with a number
   * that is not negative, or a negative errno: `-ESTALE` if another one is here that is newer, or has the same version
   * (`hasOther`), `-EPERM` if others decide about it than about the one that is here, and those of the device, with which it has
   * failed or has no room.
   */
  storeMap(map: ReplicaMap, by: GateWatcher | null): Promise<number> {
    return this.inTurn(map, by, false);
  }

  /** The same of a map by which managers give a replica back to its node. */
  giveBack(map: ReplicaMap): Promise<number> {
    check(!isManaged(map), 'a replica is given back by a map of its managers', map.mapVersion);
    return this.inTurn(map, null, true);
  }

  private inTurn(map: ReplicaMap, by: GateWatcher | null, givenBack: boolean): Promise<number> {
    this.beingStored += 1;
    const result = this.lastStored.then(() => this.storeOne(map, by, givenBack));
    this.lastStored = result.then(() => this.storedOne());
    return result;
  }

  /**
   * Makes durable that a generation is served, all copies being equal: it is noted beside whatever map is stored by then. Whoever
   * asks for it has been admitted, and leaves when it is done, so that no newer map is answered before.
   */
  async noteServed(generation: Generation): Promise<number> {
    const { map } = this;
    check(this.running > 0, 'copies agree under a map whose requests have ended', generation);
    if (map === undefined) return 0;
    // None is served that has not begun, whatever an engine says.
    const served = Math.min(generation, map.generation);
    if (this.agreed === served && this.servedGeneration >= served) return 0;
    const result = await this.device.keep(map, { servedGeneration: served });
    if (result >= 0) {
      this.agreed = Math.max(this.agreed, served);
      this.agreement.tell();
    }
    return result;
  }

  /** The same for an engine of this process. `-ESTALE` if the map is of another generation by then, or is being stored. */
  async noteServedHere(generation: Generation): Promise<number> {
    if (!this.answered || this.map?.generation !== generation) return -ESTALE;
    this.enter();
    const result = await this.noteServed(generation);
    this.leave();
    return result;
  }

  private storedOne(): void {
    this.beingStored -= 1;
    check(this.beingStored >= 0, 'more maps have been stored than came', this.beingStored);
    if (this.beingStored === 0) this.resume();
  }

  private async storeOne(map: ReplicaMap, by: GateWatcher | null, givenBack: boolean): Promise<number> {
    const { device, page } = this;
    const known = this.map;
    check(map.volume.id === this.volumeId && map.group === this.group, 'a map is stored of another replica', map.group);
    if (this.closed) return -EIO;
    const managed = isManaged(map);
    // Another may have come before it.
    if (this.hasOther(map)) return -ESTALE;
    if (known !== undefined) {
      if (isManaged(known) && !managed && !givenBack) return -EPERM;
      const same = managed && known.mapVersion === map.mapVersion;
      if (same && device.ownOf(page).answered) return page;
    }
    if (managed && map.mapVersion < MANAGED_VERSION_LEAST) return -EPERM;
    const result = await device.keep(map, {});
    if (result < 0) return result;
    for (const watcher of [...this.watchers]) if (managed || watcher !== by) watcher.mapStored(map);
    await this.isQuiet(map);
    if (this.closed) return -EIO;
    check(this.running === 0, 'a map is answered while requests are carried out under an earlier one', this.running);
    check(this.mapVersion === map.mapVersion, 'another map is stored while one is being answered', map.group);
    return device.keep(map, { answered: true });
  }

  /** Resolves when nothing goes on that was admitted under earlier maps, and no lease that `map` has to wait for. */
  private async isQuiet(map: ReplicaMap): Promise<void> {
    const { device } = this;
    while (!this.closed) {
      if (this.running === 0) {
        const nowMs = device.now();
        const untilMs = Math.max(this.leases.endOf(map, nowMs), device.silentUntilMs);
        if (untilMs <= nowMs) return;
        device.alarms.ring(untilMs - nowMs, this.ended);
      }
      await this.ended.next();
    }
  }

  /** The device is about to be closed: no map is answered any more. */
  close(): void {
    this.closed = true;
    this.ended.tell();
  }
}
