/** Which jobs go on for the copies of a volume: resync and rebuild, scrub, and giving back what was discarded meanwhile. */

import { check } from '../../core/check.js';
import { StrakeError } from '../../core/errors.js';
import { replaceMember } from '../../layout/map-changes.js';
import { FENCE_ALL } from '../../ports/device.js';
import type { ChunkIndex, FlushNumber, GroupIndex, MemberPosition } from '../../ports/ids.js';
import type { SegmentMember } from '../../ports/segment-member.js';
import type { Job, JobOptions } from '../jobs/job.js';
import type { VolumeJobs } from '../jobs/volume-jobs.js';
import type { VolumeFlush } from '../requests/volume-flush.js';
import type { VolumeParts } from '../volume-parts.js';
import type { Allocation } from './allocation.js';
import type { MemberSlot, Membership } from './membership.js';
import type { ReadRepair } from './read-repair.js';
import { Reclaim } from './reclaim.js';
import { Resync } from './resync.js';
import { Scrub, scrubbed } from './scrub.js';

export interface CopyJobsParts {
  readonly parts: VolumeParts;
  readonly allocation: Allocation;
  readonly flushes: VolumeFlush;
  readonly repair: ReadRepair;
  readonly jobs: VolumeJobs;
  /** Of jobs that nobody asks for. */
  readonly options: JobOptions;
  /** Throws a `StrakeError` unless the volume is served, and for writing. */
  readonly checkServing: () => void;
  readonly mayReclaim: () => boolean;
}

export class CopyJobs {
  private readonly needs: CopyJobsParts;
  private readonly membership: Membership;
  private readonly jobs: VolumeJobs;
  /** By group. */
  private readonly reclaims: Reclaim[];

  constructor(needs: CopyJobsParts) {
    const { parts, flushes, jobs } = needs;
    this.needs = needs;
    this.membership = parts.membership;
    this.jobs = jobs;
    this.reclaims = parts.membership.groups.map((_, group) => new Reclaim(parts, group, flushes));
  }

  /** The volume is served from now on: begins with what is to be done. */
  begin(): void {
    for (const slot of this.membership.groups.flat()) {
      if (slot.member !== null && slot.state === 'offline') this.startResync(slot, 'resync');
    }
    this.reclaims.forEach((_, group) => {
      this.startReclaim(group);
    });
  }

  /** See `VolumeEngine.attach`. */
  attach(group: GroupIndex, position: MemberPosition, member: SegmentMember): Job {
    const slot = this.offlineSlot(group, position);
    checkMember(this.membership, slot, member);
    slot.member = member;
    return this.startResync(slot, 'resync');
  }

  /** See `VolumeEngine.replace`. */
  async replace(group: GroupIndex, position: MemberPosition, deviceId: string, member: SegmentMember): Promise<Job> {
    const slot = this.offlineSlot(group, position);
    if (member.deviceId !== deviceId || member.segmentBytes !== this.membership.record.segmentBytes) {
      throw new StrakeError('INVALID_ARGUMENT', `device ${member.deviceId} cannot stand in for ${deviceId}`);
    }
    await this.membership.change((record) => replaceMember(record, group, position, deviceId));
    check(this.membership.deviceId(slot) === deviceId, 'a place has another device than it was given', position);
    this.offlineSlot(group, position).member = member;
    return this.startResync(slot, 'rebuild');
  }

  private offlineSlot(group: GroupIndex, position: MemberPosition): MemberSlot {
    this.needs.checkServing();
    const slot = this.membership.groups[group]?.[position];
    if (slot === undefined) throw new StrakeError('INVALID_ARGUMENT', `no member ${position} in group ${group}`);
    if (slot.state !== 'offline' || this.jobs.isSynced(slot)) {
      throw new StrakeError('BUSY', `member ${position} is ${slot.state}`);
    }
    return slot;
  }

  /** See `VolumeEngine.resume`. */
  async resume(group: GroupIndex, position: MemberPosition, incarnation: number): Promise<boolean> {
    await this.jobs.givenUp({ group, position });
    await this.membership.idle();
    this.needs.checkServing();
    const slot = this.membership.groups[group][position];
    if (slot.state !== 'offline' || this.jobs.isSynced(slot)) return true;
    // One that has failed is not asked again, though its device may be as it was.
    if (slot.member?.incarnation !== incarnation || slot.member.fence() === FENCE_ALL) return false;
    this.startResync(slot, 'resync');
    return true;
  }

  private startResync(slot: MemberSlot, kind: 'resync' | 'rebuild'): Job {
    const { parts, allocation, flushes, options } = this.needs;
    check(slot.member !== null, 'a member is brought up to date that is not there', slot.position);
    check(slot.state === 'offline', 'a member is brought up to date that is not offline', slot.position);
    const resync = new Resync(parts, allocation, slot);
    const work = (job: Job) => resync.run(job, flushes);
    const undo = (reason: string) => {
      this.membership.expel(slot, reason);
    };
    const { group, position } = slot;
    const job = this.jobs.start({ kind, group, position }, options, work, undo);
    job.ended.then(() => this.startReclaim(group));
    return job;
  }

  /** Blocks of a segment were discarded. */
  noteDiscarded(group: GroupIndex, stripe: ChunkIndex, flushNumber: FlushNumber): void {
    check(group < this.reclaims.length, 'a segment is discarded of no group', group);
    this.reclaims[group].note(stripe, flushNumber);
  }

  /** See `VolumeFlushHooks.oldestDiscard`. */
  oldestDiscard(otherwise: number): number {
    let oldest = otherwise;
    for (const reclaim of this.reclaims) oldest = reclaim.oldestUntold(oldest);
    return oldest;
  }

  /** A flush has ended: what was discarded before it is given back. */
  releaseSettled(): void {
    for (const reclaim of this.reclaims) reclaim.noteFlushed();
  }

  /** A device of a group is full: gives back what was discarded. Resolves when that is done as far as it can be. */
  async makeRoom(group: GroupIndex): Promise<void> {
    const { parts, flushes } = this.needs;
    check(group < this.reclaims.length, 'room is made in no group', group);
    // What is being given back already is noted no more, and may be all that there is.
    if (this.reclaims[group].oldest(Number.POSITIVE_INFINITY) === Number.POSITIVE_INFINITY) {
      return this.reclaims[group].idle();
    }
    flushes.markNext();
    await parts.calls.call((token) => flushes.flushOwn(token));
    // One that goes on may have begun before that flush had ended.
    await this.reclaims[group].idle();
    await this.reclaims[group].release();
  }

  /** Whether something is being given back. Between two steps of that nothing else is in flight. */
  get busy(): boolean {
    return this.reclaims.some(({ busy }) => busy);
  }

  /** Resolves when nothing is being given back. */
  async idle(): Promise<void> {
    await Promise.all(this.reclaims.map((reclaim) => reclaim.idle()));
  }

  /** Begins to give back what was discarded while a member of a group was away, if all are current now. */
  private startReclaim(group: GroupIndex): void {
    if (!this.needs.mayReclaim()) return;
    this.reclaims[group].begin(this.jobs, this.needs.options, () => this.startReclaim(group));
  }

  /** See `VolumeEngine.scrub`. */
  scrub(options: JobOptions): Job {
    const other = this.jobs.unfinished('scrub');
    if (other !== undefined) throw scrubbed(other);
    const scrub = new Scrub(this.needs.parts, this.needs.repair, this.reclaims);
    const work = (job: Job) => scrub.run(job, this.needs.flushes);
    return this.jobs.start({ kind: 'scrub', group: -1, position: -1 }, options, work, () => {});
  }
}

/** Throws `ERR_STRAKE_INVALID_ARGUMENT` unless a member is the one that the map names at its place. */
function checkMember(membership: Membership, slot: MemberSlot, member: SegmentMember): void {
  const expected = membership.deviceId(slot);
  const { segmentBytes } = membership.record;
  if (member.deviceId === expected && member.segmentBytes === segmentBytes) return;
  const what = `device ${member.deviceId} is not device ${expected} with segments of ${segmentBytes} bytes`;
  throw new StrakeError('INVALID_ARGUMENT', what);
}

/** The same of all members that are there. */
export function checkMembers(membership: Membership): void {
  for (const slot of membership.groups.flat()) {
    if (slot.member !== null) checkMember(membership, slot, slot.member);
  }
}
