/**
 * A volume that another client may be writing, as one that only reads it serves it: with the newest maps that members have,
 * whoever holds them, and only while every member in-sync lets it read. It decides nothing, writes nothing and mends nothing.
 *
 * ```text
 *   Volume ─▶ VolumeReader ─▶ Pieces, SplitRequests ─▶ ReaderIo ─▶ members, opened as reader
 *                   ▲
 *                   └── follow(maps, members): whoever hears of maps, and opens members (`src/volumes/followed-volume.ts`)
 * ```
 *
 * Invariants: each read is linearizable with what clients of the writers see, whichever of them serves, and with other readers'.
 *
 * Fault model: as that of `ReaderIo`.
 */

import { Calls } from '../../core/calls.js';
import { check } from '../../core/check.js';
import { EIO } from '../../core/errno.js';
import { StrakeError } from '../../core/errors.js';
import { Fence } from '../../core/fence.js';
import { BLOCK_BYTES } from '../../core/limits.js';
import type { Watch } from '../../core/watch.js';
import { NO_FLUSH } from '../../layout/flush-id.js';
import { checkMap, type VolumeMap } from '../../layout/volume-map.js';
import type { Clock } from '../../ports/clock.js';
import type { CompletionPort } from '../../ports/completion.js';
import type { Memory } from '../../ports/memory.js';
import type { SegmentMember } from '../../ports/segment-member.js';
import type { Volume } from '../../ports/volume.js';
import type { CopyBuffers } from '../jobs/copy-buffers.js';
import { Membership } from '../mirror/membership.js';
import { Holding } from '../requests/holding.js';
import { Pieces } from '../requests/pieces.js';
import { SplitRequests } from '../requests/split-requests.js';
import { VolumeRequests } from '../requests/volume-requests.js';
import { VolumeCounters, type VolumeEvent, type VolumeStatus } from '../volume-events.js';
import { type VolumePhase, volumeStatus } from '../volume-status.js';
import { ReaderIo } from './reader-io.js';

/** Who serves a volume, by group and position; null where nobody can be asked. */
export type ReaderMembers = readonly (readonly (SegmentMember | null)[])[];

export interface VolumeReaderOptions {
  readonly completions: CompletionPort;
  readonly memory: Memory;
  readonly clock: Clock;
  /** Of the shard. */
  readonly watch: Watch;
  readonly record: VolumeMap;
  readonly members: ReaderMembers;
  /** Shared with engines. */
  readonly buffers: CopyBuffers;
  /** For how many milliseconds reads are held that cannot be answered. */
  readonly holdMs: () => number;
  /** A member does not answer any more. */
  readonly onGone: () => void;
  readonly onEvent: (event: VolumeEvent) => void;
}

export class VolumeReader implements Volume {
  readonly preferredBlockBytes = BLOCK_BYTES;
  readonly readOnly = true;
  readonly discard = false;
  readonly fastZero = false;
  private readonly membership: Membership;
  private readonly calls: Calls;
  private readonly holding: Holding;
  private readonly pieces: Pieces;
  private readonly split: SplitRequests;
  private readonly requests: VolumeRequests;
  private readonly counters = new VolumeCounters();
  private readonly fence = new Fence();
  private phase: VolumePhase = 'serving';

  /** Throws `ERR_STRAKE_INVALID_ARGUMENT` if the map contradicts itself. */
  constructor(options: VolumeReaderOptions) {
    const { completions, memory, clock, watch, record, members, buffers, holdMs, onGone, onEvent } = options;
    checkMap(record);
    const nothing = () => Promise.reject(new StrakeError('READ_ONLY', 'who only reads a volume decides nothing'));
    this.membership = new Membership(record, members, {
      ...{ commit: nothing, renew: nothing, awaits: true },
      onEvent: (event) => {
        if (this.serving) onEvent(event);
      },
      missedSince: () => NO_FLUSH,
      onChange: () => this.pieces.resumeHeld(),
    });
    const { membership, counters } = this;
    this.calls = new Calls(completions);
    this.holding = new Holding(clock, watch, holdMs);
    const { calls, holding } = this;
    const reading = { completions, memory, clock, membership, holding, calls, buffers, holdMs, onGone };
    this.pieces = new Pieces({
      ...{ completions, memory, membership, counters, holding },
      // Blocks are changed in part by modifications alone.
      scratch: 0,
      io: (source) => new ReaderIo({ ...reading, ...source }),
      repairRead: (piece) => this.pieces.endRepair(piece, -EIO, 0),
      onPartFree: () => this.split.feedStarved(),
      onModified: () => {},
      onDiscarded: () => {},
    });
    const { pieces } = this;
    this.split = new SplitRequests({
      ...{ completions, membership, pieces, holding },
      flush: (token) => completions.defer(token, 0),
    });
    this.requests = new VolumeRequests({
      ...{ completions, memory, membership, counters, pieces, split: this.split, readOnly: true },
      flushes: { flush: (token) => completions.defer(token, 0) },
      serving: () => this.serving,
    });
  }

  get record(): VolumeMap {
    return this.membership.record;
  }

  get serving(): boolean {
    return this.phase === 'serving';
  }

  get sizeBytes(): number {
    return this.membership.record.sizeBytes;
  }

  /** Goes on with newer maps, and with members that have come or gone. */
  follow(record: VolumeMap, members: ReaderMembers): void {
    check(this.phase !== 'closed', 'a volume is followed that is read no more', record.generation);
    check(members.length === record.groups.length, 'a volume is read by members of other groups', members.length);
    if (this.membership.stopped === null) this.membership.follow(record, members);
  }

  /** Nothing is read any more: requests fail from now on. */
  stop(reason: string): void {
    this.membership.stop(reason);
  }

  status(): VolumeStatus {
    return volumeStatus(this.membership, this.phase, this.counters, 0, []);
  }

  onFence(told: () => void): void {
    this.fence.onRaise(told);
  }

  /** Tells front ends, lets what is held fail, waits for what is in flight, and gives the handlers up. */
  async close(): Promise<void> {
    if (this.phase !== 'serving') return;
    this.phase = 'closing';
    this.fence.raise();
    const { pieces, split, calls, membership, holding } = this;
    membership.stop('it is read here no more');
    while (pieces.inFlight > 0 || split.inFlight > 0 || calls.running > 0) {
      await Promise.all([pieces.ended(), split.ended(), calls.idle()]);
    }
    this.phase = 'closed';
    holding.close();
    for (const part of [pieces, split, calls]) part.close();
  }

  // Requests.

  read(memory: number, lengthBytes: number, offsetBytes: number, token: number): void {
    this.requests.read(memory, lengthBytes, offsetBytes, token);
  }

  write(memory: number, lengthBytes: number, offsetBytes: number, flags: number, token: number): void {
    this.requests.writeFrom(-1, memory, lengthBytes, offsetBytes, flags, token);
  }

  writeFrom(
    source: number,
    memory: number,
    lengthBytes: number,
    offsetBytes: number,
    flags: number,
    token: number,
  ): void {
    this.requests.writeFrom(source, memory, lengthBytes, offsetBytes, flags, token);
  }

  zero(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    this.requests.zero(offsetBytes, spanBytes, flags, token);
  }

  discardRange(offsetBytes: number, spanBytes: number, flags: number, token: number): void {
    this.requests.discardRange(offsetBytes, spanBytes, flags, token);
  }

  flush(token: number): void {
    this.requests.flush(token);
  }

  extents(offsetBytes: number, spanBytes: number, memory: number, roomBytes: number, token: number): void {
    this.requests.extents(offsetBytes, spanBytes, memory, roomBytes, token);
  }
}
