/** Content of devices in tests of the NBD server, and how it is compared. */

import * as assert from 'uvu/assert';
import type { Answer } from './nbd-client.js';

/** Bytes that differ from one place to the next, and from one seed to the next. */
export function pattern(bytes: number, seed: number): Buffer {
  const words = new Uint32Array(Math.ceil(bytes / 4));
  let word = Math.imul(seed + 1, 0x9e3779b1) >>> 0;
  for (let index = 0; index < words.length; index += 1) {
    word = (Math.imul(word, 1664525) + 1013904223) >>> 0;
    words[index] = word;
  }
  return Buffer.from(words.buffer, 0, bytes);
}

export function same(actual: Uint8Array, expected: Uint8Array, what: string): void {
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  assert.unreachable(`${what}: byte ${at} of ${actual.length} is ${actual[at]}, not ${expected[at]}`);
}

export function succeeded(answers: readonly Answer[]): void {
  for (const { request, error } of answers) {
    const { type, offset, length } = request;
    assert.is(error, 0, `command ${type} at ${offset}, length ${length}`);
  }
}
