/** What of a volume is allocated, by segment. */

import { check } from '../../core/check.js';
import { REQUEST_SKIPS } from '../../core/limits.js';
import { LISTED_EXTENT_BYTES } from '../../ports/device.js';
import { exists } from '../mirror/allocation.js';
import type { Membership } from '../mirror/membership.js';

const DATA = 0;
/** A hole that reads as zeroes. */
const HOLE = 3;

/**
 * Lists the extents from `offset` on, as far as there is room and time, in the form of `Device.extents`. Returns their
 * number.
 */
export function volumeExtents(
  membership: Membership,
  offset: number,
  span: number,
  view: DataView,
  memory: number,
  roomBytes: number,
): number {
  const { segmentBytes } = membership.record;
  const room = Math.floor(roomBytes / LISTED_EXTENT_BYTES);
  const end = offset + span;
  let count = 0;
  let start = offset;
  let kind = -1;
  let at = offset;
  for (let looks = 0; at < end && looks < REQUEST_SKIPS; looks += 1) {
    const stripe = Math.floor(at / segmentBytes);
    const found = exists(membership.groupOf(stripe), stripe) ? DATA : HOLE;
    if (found !== kind) {
      if (kind >= 0) put(view, memory + (count - 1) * LISTED_EXTENT_BYTES, at - start, kind);
      if (count === room) return count;
      count += 1;
      start = at;
      kind = found;
    }
    at = Math.min(end, (stripe + 1) * segmentBytes);
  }
  if (count > 0) put(view, memory + (count - 1) * LISTED_EXTENT_BYTES, at - start, kind);
  return count;
}

/** Lists all of it as data, for whoever does not know better. Returns the number of extents. */
export function unknownExtents(span: number, view: DataView, memory: number, roomBytes: number): number {
  check(span > 0, 'no bytes are listed', span);
  if (roomBytes < LISTED_EXTENT_BYTES) return 0;
  put(view, memory, span, DATA);
  return 1;
}

function put(view: DataView, at: number, length: number, kind: number): void {
  check(length > 0, 'an extent is empty', kind);
  view.setFloat64(at, length, true);
  view.setFloat64(at + 8, kind, true);
}
