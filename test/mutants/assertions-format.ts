/** Faults that let assertions fire: those of what the store writes and reads, and of how a device is opened. */

import { ANY, type AssertionMutant, CALM, one } from './assertion-mutant.js';
import { sim, tests } from './mutant.js';

export const FORMAT_ASSERTIONS: readonly AssertionMutant[] = [
  one(
    'references are written for no checkpoint',
    'store/running/checkpoint.ts',
    'encodeDirectory(page, kind, { index, deviceId, sequence }',
    'encodeDirectory(page, kind, { index, deviceId, sequence: 0 }',
    CALM,
  ),
  one(
    'a root points beyond the journal',
    'store/running/journal-writer.ts',
    'return { page: this.page, sequence: this.filling.sequence };',
    'return { page: this.layout.journalPages - 1, sequence: this.filling.sequence };',
    CALM,
  ),
  one(
    'a root lists an active slot that is not in use',
    'store/running/checkpoint.ts',
    'active: [...store.steps.log.active],',
    'active: [...store.steps.log.active, (store.slots.slots - 1) as SlotIndex],',
    CALM,
  ),
  one(
    'slots do not begin at a multiple of their size',
    'store/format/format.ts',
    'alignUp(journalOffset + journalPages * PAGE_BYTES, slotBytes)',
    'journalOffset + journalPages * PAGE_BYTES',
    CALM,
  ),
  one(
    'a reference leads to neither of two places',
    'store/running/checkpoint.ts',
    '      place,\n      checksum: this.store',
    '      place: 2 + place,\n      checksum: this.store',
    CALM,
  ),
  one(
    'the version of a map does not fit its page',
    'store/running/volume-table.ts',
    'this.replicas[page] = map;',
    'this.replicas[page] = { ...map, mapVersion: map.mapVersion + 2 ** 48 };',
    CALM,
  ),
  one(
    'the volumes do not fit the root',
    'store/running/checkpoint.ts',
    'volumes: layout.volumeDirectoryPages === 0 ? this.volumePages : this.volumeDirectory',
    'volumes: [...this.slotPages, ...this.volumePages, ...this.directory]',
    CALM,
    tests('store/many-replicas.test.ts'),
  ),
  one(
    'a replica gets a page that does not exist',
    'store/running/volume-table.ts',
    'this.owners.set(page, { volumeId: id',
    'this.owners.set(this.pages as ReplicaPage, { volumeId: id',
    CALM,
  ),
  one(
    'a device is opened under a life that has been',
    'store/opening/open-store.ts',
    'incarnation: found.incarnation + 1',
    'incarnation: found.incarnation',
    CALM,
  ),
  one(
    'slots are compared in more memory than there is',
    'store/opening/recovery.ts',
    '(slot, piece) => this.compare(slot, piece)',
    '(slot, piece) => this.compare(slot, CONTROL_PIECES - piece)',
    sim(['kill'], 20),
    ANY,
  ),
  one(
    'a segment that changes its replica is another',
    'store/running/slot-table.ts',
    'this.assign(slot, volume, stripe, member);\n    flags',
    'this.assign(slot, volume, stripe + 1, member);\n    flags',
    tests('store/migration.test.ts'),
    tests('node-sim/groups.test.ts'),
    ANY,
  ),
];
