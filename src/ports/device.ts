/**
 * A block device, as the layers above drive it. Offsets and lengths are multiples of `logicalBlockBytes`; memory is
 * aligned as the device needs. Each operation completes once, in any order.
 */

/** What a device is and can do; sizes are in bytes. */
export interface DeviceGeometry {
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly physicalBlockBytes: number;
  /** Whether discarding does anything. */
  readonly discard: boolean;
  /** The most that the device zeroes by itself in one command; 0 where it cannot. Files can always. */
  readonly writeZeroesMaxBytes: number;
}

/** The completion promises durability. */
export const DEVICE_FUA = 1;
/** Zeroing keeps the range allocated. */
export const DEVICE_KEEP_ALLOCATED = 2;
/** Zeroing fails with `EOPNOTSUPP` rather than write zeroes. */
export const DEVICE_FAST_ONLY = 4;

/** What a device still accepts: everything, reads, nothing. */
export const FENCE_OPEN = 0;
export const FENCE_WRITES = 1;
export const FENCE_ALL = 2;

export interface Device {
  readonly geometry: DeviceGeometry;
  /** Result: `lengthBytes`. */
  read(memory: number, lengthBytes: number, offsetBytes: number, token: number): void;
  /** Result: `lengthBytes`. */
  write(memory: number, lengthBytes: number, offsetBytes: number, flags: number, token: number): void;
  /** Copies the payload from `source` to `memory` first; `source` is free again when the batch is submitted. */
  writeFrom(
    source: number,
    memory: number,
    lengthBytes: number,
    offsetBytes: number,
    flags: number,
    token: number,
  ): void;
  /** Makes completed writes durable. A failure is final: the device is fenced against writes. */
  sync(token: number): void;
  discard(offsetBytes: number, spanBytes: number, flags: number, token: number): void;
  zero(offsetBytes: number, spanBytes: number, flags: number, token: number): void;
  /** Lists extents at `memory` as pairs of float64 (length in bytes, kind: 0 data, 3 hole). Result: their number. */
  extents(offsetBytes: number, spanBytes: number, memory: number, roomBytes: number, token: number): void;
  /** `FENCE_*`. */
  fence(): number;
  /** Gives the device up once nothing is in flight. */
  close(): void;
}
