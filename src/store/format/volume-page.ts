/**
 * The page of a volume, "SVL1": its whole map as this device knows it, and the last flush of it that this device remembers.
 * Devices from before the feature `groups` have such pages, and keep those whose map does not name them. Nothing writes others.
 */

import { VOLUME_NAME_BYTES_MAX } from '../../core/limits.js';
import {
  decodeName,
  demandZero,
  getCounter,
  getId,
  getUint64,
  NO_ID,
  PageProblem,
  putUint64,
  viewOf,
} from '../../layout/fields.js';
import type { FlushId } from '../../layout/flush-id.js';
import { type MemberRecord, NO_CLIENT, type VolumeMap } from '../../layout/volume-map.js';
import { PAGE_BYTES, VOLUME_MAGIC } from './format.js';
import { checkHeader } from './page.js';

const LAYOUTS = ['single', 'mirror'] as const;
const MEMBER_STATES = ['in-sync', 'syncing', 'offline'] as const;
const MEMBERS_AT = 512;
const MEMBER_BYTES = 64;
/** Members of a volume that its page has room for. */
const VOLUME_MEMBERS = (PAGE_BYTES - MEMBERS_AT) / MEMBER_BYTES;
/** How far this device has come: the volume's last flush that it remembers. */
const FLUSHED_AT = 104;
const NAME_AT = 162;
/**
 * How often the volume has been renamed, where version 1 does not look. Maps of a volume are compared by their versions, names
 * by this: a volume of which the newest map may be missing can be renamed without its map becoming newer.
 */
const NAME_VERSION_AT = 424;

/** Fields of a volume page that version 1 keeps zero: lease, reservation, parent, epochs. */
const VOLUME_ZERO_FROM = FLUSHED_AT + 16;
const VOLUME_ZERO_TO = 160;

/** The mark of a volume page that `decodeVolume` has found to be good. */
export function decodeFlushed(page: Uint8Array): FlushId {
  const view = viewOf(page);
  return { generation: getCounter(view, FLUSHED_AT), flushNumber: getCounter(view, FLUSHED_AT + 8) };
}

/** A page of this form: what it says, and its bytes, as it stays what it is. */
export interface LegacyPage {
  readonly map: VolumeMap;
  readonly flushed: FlushId;
  readonly bytes: Uint8Array;
}

/** The page with another remembered flush. */
export function withFlushed({ map, bytes }: LegacyPage, flushed: FlushId): LegacyPage {
  const changed = bytes.slice();
  putUint64(viewOf(changed), FLUSHED_AT, flushed.generation);
  putUint64(viewOf(changed), FLUSHED_AT + 8, flushed.flushNumber);
  return { map, flushed, bytes: changed };
}

/** Reads a page. Throws a `PageProblem`. */
export function decodeLegacy(page: Uint8Array, index: number, deviceId: string): LegacyPage {
  return { map: decodeVolume(page, index, deviceId), flushed: decodeFlushed(page), bytes: page.slice() };
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
  if (nameBytes > VOLUME_NAME_BYTES_MAX || groups * perGroup > VOLUME_MEMBERS) {
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
      joined: 0,
    };
  };
  const id = getId(view, 32);
  if (id === NO_ID) throw new PageProblem('it has no identifier');
  return {
    id,
    name: decodeName(page.slice(NAME_AT, NAME_AT + nameBytes)),
    headerVersion: getCounter(view, NAME_VERSION_AT),
    createdMs: getUint64(view, 48),
    sizeBytes: getUint64(view, 56),
    versions: Array.from({ length: groups }, () => getCounter(view, 64)),
    generation: getUint64(view, 72),
    holder: NO_CLIENT,
    lease: 'released',
    layout,
    copies,
    segmentBytes: view.getUint32(92, true),
    deleted: flags === 1,
    groups: Array.from({ length: groups }, (_, group) =>
      Array.from({ length: perGroup }, (_, at) => readMember(MEMBERS_AT + (group * perGroup + at) * MEMBER_BYTES)),
    ),
  };
}
