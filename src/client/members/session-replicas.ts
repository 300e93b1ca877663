/**
 * The replicas that a session has open at its node: how they are opened, and under which maps they are asked.
 *
 * A request goes under the map that was stored there last by this session. One that meets a newer map ends with `-ESTALE`, and
 * nothing has been done for it; who has brought that map is for others to find out, who are told of it before.
 */

import { check } from '../../core/check.js';
import { EIO, ESTALE } from '../../core/errno.js';
import type { ReplicaMap } from '../../layout/replica-map.js';
import { decodeControl } from '../../wire/control.js';
import { STATUS_ERRNO_MAX } from '../../wire/limits.js';
import { STATUS_OK, STATUS_STALE_MAP } from '../../wire/messages.js';
import type { Role } from '../../wire/ticket.js';
import type { ControlAnswer, ControlCall } from './asked.js';
import { closeCall, type Opening, openCall, storeMapCall } from './node-calls.js';
import { type MemberSession, RemoteMember } from './remote-member.js';
import type { SessionServiceParts } from './session-service.js';

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
}

export class SessionReplicas {
  private readonly parts: SessionServiceParts;
  private readonly session: ReplicaSession;
  private readonly members = new Set<RemoteMember>();

  constructor(parts: SessionServiceParts, session: ReplicaSession) {
    this.parts = parts;
    this.session = session;
  }

  get size(): number {
    return this.members.size;
  }

  /** Opens all again on a new connection, as the same ones. */
  async reopenAll(): Promise<void> {
    await Promise.all([...this.members].map((member) => this.reopen(member)));
  }

  private async reopen(member: RemoteMember): Promise<void> {
    const call = { ...openCall(this.parts, () => member.map, member.index, 'writer'), once: true };
    const { status, payload, incarnation } = await this.session.call(call, true);
    // A connection that has broken meanwhile says nothing of the member; the next one does.
    if (status === EIO && !this.session.reopening()) return;
    if (status !== STATUS_OK || payload === null) {
      this.drop(member, `its node does not open it again (status ${status})`);
    } else if (incarnation !== member.incarnation) {
      this.drop(member, 'its device was opened anew meanwhile');
    }
  }

  drop(member: RemoteMember, reason: string): void {
    check(reason !== '', 'a member fails without a reason', member.index);
    member.fail(reason);
    this.members.delete(member);
  }

  dropAll(reason: string): void {
    for (const member of [...this.members]) this.drop(member, reason);
  }

  /** Opens a replica under a map that its node has answered. */
  async open(owner: MemberSession, map: ReplicaMap, index: number, role: Role): Promise<Opening> {
    const { session } = this;
    const { status, payload, maps } = await session.call(openCall(this.parts, () => map, index, role));
    if (status !== STATUS_OK || payload === null || session.failed()) return { member: null, status, maps };
    const opened = decodeControl('opened', payload);
    if (opened.deviceId !== map.members[index]?.deviceId) {
      session.fail(`it opens device ${opened.deviceId} in place of member ${index} of ${map.volume.name}`);
      return { member: null, status: EIO, maps };
    }
    check(opened.incarnation > 0, 'a replica is opened on a device that was never opened', index);
    const member = new RemoteMember(owner, map, index, opened);
    if (role !== 'reader') this.members.add(member);
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
    return status > STATUS_ERRNO_MAX ? -EIO : -status;
  }

  private noteMap(map: ReplicaMap, index: number): void {
    for (const member of this.members) {
      const same = member.map.volume.id === map.volume.id && member.group === map.group && member.index === index;
      if (same && member.map.mapVersion < map.mapVersion) member.map = map;
    }
  }

  close(member: RemoteMember): void {
    this.members.delete(member);
    if (!this.session.failed()) void this.session.call(closeCall(member.map, member.index));
  }
}
