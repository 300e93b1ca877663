/** Bytes that are written down by hand, and what a format of them is held against. */

import * as assert from 'uvu/assert';

/** CRC32C by its definition, one bit after another, as an oracle. */
export function definedCrc(bytes: Uint8Array): number {
  let rest = 0xffff_ffff;
  for (const byte of bytes) {
    rest ^= byte;
    for (let bit = 0; bit < 8; bit += 1) rest = (rest >>> 1) ^ (rest & 1 ? 0x82f6_3b78 : 0);
  }
  return ~rest >>> 0;
}

/** Zeroes, but for these fields: offset, and the bytes from there on in hexadecimal. */
export function bytesOf(length: number, fields: readonly (readonly [number, string])[]): Uint8Array {
  const bytes = new Uint8Array(length);
  for (const [at, hex] of fields) bytes.set(Buffer.from(hex.replaceAll(' ', ''), 'hex'), at);
  return bytes;
}

export function sealAt(bytes: Uint8Array, at: number): Uint8Array {
  new DataView(bytes.buffer).setUint32(at, definedCrc(bytes), true);
  return bytes;
}

export function same(found: Uint8Array, wanted: Uint8Array): void {
  assert.is(found.length, wanted.length);
  const at = found.findIndex((byte, index) => byte !== wanted[index]);
  const show = (bytes: Uint8Array) => Buffer.from(bytes.subarray(at, at + 16)).toString('hex');
  if (at >= 0) throw new Error(`byte ${at} and what follows: ${show(found)}, and has to be ${show(wanted)}`);
}

/** Ids in golden bytes: all bytes differ. */
export const DEVICE = '000102030405060708090a0b0c0d0e0f';
export const CLUSTER = 'c0c1c2c3c4c5c6c7c8c9cacbcccdcecf';
export const VOLUME = 'f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff';
/** Where a page of golden bytes stands. */
export const POSITION = { index: 3, deviceId: DEVICE, sequence: 7 };
