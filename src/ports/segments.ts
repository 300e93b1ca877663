/**
 * What a volume engine asks of a member of a volume: a store of segments on one device, in this process or, later, behind a
 * connection.
 *
 * A *segment* is `segmentBytes` of a volume, named by its number within the volume (the stripe). Data operations work on
 * whole blocks of `BLOCK_BYTES` within one segment, never wait for a promise, and end by a token as device operations do.
 * Control operations return promises.
 *
 * The caller keeps modifying operations on one block apart: it starts none while another on that block is in flight. It may
 * read a block while it is being modified; such a read returns old or new content or `-EBADMSG`, and is then to be
 * repeated when the modification has ended.
 *
 * Results of data operations, besides what devices answer:
 *
 * - `-EBADMSG`: a block's content does not match its checksum, or is suspect; the member's other blocks are fine
 * - `-ENODATA`: a block is poisoned: its content was lost for good, and reading it fails until it is written again
 * - `-ENOSPC`: no slot is free
 * - `-ENOENT`: the segment is not allocated, and the operation needs it to be
 */

/** Flags of writes and zeroing: the same as `DEVICE_FUA` and, of zeroing, `DEVICE_KEEP_ALLOCATED`. */
export const SEGMENT_FUA = 1;
export const SEGMENT_KEEP = 2;

/** What a member knows of one segment. */
export interface SegmentState {
  readonly stripe: number;
  /** The generation and flush number of its volume when it was last modified. */
  readonly generation: number;
  readonly flushNumber: number;
  /** It was being modified when the device was last closed without notice: its content must be reconciled. */
  readonly dirty: boolean;
}

/** One volume's part of a store. */
export interface SegmentMember {
  /** 32 hexadecimal digits. */
  readonly deviceId: string;
  readonly segmentBytes: number;
  /** Counts openings of the device; a flush covers only what was acknowledged under the same incarnation. */
  readonly incarnation: number;
  /** Data operations in flight on the device, whichever volume they are for. */
  readonly outstanding: number;
  /** `FENCE_*`: what the device still accepts. */
  fence(): number;

  /** Whether the segment has a slot here. */
  has(stripe: number): boolean;
  /** Gives a segment a slot, durably; does nothing if it has one. Result: 0, `-ENOSPC` or another error. */
  allocate(stripe: number, token: number): void;
  /** Reads blocks; those never written, and those of a segment without a slot, are zeroes. Result: the bytes read. */
  read(stripe: number, block: number, blocks: number, memory: number, token: number): void;
  /**
   * Writes blocks of an allocated segment from `memory`. If `source` is not negative, `sourceBytes` (all of the payload) are
   * copied from there to `memory` first, and `source` is free again when the batch is submitted. The stamp is the
   * 64-bit write sequence, in two words; with `entries`, of another copy, each block gets the stamp that it has there.
   * Survives the death of the process once it has ended, and loss of power after the next `flush`, or at once with
   * `SEGMENT_FUA`. Result: the bytes written.
   */
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
  ): void;
  /**
   * Makes blocks of an allocated segment zero without storing them; with `SEGMENT_KEEP` their space is kept. If nothing else
   * in the segment is stored or kept and `release` is set, its slot becomes free; with `release`, the caller starts no
   * other modification in the segment until this has ended. With no blocks nothing becomes zero, and the slot becomes
   * free all the same if nothing is stored or kept. Result: 0.
   */
  zero(
    stripe: number,
    block: number,
    blocks: number,
    release: boolean,
    stampLow: number,
    stampHigh: number,
    flags: number,
    token: number,
  ): void;
  /**
   * Ends doubt about all suspect blocks of a range: takes the content that is there as it is, with the stamps that they
   * have. It is read to `memory`, which takes the whole range. The caller keeps other operations away. Result: the bytes.
   */
  accept(stripe: number, block: number, blocks: number, memory: number, token: number): void;
  /**
   * Makes durable what has ended on this device. A failure is final: the device is fenced. With `marked`, it is remembered
   * that this was the volume's flush of the current number. Result: 0.
   */
  flush(token: number, marked?: boolean): void;
  /** The last flush that is remembered, as it was when the device was opened. */
  readonly flushed: { readonly generation: number; readonly flushNumber: number };

  /** The generation and flush number that later modifications are recorded under. */
  mark(generation: number, flushNumber: number): void;
  /** All segments that have a slot, in no order. */
  segments(): Iterable<SegmentState>;
  /** The same, without making anything for each; a device may have millions. */
  visit(each: (stripe: number, generation: number, flushNumber: number, dirty: boolean) => void): void;
  /** What is known of one segment; null if it has no slot. */
  stateOf(stripe: number): SegmentState | null;
  /** A copy of a segment's entries, `ENTRY_WORDS` (`src/layout/block-entry.ts`) for each block. Rejects with a `StrakeError`. */
  entries(stripe: number): Promise<Uint32Array>;
  /** The highest stamp of any block here. */
  readonly stampMax: { readonly low: number; readonly high: number };
  /**
   * Ends doubt about a block: takes the content that is there as it is (`accept`), or makes it unreadable (`poison`).
   * The caller keeps other operations away from it.
   */
  settle(stripe: number, block: number, how: 'accept' | 'poison', stampLow: number, stampHigh: number): Promise<void>;
  /**
   * The segment holds what another copy holds that is recorded under this generation and flush number: it is recorded under
   * them from now on, and is in doubt no more. Does nothing without a slot. The caller keeps modifications of the segment
   * away. Durable with the next flush. Result: 0.
   */
  restamp(stripe: number, generation: number, flushNumber: number, token: number): void;
  /** Gives the segment's slot back, whatever it holds. */
  release(stripe: number): Promise<void>;
}
