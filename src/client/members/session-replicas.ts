/**
 * The replicas that a session has open at its node: how they are opened, and under which maps they are asked.
 *
 * A request goes under the map that was stored there last by this session. One that meets a newer map ends with `-ESTALE`, and
 * nothing has been done for it; who has brought that map is for others to find out, who are told of it before.
 */

import { check } from '../../core/check.js';
import { EIO, ESTALE } from '../../core/errno.js';
import { isManaged, type ReplicaMap } from '../../layout/replica-map.js';
import { STATUS_ERRNO_MAX } from '../../wire/limits.js';
import { STATUS_OK, STATUS_STALE_MAP } from '../../wire/messages.js';
import type { Role } from '../../wire/ticket.js';
import type { ControlAnswer, ControlCall } from './asked.js';
import { addressOf, closeCall, type Opening, openCall, openedAs, storeMapCall } from './node-calls.js';
import { LeaseBook } from './read-lease.js';
import { type MemberSession, RemoteMember } from './remote-member.js';
import type { SessionService, SessionServiceParts } from './session-service.js';

/** What the session does for its replicas. */
export interface ReplicaSession {
  /** `first`: while replicas are opened again, which others wait for. */
  call(control: Omit<ControlCall, 'resolve'>, first?: boolean): Promise<ControlAnswer>;
  failed(): boolean;
  /** Whether replicas are being opened again on a new connection. */
  reopening(): boolean;
  /** Gives the node up. */
  fail(reason: string): void;
  /** The node has told of newer maps than what was asked for came under. */
  onMaps(maps: readonly ReplicaMap[]): void;
  /** Asks for leases, as soon as what it has asked for before is answered. */
  askLeases(): void;
}

export class SessionReplicas {
  private readonly parts: SessionServiceParts;
  private readonly session: ReplicaSession;
  readonly leases: LeaseBook;
  private readonly members = new Set<RemoteMember>();
  /** Of the node's process, by the name that it has in one life; empty until it is known. */
  private life = '';

  constructor({ parts, time }: SessionService, session: ReplicaSession) {
    this.parts = parts;
    this.session = session;
    this.leases = new LeaseBook(time);
  }

  /** Whether a process of this name is the one in which replicas have been opened; the first is. */
  isOf(life: string): boolean {
    if (this.life === '') this.life = life;
    return this.life === life;
  }

  /** Opens all again on a new connection, as the same ones. */
  async reopenAll(): Promise<void> {
    await Promise.all([...this.members].map((member) => this.reopen(member, member.map)));
  }

  /** `map`: the newest that is known of its group. */
  private async reopen(member: RemoteMember, map: ReplicaMap): Promise<void> {
    const { session } = this;
    const call = { ...openCall(this.parts, () => latest(member, map), member.index, member.role), once: true };
    const { status, payload, incarnation, maps } = await session.call(call, true);
    // A connection that has broken meanwhile says nothing of the member; the next one does.
    if (status === EIO && !session.reopening()) return;
    if (status === STATUS_STALE_MAP && isManaged(map)) {
      session.onMaps(maps);
      const newer = maps.find((one) => goesOn(member, map, one));
      // Requests go on under the map that the engine has, and end: it takes the newer one and asks again.
      if (newer !== undefined) return this.reopen(member, newer);
    }
    if (status !== STATUS_OK || payload === null) {
      this.drop(member, `its node does not open it again (status ${status})`);
    } else if (incarnation !== member.incarnation || typeof openedAs(payload, member.map, member.index) === 'string') {
      this.drop(member, 'its device was opened anew meanwhile');
    } else member.renew(this.leases.of(addressOf(member.map, member.index)));
  }

  drop(member: RemoteMember, reason: string): void {
    check(reason !== '', 'a member fails without a reason', member.index);
    member.fail(reason);
    this.members.delete(member);
  }

  dropAll(reason: string): void {
    this.leases.end();
    for (const member of [...this.members]) this.drop(member, reason);
  }

  /** Opens a replica under a map that its node has answered. */
  async open(owner: MemberSession, map: ReplicaMap, index: number, role: Role): Promise<Opening> {
    const { session } = this;
    const { status, payload, maps } = await session.call(openCall(this.parts, () => map, index, role));
    if (status !== STATUS_OK || payload === null || session.failed()) return { member: null, status, maps };
    const opened = openedAs(payload, map, index);
    if (typeof opened === 'string') {
      session.fail(opened);
      return { member: null, status: EIO, maps };
    }
    const lease = this.leases.of(addressOf(map, index));
    const member = new RemoteMember({ session: owner, life: this.life, map, index, role, lease }, opened);
    // Whoever only looks once does not need it on another connection.
    if (role !== 'reader' || isManaged(map)) this.members.add(member);
    if (isManaged(map)) session.askLeases();
    return { member, status, maps };
  }

  /**
   * Hands a map on to the member at an index; resolves when the node has answered it, to 0 or a negative errno: `-ESTALE` if it
   * has a newer one, of which has been told.
   */
  async storeMap(map: ReplicaMap, index: number): Promise<number> {
    // What is sent behind it is asked for under this map.
    const { status, maps } = await this.session.call(storeMapCall(map, index, () => this.noteMap(map, index)));
    if (status === STATUS_STALE_MAP) {
      this.session.onMaps(maps);
      return -ESTALE;
    }
    // Under the map that is answered now.
    if (isManaged(map)) this.session.askLeases();
    return status > STATUS_ERRNO_MAX ? -EIO : -status;
  }

  private noteMap(map: ReplicaMap, index: number): void {
    for (const member of this.members) {
      const same = member.map.volume.id === map.volume.id && member.group === map.group && member.index === index;
      if (!same || !goesOn(member, member.map, map)) continue;
      check(map.mapVersion > member.map.mapVersion, 'a member is asked under an earlier map', map.mapVersion);
      member.map = map;
    }
  }

  close(member: RemoteMember): void {
    this.members.delete(member);
    // Before its node hears that the lease is given back.
    this.leases.close(addressOf(member.map, member.index));
    if (!this.session.failed()) void this.session.call(closeCall(member.map, member.index));
  }
}

/** Whether a member that was opened under one map is asked under a later one by the same engine. */
function goesOn({ index, deviceId, role }: RemoteMember, map: ReplicaMap, later: ReplicaMap): boolean {
  if (later.mapVersion <= map.mapVersion || later.group !== map.group || later.volume.id !== map.volume.id)
    return false;
  if (!isManaged(later)) return true;
  // Under another generation another engine asks, though it may be one of this process. Who only reads has no generation.
  const same = role === 'reader' || later.generation === map.generation;
  return same && later.members[index]?.deviceId === deviceId;
}

/** The engine may have taken a map meanwhile that is newer than the one that its node has told. */
function latest({ map }: RemoteMember, told: ReplicaMap): ReplicaMap {
  check(told.volume.id === map.volume.id && told.group === map.group, 'a replica has the map of another', map.group);
  return map.mapVersion > told.mapVersion ? map : told;
}
