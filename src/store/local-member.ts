/** One volume's part of a store, as the volume engine sees it. */

import { Calls } from '../core/calls.js';
import { check } from '../core/check.js';
import { deviceError } from '../core/errno.js';
import type { SlotIndex } from '../core/ids.js';
import { ENTRY_WORDS } from '../layout/block-entry.js';
import type { FlushId } from '../layout/flush-id.js';
import type { CompletionPort } from '../ports/completion.js';
import {
  REQUEST_ACCEPT,
  REQUEST_ALLOCATE,
  REQUEST_COPY,
  REQUEST_ENTRIES,
  REQUEST_FLUSH,
  REQUEST_MARKED,
  REQUEST_POISON,
  REQUEST_READ,
  REQUEST_RELEASE,
  REQUEST_RESTAMP,
  REQUEST_WRITE,
  REQUEST_ZERO,
  SegmentRequest,
} from '../ports/segment-request.js';
import type { SegmentMember, SegmentState } from '../ports/segments.js';
import { SLOT_FREE, slotBlocks, TABLE_ENTRIES } from './format/format.js';
import { SLOT_FLAG_DOUBT } from './running/slot-table.js';
import type { SegmentStore } from './segment-store.js';
import { OP_ACCEPT_BLOCK, OP_FLAG_RELEASE } from './store-op.js';

/** Which segments of a volume belong to a member: those of one of its groups. */
export interface MemberShare {
  readonly group: number;
  readonly groups: number;
}

export class LocalMember implements SegmentMember {
  readonly deviceId: string;
  readonly segmentBytes: number;
  readonly incarnation: number;
  readonly flushed: FlushId;
  /** Stamps begin with a generation that no member has seen, so none is ever met again. */
  readonly stampMax = { low: 0, high: 0 };
  readonly share: MemberShare;
  private readonly store: SegmentStore;
  private readonly request = new SegmentRequest();
  private readonly volume: number;
  private readonly calls: Calls;

  /**
   * `volume`: index of the volume in the store. A device may be a member of several groups; what it has of others is not
   * this member's, and may be in another state.
   */
  constructor(
    completions: CompletionPort,
    store: SegmentStore,
    volume: number,
    share: MemberShare = { group: 0, groups: 1 },
  ) {
    const { superblock } = store;
    check(share.group < share.groups, 'a member is of a group that there is not', share.group);
    check(store.volumes[volume] !== undefined, 'a member is of a volume that is not here', volume);
    this.share = share;
    this.store = store;
    this.volume = volume;
    this.deviceId = superblock.deviceId;
    this.segmentBytes = superblock.layout.slotBytes;
    this.incarnation = superblock.incarnation;
    this.flushed = store.volumeTable.flushedMarks[volume];
    this.request.generation = store.volumes[volume]?.generation ?? 0;
    this.calls = new Calls(completions);
  }

  get outstanding(): number {
    return this.store.outstanding;
  }

  fence(): number {
    return this.store.fence();
  }

  has(stripe: number): boolean {
    return this.store.has(this.volume, stripe);
  }

  allocate(stripe: number, token: number): void {
    this.submit(REQUEST_ALLOCATE, stripe, token);
  }

  read(stripe: number, block: number, blocks: number, memory: number, token: number): void {
    this.request.memory = memory;
    this.submit(REQUEST_READ, stripe, token, block, blocks);
  }

  write(
    stripe: number,
    block: number,
    blocks: number,
    memory: number,
    source: number,
    stampLow: number,
    stampHigh: number,
    flags: number,
    token: number,
    entries?: Uint32Array,
  ): void {
    const { request } = this;
    request.memory = memory;
    request.source = source;
    request.stampLow = stampLow;
    request.stampHigh = stampHigh;
    request.flags = entries === undefined ? flags : flags | REQUEST_COPY;
    request.entries = entries ?? null;
    this.submit(REQUEST_WRITE, stripe, token, block, blocks);
  }

  zero(
    stripe: number,
    block: number,
    blocks: number,
    release: boolean,
    stampLow: number,
    stampHigh: number,
    flags: number,
    token: number,
  ): void {
    const { request } = this;
    request.stampLow = stampLow;
    request.stampHigh = stampHigh;
    request.flags = release ? flags | OP_FLAG_RELEASE : flags;
    this.submit(REQUEST_ZERO, stripe, token, block, blocks);
  }

  accept(stripe: number, block: number, blocks: number, memory: number, token: number): void {
    this.request.memory = memory;
    this.submit(REQUEST_ACCEPT, stripe, token, block, blocks);
  }

  flush(token: number, marked = false): void {
    if (marked) this.request.flags = REQUEST_MARKED;
    this.submit(REQUEST_FLUSH, 0, token);
  }

  /** Hands the request over, which is copied, and takes back what other kinds would take for theirs. */
  private submit(kind: number, chunk: number, token: number, block = 0, blocks = 0): void {
    const { request } = this;
    request.kind = kind;
    request.chunk = chunk;
    request.token = token;
    request.block = block;
    request.blocks = blocks;
    this.store.submit(this.volume, request);
    request.begin(kind, chunk, token);
  }

  mark(generation: number, flushNumber: number): void {
    this.request.generation = generation;
    this.request.flushNumber = flushNumber;
  }

  *segments(): Iterable<SegmentState> {
    const { slots } = this.store;
    for (let slot = 0; slot < slots.slots; slot += 1) if (this.owns(slot)) yield this.slotState(slot);
  }

  visit(each: (stripe: number, generation: number, flushNumber: number, dirty: boolean) => void): void {
    const { slots } = this.store;
    for (let slot = 0; slot < slots.slots; slot += 1) {
      if (!this.owns(slot)) continue;
      const dirty = (slots.flags[slot] & SLOT_FLAG_DOUBT) !== 0;
      each(slots.stripes[slot], slots.generations[slot], slots.flushNumbers[slot], dirty);
    }
  }

  stateOf(stripe: number): SegmentState | null {
    const slot = this.store.slots.find(this.volume, stripe);
    return slot < 0 ? null : this.slotState(slot);
  }

  private owns(slot: number): boolean {
    const { slots } = this.store;
    if (slots.states[slot] === SLOT_FREE || slots.volumes[slot] !== this.volume) return false;
    return slots.stripes[slot] % this.share.groups === this.share.group;
  }

  private slotState(slot: number): SegmentState {
    const { slots } = this.store;
    return {
      stripe: slots.stripes[slot],
      generation: slots.generations[slot],
      flushNumber: slots.flushNumbers[slot],
      dirty: (slots.flags[slot] & SLOT_FLAG_DOUBT) !== 0,
    };
  }

  /** The volume's copies agree: nothing of it is in doubt any more. */
  reconciled(): void {
    const { slots } = this.store;
    const { generation, flushNumber } = this.request;
    for (let slot = 0; slot < slots.slots; slot += 1) {
      if (!this.owns(slot) || (slots.flags[slot] & SLOT_FLAG_DOUBT) === 0) continue;
      this.store.endDoubt(slot as SlotIndex, { generation, flushNumber });
    }
  }

  async entries(stripe: number): Promise<Uint32Array> {
    const words = new Uint32Array(TABLE_ENTRIES * ENTRY_WORDS);
    const result = await this.calls.call((token) => {
      this.request.entries = words;
      this.submit(REQUEST_ENTRIES, stripe, token, 0, slotBlocks(this.store.superblock.layout));
    });
    if (result < 0) throw deviceError(-result, `reading the block table of segment ${stripe}`);
    return words.subarray(0, slotBlocks(this.store.superblock.layout) * ENTRY_WORDS);
  }

  async settle(
    stripe: number,
    block: number,
    how: 'accept' | 'poison',
    stampLow: number,
    stampHigh: number,
  ): Promise<void> {
    const kind = how === 'accept' ? OP_ACCEPT_BLOCK : REQUEST_POISON;
    const result = await this.calls.call((token) => {
      this.request.stampLow = stampLow;
      this.request.stampHigh = stampHigh;
      this.submit(kind, stripe, token, block, 1);
    });
    if (result < 0) throw deviceError(-result, `settling block ${block} of segment ${stripe}`);
  }

  restamp(stripe: number, generation: number, flushNumber: number, token: number): void {
    const { request } = this;
    const mark = { generation: request.generation, flushNumber: request.flushNumber };
    this.mark(generation, flushNumber);
    this.submit(REQUEST_RESTAMP, stripe, token);
    this.mark(mark.generation, mark.flushNumber);
  }

  async release(stripe: number): Promise<void> {
    const result = await this.calls.call((token) => this.submit(REQUEST_RELEASE, stripe, token));
    if (result < 0) throw deviceError(-result, `giving back segment ${stripe}`);
  }

  /** Gives up the handler; nothing may be in flight. */
  close(): void {
    this.calls.close();
  }
}
