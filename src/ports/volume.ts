/**
 * Addressable storage of any alignment: what exports and in-process clients work on.
 *
 * Memory for a request at `offsetBytes` lies so that `memory - offsetBytes % 4096` is page-aligned, with room for whole
 * blocks around the payload: bytes before and after it, up to block boundaries, are scratch.
 */
export interface Volume {
  /** May grow at any time, and never shrinks: whoever needs it asks anew, with each request. */
  readonly sizeBytes: number;
  /** What requests should be multiples of, to be carried out without reading first. */
  readonly preferredBlockBytes: number;
  readonly readOnly: boolean;
  /** Whether discarding does anything. */
  readonly discard: boolean;
  /** Whether zeroing can be asked for only if it is fast. */
  readonly fastZero: boolean;
  /** Result: `lengthBytes`. */
  read(memory: number, lengthBytes: number, offsetBytes: number, token: number): void;
  /** Result: `lengthBytes`. `flags`: `DEVICE_FUA`. */
  write(memory: number, lengthBytes: number, offsetBytes: number, flags: number, token: number): void;
  /** As `write`, with the payload copied from `source` first; `source` is free when the batch is submitted. */
  writeFrom(
    source: number,
    memory: number,
    lengthBytes: number,
    offsetBytes: number,
    flags: number,
    token: number,
  ): void;
  /** Makes all writes that have completed durable. */
  flush(token: number): void;
  discardRange(offsetBytes: number, spanBytes: number, flags: number, token: number): void;
  zero(offsetBytes: number, spanBytes: number, flags: number, token: number): void;
  /**
   * `told` is called once, when the volume is at its end because it is closed or deleted; at once if it is. It is told within the
   * call that ends it: what is in flight ends as ever, and nothing may be asked of it any more.
   */
  onFence(told: () => void): void;
  /** As `Device.extents`. */
  extents(offsetBytes: number, spanBytes: number, memory: number, roomBytes: number, token: number): void;
}
