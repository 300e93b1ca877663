/** A replica that a session has open, and all of them by what requests say: volume, group, and index of the member in its map. */

import { check } from '../core/check.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Generation } from '../ports/ids.js';
import { type Frame, VolumeWords } from '../wire/frame.js';
import type { Role } from '../wire/ticket.js';
import type { ReplicaAccess } from './access-check.js';
import type { DeviceMember } from './device-member.js';
import type { GateWatcher, ReplicaGate } from './replica-gate.js';

export interface OpenReplicaParts {
  readonly completions: CompletionPort;
  readonly session: ReplicaSession;
  readonly gate: ReplicaGate;
  /** Of the member in its map. */
  readonly index: number;
  readonly role: Role;
}

/** The session that has a replica open. */
export interface ReplicaSession {
  /** The replica has another map, which is durable. */
  mapChanged(replica: OpenReplica, map: ReplicaMap): void;
}

export class OpenReplica implements ReplicaAccess, GateWatcher {
  readonly words = new VolumeWords();
  readonly gate: ReplicaGate;
  readonly index: number;
  readonly role: Role;
  /** Under which it was opened. */
  private readonly generation: Generation;
  readonly member: DeviceMember;
  readonly incarnation: number;
  /** Number of the last change on its session: that it was opened, or that its map became this one. */
  changedAt = 0;
  toldVersion = 0;
  private readonly session: ReplicaSession;
  /** Requests that it carries out for its session. */
  private running = 0;
  private closed = false;

  constructor({ completions, session, gate, index, role }: OpenReplicaParts) {
    const { device, page } = gate;
    check(page >= 0, 'a replica is opened that its device does not know', index);
    this.words.set(gate.volumeId);
    this.session = session;
    this.gate = gate;
    this.index = index;
    this.role = role;
    this.generation = gate.map?.generation ?? 0;
    this.member = device.directMember(completions, page);
    this.incarnation = device.incarnation;
    gate.watch(this);
  }

  get mapVersion(): number {
    return this.gate.mapVersion;
  }

  mapStored(map: ReplicaMap): void {
    this.session.mapChanged(this, map);
  }

  get current(): boolean {
    const { map } = this.gate;
    return map?.generation === this.generation && !map.volume.deleted;
  }

  get answered(): boolean {
    return this.gate.answered;
  }

  get readable(): boolean {
    return this.gate.isReadable;
  }

  /** Whether requests with such an address are for it. */
  isMeant({ volume, group, member }: Pick<Frame, 'volume' | 'group' | 'member'>): boolean {
    return this.index === member && this.gate.group === group && this.words.equals(volume);
  }

  get storing(): boolean {
    return this.gate.storing;
  }

  enter(): void {
    check(!this.closed, 'something is asked of a replica that is closed', this.index);
    this.gate.enter();
    this.running += 1;
  }

  leave(): void {
    this.gate.leave();
    this.running -= 1;
    check(this.running >= 0, 'more requests end in a session than were begun', this.running);
    this.closeIfIdle();
  }

  /** No request for it is taken any more; those that are being carried out end. */
  close(): void {
    check(!this.closed, 'a replica of a session is closed twice', this.index);
    this.closed = true;
    this.gate.unwatch(this);
    this.closeIfIdle();
  }

  private closeIfIdle(): void {
    if (this.closed && this.running === 0) this.member.close();
  }
}

/** The replicas of a session. */
export class OpenReplicas {
  private readonly byHash = new Map<number, OpenReplica[]>();
  private last: OpenReplica | null = null;
  size = 0;

  /** The one that a request is for; null if it is not open. */
  find(frame: Pick<Frame, 'volume' | 'group' | 'member'>): OpenReplica | null {
    if (this.last?.isMeant(frame)) return this.last;
    const found = this.byHash.get(hashOf(frame))?.find((replica) => replica.isMeant(frame)) ?? null;
    if (found !== null) this.last = found;
    return found;
  }

  /** Adds one, in the place of another that requests would have been for. */
  add(replica: OpenReplica): void {
    const address = { volume: replica.words, group: replica.gate.group, member: replica.index };
    this.remove(address);
    const hash = hashOf(address);
    this.byHash.set(hash, [...(this.byHash.get(hash) ?? []), replica]);
    this.size += 1;
  }

  /** The one that stands behind a gate; null if none does. */
  behind(gate: ReplicaGate): OpenReplica | null {
    for (const replica of this.values()) if (replica.gate === gate) return replica;
    return null;
  }

  /** Closes one, if it is open. */
  remove(frame: Pick<Frame, 'volume' | 'group' | 'member'>): void {
    const found = this.find(frame);
    if (found === null) return;
    const hash = hashOf(frame);
    const others = (this.byHash.get(hash) ?? []).filter((replica) => replica !== found);
    if (others.length === 0) this.byHash.delete(hash);
    else this.byHash.set(hash, others);
    this.last = null;
    this.size -= 1;
    check(this.size >= 0, 'a session has closed more than it had open', this.size);
    found.close();
  }

  *values(): Iterable<OpenReplica> {
    for (const replicas of this.byHash.values()) yield* replicas;
  }

  /** Closes all. */
  clear(): void {
    const all = [...this.values()];
    this.byHash.clear();
    this.last = null;
    this.size = 0;
    for (const replica of all) replica.close();
  }
}

function hashOf({ volume, group, member }: Pick<Frame, 'volume' | 'group' | 'member'>): number {
  return (volume.word3 ^ Math.imul(group, 0x9e37_79b1) ^ (member << 24)) >>> 0;
}
