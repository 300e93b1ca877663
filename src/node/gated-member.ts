/**
 * A replica of a managed volume, for an engine in the process that has its device: what the engine asks passes the gate of the
 * replica as what comes from other processes does, under the map that the engine works with.
 *
 * Fault model: another process stores a map here at any moment, by which this one may neither read nor write. What was asked
 * under an older map and has not been admitted then ends with `-ESTALE`; what had been admitted ends before that map is answered.
 */

import { check } from '../core/check.js';
import { EIO, ESTALE } from '../core/errno.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import type { CompletionPort } from '../ports/completion.js';
import type { Generation, MapVersion } from '../ports/ids.js';
import type { Memory } from '../ports/memory.js';
import type { SegmentList } from '../ports/segment-list.js';
import type { LeaseWaiter, SegmentMember } from '../ports/segment-member.js';
import { REQUEST_AGREED, type SegmentRequest } from '../ports/segment-request.js';
import { KIND_LIST, KIND_REQUEST, STATUS_NOT_YET, STATUS_OK } from '../wire/messages.js';
import type { Role } from '../wire/ticket.js';
import { admission, type ReplicaAccess, type RequestAccess } from './access-check.js';
import type { DeviceMember } from './device-member.js';
import { PASSAGE_TAG_BITS } from './limits.js';
import type { GateWaiter, ReplicaGate } from './replica-gate.js';

export interface GatedPorts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
}

/** Who asks: an engine that may write, under the maps that whoever decides for it has brought, or one that only reads. */
export type GatedRole = Extract<Role, 'writer' | 'reader'>;

/** The member, as what passes it sees it. */
interface Passed {
  admit(passage: Passage): void;
}

/** What has been asked, from then on until it ends: made once and used again. */
class Passage implements RequestAccess, GateWaiter {
  readonly tag: number;
  kind = 0;
  mapVersion: MapVersion = 0;
  incarnation = 0;
  request: SegmentRequest | null = null;
  list: SegmentList | null = null;
  /** Of whoever asks. */
  token = 0;
  private readonly member: Passed;

  constructor(member: Passed, tag: number) {
    this.member = member;
    this.tag = tag;
  }

  proceed(): void {
    this.member.admit(this);
  }
}

export class GatedMember implements DeviceMember, ReplicaAccess, Passed {
  readonly role: GatedRole;
  readonly stampMax: SegmentMember['stampMax'];
  private readonly gate: ReplicaGate;
  private readonly member: DeviceMember;
  /** It asks for the holder of this generation. */
  private readonly generation: Generation;
  private readonly completions: CompletionPort;
  private readonly memory: Memory;
  private readonly token: number;
  private readonly passages: Passage[] = [];
  private readonly free: Passage[] = [];
  private leaseWaiters: LeaseWaiter[] = [];
  private readonly onAnswered: GateWaiter = { proceed: () => this.tellLeased() };
  private waiting = false;
  /** It is to be closed when nothing is in flight. */
  private closing = false;
  /** Of an engine that only reads: the version of the map that it has. */
  private followed: MapVersion = 0;

  constructor({ completions, memory }: GatedPorts, gate: ReplicaGate, member: DeviceMember, role: GatedRole) {
    this.member = member;
    this.role = role;
    this.stampMax = member.stampMax;
    this.completions = completions;
    this.memory = memory;
    this.gate = gate;
    const { ours } = gate;
    check(role === 'reader' || ours !== null, 'an engine asks of a replica under no map', gate.group);
    this.generation = ours?.generation ?? 0;
    const complete = (tag: number, result: number, flags: number) => this.ended(tag, result, flags);
    this.token = completions.register({ complete }, PASSAGE_TAG_BITS);
  }

  get deviceId(): string {
    return this.member.deviceId;
  }

  get segmentBytes(): number {
    return this.member.segmentBytes;
  }

  get flushed(): SegmentMember['flushed'] {
    return this.member.flushed;
  }

  get settled(): SegmentMember['settled'] {
    return this.member.settled;
  }

  get takesSums(): boolean {
    return this.member.takesSums === true;
  }

  get outstanding(): number {
    return this.member.outstanding;
  }

  fence(): number {
    return this.member.fence();
  }

  // ---- as the admission sees it

  get incarnation(): number {
    return this.member.incarnation;
  }

  get mapVersion(): MapVersion {
    return this.gate.mapVersion;
  }

  get answered(): boolean {
    return this.gate.answered;
  }

  get storing(): boolean {
    return this.gate.storing;
  }

  get readable(): boolean {
    return this.gate.isReadable;
  }

  get current(): boolean {
    return this.gate.map?.generation === this.generation;
  }

  // ---- asking

  /** Under which it asks: the newest of its generation; 0, which nothing admits, once there is another generation. */
  private get asking(): MapVersion {
    if (this.role === 'reader') return this.followed;
    const { ours } = this.gate;
    return ours !== null && ours.generation === this.generation ? ours.mapVersion : 0;
  }

  /** An engine that only reads asks under this map from now on. */
  follow({ mapVersion, volume, group }: ReplicaMap): boolean {
    check(this.role === 'reader', 'an engine follows a map that asks under its own', group);
    check(volume.id === this.gate.volumeId && group === this.gate.group, 'a gated member follows another map', group);
    this.followed = mapVersion;
    return true;
  }

  submit(request: SegmentRequest): void {
    const passage = this.begin(KIND_REQUEST + request.kind, request.token);
    passage.request = request;
    this.admit(passage);
  }

  list(page: SegmentList): void {
    const passage = this.begin(KIND_LIST, page.token);
    passage.list = page;
    this.admit(passage);
  }

  private begin(kind: number, token: number): Passage {
    let passage = this.free.pop();
    if (passage === undefined) {
      passage = new Passage(this, this.passages.length);
      this.passages.push(passage);
    }
    check(passage.request === null && passage.list === null, 'what has not ended is asked again', passage.tag);
    passage.kind = kind;
    passage.mapVersion = this.asking;
    passage.incarnation = this.incarnation;
    passage.token = token;
    return passage;
  }

  admit(passage: Passage): void {
    const { gate } = this;
    const status = admission(this, passage);
    if (status === STATUS_OK) this.carryOut(passage);
    else if (status === STATUS_NOT_YET && gate.storing) this.hold(passage);
    else this.refuse(passage, status === STATUS_NOT_YET ? -EIO : -ESTALE);
  }

  private carryOut({ request, list, tag }: Passage): void {
    this.gate.enter();
    if (request !== null) {
      request.token = this.token + tag;
      this.member.submit(request);
      return;
    }
    check(list !== null, 'nothing is asked of a member', tag);
    list.token = this.token + tag;
    this.member.list(list);
  }

  private hold(passage: Passage): void {
    // Where the payload lies now something else may be by then.
    passage.request?.bring(this.memory);
    this.gate.wait(passage);
  }

  private refuse(passage: Passage, result: number): void {
    check(result < 0, 'something is refused without a reason', passage.tag);
    // It is asked again with what lies at its place.
    passage.request?.bring(this.memory);
    const { token } = passage;
    this.giveBack(passage);
    this.completions.defer(token, result);
  }

  private giveBack(passage: Passage): void {
    const { request, list, token } = passage;
    if (request !== null) request.token = token;
    if (list !== null) list.token = token;
    passage.request = null;
    passage.list = null;
    this.free.push(passage);
  }

  private ended(tag: number, result: number, flags: number): void {
    const passage = this.passages[tag];
    const { request, list } = passage;
    check(request !== null || list !== null, 'something ends that nobody has asked', tag);
    if (result >= 0 && request?.kind === REQUEST_AGREED) void this.noteServed(passage, request.generation);
    else this.end(passage, result, flags);
  }

  private end(passage: Passage, result: number, flags: number): void {
    const { token } = passage;
    this.giveBack(passage);
    this.gate.leave();
    this.completions.finish(token, result, flags);
    if (this.closing) this.closeIfIdle();
  }

  /** All copies are equal: that the generation is served is durable before it is answered, and before a newer map is. */
  private async noteServed(passage: Passage, generation: Generation): Promise<void> {
    check(this.role === 'writer', 'a generation is served by an engine that only reads', generation);
    const result = await this.gate.noteServed(generation);
    this.end(passage, Math.min(0, result), 0);
  }

  // ---- reading

  /** On its own thread no lease is needed: the map that counts is known here at once. */
  mayRead(mapVersion: MapVersion): boolean {
    const { gate } = this;
    return gate.answered && gate.mapVersion === mapVersion && (this.role === 'writer' || gate.isReadable);
  }

  whenLeased(waiter: LeaseWaiter): void {
    const { gate } = this;
    if (!this.leaseWaiters.includes(waiter)) this.leaseWaiters.push(waiter);
    if (this.waiting) return;
    if (gate.storing) {
      this.waiting = true;
      gate.wait(this.onAnswered);
    } else if (this.role === 'reader') {
      this.waiting = true;
      void gate.nextAgreement().then(() => this.tellLeased());
    }
  }

  private tellLeased(): void {
    this.waiting = false;
    const waiters = this.leaseWaiters;
    this.leaseWaiters = [];
    for (const waiter of waiters) waiter.leased();
  }

  /** Nothing more is asked of it. What an engine has asked that only reads may still be in flight. */
  close(): void {
    const idle = this.free.length === this.passages.length;
    check(idle || this.role === 'reader', 'a member is closed with requests in flight', this.free.length);
    check(!this.closing, 'a member is closed twice', this.passages.length);
    this.closing = true;
    this.closeIfIdle();
  }

  private closeIfIdle(): void {
    if (this.free.length < this.passages.length) return;
    this.completions.unregister(this.token);
    this.member.close();
  }
}
