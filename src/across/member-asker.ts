/**
 * The asking end of the rings between two shards: what an engine here asks of members there, and what comes back.
 *
 * Nothing is copied but what a caller has said to copy to the payload's place, which happens here at once: the other side takes
 * a request as soon as it is shown (`AskingRing`), before this engine's next turn. Payloads lie in the arena of the node's first
 * shard, which each shard addresses in its own way: an entry says where from its beginning.
 *
 * At most `CALLS_MAX` are in flight; more wait here, in order of arrival, whichever member they are for. When the other shard
 * has died, what is in flight ends with an error, and so does everything that is asked later.
 */

import { check } from '../core/check.js';
import { EIO } from '../core/errno.js';
import { StrakeError } from '../core/errors.js';
import { Waiting } from '../core/waiting.js';
import { COMPLETION_ABANDONED } from '../ports/completion.js';
import { FENCE_ALL, FENCE_OPEN } from '../ports/device.js';
import type { Memory } from '../ports/memory.js';
import { SegmentList } from '../ports/segment-list.js';
import {
  REQUEST_ACCEPT,
  REQUEST_ENTRIES,
  REQUEST_FLUSH,
  REQUEST_READ,
  REQUEST_WRITE,
  SegmentRequest,
} from '../ports/segment-request.js';
import { RingConsumer } from '../ring/spsc-ring.js';
import { type AskingParts, AskingRing } from './asking-ring.js';
import { CALLS_MAX, ENTRY_AREAS, LIST_AREAS, MEMBERS_MAX, WAITING_MAX } from './limits.js';
import {
  ASK_CLOSE,
  ASK_LIST,
  ASK_OPEN,
  ASK_REQUEST,
  copyPage,
  ENTRY_AREA_WORDS,
  entryArea,
  KIND_SHIFT,
  type LinkMemory,
  ListArea,
  NO_AREA,
  REPLY_BACK,
} from './protocol.js';

/** What the requests to one device have in common. */
export class DeviceTraffic {
  /** Requests in flight, those that wait included. */
  outstanding = 0;
  /** `FENCE_*`, as the last answer told. */
  fence = FENCE_OPEN;
}

export interface MemberAskerParts extends AskingParts {
  readonly memory: Memory;
  readonly link: LinkMemory;
  /** Where the arena of the node's first shard begins, as this engine addresses it. */
  readonly payloads: number;
  /** An operation was given up that may still use memory which begins here, until it is taken back. */
  readonly lend: (memory: number) => void;
  readonly takeBack: (memory: number) => void;
}

type Asked = SegmentRequest | SegmentList;

export class MemberAsker {
  private readonly parts: MemberAskerParts;
  private readonly requests: AskingRing;
  private readonly replies: RingConsumer;
  private readonly bits: DataView;
  /** By tag: what is in flight, for which device, and its area. */
  private readonly asked: (Asked | null)[] = new Array(CALLS_MAX).fill(null);
  private readonly traffics: (DeviceTraffic | null)[] = new Array(CALLS_MAX).fill(null);
  private readonly areas = new Int32Array(CALLS_MAX).fill(NO_AREA);
  private readonly freeTags: number[] = [];
  private readonly freeAreas: number[] = [];
  private readonly freeLists: number[] = [];
  private readonly freeMembers: number[] = [];
  private readonly openMembers = new Set<number>();
  /** Of the same length: who waits, and the member that it is for. */
  private readonly waiting = new Waiting<Asked>('requests to another shard that wait', WAITING_MAX);
  private readonly waitingFor = new Waiting<number>('members of requests that wait', WAITING_MAX);
  private readonly waitingOn = new Waiting<DeviceTraffic>('devices of requests that wait', WAITING_MAX);
  /** Of a shard that has died: whether its device operations may go on. */
  private mayGoOn = false;

  constructor(parts: MemberAskerParts) {
    const { link } = parts;
    this.parts = parts;
    this.requests = new AskingRing(parts, link.requests, () => this.endAll());
    this.replies = new RingConsumer(link.replies);
    this.bits = new DataView(link.replies);
    for (let tag = CALLS_MAX - 1; tag >= 0; tag -= 1) this.freeTags.push(tag);
    for (let area = ENTRY_AREAS - 1; area >= 0; area -= 1) this.freeAreas.push(area);
    for (let area = LIST_AREAS - 1; area >= 0; area -= 1) this.freeLists.push(area);
    this.drain();
  }

  /** Requests in flight there. */
  get running(): number {
    return CALLS_MAX - this.freeTags.length;
  }

  /** Whether the other shard has died. */
  get lost(): boolean {
    return this.requests.lost;
  }

  // ---------------------------------------------------------------- what is asked

  /**
   * Opens a member: the replica on a page of a device, both by their numbers there. Returns the number that it has here. Throws
   * `ERR_STRAKE_BUSY` if as many are open as can be.
   */
  open(device: number, page: number): number {
    if (this.openMembers.size === MEMBERS_MAX) {
      throw new StrakeError(
        'BUSY',
        `${MEMBERS_MAX} members of volumes are open on another shard, which are as many as can be`,
      );
    }
    const member = this.freeMembers.pop() ?? this.openMembers.size;
    check(!this.openMembers.has(member), 'two members on another shard have one number', member);
    this.openMembers.add(member);
    if (this.lost) return member;
    const word = this.entry(ASK_OPEN, member);
    const { words } = this.requests;
    words[word + 3] = device;
    words[word + 4] = page;
    return member;
  }

  /** Closes a member; nothing of it is in flight. */
  close(member: number): void {
    check(this.openMembers.delete(member), 'a member on another shard is closed twice', member);
    if (!this.lost) this.entry(ASK_CLOSE, member);
    // Entries arrive in order, so the number may be given again at once.
    this.freeMembers.push(member);
  }

  submit(member: number, asked: Asked, traffic: DeviceTraffic): void {
    if (asked instanceof SegmentRequest) this.bring(asked);
    if (this.lost) {
      this.parts.completions.defer(asked.token, -EIO);
      return;
    }
    traffic.outstanding += 1;
    if (this.waiting.size === 0 && this.start(member, asked, traffic)) return;
    this.waiting.push(asked);
    this.waitingFor.push(member);
    this.waitingOn.push(traffic);
  }

  /** Copies a payload at once: the other shard may look at it before this one's batch is handed over. */
  private bring(request: SegmentRequest): void {
    const { memory, source, sourceBytes } = request;
    if (source < 0) return;
    const { bytes } = this.parts.memory;
    check(memory + sourceBytes <= bytes.length, 'a payload is copied where this shard has no memory', memory);
    bytes.copyWithin(memory, source, source + sourceBytes);
    request.source = -1;
  }

  /** Sends it, if there is room. */
  private start(member: number, asked: Asked, traffic: DeviceTraffic): boolean {
    if (this.freeTags.length === 0) return false;
    const area = this.areaFor(asked);
    if (area === undefined) return false;
    const tag = this.freeTags.pop() as number;
    this.asked[tag] = asked;
    this.traffics[tag] = traffic;
    this.areas[tag] = area;
    if (asked instanceof SegmentList) this.putList(member, tag, asked, area);
    else this.putRequest(member, tag, asked, area);
    return true;
  }

  /** An area for it, if it needs one; undefined if none is free. */
  private areaFor(asked: Asked): number | undefined {
    if (asked instanceof SegmentList) return this.freeLists.pop();
    return asked.entries === null ? NO_AREA : this.freeAreas.pop();
  }

  private entry(what: number, member: number): number {
    const word = this.requests.entry(what);
    this.requests.words[word + 2] = member;
    return word;
  }

  private putRequest(member: number, tag: number, request: SegmentRequest, area: number): void {
    const word = this.entry(ASK_REQUEST | (request.kind << KIND_SHIFT), member);
    const { words, floats } = this.requests;
    const half = word >> 1;
    const flush = request.kind === REQUEST_FLUSH;
    words[word + 1] = tag;
    words[word + 3] = usesMemory(request) ? request.memory - this.parts.payloads : 0;
    floats[half + 2] = flush ? request.settledNumber : request.chunk;
    words[word + 6] = request.block;
    words[word + 7] = request.blocks;
    words[word + 8] = flush ? request.settledGeneration : request.stampLow;
    words[word + 9] = request.stampHigh;
    floats[half + 5] = request.flushNumber;
    words[word + 12] = request.generation;
    words[word + 13] = request.flags;
    words[word + 14] = area;
    words[word + 15] = request.entries?.length ?? 0;
    if (request.entries !== null) this.putEntries(request, request.entries, area);
  }

  private putEntries(request: SegmentRequest, entries: Uint32Array, area: number): void {
    check(entries.length <= ENTRY_AREA_WORDS, 'a request has more entries than a chunk has', entries.length);
    if (request.kind === REQUEST_ENTRIES) return;
    entryArea(this.parts.link.areas, area, entries.length).set(entries);
  }

  private putList(member: number, tag: number, list: SegmentList, area: number): void {
    const word = this.entry(ASK_LIST | (list.kind << KIND_SHIFT), member);
    const { words, floats } = this.requests;
    const half = word >> 1;
    words[word + 1] = tag;
    floats[half + 2] = list.firstChunk;
    floats[half + 3] = list.endChunk;
    floats[half + 4] = list.cursor;
    floats[half + 5] = list.sinceNumber;
    floats[half + 6] = list.sinceGeneration;
    words[word + 14] = area;
    words[word + 15] = list.most;
  }

  /** Shows the other shard what has been asked. */
  publish(): void {
    this.requests.publish();
  }

  // ---------------------------------------------------------------- what comes back

  /** Takes what the other shard has answered. Called when it has woken this one. */
  drain(): void {
    if (this.lost) return;
    const { replies } = this;
    do {
      for (let word = replies.next(); word >= 0; word = replies.next()) this.take(word);
      replies.release();
      this.resume();
    } while (!replies.sleep());
  }

  private take(word: number): void {
    const { words } = this.replies;
    if (words[word] === REPLY_BACK) {
      this.parts.takeBack(words[word + 10] + this.parts.payloads);
      return;
    }
    const tag = words[word + 1];
    const result = words[word + 2];
    const flags = words[word + 3];
    const asked = this.asked[tag];
    const traffic = this.traffics[tag];
    check(asked !== null && traffic !== null, 'a request to another shard is answered that was not asked', tag);
    traffic.fence = words[word + 4];
    if (asked instanceof SegmentList) this.takeList(word, asked, this.areas[tag]);
    else this.takeRequest(word, asked, this.areas[tag]);
    this.end(tag, asked, traffic, result, flags);
  }

  private takeList(word: number, list: SegmentList, area: number): void {
    const { words, floats } = this.replies;
    list.count = words[word + 6];
    list.next = floats[(word >> 1) + 4];
    copyPage(new ListArea(this.parts.link.areas, area), list, list.count);
  }

  private takeRequest(word: number, request: SegmentRequest, area: number): void {
    const { words } = this.replies;
    if (words[word + 5] !== 0) {
      const second = this.replies.next();
      check(second >= 0, 'an answer names blocks that have not come', request.kind);
      const blocks = Math.max(request.blocks, 1);
      check(request.bad.take(this.bits, second * 4, blocks), 'an answer names blocks beyond its request', blocks);
      check(
        request.left.take(this.bits, second * 4 + 32, blocks),
        'an answer leaves blocks beyond its request',
        blocks,
      );
    }
    if (request.kind === REQUEST_ENTRIES && request.entries !== null) {
      request.entries.set(entryArea(this.parts.link.areas, area, request.entries.length));
    }
  }

  private end(tag: number, asked: Asked, traffic: DeviceTraffic, result: number, flags: number): void {
    const area = this.areas[tag];
    if (area !== NO_AREA) (asked instanceof SegmentList ? this.freeLists : this.freeAreas).push(area);
    this.asked[tag] = null;
    this.traffics[tag] = null;
    this.areas[tag] = NO_AREA;
    this.freeTags.push(tag);
    traffic.outstanding -= 1;
    check(traffic.outstanding >= 0, 'more has been answered than was asked of another shard', tag);
    if ((flags & COMPLETION_ABANDONED) !== 0 && asked instanceof SegmentList === false) this.parts.lend(asked.memory);
    this.parts.completions.finish(asked.token, result, flags);
  }

  /** There is room again: those who wait have their turn. */
  private resume(): void {
    const { waiting, waitingFor, waitingOn } = this;
    while (waiting.size > 0) {
      const [asked, member, traffic] = [waiting.next, waitingFor.next, waitingOn.next];
      check(asked !== undefined && member !== undefined && traffic !== undefined, 'who waits is for no member');
      if (!this.start(member, asked, traffic)) return;
      waiting.take();
      waitingFor.take();
      waitingOn.take();
    }
  }

  // ---------------------------------------------------------------- the end

  /**
   * The other shard has died: nothing comes back any more. `mayGoOn`: its device operations may still use memory of this one, for
   * ever; otherwise they have ended.
   */
  lose(mayGoOn: boolean): void {
    if (this.lost) return;
    this.mayGoOn = mayGoOn;
    this.requests.lose();
  }

  private endAll(): void {
    for (const [tag, asked] of this.asked.entries()) {
      const traffic = this.traffics[tag];
      if (asked === null || traffic === null) continue;
      traffic.fence = FENCE_ALL;
      this.end(tag, asked, traffic, -EIO, this.mayGoOn && usesMemory(asked) ? COMPLETION_ABANDONED : 0);
    }
    this.waitingFor.takeAll();
    const traffics = this.waitingOn.takeAll();
    for (const [at, asked] of this.waiting.takeAll().entries()) {
      traffics[at].outstanding -= 1;
      this.parts.completions.finish(asked.token, -EIO, 0);
    }
  }

  /** Gives up the handler; nothing may be in flight. */
  dispose(): void {
    check(this.running === 0 && this.waiting.size === 0, 'rings are given up that are in use', this.running);
    this.requests.dispose();
  }
}

function usesMemory(asked: Asked): boolean {
  if (asked instanceof SegmentList) return false;
  return asked.kind === REQUEST_READ || asked.kind === REQUEST_WRITE || asked.kind === REQUEST_ACCEPT;
}
