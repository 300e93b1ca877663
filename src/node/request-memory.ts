/** The memory that a request needs for its blocks, and for its answer. */

import { BLOCK_BYTES } from '../core/limits.js';
import { REQUEST_ACCEPT, REQUEST_ENTRIES, REQUEST_READ, REQUEST_WRITE } from '../ports/segment-request.js';
import { LIST_ENTRIES_MAX } from '../wire/limits.js';
import {
  BITS_BYTES,
  ENTRY_BYTES,
  HEADER_BYTES,
  KIND_LIST,
  KIND_REQUEST,
  LISTED_BYTES,
  PAGE_BYTES,
} from '../wire/messages.js';

/** Bytes of buffer that a request needs for its blocks, and for an answer that cannot be packed. */
export function requestBufferBytes(kind: number, blocks: number): number {
  switch (kind) {
    case KIND_LIST:
      return HEADER_BYTES + PAGE_BYTES + LIST_ENTRIES_MAX * LISTED_BYTES;
    case KIND_REQUEST + REQUEST_READ:
    case KIND_REQUEST + REQUEST_ACCEPT:
    case KIND_REQUEST + REQUEST_WRITE:
      return blocks * BLOCK_BYTES;
    case KIND_REQUEST + REQUEST_ENTRIES:
      return HEADER_BYTES + 2 * BITS_BYTES + blocks * ENTRY_BYTES;
    default:
      return HEADER_BYTES + 2 * BITS_BYTES;
  }
}
