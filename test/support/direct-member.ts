/** A member whose operations are calls with parameters: for tests that ask a store for one thing at a time. */

import { Calls } from '#strake/core/calls.js';
import { deviceError } from '#strake/core/errno.js';
import { ENTRY_WORDS } from '#strake/layout/block-entry.js';
import type { CompletionPort } from '#strake/ports/completion.js';
import {
  REQUEST_ACCEPT,
  REQUEST_AGREED,
  REQUEST_ALLOCATE,
  REQUEST_COPY,
  REQUEST_ENTRIES,
  REQUEST_FLUSH,
  REQUEST_MARKED,
  REQUEST_NEWER,
  REQUEST_POISON,
  REQUEST_READ,
  REQUEST_RELEASE,
  REQUEST_RELEASE_ZERO,
  REQUEST_RESTAMP,
  REQUEST_WRITE,
  REQUEST_ZERO,
  SegmentRequest,
} from '#strake/ports/segment-request.js';
import { slotBlocks } from '#strake/store/format/format.js';
import { LocalMember } from '#strake/store/local-member.js';
import { SLOT_FLAG_DOUBT } from '#strake/store/running/slot-table.js';
import type { SegmentStore } from '#strake/store/segment-store.js';

export interface SegmentState {
  readonly stripe: number;
  readonly generation: number;
  readonly flushNumber: number;
  readonly dirty: boolean;
}

export class DirectMember extends LocalMember {
  private readonly direct: Calls;
  private generation: number;
  private flushNumber = 0;
  private readonly blocks: number;

  constructor(
    protected readonly port: CompletionPort,
    private readonly segmentStore: SegmentStore,
    private readonly index: number,
  ) {
    super(port, segmentStore, index);
    this.direct = new Calls(port);
    this.blocks = slotBlocks(segmentStore.superblock.layout);
    this.generation = segmentStore.replicas[index]?.generation ?? 0;
  }

  has(stripe: number): boolean {
    return this.segmentStore.has(this.index, stripe);
  }

  /** What later modifications are recorded under. */
  mark(generation: number, flushNumber: number): void {
    this.generation = generation;
    this.flushNumber = flushNumber;
  }

  private ask(kind: number, stripe: number, fields: Partial<SegmentRequest>, token: number): SegmentRequest {
    const request = new SegmentRequest().begin(kind, stripe, token);
    request.generation = this.generation;
    request.flushNumber = this.flushNumber;
    Object.assign(request, fields);
    this.submit(request);
    return request;
  }

  allocate(stripe: number, token: number): void {
    this.ask(REQUEST_ALLOCATE, stripe, {}, token);
  }

  read(stripe: number, block: number, blocks: number, memory: number, token: number): void {
    this.ask(REQUEST_READ, stripe, { block, blocks, memory }, token);
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
    entries: Uint32Array | null = null,
  ): void {
    const all = entries === null ? flags : flags | REQUEST_COPY;
    const fields = { block, blocks, memory, source, stampLow, stampHigh, flags: all, entries };
    this.ask(REQUEST_WRITE, stripe, fields, token);
  }

  /** With `release` the slot is given back afterwards, if nothing in it is stored or kept. */
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
    const fields = { block, blocks, stampLow, stampHigh, flags };
    if (!release) {
      this.ask(REQUEST_ZERO, stripe, fields, token);
      return;
    }
    this.direct
      .call((one) => this.ask(REQUEST_ZERO, stripe, fields, one))
      .then((result) =>
        result < 0
          ? result
          : this.direct.call((one) => this.ask(REQUEST_RELEASE, stripe, { flags: REQUEST_RELEASE_ZERO }, one)),
      )
      .then((result) => this.port.finish(token, result, 0));
  }

  accept(stripe: number, block: number, blocks: number, memory: number, token: number): void {
    this.ask(REQUEST_ACCEPT, stripe, { block, blocks, memory }, token);
  }

  restamp(stripe: number, generation: number, flushNumber: number, token: number): void {
    this.ask(REQUEST_RESTAMP, stripe, { generation, flushNumber }, token);
  }

  flush(token: number, marked = false): void {
    this.ask(REQUEST_FLUSH, 0, { flags: marked ? REQUEST_MARKED : 0 }, token);
  }

  /** Copies agree: nothing is in doubt any more. */
  async reconciled(): Promise<void> {
    await this.direct.call((token) => this.ask(REQUEST_AGREED, 0, {}, token));
  }

  segments(): SegmentState[] {
    const { slots } = this.segmentStore;
    const found: SegmentState[] = [];
    for (let slot = 0; slot < slots.slots; slot += 1) {
      if (slots.states[slot] === 0 || slots.volumes[slot] !== this.index) continue;
      if (slots.stripes[slot] % this.share.groups !== this.share.group) continue;
      found.push({
        stripe: slots.stripes[slot],
        generation: slots.generations[slot],
        flushNumber: slots.flushNumbers[slot],
        dirty: (slots.flags[slot] & SLOT_FLAG_DOUBT) !== 0,
      });
    }
    return found;
  }

  stateOf(stripe: number): SegmentState | null {
    return this.segments().find((state) => state.stripe === stripe) ?? null;
  }

  /** The entries of a segment. */
  async entries(stripe: number): Promise<Uint32Array> {
    const entries = new Uint32Array(this.blocks * ENTRY_WORDS);
    const fields = { blocks: this.blocks, entries };
    const result = await this.direct.call((token) => this.ask(REQUEST_ENTRIES, stripe, fields, token));
    if (result < 0) throw deviceError(-result, `reading the block table of segment ${stripe}`);
    return entries;
  }

  /** Makes a block unreadable, if the stamp is newer than its own. */
  async poison(stripe: number, block: number, stampLow: number, stampHigh: number): Promise<void> {
    const fields = { block, blocks: 1, stampLow, stampHigh, flags: REQUEST_NEWER };
    const result = await this.direct.call((token) => this.ask(REQUEST_POISON, stripe, fields, token));
    if (result < 0) throw deviceError(-result, `poisoning block ${block} of segment ${stripe}`);
  }

  /** Takes the content of a block that is in doubt as it is, by way of a page of memory. */
  async acceptBlock(stripe: number, block: number, memory: number): Promise<void> {
    const fields = { block, blocks: 1, memory };
    const result = await this.direct.call((token) => this.ask(REQUEST_ACCEPT, stripe, fields, token));
    if (result < 0) throw deviceError(-result, `accepting block ${block} of segment ${stripe}`);
  }

  async release(stripe: number): Promise<void> {
    const result = await this.direct.call((token) => this.ask(REQUEST_RELEASE, stripe, {}, token));
    if (result < 0) throw deviceError(-result, `giving back segment ${stripe}`);
  }

  override close(): void {
    this.direct.close();
    super.close();
  }
}
