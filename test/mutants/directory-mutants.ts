/** Mutants of the index that large directories have. */

import { type Judge, type Mutant, tests } from './mutant.js';

const INDEX = tests('store/directory-index.test.ts');
const CRASH: Judge = { kind: 'test', file: 'store/crash.test.ts', form: 'brief' };
const LAYOUT = tests('store/layout.test.ts');

export const DIRECTORY_MUTANTS: readonly Mutant[] = [
  {
    name: 'index-not-written',
    breaks: 'A checkpoint writes the directory, and leaves its index as it was',
    rule: 'whoever refers to a page that has changed is changed, up to the root',
    edits: [
      {
        file: 'store/running/checkpoint.ts',
        find: 'if (directoryIndex.length === 0) return;',
        replace: 'if (directoryIndex.length >= 0) return;',
      },
    ],
    judges: [INDEX],
  },
  {
    name: 'directory-in-place',
    breaks: 'Pages of references are written over those that the root leads to',
    rule: 'pages of the tree alternate between two places',
    edits: [
      {
        file: 'store/running/checkpoint.ts',
        find: 'const place = reference.place ^ 1;\n      const page = await this.stage(pageOffset(region',
        replace: 'const { place } = reference;\n      const page = await this.stage(pageOffset(region',
      },
    ],
    judges: [CRASH],
  },
  {
    name: 'index-of-first-page',
    breaks: 'Each page of the index has the references of the first',
    rule: 'each page of references leads to the pages of its numbers',
    edits: [
      {
        file: 'store/running/checkpoint.ts',
        find: 'const first = index * DIRECTORY_ENTRIES;',
        replace: 'const first = kind === DIRECTORY_INDEX_MAGIC ? 0 : index * DIRECTORY_ENTRIES;',
      },
    ],
    judges: [INDEX],
  },
  {
    name: 'references-beyond',
    breaks: 'References to pages beyond the last of a level are ignored',
    rule: 'what no version writes is refused',
    edits: [
      {
        file: 'store/opening/read-tree.ts',
        find: 'this.demandAbsent(references.slice(wanted), kind, index);',
        replace: '',
      },
    ],
    judges: [INDEX],
  },
  {
    name: 'index-too-late',
    breaks: 'A device is formatted without an index when the root leads to fewer entries than it has',
    rule: 'the root leads to every entry',
    edits: [
      {
        file: 'store/format/format.ts',
        find: 'layout.entries <= ROOT_ENTRIES) return layout;',
        replace: 'layout.entries <= 2 * ROOT_ENTRIES) return layout;',
      },
    ],
    judges: [LAYOUT],
  },
  {
    name: 'all-tables-cleared',
    breaks: 'Formatting clears the tables of all entries',
    rule: 'formatting writes nothing for each entry',
    edits: [
      {
        file: 'store/opening/format-device.ts',
        find: 'Math.min(SIGNATURES_BYTES, layout.blockTableOffset)',
        replace: 'layout.blockTableOffset',
      },
    ],
    judges: [INDEX],
  },
];
