/** Mutants of what makes copies equal: resync, reconcile, read repair, and what they go by. */

import { type Mutant, sim, tests } from './mutant.js';

const ENGINE = tests('client/volume-engine.test.ts');
const RECONCILE = tests('client/volume-engine-reconcile.test.ts');
const RESYNC = tests('client/volume-engine-resync.test.ts');
const RANGES = tests('client/ranges.test.ts');
const CANDIDATES = tests('client/candidates.test.ts');
const DIGESTS = tests('node-sim/digests.test.ts');
const RESTAMP = tests('node-sim/restamp.test.ts');
const MIRROR_DEATH = tests('node-sim/mirror-death.test.ts');

export const COPYING_MUTANTS: readonly Mutant[] = [
  {
    name: 'resync-skips-candidates',
    breaks: 'A resync compares only segments that the member does not have at all',
    rule: 'every segment that may differ is a candidate',
    edits: [
      {
        file: 'client/mirror/resync.ts',
        find: 'return [...found.keys()].sort(',
        replace: 'return [...found.keys()].filter((stripe) => !this.slot.segments.has(stripe)).sort(',
      },
    ],
    judges: [sim(['death', 'kill', 'restart']), RESYNC],
  },
  {
    name: 'resync-ignores-stamps',
    breaks: 'A resync skips segments that are not dirty, though they were changed at different points',
    rule: 'candidates are all segments changed since the member left',
    edits: [
      {
        file: 'client/mirror/resync.ts',
        find: 'return [...found.keys()].sort(',
        replace: 'return [...found.keys()].filter((at) => found.get(at) === true || !this.slot.segments.has(at)).sort(',
      },
    ],
    judges: [RESYNC, sim(['death', 'kill', 'restart'])],
  },
  {
    name: 'left-counts-as-repaired',
    breaks: 'A block that has changed before it was rewritten counts as repaired with the others of its run',
    rule: 'what is told to be repaired was rewritten',
    edits: [
      {
        file: 'client/mirror/read-repair.ts',
        find: 'if (!left.has(block)) this.noteRepaired(',
        replace: 'if (left.size < run.length) this.noteRepaired(',
      },
    ],
    judges: [RANGES],
  },
  {
    name: 'good-lost-with-bad',
    breaks: 'Blocks that were read along with bad ones count as bad',
    rule: 'an error of a range speaks of the blocks that it names',
    edits: [
      {
        file: 'client/mirror/read-runs.ts',
        find: '      for (const one of bad) {',
        replace: '      for (const one of run) {',
      },
    ],
    judges: [RANGES],
  },
  {
    name: 'digests-believed',
    breaks: 'Below what is settled, or what a copy has missed, copies count as equal whatever their digests say',
    rule: 'what copies have recorded differently is compared, however long ago that was',
    edits: [
      {
        file: 'client/mirror/candidates.ts',
        find: 'if (members.length < 2) return [];',
        replace: 'if (members.length < COPIES) return [];\n  // A group has fewer.',
      },
      {
        file: 'client/mirror/candidates.ts',
        find: '/** No modification is recorded under it, or later. */',
        replace: 'const COPIES = 9;\n\n/** No modification is recorded under it, or later. */',
      },
    ],
    judges: [CANDIDATES],
  },
  {
    name: 'digests-after-lists',
    breaks: 'Digests are asked for when lists have been, so that what is modified between is told by neither',
    rule: 'what copies have recorded differently is compared, though clients write meanwhile',
    edits: [
      {
        file: 'client/mirror/candidates.ts',
        find: '  const ranges = await differingRanges(work, members);\n',
        replace: '',
      },
      {
        file: 'client/mirror/candidates.ts',
        find: '  for (const first of ranges) {',
        replace: '  for (const first of await differingRanges(work, members)) {',
      },
    ],
    judges: [CANDIDATES],
  },
  {
    name: 'digests-of-numbers',
    breaks: 'The digest of a range tells which segments there are, and nothing of when they were modified',
    rule: 'what copies have recorded differently is compared, however long ago that was',
    edits: [
      {
        file: 'layout/chunk-digest.ts',
        find: 'for (const number of [chunk, generation, flushNumber]) {',
        replace: 'for (const number of [chunk, generation - generation, flushNumber - flushNumber]) {',
      },
    ],
    judges: [DIGESTS],
  },
  {
    name: 'resync-unheld',
    breaks: 'A resync copies blocks without holding them against writes',
    rule: 'a copy is applied only if the block is unchanged since it was read',
    edits: [
      {
        file: 'client/mirror/resync.ts',
        find: 'pieces.locked(stripe, first, count, () => this.copyRun(job, stripe, first, count, buffer));',
        replace: 'this.copyRun(job, stripe, first, count, buffer);',
      },
    ],
    judges: [sim(['death', 'replace', 'restart']), RESYNC, MIRROR_DEATH],
  },
  {
    name: 'equal-before-copied',
    breaks: 'A segment is recorded as equal to its source before it has been compared and copied',
    rule: 'what is recorded as equal has the content, whenever the job is stopped',
    edits: [
      {
        file: 'client/mirror/resync.ts',
        find: '    await job.pace(blocks * 16);\n',
        replace: '    await this.restamp(stripe, blocks);\n    await job.pace(blocks * 16);\n',
      },
    ],
    judges: [RESTAMP],
  },
  {
    name: 'copies-keep-stamps',
    breaks: 'Segments that were made equal by a resync keep their own stamps',
    rule: 'a start after a resync compares nothing that is not in doubt',
    edits: [
      {
        file: 'client/mirror/resync.ts',
        find: '    await this.restamp(stripe, blocks);\n',
        replace: '',
      },
    ],
    judges: [RESTAMP],
  },
  {
    name: 'equal-not-journaled',
    breaks: 'That a segment is equal is not in the journal, and so is lost in a crash',
    rule: 'what is recorded as equal is durable with the next flush',
    edits: [
      {
        file: 'store/running/entry-updates.ts',
        find: '    if (journaled) this.pending.addStamp(slot);\n',
        replace: '    if (!journaled) this.pending.addStamp(slot);\n',
      },
    ],
    judges: [RESTAMP],
  },
  {
    name: 'reconcile-off',
    breaks: 'Copies are not made equal after the writer died',
    rule: 'copies are reconciled before a volume is served',
    edits: [
      {
        file: 'client/mirror/reconcile.ts',
        find: '        group.filter(({ readable }) => readable),\n      );',
        replace: '        [],\n      );',
      },
    ],
    judges: [sim(['kill']), RECONCILE],
  },
  {
    name: 'reconcile-older-wins',
    breaks: 'Of two copies the one with the lower stamp wins',
    rule: 'the highest known write wins',
    edits: [
      {
        file: 'client/mirror/reconcile.ts',
        find: 'compareStamps(stampOf(other.entries, block), stampOf(one.entries, block))',
        replace: 'compareStamps(stampOf(one.entries, block), stampOf(other.entries, block))',
      },
    ],
    judges: [RECONCILE, sim(['power', 'kill'])],
  },
  {
    name: 'reconcile-entries-only',
    breaks: 'Copies whose entries are equal count as equal without a look at their content',
    rule: 'CRC32C alone is no proof of equality',
    edits: [
      {
        file: 'client/mirror/reconcile.ts',
        find: '      if (copies.length > 1 && inDoubt) await this.contents(copies, stripe, buffer);\n',
        replace: '',
      },
    ],
    judges: [RECONCILE, sim(['kill'])],
  },
  {
    name: 'repair-spreads-damage',
    breaks: 'A copy whose checksum does not match is written over the good ones',
    rule: 'corruption is never spread',
    edits: [
      {
        file: 'client/mirror/read-repair.ts',
        find: '      // Once something has been given up, nothing more may be read into this memory.\n',
        replace:
          '      for (const [one, error] of [...failed]) {\n' +
          '        if (error !== 74) continue;\n        failed.delete(one);\n' +
          '        for (const other of group) if (other !== slot) damages.push({ slot: other, seen, blocks: new Set([one]) });\n' +
          '      }\n',
      },
    ],
    judges: [sim(['rot']), ENGINE],
  },
  {
    name: 'behind-believed',
    breaks: 'Members that lack a flush which others remember count as the others do',
    rule: "after the writer's death what may differ is compared",
    edits: [
      {
        file: 'client/mirror/reconcile.ts',
        find: 'return compareFlushes(present.flushed, lastFlush) < 0;',
        replace: 'return false;',
      },
    ],
    judges: [sim(['lie'], 200), RECONCILE],
  },
  {
    name: 'release-not-remembered',
    breaks: 'The flush after a segment was given back is not remembered',
    rule: 'a stale copy of a segment does not come back',
    edits: [
      {
        file: 'client/mirror/reclaim.ts',
        find: '    this.flushes.markNext();\n  }\n\n  /** The lowest flush number',
        replace: '  }\n\n  /** The lowest flush number',
      },
    ],
    judges: [sim(['lie'], 400), RECONCILE],
  },
];
