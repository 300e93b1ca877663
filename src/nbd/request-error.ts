/** What is wrong with a request, found before anything is done for it. */

import { NBD_PAYLOAD_BYTES_MAX } from '../core/limits.js';
import type { NbdExport } from './export.js';
import {
  CMD_BLOCK_STATUS,
  CMD_CACHE,
  CMD_FLAG_DF,
  CMD_FLAG_FAST_ZERO,
  CMD_FLAG_FUA,
  CMD_FLAG_NO_HOLE,
  CMD_FLAG_REQ_ONE,
  CMD_FLUSH,
  CMD_READ,
  CMD_TRIM,
  CMD_WRITE,
  CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOSPC,
  NBD_EPERM,
} from './protocol.js';

/** What a connection has negotiated. */
export interface Negotiated {
  readonly target: NbdExport | null;
  readonly structured: boolean;
  readonly allocationContext: boolean;
}

/** An error of the protocol, or 0. Offset and length are bytes, as they were received. */
export function requestError(
  negotiated: Negotiated,
  type: number,
  flags: number,
  offset: number,
  length: number,
): number {
  const target = negotiated.target as NbdExport;
  if ((flags & ~allowedFlags(type, negotiated.structured)) !== 0) return NBD_EINVAL;
  if (type === CMD_FLUSH) return offset !== 0 || length !== 0 ? NBD_EINVAL : 0;
  const writes = type === CMD_WRITE || type === CMD_TRIM || type === CMD_WRITE_ZEROES;
  if (!writes && type !== CMD_READ && type !== CMD_CACHE && type !== CMD_BLOCK_STATUS) return NBD_EINVAL;
  if (writes && target.readOnly) return NBD_EPERM;
  if (length === 0) return NBD_EINVAL;
  if (offset + length > target.volume.sizeBytes) return writes ? NBD_ENOSPC : NBD_EINVAL;
  const payload = type === CMD_READ || type === CMD_WRITE;
  if (payload && length > NBD_PAYLOAD_BYTES_MAX) return NBD_EINVAL;
  if (type === CMD_BLOCK_STATUS && !negotiated.allocationContext) return NBD_EINVAL;
  return 0;
}

/** FUA is allowed everywhere, as the specification says, and means something where something is written. */
function allowedFlags(type: number, structured: boolean): number {
  switch (type) {
    case CMD_READ:
      return CMD_FLAG_FUA | (structured ? CMD_FLAG_DF : 0);
    case CMD_WRITE_ZEROES:
      return CMD_FLAG_FUA | CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO;
    case CMD_BLOCK_STATUS:
      return CMD_FLAG_FUA | CMD_FLAG_REQ_ONE;
    default:
      return CMD_FLAG_FUA;
  }
}
