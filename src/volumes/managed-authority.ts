/**
 * Who decides about the maps of volumes in a cluster: managers, which are asked here. What they have decided is brought to the
 * members, and is in effect when every member that it calls in-sync has answered it.
 *
 * ```text
 *   attach ── decided ──┐
 *   change ── decided ──┼─► STORE_MAP to every member ─┬─ all in-sync have answered ─► in effect
 *   a newer map told ───┘                              ├─ some have not ─► they are taken out: decided ─► STORE_MAP ...
 *                                                      └─ a newer one is there ─► that one ─► STORE_MAP ...
 * ```
 *
 * An attach is never withdrawn. A map of a later generation, wherever it is heard of, ends the right to write: what is being
 * changed then fails, and whoever serves the volume is told. Without a manager changes wait; nothing is acknowledged meanwhile
 * that depends on one.
 *
 * Fault model: managers come and go, and their answers are lost; members do not answer, or have maps that others brought; another
 * client attaches at any moment.
 */

import { check } from '../core/check.js';
import { StrakeError, toStrakeError } from '../core/errors.js';
import { memberOffline } from '../layout/map-changes.js';
import { type ReplicaMap, replicaOf } from '../layout/replica-map.js';
import { checkMap, type VolumeMap } from '../layout/volume-map.js';
import type { NodeDevice } from '../node/node-device.js';
import type { GroupIndex } from '../ports/ids.js';
import type { Decided, DevicePlace, ManagerCalls } from '../ports/manager.js';
import type { AttachRequest, MapAuthority, MapChange } from '../ports/map-authority.js';
import { HeldVolume, supersededError } from './held-volume.js';
import { REFUSALS_MAX } from './limits.js';
import { storeDecided } from './store-decided.js';

export interface ManagedAuthorityParts {
  readonly manager: ManagerCalls<ReplicaMap>;
  /** The devices that can be reached, in this process and in others. */
  readonly devices: ReadonlyMap<string, NodeDevice>;
  /** Tries to reach these devices; resolves when that has come to something. */
  readonly reach: (places: readonly DevicePlace[]) => Promise<void>;
  /** Resolves after a while, for what is tried again. */
  readonly pause: () => Promise<void>;
  /** A newer map of the holder's own generation is to be brought into effect: see `renew`. */
  readonly onNewer: (volumeId: string) => void;
  /** Another client has the right to write, and its holder here has lost it. */
  readonly onSuperseded: (volumeId: string, reason: string) => void;
}

export class ManagedAuthority implements MapAuthority<VolumeMap> {
  private readonly parts: ManagedAuthorityParts;
  private readonly listeners: ((map: VolumeMap) => void)[] = [];
  private readonly held = new Map<string, HeldVolume>();

  constructor(parts: ManagedAuthorityParts) {
    this.parts = parts;
  }

  onMap(listener: (map: VolumeMap) => void): void {
    this.listeners.push(listener);
  }

  /** Ids of the volumes that are attached, and under which generations. */
  get holds(): readonly { readonly volumeId: string; readonly generation: number }[] {
    return [...this.held.values()].map(({ id, generation }) => ({ volumeId: id, generation }));
  }

  /** The newest decided map of a group of an attached volume. */
  mapOf(volumeId: string, group: GroupIndex): ReplicaMap {
    return this.heldOf(volumeId).newest(group);
  }

  /** Whether a volume is attached. */
  isHeld(volumeId: string): boolean {
    return this.held.has(volumeId);
  }

  /** Whether a map is of the generation under which its volume is attached. */
  isOwn({ volume, generation }: ReplicaMap): boolean {
    return this.held.get(volume.id)?.generation === generation;
  }

  /** Whether a newer map of an attached volume is known than what is in effect. */
  isPending(volumeId: string): boolean {
    return (this.held.get(volumeId)?.pending.length ?? 0) > 0;
  }

  private heldOf(volumeId: string): HeldVolume {
    const held = this.held.get(volumeId);
    if (held === undefined) throw new StrakeError('UNAVAILABLE', `volume ${volumeId} is not attached here`);
    return held;
  }

  // ---------------------------------------------------------------- attach, change, release

  async attach({ volumeId, holder, takeOver, instead, janitor = false }: AttachRequest): Promise<VolumeMap> {
    const { manager, reach } = this.parts;
    check(!this.held.has(volumeId), 'a volume is attached twice by one client', this.held.size);
    const anew = instead === undefined ? {} : { instead, above: instead };
    const call = { volume: volumeId, clientId: holder, takeOver, ...anew };
    const decided = await manager.attach(janitor ? { ...call, janitor } : call);
    const held = new HeldVolume(decided.maps);
    if (held.id !== volumeId || held.holder !== holder) {
      throw new StrakeError('UNAVAILABLE', `the manager answers an attach of ${volumeId} with the map of ${held.id}`);
    }
    this.held.set(volumeId, held);
    try {
      await reach(decided.devices);
      await this.bringAll(held);
      checkMap(held.map);
      held.attached = true;
      return this.tell(held);
    } catch (error) {
      this.held.delete(volumeId);
      throw error;
    }
  }

  async change(next: VolumeMap, wanted = () => true): Promise<MapChange<VolumeMap>> {
    const held = this.heldOf(next.id);
    check(next.generation === held.generation, 'a map is changed under another generation', next.generation);
    const before = held.map;
    let kind: 'done' | 'passed' = 'done';
    if (next.headerVersion !== before.headerVersion) await this.changeHeader(held, next);
    else {
      const changed = next.versions.flatMap((version, group) => (version === before.versions[group] ? [] : [group]));
      for (const group of changed) {
        const answer = await this.decideOrRefuse(held, group, next, wanted);
        if (answer instanceof StrakeError) return { kind: 'refused', error: answer };
        if (!answer) kind = 'passed';
      }
    }
    await this.bringAll(held);
    check(held.pending.length === 0, 'a map is taken for effective that is not', held.pending.length);
    return { kind, map: this.tell(held) };
  }

  /** Brings maps that somebody else has decided into effect, and resolves to those that are then. */
  async renew(volumeId: string): Promise<VolumeMap> {
    const held = this.heldOf(volumeId);
    await this.bringAll(held);
    return this.tell(held);
  }

  async release(map: VolumeMap): Promise<void> {
    const held = this.heldOf(map.id);
    const { manager, devices } = this.parts;
    const about = { clientId: held.holder, volumeId: held.id };
    let maps = held.maps.map((_, group) => replicaOf(map, group));
    let answer = await manager.detach({ ...about, maps });
    while (answer.kind === 'superseded') {
      this.hearAll(held, answer.newest);
      held.demandHeld();
      // The volume may have got another name or size since its engine was closed: it is given back as it is then.
      const newest = held.maps.map((one, group) => (one.mapVersion > maps[group].mapVersion ? one : maps[group]));
      if (newest.every((one, group) => one === maps[group])) break;
      maps = newest;
      answer = await manager.detach({ ...about, maps });
    }
    held.demandHeld();
    this.held.delete(held.id);
    if (answer.kind === 'superseded') return;
    // Members that do not hear of it now do by their nodes' heartbeats.
    await Promise.all(answer.maps.map((last) => storeDecided(devices, last)));
    for (const listener of this.listeners) listener(new HeldVolume(answer.maps).map);
  }

  /** Nothing more is decided for a volume: what waits for a manager fails with `reason`. */
  giveUp(volumeId: string, reason: string): void {
    const held = this.held.get(volumeId);
    if (held === undefined) return;
    held.ended ||= reason;
    this.held.delete(volumeId);
  }

  private tell(held: HeldVolume): VolumeMap {
    const { map } = held;
    for (const listener of this.listeners) listener(map);
    return map;
  }

  // ---------------------------------------------------------------- what others decide

  /** Takes note of decided maps, proven by the key of the cluster, that members or a manager have told of. */
  heard(maps: readonly ReplicaMap[]): void {
    for (const map of maps) {
      const held = this.held.get(map.volume.id);
      if (held === undefined || map.authentication === undefined) continue;
      const known = held.successor !== null;
      const heard = held.hear(map);
      if (heard === 'newer') this.parts.onNewer(held.id);
      else if (heard === 'superseded' && !known) this.parts.onSuperseded(held.id, supersededError(map).message);
    }
  }

  private hearAll(held: HeldVolume, { maps }: Decided<ReplicaMap>): void {
    check(maps.length > 0, 'a manager answers without a map', held.groups);
    // It may have been given up, or lost, while that was asked for.
    if (this.held.get(held.id) === held) this.heard(maps);
    else for (const map of maps) held.hear(map);
  }

  /** Asks the manager which maps are the newest: one that is heard of at a member, and was not told, is among them. */
  private async refresh(held: HeldVolume): Promise<void> {
    const newest = await this.asked(held, () => this.parts.manager.fetch(held.id));
    held.demandHeld();
    this.hearAll(held, newest);
    await this.parts.reach(newest.devices);
  }

  // ---------------------------------------------------------------- deciding

  /** What a manager answers, however long there is none. Rejects when the volume is not held any more. */
  private async asked<T>(held: HeldVolume, ask: () => Promise<T>): Promise<T> {
    for (;;) {
      held.demandHeld();
      try {
        return await ask();
      } catch (error) {
        if (toStrakeError(error).code !== 'ERR_STRAKE_NO_MANAGER') throw error;
      }
      await this.parts.pause();
    }
  }

  private async changeHeader(held: HeldVolume, { name, sizeBytes }: VolumeMap): Promise<void> {
    const { manager } = this.parts;
    const { map } = held;
    if (sizeBytes !== map.sizeBytes) {
      this.hearAll(held, await this.asked(held, () => manager.grow(held.id, sizeBytes)));
    }
    if (name !== map.name) this.hearAll(held, await this.asked(held, () => manager.rename(held.id, name)));
  }

  /** Whether a change was decided; false if another one came first, an error if it is refused, or was not asked for again. */
  private async decideOrRefuse(
    held: HeldVolume,
    group: GroupIndex,
    next: VolumeMap,
    wanted: () => boolean,
    asksAgain = true,
  ): Promise<boolean | StrakeError> {
    // A removal is what requests wait for: it is asked for until it is decided.
    const removes = next.groups[group].some(
      ({ state }, place) => state === 'offline' && held.map.groups[group][place].state !== 'offline',
    );
    for (let refusals = 0; ; ) {
      held.demandHeld();
      try {
        return await this.decide(held, group, next, wanted);
      } catch (error) {
        const refusal = toStrakeError(error);
        if (!isRefusal(refusal) || held.successor !== null) throw error;
        if (refusal.code !== 'ERR_STRAKE_NO_MANAGER') refusals += 1;
        const most = refusal.code === 'ERR_STRAKE_WRONG_DEVICE' ? 1 : REFUSALS_MAX;
        if (!asksAgain || !wanted() || (!removes && refusals >= most)) return refusal;
      }
      await this.parts.pause();
    }
  }

  private async decide(held: HeldVolume, group: GroupIndex, next: VolumeMap, wanted: () => boolean): Promise<boolean> {
    const { manager } = this.parts;
    // What is pending there may be in effect, and would stand in the way.
    await held.told;
    const before = held.newest(group).mapVersion;
    const request = {
      ...{ clientId: held.holder, volumeId: held.id, group, before },
      map: replicaOf(next, group),
    };
    const answer = await manager.change(request, wanted);
    if (answer.kind === 'superseded') {
      this.hearAll(held, answer.newest);
      held.demandHeld();
      return false;
    }
    check(answer.map.mapVersion > before, 'a map is decided that is not newer', answer.map.mapVersion);
    held.hear(answer.map);
    return true;
  }

  // ---------------------------------------------------------------- bringing into effect

  /** Brings the newest map of each group into effect. Rejects if the right to write is lost, or a group has no member left. */
  private async bringAll(held: HeldVolume): Promise<void> {
    while (held.pending.length > 0) {
      await Promise.all(held.pending.map((group) => this.bring(held, group)));
    }
    held.demandHeld();
  }

  private async bring(held: HeldVolume, group: GroupIndex): Promise<void> {
    held.demandHeld();
    const map = held.newest(group);
    const { answered, behind, silent } = await storeDecided(this.parts.devices, map);
    held.demandHeld();
    if (held.newest(group) !== map) return;
    if (answered.length > 0) this.tellStored(held, map, answered);
    if (behind) {
      await this.parts.pause();
      await this.refresh(held);
    } else if (silent.length === 0) held.noteEffective(group, map.mapVersion);
    else if (answered.length > 0) await this.takeOut(held, group, silent);
    else await this.waitForOne(held, group);
  }

  /** Members of a group have not answered, and others have: those are taken out. */
  private async takeOut(held: HeldVolume, group: GroupIndex, silent: readonly string[]): Promise<void> {
    check(silent.length > 0, 'members are taken out of a group in which all have answered', group);
    let next = held.map;
    // What was written under an earlier generation is on all members, or is recorded under this one when they are made equal.
    const since = { generation: held.generation, flushNumber: 0 };
    for (const [place, { deviceId, state }] of held.map.groups[group].entries()) {
      if (state === 'in-sync' && silent.includes(deviceId)) next = memberOffline(next, group, place, since);
    }
    check(next.versions[group] > held.newest(group).mapVersion, 'nobody is taken out of a group', group);
    // Who answers meanwhile is not to be taken out: that is looked at before it is asked for again.
    const answer = await this.decideOrRefuse(held, group, next, () => true, false);
    if (answer instanceof StrakeError) await this.parts.pause();
  }

  /** No member of a group that counts as current answers. */
  private async waitForOne(held: HeldVolume, group: GroupIndex): Promise<void> {
    const { volume, members } = held.newest(group);
    const current = members.filter(({ state }) => state === 'in-sync').map(({ deviceId }) => deviceId);
    const what = `no current member of group ${group} of volume ${volume.name} answers: ${current.join(', ')}`;
    // One that is served waits for whoever comes back.
    if (!held.attached) throw new StrakeError('UNAVAILABLE', what);
    await this.parts.pause();
  }

  /** Tells the manager which members have answered; the nodes tell it as well, so that nothing is lost where it does not hear. */
  private tellStored(held: HeldVolume, { group, mapVersion }: ReplicaMap, answered: readonly NodeDevice[]): void {
    const answers = answered.map(({ deviceId, incarnation }) => ({ deviceId, incarnation }));
    const request = { volumeId: held.id, group, mapVersion, answers };
    const telling = this.parts.manager.stored(request).catch(() => {});
    held.told = Promise.all([held.told, telling]);
  }
}

/**
 * Whether a change that fails so leaves everything as it is: there is no manager, or it decides nothing of this kind now. What
 * has to be changed is asked for again then; a volume goes on without the rest.
 */
function isRefusal({ code }: StrakeError): boolean {
  return REFUSALS.some((refusal) => refusal === code);
}

const REFUSALS = [
  'ERR_STRAKE_NO_MANAGER',
  'ERR_STRAKE_UNAVAILABLE',
  'ERR_STRAKE_UNPROVEN',
  'ERR_STRAKE_WRONG_DEVICE',
] as const;
