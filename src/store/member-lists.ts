/**
 * Lists of the segments of one member: from the slot table, and, of those that hold nothing, from block tables.
 *
 * Slots are gone through in their order, so a whole list costs one pass however many pages it has. Where a page goes on is the
 * number of a slot; of digests it is that of a range, as ranges may come and go between two pages.
 */

import { Calls } from '../core/calls.js';
import type { ReplicaPage, SlotIndex } from '../core/ids.js';
import { allVacant, ENTRY_WORDS } from '../layout/block-entry.js';
import { addToDigest, type ChunkDigest } from '../layout/chunk-digest.js';
import type { FlushId } from '../layout/flush-id.js';
import type { CompletionPort } from '../ports/completion.js';
import type { GroupIndex } from '../ports/ids.js';
import { DIGEST_CHUNKS } from '../ports/limits.js';
import { CHUNK_DOUBT, LIST_ALL, LIST_DIGESTS, LIST_ZERO, type SegmentList } from '../ports/segment-list.js';
import { REQUEST_ENTRIES, SegmentRequest } from '../ports/segment-request.js';
import { SLOT_FREE, slotBlocks } from './format/format.js';
import { SLOT_FLAG_DOUBT } from './running/slot-table.js';
import type { SegmentStore } from './segment-store.js';

/** Which segments of a volume belong to a member: those of one of its groups. */
export interface MemberShare {
  readonly group: GroupIndex;
  readonly groups: number;
}

export class MemberLists {
  private readonly completions: CompletionPort;
  private readonly store: SegmentStore;
  private readonly volume: ReplicaPage;
  private readonly share: MemberShare;
  private readonly calls: Calls;

  constructor(completions: CompletionPort, store: SegmentStore, volume: ReplicaPage, share: MemberShare) {
    this.completions = completions;
    this.store = store;
    this.volume = volume;
    this.share = share;
    this.calls = new Calls(completions);
  }

  /** Fills a page, and ends its token in a later batch. */
  fill(page: SegmentList): void {
    page.count = 0;
    page.next = -1;
    if (page.kind === LIST_ZERO) {
      void this.fillZero(page);
      return;
    }
    if (page.kind === LIST_DIGESTS) this.fillDigests(page);
    else this.fillSlots(page);
    this.completions.defer(page.token, page.count);
  }

  private fillSlots(page: SegmentList): void {
    const { slots } = this.store;
    if (page.endChunk - page.firstChunk <= page.most) {
      // So few are looked up one by one, and are one page.
      for (let chunk = page.firstChunk; chunk < page.endChunk; chunk += 1) {
        const slot = slots.find(this.volume, chunk);
        if (slot >= 0 && this.isListed(page, slot)) this.add(page, slot);
      }
      return;
    }
    for (let slot = page.cursor; slot < slots.slots; slot += 1) {
      if (!this.isListed(page, slot)) continue;
      if (page.count === page.most) {
        page.next = slot;
        return;
      }
      this.add(page, slot);
    }
  }

  private add(page: SegmentList, slot: number): void {
    const { slots } = this.store;
    const state = (slots.flags[slot] & SLOT_FLAG_DOUBT) !== 0 ? CHUNK_DOUBT : 0;
    page.add(slots.stripes[slot], slots.generations[slot], slots.flushNumbers[slot], state);
  }

  private owns(slot: number): boolean {
    const { slots } = this.store;
    if (slots.states[slot] === SLOT_FREE || slots.volumes[slot] !== this.volume) return false;
    return slots.stripes[slot] % this.share.groups === this.share.group;
  }

  private isListed(page: SegmentList, slot: number): boolean {
    const { slots } = this.store;
    if (!this.owns(slot)) return false;
    const chunk = slots.stripes[slot];
    if (chunk < page.firstChunk || chunk >= page.endChunk) return false;
    if (page.kind === LIST_ALL || (page.kind !== LIST_ZERO && (slots.flags[slot] & SLOT_FLAG_DOUBT) !== 0)) return true;
    const generation = slots.generations[slot];
    if (generation !== page.sinceGeneration) return generation > page.sinceGeneration;
    return slots.flushNumbers[slot] >= page.sinceNumber;
  }

  /** Reads the block tables of what may be listed, one after the other. */
  private async fillZero(page: SegmentList): Promise<void> {
    const { slots, superblock } = this.store;
    const request = new SegmentRequest();
    const blocks = slotBlocks(superblock.layout);
    const words = new Uint32Array(blocks * ENTRY_WORDS);
    for (let slot = page.cursor; slot < slots.slots; slot += 1) {
      if (!this.isListed(page, slot)) continue;
      if (page.count === page.most) {
        page.next = slot;
        break;
      }
      const chunk = slots.stripes[slot];
      const result = await this.calls.call((token) => {
        request.begin(REQUEST_ENTRIES, chunk, token);
        request.blocks = blocks;
        request.entries = words;
        this.store.submit(this.volume, request);
      });
      // What cannot be read is in use, for all that is known; meanwhile the slot may have become another segment's.
      if (result < 0 || !allVacant(words) || !this.owns(slot) || slots.stripes[slot] !== chunk) continue;
      this.add(page, slot);
    }
    this.completions.finish(page.token, page.count, 0);
  }

  private fillDigests(page: SegmentList): void {
    const { slots } = this.store;
    const digests = new Map<number, ChunkDigest>();
    for (let slot = 0; slot < slots.slots; slot += 1) {
      if (!this.owns(slot)) continue;
      const chunk = slots.stripes[slot];
      if (chunk < page.firstChunk || chunk >= page.endChunk) continue;
      const range = Math.floor(chunk / DIGEST_CHUNKS);
      if (range < page.cursor) continue;
      let digest = digests.get(range);
      if (digest === undefined) {
        digest = { low: 0, high: 0 };
        digests.set(range, digest);
      }
      addToDigest(digest, chunk, slots.generations[slot], slots.flushNumbers[slot]);
    }
    const ranges = [...digests].sort(([one], [other]) => one - other);
    for (const [range, { low, high }] of ranges.slice(0, page.most)) {
      page.add(range * DIGEST_CHUNKS, high, low, 0);
    }
    if (ranges.length > page.most) [page.next] = ranges[page.most];
  }

  /** Copies agree as of this point: nothing is in doubt any more. */
  endDoubt(at: FlushId): void {
    const { slots } = this.store;
    for (let slot = 0; slot < slots.slots; slot += 1) {
      if (this.owns(slot) && (slots.flags[slot] & SLOT_FLAG_DOUBT) !== 0) this.store.endDoubt(slot as SlotIndex, at);
    }
  }

  /** Gives up the handler; nothing may be in flight. */
  close(): void {
    this.calls.close();
  }
}
