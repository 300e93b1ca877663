/** Mutants of maps that name one device twice, and of notes that volumes are deleted. */

import { type Mutant, tests } from './mutant.js';

const DELETED = tests('node-sim/deleted-volumes.test.ts');
const PAGES = tests('store/volume-pages.test.ts');
const GROUPS = tests('node-sim/groups.test.ts');
const ONE_EACH = tests('node-sim/one-copy-each.test.ts');
const RELEASE = tests('node-sim/release-failures.test.ts');

export const DELETION_MUTANTS: readonly Mutant[] = [
  {
    name: 'release-failure-unseen',
    breaks: 'A slot of a deleted volume that a device could not give back counts as given back',
    rule: 'what a device could not do is told, and done when it is opened the next time',
    edits: [{ file: 'node/releases.ts', find: 'if (result < 0) throw', replace: 'if (result < -1000) throw' }],
    judges: [RELEASE],
  },
  {
    name: 'list-failure-unseen',
    breaks: 'Where a device cannot say what it has of a deleted volume, it counts as having nothing',
    rule: 'what a device could not do is told, and done when it is opened the next time',
    edits: [{ file: 'node/releases.ts', find: 'if (listed < 0) throw', replace: 'if (listed < -1000) throw' }],
    judges: [RELEASE],
  },
  {
    name: 'note-forgotten-early',
    breaks: 'The note of a deletion goes though a device that is away may have the volume',
    rule: 'a deleted volume does not come back',
    edits: [
      {
        file: 'volumes/deleted-volumes.ts',
        find: 'return entry === undefined || entry.failed || !entry.isGone(id);',
        replace: 'return entry !== undefined && !entry.isGone(id);',
      },
    ],
    judges: [DELETED],
  },
  {
    name: 'note-undurable',
    breaks: 'A deletion counts as stored on a device while it is on its way there',
    rule: 'a deleted volume does not come back',
    edits: [
      {
        file: 'store/running/volume-table.ts',
        find: 'return map.volume.deleted && this.durable[page] === map;',
        replace: 'return map.volume.deleted;',
      },
    ],
    judges: [DELETED],
  },
  {
    name: 'page-before-slots',
    breaks: 'The page of a deleted volume is given away while slots belong to it',
    rule: 'a volume reads nothing of another',
    edits: [
      {
        file: 'store/running/volume-table.ts',
        find: ' || this.slots.usedBy(page) > 0) return false;',
        replace: ') return false;',
      },
    ],
    judges: [PAGES],
  },
  {
    name: 'page-with-old-mark',
    breaks: 'A volume that is given a page has the remembered flush of the one before',
    rule: 'after the death of the writer what may differ is compared',
    edits: [{ file: 'store/running/volume-table.ts', find: '    this.flushedMarks[page] = NO_FLUSH;\n', replace: '' }],
    judges: [PAGES],
  },
  {
    name: 'forgotten-volume-starts',
    breaks: 'A volume starts though a device that its map calls current has forgotten it',
    rule: 'a deleted volume does not come back',
    edits: [
      {
        file: 'volumes/deleted-volumes.ts',
        find: '    if (versions[at] <= 1) return [];\n',
        replace: '    return [];\n',
      },
    ],
    judges: [DELETED],
  },
  {
    name: 'copies-on-one-device',
    breaks: 'Maps may name a device twice in a group',
    rule: 'copies lie on different devices',
    edits: [
      {
        file: 'layout/volume-map.ts',
        find: '    if (doubled !== undefined) return doubled;\n',
        replace: '    if (doubled === NO_DEVICE) return doubled;\n',
      },
    ],
    judges: [tests('store/volume-formats.test.ts'), tests('store/fsck.test.ts'), tests('store/migration.test.ts')],
  },
  {
    name: 'groups-share-segments',
    breaks: 'A device in two groups takes the page of the one for that of the other',
    rule: 'a rebuild discards nothing that belongs to somebody else',
    edits: [
      {
        file: 'store/running/volume-table.ts',
        find: 'return this.owners.find(volumeId, group + 1);',
        replace: 'return this.indexesOf(volumeId)[0] ?? group - group - 1;',
      },
    ],
    judges: [ONE_EACH, GROUPS],
  },
  {
    name: 'start-in-one-group',
    breaks: 'A start is a change of the first group alone',
    rule: 'nobody writes under a generation that a group has not stored',
    edits: [
      {
        file: 'volumes/store-map.ts',
        find: 'version === NO_VERSION || version === before?.versions[group] ? [] : [group]',
        replace: 'group > 0 && (version === NO_VERSION || version !== before?.versions[group] - 1) ? [] : [group]',
      },
    ],
    judges: [GROUPS],
  },
  {
    name: 'unheard-group-starts',
    breaks: 'A volume starts, or is called something else than unproven, though nobody has a map of one of its groups',
    rule: 'a volume of which a device that may know more is missing is not started',
    edits: [
      {
        file: 'volumes/starting-refusal.ts',
        find: '  if (unheard.length > 0) {',
        replace: '  if (unheard.length > stored.groups.length) {',
      },
    ],
    judges: [GROUPS],
  },
  {
    name: 'answered-under-writes',
    breaks: 'A device notes that it has answered a map while writes under the one before are under way',
    rule: 'a map is answered when what was accepted before has ended',
    edits: [{ file: 'volumes/device-catalog.ts', find: '{ before, idle: false }', replace: '{ before, idle: true }' }],
    judges: [GROUPS],
  },
];
