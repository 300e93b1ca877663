/**
 * The checksum of a sector of a batch that holds no record: zeroes, and its tag. Most sectors of a batch are such, and to ask
 * whoever sums memory for each of them costs more than all the rest of sealing.
 *
 * CRC32C (Castagnoli; RFC 3720, section 12.1), byte by byte.
 */

import { SEALED_BYTES } from './format.js';

/** The polynomial 0x1EDC6F41, bits reversed. */
const POLYNOMIAL = 0x82f6_3b78;

const TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit += 1) remainder = (remainder >>> 1) ^ (remainder & 1 ? POLYNOMIAL : 0);
  return remainder;
});

/** What is left of the checksum after the zeroes. */
let zeroes = -1;
for (let at = 0; at < SEALED_BYTES; at += 1) zeroes = (zeroes >>> 8) ^ TABLE[zeroes & 255];
const AFTER_ZEROES = zeroes;

/** CRC32C of `SEALED_BYTES` zeroes and `tag`, little-endian, as an unsigned number. */
export function emptySectorChecksum(tag: number): number {
  let crc = AFTER_ZEROES ^ tag;
  for (let byte = 0; byte < 4; byte += 1) crc = (crc >>> 8) ^ TABLE[crc & 255];
  return ~crc >>> 0;
}
