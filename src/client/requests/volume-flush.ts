/**
 * Flushes of a volume: shared, and as strong as they claim.
 *
 * A flush that arrives while another runs waits for the next one, together with all others that do: the running one may have
 * begun before writes that the new one has to cover. A flush counts only if the device has not been opened anew since the
 * writes that it covers were acknowledged: what an older incarnation had not flushed may be lost. A member on which
 * it fails leaves the map before the flush is answered; if that was the last one, the flush fails.
 *
 * The engine flushes for its own purposes as well. Where that fails no client is told, so the next flush of a client fails in its
 * place: what was lost may have been that client's.
 */

import { check } from '../../core/check.js';
import { EIO, ESTALE } from '../../core/errno.js';
import { Notify } from '../../core/notify.js';
import { type FlushId, NO_FLUSH } from '../../layout/flush-id.js';
import type { CompletionPort } from '../../ports/completion.js';
import type { FlushNumber } from '../../ports/ids.js';
import type { SegmentMember } from '../../ports/segment-member.js';
import { REQUEST_FLUSH, REQUEST_MARKED, SegmentRequest } from '../../ports/segment-request.js';
import { VOLUME_TAG_BITS } from '../limits.js';
import { JUDGED_DONE, JUDGED_LATER, type MemberSlot, type Membership } from '../mirror/membership.js';
import type { Holder } from './holding.js';
import type { Pieces } from './pieces.js';
import type { WriteStamps } from './write-stamps.js';

export interface VolumeFlushHooks {
  /** A flush begins, which covers all modifications that have ended. */
  onBegin(): void;
  /** A flush has ended well. */
  onDone(): void;
  /** One is held from now on; returns the time. */
  onHeld(): number;
  /**
   * The lowest flush number of a discard whose slot has yet to be given back, and of which nothing else tells; or `otherwise` if
   * that is lower.
   */
  oldestDiscard(otherwise: number): number;
}

export class VolumeFlush implements Holder {
  private readonly completions: CompletionPort;
  private readonly membership: Membership;
  private readonly pieces: Pieces;
  private readonly stamps: WriteStamps;
  private readonly hooks: VolumeFlushHooks;
  private readonly token: number;
  private waiting: number[] = [];
  private running: number[] = [];
  /** The same for those that are no client's. */
  private ownWaiting: number[] = [];
  private ownRunning: number[] = [];
  /** A flush has failed of which no client was told. */
  private untold = false;
  /** The devices that the running flush was sent to, their results, and the slots that they stand in; lists are used again. */
  private readonly members: SegmentMember[] = [];
  private readonly results: number[] = [];
  private readonly slots: MemberSlot[] = [];
  private readonly written: number[] = [];
  private readonly requests: SegmentRequest[] = [];
  private pending = 0;
  /** One has begun and has not been answered. */
  private going = false;
  private held = false;
  private heldMs = 0;
  /** How many maps had taken effect when members were asked last. */
  private effects = 0;
  private readonly oneEnded = new Notify();
  /** Modifications with lower flush numbers are durable on every member in-sync. */
  private durableBelow = 0;
  private durableNext = 0;
  private marked = false;
  /** The running flush is remembered. */
  private remembers = false;
  /** Modifications with lower flush numbers are durable on every member in-sync, which all remember. */
  rememberedBelow = 0;

  constructor(
    completions: CompletionPort,
    membership: Membership,
    pieces: Pieces,
    stamps: WriteStamps,
    hooks: VolumeFlushHooks,
  ) {
    this.hooks = hooks;
    this.completions = completions;
    this.membership = membership;
    this.pieces = pieces;
    this.stamps = stamps;
    this.token = completions.register({ complete: (tag, result) => this.endOne(tag, result) }, VOLUME_TAG_BITS);
  }

  get busy(): boolean {
    return this.going;
  }

  get holds(): boolean {
    return (this.held || this.membership.suspended) && this.running.length + this.waiting.length > 0;
  }

  /** Those of clients that have been held for too long have failed; what they were to cover is covered by a later one. */
  giveUp(beforeMs: number): void {
    // One that members have yet to answer is not held for a manager: it is once they have, or have failed.
    if (this.heldMs === 0 || this.heldMs > beforeMs) return;
    const tokens = [...this.running, ...this.waiting];
    this.running = [];
    this.waiting = [];
    for (const token of tokens) this.completions.defer(token, -EIO);
  }

  /** Whether the last flush has failed, and none has followed. */
  hasFailed = false;

  /** What was acknowledged before may be lost: the next flush of a client fails. */
  failNext(): void {
    this.untold = true;
  }

  /** A member is back that is the same, in the place of what does not answer: it is asked again. */
  returned({ present }: MemberSlot): void {
    if (!this.held) return;
    const index = this.members.findIndex(({ deviceId }) => deviceId === present.deviceId);
    if (index < 0 || this.results[index] >= 0) return;
    check(this.pending === 0, 'a flush is held that members have yet to answer', this.pending);
    this.members[index] = present;
    this.results[index] = -ESTALE;
  }

  /** Resolves when the flush that runs now has ended. */
  ended(): Promise<void> {
    return this.busy ? this.oneEnded.next() : Promise.resolve();
  }

  /** From where on a member that fails now may have missed writes, or lose some. */
  missedSince(): FlushId {
    const { generation } = this.membership.record;
    return { generation, flushNumber: this.pieces.oldestFlushNumber(this.durableBelow) };
  }

  /**
   * What is settled: modifications below are durable on every member in-sync, and slots that were discarded there are given
   * back, so that nobody has to look for them when this writer has died.
   */
  get settled(): FlushId {
    const { generation } = this.stamps;
    const flushNumber = this.hooks.oldestDiscard(this.durableBelow);
    check(flushNumber <= this.durableBelow, 'more is settled than is durable', flushNumber);
    return { generation, flushNumber };
  }

  /** Everything before this point was dealt with when the volume was opened. */
  startAt(flushNumber: FlushNumber): void {
    check(flushNumber >= this.durableBelow, 'a volume begins with a flush that has been', flushNumber);
    this.durableBelow = flushNumber;
    this.rememberedBelow = flushNumber;
  }

  /**
   * The members remember the next flush to begin. That is for segments that are to be given back, of which nothing tells any more
   * then: a device that lacks a flush which others remember may still have them.
   */
  markNext(): void {
    this.marked = true;
  }

  /** A flush that a client has asked for. It is held while the volume is suspended. */
  flush(token: number): void {
    this.waiting.push(token);
    if (this.membership.suspended) this.noteHeld();
    else if (!this.busy) this.start();
  }

  /** A flush for the engine's own purposes. It fails while the volume is suspended: to make the copies equal ends with one. */
  flushOwn(token: number): void {
    if (this.membership.suspended) {
      this.completions.defer(token, -EIO);
      return;
    }
    this.ownWaiting.push(token);
    if (!this.busy) this.start();
  }

  /** The volume goes on: begins with what is held. */
  goOn(): void {
    check(!this.membership.suspended && !this.busy, 'a flush begins before its volume goes on');
    this.heldMs = 0;
    if (this.waiting.length > 0) this.start();
  }

  private start(): void {
    check(!this.held && !this.busy, 'a flush begins before the last one has ended');
    this.running = this.waiting;
    this.ownRunning = this.ownWaiting;
    this.going = true;
    this.waiting = [];
    this.ownWaiting = [];
    this.hooks.onBegin();
    this.aim();
    this.pending = this.members.length;
    // What begins from now on is recorded under the next number: it may be covered, or not.
    this.stamps.flushNumber += 1;
    this.durableNext = this.pieces.oldestFlushNumber(this.stamps.flushNumber);
    if (this.pending === 0 || this.membership.stopped !== null) {
      this.answer(-EIO);
      return;
    }
    this.remembers = this.marked;
    this.marked = false;
    this.effects = this.membership.effects;
    for (let index = 0; index < this.members.length; index += 1) this.send(index);
  }

  private send(index: number): void {
    const member = this.members[index];
    const told = this.isInSync(member);
    member.submit(this.request(index, this.remembers ? REQUEST_MARKED : 0, told ? this.settled : NO_FLUSH));
  }

  /**
   * Asks members again that had a newer map, if one has taken effect since; otherwise the flush is held until one has. Returns
   * whether all have answered.
   */
  private sendAgain(): boolean {
    const { membership, results, members } = this;
    if (membership.stopped !== null || !members.some((_, index) => results[index] === -ESTALE)) return true;
    if (membership.effects === this.effects) {
      this.hold();
      return false;
    }
    this.effects = membership.effects;
    for (let index = 0; index < members.length; index += 1) {
      if (results[index] !== -ESTALE) continue;
      const stays = this.slots.some((slot) => slot.member === members[index] && slot.writable);
      results[index] = stays ? 0 : -EIO;
      if (!stays) continue;
      this.pending += 1;
      this.send(index);
    }
    return this.pending === 0;
  }

  /** Chooses the members that a flush goes to. They are mostly those of the last one, so that nothing is made anew. */
  private aim(): void {
    const { slots, written, members, results } = this;
    const { flushNumber } = this.stamps;
    let targets = 0;
    let asked = 0;
    for (const group of this.membership.groups) {
      for (const slot of group) {
        if (!slot.writable) continue;
        check(slot.written <= flushNumber, 'a member was written to under a flush that is to come', slot.position);
        slots[targets] = slot;
        written[targets] = slot.written;
        targets += 1;
        if (this.isAsked(slot.present, asked)) continue;
        members[asked] = slot.present;
        results[asked] = 0;
        asked += 1;
      }
    }
    if (slots.length > targets) slots.length = targets;
    if (members.length > asked) members.length = asked;
  }

  /** Whether a member is one of the first so many of those that the flush goes to. */
  private isAsked(member: SegmentMember, asked: number): boolean {
    for (let index = 0; index < asked; index += 1) if (this.members[index] === member) return true;
    return false;
  }

  /** One that is not in-sync lacks some of what is settled, whatever flushes it takes part in. */
  private isInSync(member: SegmentMember): boolean {
    for (const slot of this.slots) if (slot.member === member && slot.state === 'in-sync') return true;
    return false;
  }

  private request(index: number, flags: number, settled: FlushId): SegmentRequest {
    check(index < this.members.length, 'a flush goes to a member that there is not', index);
    const request = this.requests[index] ?? new SegmentRequest();
    this.requests[index] = request;
    request.begin(REQUEST_FLUSH, 0, this.token + index);
    request.flags = flags;
    request.settledGeneration = settled.generation;
    request.settledNumber = settled.flushNumber;
    request.generation = this.stamps.generation;
    // Who lacks a later flush may have lost whatever this one has not covered.
    request.flushNumber = this.durableNext;
    return request;
  }

  private endOne(index: number, result: number): void {
    check(this.pending > 0 && this.busy, 'more members have flushed than were asked', index);
    check(index < this.members.length, 'a member has flushed that there is not', index);
    this.results[index] = result;
    this.pending -= 1;
    if (this.pending === 0) this.conclude();
  }

  private conclude(): void {
    check(this.pending === 0, 'a flush is judged before all members have answered', this.pending);
    if (!this.sendAgain()) return;
    let verdict = JUDGED_DONE;
    for (let group = 0; group < this.membership.groups.length; group += 1) {
      let targets = 0;
      let failed = 0;
      for (const slot of this.slots) {
        if (slot.group !== group || slot.member === null) continue;
        targets |= slot.bit;
        if (!this.covers(slot, slot.member)) failed |= slot.bit;
      }
      verdict = Math.max(verdict, this.membership.judge(group, targets, targets & ~failed, failed));
    }
    if (verdict === JUDGED_LATER) {
      this.hold();
      return;
    }
    if (verdict === JUDGED_DONE) this.advance();
    // Of a volume that is suspended nobody is told, so what may be lost is still to be found out.
    if (!this.membership.suspended) {
      this.heldMs = 0;
      for (const slot of this.slots) slot.incarnation = slot.member?.incarnation ?? slot.incarnation;
    }
    this.answer(verdict === JUDGED_DONE ? 0 : -EIO);
    if (verdict === JUDGED_DONE) this.hooks.onDone();
  }

  private hold(): void {
    this.held = true;
    this.noteHeld();
  }

  private noteHeld(): void {
    if (this.heldMs === 0) this.heldMs = this.hooks.onHeld();
  }

  /** Whether the flush made durable what was acknowledged on this member. */
  private covers(slot: MemberSlot, member: SegmentMember): boolean {
    const index = this.members.indexOf(member);
    return index >= 0 && this.results[index] >= 0 && member.incarnation === slot.incarnation;
  }

  private advance(): void {
    check(this.durableNext >= this.durableBelow, 'writes that were durable are so no more', this.durableNext);
    check(this.durableNext <= this.stamps.flushNumber, 'writes are durable that come later', this.durableNext);
    this.durableBelow = this.durableNext;
    if (this.remembers) this.rememberedBelow = this.durableNext;
    check(this.rememberedBelow <= this.durableBelow, 'a flush is remembered that is not durable', this.rememberedBelow);
    for (let index = 0; index < this.slots.length; index += 1) {
      const slot = this.slots[index];
      slot.covered = Math.max(slot.covered, this.written[index]);
    }
  }

  /** The map has changed, or the volume has stopped. */
  resumeHeld(): void {
    const { stopped, suspended } = this.membership;
    if (this.held) {
      this.held = false;
      this.conclude();
    } else if (stopped !== null && !suspended && !this.busy && this.waiting.length > 0) {
      // They were held for a volume that does not go on.
      this.start();
    }
  }

  private answer(result: number): void {
    const { running, ownRunning } = this;
    check(this.busy, 'a flush has been answered twice');
    this.going = false;
    if (result < 0 && this.membership.suspended) {
      this.holdAll();
      return;
    }
    this.hasFailed = result < 0;
    if (result < 0) this.untold = true;
    const told = this.untold ? -EIO : 0;
    if (running.length > 0) this.untold = false;
    this.running = [];
    this.ownRunning = [];
    for (const token of running) this.completions.defer(token, told);
    for (const token of ownRunning) this.completions.defer(token, result);
    this.oneEnded.tell();
    if (this.membership.suspended) this.holdAll();
    else if (this.waiting.length + this.ownWaiting.length > 0) this.start();
  }

  /** The volume is suspended: flushes of clients begin again when it goes on. */
  private holdAll(): void {
    const own = [...this.ownRunning, ...this.ownWaiting];
    this.waiting = [...this.running, ...this.waiting];
    this.running = [];
    this.ownRunning = [];
    this.ownWaiting = [];
    if (this.waiting.length > 0) this.noteHeld();
    for (const token of own) this.completions.defer(token, -EIO);
    this.oneEnded.tell();
  }

  /** Gives up the handler; nothing may be in flight. */
  close(): void {
    check(!this.busy, 'a flush is in progress when its volume is closed');
    const waiting = this.waiting.length + this.ownWaiting.length;
    check(waiting === 0, 'flushes wait when their volume is closed', waiting);
    this.completions.unregister(this.token);
  }
}
