/**
 * What stands between sessions and a replica: under which map requests are admitted, how many are being carried out, and how a
 * newer map takes the place of an older one.
 *
 * ```text
 *   STORE_MAP ─► 1 page durable ─► 2 nothing under older maps is admitted; what comes waits
 *                                  3 what was admitted ends ─► 4 noted as answered, durably ─► 5 answer; what waits is admitted
 * ```
 *
 * A crash after 1 leaves a map that has not been answered: it is brought again. A crash after 4 leaves one that has, though
 * nobody was told: nothing that was admitted before it can come later, as the process is another.
 */

import { check } from '../core/check.js';
import { Notify } from '../core/notify.js';
import { isSameMap } from '../layout/map-codec.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { Generation } from '../ports/ids.js';
import type { DrivenDevice } from './node-device.js';

/** Who waits until the map of a replica is answered. */
export interface GateWaiter {
  /** Tries again. */
  proceed(): void;
}

export class ReplicaGate {
  readonly device: DrivenDevice;
  readonly volumeId: string;
  readonly group: number;
  /** Requests that have been admitted and have not ended. */
  private running = 0;
  private readonly ended = new Notify();
  private waiters: GateWaiter[] = [];
  /** Maps are stored one after another. */
  private lastStored: Promise<unknown> = Promise.resolve();
  private beingStored = 0;

  constructor(device: DrivenDevice, volumeId: string, group: number) {
    this.device = device;
    this.volumeId = volumeId;
    this.group = group;
  }

  private get page(): number {
    return this.device.pageOf(this.volumeId, this.group);
  }

  /** The map that is stored; undefined if there is none that is served. */
  get map(): ReplicaMap | undefined {
    const { page } = this;
    return page < 0 ? undefined : this.device.replicas[page];
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

  /** Whether nothing is being carried out, stored or waiting. */
  get idle(): boolean {
    return this.running === 0 && this.beingStored === 0 && this.waiters.length === 0;
  }

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

  /** Resolves when no map is being stored. */
  async settled(): Promise<void> {
    while (this.beingStored > 0) await this.lastStored;
  }

  /**
   * Stores a map, and answers it, unless another one is here that is newer, or has the same version (`hasOther`). Resolves with a
   * number that is not negative, or a negative errno, with which the device has failed or has no room.
   */
  store(map: ReplicaMap, onStored: () => void): Promise<number> {
    this.beingStored += 1;
    const result = this.lastStored.then(() => this.storeOne(map, onStored));
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
    return map === undefined ? 0 : this.device.putReplica(map, { servedGeneration: generation });
  }

  private storedOne(): void {
    this.beingStored -= 1;
    check(this.beingStored >= 0, 'more maps have been stored than came', this.beingStored);
    if (this.beingStored === 0) this.resume();
  }

  private async storeOne(map: ReplicaMap, onStored: () => void): Promise<number> {
    const { device } = this;
    check(map.volume.id === this.volumeId && map.group === this.group, 'a map is stored of another replica', map.group);
    // Another may have come before it.
    if (this.hasOther(map)) return 0;
    const result = await device.putReplica(map);
    if (result < 0) return result;
    onStored();
    while (this.running > 0) await this.ended.next();
    check(this.map?.mapVersion === map.mapVersion, 'another map is stored while one is being answered', map.group);
    return device.putReplica(map, { answered: true });
  }
}
