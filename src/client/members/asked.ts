/** What a client has asked of a node, from the moment it is asked for until its answer: made once and used again. */

import type { PooledBuffer } from '../../core/buffer-pool.js';
import { check } from '../../core/check.js';
import type { ReplicaMap } from '../../layout/replica-map.js';
import type { StreamedRequest, StreamPart } from '../../net/stream-connection.js';
import type { SegmentList } from '../../ports/segment-list.js';
import type { SegmentRequest } from '../../ports/segment-request.js';
import { SESSION_ASKED_MAX } from '../limits.js';
import type { RemoteMember } from './remote-member.js';

/** A frame of control: what is asked, and who is told. */
export interface ControlCall {
  readonly kind: number;
  /** Of which replica, when it is sent; null for the node. */
  readonly address: () => ControlAddress | null;
  readonly payload: () => Uint8Array;
  /** It is not asked again on another connection: its answer would be of no use there. */
  readonly once?: boolean;
  /** It has been put on its way. */
  readonly onSent?: () => void;
  resolve(answer: ControlAnswer): void;
}

/** Of which member of a group something is asked. */
export interface ControlAddress {
  readonly volumeId: string;
  readonly group: number;
  /** Index of the member in its map. */
  readonly index: number;
  readonly mapVersion: number;
}

export interface ControlAnswer {
  /** `STATUS_*`, or the number of an error. */
  readonly status: number;
  /** JSON, if the answer has any. */
  readonly payload: Uint8Array | null;
  readonly maps: readonly ReplicaMap[];
  /** Of the device; 0 if it is not told. */
  readonly incarnation: number;
  /** Of a PONG: what it grants. */
  readonly leaseMs: number;
}

/** A part of what is sent for it: its head, or its blocks. */
export class AskedPart implements StreamPart {
  readonly asked: Asked;
  sendMemory = 0;
  sendLength = 0;
  last = true;
  following: StreamPart | null = null;
  readonly offset = 0;
  readonly length = 0;

  constructor(asked: Asked) {
    this.asked = asked;
  }
}

export class Asked implements StreamedRequest {
  readonly slot: number;
  /** Of its frame; another one each time that it is sent. 0 while it is not. */
  id = 0;
  member: RemoteMember | null = null;
  request: SegmentRequest | null = null;
  list: SegmentList | null = null;
  control: ControlCall | null = null;
  /** Which replica it is about, as it was sent; null for the node. */
  about: ControlAddress | null = null;
  token = 0;
  /** Bytes of its payload, as credits count them. */
  payload = 0;
  credited = false;
  head: PooledBuffer | null = null;
  readonly headPart = new AskedPart(this);
  readonly blocksPart = new AskedPart(this);
  /** Parts that are on their way. */
  sending = 0;
  /** When it was sent last, by the time in which this process could listen. */
  sinceMs = 0;
  answered = false;
  result = 0;
  answer: ControlAnswer | null = null;
  /** The one that was asked for next. */
  queued = 0;

  constructor(slot: number) {
    this.slot = slot;
  }
}

/** All that is asked for on one session, by the number that ids end with. */
export class AskedTable {
  private readonly made: Asked[] = [];
  private readonly free: Asked[] = [];
  /** In the order in which they were asked for. */
  private readonly open = new Set<Asked>();
  private rounds = 0;

  get size(): number {
    return this.open.size;
  }

  values(): Iterable<Asked> {
    return this.open;
  }

  take(): Asked {
    let asked = this.free.pop();
    if (asked === undefined) {
      check(this.made.length < SESSION_ASKED_MAX, 'more is asked of a node than can be', this.made.length);
      asked = new Asked(this.made.length);
      this.made.push(asked);
    }
    check(!this.open.has(asked), 'what is asked for already is asked for once more', asked.slot);
    check(asked.head === null && asked.sending === 0, 'what is being sent is used again', asked.slot);
    asked.answered = false;
    asked.answer = null;
    asked.credited = false;
    asked.id = 0;
    this.open.add(asked);
    return asked;
  }

  /** Gives it an id that has not been used in any session. */
  number(asked: Asked): void {
    check(this.open.has(asked) && !asked.answered, 'something is sent again that has been answered', asked.slot);
    this.rounds += 1;
    asked.id = this.rounds * SESSION_ASKED_MAX + asked.slot;
  }

  /** What a packed answer, which has the lower 32 bits of an id, is for; null if nothing with that id waits. */
  findLow(low: number): Asked | null {
    const asked = this.made[low % SESSION_ASKED_MAX];
    return asked !== undefined && asked.id !== 0 && asked.id % 2 ** 32 === low && this.waits(asked) ? asked : null;
  }

  find(id: number): Asked | null {
    const asked = this.made[id % SESSION_ASKED_MAX];
    return asked !== undefined && asked.id === id && this.waits(asked) ? asked : null;
  }

  private waits(asked: Asked): boolean {
    return this.open.has(asked) && !asked.answered;
  }

  /** Whether something that was sent by then has not been answered. */
  isOverdue(sinceMs: number): boolean {
    for (const asked of this.open) if (asked.id !== 0 && !asked.answered && asked.sinceMs <= sinceMs) return true;
    return false;
  }

  release(asked: Asked): void {
    check(this.open.delete(asked), 'something is answered that nobody has asked', asked.slot);
    check(asked.head === null && asked.sending === 0, 'something is over that is being sent', asked.slot);
    asked.id = 0;
    asked.member = null;
    asked.request = null;
    asked.list = null;
    asked.control = null;
    this.free.push(asked);
  }
}
