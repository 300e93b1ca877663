/** Mutants of maps that name one device twice, and of notes that volumes are deleted. */

import { type Mutant, tests } from './mutant.js';

const DELETED = tests('node-sim/deleted-volumes.test.ts');
const PAGES = tests('store/volume-pages.test.ts');
const ONE_EACH = tests('node-sim/one-copy-each.test.ts');

export const DELETION_MUTANTS: readonly Mutant[] = [
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
        find: '(this.volumes[index]?.deleted === true && this.durable[index] === this.volumes[index])',
        replace: 'this.volumes[index]?.deleted === true',
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
        find: ' || this.slots.usedBy(index) > 0) return false;',
        replace: ') return false;',
      },
    ],
    judges: [PAGES],
  },
  {
    name: 'page-with-old-mark',
    breaks: 'A volume that is given a page has the remembered flush of the one before',
    rule: 'after the death of the writer what may differ is compared',
    edits: [
      { file: 'store/running/volume-table.ts', find: '      this.flushedMarks[index] = NO_FLUSH;\n', replace: '' },
    ],
    judges: [PAGES],
  },
  {
    name: 'forgotten-volume-starts',
    breaks: 'A volume starts though a device that its map calls current has forgotten it',
    rule: 'a deleted volume does not come back',
    edits: [{ file: 'volumes/deleted-volumes.ts', find: '  if (mapVersion <= 1) return [];', replace: '  return [];' }],
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
    judges: [ONE_EACH],
  },
  {
    name: 'groups-share-segments',
    breaks: 'A device in two groups shows each the segments of both',
    rule: 'a rebuild discards nothing that belongs to somebody else',
    edits: [
      {
        file: 'store/member-lists.ts',
        find: 'return slots.stripes[slot] % this.share.groups === this.share.group;',
        replace: 'return true;',
      },
    ],
    judges: [ONE_EACH],
  },
];
