/** What a device's structures are read through. */

import { StrakeError } from '../../core/errors.js';
import type { Checksum } from '../format/superblock.js';

/** A device to read from. */
export interface ImageReader {
  readonly sizeBytes: number;
  /** Bytes that are valid until the next read. Offset and length are multiples of 4 KiB, the length at most 1 MiB. */
  read(offset: number, length: number): Promise<Uint8Array>;
  readonly checksum: Checksum;
  /** It will never answer again. */
  readonly lost?: boolean;
}

/**
 * Whether a part of a device cannot be read, which matters as little as damage there where it exists twice or is not needed. A
 * device that is gone as a whole is another thing, and nothing may be read to the same memory again.
 */
export function isReadError(error: unknown, reader: ImageReader): error is StrakeError {
  return error instanceof StrakeError && error.code === 'ERR_STRAKE_IO' && reader.lost !== true;
}
