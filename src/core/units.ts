/** Sizes as people write and read them. */

import { StrakeError } from './errors.js';

const PREFIXES = ['', 'k', 'm', 'g', 't', 'p'];
const NAMES = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/**
 * Bytes from text such as `4096`, `64k`, `1.5G` or `1GiB`; all multiples are powers of 1024.
 *
 * Throws `ERR_STRAKE_INVALID_ARGUMENT` for anything else, and for what is not a whole number of bytes up to 2^53.
 */
export function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?$/i.exec(text.trim());
  const bytes = match ? Number(match[1]) * 1024 ** PREFIXES.indexOf(match[2].toLowerCase()) : Number.NaN;
  if (!Number.isSafeInteger(bytes)) {
    throw new StrakeError('INVALID_ARGUMENT', `not a size: ${JSON.stringify(text)} (examples: 4096, 64k, 1.5G)`);
  }
  return bytes;
}

/** Bytes for people: `1.5 GiB`, `512 B`. */
export function formatBytes(bytes: number): string {
  let power = 0;
  let value = bytes;
  while (value >= 1024 && power < NAMES.length - 1) {
    value /= 1024;
    power += 1;
  }
  const digits = Number.isInteger(value) || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${NAMES[power]}`;
}

/** The largest multiple of `unit` that is not above `value`. Safe up to 2^53. */
export function alignDown(value: number, unit: number): number {
  return value - (value % unit);
}

/** The smallest multiple of `unit` that is not below `value`. Safe up to 2^53. */
export function alignUp(value: number, unit: number): number {
  const over = value % unit;
  return over === 0 ? value : value + unit - over;
}
