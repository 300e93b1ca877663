/**
 * One volume's part of a store, as the volume engine asks for it: checks what arrives, and calls the store.
 */

import { check } from '../core/check.js';
import { EINVAL } from '../core/errno.js';
import type { ReplicaPage } from '../core/ids.js';
import { compareFlushes, type FlushId, NO_FLUSH } from '../layout/flush-id.js';
import type { ReplicaMap } from '../layout/replica-map.js';
import { listError, type RequestBounds, requestError } from '../layout/request-checks.js';
import type { CompletionPort } from '../ports/completion.js';
import type { FlushNumber, Generation, MapVersion } from '../ports/ids.js';
import type { SegmentList } from '../ports/segment-list.js';
import type { LeaseWaiter, SegmentMember } from '../ports/segment-member.js';
import { REQUEST_AGREED, REQUEST_FLUSH, type SegmentRequest } from '../ports/segment-request.js';
import { slotBlocks } from './format/format.js';
import { MemberLists, type MemberShare } from './member-lists.js';
import type { SegmentStore } from './segment-store.js';

/** Of a page in the form of version 1, which is not served: whatever it has. */
const WHOLE: MemberShare = { group: 0, groups: 1 };

export class LocalMember implements SegmentMember {
  readonly deviceId: string;
  readonly segmentBytes: number;
  readonly incarnation: number;
  readonly flushed: FlushId;
  readonly settled: FlushId | null;
  /** Stamps begin with a generation that no member has seen, so none is ever met again. */
  readonly stampMax = { low: 0, high: 0 };
  readonly compares = true;
  readonly takesSums = true;
  readonly share: MemberShare;
  /** Why the request that was refused last was none; empty if there was no such. */
  refusal = '';
  private readonly completions: CompletionPort;
  private readonly store: SegmentStore;
  private readonly volume: ReplicaPage;
  private readonly chunkBlocks: number;
  private readonly lists: MemberLists;
  /** The bounds of requests, and the map that they follow from. */
  private known: RequestBounds | null = null;
  private boundedBy: ReplicaMap | undefined;

  /**
   * `volume`: number of the replica's page in the store. A device may be a member of several groups of a volume; it has a page
   * for each, and what belongs to the others is not this member's.
   */
  constructor(completions: CompletionPort, store: SegmentStore, volume: ReplicaPage) {
    const { superblock } = store;
    const { owners, legacy } = store.volumeTable;
    check(owners.list[volume] !== undefined, 'a member is of a replica that is not here', volume);
    const map = store.replicas[volume];
    check(map !== undefined || legacy.has(volume), 'a member is of a replica that has no map', volume);
    this.share = map === undefined ? WHOLE : { group: map.group, groups: map.groups };
    this.completions = completions;
    this.store = store;
    this.volume = volume;
    this.deviceId = superblock.deviceId;
    this.segmentBytes = superblock.layout.slotBytes;
    this.chunkBlocks = slotBlocks(superblock.layout);
    this.incarnation = superblock.incarnation;
    this.flushed = store.volumeTable.flushedMarks[volume];
    const settled = store.volumeTable.settled.of(volume);
    this.settled = compareFlushes(settled, NO_FLUSH) > 0 ? settled : null;
    this.lists = new MemberLists(completions, store, volume, this.share);
  }

  get outstanding(): number {
    return this.store.outstanding;
  }

  fence(): number {
    return this.store.fence();
  }

  /** What its requests must lie in. */
  private get bounds(): RequestBounds {
    const map = this.store.replicas[this.volume];
    if (map !== this.boundedBy || this.known === null) {
      // A volume that is deleted, or not known yet, has no size that would count.
      const sized = map !== undefined && !map.volume.deleted;
      const chunks = sized ? Math.ceil(map.volume.sizeBytes / this.segmentBytes) : Number.MAX_SAFE_INTEGER;
      this.known = { chunks, chunkBlocks: this.chunkBlocks, ...this.share };
      this.boundedBy = map;
    }
    return this.known;
  }

  submit(request: SegmentRequest): void {
    const error = requestError(request, this.bounds);
    if (error !== null) this.refuse(error, request.token);
    else if (request.kind === REQUEST_AGREED) this.agree(request);
    else {
      if (request.kind === REQUEST_FLUSH) this.noteSettled(request.settledGeneration, request.settledNumber);
      this.store.submit(this.volume, request);
    }
  }

  list(page: SegmentList): void {
    const error = listError(page);
    if (error !== null) this.refuse(error, page.token);
    else this.lists.fill(page);
  }

  private refuse(error: string, token: number): void {
    this.refusal = error;
    this.completions.defer(token, -EINVAL);
  }

  private noteSettled(generation: Generation, flushNumber: FlushNumber): void {
    // Control work that knows of nothing that is settled says so.
    if (generation > 0) this.store.volumeTable.noteSettled(this.volume, { generation, flushNumber });
  }

  /** The volume's copies agree: nothing of it is in doubt any more. */
  private agree({ generation, flushNumber, token }: SegmentRequest): void {
    this.lists.endDoubt({ generation, flushNumber });
    this.noteSettled(generation, flushNumber);
    this.completions.defer(token, 0);
  }

  mayRead(_mapVersion: MapVersion): boolean {
    return true;
  }

  whenLeased(_waiter: LeaseWaiter): void {}

  /** Gives up the handler; nothing may be in flight. */
  close(): void {
    this.lists.close();
  }
}
