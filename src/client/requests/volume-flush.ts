/**
 * Flushes of a volume: shared, and as strong as they claim.
 *
 * A flush that arrives while another runs waits for the next one, together with all others that do: the running one may have
 * begun before writes that the new one has to cover. A flush counts only if the device has not been opened anew since the
 * writes that it covers were acknowledged: what an older incarnation had not flushed may be lost. A member on which
 * it fails leaves the map before the flush is answered; if that was the last one, the flush fails.
 */

import { check } from '../../core/check.js';
import { EIO } from '../../core/errno.js';
import type { FlushId } from '../../layout/flush-id.js';
import type { CompletionPort } from '../../ports/completion.js';
import type { SegmentMember } from '../../ports/segments.js';
import { JUDGED_DONE, JUDGED_LATER, type MemberSlot, type Membership } from '../mirror/membership.js';
import type { Pieces } from './pieces.js';
import type { WriteStamps } from './write-stamps.js';

export class VolumeFlush {
  private readonly completions: CompletionPort;
  private readonly membership: Membership;
  private readonly pieces: Pieces;
  private readonly stamps: WriteStamps;
  private readonly token: number;
  private waiting: number[] = [];
  private running: number[] = [];
  /** The devices that the running flush was sent to, their results, and the slots that they stand in. */
  private members: SegmentMember[] = [];
  private results: number[] = [];
  private slots: MemberSlot[] = [];
  private written: number[] = [];
  private pending = 0;
  private held = false;
  private endWaiters: (() => void)[] = [];
  /** Modifications with lower flush numbers are durable on every member in-sync. */
  private durableBelow = 0;
  private durableNext = 0;
  private marked = false;

  constructor(completions: CompletionPort, membership: Membership, pieces: Pieces, stamps: WriteStamps) {
    this.completions = completions;
    this.membership = membership;
    this.pieces = pieces;
    this.stamps = stamps;
    this.token = completions.register({ complete: (tag, result) => this.endOne(tag, result) });
  }

  get busy(): boolean {
    return this.running.length > 0;
  }

  /** Resolves when the flush that runs now has ended. */
  ended(): Promise<void> {
    if (this.running.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.endWaiters.push(resolve));
  }

  /** From where on a member that fails now may have missed writes, or lose some. */
  missedSince(): FlushId {
    const { generation } = this.membership.record;
    return { generation, flushNumber: this.pieces.oldestFlushNumber(this.durableBelow) };
  }

  /** Everything before this point was dealt with when the volume was opened. */
  startAt(flushNumber: number): void {
    check(flushNumber >= this.durableBelow, 'a volume begins with a flush that has been', flushNumber);
    this.durableBelow = flushNumber;
  }

  /**
   * The members remember the next flush to begin. That is for segments that were given back, of which nothing else tells: a
   * device that lacks a flush which others remember may still have them.
   */
  markNext(): void {
    this.marked = true;
  }

  flush(token: number): void {
    this.waiting.push(token);
    if (this.running.length === 0) this.start();
  }

  private start(): void {
    check(!this.held && this.running.length === 0, 'a flush begins before the last one has ended');
    this.running = this.waiting;
    this.waiting = [];
    this.slots = this.membership.groups.flat().filter(({ writable }) => writable);
    this.written = this.slots.map(({ written }) => written);
    this.members = [...new Set(this.slots.map(({ present }) => present))];
    this.results = this.members.map(() => 0);
    this.pending = this.members.length;
    this.durableNext = this.pieces.oldestFlushNumber(this.stamps.flushNumber);
    if (this.pending === 0 || this.membership.stopped !== null) {
      this.answer(-EIO);
      return;
    }
    const { marked } = this;
    this.marked = false;
    this.members.forEach((member, index) => {
      member.flush(this.token + index, marked);
    });
  }

  private endOne(index: number, result: number): void {
    check(this.pending > 0 && this.running.length > 0, 'more members have flushed than were asked', index);
    check(index < this.members.length, 'a member has flushed that there is not', index);
    this.results[index] = result;
    this.pending -= 1;
    if (this.pending === 0) this.conclude();
  }

  private conclude(): void {
    check(this.pending === 0, 'a flush is judged before all members have answered', this.pending);
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
    this.held = verdict === JUDGED_LATER;
    if (this.held) return;
    if (verdict === JUDGED_DONE) this.advance();
    for (const slot of this.slots) slot.incarnation = slot.member?.incarnation ?? slot.incarnation;
    this.answer(verdict === JUDGED_DONE ? 0 : -EIO);
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
    this.stamps.flushNumber += 1;
    this.slots.forEach((slot, index) => {
      slot.covered = Math.max(slot.covered, this.written[index]);
    });
    this.markAll();
  }

  /** Tells the members what later modifications are recorded under. */
  markAll(): void {
    const { groups, record } = this.membership;
    for (const slot of groups.flat()) {
      if (slot.writable) slot.present.mark(record.generation, this.stamps.flushNumber);
    }
  }

  /** The map has changed, or the volume has stopped. */
  resumeHeld(): void {
    if (!this.held) return;
    this.held = false;
    this.conclude();
  }

  private answer(result: number): void {
    const tokens = this.running;
    check(tokens.length > 0, 'a flush has been answered twice');
    this.running = [];
    for (const token of tokens) this.completions.defer(token, result);
    for (const resolve of this.endWaiters.splice(0)) resolve();
    if (this.waiting.length > 0) this.start();
  }

  /** Gives up the handler; nothing may be in flight. */
  close(): void {
    check(this.running.length === 0, 'a flush is in progress when its volume is closed', this.running.length);
    check(this.waiting.length === 0, 'flushes wait when their volume is closed', this.waiting.length);
    this.completions.unregister(this.token);
  }
}

/** The highest flush number that any member has recorded something under. */
export function highestFlushNumber(slots: readonly MemberSlot[]): number {
  let highest = 0;
  for (const { member, covered } of slots) {
    highest = Math.max(highest, covered);
    member?.visit((_stripe, _generation, flushNumber) => {
      highest = Math.max(highest, flushNumber);
    });
  }
  return highest;
}
