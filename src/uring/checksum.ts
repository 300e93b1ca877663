/** Checksums of memory that no engine has, for any thread. */

import { native } from './native.js';

/** CRC32C of `bytes`, an unsigned number of 32 bits. Bytes that others change meanwhile make it meaningless. */
export function crc32c(bytes: Uint8Array): number {
  return native().crc32c(bytes, 0, bytes.length);
}
