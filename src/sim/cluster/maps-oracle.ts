/**
 * What the maps of a cluster must be, whatever happens: held against what the manager has made durable, and what devices have
 * answered, as an onlooker sees them who sees everything.
 *
 * - Versions and generations of a group rise. A version is decided once.
 * - Consecutive effective maps share a member that is in-sync in both. A map is effective when every member that it calls in-sync
 *   has answered it, or a later one; that this is so is never believed before it is.
 * - No device has a map that was not decided.
 */

import type { ReplicaMap } from '../../layout/replica-map.js';
import type { MetaBatch } from '../../ports/meta-store.js';
import { SimViolation } from '../trial/trial-world.js';

/** What a manager keeps of a group, as far as it is looked at here. */
interface GroupFacts {
  readonly newest: ReplicaMap;
  readonly base: number;
}

/** What is known of a group: its maps in the order of their versions. */
class GroupMaps {
  readonly name: string;
  private readonly decided: ReplicaMap[] = [];
  /** By device: the highest version that it has answered. */
  private readonly answered = new Map<string, number>();
  /** By device: what was seen there last. */
  private readonly last = new Map<string, { readonly map: ReplicaMap; readonly isAnswered: boolean }>();
  /** Index of the last map that was effective; -1 if none was. */
  private effective = -1;

  constructor(name: string) {
    this.name = name;
  }

  get newest(): ReplicaMap | undefined {
    return this.decided.at(-1);
  }

  decide(map: ReplicaMap): void {
    const { newest } = this;
    if (newest !== undefined && newest.mapVersion === map.mapVersion) {
      if (textOf(newest) !== textOf(map)) throw this.wrong(`version ${map.mapVersion} is decided twice`);
      return;
    }
    if (newest !== undefined && newest.mapVersion > map.mapVersion)
      throw this.wrong(`version ${map.mapVersion} is decided after version ${newest.mapVersion}`);
    if (newest !== undefined && newest.generation > map.generation)
      throw this.wrong(`generation ${map.generation} is decided after generation ${newest.generation}`);
    this.decided.push(map);
  }

  /** A device has a map. */
  seen(deviceId: string, map: ReplicaMap, isAnswered: boolean): void {
    const last = this.last.get(deviceId);
    if (last?.map === map && last.isAnswered === isAnswered) return;
    this.last.set(deviceId, { map, isAnswered });
    const known = this.decided.find(({ mapVersion }) => mapVersion === map.mapVersion) ?? this.passedOver(map);
    if (known === undefined) throw this.wrong(`a device has version ${map.mapVersion}, which was not decided`);
    if (textOf(known) !== textOf(map))
      throw this.wrong(`a device has another version ${map.mapVersion} than was decided`);
    if (!isAnswered) return;
    this.answered.set(deviceId, Math.max(this.answered.get(deviceId) ?? 0, map.mapVersion));
    this.advance();
  }

  /**
   * Of two decisions that became durable in one batch the store has the later one alone, and whoever asked was told of the
   * earlier one: a map with such a version, and a generation between those beside it, counts as decided when it is first seen.
   */
  private passedOver(map: ReplicaMap): ReplicaMap | undefined {
    const at = this.decided.findIndex(({ mapVersion }) => mapVersion > map.mapVersion);
    if (at <= 0) return undefined;
    const [before, after] = [this.decided[at - 1], this.decided[at]];
    if (map.generation < before.generation || map.generation > after.generation) return undefined;
    this.decided.splice(at, 0, map);
    if (at <= this.effective) this.effective += 1;
    return map;
  }

  /** Notes which maps have become effective. */
  private advance(): void {
    for (let at = this.effective + 1; at < this.decided.length; at += 1) {
      const map = this.decided[at];
      const inSync = inSyncOf(map);
      if (!inSync.every((deviceId) => (this.answered.get(deviceId) ?? 0) >= map.mapVersion)) continue;
      const before = this.decided[this.effective];
      if (before !== undefined && !inSyncOf(before).some((deviceId) => inSync.includes(deviceId))) {
        throw this.wrong(`versions ${before.mapVersion} and ${map.mapVersion} are effective and share no member`);
      }
      this.effective = at;
    }
  }

  /** The manager takes a version for effective. */
  believed(base: number): void {
    const effective = this.decided[this.effective]?.mapVersion ?? 0;
    if (base > effective) throw this.wrong(`version ${base} counts as effective, and version ${effective} is`);
  }

  private wrong(what: string): SimViolation {
    return new SimViolation(`${this.name}: ${what}`);
  }
}

/** Ids of the devices that a map calls in-sync. */
export function inSyncOf({ members }: ReplicaMap): string[] {
  return members.filter(({ state }) => state === 'in-sync').map(({ deviceId }) => deviceId);
}

/** What of a map must be the same everywhere. */
function textOf({ generation, holder, lease, members }: ReplicaMap): string {
  return JSON.stringify([generation, holder, lease, members.map((one) => [one.deviceId, one.state, one.joined])]);
}

export class MapsOracle {
  private readonly groups = new Map<string, GroupMaps>();

  private groupOf({ volume, group }: ReplicaMap): GroupMaps {
    const name = `group ${group} of volume ${volume.id.slice(0, 4)}`;
    const found = this.groups.get(name) ?? new GroupMaps(name);
    this.groups.set(name, found);
    return found;
  }

  /** The manager has made this durable; what devices have answered by now has been told before. */
  committed({ changes }: MetaBatch): void {
    for (const { key, value } of changes) {
      if (!key.startsWith('group/') || value === null) continue;
      const { newest, base } = JSON.parse(value) as GroupFacts;
      const group = this.groupOf(newest);
      group.decide(newest);
      group.believed(base);
    }
  }

  /** Devices have these maps, and have answered them or not. */
  look(devices: Iterable<readonly [deviceId: string, map: ReplicaMap, isAnswered: boolean]>): void {
    for (const [deviceId, map, isAnswered] of devices) this.groupOf(map).seen(deviceId, map, isAnswered);
  }

  /** The newest decided map of each group. */
  newest(): ReplicaMap[] {
    return [...this.groups.values()].flatMap(({ newest }) => (newest === undefined ? [] : [newest]));
  }
}
