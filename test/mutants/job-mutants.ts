/** Mutants of the records of jobs that a manager keeps. */

import { type Mutant, tests } from './mutant.js';

const JOBS = tests('manager/jobs.test.ts');
const BOOK = 'manager/job-book.ts';

export const JOB_MUTANTS: readonly Mutant[] = [
  {
    name: 'job-end-not-durable',
    breaks: 'A job that has ended is there again after a restart of the manager',
    rule: 'begin and end of a job are durable',
    edits: [
      {
        file: BOOK,
        find: '    this.known.delete(key);\n    this.journal.remove(key);\n    const what',
        replace: '    this.known.delete(key);\n    const what',
      },
    ],
    judges: [JOBS],
  },
  {
    name: 'job-outlives-its-generation',
    breaks: 'A job of a writer that was replaced goes on in the record',
    rule: 'a job is of one generation',
    edits: [{ file: BOOK, find: ' && generation === record.generation && lease', replace: ' && lease' }],
    judges: [JOBS],
  },
  {
    name: 'job-of-strangers',
    breaks: 'Whoever wants to tells how far a job has come',
    rule: 'the holder tells of its jobs',
    edits: [
      {
        file: 'manager/holder-calls.ts',
        find: "if (map?.holder === clientId && volume?.lease !== 'released')",
        replace: "if (map !== undefined && volume?.lease !== 'released')",
      },
    ],
    judges: [JOBS],
  },
  {
    name: 'job-of-another-joining',
    breaks: 'A job is told of a member that has joined anew since',
    rule: 'a job is of one member under its joined',
    edits: [{ file: BOOK, find: 'known.record.joined !== joined || ', replace: '' }],
    judges: [JOBS],
  },
];
