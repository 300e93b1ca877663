/**
 * Which members a volume has now, and how that changes.
 *
 * The map changes by one commit at a time. A change takes effect only when `commit` has made it durable; until then a member
 * that failed is *leaving*: it is not read, and nothing that it missed is acknowledged. The last member that is in-sync
 * never leaves: what fails on it fails. If a commit is rejected, nobody knows which map the next owner will find, so
 * the volume stops.
 */

import { check } from '../../core/check.js';
import { toStrakeError } from '../../core/errors.js';
import { Notify } from '../../core/notify.js';
import type { FlushId } from '../../layout/flush-id.js';
import { memberOffline, withProgress, withReleased } from '../../layout/map-changes.js';
import { groupOf, type MemberProgress, newestVersion, type VolumeMap } from '../../layout/volume-map.js';
import { FENCE_ALL, FENCE_OPEN } from '../../ports/device.js';
import type { ChunkIndex, GroupIndex, MemberPosition } from '../../ports/ids.js';
import type { MapChange } from '../../ports/map-authority.js';
import type { SegmentMember } from '../../ports/segment-member.js';
import type { VolumeEvent } from '../volume-events.js';
import { MemberSlot } from './member-slot.js';

export { MemberSlot } from './member-slot.js';

/** What came of an operation on several members. */
export const JUDGED_DONE = 0;
export const JUDGED_FAILED = 1;
/** A change of the map is on its way; ask again when it has taken effect. */
export const JUDGED_LATER = 2;

export interface MembershipHooks {
  /** See `MapAuthority.change`. */
  commit(record: VolumeMap, wanted: () => boolean): Promise<MapChange<VolumeMap>>;
  /** See `VolumeEngineOptions.renew`. */
  renew(): Promise<VolumeMap>;
  /** Whether a last copy is waited for that does not answer: it may come back as it was. */
  readonly awaits: boolean;
  onEvent(event: VolumeEvent): void;
  /** From where on a member that fails now may have missed writes. */
  missedSince(): FlushId;
  /** A map has taken effect, or the volume has stopped. */
  onChange(): void;
}

export class Membership {
  readonly groups: MemberSlot[][];
  record: VolumeMap;
  /** Why the volume has stopped; null while it goes on. */
  stopped: string | null = null;
  /** It has stopped to go on under a later generation, or to end: requests are held until that is known. */
  suspended = false;
  /** How often a member has begun to leave. */
  departures = 0;
  /**
   * How often a map has taken effect. What met a newer map at a member is asked again when that is more than when it was asked.
   */
  effects = 0;
  private readonly onEffect = new Notify();
  private readonly hooks: MembershipHooks;
  private changes: Promise<void> = Promise.resolve();
  /** Changes that have been asked for and have not ended. */
  private changing = 0;
  private turn = 0;

  constructor(record: VolumeMap, members: readonly (readonly (SegmentMember | null)[])[], hooks: MembershipHooks) {
    this.record = record;
    this.hooks = hooks;
    this.groups = record.groups.map((group, index) =>
      group.map(({ state, flushNumber }, position) => {
        const slot = new MemberSlot(index, position);
        slot.begin(members[index]?.[position] ?? null, state, flushNumber);
        return slot;
      }),
    );
  }

  groupOf(stripe: ChunkIndex): MemberSlot[] {
    return this.groups[groupOf(this.record, stripe)];
  }

  /** The member in-sync that has least to do; those that have equally little take turns. Null if there is none. */
  pickReader(group: readonly MemberSlot[]): MemberSlot | null {
    let best: MemberSlot | null = null;
    let least = Number.POSITIVE_INFINITY;
    this.turn = (this.turn + 1) % group.length;
    for (let step = 0; step < group.length; step += 1) {
      const slot = group[(this.turn + step) % group.length];
      if (!slot.readable || slot.member === null) continue;
      const { outstanding } = slot.member;
      if (outstanding >= least) continue;
      best = slot;
      least = outstanding;
    }
    return best;
  }

  /** Whether every member of the group is in-sync. */
  complete(group: readonly MemberSlot[]): boolean {
    for (const slot of group) if (!slot.readable) return false;
    return true;
  }

  /** Whether a copy elsewhere makes this one dispensable. */
  private dispensable(slot: MemberSlot): boolean {
    if (slot.state !== 'in-sync') return true;
    return this.groups[slot.group].some((other) => other !== slot && other.readable && this.isCounted(other));
  }

  /** Whether others may be done without as this one is there. */
  private isCounted({ member }: MemberSlot): boolean {
    return !this.hooks.awaits || (member !== null && member.fence() !== FENCE_ALL);
  }

  /** Whether a member that does not answer cannot be done without, and is waited for. */
  isAwaited(slot: MemberSlot): boolean {
    if (!this.hooks.awaits || this.stopped !== null || this.isCounted(slot)) return false;
    return slot.state === 'in-sync' && !this.dispensable(slot);
  }

  /** Whether a group has no member that answers, and one is waited for. */
  awaitsAny(group: GroupIndex): boolean {
    return this.groups[group].some((slot) => this.isAwaited(slot));
  }

  /**
   * The device of a member that does not answer has come back. Returns whether it has the place again: it is in the same life, so
   * that it has all that it had, and its place is still its own.
   */
  rejoin(slot: MemberSlot, member: SegmentMember): boolean {
    if (slot.state === 'offline' || this.isCounted(slot)) return false;
    if (slot.member?.incarnation !== member.incarnation || slot.member.life !== member.life) return false;
    check(slot.member.deviceId === member.deviceId, 'another device takes the place of a member', slot.position);
    slot.member = member;
    // If it was to leave, whoever decides is not asked for that any more; what was decided is told by the member.
    slot.leaving = false;
    return true;
  }

  /** Nothing is waited for any more, as the volume is closed: a group that has no member which answers stops it. */
  endAwaiting(): void {
    const alone = this.groups.flat().some((slot) => this.isAwaited(slot));
    if (alone) this.stop('it was closed while a group had no copy that answers');
  }

  /** Members that have come back are asked again what they have not done. */
  resume(): void {
    this.effects += 1;
    this.hooks.onChange();
    this.onEffect.tell();
  }

  /**
   * Judges an operation that was sent to the members `targets` (bits by position), was done by `done` and failed on
   * `failed`: takes those that failed out of the map, and says whether the operation counts as done.
   */
  judge(groupIndex: number, targets: number, done: number, failed: number): number {
    if (this.stopped !== null) return JUDGED_FAILED;
    const group = this.groups[groupIndex];
    check((targets & ~(done | failed)) === 0, 'an operation is judged before all members have answered', groupIndex);
    check((done & failed) === 0, 'an operation has been done where it failed', groupIndex);
    let later = false;
    // If all fail at once, the one that remains should be one that still answers.
    for (const broken of [true, false]) {
      for (let position = group.length - 1; position >= 0; position -= 1) {
        const slot = group[position];
        if ((failed & slot.bit) === 0 || slot.state === 'offline') continue;
        if ((slot.member?.fence() !== FENCE_OPEN) !== broken) continue;
        if (this.expel(slot, 'an operation failed')) later = true;
      }
    }
    if (later) return JUDGED_LATER;
    for (const slot of group) if ((failed & slot.bit) !== 0 && this.isAwaited(slot)) return JUDGED_LATER;
    let current = 0;
    for (const slot of group) if (slot.state === 'in-sync') current |= slot.bit;
    current &= targets;
    return current !== 0 && (current & ~done) === 0 ? JUDGED_DONE : JUDGED_FAILED;
  }

  /** Takes a member out of the map if it can be done without. Returns whether that is on its way, or done. */
  expel(slot: MemberSlot, reason: string): boolean {
    if (this.stopped !== null) return false;
    if (slot.leaving || slot.state === 'offline') return true;
    if (!this.dispensable(slot)) return false;
    slot.leaving = true;
    this.departures += 1;
    const { group, position } = slot;
    // From now on discards keep their slots, so the point is that of now, and not that of the commit.
    const since = this.hooks.missedSince();
    let stays = false;
    const leave = (record: VolumeMap) => {
      const { state } = record.groups[group][position];
      if (state === 'offline' || !slot.leaving) return record;
      // Whoever was to stay may have left by a change that was asked for before, though it was back by then.
      stays = !record.groups[group].some((other, at) => at !== position && other.state === 'in-sync');
      if (!stays) return memberOffline(record, group, position, since);
      slot.leaving = false;
      return record;
    };
    this.change(leave, () => slot.leaving).then(
      () => {
        if (slot.state === 'offline') this.tellOffline(slot, reason);
        // What it has failed is judged again: it fails, or waits for it.
        if (stays) this.resume();
      },
      () => {},
    );
    return true;
  }

  /** The places that a device has. */
  slotsOf(deviceId: string): MemberSlot[] {
    return this.groups.flat().filter((slot) => this.deviceId(slot) === deviceId);
  }

  /** Whether a device has the last copy of a group, which does not answer. */
  isAwaiting(deviceId: string): boolean {
    return this.slotsOf(deviceId).some((slot) => this.isAwaited(slot));
  }

  /** Whether a place is that of a member which does not answer any more and has not left the map. */
  isMissed(group: GroupIndex, position: MemberPosition): boolean {
    const { state, member } = this.groups[group][position];
    return state === 'in-sync' && member?.fence() === FENCE_ALL;
  }

  deviceId(slot: MemberSlot): string {
    return deviceAt(this.record, slot);
  }

  /**
   * Makes a changed map durable and lets it take effect, after all changes asked for before. `make` may throw to call the
   * change off, and is called again on a map that somebody else has decided; it returns the map as it is if nothing is left to
   * be changed. Nobody is asked any more for what is not `wanted`. Rejects with a `StrakeError`.
   */
  change(make: (record: VolumeMap) => VolumeMap, wanted: () => boolean = () => true): Promise<void> {
    this.changing += 1;
    const result = this.changes.then(() => this.changeNow(make, wanted));
    const ended = () => this.changed();
    this.changes = result.then(ended, ended);
    return result;
  }

  private async changeNow(make: (record: VolumeMap) => VolumeMap, wanted: () => boolean): Promise<void> {
    for (let passed = true; passed; ) {
      if (this.stopped !== null) throw toStrakeError(new Error(this.stopped));
      const made = make(this.record);
      if (made === this.record) return;
      const change = await this.commit(made, wanted);
      if (change.kind === 'refused') throw toStrakeError(change.error);
      this.apply(change.map);
      passed = change.kind === 'passed';
    }
  }

  /** Somebody else has decided a newer map: takes it when it is in effect, after all changes asked for before. */
  adopt(): void {
    this.changing += 1;
    this.changes = this.changes.then(() => this.adoptNow()).then(() => this.changed());
  }

  private changed(): void {
    this.changing -= 1;
    check(this.changing >= 0, 'more changes of a map have ended than were asked for', this.changing);
  }

  /** Whether a change is under way, which may wait for a manager. */
  get isChanging(): boolean {
    return this.changing > 0;
  }

  private async adoptNow(): Promise<void> {
    if (this.stopped !== null) return;
    try {
      const map = await this.hooks.renew();
      // A change of its own may have brought it along.
      if (map.versions.every((version, group) => version === this.record.versions[group])) return;
      this.checkNext(map);
      check(map.holder === this.record.holder, 'an engine adopts a map of another holder', map.generation);
      this.apply(map);
    } catch (error) {
      this.fail(`a newer map could not be brought into effect: ${toStrakeError(error).message}`);
    }
  }

  /**
   * Takes newer maps as they are, of whichever generation, with the members that serve them: of an engine that only reads, and
   * decides nothing.
   */
  follow(record: VolumeMap, members: readonly (readonly (SegmentMember | null)[])[]): void {
    check(record.id === this.record.id, 'an engine follows the map of another volume', record.generation);
    check(
      record.segmentBytes === this.record.segmentBytes,
      'the chunks of a volume have another size',
      record.generation,
    );
    for (const [group, version] of record.versions.entries()) {
      check(
        version >= this.record.versions[group],
        'an engine follows a map of a group that is older than its own',
        group,
      );
    }
    this.record = record;
    for (const [index, places] of record.groups.entries()) {
      const slots = this.groups[index];
      while (slots.length < places.length) slots.push(new MemberSlot(index, slots.length));
      slots.length = places.length;
      for (const slot of slots) {
        slot.state = places[slot.position].state;
        slot.member = members[index][slot.position] ?? null;
      }
    }
    this.resume();
  }

  private async commit(made: VolumeMap, wanted: () => boolean): Promise<MapChange<VolumeMap>> {
    const next = this.withProgress(made);
    try {
      this.checkNext(next);
      const change = await this.hooks.commit(next, wanted);
      if (change.kind !== 'refused') this.checkNext(change.map);
      return change;
    } catch (error) {
      this.fail(`a new map could not be committed: ${toStrakeError(error).message}`);
      throw toStrakeError(error);
    }
  }

  /** What a map must be before it is stored anywhere: the next owner of the volume believes it. */
  private checkNext(next: VolumeMap): void {
    const { record } = this;
    const newer = next.versions.some((version, group) => version > record.versions[group]);
    check(newer, 'a changed map is not newer than the one before', newestVersion(next));
    const older = next.versions.findIndex((version, group) => version < record.versions[group]);
    check(older < 0, 'a changed map of a group is older than the one before', older);
    check(next.id === record.id && next.generation === record.generation, 'a changed map is of another volume');
    check(next.sizeBytes >= record.sizeBytes, 'a volume becomes smaller', next.sizeBytes);
    for (const group of next.groups) {
      const current = group.some(({ state }) => state === 'in-sync');
      check(current, 'a map leaves a group without a current member', newestVersion(next));
    }
  }

  /**
   * Segments of a group that were discarded while a member was away have been given back. The next change of the map makes that
   * durable; before, it would only be looked for again.
   */
  released(group: GroupIndex): void {
    check(group < this.groups.length, 'segments are given back of no group', group);
    if (this.complete(this.groups[group])) this.record = withReleased(this.record, group);
  }

  /**
   * Resolves when more maps have taken effect than `effects`: to true, for what met a newer map to be asked again; to false if
   * the volume has stopped.
   */
  async nextEffect(effects: number): Promise<boolean> {
    while (this.stopped === null && this.effects === effects) await this.onEffect.next();
    return this.stopped === null;
  }

  /** Resolves when no change is under way. */
  idle(): Promise<void> {
    return this.changes;
  }

  /** The map, with how far its members have come. */
  get latest(): VolumeMap {
    return this.withProgress(this.record);
  }

  private withProgress(map: VolumeMap): VolumeMap {
    return withProgress(map, (group, position) => this.progressOf(map, group, position));
  }

  /** What is known of a member that has been current until now; of others the map keeps what it has. */
  private progressOf(record: VolumeMap, group: GroupIndex, position: MemberPosition): MemberProgress | null {
    const slot = this.groups[group][position];
    const { deviceId, incarnation, flushNumber } = record.groups[group][position];
    if (slot.member === null || slot.state !== 'in-sync' || deviceId !== this.deviceId(slot)) return null;
    return {
      incarnation: Math.max(incarnation, slot.incarnation),
      flushNumber: Math.max(flushNumber, slot.covered),
    };
  }

  private apply(record: VolumeMap): void {
    check(
      record.groups.length === this.groups.length,
      'a map has other groups than the one before',
      record.groups.length,
    );
    this.record = record;
    for (const slot of this.groups.flat()) {
      const { state } = record.groups[slot.group][slot.position];
      if (state === 'offline' && slot.state !== 'offline' && !slot.leaving) this.noteRemoved(slot);
      if (state === 'offline') slot.leaving = false;
      slot.state = state;
    }
    this.effects += 1;
    this.hooks.onChange();
    this.onEffect.tell();
  }

  /** Whoever decides about maps has taken a member out that this engine has not parted with. */
  private noteRemoved(slot: MemberSlot): void {
    const { group, position } = slot;
    check(
      this.record.groups[group][position].state === 'offline',
      'a member is noted as removed that is not',
      position,
    );
    this.departures += 1;
    this.tellOffline(slot, 'it did not answer a changed map');
  }

  private tellOffline(slot: MemberSlot, reason: string): void {
    const { group, position } = slot;
    this.hooks.onEvent({ kind: 'member-offline', group, position, deviceId: this.deviceId(slot), reason });
  }

  /** Stops for good. */
  stop(reason: string): void {
    if (this.stopped !== null && !this.suspended) return;
    this.suspended = false;
    this.end('stopped', reason);
  }

  /** Stops until it is begun again, or for good: see `suspended`. Changes of the map that go on fail. */
  suspend(reason: string): void {
    if (this.stopped !== null) return;
    this.suspended = true;
    this.end('suspended', reason);
  }

  /** It cannot go on as it is. What is suspended, and was just beginning again, may yet. */
  fail(reason: string): void {
    if (this.suspended) this.suspend(reason);
    else this.stop(reason);
  }

  private end(kind: 'stopped' | 'suspended', reason: string): void {
    this.stopped = reason;
    this.hooks.onEvent({ kind, reason });
    this.hooks.onChange();
    this.onEffect.tell();
  }

  /**
   * Begins again under the map of a later generation, with the members that are there now. Requests are held on, until the copies
   * are equal. Nothing may be under way.
   */
  restart(record: VolumeMap, members: readonly (readonly (SegmentMember | null)[])[]): void {
    check(this.suspended && this.stopped !== null, 'a volume begins again that has not been suspended', this.changing);
    check(record.id === this.record.id, 'a volume begins again as another', record.groups.length);
    check(record.generation > this.record.generation, 'a volume begins again under no later generation');
    check(record.groups.length === this.groups.length, 'a volume begins again with other groups', this.groups.length);
    this.record = record;
    for (const slot of this.groups.flat()) {
      const { state, flushNumber } = record.groups[slot.group][slot.position];
      slot.begin(members[slot.group][slot.position], state, flushNumber);
    }
    this.stopped = null;
    this.effects += 1;
  }

  /** The copies are equal: requests are carried out from now on. */
  goOn(): void {
    check(this.suspended && this.stopped === null, 'a volume goes on that was not begun again', this.changing);
    this.suspended = false;
    this.onEffect.tell();
  }

  /** Whether of some group no copy that counts is there in the life in which this engine wrote to it. */
  hasLost(record: VolumeMap, members: readonly (readonly (SegmentMember | null)[])[]): boolean {
    return this.groups.some((group, at) => {
      const there = group.filter(({ position }) => {
        return record.groups[at][position].state === 'in-sync' && members[at][position] !== null;
      });
      const isSame = ({ state, position, incarnation, member }: MemberSlot) => {
        const now = members[at][position];
        return state === 'in-sync' && now?.incarnation === incarnation && now.life === member?.life;
      };
      return there.length > 0 && !there.some((slot) => isSame(slot) && this.deviceId(slot) === deviceAt(record, slot));
    });
  }
}

function deviceAt({ groups }: VolumeMap, { group, position }: MemberSlot): string {
  return groups[group][position].deviceId;
}
