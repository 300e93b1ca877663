/**
 * A member of a volume whose store is in another process: records go there, and answers come back, as copies and with delay.
 *
 * ```text
 *   engine's process                     line                        store's process
 *   submit ─► hand-over: record and payload as a frame ─► arrives ─► MemberService: a buffer there ─► member
 *   token  ◄───────────────── answer and payload as a frame ◄───────────────────────────────────────── ends
 * ```
 *
 * Frames are those of the protocol between nodes (`wire-line.ts`), each on a way of its own.
 *
 * What one engine has sent to a member arrives in any order, as over several connections; the engine keeps operations on a
 * block apart. A request that may be repeated (`REQUEST_NEWER`) sometimes arrives twice, the second time long after its answer
 * and after newer ones; but not after its chunk has been released, as the stamps that make it harmless are gone then. There the
 * order of a connection has to help, and that whoever opens another one waits for what is left of the first.
 *
 * When the process of an engine dies, of what is under way each request arrives all the same or never, by itself. Whoever lets
 * another engine in waits until nothing of the old one is left (`drained`), as a member does that stores a newer map.
 */

import { BLOCK_BYTES } from '../../core/limits.js';
import { FENCE_OPEN } from '../../ports/device.js';
import type { SegmentList } from '../../ports/segment-list.js';
import type { SegmentMember } from '../../ports/segment-member.js';
import { REQUEST_NEWER, REQUEST_RELEASE, REQUEST_WRITE, type SegmentRequest } from '../../ports/segment-request.js';
import type { SimSource } from '../world/events.js';
import type { SimProcess } from '../world/process.js';
import type { SimRandom } from '../world/random.js';
import { MemberCall, type MemberService } from './member-service.js';
import { WireLine } from './wire-line.js';

/** Requests that may be repeated: one in so many is. */
const REPEAT_ONE_IN = 8;
/** When a repeated request arrives again, in microseconds after the first time. */
const REPEAT_US: readonly [number, number] = [50, 20_000];

const EVENT_ARRIVE = 0;
const EVENT_REPLY = 1;
const EVENT_REPEAT = 2;
const EVENT_BITS = 2;

/** What the engine has asked for, and waits for. */
class Pending {
  request: SegmentRequest | null = null;
  page: SegmentList | null = null;
  call: MemberCall | null = null;
}

export interface LineSettings {
  /** The least and the most that a message takes, in microseconds. */
  readonly latencyUs: readonly [number, number];
  readonly random: SimRandom;
}

export class RemoteMember implements SegmentMember, SimSource {
  readonly deviceId: string;
  readonly segmentBytes: number;
  readonly incarnation: number;
  readonly flushed: SegmentMember['flushed'];
  readonly settled: SegmentMember['settled'];
  readonly stampMax = { low: 0, high: 0 };
  outstanding = 0;
  private readonly process: SimProcess;
  private readonly service: MemberService;
  private readonly member: SegmentMember;
  private readonly line: LineSettings;
  private readonly frames: WireLine;
  private readonly pending: Pending[] = [];
  private readonly free: number[] = [];
  /** On their way to the member, or carried out there. */
  private readonly calls = new Set<MemberCall>();
  private fenced = FENCE_OPEN;

  /** For an engine in `process`; `member` is what `service` calls in the other one. */
  constructor(process: SimProcess, service: MemberService, member: SegmentMember, line: LineSettings) {
    this.process = process;
    this.service = service;
    this.member = member;
    this.line = line;
    this.frames = new WireLine(member.segmentBytes);
    this.deviceId = member.deviceId;
    this.segmentBytes = member.segmentBytes;
    this.incarnation = member.incarnation;
    this.flushed = member.flushed;
    this.settled = member.settled;
  }

  /** As the last answer told. */
  fence(): number {
    return this.fenced;
  }

  submit(request: SegmentRequest): void {
    this.begin().request = request;
  }

  list(page: SegmentList): void {
    this.begin().page = page;
  }

  /** The engine is dead: each request that has not arrived does so all the same, or never. Returns how many do, and do not. */
  cut(): { readonly left: number; readonly lost: number } {
    let [left, lost] = [0, 0];
    for (const call of this.calls) {
      if (call.begun) continue;
      if (this.line.random.chance(0.5)) {
        this.calls.delete(call);
        lost += 1;
      } else left += 1;
    }
    return { left, lost };
  }

  /** Whether a write is on its way that the member does not have yet. */
  get isWriting(): boolean {
    for (const { begun, request } of this.calls) if (!begun && request?.kind === REQUEST_WRITE) return true;
    return false;
  }

  /** Whether nothing that was sent is on its way or being carried out. */
  get drained(): boolean {
    return this.calls.size === 0;
  }

  private begin(): Pending {
    const slot = this.free.pop() ?? this.pending.push(new Pending()) - 1;
    this.outstanding += 1;
    this.process.submit(this, slot);
    return this.pending[slot];
  }

  /** What was asked for is handed over: record and payload are taken. */
  start(slot: number): void {
    const pending = this.pending[slot];
    const { request, page } = pending;
    const call = new MemberCall(this.member);
    if (request !== null && request.kind === REQUEST_WRITE) call.payload = this.payloadOf(request);
    call.request = request === null ? null : this.frames.request(request, call.payload);
    call.page = page === null ? null : this.frames.list(page);
    call.onEnd = () => {
      this.calls.delete(call);
      this.schedule(this.process, slot, EVENT_REPLY, this.latency());
    };
    pending.call = call;
    this.calls.add(call);
    const { time } = this.process;
    time.trace.add('member-ask', time.nowUs, 0, call.request?.chunk ?? 0, call.request?.kind ?? -1);
    const us = this.latency();
    this.schedule(this.service.process, slot, EVENT_ARRIVE, us);
    const { random } = this.line;
    if (request?.kind === REQUEST_RELEASE) this.forgetRepeats(request.chunk);
    const again = request !== null && (request.flags & REQUEST_NEWER) !== 0 && random.below(REPEAT_ONE_IN) === 0;
    if (again) this.repeat(call, us + random.between(...REPEAT_US));
  }

  private payloadOf({ memory, source, sourceBytes, blocks }: SegmentRequest): Uint8Array {
    const { bytes } = this.process;
    this.process.checkRange(memory, blocks * BLOCK_BYTES);
    if (source >= 0) bytes.copyWithin(memory, source, source + sourceBytes);
    return bytes.slice(memory, memory + blocks * BLOCK_BYTES);
  }

  /** A chunk that is released forgets its stamps, so nothing that is older may arrive afterwards. */
  private forgetRepeats(chunk: number): void {
    for (const call of this.calls)
      if (call.repeated && !call.begun && call.request?.chunk === chunk) this.calls.delete(call);
  }

  /** Lets a request arrive once more; nobody waits for its second answer. */
  private repeat(first: MemberCall, delayUs: number): void {
    const call = new MemberCall(this.member);
    call.request = first.request === null ? null : this.frames.request(first.request, first.payload);
    call.payload = first.payload;
    call.repeated = true;
    call.onEnd = () => this.calls.delete(call);
    this.calls.add(call);
    const slot = this.free.pop() ?? this.pending.push(new Pending()) - 1;
    this.pending[slot].call = call;
    this.schedule(this.service.process, slot, EVENT_REPEAT, delayUs);
  }

  private latency(): number {
    return this.line.random.between(...this.line.latencyUs);
  }

  private schedule(where: SimProcess, slot: number, event: number, delayUs: number): void {
    where.schedule(this, (slot << EVENT_BITS) | event, delayUs);
  }

  fire(code: number): void {
    const slot = code >> EVENT_BITS;
    const event = code & ((1 << EVENT_BITS) - 1);
    const pending = this.pending[slot];
    const { call } = pending;
    if (call === null) return;
    if (event === EVENT_REPLY) {
      this.end(pending, call);
      this.release(slot);
      return;
    }
    if (event === EVENT_REPEAT) this.release(slot);
    // Otherwise it was lost with the engine that had sent it.
    if (this.calls.has(call)) this.service.begin(call);
  }

  private release(slot: number): void {
    const pending = this.pending[slot];
    pending.call = null;
    pending.request = null;
    pending.page = null;
    this.free.push(slot);
  }

  /** The answer is there. */
  private end({ request, page }: Pending, call: MemberCall): void {
    const { process } = this;
    const { time } = process;
    this.outstanding -= 1;
    const origin = time.trace.add('member-answer', time.nowUs, 0, call.result, 0);
    if (request !== null && call.request !== null) {
      if (call.payload !== null && request.kind !== REQUEST_WRITE) process.put(call.payload, request.memory);
      const { result, fence } = this.frames.reply(call.request, call, call.payload, request);
      this.fenced = fence;
      process.complete(request.token, result, 0, origin);
    } else if (page !== null && call.page !== null) {
      const { result, fence } = this.frames.page(call.page, call, page);
      this.fenced = fence;
      process.complete(page.token, result, 0, origin);
    }
  }
}
