/**
 * A volume of a cluster that this node only reads: the newest maps of its groups that members have, and what serves their
 * replicas.
 *
 * ```text
 *   members tell of a map ──┐
 *   a device comes, or goes ┴─► each member in-sync is opened as reader ─┬─ all are ─► nothing more to do
 *                                    ▲                                   └─ some are not ─┐
 *                                    └──────────── a while later, perhaps at other nodes ◄┘
 * ```
 *
 * A map counts when a member has it, and not when a manager has decided it: until then whoever holds the volume works on under
 * the one before, and nothing is handed on from here. So a client that attaches and goes away disturbs no reader.
 *
 * Fault model: members and managers come and go; maps come in any order, and some never.
 */

import type { VolumeReader } from '../client/reader/volume-reader.js';
import type { VolumeEvent } from '../client/volume-events.js';
import { check } from '../core/check.js';
import { StrakeError } from '../core/errors.js';
import { isManaged, type ReplicaMap, volumeOf } from '../layout/replica-map.js';
import type { NodeDevice, ReaderMember } from '../node/node-device.js';
import type { CompletionPort } from '../ports/completion.js';
import { FENCE_ALL } from '../ports/device.js';
import type { GroupIndex } from '../ports/ids.js';
import type { DevicePlace } from '../ports/manager.js';

export interface FollowedVolumeParts {
  readonly completions: CompletionPort;
  /** The devices that can be reached, in this process and in others. */
  readonly devices: ReadonlyMap<string, NodeDevice>;
  /** Makes what reads. */
  readonly newReader: (options: FollowedReader) => VolumeReader;
  /** The newest decided maps, and where the devices are that they name. Rejects with a `StrakeError`. */
  readonly fetch: () => Promise<{ readonly devices: readonly DevicePlace[] }>;
  /** Tries to reach these devices; resolves when that has come to something. */
  readonly reach: (places: readonly DevicePlace[]) => Promise<void>;
  /** Resolves after a while, for what is tried again; rejects when the node is at its end. */
  readonly pause: () => Promise<void>;
  readonly onEvent: (event: VolumeEvent) => void;
}

/** What a reader begins with. */
export type FollowedReader = Pick<
  ConstructorParameters<typeof VolumeReader>[0],
  'record' | 'members' | 'onGone' | 'onEvent'
>;

/** How often all is tried before a volume that cannot be read is given up. */
const BEGIN_ROUNDS = 20;

export class FollowedVolume {
  readonly id: string;
  private readonly parts: FollowedVolumeParts;
  /** By group. */
  private readonly maps: ReplicaMap[];
  /** By group and place in the map. */
  private readonly members: (ReaderMember | null)[][];
  private reader: VolumeReader | null = null;
  /** Something has changed since all members were looked at. */
  private changed = true;
  private following: Promise<void> | null = null;
  /** Ends the pause that is being made; null while none is. */
  private endPause: (() => void) | null = null;
  private ended = false;
  /** Why it cannot be read now; empty if nothing stands against it. */
  private trouble: string[] = [];

  /** `maps`: those that a manager has decided, which members need not have yet. */
  constructor(parts: FollowedVolumeParts, maps: readonly ReplicaMap[]) {
    check(maps.length > 0, 'a volume is followed that has no groups', maps.length);
    this.parts = parts;
    this.id = maps[0].volume.id;
    this.maps = [...maps];
    this.members = maps.map(({ members }) => members.map(() => null));
  }

  /** Opens the members, and reads. Rejects with `ERR_STRAKE_UNAVAILABLE`, which says why, if it cannot be read. */
  async begin(places: readonly DevicePlace[]): Promise<VolumeReader> {
    check(this.reader === null && !this.ended, 'a volume begins to be read a second time', this.maps.length);
    await this.parts.reach(places);
    for (let round = 0; ; ) {
      await this.look();
      if (this.trouble.length === 0 && this.mayRead()) break;
      if (round === BEGIN_ROUNDS || this.deleted) throw this.unavailable();
      const paused = this.parts.pause().then(() => 1);
      round += await Promise.race([paused, this.leased().then(() => 0)]);
    }
    const reader = this.parts.newReader({
      record: volumeOf(this.maps),
      members: this.members,
      onGone: () => this.poke(),
      onEvent: this.parts.onEvent,
    });
    this.reader = reader;
    this.poke();
    return reader;
  }

  private get deleted(): boolean {
    return this.maps.some(({ volume }) => volume.deleted);
  }

  private unavailable(): StrakeError {
    const { volume, generation } = this.maps[0];
    if (volume.deleted) return new StrakeError('NO_VOLUME', `volume ${volume.name} is deleted`);
    const why =
      this.trouble.length > 0
        ? this.trouble.join('; ')
        : `its copies have not been made equal under generation ${generation}`;
    return new StrakeError('UNAVAILABLE', `volume ${volume.name} cannot be read: ${why}`, {
      remedy: 'Bring its members back; if its writer has died, attach it once: strake volume export NAME.',
    });
  }

  private mayRead(): boolean {
    return this.maps.every(({ mapVersion, members }, group) =>
      members.every(
        ({ state }, place) => state !== 'in-sync' || this.members[group][place]?.mayRead(mapVersion) === true,
      ),
    );
  }

  /** Resolves when members that are open may have given a lease. */
  private leased(): Promise<void> {
    return new Promise((resolve) => {
      for (const member of this.members.flat()) member?.whenLeased({ leased: resolve });
    });
  }

  /** Maps that members have, proven by the key of the cluster. */
  heard(maps: readonly ReplicaMap[]): void {
    for (const map of maps) {
      if (map.volume.id !== this.id || !isManaged(map)) continue;
      const known = this.maps[map.group];
      check(known === undefined || known.group === map.group, 'a map is known as that of another group', map.group);
      if (known === undefined || map.mapVersion <= known.mapVersion) continue;
      this.maps[map.group] = map;
      this.endPause?.();
      this.poke();
    }
  }

  /** Members may have come or gone, or have other maps. */
  poke(): void {
    this.changed = true;
    if (this.reader === null || this.ended) return;
    this.following ??= this.follow().finally(() => {
      this.following = null;
      if (this.changed) this.poke();
    });
  }

  private async follow(): Promise<void> {
    while (this.changed && !this.ended) {
      const maps = [...this.maps];
      const hasNews = () => this.maps.some((map, group) => map !== maps[group]);
      await this.look();
      if (this.deleted) this.reader?.stop('it has been deleted');
      if (this.trouble.length === 0) continue;
      this.changed = true;
      // A newer map may do without what is missing: nothing is read before it is followed.
      if (hasNews()) continue;
      if (!(await this.paused())) return;
      if (!hasNews()) await this.reachOthers();
    }
  }

  /** Resolves after a while, or with the next map that is heard of, to whether the node goes on. */
  private async paused(): Promise<boolean> {
    const news = new Promise<void>((resolve) => {
      this.endPause = resolve;
    });
    try {
      await Promise.race([this.parts.pause(), news]);
    } catch (error) {
      if (!(error instanceof StrakeError)) throw error;
      this.ended = true;
    }
    this.endPause = null;
    return !this.ended;
  }

  /** Devices may be at other nodes by now. What no manager tells is tried again. */
  private async reachOthers(): Promise<void> {
    const missing = (id: string) => this.parts.devices.get(id)?.failed !== false;
    if (!this.inSync().some(missing)) return;
    try {
      const { devices } = await this.parts.fetch();
      await this.parts.reach(devices.filter(({ deviceId }) => missing(deviceId)));
    } catch (error) {
      if (!(error instanceof StrakeError)) throw error;
    }
  }

  private inSync(): string[] {
    return this.maps.flatMap(({ members }) =>
      members.filter(({ state }) => state === 'in-sync').map(({ deviceId }) => deviceId),
    );
  }

  /** Opens members that are in-sync and are not open, and lets the reader go on with what is known then. */
  private async look(): Promise<void> {
    this.changed = false;
    this.trouble = [];
    await Promise.all(this.maps.map((_, group) => this.lookAt(group)));
    if (!this.ended) this.reader?.follow(volumeOf(this.maps), this.members);
  }

  private async lookAt(group: GroupIndex): Promise<void> {
    const map = this.maps[group];
    const members = this.members[group];
    while (members.length < map.members.length) members.push(null);
    for (const member of members.splice(map.members.length)) member?.close();
    check(members.length === map.members.length, 'a group has more members than its map', members.length);
    // Nobody is asked under the map before any more.
    for (const place of map.members.keys()) if (!this.goesOn(map, place)) this.drop(group, place);
    this.reader?.follow(volumeOf(this.maps), this.members);
    await Promise.all(map.members.map((_, place) => this.open(map, place)));
  }

  /** Whether a member that is open serves under a map. */
  private goesOn(map: ReplicaMap, place: number): boolean {
    const member = this.members[map.group][place];
    const { deviceId, state } = map.members[place];
    if (member === null || state !== 'in-sync' || member.deviceId !== deviceId) return false;
    const device = this.parts.devices.get(deviceId);
    return device?.failed === false && member.fence() !== FENCE_ALL && member.follow(map);
  }

  private drop(group: GroupIndex, place: number): void {
    this.members[group][place]?.close();
    this.members[group][place] = null;
  }

  private async open(map: ReplicaMap, place: number): Promise<void> {
    const { group } = map;
    const { deviceId, state } = map.members[place];
    if (state !== 'in-sync' || this.members[group][place] !== null) return;
    const device = this.parts.devices.get(deviceId);
    if (device === undefined || device.failed) {
      this.trouble.push(`device ${deviceId} cannot be reached`);
      return;
    }
    const { member, maps } = await device.openReader(this.parts.completions, map);
    if (this.ended || this.maps[group] !== map || this.parts.devices.get(deviceId) !== device) {
      member?.close();
      this.changed = true;
      return;
    }
    if (member !== null) {
      check(this.members[group][place] === null, 'a member is opened in the place of another', place);
      this.members[group][place] = member;
      return;
    }
    this.trouble.push(`device ${deviceId} has not answered map ${map.mapVersion} of group ${group}`);
    this.heard(maps);
    if (this.maps[group] === map) this.goBack(map, maps);
  }

  /** At first a map is known that was decided, and that members need not have: theirs counts. */
  private goBack(map: ReplicaMap, maps: readonly ReplicaMap[]): void {
    const { group } = map;
    if (this.reader !== null || this.members[group].some((member) => member !== null)) return;
    const theirs = maps.find((one) => one.volume.id === this.id && one.group === group && isManaged(one));
    if (theirs === undefined || theirs.mapVersion >= map.mapVersion) return;
    this.maps[group] = theirs;
    this.changed = true;
  }

  /** Reads no more; resolves when nothing is in flight. */
  async close(): Promise<void> {
    this.ended = true;
    await this.following;
    await this.reader?.close();
    for (const [group, members] of this.members.entries()) for (const place of members.keys()) this.drop(group, place);
  }
}
