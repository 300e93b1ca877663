/** Faults that let assertions fire: those of how a device is opened, recovered and looked through. */

import { type AssertionMutant, one } from './assertion-mutant.js';
import { sim, tests } from './mutant.js';

const MIGRATION = tests('store/migration.test.ts');

export const OPENING_ASSERTIONS: readonly AssertionMutant[] = [
  one(
    'more blocks are counted than there are',
    'store/checking/fsck.ts',
    '      looked += 1;\n',
    '      looked += 1;\n      counts.validBlocks += 1e6;\n',
  ),
  one('slots in use were not looked at', 'store/checking/fsck.ts', '      looked += 1;\n', '      looked += 2;\n'),
  one(
    'more blocks differ than were read',
    'store/checking/fsck.ts',
    '      looked += 1;\n',
    '      looked += 1;\n      counts.badBlocks += 1e6;\n',
  ),
  one(
    'more is read than there is memory for',
    'store/opening/device-reader.ts',
    '    check(length <= CONTROL',
    '    length += CONTROL_PIECE_BYTES;\n    check(length <= CONTROL',
  ),
  one(
    'the journal reaches into the data',
    'store/opening/format-device.ts',
    'layout.journalOffset + layout.journalPages * PAGE_BYTES;',
    'layout.dataOffset + layout.journalPages * PAGE_BYTES;',
  ),
  one(
    'a page is given to two replicas',
    'store/opening/migrate.ts',
    '    image.legacy.delete(index);\n',
    '',
    MIGRATION,
  ),
  one(
    'segments move to the page that they are on',
    'store/opening/migrate.ts',
    'moveEntries(image, { index, free }, map, group);',
    'moveEntries(image, { index, free: index }, map, group);',
    MIGRATION,
  ),
  one(
    'a segment was lost between two groups',
    'store/opening/migrate.ts',
    'slots.give(slot as SlotIndex, free);',
    'slots.free(slot as SlotIndex);',
    MIGRATION,
  ),
  one(
    'a page is emptied that is none of the journal',
    'store/opening/open-store.ts',
    '  for (const page of image.journal.damagedPages) {\n',
    '  for (const page of [...image.journal.damagedPages, journalPages]) {\n',
  ),
  one(
    'a batch would have a number that has been',
    'store/opening/open-store.ts',
    'sequence: journal.sequenceMax + (recovery.changed ? 2 : 1)',
    'sequence: journal.sequenceMax',
  ),
  one(
    'a block table finds no page though all are in the tree',
    'store/opening/open-store.ts',
    "    check(page >= 0, 'a block",
    "    if (image.tables.size > 0) page = -1;\n    check(page >= 0, 'a block",
    sim(['kill'], 20),
  ),
  one(
    'an older root counts',
    'store/opening/read-tree.ts',
    'root.sequence > best.root.sequence) best',
    'root.sequence < best.root.sequence) best',
  ),
  one(
    'a root counts that is not believed',
    'store/opening/read-tree.ts',
    '      sequences.push(root.sequence);\n',
    '      sequences.push(root.sequence);\n      lost.push(place);\n',
  ),
  one(
    'a level of references does not lead to all pages below it',
    'store/opening/read-tree.ts',
    '    check(\n      count <= pages.length',
    '    count += pages.length * DIRECTORY_ENTRIES + 1;\n    check(\n      count <= pages.length',
  ),
  one(
    'a slot in doubt has no block table',
    'store/opening/recovery.ts',
    'if (!image.tables.has(slot)) image.tables.set(slot, await',
    'if (image.tables.has(slot)) image.tables.set(slot, await',
    sim(['kill'], 20),
  ),
  one(
    'a slot does not fit the memory that it is compared in',
    'store/opening/recovery.ts',
    'if (await this.compareRange(slot, table, piece, from, to)) return;',
    'if (await this.compareRange(slot, table, piece, from, to + 1e6)) return;',
    sim(['kill'], 20),
  ),
  one(
    'a block is doubted that has no content',
    'store/opening/recovery.ts',
    '(words[word + ENTRY_FLAGS] & BLOCK_VALID) === 0) continue;\n      if (found',
    '(words[word + ENTRY_FLAGS] & BLOCK_VALID) !== 0) continue;\n      if (found',
    sim(['kill'], 20),
  ),
  one(
    'batches are replayed out of their order',
    'store/opening/replay-journal.ts',
    '(batch) => batches.push(batch)',
    '(batch) => batches.unshift(batch)',
    sim(['kill'], 20),
  ),
  one(
    'more slots are in use once some are taken back',
    'store/opening/strays.ts',
    'const before = slots.usedSlots;',
    'const before = -1;',
  ),
  one(
    'a block table is read of a slot that there is not',
    'store/opening/recovery.ts',
    'await loadTable(this.reader, image, slot, note)',
    'await loadTable(this.reader, image, slots.slots, note)',
    sim(['kill'], 20),
  ),
  one(
    'a page is not among those of its volume',
    'store/opening/read-tree.ts',
    'image.owners.pages(volumeId).find((page) => {',
    'image.owners.pages(volumeId).filter((page) => page !== index).find((page) => {',
  ),
];
