/** Faults that let assertions fire: those of what a flush of a store makes durable, and of who waits for that. */

import { ANY, type AssertionMutant, one } from './assertion-mutant.js';
import { tests } from './mutant.js';

const SLOTS = tests('store/slots.test.ts');

export const FLUSH_ASSERTIONS: readonly AssertionMutant[] = [
  one(
    'a modification leaves that was not admitted',
    'store/running/admission.ts',
    '    this.leave(op);\n    this.hold(op);\n',
    '    this.leave(op);\n    this.leave(op);\n',
    ANY,
  ),
  one(
    'slots were free because of batches that are durable no more',
    'store/running/slot-allocation.ts',
    'this.freed.advance(this.parts.journal.durableSequence);',
    'this.freed.advance(-1);',
  ),
  one(
    'a slot was discarded that is not being so',
    'store/running/freed-slots.ts',
    '      this.batches.set(slot, DISCARDING);\n',
    '',
    SLOTS,
  ),
  one(
    'more discards have ended than were begun',
    'store/running/freed-slots.ts',
    '      this.inFlight += 1;\n',
    '',
    SLOTS,
  ),
  one(
    'an intent is written that nobody waits for',
    'store/running/intents.ts',
    'this.waiting.set(op.slot, [op]);',
    'this.waiting.set(op.slot + 1, [op]);',
    ANY,
  ),
  one(
    'more slots enter the activity log together than may',
    'store/running/intents.ts',
    'const first = slot - (slot % INTENT_SLOTS);\n',
    'const first = 0;\n',
    ANY,
  ),
  one(
    'an intent has ended twice, or was not wanted',
    'store/running/intents.ts',
    '      if (!journal.batch.addSlot(RECORD_INTENT, other)) break;\n      this.waiting.set(other, []);\n',
    '      if (!journal.batch.addSlot(RECORD_INTENT, other)) break;\n',
    ANY,
  ),
  one(
    'more room in the journal is given back than was reserved',
    'store/running/journal-room.ts',
    '    this.reserved += pages;\n',
    '    this.reserved += pages - 1;\n',
  ),
  one(
    'batches that were durable are so no more',
    'store/running/journal-writer.ts',
    '    this.syncCompleted = completedSequence;\n',
    '    this.syncCompleted = completedSequence - 100;\n',
  ),
  one(
    'the journal is in use when its store is given up',
    'store/segment-store.ts',
    '    this.journal.close();\n',
    '    this.journal.note();\n    this.journal.close();\n',
  ),
  one(
    'an entry is pending in the block table of another slot',
    'store/running/entry-updates.ts',
    'this.pending.add(op.slot, op.page, block);',
    'this.pending.add(op.slot + 1, op.page, block);',
  ),
  one(
    'a stamp is pending of a slot that is free',
    'store/running/entry-updates.ts',
    '    slots.flushNumbers[slot] = flushNumber;\n    this.pending.addStamp(slot);\n',
    '    slots.flushNumbers[slot] = flushNumber;\n    this.pending.addStamp(slots.slots);\n',
  ),
  one(
    'more entries are forgotten than were pending',
    'store/running/pending-entries.ts',
    'this.blocks -= bitCount(pending[word]);',
    'this.blocks -= 32;',
    SLOTS,
  ),
  one(
    'fewer entries are pending than slots have some',
    'store/running/pending-entries.ts',
    '    this.entries.add(slot);\n    this.blocks += 1;\n',
    '    this.entries.add(slot);\n',
  ),
  one(
    'entries are pending that no slot has',
    'store/running/pending-entries.ts',
    '        tables.pending[at] &= ~(1 << bit);\n        this.blocks -= 1;\n',
    '        tables.pending[at] &= ~(1 << bit);\n',
  ),
  one(
    'what is settled is told of a page that does not exist',
    'store/running/volume-table.ts',
    'this.settled.tell(page, told);',
    'this.settled.tell(-1 - page, told);',
  ),
  one(
    'what is settled is told of no generation',
    'store/running/volume-table.ts',
    'this.settled.tell(page, told);',
    'this.settled.tell(page, { ...told, generation: 0 });',
  ),
  one(
    'a record says that nothing is settled',
    'store/running/settled-marks.ts',
    '    this.marks[page] = told;\n',
    '    this.marks[page] = NO_FLUSH;\n',
  ),
  one(
    'what is settled does not fit the batch that has room for it',
    'store/running/settled-marks.ts',
    "      check(batch.addSettled(page, mark), 'what",
    "      while (batch.addSettled(page, mark)) this.unwritten.delete(page);\n      check(batch.addSettled(page, mark), 'what",
  ),
  one(
    'a flush is of no volume',
    'store/running/op-steps.ts',
    'this.flushes.flush(token, { volume, flush',
    'this.flushes.flush(token, { volume: volume + 1, flush',
  ),
  one(
    'entries are journaled at once while a flush writes them',
    'store/running/store-flush.ts',
    'return this.eagerly && !this.running;',
    'return this.eagerly;',
  ),
  one(
    'records of a flush are written that does not run',
    'store/running/store-flush.ts',
    '    this.running = true;\n',
    '',
  ),
  one(
    'a flush has ended twice',
    'store/running/store-flush.ts',
    '    journal.whenSynced(this.sequence, this.synced);\n',
    '    journal.whenSynced(this.sequence, this.synced);\n    journal.whenSynced(this.sequence, this.synced);\n',
  ),
  one(
    'first writes of a slot go back in the journal',
    'store/running/young-blocks.ts',
    'this.sequences.set(slot, this.journal.batch.sequence);',
    'this.sequences.set(slot, this.journal.batch.sequence + 1);',
  ),
  one(
    'an operation waits for young blocks without its block table',
    'store/running/op-steps.ts',
    '      else this.young.hold(op);\n',
    '      else {\n        op.page = NO_PAGE;\n        this.young.hold(op);\n      }\n',
  ),
  one(
    'young blocks have become old twice',
    'store/running/young-blocks.ts',
    'else journal.whenSynced(journal.note(), noted);',
    'else for (const sequence of [journal.note()].flatMap((one) => [one, one])) journal.whenSynced(sequence, noted);',
  ),
];
