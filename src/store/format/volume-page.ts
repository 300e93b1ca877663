/** The page of a volume: its map as this device knows it, and the last flush of it that this device remembers. */

import { VOLUME_NAME_BYTES_MAX } from '../../core/limits.js';
import type { FlushId } from '../../layout/flush-id.js';
import type { MemberRecord, VolumeMap } from '../../layout/volume-map.js';
import { getCounter, getId, getUint64, NO_ID, PAGE_BYTES, putId, putUint64, VOLUME_MAGIC, viewOf } from './format.js';
import { checkHeader, demandZero, PageProblem, putHeader } from './page.js';

const LAYOUTS = ['single', 'mirror'] as const;
const MEMBER_STATES = ['in-sync', 'syncing', 'offline'] as const;
const MEMBERS_AT = 512;
const MEMBER_BYTES = 64;
/** Members of a volume on all its devices. */
export const VOLUME_MEMBERS_MAX = (PAGE_BYTES - MEMBERS_AT) / MEMBER_BYTES;
/** How far this device has come: the volume's last flush that it remembers. */
const FLUSHED_AT = 104;
const NAME_AT = 162;
/**
 * How often the volume has been renamed, where version 1 does not look. Maps of a volume are compared by their versions, names
 * by this: a volume of which the newest map may be missing can be renamed without its map becoming newer.
 */
const NAME_VERSION_AT = 424;

export function encodeVolume(
  page: Uint8Array,
  index: number,
  deviceId: string,
  sequence: number,
  volume: VolumeMap,
  flushed: FlushId,
): void {
  const view = putHeader(page, VOLUME_MAGIC, index, deviceId, sequence);
  const name = new TextEncoder().encode(volume.name);
  const perGroup = volume.groups[0].length;
  if (name.length > VOLUME_NAME_BYTES_MAX || volume.groups.length * perGroup > VOLUME_MEMBERS_MAX) {
    throw new Error('a volume does not fit its page');
  }
  putId(view, 32, volume.id);
  putUint64(view, 48, volume.createdMs);
  putUint64(view, 56, volume.sizeBytes);
  putUint64(view, 64, volume.mapVersion);
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
  putUint64(view, NAME_VERSION_AT, volume.nameVersion);
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

/** Fields of a volume page that version 1 keeps zero: lease, reservation, parent, epochs. */
const VOLUME_ZERO_FROM = FLUSHED_AT + 16;
const VOLUME_ZERO_TO = 160;

/** Text that encodes to the same bytes again: a map is written back, and must fit. */
function decodeName(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new PageProblem('its name is not UTF-8');
  }
}

/** The mark of a volume page that `decodeVolume` has found to be good. */
export function decodeFlushed(page: Uint8Array): FlushId {
  const view = viewOf(page);
  return { generation: getCounter(view, FLUSHED_AT), flushNumber: getCounter(view, FLUSHED_AT + 8) };
}

export function decodeVolume(page: Uint8Array, index: number, deviceId: string): VolumeMap {
  const view = checkHeader(page, VOLUME_MAGIC, index, deviceId);
  demandZero(view, 100, FLUSHED_AT);
  demandZero(view, VOLUME_ZERO_FROM, VOLUME_ZERO_TO);
  const layout = LAYOUTS[view.getUint8(88) - 1];
  const [copies, groups, perGroup] = [view.getUint8(89), view.getUint8(90), view.getUint8(91)];
  const nameBytes = view.getUint16(160, true);
  const flags = view.getUint32(96, true);
  if (layout === undefined || flags > 1 || copies < 1 || perGroup !== copies || groups < 1) {
    throw new PageProblem('its layout is not one that this version knows');
  }
  if (nameBytes > VOLUME_NAME_BYTES_MAX || groups * perGroup > VOLUME_MEMBERS_MAX) {
    throw new PageProblem('its name or its list of members is too long');
  }
  demandZero(view, MEMBERS_AT + groups * perGroup * MEMBER_BYTES, PAGE_BYTES);
  const readMember = (at: number): MemberRecord => {
    if (view.getUint8(at + 17) !== 0 || view.getUint16(at + 18, true) !== 0) {
      throw new PageProblem('a member has fields that this version does not know');
    }
    demandZero(view, at + 20, at + 24);
    demandZero(view, at + 56, at + MEMBER_BYTES);
    const state = MEMBER_STATES[view.getUint8(at + 16) - 1];
    if (state === undefined) throw new PageProblem('a member has an unknown state');
    return {
      deviceId: getId(view, at),
      state,
      since: { generation: getUint64(view, at + 24), flushNumber: getUint64(view, at + 32) },
      incarnation: getUint64(view, at + 40),
      flushNumber: getUint64(view, at + 48),
    };
  };
  const id = getId(view, 32);
  if (id === NO_ID) throw new PageProblem('it has no identifier');
  return {
    id,
    name: decodeName(page.slice(NAME_AT, NAME_AT + nameBytes)),
    nameVersion: getCounter(view, NAME_VERSION_AT),
    createdMs: getUint64(view, 48),
    sizeBytes: getUint64(view, 56),
    mapVersion: getCounter(view, 64),
    generation: getUint64(view, 72),
    layout,
    copies,
    segmentBytes: view.getUint32(92, true),
    deleted: flags === 1,
    groups: Array.from({ length: groups }, (_, group) =>
      Array.from({ length: perGroup }, (_, at) => readMember(MEMBERS_AT + (group * perGroup + at) * MEMBER_BYTES)),
    ),
  };
}

/** Position of a device among the members of its group. */
export function memberOf(volume: VolumeMap, deviceId: string): number {
  for (const group of volume.groups) {
    const position = group.findIndex((member) => member.deviceId === deviceId);
    if (position >= 0) return position;
  }
  return 0;
}
