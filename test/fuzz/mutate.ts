/**
 * Changes of inputs: the ones that find faults in parsers of fields, lengths and lists. All are choices of `random`, so the
 * same numbers give the same input again.
 */

import type { SimRandom } from '#strake/sim/world/random.js';

/** Numbers at which comparisons, widths and shifts end. Written as 1 to 8 bytes, of which the highest may be cut off. */
const INTERESTING: readonly number[] = [
  0,
  1,
  2,
  3,
  4,
  7,
  8,
  15,
  16,
  17,
  31,
  32,
  64,
  127,
  128,
  255,
  256,
  504,
  512,
  4095,
  4096,
  4097,
  2 ** 15 - 1,
  2 ** 15,
  2 ** 16 - 1,
  2 ** 16,
  2 ** 20,
  2 ** 24 - 1,
  2 ** 25,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53 - 1,
  2 ** 53,
  2 ** 63,
  2 ** 64 - 2048,
];

/** Where structures like to begin and end. */
const UNITS: readonly number[] = [4, 8, 16, 24, 64, 128, 512, 4096];

export function interesting(random: SimRandom): number {
  return random.pick(INTERESTING);
}

/** Writes the low `width` bytes of `value`, in either order. What lies beyond the end is left out. */
export function putNumber(bytes: Uint8Array, at: number, width: number, value: number, littleEndian: boolean): void {
  let left = value;
  for (let index = 0; index < width; index += 1) {
    const place = littleEndian ? at + index : at + width - 1 - index;
    if (place < bytes.length) bytes[place] = left % 256;
    left = Math.floor(left / 256);
  }
}

function getNumber(bytes: Uint8Array, at: number, width: number, littleEndian: boolean): number {
  let value = 0;
  for (let index = 0; index < width; index += 1) {
    const place = littleEndian ? at + width - 1 - index : at + index;
    value = value * 256 + (bytes[place] ?? 0);
  }
  return value;
}

/** A place in the input, often one where a field may begin. */
function place(bytes: Uint8Array, random: SimRandom): number {
  const at = random.below(bytes.length);
  return random.chance(0.5) ? at - (at % random.pick([2, 4, 8])) : at;
}

/** A length from 1 to `most`, mostly short, often one of the usual units. */
function span(most: number, random: SimRandom): number {
  const wanted = random.chance(0.5) ? random.pick(UNITS) : 1 + random.below(2 ** random.below(14));
  return Math.max(1, Math.min(most, wanted));
}

type Mutation = (bytes: Uint8Array, others: readonly Uint8Array[], random: SimRandom) => Uint8Array;

const changeNumber: Mutation = (bytes, _others, random) => {
  const at = place(bytes, random);
  const width = random.pick([1, 1, 2, 4, 4, 8]);
  const littleEndian = random.chance(0.5);
  const near = getNumber(bytes, at, width, littleEndian) + random.between(-3, 3);
  const value = random.chance(0.7) ? interesting(random) : Math.max(0, near);
  putNumber(bytes, at, width, value, littleEndian);
  return bytes;
};

function insert(bytes: Uint8Array, at: number, more: Uint8Array): Uint8Array {
  const longer = new Uint8Array(bytes.length + more.length);
  longer.set(bytes.subarray(0, at));
  longer.set(more, at);
  longer.set(bytes.subarray(at), at + more.length);
  return longer;
}

/** A piece of one of `others`. */
function pieceOf(others: readonly Uint8Array[], random: SimRandom): Uint8Array {
  const other = random.pick(others);
  if (other.length === 0) return other;
  const length = span(other.length, random);
  const at = random.below(other.length - length + 1);
  return other.subarray(at, at + length);
}

const swap: Mutation = (bytes, _others, random) => {
  const unit = Math.min(random.pick(UNITS), bytes.length);
  const places = Math.floor(bytes.length / unit);
  const [one, other] = [random.below(places) * unit, random.below(places) * unit];
  const kept = bytes.slice(one, one + unit);
  bytes.copyWithin(one, other, other + unit);
  bytes.set(kept, other);
  return bytes;
};

const flipBit: Mutation = (bytes, _others, random) => {
  bytes[random.below(bytes.length)] ^= 1 << random.below(8);
  return bytes;
};

const overwrite: Mutation = (bytes, others, random) => {
  const piece = pieceOf(others, random);
  const at = place(bytes, random);
  bytes.set(piece.subarray(0, bytes.length - at), at);
  return bytes;
};

const fill: Mutation = (bytes, _others, random) => {
  const length = span(bytes.length, random);
  const at = random.below(bytes.length - length + 1);
  const value = random.pick([0, 0, 255, random.below(256)]);
  return bytes.fill(value, at, at + length);
};

const scramble: Mutation = (bytes, _others, random) => {
  const length = span(bytes.length, random);
  const at = random.below(bytes.length - length + 1);
  for (let index = at; index < at + length; index += 1) bytes[index] = random.next();
  return bytes;
};

const remove: Mutation = (bytes, _others, random) => {
  const length = span(bytes.length, random);
  const at = random.below(bytes.length - length + 1);
  bytes.copyWithin(at, at + length);
  return bytes.slice(0, bytes.length - length);
};

const repeat: Mutation = (bytes, _others, random) => {
  const length = span(bytes.length, random);
  const at = random.below(bytes.length - length + 1);
  return insert(bytes, at, bytes.slice(at, at + length));
};

const splice: Mutation = (bytes, others, random) => insert(bytes, place(bytes, random), pieceOf(others, random));
const truncate: Mutation = (bytes, _others, random) => bytes.slice(0, random.below(bytes.length));

/** Crossing over: the beginning of one, the end of another. */
const cross: Mutation = (bytes, others, random) => {
  const other = random.pick(others);
  const at = place(bytes, random);
  return insert(bytes.slice(0, at), at, other.subarray(Math.min(at, other.length)));
};

const MUTATIONS: readonly Mutation[] = [
  flipBit,
  flipBit,
  changeNumber,
  changeNumber,
  changeNumber,
  changeNumber,
  overwrite,
  fill,
  scramble,
  remove,
  repeat,
  splice,
  truncate,
  cross,
  swap,
];

/** A changed copy of `input`, at most `bytesMax` long. `others` lend pieces. */
export function mutate(
  input: Uint8Array,
  others: readonly Uint8Array[],
  random: SimRandom,
  bytesMax: number,
): Uint8Array {
  let bytes: Uint8Array = input.slice();
  for (let left = 2 ** random.below(4); left > 0; left -= 1) {
    if (bytes.length === 0) bytes = pieceOf(others, random).slice();
    if (bytes.length === 0) bytes = new Uint8Array(1 + random.below(64));
    bytes = random.pick(MUTATIONS)(bytes, others, random);
    if (bytes.length > bytesMax) bytes = bytes.slice(0, bytesMax);
  }
  return bytes;
}
