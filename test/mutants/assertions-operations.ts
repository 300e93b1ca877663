/** Faults that let assertions fire: those of the operations of a store. */

import { ANY, type AssertionMutant, one } from './assertion-mutant.js';
import { tests } from './mutant.js';

const CONDITIONS = tests('store/conditions.test.ts');

export const OPERATION_ASSERTIONS: readonly AssertionMutant[] = [
  one(
    'a member is of a replica that is not here',
    'store/local-member.ts',
    '    const { owners, legacy } = store.volumeTable;\n',
    '    const { owners, legacy } = store.volumeTable;\n    volume += 1;\n',
  ),
  one(
    'a member is of a replica that has no map',
    'store/local-member.ts',
    '    const map = store.replicas[volume];\n',
    '    const map = store.replicas[volume + 1];\n',
  ),
  one(
    'an operation leaves a list that it is not in',
    'store/running/conditions.ts',
    '    this.first[op.slot] = op.index + 1;\n',
    '',
  ),
  one(
    'an operation leaves a list that has lost it',
    'store/running/conditions.ts',
    '    if (next !== NONE) this.parts.opAt(next).before = op.index;\n',
    '',
    ANY,
  ),
  one(
    'blocks are left as they are before that was decided',
    'store/running/conditions.ts',
    'if (this.meets(op)) {',
    'op.left = 1;\n      if (this.meets(op)) {',
    CONDITIONS,
  ),
  one(
    'a condition without the entries that it speaks of',
    'store/store-op.ts',
    'this.entries = request.entries;',
    'this.entries = null;',
    CONDITIONS,
  ),
  one(
    'entries are set beyond the end of a slot',
    'store/running/op-steps.ts',
    '      default:\n        this.updates.set(op);\n',
    '      default:\n        op.blocks += 100000;\n        this.updates.set(op);\n',
  ),
  one(
    'entries are set in the block table of another slot',
    'store/running/op-steps.ts',
    '      default:\n        this.updates.set(op);\n',
    '      default:\n        op.page += 1;\n        this.updates.set(op);\n',
  ),
  one(
    'a block gets the checksum of a transfer that was not made',
    'store/running/op-steps.ts',
    '        this.transfers.start(op);\n        break;\n',
    '        this.updates.set(op);\n        break;\n',
  ),
  one(
    'doubt ends about a slot that is free',
    'store/segment-store.ts',
    'this.steps.restamp(slot, { generation',
    'this.steps.restamp((this.slots.slots - 1) as SlotIndex, { generation',
    tests('store/restamp.test.ts'),
  ),
  one(
    'an overwrite is sent early without its payload, or twice',
    'store/running/entry-updates.ts',
    '    const { earlyWords } = this;\n',
    '    const { earlyWords } = this;\n    op.early = true;\n',
  ),
  one(
    'the records of an overwrite do not fit the batch that has room for them',
    'store/running/entry-updates.ts',
    '    const { earlyWords } = this;\n',
    '    const { earlyWords } = this;\n    while (journal.batch.addBlock(op.slot, op.block, earlyWords, 0, 0));\n',
  ),
  one(
    'an operation has ended that was never made',
    'store/running/transfers.ts',
    '    const token = this.token + op.index;\n',
    '    const token = this.token + op.index + 1000;\n',
  ),
  one('an operation is given out that is in flight', 'store/running/op-pool.ts', '    op.inFlight = false;\n', ''),
  one(
    'an operation is answered twice',
    'store/segment-store.ts',
    '    this.pool.giveBack(op);\n',
    '    this.pool.giveBack(op);\n    this.pool.giveBack(op);\n',
  ),
  one(
    'an operation has the block table of another slot',
    'store/running/table-loader.ts',
    '    op.page = page;\n    onReady(op);\n  }\n',
    '    op.page = page + 1;\n    onReady(op);\n  }\n',
  ),
  one(
    'a modification ends before all its entries are set',
    'store/running/entry-updates.ts',
    '    this.endSet(op);\n  }\n\n  /** The flags',
    '    op.next -= 1;\n    this.endSet(op);\n  }\n\n  /** The flags',
  ),
  one(
    'an operation goes on that waits for nothing',
    'store/running/op-steps.ts',
    '    op.waiting = WAIT_DURABLE;\n',
    '',
  ),
  one(
    'a transfer is of no slot',
    'store/running/transfers.ts',
    '    this.checkPlace(op);\n',
    '    op.slot += layout.slots;\n    this.checkPlace(op);\n',
  ),
  one(
    'a transfer reaches beyond its slot',
    'store/running/transfers.ts',
    '    this.checkPlace(op);\n',
    '    op.block += layout.slotBytes;\n    this.checkPlace(op);\n',
  ),
  one(
    'an operation begins a second transfer',
    'store/running/transfers.ts',
    '    op.area = area;\n',
    '    op.area = area;\n    this.checkPlace(op);\n',
  ),
  one(
    'a slot is written to that is not in the activity log',
    'store/running/op-steps.ts',
    '    if (this.log.has(op.slot)) {\n      this.log.touch(op.slot);\n      this.haveIntent(op);',
    '    if (op.kind === REQUEST_WRITE || this.log.has(op.slot)) {\n      this.haveIntent(op);',
    ANY,
  ),
  one(
    'a transfer has ended twice, or was not begun',
    'store/running/transfers.ts',
    '      device.write(op.memory, bytes, offset, 0, token, checksums);\n',
    '      device.write(op.memory, bytes, offset, 0, token, checksums);\n      device.write(op.memory, bytes, offset, 0, token, checksums);\n',
  ),
  one(
    'a transfer has ended without its block table',
    'store/running/transfers.ts',
    '    op.area = area;\n',
    '    op.area = area;\n    this.tables.unpin(op.page);\n',
  ),
  one(
    'a read has ended that has read nothing',
    'store/running/transfers.ts',
    '    op.from = from;\n    op.to = to;\n    this.start(op);\n',
    '    op.from = from;\n    op.to = to;\n    this.start(op);\n    op.to = from;\n',
  ),
  one(
    'transfers are in flight when their store is given up',
    'store/running/transfers.ts',
    '    this.freeAreas.push(op.area);\n',
    '    if (this.freeAreas.length < STORE_TRANSFERS_MAX - 1) this.freeAreas.push(op.area);\n',
  ),
  one(
    'there is no such piece of control memory',
    'store/running/checkpoint.ts',
    '    const memory = store.controlMemory(0);\n',
    '    const memory = store.controlMemory(-1);\n',
  ),
  one(
    'more calls have returned than were made',
    'store/segment-store.ts',
    '  private finishLater(op: StoreOp, result: number): void {\n    this.entered += 1;\n',
    '  private finishLater(op: StoreOp, result: number): void {\n',
  ),
  one(
    'an operation is begun twice',
    'store/segment-store.ts',
    '    op.begin(volume, request);\n',
    '    op.begin(volume, request);\n    op.begin(volume, request);\n',
  ),
  one(
    'a block is left as it is twice, or is none',
    'store/running/conditions.ts',
    'op.leave(index);',
    'op.leave(index + op.blocks);',
    CONDITIONS,
  ),
  one(
    'a copy is asked for a block that it has not',
    'store/running/entry-updates.ts',
    'words[word + ENTRY_STAMP_LOW] = op.stampLowOf(op.next);',
    'words[word + ENTRY_STAMP_LOW] = op.stampLowOf(op.next + op.blocks);',
    ANY,
  ),
  one(
    'an operation goes on that has been answered',
    'store/running/entry-updates.ts',
    '      this.journal.whenComplete(op);\n      return;\n',
    '      this.journal.whenComplete(op);\n      this.journal.whenComplete(op);\n      return;\n',
  ),
];
