/**
 * The answering end of the rings between two shards: carries out here, on members whose stores are here, what an engine there
 * has asked for.
 *
 * The payload stays in the arena of the node's first shard, which the engine of each other shard has as a guest. Replies are
 * published at the end of each batch. When the asking shard has died, what is in flight ends here by itself, and is told to
 * nobody.
 */

import { check } from '../core/check.js';
import { EIO } from '../core/errno.js';
import { BLOCK_BYTES } from '../core/limits.js';
import { Notify } from '../core/notify.js';
import { COMPLETION_ABANDONED, type CompletionPort } from '../ports/completion.js';
import { FENCE_ALL } from '../ports/device.js';
import type { Memory } from '../ports/memory.js';
import { SegmentList } from '../ports/segment-list.js';
import type { SegmentMember } from '../ports/segment-member.js';
import { REQUEST_FLUSH, SegmentRequest } from '../ports/segment-request.js';
import { RingConsumer, RingProducer } from '../ring/spsc-ring.js';
import { CALLS_MAX, LIST_AREAS } from './limits.js';
import {
  ASK_CLOSE,
  ASK_LIST,
  ASK_OPEN,
  ASK_REQUEST,
  copyPage,
  entryArea,
  KIND_SHIFT,
  type LinkMemory,
  ListArea,
  NO_AREA,
  REPLY_BACK,
  REPLY_DONE,
} from './protocol.js';

const WHAT_MASK = (1 << KIND_SHIFT) - 1;

/** A member that is open for the other shard, until it is closed. */
export interface AnsweringMember extends SegmentMember {
  close(): void;
}

export interface MemberAnswererParts {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly link: LinkMemory;
  /** Wakes the other shard. */
  readonly wake: () => void;
  /** Where the arena of the node's first shard begins, as this engine addresses it, and its length in bytes. */
  readonly guestStart: number;
  readonly guestBytes: number;
  /** The replica on a page of a device, both by number; null if the device is not open any more, or has no such replica. */
  readonly member: (device: number, page: number) => AnsweringMember | null;
}

export class MemberAnswerer {
  private readonly parts: MemberAnswererParts;
  private readonly requests: RingConsumer;
  private readonly replies: RingProducer;
  private readonly bits: DataView;
  private readonly token: number;
  /** By number; null of one that could not be opened. */
  private readonly members: (AnsweringMember | null | undefined)[] = [];
  /** By tag. */
  private readonly records: SegmentRequest[] = [];
  private readonly askedOf: (SegmentMember | undefined)[] = new Array(CALLS_MAX);
  private readonly pages: (SegmentList | null)[] = new Array(CALLS_MAX).fill(null);
  private readonly areas = new Int32Array(CALLS_MAX).fill(NO_AREA);
  /** By area. */
  private readonly lists: SegmentList[] = Array.from({ length: LIST_AREAS }, () => new SegmentList());
  private readonly listAreas: ListArea[];
  private running = 0;
  /** Given up, while memory of the first shard may still be used for them. */
  private late = 0;
  private unpublished = false;
  private ended = false;
  private readonly idled = new Notify();
  private readonly batchEnd = () => this.publish();

  constructor(parts: MemberAnswererParts) {
    const { completions, link } = parts;
    this.parts = parts;
    this.requests = new RingConsumer(link.requests);
    this.replies = new RingProducer(link.replies);
    this.bits = new DataView(link.replies);
    this.listAreas = this.lists.map((_, area) => new ListArea(link.areas, area));
    this.token = completions.register({ complete: (tag, result, flags) => this.end(tag, result, flags) });
    completions.onBatchEnd(this.batchEnd);
    this.drain();
  }

  get busy(): boolean {
    return this.running > 0;
  }

  /** Whether operations that were given up may still use memory of the node's first shard. */
  get usesMemory(): boolean {
    return this.late > 0;
  }

  /** Takes what the other shard has asked. Called when it has woken this one. */
  drain(): void {
    if (this.ended) return;
    const { requests } = this;
    do {
      for (let word = requests.next(); word >= 0; word = requests.next()) this.begin(word);
      requests.release();
    } while (!requests.sleep());
  }

  private begin(word: number): void {
    const { words } = this.requests;
    const member = words[word + 2];
    switch (words[word] & WHAT_MASK) {
      case ASK_REQUEST:
        this.request(word, this.members[member] ?? null);
        return;
      case ASK_LIST:
        this.list(word, this.members[member] ?? null);
        return;
      case ASK_OPEN:
        check(this.members[member] === undefined, 'a member is opened under the number of another', member);
        this.members[member] = this.parts.member(words[word + 3], words[word + 4]);
        return;
      default:
        check(words[word] === ASK_CLOSE, 'the ring from another shard holds what nobody asks', words[word]);
        this.members[member]?.close();
        this.members[member] = undefined;
    }
  }

  private request(word: number, member: SegmentMember | null): void {
    const { words, floats } = this.requests;
    const half = word >> 1;
    const tag = words[word + 1];
    const kind = words[word] >> KIND_SHIFT;
    const flush = kind === REQUEST_FLUSH;
    const record = this.recordOf(tag).begin(kind, flush ? 0 : floats[half + 2], this.token + tag);
    const area = words[word + 14];
    record.memory = this.memoryOf(words[word + 3], words[word + 7]);
    record.block = words[word + 6];
    record.blocks = words[word + 7];
    if (flush) {
      record.settledNumber = floats[half + 2];
      record.settledGeneration = words[word + 8];
    } else {
      record.stampLow = words[word + 8];
      record.stampHigh = words[word + 9];
    }
    record.flushNumber = floats[half + 5];
    record.generation = words[word + 12];
    record.flags = words[word + 13];
    record.entries = area === NO_AREA ? null : entryArea(this.parts.link.areas, area, words[word + 15]);
    this.note(tag, member, null, area);
    if (member === null) this.end(tag, -EIO, 0);
    else member.submit(record);
  }

  private recordOf(tag: number): SegmentRequest {
    check(tag >= 0 && tag < CALLS_MAX, 'a request of another shard has no tag', tag);
    let record = this.records[tag];
    if (record === undefined) {
      record = new SegmentRequest();
      this.records[tag] = record;
    }
    return record;
  }

  private memoryOf(memory: number, blocks: number): number {
    const { guestStart, guestBytes } = this.parts;
    if (blocks === 0) return guestStart;
    check(memory >= 0 && memory + blocks * BLOCK_BYTES <= guestBytes, 'a payload lies outside of its arena', memory);
    return guestStart + memory;
  }

  private list(word: number, member: SegmentMember | null): void {
    const { words, floats } = this.requests;
    const half = word >> 1;
    const tag = words[word + 1];
    const area = words[word + 14];
    const page = this.lists[area].begin(words[word] >> KIND_SHIFT, floats[half + 2], floats[half + 3]);
    page.cursor = floats[half + 4];
    page.sinceNumber = floats[half + 5];
    page.sinceGeneration = floats[half + 6];
    page.most = words[word + 15];
    page.token = this.token + tag;
    this.note(tag, member, page, area);
    if (member === null) this.end(tag, -EIO, 0);
    else member.list(page);
  }

  private note(tag: number, member: SegmentMember | null, page: SegmentList | null, area: number): void {
    check(this.areas[tag] === NO_AREA && this.pages[tag] === null, 'two requests of another shard have one tag', tag);
    this.askedOf[tag] = member ?? undefined;
    this.pages[tag] = page;
    this.areas[tag] = area;
    this.running += 1;
  }

  private end(tag: number, result: number, flags: number): void {
    const page = this.pages[tag];
    const abandoned = (flags & COMPLETION_ABANDONED) !== 0;
    this.running -= 1;
    check(this.running >= 0, 'more has ended than another shard has asked for', tag);
    if (page !== null && result >= 0) copyPage(page, this.listAreas[this.areas[tag]], page.count);
    if (!this.ended) this.reply(tag, page, result, flags);
    // What ends behind an `await` ends between two batches, and the next one might be long in coming.
    if (!this.parts.completions.inBatch) this.publish();
    this.pages[tag] = null;
    this.areas[tag] = NO_AREA;
    if (abandoned && page === null) this.returnLater(this.records[tag]);
    if (this.running === 0) this.idled.tell();
  }

  private reply(tag: number, page: SegmentList | null, result: number, flags: number): void {
    const word = this.reserve();
    const { words, floats } = this.replies;
    words[word] = REPLY_DONE;
    words[word + 1] = tag;
    words[word + 2] = result;
    words[word + 3] = flags;
    words[word + 4] = this.askedOf[tag]?.fence() ?? FENCE_ALL;
    words[word + 5] = 0;
    if (page !== null) {
      words[word + 6] = result < 0 ? 0 : page.count;
      floats[(word >> 1) + 4] = result < 0 ? -1 : page.next;
      return;
    }
    const { bad, left } = this.records[tag];
    if (bad.count + left.count === 0) return;
    words[word + 5] = 1;
    const second = this.reserve();
    bad.put(this.bits, second * 4);
    left.put(this.bits, second * 4 + 32);
  }

  private reserve(): number {
    const word = this.replies.reserve();
    check(word >= 0, 'nobody takes the replies to another shard');
    this.unpublished = true;
    return word;
  }

  /** An operation was given up that may still use the other shard's memory. */
  private returnLater({ memory, blocks }: SegmentRequest): void {
    const { guestStart } = this.parts;
    this.late += 1;
    this.parts.memory.whenFree(memory, blocks * BLOCK_BYTES, () => {
      this.late -= 1;
      if (this.ended) return;
      const word = this.reserve();
      this.replies.words[word] = REPLY_BACK;
      this.replies.words[word + 10] = memory - guestStart;
      this.publish();
    });
  }

  private publish(): void {
    if (!this.unpublished || this.ended) return;
    this.unpublished = false;
    if (this.replies.publish()) this.parts.wake();
  }

  /** The other shard asks for nothing any more. Resolves when nothing is in flight, and all members are closed. */
  async close(): Promise<void> {
    this.ended = true;
    while (this.running > 0) await this.idled.next();
    for (const member of this.members.splice(0)) member?.close();
    this.parts.completions.offBatchEnd(this.batchEnd);
    this.parts.completions.unregister(this.token);
  }
}
