/** Faults that let assertions fire: those of the journal of a store, and of who may modify it when. */

import { ANY, type AssertionMutant, CALM, one } from './assertion-mutant.js';
import { tests } from './mutant.js';

const ROOM = tests('store/journal-room.test.ts');
const SLOTS = tests('store/slots.test.ts');
const WRITER = 'store/running/journal-writer.ts';
const ADMISSION = 'store/running/admission.ts';
const LOG = 'store/running/activity-log.ts';

export const JOURNAL_ASSERTIONS: readonly AssertionMutant[] = [
  one(
    'the journal goes on where no batch fits',
    'store/opening/open-store.ts',
    'journal: { page: journal.page, sequence',
    'journal: { page: image.superblock.layout.journalPages, sequence',
    CALM,
  ),
  one(
    'a sync is asked for of a batch that has passed, or was not begun',
    'store/running/map-writer.ts',
    'journal.whenSynced(sequence, { proceed });',
    'journal.whenSynced(sequence + 1, { proceed });',
    CALM,
  ),
  one(
    'the journal is full: a batch would be written over what recovery needs',
    ADMISSION,
    'return room.sparePages < op.pages + SPARE_PAGES;',
    'return false;',
    ROOM,
    ANY,
  ),
  one(
    'a batch reaches beyond the journal',
    WRITER,
    'const next = nextBatchPage(this.layout, this.page, batch.pages);',
    'const next = this.page + batch.pages;',
    ROOM,
    ANY,
  ),
  one(
    'the journal leaves a batch out',
    WRITER,
    'this.filling.begin(batch.sequence + 1);',
    'this.filling.begin(batch.sequence + 2);',
    CALM,
  ),
  one(
    'a batch grows when it is handed over',
    WRITER,
    '    this.onSubmit(batch);\n',
    '    this.onSubmit(batch);\n    for (let slot = 0; slot < 500; slot += 1) batch.addSlot(1, slot);\n',
    CALM,
  ),
  one(
    'the journal does not go on',
    WRITER,
    'const next = nextBatchPage(this.layout, this.page, batch.pages);',
    'const next = this.page;',
    CALM,
  ),
  one(
    'a batch is handed over while some wait for the one before',
    WRITER,
    '    for (const waiter of this.inFlightWaiters.takeAll()) waiter.proceed(0);\n    this.submit();\n',
    '    this.submit();\n    for (const waiter of this.inFlightWaiters.takeAll()) waiter.proceed(0);\n',
  ),
  one(
    'a batch has been written twice, or was not handed over',
    WRITER,
    '    this.device.write(memory, batch.pages * PAGE_BYTES, offset, 0, this.token + TAG_WRITE);\n',
    '    for (let times = 0; times < 2; times += 1) {\n      this.device.write(memory, batch.pages * PAGE_BYTES, offset, 0, this.token + TAG_WRITE);\n    }\n',
    CALM,
  ),
  one(
    'a sync begins while some wait for the one before',
    WRITER,
    'syncWaiters.size === 0 || this.syncing ||',
    'syncWaiters.size === 0 ||',
  ),
  one(
    'a sync of the journal has ended twice, or was not begun',
    WRITER,
    '    this.device.sync(this.token + TAG_SYNC);\n',
    '    this.device.sync(this.token + TAG_SYNC);\n    this.device.sync(this.token + TAG_SYNC);\n',
    CALM,
  ),
  one(
    'a batch says that later ones are durable',
    WRITER,
    'this.inFlightNote = this.wholeSequence;',
    'this.inFlightNote = batch.sequence + 1;',
    CALM,
  ),
  one(
    'batches that were whole are so no more',
    WRITER,
    'Math.min(completedSequence, this.firstWrites.oldest - 1)',
    'completedSequence - 5 * (completedSequence % 2)',
    CALM,
  ),
  one(
    'a batch is waited for that was left out',
    'store/running/entry-updates.ts',
    'journal.whenRecorded(op.firstIn, op);',
    'journal.whenRecorded(op.firstIn + 9, op);',
    CALM,
  ),
  one(
    'a checkpoint covers batches that are yet to come',
    'store/running/checkpoint.ts',
    'store.journal.releaseBefore(position);',
    'store.journal.releaseBefore({ ...position, sequence: position.sequence + 1000 });',
    CALM,
  ),
  one(
    'a checkpoint leaves more of the journal needed than there was',
    'store/running/checkpoint.ts',
    'store.journal.releaseBefore(position);',
    'store.journal.releaseBefore({ ...position, page: position.page + 1 });',
    CALM,
  ),
  // Who may modify.
  one(
    'a modification is held that is in progress',
    ADMISSION,
    '    this.leave(op);\n    this.hold(op);\n',
    '    this.hold(op);\n    this.leave(op);\n',
    ROOM,
    ANY,
  ),
  one(
    'a modification is admitted twice',
    ADMISSION,
    '    else this.admit(op);\n',
    '    else {\n      this.admit(op);\n      this.admit(op);\n    }\n',
    CALM,
  ),
  one(
    'an operation is alone in a slot in which it is not',
    'store/running/op-steps.ts',
    '!(this.admission.isAlone(op) &&',
    '!(this.admission.isAlone({ ...op, slot: op.slot + 1 } as StoreOp) &&',
    SLOTS,
    ANY,
  ),
  one(
    'a slot has fewer modifications than none',
    ADMISSION,
    '  occupy(slot: SlotIndex): void {\n    this.busy[slot] += 1;\n',
    '  occupy(_slot: SlotIndex): void {\n',
    CALM,
  ),
  one('more allocations have ended than were admitted', ADMISSION, '      log.expected += 1;\n', '', CALM),
  one(
    'more modifications have ended than were admitted',
    ADMISSION,
    '    this.modifying += 1;\n    room.reserve(op.pages);\n',
    '    room.reserve(op.pages);\n',
    CALM,
  ),
  one(
    'a checkpoint runs while modifications are admitted',
    ADMISSION,
    '    this.holding = true;\n    this.checkpointsAsked += 1;\n',
    '    this.checkpointsAsked += 1;\n',
    CALM,
  ),
  one(
    'a checkpoint begins while modifications are in progress',
    ADMISSION,
    '    if (this.modifying > 0) {\n      check',
    '    if (this.modifying > 9) {\n      check',
  ),
  one(
    'a slot is in the activity log, and in no list of it',
    LOG,
    '    if (!this.has(slot)) this.slots.push(slot);\n',
    '',
    SLOTS,
    ANY,
  ),
  one(
    'a slot is to enter the activity log that there is not',
    ADMISSION,
    '    log.claim(op.slot);\n',
    '    log.claim(-1 - op.slot);\n',
  ),
  one(
    'the activity log is cleared while slots are to enter it',
    ADMISSION,
    '    if (op.kind === REQUEST_ALLOCATE) log.expected -= 1;\n    else log.endClaim(op.slot);\n',
    '    if (op.kind !== REQUEST_ALLOCATE) log.endClaim(op.slot);\n',
    CALM,
    ANY,
  ),
];
