/**
 * Fields of the structures that lie on devices and travel between nodes, and how what they say is refused. All numbers are
 * little-endian.
 *
 * Decoding trusts nothing: what a page says is checked against what it must be, and a violation is a `PageProblem` that names
 * it, or a `RangeError` for numbers beyond what JavaScript counts exactly.
 */

import { check } from '../core/check.js';

/** A page is not what it must be. */
export class PageProblem extends Error {}

/** Throws unless the bytes from `from` to `to`, multiples of 4, are zero: no version that this one knows uses them. */
export function demandZero(view: DataView, from: number, to: number): void {
  for (let at = from; at < to; at += 4) {
    if (view.getUint32(at, true) !== 0) throw new PageProblem(`its reserved byte ${at} is not zero`);
  }
}

/** Reads an unsigned 64-bit number; throws a `RangeError` above 2^53, which no number of these formats reaches. */
export function getUint64(view: DataView, at: number): number {
  const value = view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
  if (!Number.isSafeInteger(value)) throw new RangeError(`the number at byte ${at} is beyond 2^53`);
  return value;
}

/** Counters stop here, where there are as many numbers left again: what is counted up from one can be written. */
const COUNTER_END = 2 ** 52;

/** Reads a number that is counted up; throws a `RangeError` from 2^52 on. */
export function getCounter(view: DataView, at: number): number {
  const value = getUint64(view, at);
  if (value >= COUNTER_END) throw new RangeError(`the counter at byte ${at} is beyond 2^52`);
  return value;
}

export function putUint64(view: DataView, at: number, value: number): void {
  check(value >= 0 && Number.isSafeInteger(value), 'a number is written that nobody could read', value);
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

/** A number of 6 bytes. */
export function getUint48(view: DataView, at: number): number {
  return view.getUint16(at, true) + view.getUint32(at + 2, true) * 2 ** 16;
}

export function putUint48(view: DataView, at: number, value: number): void {
  view.setUint16(at, value % 2 ** 16, true);
  view.setUint32(at + 2, Math.floor(value / 2 ** 16), true);
}

/** An identifier of 16 bytes as 32 hexadecimal digits. */
export function getId(view: DataView, at: number): string {
  let text = '';
  for (let byte = 0; byte < 16; byte += 4)
    text += view
      .getUint32(at + byte)
      .toString(16)
      .padStart(8, '0');
  return text;
}

/** The identifier of nothing. */
export const NO_ID = '0'.repeat(32);

/** The identifier that was written last, and its words: pages of slots and batches of the journal repeat one. */
let lastId = NO_ID;
const lastWords = new Uint32Array(4);

export function putId(view: DataView, at: number, id: string): void {
  if (id !== lastId) {
    check(id.length === 32, 'an identifier is written that is none', id.length);
    for (let word = 0; word < 4; word += 1) lastWords[word] = Number.parseInt(id.slice(8 * word, 8 * word + 8), 16);
    lastId = id;
  }
  for (let word = 0; word < 4; word += 1) view.setUint32(at + 4 * word, lastWords[word]);
}

/** A view of a page. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Text that encodes to the same bytes again: a map is written back, and must fit. */
export function decodeName(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new PageProblem('its name is not UTF-8');
  }
}
