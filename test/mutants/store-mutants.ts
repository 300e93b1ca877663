/** Mutants of the segment store: what has to be durable before what, and what recovery may believe. */

import { type Mutant, sim, tests } from './mutant.js';

const CRASH = tests('store/crash.test.ts');
const IMAGES = tests('store/crash-images.test.ts');
const TABLE_MEMORY = tests('store/table-memory.test.ts');

const JOURNAL: Mutant[] = [
  {
    name: 'flush-without-sync',
    breaks: 'A flush of the store ends without a sync of the device',
    rule: 'what is flushed survives a power cut',
    edits: [
      {
        file: 'store/running/journal-writer.ts',
        find: 'this.device.sync(this.token + TAG_SYNC);',
        replace: 'this.completions.defer(this.token + TAG_SYNC, 0);',
      },
    ],
    judges: [sim(['power']), CRASH],
  },
  {
    name: 'flush-answered-before-sync',
    breaks: 'A flush is answered when its sync has begun',
    rule: 'what is flushed survives a power cut',
    edits: [
      {
        file: 'store/running/journal-writer.ts',
        find: 'this.device.sync(this.token + TAG_SYNC);',
        replace: 'this.completions.defer(this.token + TAG_SYNC, 0); this.device.sync(this.token + TAG_KICK);',
      },
    ],
    judges: [sim(['power']), CRASH, IMAGES],
  },
  {
    name: 'failed-sync-goes-on',
    breaks: 'A failed sync of the device counts as one that succeeded',
    rule: 'a failed sync ends all modifications',
    edits: [
      {
        file: 'store/running/journal-writer.ts',
        find: '    this.syncing = false;\n    if (result < 0) {',
        replace: '    this.syncing = false;\n    if (result === Number.NEGATIVE_INFINITY) {',
      },
    ],
    judges: [tests('store/failures.test.ts'), sim(['error', 'power']), CRASH],
  },
  {
    name: 'given-up-store-asked',
    breaks: 'A store that is being given up begins what is asked of its members',
    rule: 'whoever holds a member of a device that was let go of is answered',
    edits: [
      { file: 'store/segment-store.ts', find: '    if (this.ended) {', replace: '    if (this.pool.running < 0) {' },
    ],
    judges: [tests('store/failures.test.ts')],
  },
  {
    name: 'fua-ignored',
    breaks: 'A FUA write is answered when it is written, and not when it is durable',
    rule: 'FUA is durable on every member that is in-sync',
    edits: [
      {
        file: 'store/running/op-steps.ts',
        find: 'if ((op.flags & REQUEST_FUA) === 0) {',
        replace: 'if ((op.flags & REQUEST_FUA) >= 0) {',
      },
    ],
    judges: [sim(['power']), CRASH],
  },
  {
    name: 'first-write-unjournaled',
    breaks: 'The first write of a block is answered before its record is in the journal',
    rule: 'what is acknowledged survives the death of the process',
    edits: [
      {
        file: 'store/running/entry-updates.ts',
        find: '      op.waiting = WAIT_RECORDS;\n      journal.whenRecorded(op.firstIn, op);\n',
        replace: '      this.parts.recorded(op);\n',
      },
    ],
    judges: [sim(['kill']), CRASH, tests('store/first-writes.test.ts')],
  },
  {
    name: 'first-write-called-durable-early',
    breaks: 'A batch is called durable while the content of first writes is on its way whose records it has',
    rule: 'what a slot held before is never taken for content',
    edits: [
      {
        file: 'store/running/journal-writer.ts',
        find: 'Math.min(completedSequence, this.firstWrites.oldest - 1)',
        replace: 'completedSequence',
      },
    ],
    judges: [tests('store/first-writes.test.ts'), IMAGES],
  },
  {
    name: 'failed-first-write-stays',
    breaks: 'The records of a first write whose content has failed are not taken back',
    rule: 'what a slot held before is never taken for content',
    edits: [
      {
        file: 'store/running/entry-updates.ts',
        find: 'for (; op.firstIn > 0 && op.next < op.blocks; op.next += 1) {',
        replace: 'for (; op.firstIn < 0 && op.next < op.blocks; op.next += 1) {',
      },
    ],
    judges: [tests('store/first-writes.test.ts')],
  },
  {
    name: 'batch-at-wrong-page',
    breaks: 'A batch of several pages is followed by one that begins at its second page',
    rule: 'the journal is whole up to its end',
    edits: [
      {
        file: 'store/running/journal-writer.ts',
        find: 'nextBatchPage(this.layout, this.page, batch.pages);',
        replace: 'nextBatchPage(this.layout, this.page, 1);',
      },
    ],
    judges: [sim(['kill']), CRASH],
  },
  {
    name: 'batch-sequence-unchecked',
    breaks: 'Replay goes on into batches that an earlier round of the journal has left',
    rule: 'the journal ends where its numbers do',
    edits: [
      {
        file: 'store/format/journal-reader.ts',
        find: 'header === undefined || header.sequence !== expected ||',
        replace: 'header === undefined ||',
      },
    ],
    judges: [sim(['kill', 'power'], 60), CRASH, IMAGES],
  },
  {
    name: 'torn-batch-accepted',
    breaks: 'Replay takes a batch of which some sectors were never written',
    rule: 'a batch counts whole or not at all',
    edits: [
      {
        file: 'store/format/journal-reader.ts',
        find: 'if (old > 0 || damaged > 0) break;',
        replace: 'if (damaged > 0) break;',
      },
    ],
    judges: [sim(['power'], 60), IMAGES, CRASH],
  },
  {
    name: 'torn-number-used-again',
    breaks: 'The number of a batch of which sectors are left, but no header, is given to another batch',
    rule: 'nothing of a batch that was not finished is mistaken for a part of a later one',
    edits: [
      {
        file: 'store/format/journal-reader.ts',
        find: 'return ahead <= this.layout.journalPages ? last + ahead : last;',
        replace: 'return ahead <= 1 ? last + ahead : last;',
      },
    ],
    judges: [tests('store/journal.test.ts')],
  },
  {
    name: 'no-note-before-root',
    breaks: 'A checkpoint that keeps slots in use leaves it to its root alone that their first writes are durable',
    rule: 'recovery from the root before the newest drops nothing that was flushed',
    edits: [
      {
        file: 'store/running/checkpoint.ts',
        find: "evict === 'half' ? store.noted()",
        replace: 'evict.length < 0 ? store.noted()',
      },
    ],
    judges: [tests('store/damaged-roots.test.ts')],
  },
  {
    name: 'damaged-page-left',
    breaks: 'Pages of the journal that are damaged and not needed stay as they are when a device is opened',
    rule: 'one damaged sector costs nothing where it is not needed',
    edits: [
      {
        file: 'store/opening/open-store.ts',
        find: 'for (const page of image.journal.damagedPages) {',
        replace: 'for (const page of image.journal.damagedPages.slice(0, 0)) {',
      },
    ],
    judges: [sim(['decay', 'power', 'kill']), tests('store/damaged-roots.test.ts')],
  },
  {
    name: 'journal-unchecked',
    breaks: 'Sectors of the journal are believed whatever their checksum says',
    rule: 'corruption is never returned',
    edits: [
      {
        file: 'store/format/journal-reader.ts',
        find: 'return actual === seal ? tag : SECTOR_DAMAGED;',
        replace: 'return actual >= 0 ? tag : SECTOR_DAMAGED;',
      },
    ],
    judges: [tests('store/corruption.test.ts')],
  },
  {
    name: 'table-unchecked',
    breaks: 'A block table is believed whatever its checksum says',
    rule: 'corruption is never returned',
    edits: [
      {
        file: 'store/opening/table-image.ts',
        find: 'if (reader.checksum(bytes) === slots.tableChecksums[slot]) {',
        replace: 'if (bytes.length === PAGE_BYTES) {',
      },
    ],
    judges: [sim(['decay']), tests('store/corruption.test.ts')],
  },
  {
    name: 'journal-room-guessed',
    breaks: 'A modification is admitted though the journal may not have room for all that is in progress',
    rule: 'what the root still needs of the journal is never written over',
    edits: [
      {
        file: 'store/running/admission.ts',
        find: 'return room.sparePages < op.pages + SPARE_PAGES;',
        replace: 'return room.parts.journal.freePages < Math.min(this.modifying, 2048) + 4 && this.modifying > 0;',
      },
      {
        file: 'store/running/journal-writer.ts',
        find: 'const hasRoom = this.usedPages + batch.pages < this.layout.journalPages;',
        replace: 'const hasRoom = this.usedPages >= 0;',
      },
    ],
    judges: [sim(['slow', 'power', 'kill']), tests('store/journal-room.test.ts')],
  },
];

const INTENTS: Mutant[] = [
  {
    name: 'no-intent',
    breaks: 'A slot is written to without a durable intent',
    rule: 'recovery compares every slot that may have been written to',
    edits: [
      {
        file: 'store/running/op-steps.ts',
        find: '    if (this.log.has(op.slot)) {\n',
        replace: '    this.log.add(op.slot);\n    if (this.log.has(op.slot)) {\n',
      },
    ],
    judges: [sim(['power']), CRASH, IMAGES],
  },
  {
    name: 'intents-forgotten',
    breaks: 'A checkpoint records that no slot is in use, while writes to some need no new intent',
    rule: 'an intent is forgotten only together with the right to write',
    edits: [
      { file: 'store/running/checkpoint.ts', find: 'active: [...store.steps.log.active],', replace: 'active: [],' },
    ],
    judges: [sim(['power'], 60), CRASH, IMAGES],
  },
  {
    name: 'intent-not-awaited',
    breaks: 'The intent is in the journal, but the write does not wait until it is durable',
    rule: 'the intent is durable before the write',
    edits: [
      {
        file: 'store/running/intents.ts',
        find: '    this.addNeighbours(op.slot);\n    journal.whenSynced(journal.batch.sequence, op);',
        replace: '    this.addNeighbours(op.slot);\n    journal.whenComplete(op);',
      },
    ],
    judges: [CRASH, sim(['power']), IMAGES],
  },
];

const SLOTS: Mutant[] = [
  {
    name: 'allocation-not-awaited',
    breaks: 'An allocation is answered before its record is durable',
    rule: 'a segment that was allocated stays so',
    edits: [
      {
        file: 'store/running/slot-allocation.ts',
        find: '    this.allocations.set(slot, [op]);\n    journal.whenSynced(journal.batch.sequence, op);',
        replace: '    this.allocations.set(slot, [op]);\n    journal.whenComplete(op);',
      },
    ],
    judges: [IMAGES, sim(['power']), tests('store/restamp.test.ts')],
  },
  {
    name: 'freed-slot-reused-early',
    breaks: 'A slot is given away, and written to, before the record that freed it is durable',
    rule: 'a slot is reused only after the record that freed it is durable',
    edits: [
      {
        file: 'store/running/slot-allocation.ts',
        find: '    this.freed.add(slot, journal.batch.sequence);\n',
        replace: '',
      },
      {
        file: 'store/running/slot-allocation.ts',
        find: '    this.allocations.set(slot, [op]);\n    journal.whenSynced(journal.batch.sequence, op);',
        replace: '    this.allocations.set(slot, [op]);\n    journal.whenComplete(op);',
      },
    ],
    judges: [IMAGES, sim(['power'])],
  },
  {
    name: 'allocation-names-wrong-slot',
    breaks: 'The record of an allocation names the slot beside the one that is used',
    rule: 'the journal says what was done',
    edits: [
      {
        file: 'store/running/slot-allocation.ts',
        find: 'addAllocate({ ...owner, slot, member',
        replace: 'addAllocate({ ...owner, slot: slot ^ 1, member',
      },
    ],
    judges: [sim(['kill']), CRASH],
  },
  {
    name: 'unwritten-shows-slot',
    breaks: 'Blocks of a segment that were never written read as what their slot holds',
    rule: 'what was never written reads as zeroes',
    edits: [
      {
        file: 'store/running/transfers.ts',
        find: '      this.memory.fill(op.memory + (block - op.block) * BLOCK_BYTES, BLOCK_BYTES, 0);\n      filled = true;',
        replace: '      filled = true;',
      },
    ],
    judges: [sim('all'), tests('store/segment-store.test.ts')],
  },
];

const RECOVERY: Mutant[] = [
  {
    name: 'young-block-believed',
    breaks: 'A first write that no flush covered is believed though the content does not match',
    rule: 'recovery makes no block valid whose content does not match',
    edits: [
      {
        file: 'store/opening/recovery.ts',
        find: '    if (firstIn[block] > this.image.durableSequence) {',
        replace: '    if (firstIn[block] === Number.POSITIVE_INFINITY) {',
      },
    ],
    judges: [CRASH, sim(['power']), IMAGES],
  },
  {
    name: 'young-block-overwritten',
    breaks: 'A block is written again while recovery would still doubt its first write',
    rule: 'what is flushed survives a power cut',
    edits: [
      {
        file: 'store/running/young-blocks.ts',
        find: '    if (op.kind !== REQUEST_WRITE) return false;\n    const sequence',
        replace: '    if (op.kind === REQUEST_WRITE) return false;\n    const sequence',
      },
    ],
    judges: [sim(['power']), CRASH, IMAGES],
  },
  {
    name: 'recovery-compares-nothing',
    breaks: 'Recovery compares nothing: blocks that a crash has left half-written keep their entries',
    rule: 'a mismatching block of a dirty segment is suspect',
    edits: [
      {
        file: 'store/opening/recovery.ts',
        find: '    await this.compareAll(doubtful);\n',
        replace: '',
      },
    ],
    judges: [sim(['power']), CRASH],
  },
  {
    name: 'incarnation-not-drawn',
    breaks: 'A device is opened without a new incarnation',
    rule: 'every open of a device draws a durable incarnation',
    edits: [
      {
        file: 'store/opening/open-store.ts',
        find: 'incarnation: found.incarnation + 1,',
        replace: 'incarnation: found.incarnation,',
      },
    ],
    judges: [sim(['restart']), CRASH],
  },
  {
    name: 'read-unchecked',
    breaks: 'What is read is not compared with its checksum',
    rule: 'corruption is never returned',
    edits: [
      {
        file: 'store/running/transfers.ts',
        find: ' && words[word] === checksums[area + block - op.from]) continue;',
        replace: ' && checksums[area] >= 0) continue;',
      },
    ],
    judges: [sim(['rot']), tests('store/corruption.test.ts')],
  },
];

const CHECKPOINTS: Mutant[] = [
  {
    name: 'no-sync-before-root',
    breaks: 'A checkpoint writes the root while what it refers to may still be lost',
    rule: 'the root is written after a sync of all it refers to',
    edits: [
      {
        file: 'store/running/checkpoint.ts',
        find: '    demand(await store.io.sync());\n    store.steps.log.evict(evict);',
        replace: '    store.steps.log.evict(evict);',
      },
    ],
    judges: [IMAGES, sim(['power'])],
  },
  {
    name: 'root-in-place',
    breaks: 'The root is written over the one before',
    rule: 'the old root counts until the new one is whole',
    edits: [{ file: 'store/running/checkpoint.ts', find: '    this.rootPlace ^= 1;\n', replace: '' }],
    judges: [sim(['power'], 60), IMAGES, CRASH],
  },
  {
    name: 'table-in-place',
    breaks: 'A block table is written over the one that the root leads to',
    rule: 'table pages alternate between two places',
    edits: [
      {
        file: 'store/running/checkpoint.ts',
        find: '(slots.flags[slot] | SLOT_FLAG_TABLE) ^ SLOT_FLAG_PLACE;',
        replace: 'slots.flags[slot] | SLOT_FLAG_TABLE;',
      },
    ],
    judges: [CRASH, IMAGES, sim(['power'])],
  },
];

const TABLES: Mutant[] = [
  {
    name: 'promised-tables-taken',
    breaks: 'A store takes pages of block tables that another is promised',
    rule: 'a store never waits for another',
    edits: [
      {
        file: 'store/running/table-memory.ts',
        find: 'if (owner === null || (owner !== share && owner.held <= owner.holder.least)) continue;',
        replace: 'if (owner === null) continue;',
      },
    ],
    judges: [TABLE_MEMORY],
  },
  {
    name: 'changed-table-goes',
    breaks: 'A block table leaves memory that the tree on the device does not have',
    rule: 'what has changed stays in memory until a checkpoint has written it',
    edits: [
      {
        file: 'store/running/table-memory.ts',
        find: 'this.pins[page] > 0 || this.changed[page] === 1) continue;',
        replace: 'this.pins[page] > 0) continue;',
      },
    ],
    judges: [TABLE_MEMORY, CRASH],
  },
  {
    name: 'late-table-read-lands',
    breaks: 'Memory of a block table is used again though a read that was given up may still land there',
    rule: 'memory of an operation is used again when that has ended',
    edits: [
      {
        file: 'store/running/table-memory.ts',
        find: '    this.memory.whenFree(this.memoryOf(page), PAGE_BYTES, () => {',
        replace: '    queueMicrotask(() => {',
      },
    ],
    judges: [TABLE_MEMORY],
  },
];

export const STORE_MUTANTS: readonly Mutant[] = [
  ...JOURNAL,
  ...INTENTS,
  ...SLOTS,
  ...RECOVERY,
  ...CHECKPOINTS,
  ...TABLES,
];
