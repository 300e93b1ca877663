/**
 * A member of a volume whose store is in another process: what is asked of it goes by the session with its node, under the map
 * that the node has answered.
 *
 * It fails once, for good: with its session, or when the node says that the replica is not what it was. From then on
 * everything that is asked of it ends with `-EIO`. A device that comes back is another member.
 */

import { check } from '../../core/check.js';
import type { FlushId } from '../../layout/flush-id.js';
import { isManaged, type ReplicaMap } from '../../layout/replica-map.js';
import { FENCE_ALL, FENCE_OPEN } from '../../ports/device.js';
import type { Generation, MapVersion } from '../../ports/ids.js';
import type { SegmentList } from '../../ports/segment-list.js';
import type { LeaseWaiter, SegmentMember } from '../../ports/segment-member.js';
import type { SegmentRequest } from '../../ports/segment-request.js';
import type { OpenedFields } from '../../wire/control.js';
import { VolumeWords } from '../../wire/frame.js';
import type { Answer } from '../../wire/reply-codec.js';
import type { ReplicaAddress } from '../../wire/request-codec.js';
import type { Role } from '../../wire/ticket.js';
import type { ReadLease } from './read-lease.js';

/** The session with its node, as a member uses it. */
export interface MemberSession {
  /** What has been asked for and not answered. */
  readonly outstanding: number;
  submit(member: RemoteMember, request: SegmentRequest): void;
  list(member: RemoteMember, page: SegmentList): void;
  closeReplica(member: RemoteMember): void;
}

export interface RemoteMemberParts {
  readonly session: MemberSession;
  /** Of the node's process. */
  readonly life: string;
  readonly map: ReplicaMap;
  /** Of the member in the map. */
  readonly index: number;
  readonly role: Role;
  readonly lease: ReadLease;
}

export class RemoteMember implements SegmentMember {
  readonly deviceId: string;
  readonly segmentBytes: number;
  readonly incarnation: number;
  readonly life: string;
  readonly flushed: FlushId;
  readonly settled: FlushId | null;
  readonly stampMax: { readonly low: number; readonly high: number };
  readonly wantsSums = true;
  /** The newest generation that was served, as its device knew it. */
  readonly servedGeneration: Generation;
  /** Index in the map of its group. */
  readonly index: number;
  readonly role: Role;
  /** Under which requests are sent. */
  map: ReplicaMap;
  /** That of the replica on the present connection. */
  private lease: ReadLease;
  /** Why it has failed; empty while it has not. */
  reason = '';
  private readonly session: MemberSession;
  private readonly words = new VolumeWords();
  private fenced = FENCE_OPEN;

  constructor({ session, life, map, index, role, lease }: RemoteMemberParts, opened: OpenedFields) {
    check(
      opened.deviceId === map.members[index]?.deviceId,
      'a member is made over another device than its map names',
      index,
    );
    this.session = session;
    this.map = map;
    this.index = index;
    this.role = role;
    this.lease = lease;
    this.words.set(map.volume.id);
    this.deviceId = opened.deviceId;
    this.segmentBytes = opened.segmentBytes;
    this.incarnation = opened.incarnation;
    this.life = life;
    this.flushed = opened.flushed;
    this.settled = opened.settled.generation === 0 ? null : opened.settled;
    this.stampMax = opened.stampMax;
    this.servedGeneration = opened.servedGeneration;
  }

  get group(): number {
    return this.map.group;
  }

  /** What has been asked of its node, whichever member it is for. */
  get outstanding(): number {
    return this.session.outstanding;
  }

  get failed(): boolean {
    return this.reason !== '';
  }

  fence(): number {
    return this.failed ? FENCE_ALL : this.fenced;
  }

  submit(request: SegmentRequest): void {
    this.session.submit(this, request);
  }

  list(page: SegmentList): void {
    this.session.list(this, page);
  }

  /** Which replica requests are for. */
  put(address: ReplicaAddress): void {
    check(!this.failed, 'a request goes to a member that has failed', this.index);
    check(this.map.members[this.index]?.deviceId === this.deviceId, 'a member is another one in its map', this.index);
    address.volume.copy(this.words);
    address.group = this.map.group;
    address.member = this.index;
    address.mapVersion = this.map.mapVersion;
    address.incarnation = this.incarnation;
    address.clusterEpoch = 0;
    address.class = 0;
  }

  /**
   * Asks under a later map of its group from now on, for an engine that only reads, whatever generation that is of. Returns
   * whether it can: the member has the same place there.
   */
  follow(map: ReplicaMap): boolean {
    check(this.role === 'reader', 'a member follows a map for an engine that writes', this.index);
    check(
      map.volume.id === this.map.volume.id && map.group === this.group,
      'a member follows the map of another',
      map.group,
    );
    if (this.failed || map.members[this.index]?.deviceId !== this.deviceId) return false;
    if (map.mapVersion > this.map.mapVersion) this.map = map;
    return true;
  }

  /** What an answer tells of the device. */
  told({ fence }: Answer): void {
    if (fence > this.fenced && fence <= FENCE_ALL) this.fenced = fence;
  }

  mayRead(mapVersion: MapVersion): boolean {
    return !isManaged(this.map) || (!this.failed && this.lease.holds(mapVersion));
  }

  /** It has been opened on another connection. */
  renew(lease: ReadLease): void {
    check(lease.volumeId === this.map.volume.id && lease.group === this.group, 'a member has the lease of another');
    lease.follow(this.lease);
    this.lease = lease;
  }

  whenLeased(waiter: LeaseWaiter): void {
    this.lease.wait(waiter);
  }

  fail(reason: string): void {
    if (!this.failed) this.reason = reason;
  }

  /** Nothing more is asked of it. */
  close(): void {
    this.session.closeReplica(this);
  }
}
