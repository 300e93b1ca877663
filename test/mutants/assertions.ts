/**
 * Faults that let assertions fire: for each assertion that is drawn (`scripts/assertions.mjs`), a change of the code before it, and
 * who is to meet it. Some are mistakes that somebody could make; where the code leaves no room for one, the value that the
 * assertion looks at is spoiled.
 */

import { ANY, type AssertionMutant, CALM, one } from './assertion-mutant.js';
import { CALL_ASSERTIONS } from './assertions-calls.js';
import { CLIENT_ASSERTIONS } from './assertions-client.js';
import { MEMBER_ASSERTIONS } from './assertions-engine.js';
import { FLUSH_ASSERTIONS } from './assertions-flushes.js';
import { FORMAT_ASSERTIONS } from './assertions-format.js';
import { GATE_ASSERTIONS } from './assertions-gates.js';
import { HOLDER_ASSERTIONS } from './assertions-holders.js';
import { JOURNAL_ASSERTIONS } from './assertions-journal.js';
import { MANAGER_ASSERTIONS } from './assertions-manager.js';
import { MIRROR_ASSERTIONS } from './assertions-mirror.js';
import { NODE_ASSERTIONS } from './assertions-node.js';
import { OPENING_ASSERTIONS } from './assertions-opening.js';
import { OPERATION_ASSERTIONS } from './assertions-operations.js';
import { PAGE_ASSERTIONS } from './assertions-pages.js';
import { PING_ASSERTIONS } from './assertions-pings.js';
import { READER_ASSERTIONS } from './assertions-readers.js';
import { REQUEST_ASSERTIONS } from './assertions-requests.js';
import { RUNNING_ASSERTIONS } from './assertions-running.js';
import { SESSION_ASSERTIONS } from './assertions-sessions.js';
import { TABLE_ASSERTIONS } from './assertions-tables.js';
import { VOLUME_ASSERTIONS } from './assertions-volumes.js';
import { sim, tests } from './mutant.js';

const STORE: readonly AssertionMutant[] = [
  one(
    'an operation waits for an intent without its block table',
    'store/running/op-steps.ts',
    '    if (this.intents.join(op)) this.writeIntent(op);',
    '    this.putBack(op);\n    if (this.intents.join(op)) this.writeIntent(op);',
  ),
  one(
    'two checkpoints run at once',
    'store/running/checkpoint.ts',
    'const sequence = this.sequence + 1;',
    'const sequence = this.sequence + 2;',
  ),
  one(
    'a list was not gone through to its end',
    'core/in-lanes.ts',
    'while (next < items.length && !failed) {',
    'while (next + 1 < items.length && !failed) {',
    tests('core/in-lanes.test.ts'),
    sim(['kill'], 20),
  ),
  one(
    'a slot has its block table in the page of another',
    'store/running/table-cache.ts',
    '    if (slot >= 0) this.pageOf[slot] = 0;\n',
    '',
  ),
  one(
    'a block table was let go of twice',
    'store/running/table-loader.ts',
    '    tables.unpin(page);\n    const slot = tables.slotAt(page);',
    '    tables.unpin(page);\n    tables.unpin(page);\n    const slot = tables.slotAt(page);',
  ),
  one(
    'two checkpoints wait for modifications to end',
    'store/running/admission.ts',
    '    this.onQuiet = null;\n    resolve();',
    '    resolve();',
    ANY,
    tests('store/journal-room.test.ts'),
  ),
  one(
    'a slot is allocated for a replica that is not here',
    'store/running/slot-allocation.ts',
    '    const replica = volumes.replicas[op.volume];\n    check(replica',
    '    const replica = volumes.replicas[op.volume + 1];\n    check(replica',
  ),
  one(
    'a slot is given back twice',
    'store/running/slot-allocation.ts',
    '    this.freed.add(slot, journal.batch.sequence);',
    '    this.freed.add(slot, journal.batch.sequence);\n    this.freed.add(slot, journal.batch.sequence);',
  ),
  one(
    'a slot becomes free twice',
    'store/running/slot-allocation.ts',
    '    slots.free(slot);',
    '    slots.free(slot);\n    slots.free(slot);',
  ),
  one(
    'a write goes to none of its blocks',
    'store/running/op-steps.ts',
    'if (op.blocks > 0 && op.left === op.blocks) {',
    'if (op.blocks > 0 && op.left > op.blocks) {',
    tests('store/conditions.test.ts'),
  ),
  one(
    'a page is held that has no block table',
    'store/running/slot-allocation.ts',
    '    tables.clear(page);\n    tables.pin(page);',
    '    tables.clear(page);\n    tables.forget(slot);\n    tables.pin(page);',
  ),
  one(
    'a page is cleared that has no block table',
    'store/running/slot-allocation.ts',
    '    tables.clear(page);\n    tables.pin(page);',
    '    tables.forget(slot);\n    tables.clear(page);\n    tables.pin(page);',
  ),
  one(
    'zeroes answer what is no read',
    'store/running/transfers.ts',
    '    if (from < 0) {\n      this.endZeroes(op);',
    '    if (from < 0) {\n      op.kind = REQUEST_WRITE;\n      this.endZeroes(op);',
  ),
  one(
    'the record of zeroes does not fit the batch that has room for it',
    'store/running/entry-updates.ts',
    'const added = journal.batch.addZero(',
    'const added = !journal.batch.addZero(',
  ),
  one(
    'an operation has room that it did not wait for',
    'store/running/entry-updates.ts',
    'if (!later && !sent && journal.batch.sectorsLeft < 1) {\n        op.waiting = WAIT_RECORDS;',
    'if (!later && !sent && journal.batch.sectorsLeft < 126) {\n        op.waiting = 0;',
    ANY,
  ),
  one(
    'a modification needs no room in the journal',
    'store/running/admission.ts',
    'op.pages = pagesOf(op, slot >= 0 && log.has(slot));',
    'op.pages = 0;',
  ),
  one(
    'a page of the tree is written elsewhere',
    'store/running/checkpoint.ts',
    'pageOffset(layout.slotTableOffset, index, place)',
    'pageOffset(layout.dataOffset, index, place)',
  ),
  one(
    'control work is in flight when its store is given up',
    'node/node-store.ts',
    '    await store.quiet();\n    store.dispose();\n    this.onEnd();',
    '    await store.quiet();\n    void store.io.sync();\n    store.dispose();\n    this.onEnd();',
  ),
  one(
    'a record does not fit the batch that has room for it',
    'store/running/entry-updates.ts',
    'const added = journal.batch.addBlock(op.slot, block, words, word, first',
    'const added = !journal.batch.addBlock(op.slot, block, words, word, first',
  ),
  one(
    'a free slot is in the activity log',
    'store/running/slot-allocation.ts',
    '    log.remove(slot);\n',
    '',
    tests('store/slots.test.ts'),
    CALM,
    ANY,
  ),
  one(
    'the root that counts is emptied',
    'store/opening/open-store.ts',
    'for (const place of rootsLost) {',
    'for (const place of [...rootsLost, rootPlace]) {',
  ),
  one(
    'modifications were admitted during a checkpoint',
    'store/running/admission.ts',
    '    await this.parts.checkpoint(evict);',
    '    await this.parts.checkpoint(evict);\n    this.modifying += 1;',
  ),
  {
    says: 'a segment is given a second slot',
    edits: [
      {
        file: 'store/running/slot-allocation.ts',
        find: '    if (existing >= 0) {',
        replace: '    if (existing >= slots.slots) {',
      },
      {
        file: 'client/mirror/allocation.ts',
        find: '(slot) => slot.writable && !slot.segments.has(stripe));',
        replace: '(slot) => slot.writable);',
      },
    ],
    judges: [tests('store/segment-store.test.ts'), sim(['death', 'replace'], 20)],
  },
  one(
    'an intent is written of a slot in the activity log',
    'store/running/op-steps.ts',
    '    if (this.log.has(op.slot)) {',
    '    if (this.log.has(op.slot) && op.blocks > 1) {',
  ),
  one(
    'an allocation has ended twice, or was not begun',
    'store/running/slot-allocation.ts',
    '    this.allocations.set(slot, [op]);\n',
    '',
  ),
  one(
    'an operation waits for room that has ended',
    'store/running/op-steps.ts',
    '    if (!this.intents.write(op)) this.room.wait(op);',
    '    this.intents.write(op);\n    op.admitted = false;\n    this.room.wait(op);',
  ),
];

const CLIENT: readonly AssertionMutant[] = [
  one(
    'more is settled than is durable',
    'client/requests/volume-flush.ts',
    'this.hooks.oldestDiscard(this.durableBelow)',
    'this.hooks.oldestDiscard(this.durableBelow + 1)',
  ),
  one(
    'blocks are copied that have no entries',
    'client/members/member-work.ts',
    '    const { block, blocks } = range;\n    const [first, end]',
    '    const { block } = range;\n    const blocks = range.blocks + from.length;\n    const [first, end]',
    tests('client/volume-engine-resync.test.ts'),
    sim(['replace'], 20),
  ),
  one(
    'all copies of a block are behind',
    'client/mirror/reconcile.ts',
    'return compareFlushes(present.flushed, lastFlush) < 0;',
    'return compareFlushes(present.flushed, lastFlush) <= 0;',
    tests('client/volume-engine-reconcile.test.ts'),
    sim(['kill'], 20),
  ),
  one(
    'a buffer for copying is given out that may still be used',
    'client/jobs/copy-buffers.ts',
    '    if (buffer.lost) {\n      this.setAside(buffer);\n      return;\n    }\n',
    '',
    tests('client/volume-engine-resync.test.ts'),
    sim(['death'], 100),
  ),
  one(
    'memory comes back that was not set aside',
    'core/set-aside.ts',
    '    this.held += 1;\n',
    '',
    tests('client/volume-engine-resync.test.ts'),
    sim(['death'], 100),
  ),
  one(
    'a piece has no blocks',
    'client/requests/split-requests.ts',
    'piece.blocks = (stop - next) / BLOCK_BYTES;',
    'piece.blocks = Math.floor((stop - next) / BLOCK_BYTES / 2);',
  ),
  one(
    'a run does not fit the buffer',
    'client/mirror/resync.ts',
    'this.copyRun(job, stripe, first, count, buffer)',
    'this.copyRun(job, stripe, first, count + COPY_BLOCKS, buffer)',
    tests('client/volume-engine-resync.test.ts'),
  ),
  {
    says: 'a request is fed that waits for no part',
    edits: [
      // Otherwise it takes a thousand parts at once until a request waits for one.
      {
        file: 'client/requests/pieces.ts',
        find: 'if (this.parts === VOLUME_PARTS_MAX) return null;',
        replace: 'if (this.parts === 2) return null;',
      },
      {
        file: 'client/requests/split-requests.ts',
        find: '    check(request.starved,',
        replace: '    request.starved = false;\n    check(request.starved,',
      },
    ],
    judges: [tests('client/volume-engine.test.ts'), CALM, ANY],
  },
  one('a piece is taken that is in use', 'client/requests/pieces.ts', '    piece.inUse = false;\n', ''),
  one(
    'a modification goes to no member',
    'client/mirror/mirror.ts',
    '      if (!slot.writable) continue;\n      piece.targets',
    '      if (slot.writable) continue;\n      piece.targets',
  ),
];

const NODE: readonly AssertionMutant[] = [
  one(
    'a list of what is to be given back does not go on',
    'node/releases.ts',
    '      list.token = token;\n      member.list(list);\n    });',
    '      list.token = token;\n      member.list(list);\n    });\n    list.next = list.cursor;',
    tests('node-sim/deleted-volumes.test.ts'),
  ),
  one(
    'a new name is not newer than the last',
    'volumes/renaming.ts',
    'const headerVersion = 1 + Math.max(',
    'const headerVersion = Math.max(',
    tests('node-sim/names.test.ts'),
  ),
  one(
    'a volume is served over nothing',
    'volumes/volume-host.ts',
    'if (replica !== null) volume.replicas.push(replica);',
    'if (replica === null) volume.replicas.push(replica as never);',
  ),
  one(
    'the memory of a device is given back twice',
    'node/device-host.ts',
    'onEnd: () => this.returnPlace(place),',
    'onEnd: () => [place, place].forEach((one) => this.returnPlace(one)),',
  ),
  one(
    'a volume is renamed that is deleted',
    'volumes/volume-changes.ts',
    'this.catalog.rename(volume.stored, name)',
    'this.catalog.rename({ ...volume.stored, deleted: true }, name)',
    tests('node-sim/names.test.ts'),
  ),
  one(
    'a volume is served with the map of another',
    'volumes/volume-host.ts',
    'this.assemble(volume, map, stores)',
    "this.assemble(volume, { ...map, id: '' }, stores)",
  ),
  one(
    'a map is found under the id of another volume',
    'volumes/volume-directory.ts',
    '      const stored = newest.get(id);\n      if (stored === undefined || stored.deleted || this.byId.has(id)) continue;',
    '      const stored = [...newest.values()].at(-1);\n      if (stored === undefined || stored.deleted || this.byId.has(id)) continue;',
    tests('node-sim/names.test.ts'),
    tests('node-sim/deleted-volumes.test.ts'),
  ),
  one(
    'a replica is made of a volume that is not served',
    'volumes/volume-host.ts',
    '    const replica = await Replica.make(here ? this.ports.completions : null, device, map);\n',
    '    const replica = await Replica.make(this.ports.completions, device, map);\n    volume.engine = null;\n',
    sim(['replace'], 20),
  ),
  one(
    'a new volume names a device twice',
    'volumes/placement.ts',
    'sorted.slice(group * copies, (group + 1) * copies)',
    'Array.from({ length: copies }, () => sorted[group * copies])',
  ),
];

export const ASSERTION_MUTANTS: readonly AssertionMutant[] = [
  ...STORE,
  ...FORMAT_ASSERTIONS,
  ...RUNNING_ASSERTIONS,
  ...GATE_ASSERTIONS,
  ...HOLDER_ASSERTIONS,
  ...JOURNAL_ASSERTIONS,
  ...CLIENT,
  ...CALL_ASSERTIONS,
  ...CLIENT_ASSERTIONS,
  ...MEMBER_ASSERTIONS,
  ...NODE,
  ...NODE_ASSERTIONS,
  ...FLUSH_ASSERTIONS,
  ...MIRROR_ASSERTIONS,
  ...READER_ASSERTIONS,
  ...OPENING_ASSERTIONS,
  ...OPERATION_ASSERTIONS,
  ...PAGE_ASSERTIONS,
  ...PING_ASSERTIONS,
  ...REQUEST_ASSERTIONS,
  ...SESSION_ASSERTIONS,
  ...TABLE_ASSERTIONS,
  ...MANAGER_ASSERTIONS,
  ...VOLUME_ASSERTIONS,
];
