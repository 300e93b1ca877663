/**
 * A device of another node, for as long as one session with that node lasts: what is known of its maps, and how it gets others.
 *
 * Of what it has only the groups are known that this node has asked for, which are those that its own devices have a map of. A
 * replica is opened when its map has been stored, so that what serves it is there when an engine asks for it.
 */

import type { NodeSession } from '../client/members/node-session.js';
import type { RemoteMember } from '../client/members/remote-member.js';
import { check } from '../core/check.js';
import { EINVAL, EIO, ESTALE } from '../core/errno.js';
import { StrakeError } from '../core/errors.js';
import type { ReplicaPage } from '../core/ids.js';
import { type ReplicaMap, type ReplicaOwn, replicaOf } from '../layout/replica-map.js';
import type { VolumeMap } from '../layout/volume-map.js';
import type { NodeDevice, ReaderOpening } from '../node/node-device.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Generation, GroupIndex } from '../ports/ids.js';
import type { DeviceState } from '../wire/control.js';
import { STATUS_NEED_MAP, STATUS_NOT_YET, STATUS_STALE_MAP } from '../wire/messages.js';

export interface RemoteDeviceParts {
  readonly session: NodeSession;
  readonly clusterId: string;
  /** This node, by which maps call it as the holder of a generation. */
  readonly clientId: string;
  /** For people: where its node is. */
  readonly where: string;
  readonly state: DeviceState;
  readonly order: number;
}

/** A device of another node, as plain data. */
export interface RemoteDeviceStatus {
  readonly deviceId: string;
  /** Where its node is, and its id. */
  readonly path: string;
  /** `lost`: it does not take what it is asked for, and is about to be parted with. */
  readonly state: 'ok' | 'lost';
  /** Counts how often it was opened. */
  readonly incarnation: number;
  readonly slotBytes: number;
  /** As its node told when it was taken. */
  readonly freeSlots: number;
}

export class RemoteDevice implements NodeDevice {
  readonly shard = -1;
  readonly path: string;
  readonly deviceId: string;
  readonly superblock: NodeDevice['superblock'];
  readonly order: number;
  readonly incarnation: number;
  readonly slotBytes: number;
  readonly freeSlots: number;
  readonly hasRoom = true;
  /** As many as the volumes region of any device has pages: it refuses those that it has no room for. */
  readonly replicasMax = 65_536;
  /** By number, which is of no meaning elsewhere. */
  readonly replicas: ReplicaMap[] = [];
  private readonly parts: RemoteDeviceParts;
  /** What serves replicas that have been opened and not been asked for, or are in use. */
  private readonly members = new Map<ReplicaPage, RemoteMember>();
  /** The openings that were begun last, by page. */
  private readonly openings = new Map<ReplicaPage, Promise<unknown>>();
  private lost = false;
  /** Groups that its node has been asked for. */
  private readonly looked = new Set<string>();

  constructor(parts: RemoteDeviceParts) {
    const { clusterId, where, state, order } = parts;
    const { deviceId, segmentBytes } = state;
    check(segmentBytes > 0, 'a device of another node has no size of chunks', order);
    this.parts = parts;
    this.path = `${where} (device ${deviceId})`;
    this.deviceId = deviceId;
    this.superblock = { deviceId, clusterId };
    this.order = order;
    this.incarnation = state.incarnation;
    this.slotBytes = segmentBytes;
    this.freeSlots = Math.floor(state.freeBytes / segmentBytes);
  }

  get failed(): boolean {
    return this.lost || this.parts.session.failed;
  }

  /** Why it is not any more what it was, from what its node says of it now; empty if it is. */
  endedBy(state: DeviceState | undefined): string {
    if (state === undefined) return 'its node has it no more';
    if (state.incarnation !== this.incarnation) return 'its node has opened it anew';
    if (state.health !== 'healthy') return `its node says that it is ${state.health}`;
    return this.lost ? 'it has not taken a map' : '';
  }

  replicasOf(volumeId: string): readonly ReplicaMap[] {
    return this.replicas.filter(({ volume }) => volume.id === volumeId);
  }

  knows(volumeId: string): boolean {
    return this.replicasOf(volumeId).length > 0;
  }

  knowsGroup(volumeId: string, group: GroupIndex): boolean {
    return this.pageOf(volumeId, group) >= 0;
  }

  pageOf(volumeId: string, group: GroupIndex): ReplicaPage {
    return this.replicas.findIndex((map) => map.volume.id === volumeId && map.group === group);
  }

  isGone(volumeId: string): boolean {
    return this.replicasOf(volumeId).every(({ volume }) => volume.deleted);
  }

  /** Its node counts them; here they are not known. */
  segmentsOf(): number {
    return 0;
  }

  private indexIn({ members }: ReplicaMap): number {
    return members.findIndex(({ deviceId }) => deviceId === this.deviceId);
  }

  /**
   * Asks what the device has of the groups that these maps say it is in, once of each. Resolves to whether there was anything.
   * Rejects with a `StrakeError`; then it is asked again the next time.
   */
  async learnAll(maps: readonly VolumeMap[]): Promise<boolean> {
    const before = this.replicas.length;
    for (const map of maps) {
      for (const [group, members] of map.groups.entries()) {
        const name = `${map.id} ${group}`;
        const named = members.some(({ deviceId }) => deviceId === this.deviceId);
        if (!named || this.looked.has(name) || this.knowsGroup(map.id, group)) continue;
        await this.learn(replicaOf(map, group));
        this.looked.add(name);
      }
    }
    return this.replicas.length > before;
  }

  /** Asks which map of a group the device has, of which `map` is known. Rejects with a `StrakeError`. */
  private async learn(map: ReplicaMap): Promise<void> {
    const { session } = this.parts;
    const index = this.indexIn(map);
    if (index < 0) return;
    const { member, status, maps } = await session.open(map, index, 'reader');
    member?.close();
    if (status === STATUS_STALE_MAP || status === STATUS_NEED_MAP) this.noteTold(map, maps);
    else if (member !== null || status === STATUS_NOT_YET) this.note(map);
    else {
      const what = `${this.path} does not say what it has of volume ${map.volume.name}`;
      throw new StrakeError('UNAVAILABLE', session.failed ? `${what}: ${session.reason}` : what);
    }
  }

  /** What its node says that it has; whoever that is may say anything. */
  private noteTold({ volume, group }: ReplicaMap, maps: readonly ReplicaMap[]): void {
    for (const one of maps) {
      const known = this.replicas[this.pageOf(one.volume.id, one.group)]?.mapVersion ?? 0;
      if (one.volume.id === volume.id && one.group === group && one.mapVersion >= known) this.note(one);
    }
  }

  private note(map: ReplicaMap): ReplicaPage {
    const page = this.pageOf(map.volume.id, map.group);
    if (page < 0) return this.replicas.push(map) - 1;
    check(this.replicas[page].mapVersion <= map.mapVersion, 'a device goes back to an earlier map', map.mapVersion);
    this.replicas[page] = map;
    return page;
  }

  async putReplica(
    map: ReplicaMap,
    own: Partial<Pick<ReplicaOwn, 'servedGeneration' | 'answered'>> = {},
  ): Promise<number> {
    check(map.mapVersion > 0, 'a map goes to another node that has no version', map.mapVersion);
    // It has noted that when it was told that the copies agree.
    if (own.servedGeneration !== undefined) return this.pageOf(map.volume.id, map.group);
    const index = this.indexIn(map);
    // What says that it has no part in a group is for others, and it has no page of it.
    if (index < 0) return -EINVAL;
    const result = await this.parts.session.storeMap(map, index);
    if (result < 0) {
      // Of a volume that nobody manages: another process decides about it as well.
      const forked = result === -ESTALE && map.authentication === undefined;
      if (result === -EIO || forked) this.lost = true;
      return result;
    }
    return this.openInTurn(map, index, this.note(map));
  }

  /** A replica that was opened twice at once would be another one for whoever has it of the first time. */
  private openInTurn(map: ReplicaMap, index: number, page: ReplicaPage): Promise<number> {
    const opened = (this.openings.get(page) ?? Promise.resolve()).then(() => this.openFor(map, index, page));
    this.openings.set(page, opened);
    return opened;
  }

  /** Opens a replica whose map says that this node may write, if it is not open. Resolves to its page, or a negative errno. */
  private async openFor(map: ReplicaMap, index: number, page: ReplicaPage): Promise<number> {
    const { session, clientId } = this.parts;
    check(this.replicas[page].group === map.group, 'a replica is opened in the place of another', page);
    if (map.volume.deleted || map.holder !== clientId || map.lease === 'released') return page;
    const open = this.members.get(page);
    if (open !== undefined && !open.failed && open.map.generation === map.generation) return page;
    const { member, status } = await session.open(map, index, 'writer');
    if (status === STATUS_STALE_MAP && map.authentication !== undefined) return -ESTALE;
    // In another life it is another device, which is found out when its node tells of it.
    if (member !== null && member.incarnation === this.incarnation) {
      check(member.deviceId === this.deviceId, 'a replica of another device is opened', page);
      this.members.set(page, member);
      return page;
    }
    member?.close();
    this.lost = true;
    return -EIO;
  }

  /**
   * Its map may have been stored there, and a newer one have kept it from being opened; what it was opened as under an earlier
   * generation was that engine's, and is closed.
   */
  serves(page: ReplicaPage, generation: Generation): boolean {
    const member = this.members.get(page);
    return member !== undefined && !member.failed && member.map.generation === generation;
  }

  servedOn(page: ReplicaPage): Generation {
    return this.member(null, page).servedGeneration;
  }

  /** What serves a replica that has been opened: its map names this node as the holder. */
  member(_completions: CompletionPort | null, page: ReplicaPage): RemoteMember {
    const member = this.members.get(page);
    check(member !== undefined, 'a replica of another node is used that was not opened', page);
    return member;
  }

  async openReader(_completions: CompletionPort, map: ReplicaMap): Promise<ReaderOpening> {
    const index = this.indexIn(map);
    if (index < 0 || this.failed) return { member: null, maps: [] };
    const { member, maps } = await this.parts.session.open(map, index, 'reader');
    if (member === null) return { member, maps };
    check(member.deviceId === this.deviceId, 'a replica of another device is opened to be read', index);
    // In another life it is another device, which is found out when its node tells of it.
    if (member.incarnation === this.incarnation && !this.failed) return { member, maps };
    member.close();
    return { member: null, maps };
  }

  /** Its node does that when it has stored that the volume is deleted. */
  async release(): Promise<void> {}

  /** Its node closes it. Here nothing is asked of it any more: `reason` says why. */
  async end(reason = 'the node is closed'): Promise<void> {
    this.lost = true;
    for (const member of this.members.values()) {
      if (member.failed) continue;
      member.close();
      member.fail(reason);
    }
    this.members.clear();
  }

  status(): null {
    return null;
  }

  /** What this node knows of it. */
  remoteStatus(): RemoteDeviceStatus {
    const { deviceId, path, incarnation, slotBytes, freeSlots } = this;
    return { deviceId, path, state: this.failed ? 'lost' : 'ok', incarnation, slotBytes, freeSlots };
  }
}
