/** Pages of volumes as version 1 wrote them, of which this version writes none. */

import { putId, putUint64 } from '#strake/layout/fields.js';
import type { FlushId } from '#strake/layout/flush-id.js';
import type { VolumeMap } from '#strake/layout/volume-map.js';
import { VOLUME_MAGIC } from '#strake/store/format/format.js';
import { type PagePosition, putHeader } from '#strake/store/format/page.js';

const LAYOUTS = ['single', 'mirror'] as const;
const MEMBER_STATES = ['in-sync', 'syncing', 'offline'] as const;
const MEMBERS_AT = 512;
const MEMBER_BYTES = 64;
const FLUSHED_AT = 104;
const NAME_AT = 162;
const NAME_VERSION_AT = 424;

/** Writes the map of a whole volume, and the flush that the device remembers. */
export function encodeVolume(page: Uint8Array, position: PagePosition, volume: VolumeMap, flushed: FlushId): void {
  const view = putHeader(page, VOLUME_MAGIC, position);
  const name = new TextEncoder().encode(volume.name);
  const perGroup = volume.groups[0].length;
  putId(view, 32, volume.id);
  putUint64(view, 48, volume.createdMs);
  putUint64(view, 56, volume.sizeBytes);
  putUint64(view, 64, volume.versions[0]);
  putUint64(view, 72, volume.generation);
  putUint64(view, 80, volume.generation);
  view.setUint8(88, LAYOUTS.indexOf(volume.layout) + 1);
  view.setUint8(89, volume.copies);
  view.setUint8(90, volume.groups.length);
  view.setUint8(91, perGroup);
  view.setUint32(92, volume.segmentBytes, true);
  view.setUint32(96, volume.deleted ? 1 : 0, true);
  putUint64(view, FLUSHED_AT, flushed.generation);
  putUint64(view, FLUSHED_AT + 8, flushed.flushNumber);
  view.setUint16(160, name.length, true);
  page.set(name, NAME_AT);
  putUint64(view, NAME_VERSION_AT, volume.headerVersion);
  volume.groups.flat().forEach((member, at) => {
    const start = MEMBERS_AT + at * MEMBER_BYTES;
    putId(view, start, member.deviceId);
    view.setUint8(start + 16, MEMBER_STATES.indexOf(member.state) + 1);
    putUint64(view, start + 24, member.since.generation);
    putUint64(view, start + 32, member.since.flushNumber);
    putUint64(view, start + 40, member.incarnation);
    putUint64(view, start + 48, member.flushNumber);
  });
}
