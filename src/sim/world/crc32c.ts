/**
 * CRC32C (Castagnoli; RFC 3720, section 12.1) in TypeScript, for simulations: products compute it in the addon.
 *
 * Slicing-by-8 (Kounavis and Berry, "A Systematic Approach to Building High Performance, Software-based, CRC Generators",
 * 2005): eight tables of 256 entries take in eight bytes at a time.
 */

/** The polynomial 0x1EDC6F41, bits reversed. */
const POLYNOMIAL = 0x82f6_3b78;
const SLICES = 8;

function makeTables(): Int32Array {
  const tables = new Int32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let remainder = byte;
    for (let bit = 0; bit < 8; bit += 1) remainder = (remainder >>> 1) ^ (remainder & 1 ? POLYNOMIAL : 0);
    tables[byte] = remainder;
  }
  // Table n tells what a byte does to the remainder when n more bytes follow it.
  for (let at = 256; at < tables.length; at += 1) {
    const before = tables[at - 256];
    tables[at] = (before >>> 8) ^ tables[before & 255];
  }
  return tables;
}

const TABLES = makeTables();

/** CRC32C of `lengthBytes` bytes from `at` on, as an unsigned number. */
export function crc32c(bytes: Uint8Array, at = 0, lengthBytes = bytes.length - at): number {
  const tables = TABLES;
  const end = at + lengthBytes;
  let crc = -1;
  let index = at;
  for (const stop = end - 7; index < stop; index += SLICES) {
    crc =
      tables[1792 + (bytes[index] ^ (crc & 255))] ^
      tables[1536 + (bytes[index + 1] ^ ((crc >>> 8) & 255))] ^
      tables[1280 + (bytes[index + 2] ^ ((crc >>> 16) & 255))] ^
      tables[1024 + (bytes[index + 3] ^ (crc >>> 24))] ^
      tables[768 + bytes[index + 4]] ^
      tables[512 + bytes[index + 5]] ^
      tables[256 + bytes[index + 6]] ^
      tables[bytes[index + 7]];
  }
  for (; index < end; index += 1) crc = (crc >>> 8) ^ tables[(crc ^ bytes[index]) & 255];
  return ~crc >>> 0;
}
