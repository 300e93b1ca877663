/** What attacks on the NBD server share. */

import { CMD, type Request } from './nbd-client.js';

const MIB = 1 << 20;
/** A file with no byte like the ones that attacks try to write. */
export const CONTENT = Buffer.alloc(MIB, 0xa5);
export const EVIL = 0x66;

/** A request of this type over a range, with its payload if it has one. */
export function ranged(type: number, offset: number | bigint, length: number, flags = 0): Request {
  return { type, offset, flags, length, ...(type === CMD.write ? { payload: Buffer.alloc(length, EVIL) } : {}) };
}
