/** Mutants above the store: mirrors, slots that are given back, and the map. */

import { type Mutant, sim, tests } from './mutant.js';

const ENGINE = tests('client/volume-engine.test.ts');
const RANDOM = tests('client/volume-engine-random.test.ts');
const RESYNC = tests('client/volume-engine-resync.test.ts');
const RESTART = tests('node-sim/restart.test.ts');
const MIRROR_DEATH = tests('node-sim/mirror-death.test.ts');

const MIRROR: Mutant[] = [
  {
    name: 'write-acknowledged-by-one',
    breaks: 'A write that failed on a member is acknowledged, and the member stays in-sync',
    rule: 'a write is acknowledged when every member in-sync has it',
    edits: [
      {
        file: 'client/mirror/mirror.ts',
        find: 'if (failed !== 0 || this.membership.stopped !== null) {',
        replace: 'if (done === 0 || this.membership.stopped !== null) {',
      },
    ],
    judges: [sim(['error', 'death'], 100), ENGINE],
  },
  {
    name: 'write-sent-to-one',
    breaks: 'A write goes to the first member in-sync, and counts as done by all',
    rule: 'a write is acknowledged when every member in-sync has it',
    edits: [
      {
        file: 'client/mirror/mirror.ts',
        find: '      slot.present.submit(request);\n      // The first',
        replace:
          '      if (position === 0) slot.present.submit(request);\n' +
          '      else this.parts.completions.defer(request.token, 0);\n      // The first',
      },
    ],
    judges: [sim('all'), ENGINE],
  },
  {
    name: 'flush-sent-to-one',
    breaks: 'A flush goes to one member only',
    rule: 'a flush covers every member in-sync',
    edits: [
      {
        file: 'client/requests/volume-flush.ts',
        find: '    for (let index = 0; index < this.members.length; index += 1) this.send(index);',
        replace:
          '    this.send(0);\n    for (let index = 1; index < this.members.length; index += 1) this.completions.defer(this.token + index, 0);',
      },
    ],
    judges: [sim(['power']), ENGINE],
  },
  {
    name: 'failed-flush-ignored',
    breaks: 'A flush that fails on a member is answered as done',
    rule: 'a member on which a flush fails leaves before the flush is answered',
    edits: [
      {
        file: 'client/requests/volume-flush.ts',
        find: '        if (!this.covers(slot, slot.member)) failed |= slot.bit;\n',
        replace: '',
      },
    ],
    judges: [sim(['error', 'power'], 100), ENGINE],
  },
  {
    name: 'flush-across-incarnations',
    breaks: 'A flush counts although the device was opened anew since the writes it covers',
    rule: 'a flush covers only writes acknowledged under the same incarnation',
    edits: [
      {
        file: 'client/requests/volume-flush.ts',
        find: 'this.results[index] >= 0 && member.incarnation === slot.incarnation;',
        replace: 'this.results[index] >= 0;',
      },
    ],
    judges: [ENGINE, RESYNC],
  },
  {
    name: 'syncing-member-read',
    breaks: 'Reads go to a member that is still being brought up to date',
    rule: 'no stale read after a rejoin or rebuild',
    edits: [
      {
        file: 'client/mirror/member-slot.ts',
        find: "return this.member !== null && this.state === 'in-sync' && !this.leaving;",
        replace: "return this.member !== null && this.state !== 'offline' && !this.leaving;",
      },
    ],
    judges: [sim('all'), RESYNC],
  },
  {
    name: 'writes-to-a-block-at-once',
    breaks: 'Two writes to one block may be in flight at once',
    rule: 'one modifying request per block at a time',
    edits: [
      {
        file: 'client/requests/block-order.ts',
        find: '(one.exclusive || other.exclusive) &&',
        replace: 'one.exclusive !== other.exclusive &&',
      },
    ],
    judges: [sim([]), RANDOM],
  },
  {
    name: 'patch-without-lock',
    breaks: 'A block is read, changed and written back while others write to it',
    rule: 'one modifying request per block at a time',
    edits: [
      {
        file: 'client/requests/pieces.ts',
        find: 'piece.exclusive = piece.kind !== PIECE_READ;',
        replace: 'piece.exclusive = piece.kind !== PIECE_READ && piece.kind !== PIECE_PATCH;',
      },
    ],
    judges: [sim([]), RANDOM],
  },
  {
    name: 'abandoned-memory-reused',
    breaks: 'Memory of operations that were given up is used again at once',
    rule: 'memory belongs to an operation until its last completion',
    edits: [
      {
        file: 'core/abandoned-memory.ts',
        find: 'if (this.uses(start, end)) this',
        replace: 'if (lengthBytes < 0) this',
      },
    ],
    judges: [sim(['death']), tests('core/abandoned-memory.test.ts')],
  },
  {
    name: 'program-buffer-reused',
    breaks: 'A program uses the buffer of a request that was given up for the next one',
    rule: 'memory belongs to an operation until its last completion',
    edits: [
      {
        file: 'serve/ring-client.ts',
        find: 'this.abandoned.add(flight.buffer);',
        replace: 'this.pool.release(flight.buffer);',
      },
    ],
    judges: [sim(['death']), tests('runtime/ring-client.test.ts')],
  },
  {
    name: 'hole-before-its-time',
    breaks: 'A segment of which only one copy is known counts as a hole when its status is asked for',
    rule: 'what is said to read as zeroes does',
    edits: [
      {
        file: 'client/requests/volume-extents.ts',
        find: 'exists(membership.groupOf(stripe), stripe) ? DATA : HOLE',
        replace: 'membership.groupOf(stripe).every((slot) => exists([slot], stripe)) ? DATA : HOLE',
      },
    ],
    judges: [sim(['death', 'replace', 'restart'])],
  },
];

const SPACE = tests('node-sim/space.test.ts');
const RECLAIM = tests('client/reclaim.test.ts');

const RECLAIMING: Mutant[] = [
  {
    name: 'reclaim-never',
    breaks: 'What was discarded while a copy was away keeps its slots for ever',
    rule: 'space is given back once all copies are current',
    edits: [
      {
        file: 'client/mirror/copy-jobs.ts',
        find: '    job.ended.then(() => this.startReclaim(group));\n',
        replace: '',
      },
    ],
    judges: [sim(['death'], 100), SPACE],
  },
  {
    name: 'reclaim-not-remembered',
    breaks: 'A member that becomes current does not note from where on slots are to be given back',
    rule: 'space is given back once all copies are current, also after a restart',
    edits: [
      {
        file: 'layout/map-changes.ts',
        find: "{ state: 'in-sync', since: unreleased, ...progress }",
        replace: "{ state: 'in-sync', since: NO_FLUSH, ...progress }",
      },
    ],
    judges: [SPACE],
  },
  {
    name: 'release-without-lock',
    breaks: 'A slot is given back while the segment may be written to',
    rule: 'nothing else happens in a segment whose slot may become free',
    edits: [
      {
        file: 'client/mirror/reclaim.ts',
        find: 'pieces.locked(stripe, 0, membership.record.segmentBytes / BLOCK_BYTES, () => this.giveBackHeld(stripe))',
        replace: 'pieces.locked(stripe, 0, 0, () => this.giveBackHeld(stripe))',
      },
    ],
    judges: [RECLAIM],
  },
  {
    name: 'mended-kept',
    breaks: 'A scrub that mends a copy does not look whether its segment holds nothing any more',
    rule: 'space is given back though a copy was damaged when it was discarded',
    edits: [
      {
        file: 'client/mirror/scrub.ts',
        find: 'job.check();\n        await this.giveBack(stripe);',
        replace: 'job.check();',
      },
    ],
    judges: [RECLAIM],
  },
  {
    name: 'release-by-one-copy',
    breaks: 'Slots are given back on all copies because one of them needs its own no more',
    rule: 'a slot is given back only if no member needs it',
    edits: [
      {
        file: 'client/mirror/reclaim.ts',
        find: 'if (!entries.every(allVacant))',
        replace: 'if (!allVacant(entries[0]))',
      },
    ],
    judges: [RECLAIM],
  },
  {
    name: 'release-while-a-copy-is-away',
    breaks: 'Slots are given back although a copy is away that has to learn of it from the entries',
    rule: 'no slot is given back before all copies are current',
    edits: [
      {
        file: 'client/mirror/reclaim.ts',
        find: '    if (!membership.complete(this.slots)) return;\n    const below',
        replace: '    const below',
      },
      {
        file: 'client/mirror/reclaim.ts',
        find: '    if (!membership.complete(this.slots)) return false;\n    // Most have content',
        replace: '    // Most have content',
      },
      {
        file: 'client/mirror/reclaim.ts',
        find: 'if (!membership.complete(this.slots) || !this.isSettled(stripe)) return false;',
        replace: 'if (!this.isSettled(stripe)) return false;',
      },
      {
        file: 'client/mirror/reclaim.ts',
        find: '    if (!membership.complete(this.slots)) return false;\n    this.discarded.delete(stripe);',
        replace: '    this.discarded.delete(stripe);',
      },
    ],
    judges: [RECLAIM],
  },
  {
    name: 'kept-zeroes-given-back',
    breaks: 'Zeroes whose space was asked to be kept count as nothing',
    rule: 'what is to be kept stays allocated',
    edits: [
      {
        file: 'layout/block-entry.ts',
        find: 'return zero && words[word + ENTRY_CHECKSUM] !== ZERO_KEPT;',
        replace: 'return zero;',
      },
    ],
    judges: [SPACE],
  },
];

const MAP: Mutant[] = [
  {
    name: 'stale-member-believed',
    breaks:
      'At the start a member counts as in-sync whatever the others know of it, by their maps and by their flushes',
    rule: 'a member that may have missed an acknowledged write is not in-sync',
    edits: [
      {
        file: 'layout/starting-map.ts',
        find: '  if (own === undefined || known.newest === undefined) return true;\n',
        replace:
          '  if (own === undefined || known.newest === undefined || own.mapVersion < Number.POSITIVE_INFINITY) return false;\n',
      },
      // A copy that is believed by its map is still looked through if it lacks a flush that others remember.
      {
        file: 'client/mirror/reconcile.ts',
        find: 'return compareFlushes(present.flushed, lastFlush) < 0;',
        replace: 'return false;',
      },
    ],
    judges: [RESTART, sim(['death', 'kill', 'power', 'restart'])],
  },
  {
    name: 'leaving-member-told-first',
    breaks: 'A map is stored on the member that it takes out before those that stay',
    rule: 'a map is stored on the current members first',
    edits: [
      {
        file: 'volumes/store-map.ts',
        find: '  const results = await put(true);',
        replace: '  await put(false);\n  const results = await put(true);',
      },
    ],
    judges: [RESTART, sim(['death', 'error', 'kill', 'restart'])],
  },
  {
    name: 'map-not-stored',
    breaks: 'A map takes effect without being stored on any device',
    rule: 'a map takes effect when all in-sync members have stored it',
    edits: [
      {
        file: 'volumes/device-catalog.ts',
        find: '    await storeMap(this.stores, next, { before, idle: false });\n    this.tell(next);',
        replace: '    this.tell(next);',
      },
    ],
    judges: [sim(['death', 'kill', 'restart']), MIRROR_DEATH],
  },
  {
    name: 'rename-makes-newest-map',
    breaks: 'Renaming a volume of which a device is missing makes a map that is newer than any',
    rule: 'no map is newer than one on a device that is missing, unless somebody has given that up',
    edits: [
      {
        file: 'volumes/renaming.ts',
        find: 'const renamed = { ...own, volume:',
        replace: 'const renamed = { ...own, mapVersion: own.mapVersion + 9, volume:',
      },
    ],
    judges: [tests('node-sim/names.test.ts')],
  },
];

export const VOLUME_MUTANTS: readonly Mutant[] = [...MIRROR, ...RECLAIMING, ...MAP];
