/** Mutants of volumes that are only read. */

import { type Mutant, tests } from './mutant.js';

const READERS = tests('cluster/readers.test.ts');
const SEQUENCES = tests('sim/sequences-readers.test.ts');
const IO = 'client/reader/reader-io.ts';
const GATE = 'node/replica-gate.ts';

export const READER_MUTANTS: readonly Mutant[] = [
  {
    name: 'reader-without-leases',
    breaks: 'Who only reads asks a member whether there are leases or not',
    rule: 'reads need leases of all members in-sync (Rule A)',
    edits: [
      {
        file: IO,
        find: 'if (!this.leases.mayRead(group)) {\n      this.hold(piece);',
        replace: 'if (group < 0) {\n      this.hold(piece);',
      },
    ],
    judges: [SEQUENCES],
  },
  {
    name: 'reader-of-one-copy',
    breaks: 'Who only reads tells what one member has, though others may not have it yet',
    rule: 'what is not settled counts when all members in-sync have it',
    edits: [{ file: IO, find: 'others ? REQUEST_SETTLED : 0', replace: 'others ? 0 : REQUEST_SETTLED' }],
    judges: [READERS],
  },
  {
    name: 'reader-compares-nothing',
    breaks: 'Copies that differ count as the same',
    rule: 'what is not settled counts when all members in-sync have it',
    edits: [
      {
        file: 'client/reader/agreed-read.ts',
        find: 'Buffer.compare(one, other) !== 0',
        replace: 'Buffer.compare(one, other) > 1',
      },
    ],
    judges: [READERS],
  },
  {
    name: 'reader-of-what-is-not-settled',
    breaks: 'Whatever a chunk was recorded under, it counts as settled',
    rule: 'a chunk is settled that was recorded below what the last flush has made durable',
    edits: [
      {
        file: 'store/segment-store.ts',
        find: 'return isBefore(recorded, this.volumeTable.settled.of(volume));',
        replace: 'return recorded.generation >= 0;',
      },
    ],
    judges: [READERS],
  },
  {
    name: 'reader-of-a-generation-not-agreed',
    breaks: 'Members are read by others than the writer before their copies have been made equal',
    rule: 'a member counts for readers once it was told AGREED under the generation of its map',
    edits: [
      {
        file: GATE,
        find: 'if (this.agreed === map.generation && this.agreed > 0) return true;',
        replace: 'return true;',
      },
    ],
    judges: [READERS],
  },
  {
    name: 'reader-of-a-former-life',
    breaks: 'A device that was opened anew counts for readers as it has served the generation before',
    rule: 'a device that was opened anew may lack what was acknowledged and not flushed',
    edits: [
      {
        file: GATE,
        find: 'if (this.agreed === map.generation && this.agreed > 0) return true;',
        replace: 'if (this.servedGeneration === map.generation) return true;',
      },
    ],
    judges: [READERS],
  },
  {
    name: 'reader-keeps-its-map',
    breaks: 'Who only reads goes on under the map that it began with',
    rule: 'a reader takes the newest map that a member has',
    edits: [
      {
        file: 'volumes/followed-volume.ts',
        find: 'map.mapVersion <= known.mapVersion) continue;',
        replace: 'map.mapVersion > 0) continue;',
      },
    ],
    judges: [SEQUENCES, READERS],
  },
  {
    name: 'reader-follows-what-is-decided',
    breaks: 'Who only reads takes maps that managers have decided, which no member may have',
    rule: 'a reader takes a map when a member has it',
    edits: [
      {
        file: 'volumes/managed-volumes.ts',
        find: '    this.authority.heard(maps);\n  }\n\n  /** Maps that others have brought',
        replace:
          '    this.authority.heard(maps);\n    this.readers.heard(maps);\n  }\n\n  /** Maps that others have brought',
      },
    ],
    judges: [SEQUENCES],
  },
  {
    name: 'reader-writes',
    breaks: 'Requests that modify pass an engine that only reads',
    rule: 'who has no right to write changes nothing',
    edits: [
      {
        file: 'client/requests/volume-requests.ts',
        find: 'else if (modifies && this.parts.readOnly) error = -EROFS;',
        replace: 'else if (modifies && lengthBytes < 0) error = -EROFS;',
      },
    ],
    judges: [READERS],
  },
  {
    name: 'gated-agreement-unnoted',
    breaks: 'What an engine in the process of a device tells of equal copies is not noted at its gate',
    rule: 'AGREED is durable before it is answered, whichever way it comes',
    edits: [
      {
        file: 'node/gated-member.ts',
        find: 'if (result >= 0 && request?.kind === REQUEST_AGREED)',
        replace: 'if (result > 0 && request?.kind === REQUEST_AGREED)',
      },
    ],
    judges: [tests('members/gated-member.test.ts')],
  },
];
