/** Pages of the slot table: which segment lies in which slot, and where the block table of each is. */

import { check } from '../../core/check.js';
import type { SlotIndex } from '../../core/ids.js';
import { demandZero, getId, PageProblem, putId, putUint64 } from '../../layout/fields.js';
import { EPOCH_FIRST } from '../../layout/map-codec.js';
import { SLOT_MEMBER_MAX } from '../limits.js';
import {
  SLOT_FLAG_DOUBT,
  SLOT_FLAG_PLACE,
  SLOT_FLAG_TABLE,
  SLOT_FLAGS_KNOWN,
  type SlotTable,
} from '../running/slot-table.js';
import {
  PAGE_BYTES,
  PAGE_HEADER_BYTES,
  SLOT_ENTRIES,
  SLOT_ENTRY_BYTES,
  SLOT_FREE,
  SLOT_USED,
  SLOTS_MAGIC,
} from './format.js';
import { checkHeader, type PagePosition, putHeader } from './page.js';

/** Whose segments a slot may hold: those of one replica. */
export interface SlotOwner {
  /** Of the volume. */
  readonly volumeId: string;
  /** The number of the group and 1; 0 for the only group of the volume that the device has. */
  readonly group: number;
}

/** Writes the entries of one page of slots. `owners` are by number of the page of volumes. */
export function encodeSlots(
  page: Uint8Array,
  position: PagePosition,
  table: SlotTable,
  owners: readonly (SlotOwner | undefined)[],
): void {
  const view = putHeader(page, SLOTS_MAGIC, position);
  const first = position.index * SLOT_ENTRIES;
  const count = Math.min(SLOT_ENTRIES, table.slots - first);
  check(count > 0, 'a page of slots lies beyond the last slot', position.index);
  for (let entry = 0; entry < count; entry += 1) {
    const slot = first + entry;
    if (table.states[slot] === SLOT_FREE) continue;
    const at = (entry + 1) * SLOT_ENTRY_BYTES;
    const owner = owners[table.volumes[slot]];
    check(owner !== undefined, 'a slot belongs to a volume that is not here', slot);
    const found = table.find(table.volumes[slot], table.stripes[slot]);
    check(found === slot, 'a slot is written whose segment is found elsewhere', slot);
    check(table.flags[slot] <= SLOT_FLAGS_KNOWN, 'a slot has flags that nobody knows', slot);
    putId(view, at, owner.volumeId);
    putUint64(view, at + 16, table.stripes[slot]);
    view.setUint32(at + 24, EPOCH_FIRST, true);
    view.setUint16(at + 32, table.members[slot], true);
    view.setUint8(at + 34, table.states[slot]);
    view.setUint8(at + 35, table.flags[slot]);
    view.setUint32(at + 36, 1, true);
    putUint64(view, at + 40, table.generations[slot]);
    putUint64(view, at + 48, table.flushNumbers[slot]);
    view.setUint32(at + 56, table.tableChecksums[slot], true);
    view.setUint16(at + 62, owner.group, true);
  }
}

/** Words of a slot entry that no feature here sets: layer of parity, places. */
const ZERO_WORDS = [7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31];
const EPOCH_WORD = 6;
/** The own mask, which no feature here sets, and the group. */
const GROUP_WORD = 15;
const WORD = 2 ** 32;
/** The high words of stripe, generation and flush number, and the first value at which a number would reach 2^53. */
const HIGH_WORDS = [5, 11, 13];
const HIGH_END = 2 ** 21;

function demandUnused(words: Uint32Array, word: number, slot: number, groups: boolean): void {
  const group = words[word + GROUP_WORD];
  const epoch = words[word + EPOCH_WORD];
  if (groups ? (group & 0xffff) !== 0 || epoch > EPOCH_FIRST : group !== 0 || epoch !== 0) {
    throw new PageProblem(`slot ${slot} has fields that this version does not know`);
  }
  for (let index = 0; index < ZERO_WORDS.length; index += 1) {
    if (words[word + ZERO_WORDS[index]] === 0) continue;
    throw new PageProblem(`slot ${slot} has fields that this version does not know`);
  }
  for (let index = 0; index < HIGH_WORDS.length; index += 1) {
    if (words[word + HIGH_WORDS[index]] < HIGH_END) continue;
    throw new PageProblem(`slot ${slot} has a number beyond 2^53`);
  }
}

/** What reading a page of slots needs to know of its device. */
export interface SlotReading {
  readonly deviceId: string;
  /** Whether the device has the feature `groups`. */
  readonly groups: boolean;
  /**
   * The page of the replica whose volume's id is in four words from `word` on, and whose group is `group` - 1; with 0 that of the
   * only replica of the volume. -1 if the device knows none, or several.
   */
  readonly ownerOf: (words: Uint32Array, word: number, group: number) => number;
}

/**
 * Reads the entries of one page of slots into the table. Throws a `PageProblem`. A large device has a million entries, so
 * nothing is made for each of them.
 */
export function decodeSlots(page: Uint8Array, index: number, table: SlotTable, reading: SlotReading): void {
  const { deviceId, groups, ownerOf } = reading;
  const view = checkHeader(page, SLOTS_MAGIC, index, deviceId);
  demandZero(view, PAGE_HEADER_BYTES, SLOT_ENTRY_BYTES);
  const words = new Uint32Array(page.buffer, page.byteOffset, PAGE_BYTES / 4);
  const first = index * SLOT_ENTRIES;
  for (let entry = 0; entry < SLOT_ENTRIES; entry += 1) {
    const at = (entry + 1) * SLOT_ENTRY_BYTES;
    const word = at / 4;
    const slot = first + entry;
    // Member, state and flags share a word.
    const state = (words[word + 8] >>> 16) & 0xff;
    if (state === SLOT_FREE) {
      demandZero(view, at, at + SLOT_ENTRY_BYTES);
      continue;
    }
    if (state !== SLOT_USED || slot >= table.slots)
      throw new PageProblem(`slot ${slot} has the unknown state ${state}`);
    const flags = words[word + 8] >>> 24;
    demandUnused(words, word, slot, groups);
    const member = words[word + 8] & 0xffff;
    if (flags > SLOT_FLAGS_KNOWN || words[word + 9] !== 1 || member > SLOT_MEMBER_MAX) {
      throw new PageProblem(`slot ${slot} has fields that this version does not know`);
    }
    const group = words[word + GROUP_WORD] >>> 16;
    const volume = ownerOf(words, word, group);
    if (volume < 0) {
      const what = group === 0 ? '' : `group ${group - 1} of `;
      throw new PageProblem(`slot ${slot} belongs to ${what}volume ${getId(view, at)}, which is not here`);
    }
    const stripe = words[word + 4] + words[word + 5] * WORD;
    if (table.find(volume, stripe) >= 0) {
      throw new PageProblem(`slot ${slot} holds a segment that is in another slot too`);
    }
    table.assign(slot as SlotIndex, volume, stripe, member);
    table.flags[slot] = flags & (SLOT_FLAG_DOUBT | SLOT_FLAG_TABLE | SLOT_FLAG_PLACE);
    table.generations[slot] = words[word + 10] + words[word + 11] * WORD;
    table.flushNumbers[slot] = words[word + 12] + words[word + 13] * WORD;
    table.tableChecksums[slot] = words[word + 14];
  }
}
