/** Faults that let assertions fire: those of a store that runs. */

import { ANY, type AssertionMutant, CALM, one } from './assertion-mutant.js';
import { tests } from './mutant.js';

const UPDATES = 'store/running/entry-updates.ts';

export const RUNNING_ASSERTIONS: readonly AssertionMutant[] = [
  one('an operation is decided twice', 'store/running/conditions.ts', '    op.listed = false;\n', '', CALM, ANY),
  one(
    'a slot is given back by a record that has passed',
    'store/running/slot-allocation.ts',
    'this.freed.add(slot, journal.batch.sequence);',
    'this.freed.add(slot, 0);',
    tests('store/slots.test.ts'),
    ANY,
  ),
  one(
    'more slots have entered the activity log than were expected',
    'store/running/intents.ts',
    'this.log.expected -= slots.length - 1;',
    'this.log.expected -= slots.length;',
  ),
  one(
    'room in the journal is reserved for nothing',
    'store/running/journal-room.ts',
    '    this.reserved -= pages;\n',
    '    if (this.reserved > pages) this.reserved -= pages;\n',
  ),
  one(
    'a page does not fit the batch that has room for it',
    'store/running/map-writer.ts',
    'for (let at = 0; at < PAGE_BYTES; at += VOLUME_CHUNK_BYTES) {',
    'while (journal.batch.sectorsLeft > 1) journal.batch.addPage(index, page, 0);\n      for (let at = 0; at < PAGE_BYTES; at += VOLUME_CHUNK_BYTES) {',
    CALM,
  ),
  one(
    'a page counts as stored before it is durable',
    'store/running/map-writer.ts',
    '        journal.submit();\n',
    '        journal.submit();\n        proceed(0);\n',
    CALM,
  ),
  one(
    'a slot is given back while it is given away',
    'store/running/slot-allocation.ts',
    '    this.allocations.delete(op.slot);\n',
    '',
    tests('store/slots.test.ts'),
    tests('store/segment-store.test.ts'),
    ANY,
  ),
  one(
    'a block table was let go of while it was read',
    'store/running/table-loader.ts',
    '    this.loading.set(slot, [op]);\n    tables.pin(page);\n',
    '    this.loading.set(slot, [op]);\n',
  ),
  one(
    'blocks are written that have no place for checksums',
    'store/running/transfers.ts',
    '    this.bringSums(op);\n    check(this.writeRun',
    '    op.area = -1;\n    check(this.writeRun',
    tests('store/conditions.test.ts'),
  ),
  one(
    'a replica gets the page of another that has slots',
    'store/running/volume-table.ts',
    '    const page = this.freeIndex();\n',
    '    const used = this.replicas.findIndex((_, at) => this.slots.usedBy(at as ReplicaPage) > 0) as ReplicaPage;\n    const page = used >= 0 ? used : this.freeIndex();\n',
    tests('node-sim/deleted-volumes.test.ts'),
    tests('node-sim/names.test.ts'),
    ANY,
  ),
  one(
    'slots belong to a replica that is to be forgotten',
    'store/running/map-writer.ts',
    '      if (volumes.segmentsOf(index) > 0) return -EBUSY;\n',
    '',
    tests('store/many-replicas.test.ts'),
    tests('store/doubled-replicas.test.ts'),
  ),
  one(
    'a young block is noted in the block table of another slot',
    'store/running/entry-updates.ts',
    '      this.parts.young.add(op.slot, op.page, block);\n    }\n',
    '      this.parts.young.add(op.slot + 1, op.page, block);\n    }\n',
  ),
  one('the records of a first write are sent along twice', 'store/store-op.ts', '    this.firstIn = 0;\n', ''),
  one(
    'a write is taken back that has not failed',
    'store/running/transfers.ts',
    'op.result = result === -EBADMSG ? -EIO : result;',
    'op.result = 0;',
    tests('store/first-writes.test.ts'),
  ),
  one(
    'what takes a record back does not fit the batch that has room for it',
    UPDATES,
    '      const added = journal.batch.addBlock(op.slot, block, tables.words,',
    '      while (journal.batch.addBlock(op.slot, block, tables.words, 0, 0));\n      const added = journal.batch.addBlock(op.slot, block, tables.words,',
    tests('store/first-writes.test.ts'),
  ),
  one(
    'a first write goes back in the journal',
    UPDATES,
    '    journal.firstWrites.begin(op.firstIn);\n',
    '    journal.firstWrites.begin(op.firstIn + 5);\n    journal.firstWrites.begin(op.firstIn);\n',
  ),
  one(
    'a first write ends twice, or was not begun',
    UPDATES,
    '    if (op.firstIn > 0) journal.firstWrites.end(op.firstIn);\n',
    '    if (op.firstIn > 0) journal.firstWrites.end(op.firstIn + 1);\n',
  ),
];
