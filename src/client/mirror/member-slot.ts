/** The members of a volume's groups, by place. */

import { check } from '../../core/check.js';
import { GROUP_MEMBERS_MAX } from '../../core/limits.js';
import type { MemberState } from '../../layout/volume-map.js';
import type { FlushNumber, GroupIndex, MemberPosition } from '../../ports/ids.js';
import type { SegmentMember } from '../../ports/segment-member.js';
import { SegmentMap } from '../members/segment-map.js';

/** One place in a group, and who has it. */
export class MemberSlot {
  readonly group: GroupIndex;
  readonly position: MemberPosition;
  readonly bit: number;
  member: SegmentMember | null = null;
  /** What the member has. */
  readonly segments = new SegmentMap();
  state: MemberState = 'offline';
  leaving = false;
  /** What the acknowledged writes that no flush covers yet were made under. */
  incarnation = 0;
  /** Flush number of the last write that it has, and of the last that a flush made durable. */
  written = 0;
  covered = 0;

  constructor(group: GroupIndex, position: MemberPosition) {
    check(position >= 0 && position < GROUP_MEMBERS_MAX, 'a member has a position that no bit stands for', position);
    this.group = group;
    this.position = position;
    this.bit = 1 << position;
  }

  /** Who has it from now on; what was known of it is of an earlier generation. */
  begin(member: SegmentMember | null, state: MemberState, flushNumber: FlushNumber): void {
    this.member = member;
    this.segments.clear();
    this.state = state;
    this.leaving = false;
    this.incarnation = member?.incarnation ?? this.incarnation;
    this.written = 0;
    this.covered = flushNumber;
  }

  /** Whether writes go to it. */
  get writable(): boolean {
    return this.member !== null && this.state !== 'offline';
  }

  /** Whether it may be read. */
  get readable(): boolean {
    return this.member !== null && this.state === 'in-sync' && !this.leaving;
  }

  /** The member of a slot that is known to have one. */
  get present(): SegmentMember {
    check(this.member !== null, 'a member is asked that is not there', this.position);
    return this.member;
  }
}
