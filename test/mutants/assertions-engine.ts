/** Faults that let assertions fire: those of requests to a volume, of its members and of the jobs of its engine. */

import { ANY, type AssertionMutant, one } from './assertion-mutant.js';
import { tests } from './mutant.js';

const RESYNC = tests('client/volume-engine-resync.test.ts');
const RECONCILE = tests('client/volume-engine-reconcile.test.ts');
const ENGINE = tests('client/volume-engine.test.ts');
const DISCARDS = tests('client/volume-engine-discards.test.ts');
const JOBS = tests('client/jobs.test.ts');
const WORK = 'client/members/member-work.ts';
const PIECES = 'client/requests/pieces.ts';

export const MEMBER_ASSERTIONS: readonly AssertionMutant[] = [
  one(
    'a page is beyond its buffer',
    'client/mirror/reconcile.ts',
    'new BufferPage(buffer, ',
    'new BufferPage(buffer, 1e6 + ',
    RECONCILE,
    ANY,
  ),
  one(
    'a job goes through segments a second time',
    'client/mirror/resync.ts',
    'await job.each(await this.candidates()',
    'job.segmentsTotal = 1;\n    await job.each(await this.candidates()',
    RESYNC,
  ),
  one(
    'a job has done more than there is',
    'client/jobs/job.ts',
    '      this.segmentsDone += 1;\n',
    '      this.segmentsDone += 1000;\n',
    RESYNC,
  ),
  one('a job has left out segments', 'client/jobs/job.ts', '      this.segmentsDone += 1;\n', '', RESYNC),
  one(
    'two jobs do the same work',
    'client/jobs/volume-jobs.ts',
    '(other) => !other.over && other.kind === kind && other.group === group);\n',
    '(other) => other.kind === kind && other.group === group);\n',
    JOBS,
    RESYNC,
    ANY,
  ),
  one(
    'two jobs have one number',
    'client/jobs/volume-jobs.ts',
    'this.options.nextJobId?.() ?? this.lastId',
    '1',
    JOBS,
    RESYNC,
    ANY,
  ),
  one(
    'a record is taken that is in flight',
    WORK,
    '    this.free.push(request);\n',
    '    this.free.push(request);\n    this.inUse.add(request);\n',
    RESYNC,
  ),
  one(
    'control work is asked for no blocks',
    WORK,
    'const request = this.takeFor(REQUEST_ENTRIES, { stripe, block: 0, blocks });',
    'const request = this.takeFor(REQUEST_ENTRIES, { stripe, block: 0, blocks: 0 });',
    RESYNC,
  ),
  one(
    'a record has come back twice',
    WORK,
    '    const result = await this.submit(member, request, holder);\n    this.giveBack(request);\n    return result;\n',
    '    const result = await this.submit(member, request, holder);\n    this.giveBack(request);\n    this.giveBack(request);\n    return result;\n',
    RESYNC,
  ),
  one(
    'copies that were compared have tables of different sizes',
    WORK,
    '    const { from, to } = pair;\n',
    '    const { from } = pair;\n    const to = pair.to.subarray(8);\n',
    RESYNC,
  ),
  one(
    'blocks become poison that have no entries',
    WORK,
    '    const { block, blocks } = range;\n    check((block',
    '    const block = range.block + seen.length;\n    const { blocks } = range;\n    check((block',
    RESYNC,
    ANY,
  ),
  one(
    'a release leaves more than a segment',
    WORK,
    'const left = await this.runUnless(member, request);\n    check',
    'const left = 2 + (await this.runUnless(member, request));\n    check',
    DISCARDS,
    ANY,
  ),
  one(
    'a page has more segments than fit',
    'client/members/segment-map.ts',
    '    this.counts[number] += 1;\n',
    '    this.counts[number] += 1 + SEGMENT_MAP_PAGE;\n',
    ENGINE,
  ),
  one(
    'a segment goes from a page that has none',
    'client/members/segment-map.ts',
    '    this.counts[number] += 1;\n',
    '',
    DISCARDS,
  ),
  one(
    'more segments have gone than there were',
    'client/members/segment-map.ts',
    '    this.size += 1;\n',
    '',
    DISCARDS,
  ),
  one(
    'a place has another device than it was given',
    'client/mirror/copy-jobs.ts',
    'replaceMember(record, group, position, deviceId)',
    "replaceMember(record, group, position, 'f'.repeat(32))",
    RESYNC,
    ANY,
  ),
  one(
    'a member is brought up to date that is not there',
    'client/mirror/copy-jobs.ts',
    '    slot.member = member;\n',
    '',
    RESYNC,
  ),
  one(
    'a member is brought up to date that is not offline',
    'client/mirror/copy-jobs.ts',
    '    slot.member = member;\n',
    "    slot.member = member;\n    slot.state = 'syncing';\n",
    RESYNC,
  ),
  one(
    'a segment is discarded of no group',
    PIECES,
    'this.needs.onDiscarded(piece.group, ',
    'this.needs.onDiscarded(piece.group + 100, ',
    DISCARDS,
  ),
];
