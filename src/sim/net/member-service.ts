/** What a process with stores does with requests that come from engines in others: each gets a buffer in its memory, or waits. */

import { BLOCK_BYTES } from '../../core/limits.js';
import { FENCE_OPEN } from '../../ports/device.js';
import type { SegmentList } from '../../ports/segment-list.js';
import type { SegmentMember } from '../../ports/segment-member.js';
import { REQUEST_ACCEPT, REQUEST_READ, type SegmentRequest } from '../../ports/segment-request.js';
import type { SimProcess } from '../world/process.js';

const BUFFERS = 128;

/** A request or a page of a list, as it has come, and its answer. */
export class MemberCall {
  readonly member: SegmentMember;
  request: SegmentRequest | null = null;
  page: SegmentList | null = null;
  /** What is written; what was read, once it has ended. */
  payload: Uint8Array | null = null;
  result = 0;
  fence = FENCE_OPEN;
  /** It has arrived. */
  begun = false;
  /** It has arrived before, and nobody waits for its answer. */
  repeated = false;
  onEnd: () => void = () => {};

  constructor(member: SegmentMember) {
    this.member = member;
  }
}

export class MemberService {
  readonly process: SimProcess;
  private readonly bufferBytes: number;
  private readonly base: number;
  private readonly calls: (MemberCall | null)[];
  private readonly free: number[] = [];
  private readonly waiting: MemberCall[] = [];
  private readonly memoryStart: number;

  /** Memory that it needs, from a page on, for chunks of this size. */
  static regionBytes(chunkBytes: number): number {
    return BUFFERS * chunkBytes;
  }

  constructor(process: SimProcess, memoryStart: number, chunkBytes: number) {
    this.process = process;
    this.memoryStart = memoryStart;
    this.bufferBytes = chunkBytes;
    this.calls = new Array(BUFFERS).fill(null);
    for (let slot = BUFFERS - 1; slot >= 0; slot -= 1) this.free.push(slot);
    this.base = process.register({ complete: (slot, result) => this.end(slot, result) });
  }

  begin(call: MemberCall): void {
    call.begun = true;
    const slot = this.free.pop();
    if (slot === undefined) {
      this.waiting.push(call);
      return;
    }
    this.calls[slot] = call;
    const { request, page, payload, member } = call;
    if (page !== null) {
      page.token = this.base + slot;
      member.list(page);
    } else if (request !== null) {
      request.token = this.base + slot;
      request.memory = this.memoryOf(slot);
      if (payload !== null) this.process.put(payload, request.memory);
      member.submit(request);
    }
  }

  private memoryOf(slot: number): number {
    return this.memoryStart + slot * this.bufferBytes;
  }

  private end(slot: number, result: number): void {
    const call = this.calls[slot];
    if (call === null) throw new Error(`nothing is asked for in slot ${slot}`);
    const { request, member } = call;
    call.result = result;
    call.fence = member.fence();
    if (request !== null && result >= 0 && (request.kind === REQUEST_READ || request.kind === REQUEST_ACCEPT)) {
      const memory = this.memoryOf(slot);
      call.payload = this.process.bytes.slice(memory, memory + request.blocks * BLOCK_BYTES);
    }
    this.calls[slot] = null;
    this.free.push(slot);
    call.onEnd();
    const next = this.waiting.shift();
    if (next !== undefined) this.begin(next);
  }
}
