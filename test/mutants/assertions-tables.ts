/** Faults that let assertions fire: those of tables in memory, and of how the tree is written. */

import { type AssertionMutant, one } from './assertion-mutant.js';
import { tests } from './mutant.js';

const MIGRATION = tests('store/migration.test.ts');
const SLOTS = tests('store/slots.test.ts');

export const TABLE_ASSERTIONS: readonly AssertionMutant[] = [
  one(
    'a page is referred to that is not in the arena',
    'store/running/checkpoint.ts',
    '      this.slotPages[index] = this.referenceTo(page, place);\n',
    '      this.slotPages[index] = this.referenceTo(page.slice(), place);\n',
  ),
  one(
    'there is no such page of slots',
    'store/running/checkpoint.ts',
    'changed.add(Math.floor(slot / SLOT_ENTRIES));',
    'changed.add(slot + this.slotPages.length);',
  ),
  one(
    'there is no such page of references',
    'store/running/checkpoint.ts',
    'new Set([...changedBelow].map((index) => Math.floor(index / DIRECTORY_ENTRIES)));',
    'new Set([...changedBelow].map((index) => index + pages.length));',
  ),
  one(
    'pages have changed that no page of the directory leads to',
    'store/running/checkpoint.ts',
    'new Set([...changedBelow].map((index) => Math.floor(index / DIRECTORY_ENTRIES)));',
    'new Set([...changedBelow].map((index) => index / DIRECTORY_ENTRIES - 0.5));',
  ),
  one(
    'there is no such page of a volume',
    'store/running/checkpoint.ts',
    'const changed = new Set(volumeTable.changed);',
    'const changed = new Set([...volumeTable.changed].map((page) => page + this.volumePages.length));',
  ),
  one(
    'a root is written before what it refers to',
    'store/running/checkpoint.ts',
    '      encodeDirectory(page, kind, { index, deviceId, sequence }, references);\n      pages[index] = this.referenceTo(page, place);\n    }\n    await this.writeStaged();\n',
    '      encodeDirectory(page, kind, { index, deviceId, sequence }, references);\n      pages[index] = this.referenceTo(page, place);\n    }\n',
  ),
  one(
    'a root counts batches as durable that are on their way',
    'store/running/checkpoint.ts',
    'durableSequence: position.sequence - 1,',
    'durableSequence: position.sequence + 1000,',
  ),
  one(
    'a root has a part of the directory',
    'store/running/checkpoint.ts',
    'directory: layout.directoryLevels === 0 ? this.directory : this.directoryIndex,',
    'directory: this.directory.slice(1),',
  ),
  one(
    'a superblock is not newer than the last',
    'store/running/checkpoint.ts',
    'sequence: superblock.sequence + 1, state: DEVICE_CLEAN',
    'sequence: superblock.sequence, state: DEVICE_CLEAN',
  ),
  one(
    'control work writes beyond its device',
    'store/running/control-io.ts',
    'write(memory: number, lengthBytes: number, offsetBytes: number): Promise<number> {\n    const { sizeBytes } = this.device.geometry;\n',
    'write(memory: number, lengthBytes: number, offset: number): Promise<number> {\n    const { sizeBytes } = this.device.geometry;\n    const offsetBytes = offset + sizeBytes;\n',
  ),
  one('control work zeroes beyond its device', 'store/opening/format-device.ts', 'io.zero(', 'io.zero(2 ** 50 + '),
  one(
    'control work discards nothing',
    'store/running/slot-allocation.ts',
    'slot * layout.slotBytes, layout.slotBytes);',
    'slot * layout.slotBytes, 0);',
    SLOTS,
  ),
  one(
    'an allocation is for a replica that is not here',
    'store/running/slot-allocation.ts',
    '    check(volumes.replicas[op.volume] !== undefined',
    '    op.volume += 1;\n    check(volumes.replicas[op.volume] !== undefined',
  ),
  one('more slots were given back than are free', 'store/running/slot-table.ts', '    this.used -= 1;\n', '', SLOTS),
  one(
    'a slot is given away with the block table of another',
    'store/running/slot-allocation.ts',
    'else this.assign(op, slot, page);',
    'else this.assign(op, slot, (page + 1) as TablePage);',
  ),
  one(
    'a slot that is in use is discarded',
    'store/running/slot-allocation.ts',
    'discard ? (slot) => this.discard(slot) : null',
    'discard ? () => this.discard(this.parts.log.active[0]) : null',
    SLOTS,
  ),
  one(
    'a slot is given back with the block table of another',
    'store/running/slot-allocation.ts',
    '    const { slot, page } = op;\n    check(!this.allocations',
    '    const { slot } = op;\n    const page = (op.page + 1) as TablePage;\n    check(!this.allocations',
    SLOTS,
  ),
  one(
    'a slot is given away twice',
    'store/running/slot-allocation.ts',
    '    slots.assign(slot, op.volume, op.stripe, member);\n',
    '    slots.assign(slot, op.volume, op.stripe, member);\n    slots.assign(slot, op.volume, op.stripe, member);\n',
  ),
  one(
    'a slot is given to no replica',
    'store/running/slot-allocation.ts',
    '    slots.assign(slot, op.volume, op.stripe, member);\n',
    '    slots.assign(slot, (op.volume + 1e6) as ReplicaPage, op.stripe, member);\n',
  ),
  one(
    'a segment is given to the replica that has it',
    'store/opening/migrate.ts',
    'slots.give(slot as SlotIndex, free)',
    'slots.give(slot as SlotIndex, slots.volumes[slot] as ReplicaPage)',
    MIGRATION,
  ),
  one(
    'a volume has given back more slots than it had',
    'store/running/slot-table.ts',
    '    this.usedByVolume[volume] += 1;\n',
    '',
    SLOTS,
  ),
  one(
    'a segment is found whose slot was given back',
    'store/running/slot-table.ts',
    '    buckets[hole] = EMPTY;\n',
    '',
    SLOTS,
  ),
  one(
    'there is no such page of the cache',
    'store/running/table-loader.ts',
    'device.read(tables.memoryOf(page)',
    'device.read(tables.memoryOf(-1 - page)',
  ),
  one(
    'a slot takes a second page for its block table',
    'store/running/table-loader.ts',
    'let page = tables.find(slot);',
    'let page: TablePage = NO_PAGE;',
  ),
  one(
    'a page has changed that has no block table',
    'store/running/slot-allocation.ts',
    '    tables.setChanged(page);\n',
    '    tables.forget(slot);\n    tables.setChanged(page);\n',
  ),
  one('an operation asks for a block table that it has', 'store/store-op.ts', '    this.page = NO_PAGE;\n', ''),
  one(
    'an operation gets the block table of another slot',
    'store/running/table-loader.ts',
    '    let page = tables.find(slot);\n',
    '    let page = tables.find(0);\n',
  ),
  one(
    'a block table has been read twice, or for nobody',
    'store/running/table-loader.ts',
    '    device.read(tables.memoryOf(page), PAGE_BYTES, offset, this.token + page);\n',
    '    for (let times = 0; times < 2; times += 1) {\n      device.read(tables.memoryOf(page), PAGE_BYTES, offset, this.token + page);\n    }\n',
  ),
  one(
    'an operation waits for a page of the cache that it has',
    'store/running/slot-allocation.ts',
    '    if (page < 0) this.parts.awaitPage(op);\n',
    '    op.page = page;\n    if (page >= 0) this.parts.awaitPage(op);\n',
  ),
  one(
    'a replica gets a page that there is not',
    'store/running/volume-table.ts',
    'const page = known >= 0 ? known : this.newIndex(id);',
    'const page = known >= 0 ? known : (this.pages as ReplicaPage);',
  ),
  one(
    'a replica is put on the page of another volume',
    'store/running/volume-table.ts',
    'this.owners.set(page, { volumeId: id',
    'this.owners.set((page + 1) as ReplicaPage, { volumeId: id',
  ),
  one(
    'a replica begins that is here already',
    'store/running/volume-table.ts',
    '    if (known < 0) this.begin(page, map);\n',
    '    this.begin(page, map);\n',
  ),
  one(
    'a map is durable on a page that does not exist',
    'store/running/map-writer.ts',
    'volumes.settle(index, map);',
    'volumes.settle(-1 - index, map);',
  ),
  one(
    'a map is durable of a replica that is not here',
    'store/running/map-writer.ts',
    'volumes.settle(index, map);',
    'volumes.settle(index + 1, map);',
  ),
  one(
    'a page is emptied that does not exist',
    'store/running/map-writer.ts',
    'volumes.forget(index);',
    'volumes.forget(-1 - index);',
    tests('store/many-replicas.test.ts'),
  ),
  one(
    'what is settled is told of no replica',
    'store/local-member.ts',
    '.noteSettled(this.volume',
    '.noteSettled(this.volume + 1',
  ),
];
