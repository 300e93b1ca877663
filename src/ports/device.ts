/**
 * A block device, as the layers above drive it. Offsets and lengths are multiples of `logicalBlockBytes`; memory is
 * aligned as the device needs. Each operation completes once, in any order.
 *
 * Reads and writes take `checksums`: where in memory the CRC32C of each 4 KiB of the payload is put, as 32-bit words in the
 * machine's order, by the time the operation completes successfully; 0 for nowhere, which is the default. The place is a
 * multiple of 4 and no part of the payload, whose length is then a multiple of 4 KiB. The checksums of a write are those
 * of what the device was given; those of a read, of what it returned. After a failure the words mean nothing.
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
/**
 * Of a write: the words at `checksums` are there, and are those that its payload is to have. If it has others it ends with
 * `-EBADMSG` and `COMPLETION_MISMATCH`, and the device does not see it.
 */
export const DEVICE_SUMMED = 64;

/** What a device still accepts: everything, reads, nothing. */
export const FENCE_OPEN = 0;
export const FENCE_WRITES = 1;
export const FENCE_ALL = 2;

/** Bytes of one extent as `Device.extents` lists it. */
export const LISTED_EXTENT_BYTES = 16;

export interface Device {
  readonly geometry: DeviceGeometry;
  /** How many operations it has been given: transfers, flushes and whatever else. */
  readonly operationCount: number;
  /** Result: `lengthBytes`. */
  read(memory: number, lengthBytes: number, offsetBytes: number, token: number, checksums?: number): void;
  /** Result: `lengthBytes`. */
  write(
    memory: number,
    lengthBytes: number,
    offsetBytes: number,
    flags: number,
    token: number,
    checksums?: number,
  ): void;
  /** Copies the payload from `source` to `memory` first; `source` is free again when the batch is submitted. */
  writeFrom(
    source: number,
    memory: number,
    lengthBytes: number,
    offsetBytes: number,
    flags: number,
    token: number,
    checksums?: number,
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
