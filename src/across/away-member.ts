/** A member of a volume whose store is on another shard. */

import type { FlushId } from '../layout/flush-id.js';
import type { DeviceMember } from '../node/device-member.js';
import type { MapVersion } from '../ports/ids.js';
import type { SegmentList } from '../ports/segment-list.js';
import type { LeaseWaiter } from '../ports/segment-member.js';
import type { SegmentRequest } from '../ports/segment-request.js';
import type { DeviceTraffic, MemberAsker } from './member-asker.js';

/** What a member says when it is opened. */
export interface MemberFacts {
  readonly deviceId: string;
  readonly segmentBytes: number;
  readonly incarnation: number;
  readonly flushed: FlushId;
  readonly settled: FlushId | null;
}

export class AwayMember implements DeviceMember {
  readonly deviceId: string;
  readonly segmentBytes: number;
  readonly incarnation: number;
  readonly flushed: FlushId;
  readonly settled: FlushId | null;
  /** As of every store: stamps begin with a generation that no member has seen. */
  readonly stampMax = { low: 0, high: 0 };
  private readonly asker: MemberAsker;
  private readonly traffic: DeviceTraffic;
  private readonly number: number;

  /** `number`: that under which it is open there. */
  constructor(asker: MemberAsker, number: number, traffic: DeviceTraffic, facts: MemberFacts) {
    this.asker = asker;
    this.number = number;
    this.traffic = traffic;
    this.deviceId = facts.deviceId;
    this.segmentBytes = facts.segmentBytes;
    this.incarnation = facts.incarnation;
    this.flushed = facts.flushed;
    this.settled = facts.settled;
  }

  get outstanding(): number {
    return this.traffic.outstanding;
  }

  fence(): number {
    return this.traffic.fence;
  }

  submit(request: SegmentRequest): void {
    this.asker.submit(this.number, request, this.traffic);
  }

  list(page: SegmentList): void {
    this.asker.submit(this.number, page, this.traffic);
  }

  mayRead(_mapVersion: MapVersion): boolean {
    return true;
  }

  whenLeased(_waiter: LeaseWaiter): void {}

  close(): void {
    this.asker.close(this.number);
  }
}
