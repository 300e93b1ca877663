/** Mutants of the migration of devices from before the feature `groups`. */

import { type Judge, type Mutant, tests } from './mutant.js';

const MIGRATION = tests('store/migration.test.ts');
const STRAYS = tests('store/strays.test.ts');
const DOUBLED = tests('store/doubled-replicas.test.ts');
/** In full it takes minutes, and notices these in brief. */
const DAMAGE: Judge = { kind: 'test', file: 'store/migration-damage.test.ts', form: 'brief' };
const CHECKPOINT = 'store/running/checkpoint.ts';
const MIGRATE = 'store/opening/migrate.ts';

export const MIGRATION_MUTANTS: readonly Mutant[] = [
  {
    name: 'feature-after-pages',
    breaks: 'The superblocks get the feature when the device is closed, and the pages before',
    rule: 'no version meets pages that it does not know',
    edits: [
      {
        file: 'store/opening/open-store.ts',
        find: 'writeSuperblocks({ memory, io }, memoryStart, superblock);',
        replace: 'writeSuperblocks({ memory, io }, memoryStart, { ...superblock, incompatible: found.incompatible });',
      },
    ],
    judges: [MIGRATION],
  },
  {
    name: 'feature-never-set',
    breaks: 'A migrated device does not say that it is one',
    rule: 'no version meets pages that it does not know',
    edits: [
      {
        file: 'store/opening/open-store.ts',
        find: 'incompatible: withGroups(found.incompatible),',
        replace: '',
      },
    ],
    judges: [MIGRATION],
  },
  {
    name: 'one-page-of-two-groups',
    breaks: 'A device that is in two groups of a volume gets the page of the first alone',
    rule: 'a migrated device knows each group that it is in',
    edits: [
      { file: MIGRATE, find: 'for (const group of others) {', replace: 'for (const group of others.slice(0, 0)) {' },
    ],
    judges: [MIGRATION],
  },
  {
    name: 'entries-stay-with-first-group',
    breaks: 'Segments of the second group stay with the page of the first',
    rule: 'each segment belongs to the replica of its group',
    edits: [{ file: MIGRATE, find: 'slots.give(slot as SlotIndex, free);', replace: '{}' }],
    judges: [MIGRATION],
  },
  {
    name: 'entries-name-no-group',
    breaks: 'Entries of a volume of which the device has two groups are not written anew',
    rule: 'an entry names its group where there are several',
    edits: [{ file: MIGRATE, find: 'changedSlots.add(slot);', replace: '' }],
    judges: [MIGRATION],
  },
  {
    name: 'entries-name-no-group-later',
    breaks: 'Entries from before groups are not written anew when the device gets a second group of their volume',
    rule: 'an entry names its group where there are several',
    edits: [{ file: 'store/running/volume-table.ts', find: 'this.renewEntries(id);', replace: '' }],
    judges: [MIGRATION],
  },
  {
    name: 'entries-name-no-group-replayed',
    breaks: 'Recovery takes a second group from the journal, and leaves the entries of the first without theirs',
    rule: 'an entry names its group where there are several',
    edits: [{ file: 'store/opening/replay-journal.ts', find: 'this.renewEntries(index);', replace: '' }],
    judges: [MIGRATION],
  },
  {
    name: 'strays-stay',
    breaks: 'Slots of groups that the device has left are not given back',
    rule: 'a slot belongs to a replica of its device, or is free',
    edits: [
      {
        file: 'store/opening/open-store.ts',
        find: 'const strays = takeBackStrays(image);',
        replace: 'const strays = image.batches < 0 ? takeBackStrays(image) : 0;',
      },
    ],
    judges: [STRAYS],
  },
  {
    name: 'strays-in-memory-alone',
    breaks: 'Slots of groups that the device has left become free, and their entries in the tree stay',
    rule: 'what is free in memory is free in the tree',
    edits: [
      {
        file: 'store/opening/strays.ts',
        find: '    changedSlots.add(slot);\n',
        replace: '    changedSlots.delete(slot);\n',
      },
    ],
    judges: [STRAYS],
  },
  {
    name: 'two-pages-of-one-replica',
    breaks: 'A device on which two pages hold one replica is opened, with the one that is found first',
    rule: 'what contradicts itself is refused',
    edits: [{ file: 'store/opening/load-image.ts', find: '  tree.checkOwners();\n', replace: '' }],
    judges: [DOUBLED],
  },
  {
    name: 'two-pages-while-replaying',
    breaks: 'Pages of replicas are compared before the journal has been replayed over them',
    rule: 'tree and journal count together',
    edits: [
      {
        file: 'store/opening/load-image.ts',
        find: '  await journal.load();\n  tree.checkOwners();\n',
        replace: '  tree.checkOwners();\n  await journal.load();\n',
      },
    ],
    judges: [DOUBLED],
  },
  {
    name: 'own-fields-lost',
    breaks: 'A migrated page has forgotten the last flush that the device remembers',
    rule: 'what a device remembers of itself survives',
    edits: [
      {
        file: MIGRATE,
        find: 'answered: false, flushed, settled',
        replace: 'answered: false, flushed: NO_FLUSH, settled',
      },
    ],
    judges: [MIGRATION],
  },
  {
    name: 'stranger-gets-a-page',
    breaks: 'A page whose map does not name the device becomes that of the first group',
    rule: 'a device serves nothing that its map does not give it',
    edits: [{ file: MIGRATE, find: 'const [first, ...others]', replace: 'const [first = 0, ...others]' }],
    judges: [MIGRATION],
  },
  {
    name: 'old-page-stays',
    breaks: 'A page of the old form is kept beside the map that takes its place',
    rule: 'a newer map takes the place of an older one',
    edits: [
      {
        file: 'store/running/volume-table.ts',
        find: 'this.legacy.delete(page);\n    this.owners.set(page, { volumeId',
        replace: 'this.owners.set(page, { volumeId',
      },
    ],
    judges: [MIGRATION],
  },
  {
    name: 'slots-page-unchecked',
    breaks: 'A page of the slot table is believed whatever its checksum, a torn one too',
    rule: 'what is not whole is refused, and left alone',
    edits: [
      {
        file: 'store/opening/read-tree.ts',
        find: 'if (this.reader.checksum(page) !== reference.checksum) {',
        replace: 'if (this.reader.checksum(page) < 0) {',
      },
    ],
    judges: [DAMAGE],
  },
  {
    name: 'volume-page-in-place',
    breaks: 'A page of a volume is written over the one that the root leads to',
    rule: 'pages of the tree alternate between two places',
    edits: [
      {
        file: CHECKPOINT,
        find: 'const place = reference.place ^ 1;\n      const page = await this.stage(pageOffset(layout.volumesOffset',
        replace: 'const { place } = reference;\n      const page = await this.stage(pageOffset(layout.volumesOffset',
      },
    ],
    judges: [DAMAGE],
  },
  {
    name: 'root-before-pages',
    breaks: 'A checkpoint writes pages of volumes after the root that leads to them',
    rule: 'what a root leads to is durable before it',
    edits: [
      {
        file: CHECKPOINT,
        find: 'this.store.controlMemory(0) + this.staged.length',
        replace: 'this.store.controlMemory(1) + this.staged.length',
      },
      {
        file: CHECKPOINT,
        find: '    await this.writeStaged();\n    return changed;\n  }\n\n  private async writeRoot(',
        replace: '    return changed;\n  }\n\n  private async writeRoot(',
      },
      {
        file: CHECKPOINT,
        find: "    check(this.staged.length === 0, 'a root is written before what it refers to', this.staged.length);\n",
        replace: '',
      },
      {
        file: CHECKPOINT,
        find: '    await this.writeRoot(sequence, position);\n',
        replace: '    await this.writeRoot(sequence, position);\n    await this.writeStaged();\n',
      },
    ],
    judges: [DAMAGE],
  },
];
