/**
 * A member of a volume: one volume's part of a store of chunks on one device, in this process or, later, behind a connection.
 *
 * Nothing here looks into the other side: what is asked goes by records, and what the engine has to know at any moment (which
 * chunks have a slot) it keeps by itself, from lists and from what it has asked for.
 *
 * The caller keeps modifying operations on one block apart: it starts none while another on that block is in flight. It may
 * read a block while it is being modified; such a read returns old or new content or `-EBADMSG`, and is then to be
 * repeated when the modification has ended.
 *
 * Results of requests, besides what devices answer:
 *
 * - `-EINVAL`: the record is no request: an unknown kind or flag, a range that is empty or outside of the chunk
 * - `-EIO`: what devices answer; and everything that is asked of a member after its device has been let go of
 * - `-EBADMSG`: a block's content does not match its checksum, or is suspect; the member's other blocks are fine
 * - `-ENODATA`: a block is poisoned: its content was lost for good, and reading it fails until it is written again
 * - `-ENOSPC`: no slot is free
 * - `-ENOENT`: the chunk is not allocated, and the operation needs it to be
 * - `-ESTALE`: the member has a newer map than the one under which it was asked. Nothing has been done. Whoever decides about
 *   maps has been told of the newer one before: the same is asked again under that, unless by it another has the right to write
 */

import type { FlushNumber, Generation, MapVersion } from './ids.js';
import type { SegmentList } from './segment-list.js';
import type { SegmentRequest } from './segment-request.js';

/** Who waits until a member may be counted on for reads. */
export interface LeaseWaiter {
  /** That may be so now. */
  leased(): void;
}

export interface SegmentMember {
  // What is known when it is opened.

  /** 32 hexadecimal digits. */
  readonly deviceId: string;
  /** Bytes of a chunk. */
  readonly segmentBytes: number;
  /** Counts openings of the device; a flush covers only what was acknowledged under the same incarnation. */
  readonly incarnation: number;
  /**
   * Of the process that drives the device, where that is another one. An earlier image of a device counts its openings from
   * where it was, so that only within one life equal incarnations mean that nothing was lost. Absent: that of this process.
   */
  readonly life?: string;
  /** The last flush that is remembered (`REQUEST_MARKED`), as it was when the device was opened. */
  readonly flushed: { readonly generation: Generation; readonly flushNumber: FlushNumber };
  /**
   * What the last engine has told to be settled; null if that is not known. Everything recorded below is on every member that was
   * in-sync then.
   */
  readonly settled: { readonly generation: Generation; readonly flushNumber: FlushNumber } | null;
  /** The highest stamp of any block here. */
  readonly stampMax: { readonly low: number; readonly high: number };

  /** It compares the sums of a write with the content, in the pass in which it sums that anyway. Absent: it does not. */
  readonly compares?: boolean;
  /** It sends sums along with the blocks of a write, so who asks sums them once for all members. Absent: it does not. */
  readonly wantsSums?: boolean;
  /** It takes sums that are proven for those of the content, which it would sum by itself otherwise. Absent: it does not. */
  readonly takesSums?: boolean;

  // What replies bring.

  /** Data operations in flight on the device, whichever volume they are for. */
  readonly outstanding: number;
  /** `FENCE_*`: what the device still accepts. */
  fence(): number;

  /** Begins a request. Its token never ends within the call. */
  submit(request: SegmentRequest): void;
  /** Fills a page of a list. Its token never ends within the call. */
  list(page: SegmentList): void;

  /**
   * Whether a read that has come before this call may rely on the member under this version of the group's map: the member holds
   * it, and answers none that leaves another member out before this lease ends. Such a read goes to any member, if all that the
   * map calls in-sync may be relied on. It is always so where no manager decides about the volume.
   */
  mayRead(mapVersion: MapVersion): boolean;
  /** Tells `waiter` once, in a later call, when it may have become so. */
  whenLeased(waiter: LeaseWaiter): void;
}
