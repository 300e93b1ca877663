/** Faults that let assertions fire: those of what is written and read, byte by byte. */

import { type AssertionMutant, one } from './assertion-mutant.js';
import { sim } from './mutant.js';

export const PAGE_ASSERTIONS: readonly AssertionMutant[] = [
  one(
    'a page of the directory has too many entries',
    'store/running/checkpoint.ts',
    'below.slice(first, first + DIRECTORY_ENTRIES);',
    'Array.from({ length: 1000 }, () => below[0]);',
  ),
  one(
    'a layout does not fit its device',
    'store/format/format.ts',
    'if (fits(layoutFor(sizeBytes, slotBytes, middle, tables))) low = middle;\n    else high = middle - 1;',
    'low = middle;',
  ),
  one(
    'a journal has no room for two batches',
    'store/format/format.ts',
    'const journalPages = journalPagesFor(slots, slotBytes);',
    'const journalPages = 2;',
  ),
  one(
    'a page is at neither of its two places',
    'store/running/checkpoint.ts',
    'const place = this.slotPages[index].place ^ 1;',
    'const place = this.slotPages[index].place + 2;',
  ),
  one(
    'an identifier is written that is none',
    'store/running/slot-allocation.ts',
    'const owner = { volumeId: volume.id, group',
    'const owner = { volumeId: volume.name, group',
  ),
  one(
    'a batch has a number that has been',
    'store/running/journal-writer.ts',
    'this.filling.begin(batch.sequence + 1);',
    'this.filling.begin(batch.sequence - 1);',
  ),
  one(
    'a record does not fit a sector',
    'store/format/journal-batch.ts',
    'const at = this.reserve(ALLOCATE_RECORD_BYTES);',
    'const at = this.reserve(ALLOCATE_RECORD_BYTES * 64);',
  ),
  one(
    'a record names a block that no slot has',
    'store/running/entry-updates.ts',
    'journal.batch.addBlock(op.slot, block, words',
    'journal.batch.addBlock(op.slot, block + 1000, words',
  ),
  one(
    'a batch says of itself that it is durable',
    'store/running/journal-writer.ts',
    'this.page, this.durableSequence, (from',
    'this.page, batch.sequence, (from',
  ),
  one(
    'a journal is read in part',
    'store/opening/replay-journal.ts',
    'new JournalReader(bytes, layout',
    'new JournalReader(bytes.subarray(4096), layout',
  ),
  one(
    'the journal is replayed round and round',
    'store/format/journal-reader.ts',
    '      for (let index = 0; index < header.pages; index += 1) {\n',
    '      for (let index = 0; index < header.pages; index += 1) {\n        seen.add(at + index);\n',
    sim(['kill'], 20),
  ),
  one(
    'batches are replayed that are not there',
    'store/format/journal-reader.ts',
    'let sequenceMax = last;',
    'let sequenceMax = last - 9;',
  ),
  one(
    'a sector has no room in its tag',
    'store/format/journal-batch.ts',
    'const tag = tagOf(sequence, sector);',
    'const tag = tagOf(sequence, sector + 256);',
  ),
  one(
    'a batch ends beyond the journal',
    'store/running/journal-writer.ts',
    'nextBatchPage(this.layout, this.page, batch.pages);',
    'nextBatchPage(this.layout, this.page, batch.pages + this.layout.journalPages);',
  ),
  one(
    'the name of a volume does not fit its page',
    'store/running/volume-table.ts',
    'this.replicas[page] = map;',
    "this.replicas[page] = { ...map, volume: { ...map.volume, name: 'n'.repeat(1000) } };",
  ),
  one(
    'a replica is written without a page',
    'store/running/map-writer.ts',
    'encodeReplica(page, { index: at, deviceId',
    'encodeReplica(page, { index: -1, deviceId',
  ),
  one(
    'the members of a replica do not fit its page',
    'store/running/volume-table.ts',
    'this.replicas[page] = map;',
    'this.replicas[page] = { ...map, members: Array.from({ length: 500 }, () => map.members[0]) };',
  ),
  one(
    'a replica is in a group that its volume has not',
    'store/running/volume-table.ts',
    'this.replicas[page] = map;',
    'this.replicas[page] = { ...map, groups: 0 };',
  ),
  one(
    'a replica lists fewer members than places',
    'store/running/volume-table.ts',
    'this.replicas[page] = map;',
    'this.replicas[page] = { ...map, members: [] };',
  ),
  one(
    'the version of joining does not fit its page',
    'store/running/volume-table.ts',
    'this.replicas[page] = map;',
    'this.replicas[page] = { ...map, members: map.members.map((member) => ({ ...member, joined: 2 ** 50 })) };',
  ),
  one(
    'a root is encoded into something else',
    'store/running/checkpoint.ts',
    'subarray(memory, memory + ROOT_BYTES);',
    'subarray(memory, memory + ROOT_BYTES + 8);',
  ),
  one(
    'the directory does not fit the root',
    'store/opening/format-device.ts',
    'new Array<Reference>(rootDirectoryPages(layout))',
    'new Array<Reference>(100000)',
  ),
  one(
    'a page is found that is of another volume',
    'store/format/slot-owners.ts',
    'this.last = this.find(getId(bytes, 0), group);',
    'this.last = this.list.length - 1;',
  ),
  one(
    'a page of slots lies beyond the last slot',
    'store/running/checkpoint.ts',
    'encodeSlots(page, { index, deviceId',
    'encodeSlots(page, { index: index + 1e6, deviceId',
  ),
  one(
    'a slot belongs to a volume that is not here',
    'store/running/checkpoint.ts',
    'store.slots, store.volumeTable.owners.list);',
    'store.slots, []);',
  ),
  one(
    'a slot has flags that nobody knows',
    'store/running/checkpoint.ts',
    '(slots.flags[slot] | SLOT_FLAG_TABLE) ^ SLOT_FLAG_PLACE;',
    '(slots.flags[slot] | SLOT_FLAG_TABLE | 128) ^ SLOT_FLAG_PLACE;',
  ),
  one(
    'a superblock has no sequence',
    'store/opening/open-store.ts',
    '      sequence: found.sequence + 1,\n',
    '      sequence: 0,\n',
  ),
  one('a superblock has no state', 'store/opening/open-store.ts', '      state: DEVICE_OPEN,\n', '      state: 9,\n'),
];
