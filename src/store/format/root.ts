/** The root: what the tree hangs on. It exists twice, has a checksum of its own, and is chosen by its sequence number. */

import { check } from '../../core/check.js';
import {
  demandZero,
  getCounter,
  getId,
  getUint64,
  PageProblem,
  putId,
  putUint64,
  viewOf,
} from '../../layout/fields.js';
import { ACTIVE_SLOTS_MAX, BATCH_PAGES_MAX, DIRECTORY_PAGES_MAX } from '../limits.js';
import { type Layout, REFERENCE_BYTES, ROOT_BYTES, ROOT_HEADER_BYTES, ROOT_MAGIC, ROOT_VOLUMES } from './format.js';
import { getReferences, putReferences, type Reference } from './page.js';
import type { Checksum } from './superblock.js';

/** What the tree hangs on, and where replaying the journal begins. */
export interface Root {
  sequence: number;
  /** Page of the journal, and sequence of the batch there. */
  journalPage: number;
  journalSequence: number;
  /** Batches up to this one are durable, and what they say of first writes. */
  durableSequence: number;
  usedSlots: number;
  /** Of the pages of the directory, or of its index where there is one. */
  directory: Reference[];
  /** Of the pages of the volume directory, or of the volumes where there is none; 256 in any case. */
  volumes: Reference[];
  /** Slots that may be written to without another intent. */
  active: number[];
}

const ROOT_AT_CHECKSUM = 4;
const ROOT_AT_RESERVE = 72;
const ROOT_AT_VOLUMES = ROOT_HEADER_BYTES + DIRECTORY_PAGES_MAX * REFERENCE_BYTES;
const ROOT_AT_ACTIVE = ROOT_AT_VOLUMES + ROOT_VOLUMES * REFERENCE_BYTES;

/** References that the root of such a device has to its directory, or to the index of that. */
export function rootDirectoryPages({ directoryLevels, directoryIndexPages, directoryPages }: Layout): number {
  return directoryLevels === 0 ? directoryPages : directoryIndexPages;
}

/** Writes the root into `ROOT_BYTES` of memory. */
export function encodeRoot(root: Root, deviceId: string, bytes: Uint8Array, checksum: Checksum): void {
  check(bytes.length === ROOT_BYTES, 'a root is encoded into something else', bytes.length);
  check(root.active.length <= ACTIVE_SLOTS_MAX, 'the activity log does not fit the root', root.active.length);
  check(root.directory.length <= DIRECTORY_PAGES_MAX, 'the directory does not fit the root', root.directory.length);
  check(root.volumes.length <= ROOT_VOLUMES, 'the volumes do not fit the root', root.volumes.length);
  const view = viewOf(bytes);
  bytes.fill(0);
  view.setUint32(0, ROOT_MAGIC, true);
  putUint64(view, 8, root.sequence);
  putId(view, 16, deviceId);
  putUint64(view, 32, root.journalPage);
  putUint64(view, 40, root.journalSequence);
  putUint64(view, 48, root.durableSequence);
  putUint64(view, 56, root.usedSlots);
  view.setUint32(64, root.directory.length, true);
  view.setUint32(68, root.active.length, true);
  putReferences(view, ROOT_HEADER_BYTES, root.directory);
  putReferences(view, ROOT_AT_VOLUMES, root.volumes);
  root.active.forEach((slot, index) => {
    view.setUint32(ROOT_AT_ACTIVE + 4 * index, slot, true);
  });
  view.setUint32(ROOT_AT_CHECKSUM, checksum(bytes), true);
}

/** Reads a root. Throws a `PageProblem`. */
export function decodeRoot(bytes: Uint8Array, deviceId: string, layout: Layout, checksum: Checksum): Root {
  const copy = bytes.slice();
  const view = viewOf(copy);
  if (view.getUint32(0, true) !== ROOT_MAGIC) throw new PageProblem('it is not a root');
  const stored = view.getUint32(ROOT_AT_CHECKSUM, true);
  view.setUint32(ROOT_AT_CHECKSUM, 0, true);
  if (checksum(copy) !== stored) throw new PageProblem('its checksum does not match');
  if (getId(view, 16) !== deviceId) throw new PageProblem(`it belongs to device ${getId(view, 16)}`);
  const count = view.getUint32(64, true);
  const activeCount = view.getUint32(68, true);
  const directoryPages = rootDirectoryPages(layout);
  if (count !== directoryPages) throw new PageProblem('its directory has another size');
  if (activeCount > ACTIVE_SLOTS_MAX) throw new PageProblem('its activity log is too long');
  const journalPage = getUint64(view, 32);
  // A batch of any size has to fit there, and nothing of it be written where the data is.
  if (journalPage + BATCH_PAGES_MAX > layout.journalPages) throw new PageProblem('it points beyond the journal');
  const active: number[] = [];
  for (let at = ROOT_AT_ACTIVE; active.length < activeCount; at += 4) active.push(view.getUint32(at, true));
  if (active.some((slot) => slot >= layout.slots))
    throw new PageProblem('its activity log names a slot beyond the last');
  demandZero(view, ROOT_AT_RESERVE, ROOT_HEADER_BYTES);
  demandZero(view, ROOT_HEADER_BYTES + directoryPages * REFERENCE_BYTES, ROOT_AT_VOLUMES);
  const volumePages = layout.volumeDirectoryPages === 0 ? ROOT_VOLUMES : layout.volumeDirectoryPages;
  demandZero(view, ROOT_AT_VOLUMES + volumePages * REFERENCE_BYTES, ROOT_AT_ACTIVE);
  demandZero(view, ROOT_AT_ACTIVE + 4 * activeCount, ROOT_BYTES);
  return {
    sequence: getCounter(view, 8),
    journalPage,
    journalSequence: getCounter(view, 40),
    durableSequence: getUint64(view, 48),
    usedSlots: getUint64(view, 56),
    directory: getReferences(view, ROOT_HEADER_BYTES, directoryPages),
    volumes: getReferences(view, ROOT_AT_VOLUMES, ROOT_VOLUMES),
    active,
  };
}
