/**
 * A volume that this client has attached through a manager: the newest maps of its groups that are known to be decided, wherever
 * they were heard of, and which of them are in effect.
 *
 * Invariants: versions only rise. What this client decides and stores is of its own generation; a map of a later one ends the
 * right to write for good.
 */

import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import { type ReplicaMap, volumeOf } from '../layout/replica-map.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { Generation, GroupIndex, MapVersion } from '../ports/ids.js';

/** What a map that was heard of means to its holder. */
export type Heard = 'known' | 'newer' | 'superseded';

export class HeldVolume {
  readonly id: string;
  readonly holder: string;
  readonly generation: Generation;
  /** Who has attached it since; null while nobody has. */
  successor: ReplicaMap | null = null;
  /** Why nothing more is decided for it; empty while something is. */
  ended = '';
  /** Its attach is in effect. */
  attached = false;
  /** Resolves when the manager has heard, or could not be told, which members have answered. */
  told: Promise<unknown> = Promise.resolve();
  private readonly decided: ReplicaMap[];
  /** By group: the version that was brought into effect last. */
  private readonly effective: MapVersion[];

  /** `decided`: the maps of its attach, one for each group, in their order. */
  constructor(decided: readonly ReplicaMap[]) {
    const { id, generation, holder } = volumeOf(decided);
    this.id = id;
    this.holder = holder;
    this.generation = generation;
    this.decided = [...decided];
    this.effective = decided.map(() => 0);
  }

  get groups(): number {
    return this.decided.length;
  }

  /** The newest map of a group. */
  newest(group: GroupIndex): ReplicaMap {
    const map = this.decided[group];
    check(map !== undefined && map.group === group, 'a volume has no map of one of its groups', group);
    return map;
  }

  /** The newest maps of all groups, as they were decided. */
  get maps(): readonly ReplicaMap[] {
    return this.decided;
  }

  /** The same, as the engine works with them. */
  get map(): VolumeMap {
    return volumeOf(this.decided);
  }

  /** Groups whose newest map is not in effect. */
  get pending(): readonly GroupIndex[] {
    return this.decided.flatMap(({ mapVersion }, group) => (mapVersion > this.effective[group] ? [group] : []));
  }

  noteEffective(group: GroupIndex, version: MapVersion): void {
    check(version <= this.newest(group).mapVersion, 'a map is in effect that was not decided', version);
    this.effective[group] = Math.max(this.effective[group], version);
  }

  /** Takes note of a decided map of this volume. */
  hear(map: ReplicaMap): Heard {
    check(map.volume.id === this.id, 'a volume hears of the map of another', map.group);
    if (map.generation > this.generation || (map.generation === this.generation && map.holder !== this.holder)) {
      this.successor ??= map;
      return 'superseded';
    }
    if (map.generation < this.generation || map.mapVersion <= this.newest(map.group).mapVersion) return 'known';
    check(map.groups === this.groups, 'a map tells of other groups than the volume was attached with', map.groups);
    this.decided[map.group] = map;
    return 'newer';
  }

  /** Throws `ERR_STRAKE_UNAVAILABLE` if somebody else has attached it, and `ERR_STRAKE_CLOSED` if it has been given up. */
  demandHeld(): void {
    const { successor, ended } = this;
    if (successor !== null) throw supersededError(successor);
    if (ended !== '') throw new StrakeError('CLOSED', ended);
  }
}

/** The error of whoever has lost the right to write. */
export function supersededError({ volume, holder, generation }: ReplicaMap): StrakeError {
  const what = `client ${holder} has attached volume ${volume.name} (generation ${generation})`;
  return new StrakeError('UNAVAILABLE', `${what}: this one has no right to write any more`, {
    remedy: 'Use the volume where it is attached now, or attach it here with --take-over.',
  });
}
