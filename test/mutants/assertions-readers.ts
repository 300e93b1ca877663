/** Faults that let assertions fire: those of volumes that are only read. */

import { type AssertionMutant, one } from './assertion-mutant.js';
import { tests } from './mutant.js';

const READERS = tests('cluster/readers.test.ts');
const SEQUENCES = tests('sim/sequences-readers.test.ts');
const IO = 'client/reader/reader-io.ts';
const FOLLOWED = 'volumes/followed-volume.ts';

export const READER_ASSERTIONS: readonly AssertionMutant[] = [
  one(
    'a read is held twice',
    IO,
    '    this.held.push(piece);\n',
    '    this.held.push(piece);\n    if (piece.heldMs === 0) this.hold(piece);\n',
    READERS,
  ),
  one(
    'an engine that only reads is to modify something',
    'client/requests/volume-requests.ts',
    'else if (modifies && this.parts.readOnly) error = -EROFS;',
    'else if (modifies && lengthBytes < 0) error = -EROFS;',
    READERS,
  ),
  one(
    'copies are compared of which there is none',
    IO,
    'return members.length > 0 ? members : null;',
    'return members.slice(members.length);',
    READERS,
  ),
  one(
    'a read is searched for that is not held',
    IO,
    '    this.noteHeld(piece);\n    const found',
    '    const found',
    READERS,
  ),
  one(
    'a read is searched for that has not begun',
    IO,
    'const found = await this.agreed.run(piece, holder);',
    'piece.started = false;\n    const found = await this.agreed.run(piece, holder);',
    READERS,
  ),
  one(
    'an engine follows the map of another volume',
    FOLLOWED,
    'if (!this.ended) this.reader?.follow(volumeOf(this.maps), this.members);',
    "if (!this.ended) this.reader?.follow({ ...volumeOf(this.maps), id: 'f' }, this.members);",
    READERS,
  ),
  one(
    'a volume is read by members of other groups',
    FOLLOWED,
    'if (!this.ended) this.reader?.follow(volumeOf(this.maps), this.members);',
    'if (!this.ended) this.reader?.follow(volumeOf(this.maps), []);',
    READERS,
  ),
  one(
    'a member is opened in the place of another',
    FOLLOWED,
    "if (state !== 'in-sync' || this.members[group][place] !== null) return;",
    "if (state !== 'in-sync') return;",
    READERS,
  ),
  one(
    'a volume is read that is given up',
    'volumes/managed-readers.ts',
    'await followed.close();',
    'followed.poke();',
    SEQUENCES,
  ),
];
